package window

import (
	"maps"
	"slices"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
)

// StaleAfter is how long a participant may be missing at the SFU while their membership says that they are in the call. After that they
// count as gone. Joining takes a while, and so does coming back after an outage.
const StaleAfter = 20 * time.Second

// keepTime is how long a window stays in a visit without a membership. It sends another one as soon as it sees that it has none.
const keepTime = 10 * time.Second

// memberships are the members of the rooms' calls. A member is stale when the membership still says that the device is in the call, but
// the device is not at the SFU. That happens when a program ends without removing its membership, and the homeserver has no delayed
// events (MSC4140), or did not accept them. Such a membership may last for hours.
type memberships struct {
	listed  map[id.RoomID][]Member // as Matrix has them, stale ones included
	present map[id.RoomID][]Member // without the stale ones, with the kept ones
	stale   map[membership]time.Time
	kept    map[id.RoomID][]kept
}

// kept is a window that stays in the visit although it has no membership any more. until is zero until advanceKept has seen it.
type kept struct {
	Member
	until time.Time
}

// membership names a member of a call. Together with the time when it was created it names one membership event.
type membership struct {
	room     id.RoomID
	identity string
}

func newMemberships() memberships {
	return memberships{
		listed: make(map[id.RoomID][]Member), present: make(map[id.RoomID][]Member), stale: make(map[membership]time.Time),
		kept: make(map[id.RoomID][]kept),
	}
}

// set sets the members of a room's call. Those who are not among them any more, but among ended, are kept until advanceKept has decided.
func (m *memberships) set(room id.RoomID, members []Member, ended []Device) {
	list := m.kept[room]
	for _, member := range m.listed[room] {
		list = append(list, kept{Member: member})
	}
	m.kept[room] = slices.DeleteFunc(list, func(k kept) bool {
		return !slices.Contains(ended, Device{k.User, k.Device}) || m.isStale(room, k.Member) ||
			slices.ContainsFunc(members, func(o Member) bool { return o.Identity == k.Identity })
	})
	m.listed[room] = slices.Clone(members)
	m.update(room)
}

// in are the members of a room's call, without stale ones.
func (m *memberships) in(room id.RoomID) []Member { return m.present[room] }

// find finds a member of a room's call, stale ones included.
func (m *memberships) find(room id.RoomID, identity string) (Member, bool) {
	for _, member := range m.listed[room] {
		if member.Identity == identity {
			return member, true
		}
	}
	return Member{}, false
}

// setStale marks a member as stale, until it comes back or makes another membership.
func (m *memberships) setStale(room id.RoomID, member Member) {
	m.stale[membership{room, member.Identity}] = member.Created
	m.update(room)
}

// setBack marks a member as present again.
func (m *memberships) setBack(room id.RoomID, identity string) {
	delete(m.stale, membership{room, identity})
	m.update(room)
}

// update works out who is present in a room's call. Somebody who comes again with another membership is not stale.
func (m *memberships) update(room id.RoomID) {
	listed := m.listed[room]
	for s, created := range m.stale {
		if s.room == room && !slices.ContainsFunc(listed, func(o Member) bool { return o.Identity == s.identity && o.Created.Equal(created) }) {
			delete(m.stale, s)
		}
	}
	m.present[room] = slices.DeleteFunc(slices.Clone(listed), func(o Member) bool { return m.isStale(room, o) })
	for i, k := range m.kept[room] {
		m.present[room] = slices.Insert(m.present[room], i, k.Member)
	}
	if len(m.kept[room]) == 0 {
		delete(m.kept, room)
	}
	if len(listed) == 0 {
		delete(m.listed, room)
	}
	if len(m.present[room]) == 0 {
		delete(m.present, room)
	}
}

func (m *memberships) isStale(room id.RoomID, member Member) bool {
	_, stale := m.stale[membership{room, member.Identity}]
	return stale
}

// staleIn are the stale members of a room's call.
func (m *memberships) staleIn(room id.RoomID) (list []Member) {
	for _, member := range m.listed[room] {
		if m.isStale(room, member) {
			list = append(list, member)
		}
	}
	return list
}

// absences are a visit's members whose participant is missing at its SFU, by identity.
type absences map[string]absence

// absence is since when a member has been missing. created names the membership: a new membership begins a new absence.
type absence struct{ since, created time.Time }

// expire returns the members who were absent for too long, and forgets their absences. It also forgets the absence of somebody who has no
// membership any more: a device that leaves a call often leaves the SFU before its membership ends. With a new membership, an absence begins
// anew.
func (a absences) expire(now time.Time, room id.RoomID, members *memberships) (gone []Member) {
	for _, identity := range slices.Sorted(maps.Keys(a)) {
		member, ok := members.find(room, identity)
		switch {
		case !ok:
			delete(a, identity)
		case !member.Created.Equal(a[identity].created):
			a[identity] = absence{now, member.Created}
		case now.Sub(a[identity].since) >= StaleAfter:
			delete(a, identity)
			gone = append(gone, member)
		}
	}
	return gone
}

// advanceStale finds the stale members of the visit's call.
func (r *Rules) advanceStale(now time.Time) {
	v := r.visit
	if v == nil || !r.usable(now) {
		return
	}
	for _, member := range v.absent.expire(now, v.room, &r.members) {
		if r.windows.kiosks[member.User] {
			continue // a window comes back to its call by itself, even after a long time
		}
		r.members.setStale(v.room, member)
		if v.room == r.own {
			r.outbox.remove(member) // so that others do not see the member, either
		}
	}
}

// advanceKept decides which windows stay in the visit although they have no membership. When a window shuts, its membership ends in the same way as
// when its homeserver has not heard of it for a while. But then it also says that it is shut, and leaves the SFU. So a window stays while it says
// that it is open and its picture flows, at most for keepTime.
func (r *Rules) advanceKept(now time.Time) {
	for room, list := range r.members.kept {
		r.members.kept[room] = slices.DeleteFunc(list, func(k kept) bool {
			w, ok := r.windows.of(k.User)
			return !ok || w.Shutter == directory.Shut || r.visit == nil || r.visit.room != room || !r.visit.shows(k.Identity) ||
				!k.until.IsZero() && !now.Before(k.until)
		})
		for i, k := range r.members.kept[room] {
			if k.until.IsZero() {
				r.members.kept[room][i].until = now.Add(keepTime)
			}
		}
		r.members.update(room)
	}
}

// RemoteAbsent reports that a member's participant is missing at its SFU.
func (r *Rules) RemoteAbsent(now time.Time, visit uint64, identity string) {
	if v := r.visitNumber(visit); v != nil {
		member, _ := r.members.find(v.room, identity)
		v.absent[identity] = absence{now, member.Created}
	}
}

// RemoteBack reports that a member's participant is at its SFU again, or that this is not known.
func (r *Rules) RemoteBack(visit uint64, identity string) {
	if v := r.visitNumber(visit); v != nil {
		delete(v.absent, identity)
		r.members.setBack(v.room, identity)
	}
}
