package network

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"go.mau.fi/util/jsontime"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
)

// Limits on how much is kept of what others send.
const (
	maxMembers     = 10_000 // a room
	maxChildren    = 1000   // of the Space
	maxWindows     = 256    // in the directory
	maxPerMember   = 4      // rooms that a member who is no admin may make us join
	maxNames       = 20_000
	maxPower       = 50 // the power level from which somebody counts as an admin of the Space
	adminPower     = 50 // of an admin in our window's room
	ownWindowPower = 100
	// closedGrace is how long we stay in an upgraded room that is left: a call that we are in there takes up to five seconds to leave.
	closedGrace = 6 * time.Second
)

// model is what is known of the rooms the bot is in. It is pure: events in, answers out. It is owned by one goroutine.
type model struct {
	self   id.UserID
	admins []id.UserID

	space    id.RoomID   // the network's Space, empty while there is none
	trail    []id.RoomID // that Space, and those whose place it took, the latest first
	rooms    map[id.RoomID]*room
	rejected map[id.RoomID]*rejection
	newNames map[id.UserID]string // display names since the last look
}

// room is one room's state, as far as it matters here.
type room struct {
	joined   bool
	creator  id.UserID
	created  int64
	space    bool
	creators []id.UserID // those whose power has no limit (room version 12)
	network  bool
	closed   bool      // there is a tombstone: the room was upgraded
	next     id.RoomID // that took its place, as the tombstone says
	previous id.RoomID // whose place it took, as it says itself
	name     string
	window   *windowEvent
	claimed  id.UserID   // the sender of the window event, even of one without content
	allow    []id.RoomID // whose members may join
	power    powerLevels
	members  map[id.UserID]event.Membership
	children map[id.RoomID]child
	parents  map[id.RoomID]bool
	seen     map[stateKey]bool // what any event was applied for
	leaveAt  time.Time         // when it is left, having been upgraded
}

// stateKey names one piece of a room's state.
type stateKey struct{ typ, key string }

type windowEvent struct {
	id      id.EventID
	sender  id.UserID
	at      int64
	content *windowContent
}

// child is an m.space.child event. Without via it says that the room is taken down.
type child struct {
	id     id.EventID
	sender id.UserID
	via    []string
}

// rejection remembers a room that was joined and turned out to be no window.
type rejection struct {
	child id.EventID // the event that led there
	kiosk id.UserID  // the one that is missing in the Space, if that was the reason
	count int
	until time.Time
}

// powerLevels is the part of m.room.power_levels that is looked at.
type powerLevels struct {
	raw     json.RawMessage
	Users   map[id.UserID]int `json:"users"`
	Default int               `json:"users_default"`
}

func newModel(self id.UserID, admins []id.UserID) *model {
	return &model{
		self: self, admins: admins, rooms: make(map[id.RoomID]*room), rejected: make(map[id.RoomID]*rejection),
		newNames: make(map[id.UserID]string),
	}
}

// fill takes the state of a room that was just joined, as far as sync hasn't brought something newer. So nothing depends on when, and
// on how completely, sync tells what was before we came.
func (m *model) fill(room id.RoomID, events []*event.Event) {
	for _, e := range events {
		if e.StateKey == nil || m.rooms[room] != nil && m.rooms[room].seen[stateKey{e.Type.Type, *e.StateKey}] {
			continue
		}
		e.RoomID = room
		m.apply(e)
	}
}

