// Package element drives the real Element Call for the end-to-end tests: the unchanged npm package, in headless Chromium or Firefox. It runs as a widget of
// a small host page, which is a Matrix client and grants it the same capabilities as Element Web does.
//
//	guest := element.Open(t, account, element.Options{Video: "red.y4m", Audio: "440hz.wav"})
//	guest.JoinRoom(room)             // a Matrix room, by invitation or by the Space that it belongs to
//	guest.Call(room, element.Start)  // presses Element's call button and "join" in the lobby, and returns when the call is entered
//	guest.Tiles()                    // what Element Call shows: names, decoded frames, sizes
//	guest.HangUp()                   // or guest.Kill(), which acts like a power cut
//
// The host page is in the folder host. probe.js runs inside Element Call and measures what it receives. The first time, the package builds the
// host page with the npm packages of host/package-lock.json in the user's cache folder. This needs npm and node, and takes up to a minute. After
// a change of package.json, run npm install --package-lock-only --ignore-scripts in a copy of the folder.
package element

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/browser"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

//go:embed probe.js
var probe string

// Account is a person's Matrix account.
type Account struct {
	// Homeserver is the homeserver's URL for clients, without a slash at the end.
	Homeserver string
	User       string
	Password   string
	// Recovery is the recovery key of the account's cross-signing identity, from [Guest.Recovery] of an earlier device. If it is empty, the
	// account gets a new identity.
	Recovery string
}

// Options configure a guest. All fields are optional.
type Options struct {
	// Video is a y4m or mjpeg file that the browser plays in a loop as its camera. Audio is a wav file for its microphone.
	Video, Audio string
	// Unsigned leaves the device unverified: it is not cross-signed.
	Unsigned bool
	// Width and Height are the size of the browser's window in pixels. 0 means 1280 and 720.
	Width, Height int
	// Script runs in every frame before the frame's own scripts.
	Script string
	// Codec is media_quality.video_codec in Element Call's configuration, such as "vp9". Empty means Element Call's own choice, VP8.
	Codec string
	// Host is the machine on which the browser runs, if it is not this one. It believes every certificate.
	Host Host
	// Firefox runs Element Call in Firefox, whose own fake microphone gives a tone of Tone Hz. Video and Audio are not used.
	Firefox bool
	Tone    int
}

// Host is another machine, such as a network namespace.
type Host interface {
	browser.Host
	// Listen listens on an address of the host.
	Listen(network, address string) (net.Listener, error)
}

// Frame is a JavaScript expression for Element Call's window object, for [Guest.Ask].
const Frame = "document.querySelector('iframe').contentWindow"

// Intent says which of Element's call buttons was pressed.
type Intent string

// The buttons of a room's header.
const (
	Start Intent = "start_call"
	Join  Intent = "join_existing"
	// StartVoice is the button for a call without pictures.
	StartVoice Intent = "start_call_voice"
)

// Guest is one person who uses Element in a browser.
type Guest struct {
	*browser.Page
	// User and Device are their Matrix user ID and device ID. Recovery is for [Account.Recovery] of their next device.
	User, Device, Recovery string

	t testing.TB
}

// stepLimit is the time limit of one expression in the page.
const stepLimit = 90 * time.Second

// Open starts a browser and logs in as a new device. It returns when the device has synced and, unless Unsigned is set, is cross-signed. The
// browser ends when the test ends, or earlier.
func Open(t testing.TB, account Account, o Options) *Guest {
	t.Helper()
	Need(t)
	folder, err := built()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(pages(folder, o.Codec))
	options := browser.Options{Video: o.Video, Audio: o.Audio, Script: probe + ";" + o.Script, Width: o.Width, Height: o.Height, Firefox: o.Firefox, Tone: o.Tone}
	if o.Host != nil {
		_ = server.Listener.Close()
		if server.Listener, err = o.Host.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		options.Host, options.Flags = o.Host, []string{"--ignore-certificate-errors"}
	}
	server.Start()
	t.Cleanup(server.Close)
	page := browser.Start(t, server.URL, options)
	g := &Guest{Page: page, t: t}
	g.await("the host page", 30*time.Second, func() (bool, error) {
		var loaded bool
		err := g.Ask("!!window.host", &loaded)
		return loaded, err
	})
	g.do(g, "host.login(%s)", map[string]any{
		"homeserver": account.Homeserver, "user": account.User, "password": account.Password, "recovery": account.Recovery,
		"unsigned": o.Unsigned,
	})
	return g
}

