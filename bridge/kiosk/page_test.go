//go:build full

package kiosk_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.mau.fi/util/jsontime"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bridge/kiosk"
	"multifactorymodel.org/ewindow/callmedia/frames"
	"multifactorymodel.org/ewindow/callmedia/page"
	"multifactorymodel.org/ewindow/callmedia/track"
	"multifactorymodel.org/ewindow/cmd/e2e/browser"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
	"multifactorymodel.org/ewindow/cmd/e2e/synthetic"
)

// pageRig is a window with a real page's media. It does what the bridge does, but without rules: each press is granted.
type pageRig struct {
	*served
	media     *page.Page
	synthetic *synthetic.Page
	video     atomic.Uint64 // frames from the page
	small     atomic.Uint64
	width     atomic.Int64 // of the last small key frame, in pixels
	audio     atomic.Uint64
	copies    atomic.Uint64 // frames of sound with redundancy
	up        atomic.Bool
	open      kiosk.State // what is shown once the window is open
}

// HandleFrame implements [track.Uplink], as the following methods do.
func (r *pageRig) HandleFrame(kind track.Kind, _ track.Source, f frames.Frame) {
	switch kind {
	case track.Video:
		r.video.Add(1)
	case track.SmallVideo:
		if f.Key && len(f.Data) >= 8 { // RFC 6386, 9.1
			r.width.Store(int64(binary.LittleEndian.Uint16(f.Data[6:]) & 0x3fff))
		}
		r.small.Add(1)
	default:
		r.audio.Add(1)
		if redundant(f.Data) {
			r.copies.Add(1)
		}
	}
}

func (r *pageRig) HandleClock(track.Kind, track.Source, time.Time, uint32) {}

func (r *pageRig) HandleKeyFrameRequest(int) { r.synthetic.RequestKeyFrame(track.Video) }

// feeder shows a synthetic participant in one tile.
type feeder struct {
	page *page.Page
	tile int
}

func (f feeder) HandleFrame(kind track.Kind, source track.Source, frame frames.Frame) {
	f.page.WriteFrame(f.tile, kind, kind.Codec(), source, frame.Timestamp, frame.Data)
}

func (f feeder) HandleClock(kind track.Kind, source track.Source, ntp time.Time, timestamp uint32) {
	f.page.SetClock(f.tile, kind, source, ntp, timestamp)
}

func (f feeder) HandleKeyFrameRequest(int) {}

