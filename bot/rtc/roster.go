package rtc

import (
	"cmp"
	"slices"
	"time"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
)

const (
	maxRooms      = 1000
	maxJoined     = 20_000 // joined users that are remembered, for each room
	maxEntries    = 512    // memberships of one kind, for each room
	maxUserEntry  = 32     // memberships of one kind, for each user in a room
	maxMembers    = 100    // members of a call
	maxClockAhead = time.Hour
)

// roster knows who is in the calls of all rooms. It is pure and owned by one goroutine.
type roster struct {
	self    bot.Device
	rooms   map[id.RoomID]*room
	invalid uint64 // memberships that could not be read
	dropped uint64 // what was left out since a cap was reached
}

// room is what is known of one room.
type room struct {
	joined    map[id.UserID]struct{}
	inside    bool // we are joined
	ours      bool // our account made it
	encrypted bool
	slot      bool // there is a slot event
	open      bool // and it says open
	acl       *acl // nil: all homeservers may be there
	states    map[string]*membership
	stickies  map[stickyKey]*stickyEntry

	dirty   bool
	members []Member  // as last reported
	expiry  time.Time // when the next membership ends by itself, zero for never
}

type stickyKey struct {
	sender id.UserID
	key    string
}

// stickyEntry is the newest sticky event of its key; member is nil when it says that the device has left.
type stickyEntry struct {
	event   id.EventID
	ts      int64
	expires time.Time
	member  *membership
}

func newRoster(self bot.Device) *roster {
	return &roster{self: self, rooms: make(map[id.RoomID]*room)}
}

// room returns a room's record, or nil when there are too many.
func (r *roster) room(name id.RoomID) *room {
	if known := r.rooms[name]; known != nil {
		return known
	}
	if len(r.rooms) >= maxRooms {
		r.dropped++
		return nil
	}
	created := &room{joined: make(map[id.UserID]struct{}), states: make(map[string]*membership), stickies: make(map[stickyKey]*stickyEntry)}
	r.rooms[name] = created
	return created
}

// setMember takes an m.room.member event. Once we are outside ourselves nothing of the room is kept but the last report. Our own invitation
// is no such thing: in the room it is told of, when sync first shows the room, between the state and our joining.
func (r *roster) setMember(name id.RoomID, user id.UserID, to event.Membership) {
	joined := to == event.MembershipJoin
	if user == r.self.User && (to == event.MembershipInvite || to == event.MembershipKnock) {
		return
	}
	if user == r.self.User && !joined {
		if known := r.rooms[name]; known != nil {
			*known = room{members: known.members, dirty: true}
			known.joined, known.states, known.stickies = map[id.UserID]struct{}{}, map[string]*membership{}, map[stickyKey]*stickyEntry{}
		}
		return
	}
	rm := r.room(name)
	if rm == nil {
		return
	}
	if user == r.self.User {
		rm.dirty = rm.dirty || !rm.inside
		rm.inside = true
	}
	_, was := rm.joined[user]
	switch {
	case joined && !was:
		if len(rm.joined) >= maxJoined {
			r.dropped++
			return
		}
		rm.joined[user] = struct{}{}
		rm.dirty = true
	case !joined && was:
		delete(rm.joined, user)
		rm.dirty = true
	}
}

// setEncrypted notes that a room is encrypted. That can't be undone (Matrix specification, m.room.encryption).
func (r *roster) setEncrypted(name id.RoomID) {
	if rm := r.room(name); rm != nil {
		rm.encrypted = true
	}
}

// setCreator takes who made a room.
func (r *roster) setCreator(name id.RoomID, user id.UserID) {
	if rm := r.room(name); rm != nil {
		rm.ours = user == r.self.User
	}
}

// setACL takes the list of homeservers that may be in a room.
func (r *roster) setACL(name id.RoomID, content []byte) {
	if rm := r.room(name); rm != nil {
		rm.acl, rm.dirty = parseACL(content), true
	}
}