// ForTest returns a copy of the guest that reports failures to t, such as a subtest.
func (g *Guest) ForTest(t testing.TB) *Guest {
	part := *g
	part.t = t
	return &part
}

// pages serves the host page and Element Call from the same origin, as Element Web does. A codec is set in Element Call's configuration.
func pages(folder, codec string) http.Handler {
	modules := filepath.Join(folder, "node_modules")
	mux := http.NewServeMux()
	file := func(name string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, filepath.Join(folder, name)) }
	}
	mux.HandleFunc("GET /{$}", file("index.html"))
	mux.HandleFunc("GET /bundle.js", file("bundle.js"))
	for prefix, path := range map[string]string{
		"/pkg/": "@matrix-org/matrix-sdk-crypto-wasm/pkg", "/call/": "@element-hq/element-call-embedded/dist",
	} {
		mux.Handle("GET "+prefix, http.StripPrefix(prefix, http.FileServer(http.Dir(filepath.Join(modules, filepath.FromSlash(path))))))
	}
	if codec != "" {
		mux.HandleFunc("GET /call/config.json", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]any{"media_quality": map[string]string{"video_codec": codec}})
		})
	}
	return mux
}

// Ask evaluates a JavaScript expression in the host page. host.js and probe.js define what the page offers.
func (g *Guest) Ask(expression string, into any) error {
	ctx, cancel := context.WithTimeout(g.t.Context(), stepLimit)
	defer cancel()
	return g.Eval(ctx, expression, into)
}

// do calls a function of the host page with arguments, and fails the test when that fails.
func (g *Guest) do(into any, format string, args ...any) {
	g.t.Helper()
	if err := g.ask(into, format, args...); err != nil {
		g.t.Fatalf("Element: %s: %v\n%s", strings.SplitN(format, "(", 2)[0], err, g.Trace())
	}
}

func (g *Guest) ask(into any, format string, args ...any) error {
	quoted := make([]any, len(args))
	for i, arg := range args {
		data, err := json.Marshal(arg)
		if err != nil {
			return err
		}
		quoted[i] = string(data)
	}
	expression := fmt.Sprintf(format, quoted...)
	if into == nil {
		expression = "Promise.resolve(" + expression + ").then(() => true)"
	}
	return g.Ask(expression, into)
}

func (g *Guest) await(what string, limit time.Duration, ok func() (bool, error)) {
	g.t.Helper()
	defer func() {
		if g.t.Failed() {
			g.t.Log(g.Trace())
		}
	}()
	rig.Eventually(g.t, limit, func() error {
		done, err := ok()
		return rig.Check(done, "Element: "+what, err)
	})
}

// Trace returns the last lines of the page's console, without debug messages, and the text that Element Call shows. It is for failure messages.
func (g *Guest) Trace() string {
	var lines []string
	for _, raw := range g.Console() {
		var entry struct {
			Type string
			Args []struct{ Value any }
		}
		if json.Unmarshal([]byte(raw), &entry) != nil || entry.Type == "debug" {
			continue
		}
		line := entry.Type
		for _, arg := range entry.Args {
			line += fmt.Sprint(" ", arg.Value)
		}
		lines = append(lines, line[:min(len(line), 250)])
	}
	lines = lines[max(0, len(lines)-15):]
	var text string
	if err := g.Ask("host.text()", &text); err != nil {
		text = err.Error()
	}
	return strings.Join(lines, "\n") + "\nElement Call shows: " + text
}

// JoinRoom joins a Matrix room, by an invitation or as a member of the Space that the room belongs to. via lists servers that are in the room.
func (g *Guest) JoinRoom(room string, via ...string) {
	g.t.Helper()
	g.do(nil, "host.joinRoom(%s, %s)", room, append([]string{}, via...))
}

// Load presses Element's call button. It returns when Element Call shows its lobby.
func (g *Guest) Load(room string, intent Intent) {
	g.t.Helper()
	g.do(nil, "host.load(%s, %s)", room, intent)
}