func newPageRig(t testing.TB) *pageRig {
	t.Helper()
	r := &pageRig{}
	// These fields are set before the first page comes.
	r.served = newServed(t, func(_ *served, m kiosk.Message) {
		switch m := m.(type) {
		case kiosk.PageUp:
			go func() {
				sdp, err := r.media.Connect(context.Background())
				if err != nil {
					t.Errorf("offer: %v", err)
				}
				r.SendOffer(m.ID, sdp)
			}()
		case kiosk.Answer:
			if err := r.media.Answer(m.SDP); err != nil {
				t.Errorf("answer: %v", err)
			}
		case kiosk.Shutter:
			switch m.To {
			case "open":
				r.SetState(r.open)
			case "ajar":
				r.SetState(ajarState())
			default:
				r.SetState(shutState())
			}
		}
	})
	var err error
	if r.synthetic, err = synthetic.New(); err != nil {
		t.Fatal(err)
	}
	r.media, err = page.New(page.Config{Log: zerolog.Nop(), OnEvent: func(e page.Event) {
		switch e.Kind {
		case page.Connected:
			r.up.Store(true)
		case page.Disconnected:
			r.up.Store(false)
		case page.Bitrate:
			r.SendBitrate(e.BPS, e.Small)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	r.media.SetUplink(r)
	t.Cleanup(func() { _ = r.media.Close() })
	r.SetState(shutState())
	r.open = visitState()
	return r
}

// feed sends the synthetic picture and sound into a tile until the test ends.
func (r *pageRig) feed(t testing.TB, tile int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	r.synthetic.SetUplink(feeder{r.media, tile})
	go func() {
		r.synthetic.Run(ctx)
		close(done)
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return stop
}

func others() []directory.Window {
	noon := jsontime.UM(time.Date(2026, 11, 25, 11, 3, 0, 0, time.UTC))
	return []directory.Window{
		{Room: "!a:x", Name: "Rosenwerk", City: "Dresden", Shutter: "open", Since: noon, Joined: true},
		{Room: "!b:x", Name: "Officine Creative", City: "Bologna", Shutter: "ajar", Since: noon, Joined: true},
		{Room: "!c:x", Name: "Fablab Muenchen", City: "München", Shutter: "shut", Since: noon, Joined: true},
		{Room: "!d:x", Name: "Werkraum Warmbronn", Shutter: "open", Since: noon, Gone: noon, Joined: true},
	}
}

func shutState() kiosk.State {
	return kiosk.State{
		Screen: "shut", Shutter: "shut", Name: "Makerspace Leipzig", Windows: others(), Languages: []string{"de", "en", "it"}, Timezone: "Europe/Berlin",
	}
}

func aloneState() kiosk.State {
	s := shutState()
	s.Screen, s.Shutter, s.Camera = "alone", "open", true
	return s
}

func ajarState() kiosk.State {
	s := aloneState()
	s.Screen, s.Shutter = "ajar", "ajar"
	return s
}

func knockedState() kiosk.State {
	s := ajarState()
	s.Screen, s.Camera = "knocked", false
	s.Knock = &kiosk.Knock{ID: 1, Name: "Rosenwerk"}
	s.CountUntil = time.Now().Add(time.Minute)
	return s
}

func visitState() kiosk.State {
	s := aloneState()
	s.Screen, s.Send, s.Seen, s.Peer = "visit", true, true, &kiosk.Person{Name: "Rosenwerk", Tile: 0}
	s.Since = jsontime.UnixMilliNow()
	return s
}

// snapshot is what window.ewindow tells.
type snapshot struct {
	Screen, Shutter  string
	Connected, Media bool
	Own              struct {
		Video, Audio   string
		StandIn        struct{ Video, Audio bool }
		Hue, Frequency int
		Bitrate, Small int
	}
	Tiles []tile
}

type tile struct {
	Tile, Width, Height int
	Frames              uint64
	Playing, Audible    bool
}

// main is the tile of the main picture, empty while the page has none.
func (s snapshot) main() tile {
	if len(s.Tiles) == 0 {
		return tile{}
	}
	return s.Tiles[0]
}

// screen is a browser with the page.
type screen struct {
	*browser.Page
	t testing.TB
}

func openPage(t testing.TB, r *pageRig, o browser.Options) *screen {
	t.Helper()
	s := &screen{browser.Start(t, r.address(t), o), t}
	t.Cleanup(func() {
		for _, line := range s.Console() {
			if t.Failed() || strings.Contains(line, "exceptionDetails") || strings.Contains(line, "Security Policy") {
				t.Errorf("console: %.600s", line)
			}
		}
	})
	rig.Eventually(t, 30*time.Second, func() error {
		_, up := last[kiosk.PageUp](r.served)
		return rig.Check(up, "the page's connection", s.Console())
	})
	rig.Eventually(t, 30*time.Second, func() error {
		var has bool
		err := s.eval("ewindow.snapshot().state !== null", &has)
		return rig.Check(has, "the page's first state", err)
	})
	rig.Eventually(t, 30*time.Second, func() error {
		var painted bool
		err := s.eval(`performance.getEntriesByType("paint").length > 0`, &painted)
		return rig.Check(painted, "the page's first paint", err) // Chromium drops keys that come before it
	})
	return s
}

func (s *screen) eval(expression string, into any) error {
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	return s.Eval(ctx, expression, into)
}

func (s *screen) snapshot() (snap snapshot, err error) {
	err = s.eval("ewindow.snapshot()", &snap)
	return snap, err
}

// until waits for a snapshot for which ok returns true.
func (s *screen) until(what string, ok func(snapshot) bool) snapshot {
	s.t.Helper()
	var snap snapshot
	rig.Eventually(s.t, 30*time.Second, func() error {
		var err error
		snap, err = s.snapshot()
		return rig.Check(err == nil && ok(snap), what, fmt.Sprintf("%+v, %v", snap, err))
	})
	return snap
}

func (s *screen) key(key, code string, virtual int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	if err := s.Press(ctx, key, code, virtual); err != nil {
		s.t.Fatal(err)
	}
}

// click presses where a finger would, in the middle of the screen.
func (s *screen) click() {
	s.t.Helper()
	if err := s.eval("document.elementFromPoint(innerWidth / 2, innerHeight / 2).click()", nil); err != nil {
		s.t.Fatal(err)
	}
}

// TestConnectsAgain makes the connection to the page again and again, each time while the limits of the encoders are being changed. If a change
// on the old connection never ends, it must not block changes on the new connection.
func TestConnectsAgain(t *testing.T) {
	browser.Need(t)
	r := newPageRig(t)
	page := openPage(t, r, browser.Options{})
	page.click()
	page.until("the running camera", func(s snapshot) bool { return s.Own.Video == "live" && s.Media })
	for i := range 20 {
		for n := range 5 {
			r.SendBitrate(200_000+1000*i+n, 150_000)
		}
		sdp, err := r.media.Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		before := r.video.Load()
		r.SendOffer(1, sdp)
		rig.Eventually(t, 20*time.Second, func() error {
			s, err := page.snapshot()
			return rig.Check(r.video.Load() > before, fmt.Sprintf("pictures on connection %d", i), fmt.Sprintf("%+v %v", s, err))
		})
	}
}

// TestCamera opens the window with a press and shuts it again: the camera's frames come, and end.
func TestCamera(t *testing.T) {
	browser.Need(t)
	r := newPageRig(t)
	page := openPage(t, r, browser.Options{})
	page.until("the shut screen", func(s snapshot) bool { return s.Screen == "shut" && s.Own.Video == "none" })
	page.click()
	page.until("the running camera", func(s snapshot) bool {
		return s.Screen == "visit" && s.Own.Video == "live" && s.Own.Audio == "live" && !s.Own.StandIn.Video && !s.Own.StandIn.Audio && s.Media
	})
	rig.Eventually(t, 20*time.Second, func() error {
		v, a := r.video.Load(), r.audio.Load()
		return rig.Check(v > 30 && a > 50, "picture and sound from the page", []uint64{v, a})
	})
	if m, ok := last[kiosk.Camera](r.served); !ok || m.State != "on" {
		t.Errorf("the camera is told as %+v", m)
	}
	// The limit reaches the encoder.
	r.SendBitrate(123_456, 0)
	r.SendBitrate(234_567, 0)
	page.until("the limit", func(s snapshot) bool { return s.Own.Bitrate == 234_567 && s.Own.Small == 0 })
	if n := r.small.Load(); n > 0 {
		t.Errorf("%d small pictures came that nobody wanted", n)
	}
	r.SendBitrate(0, 150_000)
	page.until("only the small picture being wanted", func(s snapshot) bool { return s.Own.Bitrate == 0 && s.Own.Small == 150_000 })
	rig.Eventually(t, 20*time.Second, func() error {
		n, width := r.small.Load(), r.width.Load()
		return rig.Check(n > 30 && width > 0 && width <= 320, "small pictures, of a quarter of the width", []any{n, width})
	})
	large := r.video.Load()
	rig.Eventually(t, 20*time.Second, func() error {
		before, n := large, r.small.Load()
		<-time.After(500 * time.Millisecond)
		large = r.video.Load()
		return rig.Check(large == before && r.small.Load() > n, "small pictures alone", []uint64{before, large})
	})
	r.SendBitrate(234_567, 150_000)
	rig.Eventually(t, 20*time.Second, func() error { return rig.Check(r.video.Load() > large+10, "both pictures", r.video.Load()) })

	// Escape does the same as the button: the tracks are stopped before the kiosk is told. The page itself notes the order.
	if err := page.eval(`{
		const stop = MediaStreamTrack.prototype.stop;
		MediaStreamTrack.prototype.stop = function () { order.push("stop"); return stop.call(this); };
		const send = WebSocket.prototype.send;
		WebSocket.prototype.send = function (m) { if (String(m).includes('"shutter"')) order.push("tell"); return send.call(this, m); };
		window.order = [];
	}`, nil); err != nil {
		t.Fatal(err)
	}
	page.key("Escape", "Escape", 27)
	page.until("the stopped camera", func(s snapshot) bool { return s.Own.Video == "none" && s.Own.Audio == "none" && s.Screen == "shut" })
	var order []string
	if err := page.eval("order", &order); err != nil || !slices.Equal(order, []string{"stop", "stop", "tell"}) {
		t.Errorf("shutting did %q, %v", order, err)
	}
	if m, ok := last[kiosk.Shutter](r.served); !ok || m.To != "shut" {
		t.Errorf("the last press is told as %+v", m)
	}
	stands := steady(t, "the end of the picture", func() uint64 { return r.video.Load() })
	if m, _ := last[kiosk.Camera](r.served); m.State != "off" {
		t.Errorf("the camera is told as %+v", m)
	}
	// And again, on the same connection, by the other keys.
	page.key(" ", "Space", 32)
	rig.Eventually(t, 20*time.Second, func() error {
		v := r.video.Load()
		return rig.Check(v > stands+10, "the picture after the second press", v-stands)
	})
	// A press shortly after one that opens counts as a bouncing contact. This one comes later.
	page.until("the second visit", func(s snapshot) bool { return s.Screen == "visit" })
	page.key("Enter", "Enter", 13)
	page.until("the second end", func(s snapshot) bool { return s.Own.Video == "none" && s.Screen == "shut" })
}

// steady waits until a count has not changed for a second, and returns it. It fails if the count goes on.
func steady(t testing.TB, what string, count func() uint64) uint64 {
	t.Helper()
	value, since := count(), time.Now()
	rig.Eventually(t, 20*time.Second, func() error {
		if now := count(); now != value {
			value, since = now, time.Now()
		}
		return rig.Check(time.Since(since) > time.Second, what, value)
	})
	return value
}

// TestShutAlone shuts the window while the program behind the page is gone, and lets the program come back.
func TestShutAlone(t *testing.T) {
	browser.Need(t)
	r := newPageRig(t)
	page := openPage(t, r, browser.Options{})
	page.until("the shut screen", func(s snapshot) bool { return s.Connected })
	page.click()
	page.until("the running camera", func(s snapshot) bool { return s.Own.Video == "live" })
	addr := r.Addr().String()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	page.key("Escape", "Escape", 27)
	snap, err := page.snapshot()
	if err != nil || snap.Own.Video != "none" || snap.Own.Audio != "none" || snap.Screen != "shut" {
		t.Fatalf("right after the press: %+v, %v", snap, err)
	}
	// Once the browser knows that the program is gone, a press does not open the window.
	page.until("the lost connection", func(s snapshot) bool { return !s.Connected })
	page.click()
	if snap, err := page.snapshot(); err != nil || snap.Shutter != "shut" || snap.Own.Video != "none" {
		t.Fatalf("an opened window without a program: %+v, %v", snap, err)
	}
	messages := make(chan kiosk.Message, 64)
	s, err := kiosk.New(kiosk.Config{Listen: addr, DataDir: r.folder, Log: zerolog.Nop(), HandleMessage: func(m kiosk.Message) { messages <- m }})
	if err != nil {
		t.Fatal(err)
	}
	s.SetState(aloneState()) // the program believes that the window is open
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	limit := time.After(20 * time.Second)
	for up, shut := false, false; !up || !shut; {
		select {
		case m := <-messages:
			switch m := m.(type) {
			case kiosk.PageUp:
				up = true
				if m.Shutter != "shut" {
					t.Errorf("the page remembers %q", m.Shutter)
				}
			case kiosk.Shutter:
				shut = m.To == "shut"
			}
		case <-limit:
			t.Fatalf("the page came back: %v, and told the press: %v", up, shut)
		}
	}
	if snap, err := page.snapshot(); err != nil || snap.Own.Video != "none" || snap.Screen != "shut" {
		t.Errorf("with the program back: %+v, %v", snap, err)
	}
}

// TestEarlyPress presses before a new page has received the program's first message. The press has its effect when that message comes.
func TestEarlyPress(t *testing.T) {
	browser.Need(t)
	r := newPageRig(t)
	page := &screen{browser.Start(t, r.address(t), browser.Options{Script: `{
		const heard = new Promise((done) => { window.hear = done; });
		window.WebSocket = class extends WebSocket {
			set onmessage(f) { super.onmessage = (e) => heard.then(() => f(e)); }
		};
	}`}), t}
	page.until("the page without a state", func(s snapshot) bool { return s.Screen == "shut" && s.Connected })
	page.key(" ", "Space", 32)
	if snap, err := page.snapshot(); err != nil || snap.Shutter != "shut" || snap.Own.Video != "none" {
		t.Fatalf("opened without a program: %+v, %v", snap, err)
	}
	if _, ok := last[kiosk.Shutter](r.served); ok {
		t.Fatal("the program was told before it had said anything")
	}
	if err := page.eval("hear()", nil); err != nil {
		t.Fatal(err)
	}
	page.until("the running camera", func(s snapshot) bool { return s.Own.Video == "live" })
	if m, ok := last[kiosk.Shutter](r.served); !ok || m.To != "open" {
		t.Errorf("the press is told as %+v", m)
	}
}

// TestReload reloads a page while the window is open: the page says that it was open, and goes on.
func TestReload(t *testing.T) {
	browser.Need(t)
	r := newPageRig(t)
	page := openPage(t, r, browser.Options{})
	page.until("the shut screen", func(s snapshot) bool { return s.Connected })
	page.click()
	page.until("the running camera", func(s snapshot) bool { return s.Own.Video == "live" })
	if err := page.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	rig.Eventually(t, 20*time.Second, func() error {
		m, _ := last[kiosk.PageUp](r.served)
		return rig.Check(m.ID == 2 && m.Shutter == "open", "the page after its reload", m)
	})
	before := r.video.Load()
	rig.Eventually(t, 20*time.Second, func() error {
		v := r.video.Load()
		return rig.Check(v > before+10, "the picture after the reload", v-before)
	})
	// Another browser takes over: the first one stops its camera and does not reconnect.
	second := openPage(t, r, browser.Options{})
	second.until("the second browser", func(s snapshot) bool { return s.Own.Video == "live" })
	page.until("the first browser's end", func(s snapshot) bool { return s.Own.Video == "none" && s.Screen == "fault" && !s.Connected })
	page.click()
	page.until("the first browser after a press", func(s snapshot) bool { return s.Own.Video == "live" && s.Connected })
	second.until("the second browser's end", func(s snapshot) bool { return s.Own.Video == "none" && !s.Connected })
}

// TestTiles shows a moving picture with sound, and notices when the picture is still.
func TestTiles(t *testing.T) {
	browser.Need(t)
	r := newPageRig(t)
	page := openPage(t, r, browser.Options{})
	page.click()
	stop := r.feed(t, 0)
	page.until("the moving picture", func(s snapshot) bool {
		return s.Screen == "visit" && len(s.Tiles) == 4 && s.Tiles[0].Frames > 30 && s.Tiles[0].Playing && s.Tiles[0].Audible &&
			s.Tiles[0].Width == 1280 && s.Tiles[0].Height == 720 && s.Tiles[1].Frames == 0 && !s.Tiles[1].Playing
	})
	rig.Eventually(t, 10*time.Second, func() error {
		m, ok := last[kiosk.Picture](r.served)
		return rig.Check(ok && m.Tile == 0 && m.Playing && m.Frames > 0, "the report of the picture", m)
	})
	rig.Eventually(t, 20*time.Second, func() error {
		var tone struct {
			Frequency int
			Level     float64
		}
		err := page.eval("ewindow.tone(0)", &tone)
		return rig.Check(err == nil && tone.Frequency > 100 && tone.Level > -60, "the sound", fmt.Sprint(tone, err))
	})
	// The recording's first stripe is red, its last one is blue and green.
	for x, want := range map[string][]bool{"0": {true, false, false}, "0.95": {false, true, true}} {
		var colour []int
		err := page.eval("ewindow.colour(0, "+x+", 0.85)", &colour)
		for i := range want {
			if err != nil || len(colour) != 3 || (colour[i] > 170) != want[i] || (colour[i] < 85) == want[i] {
				t.Errorf("the colour at %s is %v, %v", x, colour, err)
				break
			}
		}
	}
	stop()
	rig.Eventually(t, 10*time.Second, func() error {
		m, ok := last[kiosk.Picture](r.served)
		return rig.Check(ok && m.Tile == 0 && !m.Playing && m.Frames > 30, "the report that it stands still", m)
	})
	// There is never sound without a picture.
	r.SetState(aloneState())
	page.until("silence", func(s snapshot) bool { return s.Screen == "alone" && !s.main().Audible })
}

// TestNoCamera uses a machine without a camera: there is a fault, or a test card where one is wanted.
func TestNoCamera(t *testing.T) {
	program := browser.Need(t)
	program, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	script := fmt.Sprintf(`#!/bin/sh
for flag in "$@"; do
	shift
	case "$flag" in --use-fake-device-for-media-stream) flag="$flag=device-count=0";; esac
	set -- "$@" "$flag"
done
exec %q "$@"
`, program)
	if err := os.WriteFile(filepath.Join(folder, filepath.Base(program)), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", folder+string(os.PathListSeparator)+os.Getenv("PATH"))
	r := newPageRig(t)
	page := openPage(t, r, browser.Options{})
	page.click()
	rig.Eventually(t, 20*time.Second, func() error {
		m, ok := last[kiosk.Camera](r.served)
		return rig.Check(ok && m.State == "fault" && m.Code == "none", "the fault", m)
	})
	if snap, err := page.snapshot(); err != nil || snap.Own.Video != "none" || snap.Own.Audio != "none" {
		t.Errorf("the microphone runs without a camera: %+v, %v", snap, err)
	}
	r.open.TestPattern = true
	r.SetState(r.open)
	snap := page.until("the test card", func(s snapshot) bool {
		return s.Own.Video == "live" && s.Own.Audio == "live" && s.Own.StandIn.Video && !s.Own.StandIn.Audio
	})
	rig.Eventually(t, 20*time.Second, func() error {
		v, a := r.video.Load(), r.audio.Load()
		return rig.Check(v > 30 && a > 50, "the test card's frames", []uint64{v, a})
	})
	shoot(t, page, "test-card")
	// The test card moves: two pictures of it differ.
	var first, second string
	grab := `(() => { const c = document.createElement("canvas"); c.width = 320; c.height = 180;
		c.getContext("2d").drawImage(document.querySelector("#own video"), 0, 0, 320, 180); return c.toDataURL(); })()`
	if err := page.eval(grab, &first); err != nil || len(first) < 1000 {
		t.Fatalf("%d bytes, %v", len(first), err)
	}
	rig.Eventually(t, 5*time.Second, func() error {
		err := page.eval(grab, &second)
		return rig.Check(err == nil && first != second, "another picture", err)
	})
	// Without a microphone, too, there is a tone.
	if err := page.eval(`navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("", "NotFoundError")), 1`, nil); err != nil {
		t.Fatal(err)
	}
	page.key("Escape", "Escape", 27)
	page.until("the end of the test card", func(s snapshot) bool { return s.Own.Video == "none" && s.Screen == "shut" })
	page.key(" ", "Space", 32)
	page.until("both stand-ins", func(s snapshot) bool { return s.Own.StandIn.Video && s.Own.StandIn.Audio })
	rig.Eventually(t, 10*time.Second, func() error {
		var tone struct {
			Frequency int
			Level     float64
		}
		err := page.eval("ewindow.tone('own')", &tone)
		return rig.Check(err == nil && math.Abs(float64(tone.Frequency-snap.Own.Frequency)) < 12 && tone.Level > -60, "the tone", fmt.Sprint(tone, snap.Own.Frequency, err))
	})
}

// TestCameraFaults checks the fault for each error of getUserMedia.
func TestCameraFaults(t *testing.T) {
	browser.Need(t)
	r := newPageRig(t)
	page := openPage(t, r, browser.Options{})
	page.until("the page", func(s snapshot) bool { return s.Connected })
	for _, c := range []struct{ failing, name, code string }{
		{"video", "NotFoundError", "none"},
		{"video", "NotReadableError", "busy"},
		{"video", "NotAllowedError", "denied"},
		{"video", "TypeError", "other"},
		{"audio", "NotFoundError", "no_microphone"},
		{"audio", "NotReadableError", "no_microphone"},
		{"audio", "NotAllowedError", "denied"},
	} {
		err := page.eval(fmt.Sprintf(`window.realMedia ??= navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices),
			navigator.mediaDevices.getUserMedia = (w) => w.%s ? Promise.reject(new DOMException("", %q)) : realMedia(w), 1`, c.failing, c.name), nil)
		if err != nil {
			t.Fatal(err)
		}
		page.key(" ", "Space", 32)
		rig.Eventually(t, 20*time.Second, func() error {
			m, _ := last[kiosk.Camera](r.served)
			return rig.Check(m == kiosk.Camera{State: "fault", Code: c.code}, c.code, m)
		})
		page.until("the visit", func(s snapshot) bool { return s.Screen == "visit" && s.Own.Video == "none" && s.Own.Audio == "none" })
		page.key("Escape", "Escape", 27)
		page.until("the shut screen", func(s snapshot) bool { return s.Screen == "shut" })
		rig.Eventually(t, 10*time.Second, func() error {
			m, _ := last[kiosk.Camera](r.served)
			return rig.Check(m.State == "off", "off", m)
		})
	}
	// A fault ends by itself once the camera is there.
	page.key(" ", "Space", 32)
	rig.Eventually(t, 20*time.Second, func() error {
		m, _ := last[kiosk.Camera](r.served)
		return rig.Check(m.State == "fault", "the fault", m)
	})
	if err := page.eval(`navigator.mediaDevices.getUserMedia = realMedia, 1`, nil); err != nil {
		t.Fatal(err)
	}
	rig.Eventually(t, 20*time.Second, func() error {
		m, _ := last[kiosk.Camera](r.served)
		return rig.Check(m.State == "on", "the camera after the fault", m)
	})
}
