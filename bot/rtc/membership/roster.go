package membership

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"time"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
)

// Limits on what is kept of other people's events.
const (
	// MaxMembers is the largest number of foreign members of one call.
	MaxMembers    = 100
	maxRooms      = 1000
	maxJoined     = 20_000 // joined users of one room
	maxEntries    = 512    // memberships of one dialect in one room
	maxUserEntry  = 32     // memberships of one dialect, of one user in one room
	maxDevices    = 3      // of one user in a call
	maxClockAhead = time.Hour
)

// Roster knows who is in the calls of all rooms. It belongs to one goroutine.
type Roster struct {
	self    bot.Device
	rooms   map[id.RoomID]*room
	invalid uint64 // memberships that could not be read
	dropped uint64 // memberships and rooms over a limit
}

// room is what is known of one room.
type room struct {
	joined    map[id.UserID]struct{}
	inside    bool // we are joined
	ours      bool // our account created it
	encrypted bool
	slot      bool // there is a slot event
	open      bool // and its status is open
	acl       *acl // nil: every homeserver is allowed
	states    map[string]*membership
	stickies  map[stickyKey]*stickyEntry

	dirty   bool
	members []Member  // as last reported
	expiry  time.Time // when the next membership expires; zero: none does
}

// stickyKey names the sticky events that replace each other.
type stickyKey struct {
	sender id.UserID
	key    string
}

// stickyEntry is the newest sticky event of its key. member is nil when the event says that the device has left.
type stickyEntry struct {
	event   id.EventID
	ts      int64
	expires time.Time
	member  *membership
}

// Header is what the roster needs of an event besides its content.
type Header struct {
	Event  id.EventID
	Sender id.UserID
	TS     int64 // origin_server_ts, ms
}

// NewRoster makes an empty roster. self is our own device, which is never reported as a member.
func NewRoster(self bot.Device) *Roster {
	return &Roster{self: self, rooms: make(map[id.RoomID]*room)}
}

