package membership

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/backoff"
	"multifactorymodel.org/ewindow/bot/unstable"
)

// Limits on what is kept of other people's events.
const (
	// MaxMembers is the largest number of foreign members of one call.
	MaxMembers    = 100
	maxRooms      = 1000
	maxJoined     = 20_000 // joined users of one room
	maxEntries    = 512    // memberships of one dialect in one room; windows always have room
	maxUserEntry  = 8      // memberships of one dialect, of one user in one room: the newest ones
	maxDevices    = 3      // of one user in a call
	maxRefused    = 1000   // devices that could not be given a key
	maxClockAhead = time.Hour
)

// Roster knows who is in the calls of all rooms. It belongs to one goroutine.
type Roster struct {
	self    bot.Device
	rooms   map[id.RoomID]*room
	windows map[id.UserID]bool      // their places in calls can't be taken, see SetWindows
	refused map[bot.Device]struct{} // see SetRefused
	invalid uint64                  // memberships that could not be read, or stand under a key that is not their sender's
	dropped uint64                  // memberships and rooms over a limit
}

// room is what is known of one room.
type room struct {
	joined    map[id.UserID]struct{}
	inside    bool      // we are joined
	creator   id.UserID // who created it
	encrypted bool
	slot      bool // there is a slot event
	open      bool // and its status is open
	acl       *acl // nil: every homeserver is allowed
	states    map[string]*membership
	stickies  map[stickyKey]*stickyEntry
	ended     []bot.Device // see Change
	told      int          // how many of these were reported last

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
	sender  id.UserID
	event   id.EventID
	ts      int64
	expires time.Time
	member  *membership
}

// owner is whose event it is, and when it was sent.
func (e *stickyEntry) owner() (id.UserID, time.Time) { return e.sender, time.UnixMilli(e.ts) }

// Header is what the roster needs of an event besides its content.
type Header struct {
	Event  id.EventID
	Sender id.UserID
	TS     int64 // origin_server_ts, ms
}

// NewRoster makes an empty roster. self is our own device, which is never reported as a member.
func NewRoster(self bot.Device) *Roster {
	return &Roster{self: self, rooms: make(map[id.RoomID]*room), refused: make(map[bot.Device]struct{})}
}

// SetWindows says which users are the network's windows. They come first in every call, and no limit on what others write leaves them out.
func (r *Roster) SetWindows(users []id.UserID) {
	r.windows = make(map[id.UserID]bool, len(users))
	for _, user := range users {
		r.windows[user] = true
	}
	for _, rm := range r.rooms {
		rm.dirty = true
	}
}

// SetRefused says whether a device was refused our key: it does not exist, or its owner has not confirmed it. Anybody can invent devices, so
// such a device stands behind all others.
func (r *Roster) SetRefused(device bot.Device, refused bool) {
	if _, was := r.refused[device]; was == refused {
		return
	}
	if refused {
		if len(r.refused) >= maxRefused {
			clear(r.refused)
		}
		r.refused[device] = struct{}{}
	} else {
		delete(r.refused, device)
	}
	for _, rm := range r.rooms {
		rm.dirty = rm.dirty || rm.has(device.User)
	}
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
		if len(rm.joined) >= maxJoined && !r.windows[user] {
			r.dropped++
			return
		}
		rm.joined[user] = struct{}{}
		rm.dirty = true
	case !joined && was:
		delete(rm.joined, user)
		rm.ended = slices.DeleteFunc(rm.ended, func(device bot.Device) bool { return device.User == user })
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
		rm.creator = user
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
//
// In ordinary room versions every member of the room can write under every key that does not begin with @. So a membership counts only under a
// key that names its sender and device, and only its sender, the room's creator and we ourselves can end it. The homeserver then has what
// somebody else wrote, and the device sends its membership again as soon as it sees that.
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
		if old != nil && r.MayEnd(name, old.user, e.Sender) {
			delete(rm.states, key)
			rm.dirty = true
			if r.windows[old.user] && e.Sender == old.user && len(rm.ended) < MaxMembers {
				rm.ended = append(rm.ended, old.id())
			}
		}
		return false
	}
	if !ownKey(key, m.id()) || old != nil && old.user != m.user {
		r.invalid++
		return false
	}
	m.event, m.key = e.Event, key
	if old != nil && old.device == m.device && old.claimed.Equal(m.claimed) {
		m.created = old.created // sent again before it expires: the device has been there all the time
	}
	if limit := now.Add(maxClockAhead); m.created.After(limit) {
		m.expires = limit.Add(m.expires.Sub(m.created)) // a sender's clock that is far ahead keeps nobody in the call
	}
	if old == nil {
		if !makeRoom(r, rm.states, e.Sender, m.created, (*membership).owner) {
			return false
		}
	}
	rm.states[key] = m
	rm.ended = slices.DeleteFunc(rm.ended, func(device bot.Device) bool { return device == m.id() })
	rm.dirty = true
	return m.id() == r.self
}

// MayEnd says whether an event of sender may end a membership of owner in a room.
func (r *Roster) MayEnd(name id.RoomID, owner, sender id.UserID) bool {
	rm := r.rooms[name]
	return sender == owner || sender == r.self.User || rm != nil && sender == rm.creator
}

