package window

import (
	"errors"
	"testing"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
)

// newRinging is a window whose two people are being rung.
func newRinging(t *testing.T, shutter directory.Shutter) *bench {
	b := newBench(t)
	b.m.SetShutter(b.now, shutter)
	if b.step(0); !b.last.View.CanRing {
		t.Fatal("people can't be rung")
	}
	b.m.StartRinging(b.now)
	b.step(0)
	b.want(dresden, "", "ringing")
	b.m.Rang(b.now, b.m.ringing.now.number, "$ring", 2, nil)
	b.step(0)
	return b
}

func TestRingAnswered(t *testing.T) {
	for _, shutter := range []directory.Shutter{directory.Open, directory.Ajar} {
		b := newRinging(t, shutter)
		if s := b.last.View; !s.Camera || s.CanRing || s.CountUntil != b.now.Add(RingTime) {
			t.Fatalf("screen %+v", s)
		}
		b.step(40 * time.Second)
		b.want(dresden, "", "ringing")
		b.arrive(dresden, memberOf(guest))
		b.want(dresden, "", "opening")
		if b.last.Send || b.last.View.CountUntil != b.now.Add(testCountdown) {
			t.Errorf("no countdown: %+v", b.last)
		}
		b.picture(memberOf(guest), true)
		b.step(testCountdown)
		b.want(dresden, "", "visit")
		b.step(time.Hour)
		b.want(dresden, "", "visit")
		b.wantMessages()
	}
}

func TestRingUnanswered(t *testing.T) {
	after := func(b *bench, name Screen, note RingStatus) {
		b.Helper()
		b.want("", "", name)
		if b.last.View.Ring != note {
			b.Fatalf("says %q, want %q", b.last.View.Ring, note)
		}
		b.step(ringNoteTime)
		if b.last.View.Ring != "" {
			b.Fatalf("still says %q", b.last.View.Ring)
		}
	}
	t.Run("time over", func(t *testing.T) {
		b := newRinging(t, directory.Ajar)
		b.step(RingTime - time.Millisecond)
		b.want(dresden, "", "ringing")
		b.step(time.Millisecond)
		if !b.last.View.CanRing {
			t.Error("can't be rung again")
		}
		after(b, "ajar", RingNobody)
	})
	t.Run("all decline", func(t *testing.T) {
		b := newRinging(t, directory.Open)
		for _, d := range []struct {
			room  id.RoomID
			user  id.UserID
			event id.EventID
		}{{dresden, guest, "$other"}, {munich, guest, "$ring"}, {dresden, guest, "$ring"}, {dresden, guest, "$ring"}} {
			b.m.RingDecline(d.room, d.user, d.event)
			b.step(0)
		}
		b.want(dresden, "", "ringing")
		if d := b.last.View.Declined; len(d) != 1 || d[0].User != guest {
			t.Fatalf("declined %+v", d)
		}
		b.m.RingDecline(dresden, ben, "$ring")
		b.step(0)
		after(b, "alone", RingDeclined)
	})
	t.Run("cancelled", func(t *testing.T) {
		b := newRinging(t, directory.Open)
		b.step(time.Second)
		b.m.StopRinging(b.now)
		b.step(0)
		if b.last.View.CanRing {
			t.Error("people can be rung more than once a minute")
		}
		b.m.StartRinging(b.now)
		b.step(0)
		after(b, "alone", "")
		b.step(ringBackoff)
		b.m.StartRinging(b.now)
		b.step(0)
		b.want(dresden, "", "ringing")
		b.m.SetShutter(b.now, directory.Shut)
		b.step(0)
		b.want("", "", "shut")
	})
	t.Run("fails", func(t *testing.T) {
		b := newRinging(t, directory.Open)
		b.m.Rang(b.now, b.m.ringing.now.number-1, "", 0, errors.New("an old one"))
		b.step(0)
		b.want(dresden, "", "ringing")
		b.m.Rang(b.now, b.m.ringing.now.number, "", 2, errors.New("no"))
		b.step(0)
		after(b, "alone", RingFailed)
		b.step(ringBackoff)
		b.m.StartRinging(b.now)
		b.m.Rang(b.now, b.m.ringing.now.number, "", 0, nil)
		b.step(0)
		after(b, "alone", RingNoPeople)
		b.step(ringBackoff)
		b.m.StartRinging(b.now)
		b.step(0)
		b.m.CallFailed(b.now, dresden) // the call can't be entered
		b.step(0)
		after(b, "alone", RingFailed)
	})
	t.Run("not now", func(t *testing.T) {
		b := newBench(t)
		b.m.SetShutter(b.now, directory.Shut)
		b.m.StartRinging(b.now)
		b.step(0)
		b.want("", "", "shut")
		// While somebody is in the call who was not let in, ringing does not begin.
		b = newAjar(t)
		b.calls(guest)
		b.step(knockTime)
		b.want("", "", "ajar")
		b.m.StartRinging(b.now)
		b.step(0)
		b.want("", "", "ajar")
		b = newBench(t, windowOf(munich, directory.Open, epoch.Add(-time.Hour)))
		b.m.StartRinging(b.now)
		b.step(0)
		b.want(munich, munich, "opening")
	})
}