// room returns a room's record, or nil when there are too many rooms.
func (r *Roster) room(name id.RoomID) *room {
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

// SetUser sets a user's membership of a room (m.room.member). When we leave a room ourselves, everything about the room is forgotten except
// the members that were last reported.
// An invitation of our own user is ignored: the first sync response of a room that we joined has the room's state first, and then a
// timeline with our invitation and our join.
func (r *Roster) SetUser(name id.RoomID, user id.UserID, to event.Membership) {
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

// SetEncrypted notes that a room is encrypted. That cannot be undone (Matrix specification, m.room.encryption).
func (r *Roster) SetEncrypted(name id.RoomID) {
	if rm := r.room(name); rm != nil {
		rm.encrypted = true
	}
}

// SetCreator notes who created a room.
func (r *Roster) SetCreator(name id.RoomID, user id.UserID) {
	if rm := r.room(name); rm != nil {
		rm.ours = user == r.self.User
	}
}

// SetServerACL sets which homeservers may be in a room (m.room.server_acl).
func (r *Roster) SetServerACL(name id.RoomID, content []byte) {
	if rm := r.room(name); rm != nil {
		rm.acl, rm.dirty = parseACL(content), true
	}
}

// SetSlot sets a room's slot from a slot event (MSC4143).
func (r *Roster) SetSlot(name id.RoomID, content []byte) {
	if rm := r.room(name); rm != nil {
		rm.slot, rm.open, rm.dirty = true, parseSlot(content), true
	}
}

// SetState sets a membership from a state event. own is true if the event says that our own device is in the call.
func (r *Roster) SetState(now time.Time, name id.RoomID, key string, e Header, content []byte) (own bool) {
	rm := r.room(name)
	if rm == nil {
		return false
	}
	m, err := parseState(e.Sender, e.TS, content)
	if err != nil {
		r.invalid++
	}
	old := rm.states[key]
	if m == nil {
		if old != nil {
			delete(rm.states, key)
			rm.dirty = true
		}
		return false
	}
	m.event, m.key = e.Event, key
	if limit := now.Add(maxClockAhead); m.created.After(limit) {
		m.expires = limit.Add(m.expires.Sub(m.created)) // a sender's clock that is far ahead keeps nobody in the call
	}
	if old == nil {
		ofUser := 0
		for _, other := range rm.states {
			if other.user == e.Sender {
				ofUser++
			}
		}
		if r.full(len(rm.states), ofUser) {
			return false
		}
	}
	rm.states[key] = m
	rm.dirty = true
	return m.id() == r.self
}

// full says whether a room has too many memberships of one dialect for another one: all in the room, or ofUser of the same user. If so, it
// counts the new one as dropped.
func (r *Roster) full(all, ofUser int) bool {
	if all < maxEntries && ofUser < maxUserEntry {
		return false
	}
	r.dropped++
	return true
}

// SetSticky sets a membership from a sticky event. The event stays sticky for the time left. Of the events with the same key the newest counts,
// in whatever order they arrive (MSC4354).
func (r *Roster) SetSticky(now time.Time, name id.RoomID, e Header, left time.Duration, content []byte) {
	rm := r.room(name)
	if rm == nil {
		return
	}
	m, key, err := parseSticky(e.Sender, e.TS, content)
	if err != nil {
		r.invalid++
		return
	}
	entry := &stickyEntry{event: e.Event, ts: e.TS, expires: now.Add(left), member: m}
	at := stickyKey{e.Sender, key}
	if old := rm.stickies[at]; old != nil && old.expires.After(now) {
		if old.ts > entry.ts || old.ts == entry.ts && old.event >= entry.event {
			return
		}
		if m != nil && old.member != nil && m.id() == old.member.id() && m.memberID == old.member.memberID {
			// Clients send it again every hour, before it expires. The device has been there all the time and has our key.
			m.created = old.member.created
		}
	} else {
		ofUser := 0
		for k, other := range rm.stickies {
			if !other.expires.After(now) {
				delete(rm.stickies, k)
			} else if k.sender == e.Sender {
				ofUser++
			}
		}
		if r.full(len(rm.stickies), ofUser) {
			return
		}
	}
	if m != nil {
		m.event, m.expires = e.Event, entry.expires
	}
	rm.stickies[at] = entry
	rm.dirty = true
}

// Change is a room whose foreign members have changed.
type Change struct {
	Room    id.RoomID
	Members []Member // oldest first
}

// Changes brings all rooms up to now and returns those that have changed.
func (r *Roster) Changes(now time.Time) []Change {
	var changed []Change
	for name, rm := range r.rooms {
		if !rm.dirty && (rm.expiry.IsZero() || now.Before(rm.expiry)) {
			continue
		}
		members, dropped := rm.list(now, r.self)
		r.dropped += uint64(dropped)
		rm.dirty = false
		if !slices.Equal(members, rm.members) {
			rm.members = members
			changed = append(changed, Change{name, slices.Clone(members)})
		}
		if !rm.inside && len(rm.states) == 0 && len(rm.stickies) == 0 && len(rm.joined) == 0 {
			delete(r.rooms, name)
		}
	}
	slices.SortFunc(changed, func(a, b Change) int { return cmp.Compare(a.Room, b.Room) })
	return changed
}

// Wake is when the next membership expires. It is zero when none does.
func (r *Roster) Wake() time.Time {
	var at time.Time
	for _, rm := range r.rooms {
		at = earlier(at, rm.expiry)
	}
	return at
}

// list works out the foreign members, oldest first, and sets when one of them expires.
func (rm *room) list(now time.Time, self bot.Device) (members []Member, dropped int) {
	rm.expiry = time.Time{}
	newest := make(map[bot.Device]*membership)
	consider := func(m *membership) {
		if !rm.has(m.user) || !rm.inside || !m.expires.After(now) {
			return
		}
		// Our own homeserver accepts our events and those of its other users, whatever the ACL says.
		if server := m.user.Homeserver(); server != self.User.Homeserver() && !rm.acl.permits(server) {
			return
		}
		rm.expiry = earlier(rm.expiry, m.expires)
		// A device that sends both dialects is one member. The membership that it sent last counts.
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
	sorted := slices.SortedFunc(maps.Values(newest), compareMemberships)
	devices := make(map[id.UserID]int)
	for _, m := range sorted {
		if m.id() != self {
			devices[m.user]++
		}
	}
	for _, m := range sorted {
		if m.id() == self {
			continue
		}
		// Of a user's devices the newest count, because older ones may be left over from crashes. Devices can be invented: without this limit four
		// users could take all places.
		if devices[m.user]--; devices[m.user] >= maxDevices || len(members) == MaxMembers {
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

// Rooms returns the ids of all rooms in the roster.
func (r *Roster) Rooms() iter.Seq[id.RoomID] { return maps.Keys(r.rooms) }

// Members returns a room's foreign members as Changes reported them last. The caller must not change them.
func (r *Roster) Members(name id.RoomID) []Member {
	if rm := r.rooms[name]; rm != nil {
		return rm.members
	}
	return nil
}

// IsMember says whether a device is among a room's foreign members.
func (r *Roster) IsMember(name id.RoomID, device bot.Device) bool {
	return slices.ContainsFunc(r.Members(name), func(m Member) bool { return m.BotDevice() == device })
}

// Inside says whether we are joined to a room.
func (r *Roster) Inside(name id.RoomID) bool {
	rm := r.rooms[name]
	return rm != nil && rm.inside
}

// HasJoined says whether a user is joined to a room, even if we are not.
func (r *Roster) HasJoined(name id.RoomID, user id.UserID) bool {
	rm := r.rooms[name]
	return rm != nil && rm.has(user)
}

// Encrypted says whether sync has shown that a room is encrypted.
func (r *Roster) Encrypted(name id.RoomID) bool {
	rm := r.rooms[name]
	return rm != nil && rm.encrypted
}

// Counts returns how many memberships could not be read, and how many memberships and rooms were over a limit.
func (r *Roster) Counts() (invalid, dropped uint64) { return r.invalid, r.dropped }

// has says whether a user is joined.
func (rm *room) has(user id.UserID) bool {
	_, ok := rm.joined[user]
	return ok
}

// earlier returns the first of two times. A zero time means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
