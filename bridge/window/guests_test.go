package window

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bridge/notice"
)

// TestHeld: a guest whose camera is off is shown by name, gets no picture, and is told why in the room, once.
func TestHeld(t *testing.T) {
	b := newBench(t)
	b.m.SetMembers(dresden, []Member{memberOf(guest), memberOf(ben)})
	b.step(0)
	b.m.visit.focusReached = true
	b.step(testCountdown)
	b.want(dresden, "", "opening") // a camera may still be announced
	b.step(PictureGrace)
	b.want(dresden, "", "visit")
	s := b.last.View
	if !s.Held || b.last.Send || b.last.Camera || !s.Camera || s.Seen || s.Peer == nil || s.Peer.User != guest || s.Peer.Tile != -1 || len(s.Guests) != 1 || s.Guests[0].User != ben {
		t.Fatalf("screen %+v", s)
	}
	b.wantMessages()
	b.step(connectLimit)
	b.wantMessages(Message{Notice: notice.Camera, User: guest}, Message{Notice: notice.Camera, User: ben})
	// The guest turns the camera on: they see each other. Off again: the picture is held back, and the room is not told twice.
	b.m.visit.remoteCamera(b.now, memberOf(guest).Identity, 0, true, false)
	b.step(0)
	b.picture(memberOf(guest), true)
	b.want(dresden, "", "visit")
	if b.last.View.Held || !b.last.Send || !b.last.Camera || b.last.View.Peer.Tile != 0 {
		t.Fatalf("plan %+v", b.last)
	}
	b.m.visit.remoteCamera(b.now, memberOf(guest).Identity, 0, true, true)
	b.picture(memberOf(guest), false)
	b.want(dresden, "", "visit")
	if !b.last.View.Held || b.last.Send || b.last.View.Peer.Tile != -1 {
		t.Fatalf("plan %+v", b.last)
	}
	b.step(time.Hour)
	b.wantMessages()
	// In the next visit within a quarter of an hour the room is not told again.
	again := func() {
		b.m.SetMembers(dresden, nil)
		b.step(emptyGrace)
		b.want("", "", "alone")
		b.m.SetMembers(dresden, []Member{memberOf(guest)})
		b.step(0)
		b.m.visit.focusReached = true
		b.m.visit.remoteCamera(b.now, memberOf(guest).Identity, 0, true, true)
		b.step(PictureGrace + testCountdown)
		if !b.last.View.Held {
			t.Fatalf("screen %+v", b.last.View)
		}
	}
	again()
	b.wantMessages(Message{Notice: notice.Camera, User: guest})
	again()
	b.wantMessages()
}

// TestUnshown: a guest whose picture is in a codec that can't be shown is told so, once. The window makes no trials for them: nothing would come of
// that but moments of its picture. Somebody else whose camera is off is told about that.
func TestUnshown(t *testing.T) {
	b := newBench(t)
	b.m.SetMembers(dresden, []Member{memberOf(guest), memberOf(ben)})
	b.step(0)
	visit := b.m.visit.number
	b.m.visit.focusReached = true
	b.m.RemoteUnshown(visit, memberOf(guest).Identity, true)
	b.m.RemoteCamera(b.now, visit, memberOf(guest).Identity, 0, true, false)
	b.m.RemoteCamera(b.now, visit, memberOf(ben).Identity, 1, true, true)
	b.step(0)
	b.wantMessages(Message{Notice: notice.Codec, User: guest})
	b.step(testCountdown)
	b.step(PictureGrace)
	b.want(dresden, "", "visit")
	if s := b.last.View; !s.Held || s.Seen || s.Peer == nil || s.Peer.User != guest || s.Peer.Tile != -1 || !slices.Equal(s.Unshown, []Person{{Tile: -1, User: guest}}) {
		t.Fatalf("screen %+v", s)
	}
	b.wantMessages(Message{Notice: notice.Camera, User: ben})
	for range 100 {
		if b.step(time.Second); b.last.Send || b.last.View.Trials {
			t.Fatalf("the window sends, %+v", b.last.View)
		}
	}
	// Ben is seen. The guest sees the window until their budget is used up, and is not told anything else.
	b.m.RemoteCamera(b.now, visit, memberOf(ben).Identity, 1, true, false)
	b.picture(memberOf(ben), true)
	if len(b.last.Named) != 2 || !b.last.Send {
		t.Fatalf("plan %+v", b.last)
	}
	b.step(time.Minute)
	b.keyed(ben)
	if s := b.last.View; s.Peer.User != ben || len(s.Unshown) != 1 || len(s.Unseen) != 0 {
		t.Fatalf("screen %+v", s)
	}
	b.step(time.Hour)
	b.wantMessages()
	// Now their picture can be shown.
	b.m.RemoteUnshown(visit, memberOf(guest).Identity, false)
	b.picture(memberOf(guest), true)
	b.keyed(guest, ben)
	if s := b.last.View; len(s.Unshown) != 0 || len(s.Guests) != 1 {
		t.Fatalf("screen %+v", s)
	}
}