// apply takes one state event of a room that the bot is, or was, in.
func (m *model) apply(e *event.Event) {
	if e.StateKey == nil || !validRoom(e.RoomID) {
		return
	}
	key, data := *e.StateKey, contentOf(e)
	if e.Type.Type == event.StateMember.Type && id.UserID(key) == m.self {
		m.room(e.RoomID).joined = membershipOf(data) == event.MembershipJoin
	}
	if e.Mautrix.EventSource&event.SourceLeave != 0 {
		return
	}
	r := m.room(e.RoomID)
	if len(r.seen) < maxMembers+maxChildren {
		r.seen[stateKey{e.Type.Type, key}] = true
	}
	switch e.Type.Type {
	case event.StateMember.Type:
		m.applyMember(r, e.RoomID, e.Sender, id.UserID(key), data)
		return
	case event.StateSpaceChild.Type:
		_, known := r.children[id.RoomID(key)]
		if validRoom(id.RoomID(key)) && (known || len(r.children) < maxChildren) {
			r.children[id.RoomID(key)] = child{id: e.ID, sender: e.Sender, via: parseChild(data)}
		}
		return
	case event.StateSpaceParent.Type:
		if validRoom(id.RoomID(key)) && len(r.parents) < maxChildren {
			r.parents[id.RoomID(key)] = len(parseChild(data)) > 0
		}
		return
	}
	if key != "" {
		return
	}
	switch e.Type.Type {
	case event.StateCreate.Type:
		r.applyCreate(e, data)
	case event.StateRoomName.Type:
		var c event.RoomNameEventContent
		_ = json.Unmarshal(data, &c) // a name that can't be read is none
		r.name = clean(c.Name, maxName)
	case event.StatePowerLevels.Type:
		p := powerLevels{raw: data}
		_ = json.Unmarshal(data, &p) // what can't be read gives nobody power
		r.power = p
	case event.StateJoinRules.Type:
		r.applyJoinRules(data)
	case StateWindow.Type:
		r.claimed, r.window = e.Sender, nil
		if c, err := parseWindow(data); err == nil {
			r.window = &windowEvent{id: e.ID, sender: e.Sender, at: e.Timestamp, content: c}
		}
	case StateNetwork.Type:
		r.network = true
	case event.StateTombstone.Type:
		r.applyTombstone(data)
	}
}

func (m *model) applyMember(r *room, where id.RoomID, sender, user id.UserID, data []byte) {
	if !validUser(user) {
		return
	}
	var c struct {
		Membership event.Membership `json:"membership"`
		Name       string           `json:"displayname"`
	}
	_ = json.Unmarshal(data, &c) // what can't be read is no membership
	if _, known := r.members[user]; !known && len(r.members) >= maxMembers {
		return
	}
	r.members[user] = c.Membership
	if name := clean(c.Name, maxName); sender == user && c.Membership == event.MembershipJoin && name != "" {
		m.newNames[user] = name
	}
	if where == m.space {
		for _, old := range m.rejected {
			if old.kiosk == user {
				old.child, old.kiosk = "", ""
			}
		}
	}
}

func (r *room) applyCreate(e *event.Event, data []byte) {
	var c event.CreateEventContent
	if json.Unmarshal(data, &c) != nil {
		return
	}
	r.creator, r.created, r.space = e.Sender, e.Timestamp, c.Type == event.RoomTypeSpace
	r.creators, r.previous = nil, ""
	if c.Predecessor != nil && validRoom(c.Predecessor.RoomID) {
		r.previous = c.Predecessor.RoomID
	}
	if c.RoomVersion.PrivilegedRoomCreators() {
		r.creators = append([]id.UserID{e.Sender}, c.AdditionalCreators...)
	}
}

func (r *room) applyTombstone(data []byte) {
	var c event.TombstoneEventContent
	_ = json.Unmarshal(data, &c) // one that can't be read names no room
	r.closed, r.next = true, ""
	if validRoom(c.ReplacementRoom) {
		r.next = c.ReplacementRoom
	}
}

func (r *room) applyJoinRules(data []byte) {
	var c event.JoinRulesEventContent
	_ = json.Unmarshal(data, &c) // a rule that can't be read lets nobody in
	r.allow = nil
	if c.JoinRule != event.JoinRuleRestricted && c.JoinRule != event.JoinRuleKnockRestricted {
		return
	}
	for _, a := range c.Allow {
		if a.Type == event.JoinRuleAllowRoomMembership && len(r.allow) < maxWindows {
			r.allow = append(r.allow, a.RoomID)
		}
	}
}

func (m *model) room(name id.RoomID) *room {
	r := m.rooms[name]
	if r == nil {
		r = &room{
			members: make(map[id.UserID]event.Membership), children: make(map[id.RoomID]child), parents: make(map[id.RoomID]bool),
			seen: make(map[stateKey]bool),
		}
		m.rooms[name] = r
	}
	return r
}