// Enter presses "join" in the lobby. It returns when the membership is in the room's state.
func (g *Guest) Enter() {
	g.t.Helper()
	g.do(nil, "host.enter()")
	g.await("the membership", 60*time.Second, func() (bool, error) {
		times, err := g.Times()
		return !times.Joined.IsZero(), err
	})
}

// Watch resets [Times.FirstFrame]: the next decoded frame of somebody else then counts as the first. It is for a guest who waits for another.
func (g *Guest) Watch() {
	g.t.Helper()
	g.do(nil, "host.watch()")
}

// Call is Load and Enter.
func (g *Guest) Call(room string, intent Intent) {
	g.t.Helper()
	g.Load(room, intent)
	g.Enter()
}

// HangUp presses the red button. It returns when Element Call is closed and the membership is no longer in the room's state.
func (g *Guest) HangUp() {
	g.t.Helper()
	g.do(nil, "host.hangUp()")
}

// SetCamera switches the camera on or off, in the lobby or in the call.
func (g *Guest) SetCamera(on bool) { g.t.Helper(); g.mute("video_enabled", on) }

// ChooseCamera chooses a camera in Element Call's settings: the camera of [Options] or a second one. The second one shows green with a moving white
// bar. Element Call remembers the choice for the next call.
func (g *Guest) ChooseCamera(second bool) {
	g.t.Helper()
	g.do(nil, "host.camera(%s)", second)
}

// SetMic switches the microphone on or off, in the lobby or in the call.
func (g *Guest) SetMic(on bool) { g.t.Helper(); g.mute("audio_enabled", on) }

// ShareScreen presses Element Call's button that begins or ends screen sharing. The shared screen is red with a moving white bar.
func (g *Guest) ShareScreen() {
	g.t.Helper()
	g.do(nil, "host.button(%s)", "incall_screenshare")
}

// mute repeats its request until Element Call confirms it. Right after the lobby appears, Element Call may not be ready.
func (g *Guest) mute(what string, on bool) {
	g.t.Helper()
	g.await(fmt.Sprintf("%s = %v", what, on), 20*time.Second, func() (bool, error) {
		var now map[string]any
		err := g.ask(&now, "host.mute(%s)", map[string]bool{what: on})
		return now[what] == on, err
	})
}

// Tile is one of Element Call's tiles.
type Tile struct {
	// Index is the tile's number, for [Guest.Picture].
	Index int
	// Name is the name on the tile. It is empty if the tile is too small for it.
	Name string
	// Own says that this is the guest's own picture.
	Own bool
	// Participant is the LiveKit ID of the participant who sends the picture. It is empty if there is no picture.
	Participant string
	// Video says that Element Call shows a picture and not an avatar.
	Video bool
	// Text is all text on the tile.
	Text string
	// X, Y, Width and Height are the tile's position and size in pixels.
	X, Y, Width, Height float64
	// Decoded counts the decoded frames. With end-to-end encryption this means that they were decrypted, too. FrameWidth and FrameHeight are the
	// size of the last frame, Rate is the number of frames in a second.
	Decoded, FrameWidth, FrameHeight, Rate float64
	// Shown says that the picture is playing.
	Shown bool
}

// Tiles returns the tiles that Element Call shows now.
func (g *Guest) Tiles() (tiles []Tile, err error) {
	err = g.Ask("host.probe().tiles()", &tiles)
	return tiles, err
}

// Remotes returns the tiles of the other participants.
func (g *Guest) Remotes() ([]Tile, error) {
	tiles, err := g.Tiles()
	var others []Tile
	for _, tile := range tiles {
		if !tile.Own {
			others = append(others, tile)
		}
	}
	return others, err
}

// Traffic is the media that arrived from all others. Video counts decoded frames. Audio counts samples that the browser did not have to conceal.
// VideoBytes and AudioBytes count all bytes that arrived, decrypted or not.
type Traffic struct{ Video, Audio, VideoBytes, AudioBytes float64 }

// Traffic returns the media that arrived from the others since the call began.
func (g *Guest) Traffic() (traffic Traffic, err error) {
	err = g.Ask("host.probe().traffic()", &traffic)
	return traffic, err
}

