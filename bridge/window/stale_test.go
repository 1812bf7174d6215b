package window

import (
	"slices"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/bot/directory"
)

func (b *bench) names() (names []string) {
	for _, p := range b.last.View.Guests {
		names = append(names, string(p.User))
	}
	if p := b.last.View.Peer; p != nil {
		names = append(names, string(p.User)+string(p.Window))
	}
	slices.Sort(names)
	return names
}

// TestStaleMember: a guest whose membership says that they are in the call, but who is missing at the SFU, is not there. Only a new membership
// counts again.
func TestStaleMember(t *testing.T) {
	b := newBench(t)
	member := memberOf(guest)
	member.Created = epoch
	b.m.SetMembers(dresden, []Member{member})
	b.step(0)
	b.want(dresden, "", "opening")
	b.m.RemoteAbsent(b.now, b.m.visit.number, member.Identity)
	b.step(StaleAfter - time.Millisecond)
	if got := b.names(); !slices.Equal(got, []string{string(guest)}) {
		t.Errorf("%q are named while they may still come", got)
	}
	b.step(time.Millisecond)
	if got := b.names(); len(got) > 0 {
		t.Errorf("%q are named, but not there", got)
	}
	if !slices.Equal(b.last.Members, []Member{member}) {
		t.Errorf("nobody would see the stale member come back: %v", b.last.Members)
	}
	b.step(emptyGrace)
	b.want("", "", "alone")
	b.m.SetMembers(dresden, []Member{member})
	b.step(time.Hour)
	b.want("", "", "alone")
	member.Created = epoch.Add(time.Hour)
	b.m.SetMembers(dresden, []Member{member})
	b.step(0)
	b.want(dresden, "", "opening")
	if len(b.m.members.stale) != 0 {
		t.Errorf("stale members are kept: %v", b.m.members.stale)
	}
	b.m.SetMembers(dresden, nil)
	b.step(emptyGrace)
	if len(b.m.members.present)+len(b.m.members.listed) != 0 {
		t.Errorf("rooms are kept: %v %v", b.m.members.present, b.m.members.listed)
	}
}

// TestStaleMemberComesBack: a stale member who is at the SFU again counts again. A window never becomes stale.
func TestStaleMemberComesBack(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(time.Hour)))
	member, other := memberOf(guest), kioskIn(munich)
	b.arrive(dresden, other, member)
	b.picture(other, true)
	call := b.m.visit
	for _, m := range []Member{member, other} {
		b.m.RemoteAbsent(b.now, call.number, m.Identity)
	}
	b.step(StaleAfter)
	b.want(dresden, munich, "visit")
	if got := b.names(); !slices.Equal(got, []string{string(munich)}) {
		t.Errorf("%q are named", got)
	}
	b.m.RemoteBack(call.number, member.Identity)
	b.step(0)
	if got := b.names(); !slices.Equal(got, []string{string(munich), string(guest)}) {
		t.Errorf("%q are named after the stale member came back", got)
	}
	// An outage of the SFU says nothing about anybody.
	b.m.RemoteAbsent(b.now, call.number, member.Identity)
	b.step(StaleAfter - time.Second)
	b.m.RemoteBack(call.number, member.Identity)
	b.step(StaleAfter)
	if got := b.names(); !slices.Equal(got, []string{string(munich), string(guest)}) {
		t.Errorf("%q are named after the outage", got)
	}
}

// TestStaleMemberComesAgain: Element leaves the SFU a moment before the call. A guest who does that and comes again has as much time as a new one.
func TestStaleMemberComesAgain(t *testing.T) {
	for _, noticed := range []bool{true, false} { // whether we saw that the membership ended in between
		b := newBench(t, windowOf(munich, directory.Open, epoch.Add(time.Hour)))
		other, member := kioskIn(munich), memberOf(guest)
		member.Created = b.now
		b.arrive(dresden, other, member)
		b.picture(other, true)
		b.m.RemoteAbsent(b.now, b.m.visit.number, member.Identity)
		b.step(StaleAfter / 4)
		if noticed {
			b.m.SetMembers(dresden, []Member{other})
			b.step(StaleAfter / 4)
		}
		member.Created = b.now
		b.m.SetMembers(dresden, []Member{other, member})
		b.step(StaleAfter - time.Second)
		if got := b.names(); !slices.Equal(got, []string{string(munich), string(guest)}) {
			t.Errorf("%q are named after somebody came again, noticed %t", got, noticed)
		}
	}
}