// forget drops the rooms that we are not in. It must not be called between the events of one sync response: its timeline may tell of
// leaving and of coming back.
func (m *model) forget() {
	maps.DeleteFunc(m.rooms, func(_ id.RoomID, r *room) bool { return !r.joined })
}

// maxUpgrades is how many upgrades of one room are followed.
const maxUpgrades = 16

// successor is the Space that a network's Space was upgraded to, if we are in that. Both must name the other, and it must have been made by
// someone who was an admin of the old one.
func (m *model) successor(name id.RoomID) id.RoomID {
	old := m.rooms[name]
	if old == nil || !old.closed {
		return ""
	}
	r := m.rooms[old.next]
	if r == nil || !r.joined || !r.space || r.previous != name || !m.adminOf(old, r.creator) {
		return ""
	}
	return old.next
}

// latest follows upgrades forwards.
func (m *model) latest(space id.RoomID) id.RoomID {
	for range maxUpgrades {
		next := m.successor(space)
		if next == "" {
			break
		}
		space = next
	}
	return space
}

// trailOf follows upgrades backwards, as far as we are in the old Spaces. It begins with the Space itself.
func (m *model) trailOf(space id.RoomID) []id.RoomID {
	trail := []id.RoomID{space}
	for range maxUpgrades {
		previous := m.rooms[space].previous
		if m.successor(previous) != space {
			break
		}
		space = previous
		trail = append(trail, space)
	}
	return trail
}

// awaited is the room that the network's Space was upgraded to while we are not in it.
func (m *model) awaited() id.RoomID {
	old := m.rooms[m.space]
	if old == nil || !old.closed || old.next == "" || m.rooms[old.next] != nil && m.rooms[old.next].joined {
		return ""
	}
	return old.next
}

// isNetwork says whether we are in a network's Space. One whose state was not copied on an upgrade is it by the Space before.
func (m *model) isNetwork(name id.RoomID) bool {
	r := m.rooms[name]
	return r != nil && r.joined && r.space &&
		slices.ContainsFunc(m.trailOf(name), func(name id.RoomID) bool { return m.rooms[name].network })
}

// chooseSpace finds the network's Space again. Once chosen it stays, as long as we are in it and it isn't upgraded.
func (m *model) chooseSpace() {
	chosen := m.space
	if !m.isNetwork(chosen) {
		chosen = m.findSpace()
	}
	if chosen = m.latest(chosen); chosen != m.space {
		clear(m.rejected)
	}
	m.space, m.trail = chosen, nil
	if chosen != "" {
		m.trail = m.trailOf(chosen)
	}
}

// findSpace is a network's Space that we are in. The one that our room hangs in is preferred.
func (m *model) findSpace() (found id.RoomID) {
	for _, name := range slices.Sorted(maps.Keys(m.rooms)) {
		if !m.isNetwork(name) {
			continue
		}
		for room, c := range m.rooms[name].children {
			if c.sender == m.self && len(c.via) > 0 && m.isOwn(m.rooms[room], m.trailOf(name)) {
				return name
			}
		}
		if found == "" {
			found = name
		}
	}
	return found
}

// children are the rooms that hang in the network's Space. What hung in one that was upgraded counts until the new one says something else.
func (m *model) children() map[id.RoomID]child {
	all := make(map[id.RoomID]child)
	for _, space := range slices.Backward(m.trail) {
		maps.Copy(all, m.rooms[space].children)
	}
	return all
}

// membership is what the network's Space says of a user, or the one before it of those who have not followed yet: invitations into the new
// Space come one by one, and each is taken when its bot is there.
func (m *model) membership(user id.UserID) event.Membership {
	for _, space := range m.trail {
		if membership := m.rooms[space].members[user]; membership != "" && membership != event.MembershipInvite {
			return membership
		}
	}
	return ""
}

// isOwn says whether r is our window room for a network, by the trail of its Space. It looks at nothing that a redaction takes away:
// Dendrite may show us our own state without its content, after it hid that content from a server that joined later.
func (m *model) isOwn(r *room, trail []id.RoomID) bool {
	return r != nil && r.joined && r.creator == m.self && (r.claimed == m.self || m.replaces(r)) &&
		slices.ContainsFunc(r.allow, func(space id.RoomID) bool { return slices.Contains(trail, space) })
}

