// Package element drives the real Element Call for the end-to-end tests: the unchanged npm package, in headless Chromium, as a widget of a
// small host page that grants it what Element Web grants.
//
//	guest := element.Open(t, account, element.Options{Video: "red.y4m", Audio: "440hz.wav"})
//	guest.JoinRoom(room)             // a Matrix room, by invitation or by the Space that it belongs to
//	guest.Call(room, element.Start)  // presses Element's call button and "join" in the lobby, and returns when the call is entered
//	guest.Tiles()                    // what Element Call shows: names, decoded frames, sizes
//	guest.HangUp()                   // or guest.Kill(), as a power cut does
//
// The host page is in the folder host, and what looks into Element Call in probe.js. Both and the packages of host/package-lock.json are put
// together in the user's cache folder the first time, which takes npm, node and up to a minute. After a change of package.json:
// npm install --package-lock-only --ignore-scripts in a copy of the folder.
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
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/browser"
)

//go:embed probe.js
var probe string

// Account is a person's account.
type Account struct {
	// Homeserver is where clients talk to, without a slash at the end.
	Homeserver string
	User       string
	Password   string
	// Recovery is what an earlier guest with this account returned as its own: the key of the account's identity. Without one a new
	// identity is made.
	Recovery string
}

// Options are a guest's means. All may be left out.
type Options struct {
	// Video is a y4m or mjpeg file that is looped as the camera, Audio a wav file for the microphone.
	Video, Audio string
	// Unsigned leaves the device without its owner's signature.
	Unsigned bool
	// Width and Height are the window's, in pixels; 1280 and 720 when 0.
	Width, Height int
	// Script runs in every frame before its own scripts.
	Script string
}

// Frame is where Element Call's window is found by an expression for [Guest.Ask].
const Frame = "document.querySelector('iframe').contentWindow"

// Intent is which button of Element's was pressed.
type Intent string

// The buttons of a room's header.
const (
	Start Intent = "start_call"
	Join  Intent = "join_existing"
)

// Guest is one person with Element in a browser of their own.
type Guest struct {
	*browser.Page
	// User and Device are who they are on Matrix; Recovery goes into [Account.Recovery] for their next device.
	User, Device, Recovery string

	t testing.TB
}

// stepLimit bounds one thing that is asked of the page.
const stepLimit = 90 * time.Second

// Open starts a browser, logs in as a new device and returns when the device has synced and, unless it is to be unsigned, is cross-signed.
// The browser ends with the test at the latest.
func Open(t testing.TB, account Account, o Options) *Guest {
	t.Helper()
	Need(t)
	folder, err := built()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(pages(folder))
	t.Cleanup(server.Close)
	page := browser.Start(t, server.URL, browser.Options{Video: o.Video, Audio: o.Audio, Script: probe + ";" + o.Script, Width: o.Width, Height: o.Height})
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

// ForTest is the same guest in a part of the test, whose failures are then that part's.
func (g *Guest) ForTest(t testing.TB) *Guest {
	part := *g
	part.t = t
	return &part
}

// pages serves the host page, and Element Call from the same origin, as Element Web does.
func pages(folder string) http.Handler {
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
	return mux
}

// Ask evaluates a JavaScript expression in the host page; see host.js and probe.js for what there is.
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
	deadline := time.After(limit)
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		done, err := ok()
		if done {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			g.t.Fatalf("Element: %s did not happen within %v: %v\n%s", what, limit, err, g.Trace())
		}
	}
}

// Trace is the end of what the page has written to its console but for debugging, and what Element Call shows, for a failure's message.
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

// JoinRoom enters a Matrix room, by an invitation or by the Space that it belongs to; via are servers that are in it.
func (g *Guest) JoinRoom(room string, via ...string) {
	g.t.Helper()
	g.do(nil, "host.joinRoom(%s, %s)", room, append([]string{}, via...))
}

// Load presses Element's call button: Element Call is loaded up to its lobby.
func (g *Guest) Load(room string, intent Intent) {
	g.t.Helper()
	g.do(nil, "host.load(%s, %s)", room, intent)
}

// Enter presses "join" in the lobby and returns when the membership is in the room's state.
func (g *Guest) Enter() {
	g.t.Helper()
	g.do(nil, "host.enter()")
	g.await("the membership", 60*time.Second, func() (bool, error) {
		times, err := g.Times()
		return !times.Joined.IsZero(), err
	})
}

// Watch makes the next frame of anybody else that is decoded the call's first, for somebody who waits for another.
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

// HangUp presses the red button and returns when Element Call is closed and the membership is gone from the room's state.
func (g *Guest) HangUp() {
	g.t.Helper()
	g.do(nil, "host.hangUp()")
}

// SetCamera switches the camera, in the lobby or in the call.
func (g *Guest) SetCamera(on bool) { g.t.Helper(); g.mute("video_enabled", on) }

// ChooseCamera chooses, in Element Call's settings, the camera of [Options] or a second one, which shows green with a white bar that wanders.
// Element Call remembers it for the next call.
func (g *Guest) ChooseCamera(second bool) {
	g.t.Helper()
	g.do(nil, "host.camera(%s)", second)
}

// SetMic switches the microphone, in the lobby or in the call.
func (g *Guest) SetMic(on bool) { g.t.Helper(); g.mute("audio_enabled", on) }

// ShareScreen presses Element Call's button for it, which begins and ends sharing. The screen is red, with a white bar that wanders.
func (g *Guest) ShareScreen() {
	g.t.Helper()
	g.do(nil, "host.button(%s)", "incall_screenshare")
}