// TestNotHeld: situations that look the same, but where the connection is at fault.
func TestNotHeld(t *testing.T) {
	arrive := func(members ...Member) *bench {
		b := newBench(t, windowOf(munich, directory.Open, epoch.Add(time.Second)))
		b.m.SetMembers(dresden, members)
		b.step(0)
		b.m.visit.focusReached = true
		return b
	}
	for name, b := range map[string]*bench{"no focus yet": arrive(memberOf(guest)), "focus lost": arrive(memberOf(guest)), "announced": arrive(memberOf(guest)), "a window": arrive(kioskIn(munich))} {
		switch name {
		case "no focus yet":
			b.m.visit.focusReached = false
		case "focus lost":
			b.m.visit.focusLostAt = b.now
		case "announced":
			b.m.visit.remoteCamera(b.now, memberOf(guest).Identity, 0, true, false)
		}
		b.step(time.Minute)
		if b.last.View.Held || !b.last.Camera || b.last.View.Screen != "lost" {
			t.Errorf("%s: %+v", name, b.last.View)
		}
		if name == "announced" { // by then the trials have used up the guest's budget
			b.wantMessages(Message{Notice: notice.Unseen, User: guest})
		} else {
			b.wantMessages()
		}
	}
}

// TestGuestIsMain: while the other window is not there, the first guest with a picture has the big picture.
func TestGuestIsMain(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(time.Second)))
	b.arrive(dresden, kioskIn(munich), memberOf(guest))
	b.picture(memberOf(guest), true)
	b.step(testCountdown)
	b.want(dresden, munich, "visit")
	if b.last.View.Peer.Window != munich {
		t.Errorf("main picture %+v", b.last.View.Peer)
	}
	b.m.SetMembers(dresden, []Member{memberOf(guest)})
	b.step(0)
	b.want(dresden, munich, "visit")
	if p := b.last.View.Peer; p == nil || p.User != guest || p.Tile < 0 {
		t.Errorf("main picture %+v", p)
	}
}

// TestFourStreams: the window is shown first, then the guests in the order in which they came. Those who do not fit are named.
func TestFourStreams(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(time.Second)))
	var members []Member
	for i := range 6 {
		members = append(members, memberOf(id.UserID(fmt.Sprintf("@g%d:x", i))))
	}
	b.m.SetMembers(dresden, append(members, kioskIn(munich)))
	b.step(0)
	if m := b.last.Members; len(m) != maxPictures || m[0].User != kioskUser(munich) || m[3].User != "@g2:x" {
		t.Fatalf("shows %v", m)
	}
	if s := b.last.View; len(s.Guests) != 6 || s.Peer.Window != munich {
		t.Fatalf("names %+v", s)
	}
}