// replaces says whether our own account upgraded another window room of ours to r: it may have come without the window's state.
func (m *model) replaces(r *room) bool {
	old := m.rooms[r.previous]
	return old != nil && old.closed && old.creator == m.self && old.claimed == m.self && m.rooms[old.next] == r
}

// hangs says whether others believe that a child of the Space is our room.
func (m *model) hangs(c child) bool {
	return len(c.via) > 0 && (c.sender == m.self || m.admin(c.sender))
}

// own is our window room, and whether it hangs in the network. One that has just taken the place of another does if that did, so that no
// visit ends for it.
func (m *model) own() (own id.RoomID, hung bool) {
	children := m.children()
	for _, name := range slices.Sorted(maps.Keys(m.rooms)) {
		if !m.isOwn(m.rooms[name], m.trail) || m.rooms[name].closed {
			continue
		}
		r := m.rooms[name]
		c, exists := children[name]
		hangs := m.hangs(c) || !exists && m.replaces(r) && m.hangs(children[r.previous])
		// There should be one only. Of several the one that hangs counts, then the oldest.
		if own == "" || hangs && !hung || hangs == hung && r.created < m.rooms[own].created {
			own, hung = name, hangs
		}
	}
	return own, hung
}

// admin says whether somebody may do everything in the network: who is listed, or has power in the Space.
func (m *model) admin(user id.UserID) bool {
	return m.adminOf(m.rooms[m.space], user)
}

// adminOf is admin for one Space.
func (m *model) adminOf(space *room, user id.UserID) bool {
	if slices.Contains(m.admins, user) {
		return true
	}
	if space == nil {
		return false
	}
	level, listed := space.power.Users[user]
	if !listed {
		level = space.power.Default
	}
	return level >= maxPower || slices.Contains(space.creators, user)
}

// replaced are the rooms of ours that hang in the network, whoever hung them in, and were upgraded.
func (m *model) replaced() (rooms []id.RoomID) {
	for name, c := range m.children() {
		if r := m.rooms[name]; len(c.via) > 0 && r != nil && r.closed && r.creator == m.self {
			rooms = append(rooms, name)
		}
	}
	slices.Sort(rooms)
	return rooms
}

// inNetwork says whether a user is in the Space.
func (m *model) inNetwork(user id.UserID) bool {
	return m.membership(user) == event.MembershipJoin
}

// hungIn says whether a child of the Space is to be looked at: the event isn't empty, and its sender may still speak.
func (m *model) hungIn(c child) bool {
	return len(c.via) > 0 && (m.inNetwork(c.sender) || m.admin(c.sender))
}

// verdict of a joined child of the Space.
type verdict int

const (
	believed verdict = iota
	unlisted         // it is one, but somebody else hung it in, or its state has no content: its kiosk may mend that at any moment
	noWindow
	kioskMissing
)

func (m *model) judge(r *room, c child) verdict {
	switch w := r.window; {
	case w == nil && r.claimed == c.sender && m.inNetwork(c.sender):
		return unlisted
	case w == nil, w.sender != w.content.Kiosk:
		return noWindow
	case !m.inNetwork(w.sender):
		return kioskMissing
	case c.sender != w.sender && !m.admin(c.sender):
		return unlisted
	}
	return believed
}

// directory lists the windows that are believed, one a kiosk, by name.
func (m *model) directory() []directory.Window {
	newest := make(map[id.UserID]id.RoomID)
	children := m.children()
	for _, name := range slices.Sorted(maps.Keys(children)) {
		r, c := m.rooms[name], children[name]
		if r == nil || !r.joined || r.closed || !m.hungIn(c) || m.judge(r, c) != believed || r.window.sender == m.self {
			continue
		}
		old, exists := newest[r.window.sender]
		if !exists || m.rooms[old].window.at < r.window.at {
			newest[r.window.sender] = name
		}
	}
	var list []directory.Window
	for kiosk, name := range newest {
		r := m.rooms[name]
		c := r.window.content
		w := directory.Window{
			Room: name, Kiosk: kiosk, Name: r.name, City: c.City, Shutter: c.Shutter, Since: jsontime.UMInt(c.Since), Facing: c.Facing, Joined: true,
		}
		if w.Name == "" {
			w.Name = clean(kiosk.Localpart(), maxName)
		}
		list = append(list, w)
	}
	slices.SortFunc(list, func(a, b directory.Window) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Room, b.Room))
	})
	return list[:min(len(list), maxWindows)]
}