// mute asks until Element Call says that it is so: right after the lobby has come it may not be ready.
func (g *Guest) mute(what string, on bool) {
	g.t.Helper()
	g.await(fmt.Sprintf("%s = %v", what, on), 20*time.Second, func() (bool, error) {
		var now map[string]any
		err := g.ask(&now, "host.mute(%s)", map[string]bool{what: on})
		return now[what] == on, err
	})
}

// Tile is one tile of Element Call's.
type Tile struct {
	// Index is its place among all tiles, for [Guest.Picture].
	Index int
	// Name is what the tile says, empty when the tile is too small for it.
	Name string
	// Own is whether it is the guest's own picture.
	Own bool
	// Participant is LiveKit's id of whom the picture comes from, empty without a picture.
	Participant string
	// Video is whether Element Call shows a picture, not an avatar.
	Video bool
	// Text is everything that stands on the tile.
	Text string
	// Where the tile is in the window.
	X, Y, Width, Height float64
	// Decoded counts the frames that were decoded, which with end-to-end encryption means decrypted too. FrameWidth and FrameHeight are
	// the size of the last, Rate is how many there are in a second.
	Decoded, FrameWidth, FrameHeight, Rate float64
	// Shown is whether the picture is being played.
	Shown bool
}

// Tiles is what Element Call shows now.
func (g *Guest) Tiles() (tiles []Tile, err error) {
	err = g.Ask("host.probe().tiles()", &tiles)
	return tiles, err
}

// Remotes are the tiles of the others.
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

// Traffic is what has come from all others: Video counts decoded frames, Audio samples that were not made up for missing ones; the bytes are
// what came, whether it could be read or not.
type Traffic struct{ Video, Audio, VideoBytes, AudioBytes float64 }

// Traffic counts what has come from the others since the call began.
func (g *Guest) Traffic() (traffic Traffic, err error) {
	err = g.Ask("host.probe().traffic()", &traffic)
	return traffic, err
}

// Picture is what a tile shows, 320 pixels wide.
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

// Tone is the strongest one in a participant's sound.
type Tone struct {
	Participant string
	Hz, DB      float64
}

// Listen takes 1.2 s.
func (g *Guest) Listen() (tones []Tone, err error) {
	err = g.Ask("host.probe().listen()", &tones)
	return tones, err
}

// Times are the moments of the present or the last call, zero for what has not happened.
type Times struct {
	// Opened is when Element's call button was pressed, Clicked when "join" was.
	Opened, Clicked time.Time
	// Joined is when the own membership was seen in the room's state, Sent when it reached the homeserver.
	Joined, Sent time.Time
	// Other and OtherSent are the same of the first of somebody else's since the click.
	Other, OtherSent time.Time
	// Key is when the first media key of somebody else's came since the click, Track when the first picture was there to be received.
	Key, Track time.Time
	// FirstFrame is when the first frame of somebody else was decoded, after the click or after [Guest.Watch].
	FirstFrame time.Time
}

// Times returns when what has happened.
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

// Refused are the capabilities that Element Call has asked for in the present or the last call and that were not granted.
func (g *Guest) Refused() (list []string, err error) {
	err = g.Ask("host.call().refused ?? []", &list)
	return list, err
}

// Calling is whether Element Call is on the screen.
func (g *Guest) Calling() (calling bool, err error) {
	err = g.Ask("host.calling()", &calling)
	return calling, err
}

// Faults are what goes wrong on the way between the homeserver and Element Call, which itself stays as it is.
type Faults struct {
	// KeysIn and MembersIn are how late the others' media keys and memberships come to Element Call; KeysOut and MembersOut how late its own
	// leave.
	KeysIn, MembersIn, KeysOut, MembersOut time.Duration
	// LostIn and LostOut are how many keys are lost, beginning with the next one that comes, and the next that is sent.
	LostIn, LostOut int
}

// SetFaults makes these faults, in place of those of before, from now on.
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
	// User and Device are whose membership it is, and with a key those at the other end.
	User, Device string
	Index        uint8
	Key          string
	// Lost is a key that was lost on the way.
	Lost bool
}

// Signals is what has passed since the device was made, in the order in which it did, also for calls that have ended.
func (g *Guest) Signals() (list []Signal, err error) {
	err = g.Ask("host.log()", &list)
	return list, err
}

// Message is an event of a room's timeline as the person reads it.
type Message struct {
	ID, Sender, Type string
	TS               int64
	Content          map[string]any
	// Encrypted is whether it came so, Failed whether it can't be read.
	Encrypted, Failed bool
}

// Messages are the latest events of a room's timeline, without state, decrypted.
func (g *Guest) Messages(room string) (list []Message, err error) {
	err = g.ask(&list, "host.messages(%s)", room)
	return list, err
}

// Send writes a message into a room, encrypted where the room is.
func (g *Guest) Send(room, text string) {
	g.t.Helper()
	g.do(nil, "host.send(%s, %s)", room, text)
}

// Decline refuses a call whose notification rings.
func (g *Guest) Decline(room, notification string) {
	g.t.Helper()
	g.do(nil, "host.decline(%s, %s)", room, notification)
}

// Event is an event of a room's state.
type Event struct {
	ID, Sender, Key string
	TS              int64
	Content         map[string]any
}

// State are all events of a kind in a room's state.
func (g *Guest) State(room, kind string) (list []Event, err error) {
	err = g.ask(&list, "host.state(%s, %s)", room, kind)
	return list, err
}

// callMember is the type of a membership in a call.
const callMember = "org.matrix.msc3401.call.member"

// Members are who is in a room's call by the room's state.
func (g *Guest) Members(room string) (users []string, err error) {
	events, err := g.State(room, callMember)
	for _, e := range events {
		if len(e.Content) > 0 {
			users = append(users, e.Sender)
		}
	}
	return users, err
}