// ownKey says whether a state key is the one under which a device keeps its membership of a room's own call: _@user:server_DEVICE_m.call, or the
// same without the first underscore where the room version protects such keys (MSC3757, MSC3779). matrix-js-sdk appends the call's id.
func ownKey(key string, device bot.Device) bool {
	own := StateKey(device)
	key = strings.TrimSuffix(key, unstable.RoomCall)
	return key == own || key == own[1:]
}

// makeRoom makes room for one more membership of a user, created at a time. Of too many of one user the oldest goes, whichever that is. It
// returns false when there is no room for the new one.
func makeRoom[K comparable, E any](r *Roster, entries map[K]E, user id.UserID, created time.Time, owner func(E) (id.UserID, time.Time)) bool {
	var oldest K
	ofUser, oldestAt := 0, created
	for key, other := range entries {
		if of, at := owner(other); of == user {
			ofUser++
			if at.Before(oldestAt) {
				oldest, oldestAt = key, at
			}
		}
	}
	switch {
	case ofUser < maxUserEntry && (len(entries) < maxEntries || r.windows[user]):
		return true
	case ofUser > 0 && oldestAt.Before(created):
		delete(entries, oldest)
		r.dropped++
		return true
	}
	r.dropped++
	return false
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
	entry := &stickyEntry{sender: e.Sender, event: e.Event, ts: e.TS, expires: now.Add(left), member: m}
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
		maps.DeleteFunc(rm.stickies, func(_ stickyKey, other *stickyEntry) bool { return !other.expires.After(now) })
		if !makeRoom(r, rm.stickies, e.Sender, time.UnixMilli(e.TS), (*stickyEntry).owner) {
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
	Members []Member // windows first, then oldest first, then devices that were refused our key
	// Ended are the devices of windows who are in the room, and whose memberships were ended in their own names. Nothing tells whether the window did
	// that, or its homeserver, which had not heard of it for a while.
	Ended []bot.Device
}

// Changes brings all rooms up to now and returns those that have changed.
func (r *Roster) Changes(now time.Time) []Change {
	var changed []Change
	for name, rm := range r.rooms {
		if !rm.dirty && (rm.expiry.IsZero() || now.Before(rm.expiry)) {
			continue
		}
		members := r.list(now, rm)
		rm.dirty = false
		if !slices.Equal(members, rm.members) || len(rm.ended) != rm.told {
			rm.members, rm.told = members, len(rm.ended)
			changed = append(changed, Change{name, slices.Clone(members), slices.Clone(rm.ended)})
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
		at = backoff.Earlier(at, rm.expiry)
	}
	return at
}

// list works out the foreign members, and sets when one of them expires.
func (r *Roster) list(now time.Time, rm *room) (members []Member) {
	rm.expiry = time.Time{}
	self := r.self
	newest := make(map[bot.Device]*membership)
	consider := func(m *membership) {
		if !rm.has(m.user) || !rm.inside || !m.expires.After(now) {
			return
		}
		// Our own homeserver accepts our events and those of its other users, whatever the ACL says.
		if server := m.user.Homeserver(); server != self.User.Homeserver() && !rm.acl.permits(server) {
			return
		}
		rm.expiry = backoff.Earlier(rm.expiry, m.expires)
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
	if len(newest) == 0 {
		return nil
	}
	// Clients of the older way publish where the oldest member does. All of them must find the same one, so what its client says counts.
	oldest := slices.MinFunc(slices.Collect(maps.Values(newest)), func(a, b *membership) int {
		return cmp.Or(a.claimed.Compare(b.claimed), compareMemberships(a, b))
	})
	delete(newest, self)
	// Of a user's devices the newest count, because older ones may be left over from crashes. Devices can be invented: without this limit a few
	// users could take all places.
	byUser := make(map[id.UserID][]*membership)
	for _, m := range newest {
		byUser[m.user] = append(byUser[m.user], m)
	}
	var counted []*membership
	for _, devices := range byUser {
		slices.SortFunc(devices, func(a, b *membership) int {
			return cmp.Or(cmp.Compare(r.rank(a), r.rank(b)), compareMemberships(b, a))
		})
		counted = append(counted, devices[:min(len(devices), maxDevices)]...)
	}
	slices.SortFunc(counted, func(a, b *membership) int {
		return cmp.Or(cmp.Compare(r.rank(a), r.rank(b)), compareMemberships(a, b))
	})
	counted = counted[:min(len(counted), MaxMembers)]
	r.dropped += uint64(len(newest) - len(counted))
	for _, m := range counted {
		members = append(members, Member{
			User: m.user, Device: m.device, Identity: m.identity(), Alias: m.alias(), Service: serviceOf(m, oldest),
			Created: m.created, Intent: m.intent, Sticky: m.sticky,
		})
	}
	return members
}

// rank says who comes first: windows, then everybody else, and last the devices that were refused our key.
func (r *Roster) rank(m *membership) int {
	_, refused := r.refused[m.id()]
	switch {
	case r.windows[m.user] && !refused:
		return 0
	case r.windows[m.user]:
		return 1
	case !refused:
		return 2
	}
	return 3
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