// visit is a room to be joined or left, and how.
type visit struct {
	room id.RoomID
	via  []string
}

// movements says which rooms of the network are to be joined, and which to be left; wake is when to ask again.
func (m *model) movements(now time.Time) (join, leave []visit, wake time.Time) {
	children := m.children()
	wanted := make(map[id.RoomID]bool)
	perMember := make(map[id.UserID]int)
	for _, name := range slices.Sorted(maps.Keys(children)) {
		c, r := children[name], m.rooms[name]
		if name == m.space || !m.hungIn(c) || r != nil && r.creator == m.self {
			continue
		}
		if r != nil && r.joined {
			if v := m.judge(r, c); v == noWindow || v == kioskMissing {
				m.reject(now, name, c, r, v)
				continue
			}
		} else if old := m.rejected[name]; old != nil {
			if old.child == c.id {
				continue
			}
			if now.Before(old.until) {
				wake = earliest(wake, old.until)
				continue
			}
		}
		if !m.admin(c.sender) {
			perMember[c.sender]++
		}
		if len(wanted) >= maxWindows || perMember[c.sender] > maxPerMember {
			continue
		}
		wanted[name] = true
		if r == nil || !r.joined {
			join = append(join, visit{room: name, via: servers(c.via, c.sender.Homeserver())})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.rooms)) {
		r := m.rooms[name]
		rejected := m.rejected[name] != nil
		if r.joined && r.creator != m.self && name != m.space && !r.space && !wanted[name] && (r.claimed != "" || rejected) {
			if r.closed { // whoever is in a call there leaves that first
				if r.leaveAt.IsZero() {
					r.leaveAt = now.Add(closedGrace)
				}
				if now.Before(r.leaveAt) {
					wake = earliest(wake, r.leaveAt)
					continue
				}
			}
			leave = append(leave, visit{room: name})
		}
	}
	return join, leave, wake
}

// reject remembers that a room is no window. Who hangs it in again makes us wait longer each time.
func (m *model) reject(now time.Time, name id.RoomID, c child, r *room, v verdict) {
	old := m.rejected[name]
	if old == nil {
		if len(m.rejected) >= maxChildren {
			return
		}
		old = &rejection{}
		m.rejected[name] = old
	}
	if old.child == c.id && old.count > 0 {
		return
	}
	old.child, old.kiosk = c.id, ""
	old.until = now.Add(min(time.Minute<<min(old.count, 8), 6*time.Hour))
	old.count++
	if v == kioskMissing {
		old.kiosk = r.window.sender
	}
}

// absent are the kiosks of the directory that have not come into our own room.
func (m *model) absent(own *room, windows []directory.Window) map[id.UserID]id.EventID {
	var out map[id.UserID]id.EventID
	for _, w := range windows {
		if own.members[w.Kiosk] != event.MembershipJoin {
			if out == nil {
				out = make(map[id.UserID]id.EventID)
			}
			out[w.Kiosk] = m.rooms[w.Room].window.id
		}
	}
	return out
}

// strangers are those in our own room who left the network or were removed from it.
func (m *model) strangers(own *room) []id.UserID {
	var out []id.UserID
	for user, membership := range own.members {
		if user == m.self || membership != event.MembershipJoin && membership != event.MembershipInvite {
			continue
		}
		if in := m.membership(user); in == event.MembershipLeave || in == event.MembershipBan {
			out = append(out, user)
		}
	}
	slices.Sort(out)
	return out
}

func contentOf(e *event.Event) json.RawMessage {
	if len(e.Content.VeryRaw) > 0 {
		return e.Content.VeryRaw
	}
	data, err := json.Marshal(&e.Content)
	if err != nil {
		return nil
	}
	return data
}

func membershipOf(data []byte) event.Membership {
	var c struct {
		Membership event.Membership `json:"membership"`
	}
	_ = json.Unmarshal(data, &c) // what can't be read is no membership
	return c.Membership
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
