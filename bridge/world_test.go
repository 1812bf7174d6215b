package bridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bot/rtc"
	"multifactorymodel.org/ewindow/bridge/kiosk"
	"multifactorymodel.org/ewindow/callmedia"
)

// world is everything around a Bridge. It logs each call that the Bridge makes, in order.
type world struct {
	t      *testing.T
	bridge *Bridge
	cancel context.CancelFunc
	ended  chan struct{}

	lines bytes.Buffer // the bridge's log; to be read while the bridge waits

	mu       sync.Mutex
	log      []string
	windows  []directory.Window
	removed  bool
	own      bool
	state    kiosk.State
	calls    []*fakeCall
	sessions []*fakeSession
	joinErr  error
	startErr error
	leave    time.Duration // how long leaving takes
	closing  time.Duration // how long closing a session takes
	connect  time.Duration // how long making the page's offer takes
	offers   int
	told     []directory.State
	people   []id.UserID // in the window's room
	kiosks   []id.UserID // the network's windows, as the calls know them
	known    []id.UserID // whose identities were asked for
	rings    chan error  // the result of each ring
}

type fakeCall struct {
	w    *world
	room id.RoomID
	opts rtc.JoinOptions
	left bool
}

type fakeSession struct {
	w       *world
	service string
	onEvent func(callmedia.SessionEvent)
	sending bool
	camera  bool
	closed  bool
}

func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

// logged returns what was logged since the last time.
func (w *world) logged() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	log := w.log
	w.log = nil
	return log
}