// TestNamedGetKeys: our key goes to exactly those whom the screen names. The 17th person is not named and gets none, whatever they write, but a
// window always has room. A member who is not at the SFU, and a kiosk that was removed from the network, are not named, either.
func TestNamedGetKeys(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(time.Second)))
	keyed := func(want int, not ...Member) {
		t.Helper()
		for _, m := range not {
			if slices.Contains(b.last.Named, m) {
				t.Errorf("%s gets our key", m.User)
			}
		}
		checkNamed(t, b.m, b.last)
		if len(b.last.Named) != want {
			t.Errorf("%d devices get our key, want %d", len(b.last.Named), want)
		}
	}
	var members []Member
	for i := range maxNamed {
		members = append(members, memberOf(id.UserID(fmt.Sprintf("@g%02d:x", i))))
	}
	second := members[3]
	second.Device, second.Identity = "SECOND", second.Identity+"2"
	b.m.SetMembers(dresden, members)
	b.step(0)
	keyed(maxNamed)
	if b.last.View.More != 0 {
		t.Errorf("%d more", b.last.View.More)
	}
	seventeenth, eighteenth := memberOf("@late:x"), memberOf("@later:x")
	b.m.SetMembers(dresden, append(slices.Clone(members), second, seventeenth, eighteenth))
	b.step(0)
	keyed(maxNamed+1, seventeenth, eighteenth)
	if b.last.View.More != 2 {
		t.Errorf("%d more", b.last.View.More)
	}
	b.m.SetMembers(dresden, append(slices.Clone(members), kioskIn(munich)))
	b.step(0)
	keyed(maxNamed, members[maxNamed-1])
	if b.last.View.More != 1 || b.last.View.Peer == nil || b.last.View.Peer.Window != munich {
		t.Errorf("screen %+v", b.last.View)
	}
	// One leaves, and the next one is named.
	b.m.SetMembers(dresden, append(slices.Clone(members[1:]), kioskIn(munich)))
	b.step(0)
	keyed(maxNamed)
	// The first guest never came to the SFU.
	b.m.RemoteAbsent(b.now, b.m.visit.number, members[1].Identity)
	b.step(StaleAfter - time.Millisecond)
	keyed(maxNamed)
	b.step(time.Millisecond)
	keyed(maxNamed-1, members[1])
	// The window is removed from the network, and its kiosk is still in the call.
	b.m.SetDirectory(dresden, true, nil)
	b.step(0)
	keyed(maxNamed-2, members[1], kioskIn(munich))
}

// TestWithheld: both sides are told about a guest who gets no keys.
func TestWithheld(t *testing.T) {
	b := newBench(t)
	b.arrive(dresden, memberOf(guest), memberOf(ben))
	for range 2 {
		b.m.Withheld(b.now, b.m.visit.number, guest)
	}
	b.step(0)
	if w := b.last.View.Withheld; len(w) != 1 || w[0].User != guest {
		t.Fatalf("withheld %+v", w)
	}
	b.wantMessages(Message{Notice: notice.Device, User: guest})
	b.arrive(dresden, memberOf(ben))
	if w := b.last.View.Withheld; len(w) != 0 {
		t.Fatalf("withheld %+v", w)
	}
	// A legacy call is answered in our own room only.
	b.m.LegacyCall(b.now, munich, guest)
	b.wantMessages()
	b.m.LegacyCall(b.now, dresden, guest)
	b.m.LegacyCall(b.now, dresden, ben)
	b.m.LegacyCall(b.now, dresden, guest)
	b.wantMessages(Message{Notice: notice.Legacy, User: guest}, Message{Notice: notice.Legacy, User: ben})
	b.picture(memberOf(ben), true)
	b.step(noticeEvery)
	b.m.LegacyCall(b.now, dresden, ben)
	b.wantMessages(Message{Notice: notice.Legacy, User: ben})
}