// setSlot takes a slot event.
func (r *roster) setSlot(name id.RoomID, content []byte) {
	if rm := r.room(name); rm != nil {
		rm.slot, rm.open, rm.dirty = true, parseSlot(content), true
	}
}

// setState takes a membership that is a state event. It returns what the event says, nil for nothing.
func (r *roster) setState(now time.Time, name id.RoomID, key string, e header, content []byte) *membership {
	rm := r.room(name)
	if rm == nil {
		return nil
	}
	m, err := parseState(e.sender, e.ts, content)
	if err != nil {
		r.invalid++
	}
	old := rm.states[key]
	if m == nil {
		if old != nil {
			delete(rm.states, key)
			rm.dirty = true
		}
		return nil
	}
	m.event, m.key = e.id, key
	if limit := now.Add(maxClockAhead); m.created.After(limit) {
		m.expires = limit.Add(m.expires.Sub(m.created)) // a clock that is far ahead keeps nobody in the call
	}
	if old == nil {
		own := 0
		for _, other := range rm.states {
			if other.user == e.sender {
				own++
			}
		}
		if r.full(len(rm.states), own) {
			return nil
		}
	}
	rm.states[key] = m
	rm.dirty = true
	return m
}

// header is the part of an event that isn't its content.
type header struct {
	id     id.EventID
	sender id.UserID
	ts     int64 // origin_server_ts, ms
}

// full says whether no further entry is taken where there are all, own of them of the same user. It counts that.
func (r *roster) full(all, own int) bool {
	if all < maxEntries && own < maxUserEntry {
		return false
	}
	r.dropped++
	return true
}

// setSticky takes a membership that is a sticky event, of whose life so much is left.
// The newest event of a key counts, whatever the order in which they come (MSC4354).
func (r *roster) setSticky(now time.Time, name id.RoomID, e header, left time.Duration, content []byte) {
	rm := r.room(name)
	if rm == nil {
		return
	}
	m, key, err := parseSticky(e.sender, e.ts, content)
	if err != nil {
		r.invalid++
		return
	}
	entry := &stickyEntry{event: e.id, ts: e.ts, expires: now.Add(left), member: m}
	at := stickyKey{e.sender, key}
	if old := rm.stickies[at]; old != nil && old.expires.After(now) {
		if old.ts > entry.ts || old.ts == entry.ts && old.event >= entry.event {
			return
		}
		if m != nil && old.member != nil && m.id() == old.member.id() && m.memberID == old.member.memberID {
			m.created = old.member.created // sent again before it ends, every hour: nobody has come, and no one has lost a key
		}
	} else {
		own := 0
		for k, other := range rm.stickies {
			if !other.expires.After(now) {
				delete(rm.stickies, k)
			} else if k.sender == e.sender {
				own++
			}
		}
		if r.full(len(rm.stickies), own) {
			return
		}
	}
	if m != nil {
		m.event, m.expires = e.id, entry.expires
	}
	rm.stickies[at] = entry
	rm.dirty = true
}

// change is a room whose foreign members are others than before.
type change struct {
	room    id.RoomID
	members []Member
}

// changes brings all rooms up to now.
func (r *roster) changes(now time.Time) []change {
	var changed []change
	for name, rm := range r.rooms {
		if !rm.dirty && (rm.expiry.IsZero() || now.Before(rm.expiry)) {
			continue
		}
		members, dropped := rm.list(now, r.self)
		r.dropped += uint64(dropped)
		rm.dirty = false
		if !slices.Equal(members, rm.members) {
			rm.members = members
			changed = append(changed, change{name, slices.Clone(members)})
		}
		if !rm.inside && len(rm.states) == 0 && len(rm.stickies) == 0 && len(rm.joined) == 0 {
			delete(r.rooms, name)
		}
	}
	slices.SortFunc(changed, func(a, b change) int { return cmp.Compare(a.room, b.room) })
	return changed
}

