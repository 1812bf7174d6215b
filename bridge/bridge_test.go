package bridge

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bot/rtc"
	"multifactorymodel.org/ewindow/bridge/kiosk"
	"multifactorymodel.org/ewindow/bridge/notice"
	"multifactorymodel.org/ewindow/callmedia"
	"multifactorymodel.org/ewindow/callmedia/page"
)

func TestVisit(t *testing.T) {
	run(t, longOpen(), func(w *world) {
		call, session := w.visit()
		call.opts.OnEvent(rtc.Event{Kind: rtc.KeySent})
		w.expect("key frame")
		// Their picture stops, so ours stops. Theirs comes back, and so does ours.
		session.onEvent(callmedia.SessionEvent{Kind: callmedia.PictureOff, Identity: kioskIn(munich).Identity, Tile: 2})
		w.expect("sending false", "key again")
		if s := w.screen(); s.Screen != "lost" || s.Seen {
			t.Fatalf("screen %+v", s)
		}
		session.onEvent(callmedia.SessionEvent{Kind: callmedia.PictureOn, Identity: kioskIn(munich).Identity, Tile: 2})
		w.expect("sending true")
		// A guest comes. The media session is told that this is a guest, who may want our small picture.
		w.bridge.HandleMembers(munich, []rtc.Member{memberOf(guest), kioskIn(munich)})
		w.expect("keys for "+memberOf(guest).Identity+" @kiosk-munich:b:D", "remotes @kiosk-munich:b:D "+memberOf(guest).Identity+" (guest)")
		// A shared screen is the big picture. It does not count as being seen: without the other window's picture, ours stops.
		session.onEvent(callmedia.SessionEvent{Kind: callmedia.ScreenOn, Identity: memberOf(guest).Identity, Tile: 3})
		if s := w.screen(); s.Shared == nil || *s.Shared != (kiosk.Person{Name: "Name of " + string(guest), Tile: 3}) || !s.Seen {
			t.Fatalf("screen %+v", s)
		}
		session.onEvent(callmedia.SessionEvent{Kind: callmedia.PictureOff, Identity: kioskIn(munich).Identity, Tile: 2})
		w.expect("sending false", "key again")
		if s := w.screen(); s.Screen != "visit" || s.Seen {
			t.Fatalf("screen %+v", s)
		}
		session.onEvent(callmedia.SessionEvent{Kind: callmedia.PictureOn, Identity: kioskIn(munich).Identity, Tile: 2})
		w.expect("sending true")
		session.onEvent(callmedia.SessionEvent{Kind: callmedia.ScreenOff, Identity: memberOf(guest).Identity, Tile: 3})
		if s := w.screen(); s.Shared != nil || s.Screen != "visit" {
			t.Fatalf("screen %+v", s)
		}
		session.onEvent(callmedia.SessionEvent{Kind: callmedia.ScreenOn, Identity: memberOf(guest).Identity, Tile: 3})
		w.bridge.HandleMembers(munich, []rtc.Member{kioskIn(munich)})
		w.expect("keys for @kiosk-munich:b:D", "remotes @kiosk-munich:b:D")
		if s := w.screen(); s.Shared != nil {
			t.Fatalf("screen %+v", s)
		}
		// Somebody shuts the window: frames stop before anything that may take a while.
		w.set(func() { w.leave, w.closing = 3*time.Second, time.Second })
		w.press(false)
		synctest.Wait()
		got := w.logged()
		if len(got) < 1 || got[0] != "sending false" || !slices.Contains(got, "tell shut ") || slices.Contains(got, "close") {
			t.Fatalf("at the press: %q", got)
		}
		if s := w.screen(); s.Screen != "shut" || s.Camera || s.Send || s.Seen || s.Shutter != "shut" {
			t.Fatalf("screen %+v", s)
		}
		// Late events of the old call change nothing.
		call.opts.OnEvent(rtc.Event{Kind: rtc.UseKey, Index: 1})
		call.opts.OnEvent(rtc.Event{Kind: rtc.Transport, Service: "https://other"})
		call.opts.OnEvent(rtc.Event{Kind: rtc.Failed, Err: errors.New("late")})
		session.onEvent(callmedia.SessionEvent{Kind: callmedia.PictureOn, Identity: kioskIn(munich).Identity})
		w.expect()
		pass(4 * time.Second)
		w.expect("close", "left !munich:b")
		// The failure of the old call does not prevent a new one.
		w.press(true)
		w.expect("join !munich:b", "keys for @kiosk-munich:b:D", "tell open !munich:b")
	})
}

