package window

import (
	"testing"
	"time"

	"multifactorymodel.org/ewindow/bot/directory"
)

// inVisit is Dresden's window in a visit with Munich's, which is seen.
func inVisit(t *testing.T) *bench {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(-time.Hour)))
	b.arrive(munich, kioskIn(munich))
	b.step(testCountdown)
	b.picture(kioskIn(munich), true)
	b.want(munich, munich, "visit")
	return b
}

// away ends Munich's membership in its own name.
func (b *bench) away() {
	b.m.SetMembers(munich, nil, Device{kioskUser(munich), kioskIn(munich).Device})
	b.step(0)
}

func (b *bench) wantKept(kept bool) {
	b.Helper()
	if len(b.last.Members) == 1 != kept || len(b.last.Named) == 1 != kept || b.last.Send != kept || (b.last.View.Screen == "visit") != kept {
		b.Fatalf("members %v, named %v, sends %t, screen %q; want it kept: %t", b.last.Members, b.last.Named, b.last.Send, b.last.View.Screen, kept)
	}
}

// TestKept: a homeserver that has not heard of a window for a while ends its membership. The window stays in the visit while its picture flows, and
// sends another membership meanwhile.
func TestKept(t *testing.T) {
	t.Run("comes again", func(t *testing.T) {
		b := inVisit(t)
		for range 3 {
			b.away()
			b.wantKept(true)
			b.step(keepTime - time.Millisecond)
			b.wantKept(true)
			again := kioskIn(munich)
			again.Created = b.now
			b.m.SetMembers(munich, []Member{again})
			b.step(time.Minute)
			b.wantKept(true)
			if b.last.Visit != 1 || b.last.Members[0].Created != again.Created || b.last.Unseen != 0 {
				t.Errorf("visit %d with %v, unseen %d", b.last.Visit, b.last.Members, b.last.Unseen)
			}
		}
	})
	t.Run("does not come again", func(t *testing.T) {
		b := inVisit(t)
		b.away()
		b.step(keepTime)
		b.wantKept(false)
		b.m.SetMembers(munich, nil, Device{kioskUser(munich), kioskIn(munich).Device}) // said once more
		b.step(0)
		b.wantKept(false)
	})
	t.Run("its picture ends", func(t *testing.T) {
		b := inVisit(t)
		b.away()
		b.picture(kioskIn(munich), false)
		b.wantKept(false)
		b.picture(kioskIn(munich), true) // whoever that is
		b.wantKept(false)
	})
	t.Run("shuts after that", func(t *testing.T) {
		b := inVisit(t)
		b.away()
		b.m.SetDirectory(dresden, true, []directory.Window{windowOf(munich, directory.Shut, b.now)})
		b.step(0)
		b.wantKept(false)
	})
	t.Run("shut before that", func(t *testing.T) {
		b := inVisit(t)
		b.m.SetDirectory(dresden, true, []directory.Window{windowOf(munich, directory.Shut, b.now)})
		b.away()
		b.wantKept(false)
	})
	t.Run("is thrown out meanwhile", func(t *testing.T) {
		b := inVisit(t)
		b.away()
		b.m.SetMembers(munich, nil)
		b.step(0)
		b.wantKept(false)
	})
	t.Run("is removed from the network", func(t *testing.T) {
		b := inVisit(t)
		b.away()
		b.m.SetDirectory(dresden, true, nil)
		b.step(0)
		b.wantKept(false)
	})
	t.Run("was not seen", func(t *testing.T) {
		b := inVisit(t)
		b.picture(kioskIn(munich), false)
		b.away()
		b.wantKept(false)
	})
	t.Run("somebody else ended it", func(t *testing.T) {
		b := inVisit(t)
		b.m.SetMembers(munich, nil)
		b.step(0)
		b.wantKept(false)
	})
	t.Run("a guest", func(t *testing.T) {
		b := newBench(t)
		b.arrive(dresden, memberOf(guest))
		b.step(testCountdown)
		b.picture(memberOf(guest), true)
		b.m.SetMembers(dresden, nil, Device{guest, memberOf(guest).Device})
		b.step(0)
		b.wantKept(false)
	})
}

// TestTriedAtOnce: a window that was seen and comes back into the call is tried at once, but only once for each time that it was seen.
func TestTriedAtOnce(t *testing.T) {
	b := inVisit(t)
	again := func() (sends bool) {
		b.m.SetMembers(munich, nil)
		b.step(time.Second)
		b.arrive(munich, kioskIn(munich))
		sends = b.last.Send
		b.step(trialLength)
		if b.last.Send {
			t.Error("a trial does not end")
		}
		return sends
	}
	if !again() {
		t.Error("it is not tried at once")
	}
	if again() {
		t.Error("its coming again makes trials more frequent")
	}
	b.picture(kioskIn(munich), true)
	if !again() {
		t.Error("it is not tried at once after it was seen again")
	}
}