// wake is when the next membership ends by itself, zero for never.
func (r *roster) wake() time.Time {
	var at time.Time
	for _, rm := range r.rooms {
		at = earlier(at, rm.expiry)
	}
	return at
}

// list works out the foreign members, oldest first, and sets when that changes by time alone.
func (rm *room) list(now time.Time, self bot.Device) (members []Member, dropped int) {
	rm.expiry = time.Time{}
	newest := make(map[bot.Device]*membership)
	consider := func(m *membership) {
		if !rm.has(m.user) || !rm.inside || !m.expires.After(now) {
			return
		}
		// Our own homeserver lets us do what we do, whatever the list says.
		if server := m.user.Homeserver(); server != self.User.Homeserver() && !rm.acl.permits(server) {
			return
		}
		rm.expiry = earlier(rm.expiry, m.expires)
		// One device is one member; what it sent last counts.
		if old := newest[m.id()]; old == nil || compareMemberships(m, old) > 0 {
			newest[m.id()] = m
		}
	}
	for _, m := range rm.states {
		consider(m)
	}
	if !rm.slot || rm.open {
		for _, entry := range rm.stickies {
			if entry.member != nil {
				consider(entry.member)
			}
		}
	}
	sorted := make([]*membership, 0, len(newest))
	for _, m := range newest {
		sorted = append(sorted, m)
	}
	slices.SortFunc(sorted, compareMemberships)
	for _, m := range sorted {
		if m.id() == self {
			continue
		}
		if len(members) == maxMembers {
			dropped++
			continue
		}
		members = append(members, Member{
			User: m.user, Device: m.device, Identity: m.identity(), Service: serviceOf(m, sorted[0]),
			Created: m.created, Intent: m.intent, Sticky: m.sticky,
		})
	}
	return members, dropped
}

// serviceOf is where m publishes, when oldest is the oldest member of the call, which may be ourselves.
func serviceOf(m, oldest *membership) string {
	switch {
	case m.sticky, m.selection == selectMulti:
		return m.service
	case m.selection == selectOldest:
		return oldest.service
	}
	return ""
}

// compareMemberships orders by age, then by name, so that everybody has the same order.
func compareMemberships(a, b *membership) int {
	return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.user, b.user), cmp.Compare(a.device, b.device), cmp.Compare(a.key, b.key))
}

// own returns the state keys of this device's unexpired memberships in a room that we are in.
func (r *roster) own(now time.Time, name id.RoomID) (keys []string) {
	rm := r.rooms[name]
	if rm == nil || !rm.inside {
		return nil
	}
	for key, m := range rm.states {
		if m.id() == r.self && m.expires.After(now) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// leftBehind returns the state keys of unexpired memberships whose users are not in the room any more, in a room of ours.
func (r *roster) leftBehind(now time.Time, name id.RoomID) (keys []string) {
	return r.keys(name, func(rm *room, m *membership) bool {
		return !rm.has(m.user) && len(rm.joined) < maxJoined && m.expires.After(now)
	})
}

// keysOf returns the state keys of a device's memberships, in a room of ours.
func (r *roster) keysOf(name id.RoomID, device bot.Device) []string {
	return r.keys(name, func(_ *room, m *membership) bool { return m.id() == device })
}

// keys returns those state keys in a room of ours whose membership matches.
func (r *roster) keys(name id.RoomID, match func(*room, *membership) bool) (keys []string) {
	rm := r.rooms[name]
	if rm == nil || !rm.inside || !rm.ours {
		return nil
	}
	for key, m := range rm.states {
		if match(rm, m) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// inside says whether we are joined to a room.
func (r *roster) inside(name id.RoomID) bool {
	rm := r.rooms[name]
	return rm != nil && rm.inside
}

// has says whether a user is joined.
func (rm *room) has(user id.UserID) bool {
	_, ok := rm.joined[user]
	return ok
}

// earlier is the first of two times, of which zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