// TestReopenWaits: a new visit begins only when the last session is closed and the call in the room has been left.
func TestReopenWaits(t *testing.T) {
	run(t, longOpen(), func(w *world) {
		w.visit()
		w.set(func() { w.leave, w.closing = 3*time.Second, time.Second })
		w.press(false)
		w.press(true)
		synctest.Wait()
		if got := w.logged(); slices.Contains(got, "join !munich:b") || got[0] != "sending false" {
			t.Fatalf("at once: %q", got)
		}
		pass(2 * time.Second)
		w.expect("close")
		pass(2 * time.Second)
		w.expect("left !munich:b", "join !munich:b", "keys for @kiosk-munich:b:D")
	})
}

// TestAnotherRoomWaitsForMediaOnly: a call in another room is entered as soon as the media of the last one are closed.
func TestAnotherRoomWaitsForMediaOnly(t *testing.T) {
	run(t, longOpen(), func(w *world) {
		w.visit()
		w.set(func() { w.leave, w.closing = 5*time.Second, time.Second })
		w.setWindows(windowOf(bolzano, directory.Open, time.UnixMilli(1)))
		w.logged()
		pass(2 * time.Second)
		w.expect("close", "join !bolzano:c")
		pass(10 * time.Second)
		w.logged()
	})
}

func TestEndLeaves(t *testing.T) {
	run(t, longOpen(), func(w *world) {
		w.visit()
		w.set(func() { w.leave, w.closing = 3*time.Second, time.Second })
		begin := time.Now()
		w.cancel()
		<-w.ended
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("Run took %v to end", took)
		}
		if got := w.logged(); got[0] != "sending false" || !slices.Contains(got, "left !munich:b") || !slices.Contains(got, "disconnect") {
			t.Errorf("at the end: %q", got)
		}
	})
	// Leaving is given up after a while. The server removes us by itself (MSC4140).
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, leave: time.Hour}
		c := &connection{call: &fakeCall{w: w, room: munich}, log: zerolog.Nop()}
		begin := time.Now()
		c.close(t.Context(), func() {})
		if took := time.Since(begin); took != leaveLimit {
			t.Errorf("closing took %v", took)
		}
	})
}

func TestPageConnection(t *testing.T) {
	run(t, nil, func(w *world) {
		w.set(func() { w.connect = time.Second })
		w.bridge.HandlePage(kiosk.PageUp{ID: 1})
		w.expect("tell shut ")
		w.bridge.HandlePage(kiosk.PageDown{ID: 1})
		w.bridge.HandlePage(kiosk.PageUp{ID: 2})
		w.expect()
		pass(1500 * time.Millisecond)
		w.expect("disconnect") // after the offer for the first page, which is gone
		pass(time.Second)
		w.expect("offer 2 sdp2")
		w.set(func() { w.connect = 0 })
		w.bridge.HandlePage(kiosk.Answer{ID: 1, SDP: "old"})
		w.bridge.HandlePage(kiosk.Answer{ID: 2, SDP: "new"})
		w.expect("answer new")
		w.bridge.HandleMedia(page.Event{Kind: page.Connected})
		w.bridge.HandleMedia(page.Event{Kind: page.Bitrate, BPS: 5, Small: 2})
		w.expect("bitrate 5 2")
		// When the connection breaks, a new one is offered at once, then after longer and longer waits, for ever.
		w.bridge.HandleMedia(page.Event{Kind: page.Disconnected})
		w.expect("offer 2 sdp3")
		for i := range 20 {
			w.bridge.HandleMedia(page.Event{Kind: page.Disconnected})
			w.expect()
			pass(maxOfferWait)
			w.expect(fmt.Sprintf("offer 2 sdp%d", 4+i))
		}
		w.bridge.HandlePage(kiosk.PageDown{ID: 1}) // this is not the present page
		w.expect()
		w.bridge.HandlePage(kiosk.PageDown{ID: 2})
		w.expect("disconnect")
		w.bridge.HandleMedia(page.Event{Kind: page.Disconnected})
		pass(time.Minute)
		w.expect()
	})
}

