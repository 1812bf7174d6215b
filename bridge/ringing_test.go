package bridge

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bot/rtc"
	"multifactorymodel.org/ewindow/bridge/kiosk"
)

// ringing begins to ring two people.
func newRinging(t *testing.T, shutter directory.Shutter) *bench {
	b := newBench(t)
	b.m.setShutter(b.now, shutter)
	if b.step(0); !b.last.screen.canRing {
		t.Fatal("people can't be rung")
	}
	b.m.startRing(b.now)
	b.step(0)
	b.want(dresden, "", "ringing")
	b.m.rang(b.now, b.m.outgoing.number, "$ring", 2, nil)
	b.step(0)
	return b
}

func TestRingAnswered(t *testing.T) {
	for _, shutter := range []directory.Shutter{directory.Open, directory.Ajar} {
		b := newRinging(t, shutter)
		if s := b.last.screen; !s.camera || s.canRing || s.countUntil != b.now.Add(ringTime) {
			t.Fatalf("screen %+v", s)
		}
		b.step(40 * time.Second)
		b.want(dresden, "", "ringing")
		b.arrive(dresden, memberOf(guest))
		b.want(dresden, "", "opening")
		if b.last.send || b.last.screen.countUntil != b.now.Add(testCountdown) {
			t.Errorf("no countdown: %+v", b.last)
		}
		b.picture(memberOf(guest), true)
		b.step(testCountdown)
		b.want(dresden, "", "visit")
		b.step(time.Hour)
		b.want(dresden, "", "visit")
		b.wantErrands()
	}
}

func TestRingUnanswered(t *testing.T) {
	after := func(b *bench, name, note string) {
		b.Helper()
		b.want("", "", name)
		if b.last.screen.ring != note {
			b.Fatalf("says %q, want %q", b.last.screen.ring, note)
		}
		b.step(ringNoteTime)
		if b.last.screen.ring != "" {
			b.Fatalf("still says %q", b.last.screen.ring)
		}
	}
	t.Run("time over", func(t *testing.T) {
		b := newRinging(t, directory.Ajar)
		b.step(ringTime - time.Millisecond)
		b.want(dresden, "", "ringing")
		b.step(time.Millisecond)
		if !b.last.screen.canRing {
			t.Error("can't be rung again")
		}
		after(b, "ajar", ringNobody)
	})
	t.Run("all decline", func(t *testing.T) {
		b := newRinging(t, directory.Open)
		for _, d := range []struct {
			room  id.RoomID
			user  id.UserID
			event id.EventID
		}{{dresden, guest, "$other"}, {munich, guest, "$ring"}, {dresden, guest, "$ring"}, {dresden, guest, "$ring"}} {
			b.m.ringDecline(b.now, d.room, d.user, d.event)
			b.step(0)
		}
		b.want(dresden, "", "ringing")
		if d := b.last.screen.declined; len(d) != 1 || d[0].user != guest {
			t.Fatalf("declined %+v", d)
		}
		b.m.ringDecline(b.now, dresden, ben, "$ring")
		b.step(0)
		after(b, "alone", ringDeclined)
	})
	t.Run("cancelled", func(t *testing.T) {
		b := newRinging(t, directory.Open)
		b.step(time.Second)
		b.m.endRing(b.now, "")
		b.step(0)
		if b.last.screen.canRing {
			t.Error("people can be rung more than once a minute")
		}
		b.m.startRing(b.now)
		b.step(0)
		after(b, "alone", "")
		b.step(ringPause)
		b.m.startRing(b.now)
		b.step(0)
		b.want(dresden, "", "ringing")
		b.m.setShutter(b.now, directory.Shut)
		b.step(0)
		b.want("", "", "shut")
	})
	t.Run("fails", func(t *testing.T) {
		b := newRinging(t, directory.Open)
		b.m.rang(b.now, b.m.outgoing.number-1, "", 0, errors.New("an old one"))
		b.step(0)
		b.want(dresden, "", "ringing")
		b.m.rang(b.now, b.m.outgoing.number, "", 2, errors.New("no"))
		b.step(0)
		after(b, "alone", ringFailed)
		b.step(ringPause)
		b.m.startRing(b.now)
		b.m.rang(b.now, b.m.outgoing.number, "", 0, nil)
		b.step(0)
		after(b, "alone", ringNoPeople)
		b.step(ringPause)
		b.m.startRing(b.now)
		b.step(0)
		b.m.fail(b.now, dresden) // the call can't be entered
		b.step(0)
		after(b, "alone", ringFailed)
	})
	t.Run("not now", func(t *testing.T) {
		b := newBench(t)
		b.m.setShutter(b.now, directory.Shut)
		b.m.startRing(b.now)
		b.step(0)
		b.want("", "", "shut")
		// Who was not let in does not get in by that, either.
		b = newAjar(t)
		b.calls(guest)
		b.step(knockTime)
		b.want("", "", "ajar")
		b.m.startRing(b.now)
		b.step(0)
		b.want("", "", "ajar")
		b = newBench(t, windowOf(munich, directory.Open, epoch.Add(-time.Hour)))
		b.m.startRing(b.now)
		b.step(0)
		b.want(munich, munich, "opening")
	})
}