func (w *world) expect(want ...string) {
	w.t.Helper()
	synctest.Wait()
	if got := w.logged(); !slices.Equal(got, want) {
		w.t.Fatalf("happened:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func (w *world) screen() kiosk.State {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

func (w *world) Own() (id.RoomID, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return dresden, w.own
}

func (w *world) Windows() []directory.Window {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.windows)
}

func (w *world) Removed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.removed
}

func (w *world) Kiosks() []id.UserID { return nil }

func (w *world) Name(user id.UserID) string { return "Name of " + string(user) }

// directoryPart is the directory. It is a type of its own, since the screen has a SetState, too.
type directoryPart struct{ *world }

func (d directoryPart) SetState(s directory.State) {
	d.mu.Lock()
	d.told = append(d.told, s)
	d.mu.Unlock()
	d.note("tell %s %s", s.Shutter, s.Facing)
}

func (w *world) SetState(s kiosk.State) {
	w.mu.Lock()
	w.state = s
	w.mu.Unlock()
}

func (w *world) SendOffer(page uint64, sdp string) { w.note("offer %d %s", page, sdp) }
func (w *world) SendBitrate(bps, small int)        { w.note("bitrate %d %d", bps, small) }

func (w *world) Connect(ctx context.Context) (string, error) {
	w.mu.Lock()
	w.offers++
	sdp, wait := fmt.Sprintf("sdp%d", w.offers), w.connect
	w.mu.Unlock()
	select {
	case <-time.After(wait):
		return sdp, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (w *world) Answer(sdp string) error {
	w.note("answer %s", sdp)
	return nil
}

func (w *world) Tiles() int { return 4 }

func (w *world) Disconnect() { w.note("disconnect") }

// matrix is the Matrix side of calls.
type matrix struct{ *world }

func (m matrix) UserID() id.UserID { return "@us:a" }

func (m matrix) Decline(_ context.Context, room id.RoomID, notification id.EventID) error {
	m.note("decline %s %s", room, notification)
	return nil
}

func (m matrix) Notice(_ context.Context, room id.RoomID, text string) error {
	m.note("notice %s %s", room, text)
	return errors.New("a room that can't be written to is no reason to stop")
}

func (m matrix) People(context.Context, id.RoomID) ([]id.UserID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.people, nil
}

func (m matrix) Ring(ctx context.Context, room id.RoomID, users []id.UserID) (id.EventID, error) {
	m.note("ring %s %v", room, users)
	select {
	case err := <-m.rings:
		return "$ring", err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (m matrix) Remove(room id.RoomID, member rtc.Member) {
	m.note("remove %s from %s", member.User, room)
}

func (m matrix) KnowIdentities(_ context.Context, users []id.UserID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known = append(m.known, users...)
	return nil
}

func (m matrix) ConfirmIdentity(_ context.Context, user id.UserID, key id.Ed25519) error {
	m.note("confirm %s %s", user, key)
	return nil
}

func (m matrix) AnswerEmoji(_ context.Context, same bool) error {
	m.note("emoji %t", same)
	return nil
}

func (m matrix) SetWindows(users []id.UserID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kiosks = users
}

func (m matrix) Join(room id.RoomID, opts rtc.JoinOptions) (Call, error) {
	m.note("join %s", room)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.joinErr != nil {
		return nil, m.joinErr
	}
	for _, c := range m.calls {
		if c.room == room && !c.left {
			m.t.Errorf("joins %s twice", room)
		}
	}
	c := &fakeCall{w: m.world, room: room, opts: opts}
	m.calls = append(m.calls, c)
	return c, nil
}

func (c *fakeCall) Leave(ctx context.Context) error {
	c.w.note("leaving %s", c.room)
	c.w.mu.Lock()
	wait := c.w.leave
	c.w.mu.Unlock()
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		return ctx.Err()
	}
	c.w.mu.Lock()
	c.left = true
	c.w.mu.Unlock()
	c.w.note("left %s", c.room)
	return nil
}

func (c *fakeCall) SetRecipients(devices []bot.Device) {
	var names []string
	for _, device := range devices {
		names = append(names, device.User.String()+":"+device.ID.String())
	}
	c.w.note("keys for %s", strings.Join(names, " "))
}

func (c *fakeCall) SendKeyAgain() { c.w.note("key again") }
func (c *fakeCall) Renew()        { c.w.note("renewed") }

func (c *fakeCall) Token(context.Context, string) (string, string, error) {
	return "", "", errors.New("not used")
}

func (w *world) newSession(service string, token TokenFunc, onEvent func(callmedia.SessionEvent)) (Session, error) {
	w.note("session %s", service)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.sessions {
		if !s.closed {
			w.t.Error("two sessions at once")
		}
	}
	s := &fakeSession{w: w, service: service, onEvent: onEvent}
	w.sessions = append(w.sessions, s)
	return s, nil
}

func (s *fakeSession) Start(context.Context) error {
	s.w.note("start")
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return s.w.startErr
}

func (s *fakeSession) SetRemotes(list []callmedia.Remote) {
	var names []string
	for _, r := range list {
		name := r.Identity
		if r.Guest {
			name += " (guest)"
		}
		if r.Hushed {
			name += " (hushed)"
		}
		names = append(names, name)
	}
	s.w.note("remotes %s", strings.Join(names, " "))
}

func (s *fakeSession) SetKey(identity string, index uint8, material []byte) {
	s.w.note("key %s %d", identity, index)
}

func (s *fakeSession) UseKey(index uint8, material []byte) { s.w.note("use key %d", index) }

func (s *fakeSession) SetSending(on bool) {
	s.w.mu.Lock()
	s.sending = on
	s.w.mu.Unlock()
	s.w.note("sending %t", on)
}

func (s *fakeSession) SetSound(on bool) { s.w.note("sound %t", on) }

func (s *fakeSession) SetCamera(on bool) {
	s.w.mu.Lock()
	s.camera = on
	s.w.mu.Unlock()
	s.w.note("camera %t", on)
}

func (s *fakeSession) RequestKeyFrame() { s.w.note("key frame") }

func (s *fakeSession) Close() error {
	s.w.mu.Lock()
	wait := s.w.closing
	s.w.mu.Unlock()
	pass(wait)
	s.w.mu.Lock()
	s.closed = true
	s.w.mu.Unlock()
	s.w.note("close")
	return nil
}

// run runs a Bridge in its world, inside a bubble with a clock of its own (testing/synctest), until f returns.
func run(t *testing.T, windows []directory.Window, f func(w *world)) {
	t.Helper()
	runWith(t, windows, Config{}, f)
}

// runWith is run with a configuration, whose other fields it sets.
func runWith(t *testing.T, windows []directory.Window, cfg Config, f func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, own: true, windows: windows, ended: make(chan struct{}), rings: make(chan error, 1)}
		cfg.Name, cfg.Countdown, cfg.Languages = "Dresden", testCountdown, []string{"de"}
		cfg.Directory, cfg.Screen, cfg.Page, cfg.Calls, cfg.NewSession = directoryPart{w}, w, w, matrix{w}, w.newSession
		cfg.Log = zerolog.New(zerolog.SyncWriter(&w.lines))
		b, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		w.bridge = b
		ctx, cancel := context.WithCancel(t.Context())
		w.cancel = cancel
		go func() {
			defer close(w.ended)
			if err := b.Run(ctx); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		f(w)
		cancel()
		<-w.ended
		for _, c := range w.calls {
			if !c.left {
				t.Errorf("the call in %s was not left", c.room)
			}
		}
		for _, s := range w.sessions {
			if !s.closed {
				t.Error("a session was not closed")
			}
		}
	})
}

// pass lets time go by. Inside the bubble that takes no real time.
func pass(d time.Duration) { <-time.After(d) }

// set changes how the world behaves, under its lock.
func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) press(open bool) {
	to := directory.Shut
	if open {
		to = directory.Open
	}
	w.bridge.HandlePage(kiosk.Shutter{To: to})
}

func (w *world) setWindows(windows ...directory.Window) {
	w.set(func() { w.windows = windows })
	w.bridge.HandleDirectory()
	synctest.Wait()
}

// visit opens the window while Munich's has been open for long, and goes on until both see each other.
func (w *world) visit() (*fakeCall, *fakeSession) {
	w.t.Helper()
	w.bridge.HandlePage(kiosk.PageUp{ID: 1, Shutter: "shut"})
	w.expect("tell shut ", "offer 1 sdp1")
	w.press(true)
	w.expect("join !munich:b", "tell open ")
	call := w.calls[0]
	call.opts.OnEvent(rtc.Event{Kind: rtc.Key, Identity: "early", Index: 3, Material: []byte("k")})
	call.opts.OnEvent(rtc.Event{Kind: rtc.UseKey, Index: 0, Material: []byte("k")})
	call.opts.OnEvent(rtc.Event{Kind: rtc.Transport, Service: "https://hub"})
	w.expect("session https://hub", "start", "key early 3", "use key 0", "camera true")
	session := w.sessions[0]
	w.bridge.HandleMembers(munich, []rtc.Member{kioskIn(munich)})
	w.expect("keys for @kiosk-munich:b:D", "remotes @kiosk-munich:b:D", "tell open !munich:b")
	pass(testCountdown)
	w.expect("sending true")
	session.onEvent(callmedia.SessionEvent{Kind: callmedia.RemoteUp, Identity: kioskIn(munich).Identity, Tile: 2})
	session.onEvent(callmedia.SessionEvent{Kind: callmedia.PictureOn, Identity: kioskIn(munich).Identity, Tile: 2})
	if s := w.screen(); s.Screen != "visit" || s.Peer == nil || *s.Peer != (kiosk.Person{Name: "munich:b", Tile: 2}) ||
		!s.Seen || !s.Send {
		w.t.Fatalf("screen %+v", s)
	}
	w.expect()
	return call, session
}

func longOpen() []directory.Window {
	return []directory.Window{windowOf(munich, directory.Open, time.UnixMilli(1000))}
}