// TestRestartAsksThePage: after a restart the page is asked before the network is told anything.
func TestRestartAsksThePage(t *testing.T) {
	run(t, nil, func(w *world) {
		pass(pageGrace / 2)
		w.expect()
		w.bridge.HandlePage(kiosk.PageUp{ID: 1, Shutter: "open"})
		w.expect("tell open ", "offer 1 sdp1")
		// What a page remembers does not count after a reload.
		w.press(false)
		w.expect("tell shut ")
		w.bridge.HandlePage(kiosk.PageDown{ID: 1})
		w.bridge.HandlePage(kiosk.PageUp{ID: 2, Shutter: "open"})
		w.expect("disconnect", "offer 2 sdp2")
		if s := w.screen(); s.Shutter != "shut" || s.Camera {
			t.Errorf("screen %+v", s)
		}
	})
	run(t, nil, func(w *world) {
		pass(pageGrace)
		w.expect("tell shut ")
		if w.told[0].Since.IsZero() {
			t.Error("nobody knows since when it is shut")
		}
	})
}

func TestFailures(t *testing.T) {
	run(t, longOpen(), func(w *world) {
		w.bridge.HandlePage(kiosk.PageUp{ID: 1})
		synctest.Wait()
		w.logged()
		w.set(func() { w.joinErr = errors.New("no") })
		w.press(true)
		w.expect("join !munich:b", "tell open ")
		pass(failureBackoff - time.Second)
		w.expect()
		w.set(func() { w.joinErr, w.startErr = nil, errors.New("no") })
		pass(2 * time.Second)
		w.expect("join !munich:b")
		w.calls[0].opts.OnEvent(rtc.Event{Kind: rtc.Transport, Service: "https://hub"})
		synctest.Wait()
		got := w.logged()
		slices.Sort(got)
		want := []string{"close", "leaving !munich:b", "left !munich:b", "sending false", "session https://hub", "start"}
		if !slices.Equal(got, want) {
			t.Fatalf("a session that can't be started: %q", got)
		}
		w.set(func() { w.startErr = nil })
		pass(failureBackoff)
		w.expect("join !munich:b")
		w.calls[1].opts.OnEvent(rtc.Event{Kind: rtc.Failed, Err: fmt.Errorf("join: %w", rtc.ErrNoTransport)})
		w.expect("leaving !munich:b", "left !munich:b")
		if s := w.screen(); s.Screen != "fault" || s.Fault == nil || s.Fault.Code != "hub" {
			t.Errorf("screen %+v", s)
		}
	})
}

func TestScreen(t *testing.T) {
	run(t, longOpen(), func(w *world) {
		w.set(func() { w.own = false })
		w.bridge.HandleDirectory()
		if s := w.screen(); s.Screen != "fault" || s.Fault.Code != "network_not_joined" || s.Fault.Detail != "@us:a" {
			t.Errorf("screen %+v", s)
		}
		w.set(func() { w.own = true })
		w.bridge.HandleDirectory()
		w.bridge.HandlePage(kiosk.PageUp{ID: 1})
		down := time.Now()
		w.bridge.HandleHomeserver(false, down)
		if s := w.screen(); s.Screen != "shut" || s.Fault.Code != "homeserver" || !s.Fault.Since.Equal(down) {
			t.Errorf("screen %+v", s)
		}
		w.bridge.HandleHomeserver(true, time.Now())
		w.setWindows(windowOf(munich, directory.Shut, time.UnixMilli(1)))
		if s := w.screen(); s.Fault != nil || len(s.Windows) != 1 || s.Windows[0].Shutter != "shut" ||
			s.Windows[0].Name != "munich:b" || s.Name != "Dresden" {
			t.Errorf("screen %+v", s)
		}
		w.press(true)
		w.bridge.HandleMembers(dresden, []rtc.Member{memberOf(guest), memberOf("@ben:x")})
		w.screen()
		w.calls[0].opts.OnEvent(rtc.Event{Kind: rtc.Transport, Service: "https://hub"})
		w.screen()
		w.sessions[0].onEvent(callmedia.SessionEvent{Kind: callmedia.RemoteUp, Identity: memberOf(guest).Identity, Tile: 1})
		w.sessions[0].onEvent(callmedia.SessionEvent{Kind: callmedia.PictureOn, Identity: memberOf(guest).Identity, Tile: 1})
		if s := w.screen(); s.Screen != "opening" || s.CountUntil.IsZero() ||
			*s.Peer != (kiosk.Person{Name: "Name of " + string(guest), Tile: 1}) ||
			!slices.Equal(s.Guests, []kiosk.Person{{Name: "Name of @ben:x", Tile: -1}}) {
			t.Errorf("screen %+v", s)
		}
		pass(testCountdown)
		if s := w.screen(); s.Screen != "visit" || !s.CountUntil.IsZero() {
			t.Errorf("screen %+v", s)
		}
	})
}