// TestRingPeople: who is rung, and when it is over.
func TestRingPeople(t *testing.T) {
	run(t, []directory.Window{windowOf(munich, directory.Shut, time.UnixMilli(1))}, func(w *world) {
		people := []id.UserID{"@us:a", kioskUser(munich), guest, ben}
		result := make(chan error, 1)
		// Set before the first page comes; Run reads them after that only.
		w.bridge.cfg.People = func() []id.UserID { return people }
		w.bridge.cfg.Ring = func(ctx context.Context, room id.RoomID, users []id.UserID) (id.EventID, error) {
			w.note("ring %s %v", room, users)
			select {
			case err := <-result:
				return "$ring", err
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
		w.bridge.HandlePage(kiosk.PageUp{ID: 1, Shutter: "open"})
		w.expect("tell open ", "offer 1 sdp1")
		if s := w.screen(); !s.CanRing || s.Ring != nil {
			t.Fatalf("screen %+v", s)
		}
		w.bridge.HandlePage(kiosk.RingPeople{Start: true})
		w.expect("join !dresden:a", "ring !dresden:a [@anna:elsewhere @ben:elsewhere]")
		result <- nil
		w.bridge.HandleDecline(dresden, ben, "$ring")
		if s := w.screen(); s.Screen != "ringing" || s.Ring == nil || s.Ring.Status != "ringing" ||
			!slices.Equal(s.Ring.Declined, []string{"Name of @ben:elsewhere"}) {
			t.Fatalf("screen %+v, %+v", s, s.Ring)
		}
		w.bridge.HandlePage(kiosk.RingPeople{})
		w.expect("leaving !dresden:a", "left !dresden:a")
		if s := w.screen(); s.Screen != "alone" || s.Ring != nil || s.CanRing {
			t.Fatalf("screen %+v", s)
		}
		pass(ringPause)
		people = people[:2]
		w.bridge.HandlePage(kiosk.RingPeople{Start: true})
		w.expect("join !dresden:a", "leaving !dresden:a", "left !dresden:a")
		if s := w.screen(); s.Screen != "alone" || s.Ring == nil || s.Ring.Status != "no_people" {
			t.Fatalf("screen %+v", s)
		}
		pass(ringPause)
		people = []id.UserID{guest}
		w.bridge.HandlePage(kiosk.RingPeople{Start: true})
		w.expect("join !dresden:a", "ring !dresden:a [@anna:elsewhere]")
		pass(time.Second)
		w.bridge.HandleMembers(dresden, []rtc.Member{memberOf(guest)})
		synctest.Wait()
		if s := w.screen(); s.Screen != "opening" || s.Ring != nil {
			t.Fatalf("screen %+v", s)
		}
	})
}
