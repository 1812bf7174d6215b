package bridge

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bot/rtc"
	"multifactorymodel.org/ewindow/bridge/kiosk"
	"multifactorymodel.org/ewindow/callmedia"
)

// guest opens a window into whose call a guest comes, and returns its media.
func (w *world) guest() *fakeSession {
	w.t.Helper()
	w.bridge.HandlePage(kiosk.PageUp{ID: 1})
	w.press(true)
	w.bridge.HandleMembers(dresden, []rtc.Member{memberOf(guest)})
	w.screen()
	w.calls[0].opts.OnEvent(rtc.Event{Kind: rtc.Transport, Service: "https://hub"})
	w.screen()
	return w.sessions[0]
}

// TestHeld: a guest whose camera is off is shown by name, gets nothing, and the room is told why, once.
func TestHeld(t *testing.T) {
	b := newBench(t)
	b.m.setMembers(dresden, []rtc.Member{memberOf(guest), memberOf(ben)})
	b.step(0)
	b.m.call.connected = true
	b.step(testCountdown)
	b.want(dresden, "", "opening") // a camera may be announced yet
	b.step(pictureGrace)
	b.want(dresden, "", "visit")
	s := b.last.screen
	if !s.held || b.last.send || b.last.camera || !s.camera || s.seen || s.peer == nil || s.peer.user != guest || s.peer.slot != -1 || len(s.guests) != 1 || s.guests[0].user != ben {
		t.Fatalf("screen %+v", s)
	}
	b.wantErrands()
	b.step(connectLimit)
	b.wantErrands(errand{notice: noticeCamera, user: guest})
	// It is turned on: they see each other. Off again: it is held, and the room knows.
	b.m.call.remoteUp(b.now, memberOf(guest).Identity, 0, true, false)
	b.step(0)
	b.picture(memberOf(guest), true)
	b.want(dresden, "", "visit")
	if b.last.screen.held || !b.last.send || !b.last.camera || b.last.screen.peer.slot != 0 {
		t.Fatalf("plan %+v", b.last)
	}
	b.m.call.remoteUp(b.now, memberOf(guest).Identity, 0, true, true)
	b.picture(memberOf(guest), false)
	b.want(dresden, "", "visit")
	if !b.last.screen.held || b.last.send || b.last.screen.peer.slot != -1 {
		t.Fatalf("plan %+v", b.last)
	}
	b.step(time.Hour)
	b.wantErrands()
	// In the next visit within a quarter of an hour the room is not told again.
	again := func() {
		b.m.setMembers(dresden, nil)
		b.step(emptyGrace)
		b.want("", "", "alone")
		b.m.setMembers(dresden, []rtc.Member{memberOf(guest)})
		b.step(0)
		b.m.call.connected = true
		b.m.call.remoteUp(b.now, memberOf(guest).Identity, 0, true, true)
		b.step(pictureGrace + testCountdown)
		if !b.last.screen.held {
			t.Fatalf("screen %+v", b.last.screen)
		}
	}
	again()
	b.wantErrands(errand{notice: noticeCamera, user: guest})
	again()
	b.wantErrands()
}

// TestNotHeld: what looks alike but is the connection's fault.
func TestNotHeld(t *testing.T) {
	arrive := func(members ...rtc.Member) *bench {
		b := newBench(t, windowOf(munich, directory.Open, epoch.Add(time.Second)))
		b.m.setMembers(dresden, members)
		b.step(0)
		b.m.call.connected = true
		return b
	}
	for name, b := range map[string]*bench{"no focus yet": arrive(memberOf(guest)), "focus lost": arrive(memberOf(guest)), "announced": arrive(memberOf(guest)), "a window": arrive(kioskIn(munich))} {
		switch name {
		case "no focus yet":
			b.m.call.connected = false
		case "focus lost":
			b.m.call.hubLost = b.now
		case "announced":
			b.m.call.remoteUp(b.now, memberOf(guest).Identity, 0, true, false)
		}
		b.step(time.Minute)
		if b.last.screen.held || !b.last.camera || b.last.screen.name != "lost" {
			t.Errorf("%s: %+v", name, b.last.screen)
		}
		b.wantErrands()
	}
}

// TestGuestIsMain: while the other window is not there, the first guest with a picture is the big one.
func TestGuestIsMain(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(time.Second)))
	b.arrive(dresden, kioskIn(munich), memberOf(guest))
	b.picture(memberOf(guest), true)
	b.step(testCountdown)
	b.want(dresden, munich, "visit")
	if b.last.screen.peer.window != munich {
		t.Errorf("main picture %+v", b.last.screen.peer)
	}
	b.m.setMembers(dresden, []rtc.Member{memberOf(guest)})
	b.step(0)
	b.want(dresden, munich, "visit")
	if p := b.last.screen.peer; p == nil || p.user != guest || p.slot < 0 {
		t.Errorf("main picture %+v", p)
	}
}

