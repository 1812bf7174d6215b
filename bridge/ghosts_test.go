package bridge

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bot/rtc"
	"multifactorymodel.org/ewindow/callmedia"
)

func (b *bench) names() (names []string) {
	for _, p := range b.last.screen.guests {
		names = append(names, string(p.user))
	}
	if p := b.last.screen.peer; p != nil {
		names = append(names, string(p.user)+string(p.window))
	}
	slices.Sort(names)
	return names
}

// TestGhost: a guest whose membership stands, but who is not in the SFU's room, is not there. It needs a new membership to count again.
func TestGhost(t *testing.T) {
	b := newBench(t)
	member := memberOf(guest)
	member.Created = epoch
	b.m.setMembers(dresden, []rtc.Member{member})
	b.step(0)
	b.want(dresden, "", "opening")
	b.m.gone(b.now, b.m.call, member.Identity)
	b.step(awayLimit - time.Millisecond)
	if got := b.names(); !slices.Equal(got, []string{string(guest)}) {
		t.Errorf("%q are named while they may still come", got)
	}
	b.step(time.Millisecond)
	if got := b.names(); len(got) > 0 {
		t.Errorf("%q are named, but not there", got)
	}
	if !slices.Equal(b.last.members, []rtc.Member{member}) {
		t.Errorf("nobody would see the ghost come back: %v", b.last.members)
	}
	b.step(emptyGrace)
	b.want("", "", "alone")
	b.m.setMembers(dresden, []rtc.Member{member})
	b.step(time.Hour)
	b.want("", "", "alone")
	member.Created = epoch.Add(time.Hour)
	b.m.setMembers(dresden, []rtc.Member{member})
	b.step(0)
	b.want(dresden, "", "opening")
	if len(b.m.ghosts) != 0 {
		t.Errorf("ghosts are kept: %v", b.m.ghosts)
	}
	b.m.setMembers(dresden, nil)
	b.step(emptyGrace)
	if len(b.m.members)+len(b.m.listed) != 0 {
		t.Errorf("rooms are kept: %v %v", b.m.members, b.m.listed)
	}
}

// TestGhostComesBack: who was away for long and is there again counts; a window that is away is never given up for that.
func TestGhostComesBack(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(time.Hour)))
	member, other := memberOf(guest), kioskIn(munich)
	b.arrive(dresden, other, member)
	b.picture(other, true)
	call := b.m.call
	for _, m := range []rtc.Member{member, other} {
		b.m.gone(b.now, call, m.Identity)
	}
	b.step(awayLimit)
	b.want(dresden, munich, "visit")
	if got := b.names(); !slices.Equal(got, []string{string(munich)}) {
		t.Errorf("%q are named", got)
	}
	b.m.back(call, member.Identity)
	b.step(0)
	if got := b.names(); !slices.Equal(got, []string{string(munich), string(guest)}) {
		t.Errorf("%q are named after the ghost came back", got)
	}
	// An outage of the SFU tells nothing of anybody.
	b.m.gone(b.now, call, member.Identity)
	b.step(awayLimit - time.Second)
	b.m.back(call, member.Identity)
	b.step(awayLimit)
	if got := b.names(); !slices.Equal(got, []string{string(munich), string(guest)}) {
		t.Errorf("%q are named after the outage", got)
	}
}

// TestGhostComesAgain: whoever leaves the SFU a moment before the call, as Element does, and is back within the time is there, with all the time
// that a newcomer has.
func TestGhostComesAgain(t *testing.T) {
	for _, noticed := range []bool{true, false} { // that the membership was gone meanwhile
		b := newBench(t, windowOf(munich, directory.Open, epoch.Add(time.Hour)))
		other, member := kioskIn(munich), memberOf(guest)
		member.Created = b.now
		b.arrive(dresden, other, member)
		b.picture(other, true)
		b.m.gone(b.now, b.m.call, member.Identity)
		b.step(awayLimit / 4)
		if noticed {
			b.m.setMembers(dresden, []rtc.Member{other})
			b.step(awayLimit / 4)
		}
		member.Created = b.now
		b.m.setMembers(dresden, []rtc.Member{other, member})
		b.step(awayLimit - time.Second)
		if got := b.names(); !slices.Equal(got, []string{string(munich), string(guest)}) {
			t.Errorf("%q are named after somebody came again, noticed %t", got, noticed)
		}
	}
}

// TestGhostOnScreen: what the media side says of somebody who is away reaches the screen.
func TestGhostOnScreen(t *testing.T) {
	run(t, nil, func(w *world) {
		session := w.guest()
		away := func(kind callmedia.EventKind) {
			session.onEvent(callmedia.SessionEvent{Kind: kind, Identity: memberOf(guest).Identity})
			pass(awayLimit / 2)
		}
		away(callmedia.RemoteAway)
		away(callmedia.RemoteBack)
		away(callmedia.RemoteAway)
		if s := w.screen(); s.Peer == nil && len(s.Guests) == 0 {
			t.Errorf("the guest was given up too early: %+v", s)
		}
		w.logged()
		pass(awayLimit / 2)
		synctest.Wait()
		if got, want := w.logged(), "remove "+string(guest)+" from "+string(dresden); !slices.Contains(got, want) {
			t.Errorf("%q happened, want %q", got, want)
		}
		pass(emptyGrace)
		if s := w.screen(); s.Screen != "alone" {
			t.Errorf("screen %+v", s)
		}
	})
}