// TestKnocks: a knock is shown, answered and declined. The room is told so in the window's first language.
func TestKnocks(t *testing.T) {
	run(t, nil, func(w *world) {
		w.bridge.HandlePage(kiosk.PageUp{ID: 1, Shutter: "ajar"})
		w.expect("tell ajar ", "offer 1 sdp1")
		w.bridge.HandleMembers(dresden, []rtc.Member{memberOf(guest)})
		w.bridge.HandleRing(dresden, guest, "$1", time.Now().Add(30*time.Second))
		s := w.screen()
		if s.Screen != "knocked" || s.Knock == nil || s.Knock.Name != "Name of "+string(guest) || !s.Knock.Guest || s.Camera {
			t.Fatalf("screen %+v, %+v", s, s.Knock)
		}
		pass(time.Second)
		w.bridge.HandlePage(kiosk.KnockAnswer{ID: s.Knock.ID})
		synctest.Wait()
		got := w.logged()
		slices.Sort(got)
		if !slices.Equal(got, []string{"decline !dresden:a $1", "notice !dresden:a Am Fenster passt es gerade nicht. Versuch es bitte später noch einmal.",
			"notice !dresden:a " + notice.Ajar.Text([]string{"de"}, notice.About{Name: "Name of " + string(guest)})}) {
			t.Fatalf("not now: %q", got)
		}
		w.bridge.HandleMembers(dresden, nil)
		synctest.Wait()
		w.bridge.HandleMembers(dresden, []rtc.Member{memberOf(guest)})
		s = w.screen()
		pass(time.Second)
		w.bridge.HandlePage(kiosk.KnockAnswer{ID: s.Knock.ID, LetIn: true})
		w.expect("join !dresden:a", "keys for "+memberOf(guest).Identity)
		w.press(false)
		synctest.Wait()
		w.logged()
		w.bridge.HandleMembers(dresden, nil)
		synctest.Wait()
		w.bridge.HandleMembers(dresden, []rtc.Member{memberOf(guest)})
		w.expect("notice !dresden:a Das Fenster ist gerade zu: Niemand vor Ort sieht oder hört dich. " +
			"Auf dem Bildschirm steht, dass Name of @anna:elsewhere geklopft hat.")
		if s := w.screen(); len(s.Missed) != 1 || !s.Missed[0].At.Equal(time.Now()) || !s.Missed[0].Guest {
			t.Errorf("missed %+v", s.Missed)
		}
	})
}

// TestUnchangedIsNotSent: the page and the network are told only what has changed.
func TestUnchangedIsNotSent(t *testing.T) {
	run(t, longOpen(), func(w *world) {
		w.visit()
		told := len(w.told)
		for range 50 {
			w.bridge.HandleDirectory()
			w.bridge.HandleMembers(munich, []rtc.Member{kioskIn(munich)})
		}
		w.expect()
		if len(w.told) != told {
			t.Errorf("told the network %d times", len(w.told)-told)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	w := &world{}
	whole := Config{Name: "Dresden", Directory: directoryPart{w}, Screen: w, Page: w, Calls: matrix{w}, NewSession: w.newSession}
	for name, spoil := range map[string]func(*Config){
		"no directory":       func(c *Config) { c.Directory = nil },
		"no screen":          func(c *Config) { c.Screen = nil },
		"no page":            func(c *Config) { c.Page = nil },
		"no calls":           func(c *Config) { c.Calls = nil },
		"no media":           func(c *Config) { c.NewSession = nil },
		"no name":            func(c *Config) { c.Name = "" },
		"negative countdown": func(c *Config) { c.Countdown = -1 },
	} {
		cfg := whole
		spoil(&cfg)
		if b, err := New(cfg); err == nil || b != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