// TestFourStreams: the window first, then the guests in the order in which they came; those for whom there is no room are named.
func TestFourStreams(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(time.Second)))
	var members []rtc.Member
	for i := range 6 {
		members = append(members, memberOf(id.UserID(fmt.Sprintf("@g%d:x", i))))
	}
	b.m.setMembers(dresden, append(members, kioskIn(munich)))
	b.step(0)
	if m := b.last.members; len(m) != maxPictures || m[0].User != kioskUser(munich) || m[3].User != "@g2:x" {
		t.Fatalf("shows %v", m)
	}
	if s := b.last.screen; len(s.guests) != 6 || s.peer.window != munich {
		t.Fatalf("names %+v", s)
	}
}

// TestWithheld: who gets no keys is told why, on both sides.
func TestWithheld(t *testing.T) {
	b := newBench(t)
	b.arrive(dresden, memberOf(guest), memberOf(ben))
	for range 2 {
		b.m.withhold(b.now, b.m.call, guest)
	}
	b.step(0)
	if w := b.last.screen.withheld; len(w) != 1 || w[0].user != guest {
		t.Fatalf("withheld %+v", w)
	}
	b.wantErrands(errand{notice: noticeDevice, user: guest})
	b.arrive(dresden, memberOf(ben))
	if w := b.last.screen.withheld; len(w) != 0 {
		t.Fatalf("withheld %+v", w)
	}
	// A legacy call is answered in the own room only.
	b.m.legacyCall(b.now, munich, guest)
	b.wantErrands()
	b.m.legacyCall(b.now, dresden, guest)
	b.m.legacyCall(b.now, dresden, ben)
	b.wantErrands(errand{notice: noticeLegacy, user: guest})
	b.step(noticePause)
	b.m.legacyCall(b.now, dresden, ben)
	b.wantErrands(errand{notice: noticeLegacy, user: ben})
}

// TestGuestsAreTold: what a guest does not see, and why, is on the page and in the room.
func TestGuestsAreTold(t *testing.T) {
	run(t, nil, func(w *world) {
		w.bridge.HandlePage(kiosk.PageUp{ID: 1, Shutter: "open"})
		w.bridge.HandleMembers(dresden, []rtc.Member{memberOf(guest)})
		synctest.Wait()
		w.logged()
		call := w.calls[0]
		call.opts.OnEvent(rtc.Event{Kind: rtc.Withheld, User: guest})
		call.opts.OnEvent(rtc.Event{Kind: rtc.Transport, Service: "https://hub"})
		name := "Name of " + string(guest)
		if s := w.screen(); !slices.Equal(s.Withheld, []string{name}) || s.Held {
			t.Fatalf("screen %+v", s)
		}
		told := func(want ...string) {
			t.Helper()
			var got []string
			for _, line := range w.logged() {
				if text, is := strings.CutPrefix(line, "notice !dresden:a "); is {
					got = append(got, text)
				}
			}
			for i, kind := range want {
				want[i] = strings.ReplaceAll(kind, "{name}", name)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("notices %q, want %q", got, want)
			}
		}
		told(notices["de"][noticeDevice])
		w.sessions[0].onEvent(callmedia.SessionEvent{Kind: callmedia.Connected})
		w.sessions[0].onEvent(callmedia.SessionEvent{Kind: callmedia.RemoteUp, Identity: memberOf(guest).Identity, Muted: true})
		pass(testCountdown + pictureGrace)
		if s := w.screen(); s.Screen != "visit" || !s.Held || s.Seen || s.Peer == nil || *s.Peer != (kiosk.Person{Name: name, Slot: -1}) {
			t.Fatalf("screen %+v, %+v", s, s.Peer)
		}
		told(notices["de"][noticeCamera])
		w.bridge.HandleLegacyCall(dresden, guest)
		w.bridge.HandleLegacyCall(dresden, guest)
		synctest.Wait()
		told(notices["de"][noticeLegacy])
	})
}

// TestGuestNotSeen: a guest whose picture is announced and does not come may have lost their key on the way. They send it again to whoever begins
// a new membership; other windows do so by themselves.
func TestGuestNotSeen(t *testing.T) {
	run(t, nil, func(w *world) {
		session := w.guest()
		session.onEvent(callmedia.SessionEvent{Kind: callmedia.RemoteUp, Identity: memberOf(guest).Identity})
		pass(testCountdown)
		synctest.Wait()
		w.logged()
		pass(pictureGrace + trialEvery)
		synctest.Wait()
		if got := w.logged(); !slices.Contains(got, "key again") || !slices.Contains(got, "renewed") {
			t.Errorf("%q happened", got)
		}
		session.onEvent(callmedia.SessionEvent{Kind: callmedia.PictureOn, Identity: memberOf(guest).Identity})
		synctest.Wait()
		w.logged()
		pass(time.Hour)
		synctest.Wait()
		if got := w.logged(); slices.Contains(got, "renewed") {
			t.Errorf("%q happened though the guest is seen", got)
		}
	})
}
