package window

import (
	"fmt"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bridge/window/strangers"
)

// stranger checks whether the screen says that somebody unknown is there.
func (b *bench) stranger(want bool) {
	b.Helper()
	if b.last.View.Stranger != want {
		b.Errorf("somebody unknown: %t, want %t; %q", b.last.View.Stranger, want, b.last.Strangers)
	}
}

// visited is a bench in a visit with a guest who is seen.
func visited(t *testing.T) (b *bench, visit uint64) {
	b = newBench(t, windowOf(munich, directory.Open, epoch.Add(time.Hour)))
	b.arrive(dresden, memberOf(guest))
	b.picture(memberOf(guest), true)
	b.step(testCountdown)
	b.want(dresden, "", "visit")
	b.m.ParticipantArrived(b.now, b.m.visit.number, memberOf(guest).Identity)
	return b, b.m.visit.number
}

// TestStranger: somebody at the SFU without a membership is shown after a while, until they leave or have one.
func TestStranger(t *testing.T) {
	b, visit := visited(t)
	b.m.ParticipantArrived(b.now, visit, "unknown")
	b.step(StrangerGrace - time.Millisecond)
	b.stranger(false)
	b.step(time.Millisecond)
	b.stranger(true)
	if !b.last.Send || len(b.last.Named) != 1 {
		t.Errorf("a stranger ends what others see: %+v", b.last)
	}
	b.step(time.Hour)
	b.stranger(true)
	b.m.ParticipantDeparted(b.now, visit, "unknown")
	b.step(strangers.Linger)
	b.stranger(false)
	if n := len(b.m.visit.participants); n != 1 {
		t.Errorf("%d participants are kept", n)
	}

	// The membership comes some seconds later, and ends some seconds earlier.
	late := memberOf(ben)
	b.m.ParticipantArrived(b.now, visit, late.Identity)
	b.step(StrangerGrace - time.Second)
	b.m.SetMembers(dresden, []Member{memberOf(guest), late})
	b.step(time.Hour)
	b.stranger(false)
	b.m.SetMembers(dresden, []Member{memberOf(guest)})
	b.step(StrangerGrace - time.Second)
	b.stranger(false)
	b.m.ParticipantDeparted(b.now, visit, late.Identity)
	b.step(time.Hour)
	b.stranger(false)

	// Somebody who stays at the SFU after the membership ended is unknown.
	b.m.ParticipantArrived(b.now, visit, late.Identity)
	b.m.SetMembers(dresden, []Member{memberOf(guest), late})
	b.step(time.Hour)
	b.m.SetMembers(dresden, []Member{memberOf(guest)})
	b.step(StrangerGrace)
	b.stranger(true)

	// It is said of one visit only.
	b.m.SetShutter(b.now, directory.Shut)
	b.step(time.Second)
	b.stranger(false)
}

// TestStrangerComesAndGoes: names that change all the time hide nobody.
func TestStrangerComesAndGoes(t *testing.T) {
	b, visit := visited(t)
	for i := range 20 {
		name := fmt.Sprint("unknown", i)
		b.m.ParticipantArrived(b.now, visit, name)
		b.step(StrangerGrace / 2)
		b.m.ParticipantDeparted(b.now, visit, name)
		b.step(StrangerGrace / 4)
		if i > 1 {
			b.stranger(true)
		}
	}
	for i := range 3 * strangers.MaxParticipants {
		name := fmt.Sprint("more", i)
		b.m.ParticipantArrived(b.now, visit, name)
		b.m.ParticipantDeparted(b.now, visit, name)
	}
	b.m.ParticipantArrived(b.now, visit, "last")
	if n := len(b.m.visit.participants); n > strangers.MaxParticipants {
		t.Errorf("%d participants are kept", n)
	}
	b.step(time.Hour)
	b.stranger(true)
}

// TestStrangerExplained: a member's two names at SFUs are explained as long as the screen names or counts the member, and no longer.
func TestStrangerExplained(t *testing.T) {
	b, visit := visited(t)
	member := memberOf(ben)
	member.Alias, member.Created = "hash of ben", b.now
	b.m.SetMembers(dresden, []Member{memberOf(guest), member})
	b.m.ParticipantArrived(b.now, visit, member.Alias)
	b.step(time.Hour)
	b.stranger(false)
	// The member is taken off the screen, and the other name stays at the SFU.
	b.m.RemoteAbsent(b.now, visit, member.Identity)
	b.step(StaleAfter + StrangerGrace)
	b.stranger(true)
	// The member comes to the SFU: both names are explained again.
	b.m.ParticipantArrived(b.now, visit, member.Identity)
	b.step(0)
	b.stranger(false)
	if len(b.last.Named) != 2 {
		t.Errorf("named: %v", b.last.Named)
	}

	// A kiosk that was removed from the network is not on the screen.
	b.m.SetMembers(dresden, []Member{memberOf(guest), kioskIn(munich)})
	b.m.ParticipantArrived(b.now, visit, kioskIn(munich).Identity)
	b.m.ParticipantDeparted(b.now, visit, member.Identity)
	b.m.ParticipantDeparted(b.now, visit, member.Alias)
	b.step(time.Minute)
	b.stranger(false)
	b.m.SetDirectory(dresden, true, nil)
	b.step(StrangerGrace)
	b.stranger(true)

	// Nor are participants whom nobody can tell apart anybody's.
	b.m.ParticipantDeparted(b.now, visit, kioskIn(munich).Identity)
	b.step(time.Minute)
	b.stranger(false)
	b.m.ParticipantArrived(b.now, visit, "")
	b.step(StrangerGrace)
	b.stranger(true)
}