// Picture returns what a tile shows, scaled to a width of 320 pixels.
func (g *Guest) Picture(tile Tile) (image.Image, error) {
	var url string
	if err := g.ask(&url, "host.probe().picture(%s)", tile.Index); err != nil {
		return nil, err
	}
	_, data, ok := strings.Cut(url, ",")
	if !ok {
		return nil, fmt.Errorf("there is no picture of %q", tile.Name)
	}
	raw, err := base64.StdEncoding.DecodeString(data)
	if err != nil {
		return nil, err
	}
	return png.Decode(bytes.NewReader(raw))
}

// Tone is the strongest tone in a participant's sound.
type Tone struct {
	Participant string
	Hz, DB      float64
}

// Listen analyses the sound of each participant for 1.2 s.
func (g *Guest) Listen() (tones []Tone, err error) {
	err = g.Ask("host.probe().listen()", &tones)
	return tones, err
}

// Times are the times of the events in the current call, or in the last one. A zero time means that the event has not happened.
type Times struct {
	// Opened is when Element's call button was pressed. Clicked is when "join" was pressed.
	Opened, Clicked time.Time
	// Joined is when the own membership appeared in the room's state. Sent is when it reached the homeserver.
	Joined, Sent time.Time
	// Other and OtherSent are the same times for the first membership of somebody else after Clicked.
	Other, OtherSent time.Time
	// Key is when the first media key of somebody else came after Clicked. Track is when the first video track could be received.
	Key, Track time.Time
	// FirstFrame is when the first frame of somebody else was decoded, after Clicked or after [Guest.Watch].
	FirstFrame time.Time
}

// Times returns the times of the current or the last call.
func (g *Guest) Times() (Times, error) {
	var call struct {
		Times struct{ Opened, Clicked, Joined, JoinedSent, Other, OtherSent, Key, Track, FirstFrame int64 }
	}
	if err := g.Ask("host.call()", &call); err != nil {
		return Times{}, err
	}
	at := func(ms int64) time.Time {
		if ms == 0 {
			return time.Time{}
		}
		return time.UnixMilli(ms)
	}
	c := call.Times
	return Times{
		Opened: at(c.Opened), Clicked: at(c.Clicked), Joined: at(c.Joined), Sent: at(c.JoinedSent), Other: at(c.Other),
		OtherSent: at(c.OtherSent), Key: at(c.Key), Track: at(c.Track), FirstFrame: at(c.FirstFrame),
	}, nil
}

// Refused returns the widget capabilities that Element Call requested in the current or the last call, and that the host page did not grant.
func (g *Guest) Refused() (list []string, err error) {
	err = g.Ask("host.call().refused ?? []", &list)
	return list, err
}

// Calling says whether Element Call is on the screen.
func (g *Guest) Calling() (calling bool, err error) {
	err = g.Ask("host.calling()", &calling)
	return calling, err
}

// Faults are errors that the host page makes between the homeserver and Element Call. Element Call itself is not changed.
type Faults struct {
	// KeysIn and MembersIn delay the others' media keys and memberships. KeysOut and MembersOut delay Element Call's own.
	KeysIn, MembersIn, KeysOut, MembersOut time.Duration
	// LostIn is how many of the next keys from others are lost. LostOut is how many of the next own keys are lost.
	LostIn, LostOut int
}

// SetFaults sets the faults from now on. They replace those that were set before.
func (g *Guest) SetFaults(f Faults) {
	g.t.Helper()
	g.do(nil, "host.disturb(%s)", map[string]int64{
		"keysIn": f.KeysIn.Milliseconds(), "membersIn": f.MembersIn.Milliseconds(), "keysOut": f.KeysOut.Milliseconds(),
		"membersOut": f.MembersOut.Milliseconds(), "lostIn": int64(f.LostIn), "lostOut": int64(f.LostOut),
	})
}

// Signal is a media key or a membership that passed between the homeserver and Element Call.
type Signal struct {
	// Kind is "key in", "key out", "member in" or "member out".
	Kind string
	At   int64 // ms
	// User and Device are the member, or the sender or recipient of the key.
	User, Device string
	Index        uint8
	Key          string
	// Lost says that the key was lost, see [Faults].
	Lost bool
}

// Signals returns all signals since the login, in their order, those of earlier calls included.
func (g *Guest) Signals() (list []Signal, err error) {
	err = g.Ask("host.log()", &list)
	return list, err
}
