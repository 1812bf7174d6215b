package network

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/backoff"
	"multifactorymodel.org/ewindow/bot/networkstate"
)

// Limits on what is kept of other people's events, and power levels.
const (
	maxMembers  = 10_000 // of one room
	maxChildren = 1000   // of the Space, listed by its admins or by us
	maxWindows  = 256    // in the directory
	maxNames    = 20_000
	maxPower    = 50 // the power level from which somebody counts as an admin of the Space
	// upgradedGrace is how long we stay in an upgraded room before we leave it. Leaving a call there takes up to five seconds.
	upgradedGrace = 6 * time.Second
)

// model is what is known of the rooms that the bot is in. It does no I/O: it takes events and answers questions. It belongs to one
// goroutine.
type model struct {
	self   id.UserID
	name   string // of our window
	admins []id.UserID

	admission admission   // what was accepted
	adopting  bool        // nothing is known about that yet
	space     id.RoomID   // the network's Space; empty: we are in none
	chain     []id.RoomID // that Space and its predecessors, the latest first
	windows   id.RoomID   // the room of the network's windows; empty: the network is of an earlier version
	rooms     map[id.RoomID]*room
	rejected  map[id.UserID]*rejection // by the kiosk that announced the room
	known     map[id.UserID]known      // the accounts that are windows or were; our own, if an admin took us down
	called    map[id.RoomID]string     // names of rooms, kept when we leave: Dendrite may hide a room's name from those who come back
	newNames  map[id.UserID]string     // display names since the last look
}

// room is the part of one room's state that matters here.
type room struct {
	joined        bool
	creator       id.UserID
	created       int64
	space         bool
	creators      []id.UserID // those whose power has no limit (room version 12)
	network       bool
	windows       id.RoomID // of a network's Space: the room of its windows
	windowsOf     id.RoomID // of that room: the Space
	windowsVia    []string  // and the servers through which the Space can be joined
	networkSender id.UserID // of the network event
	upgraded      bool      // there is a tombstone
	replacement   id.RoomID // the room that the tombstone names
	predecessor   id.RoomID // the room that this one says it replaces
	name          string
	window        *windowEvent
	windowSender  id.UserID   // the sender of the window event, even when that has no content
	goneBy        id.UserID   // the sender of the event that says that the kiosk is gone
	goneAt        int64       // when, in milliseconds since 1970; 0: it is not
	allow         []id.RoomID // members of these rooms may join
	power         powerLevels
	members       map[id.UserID]event.Membership
	announced     map[id.UserID]announcement
	hubs          map[id.UserID]id.EventID // members who say that they are a hub, with the event; nil: none
	formerHubs    map[id.UserID]bool       // those who were members and said so; nil: none
	children      map[id.RoomID]child      // those that an admin or our own account listed
	parents       map[id.RoomID]bool
	seen          map[stateKey]bool // the state that an event was applied for
	complete      bool              // all of its state was fetched
	nameless      bool              // its name was looked for, several times
	leaveAt       time.Time         // when an upgraded room is left
}

// stateKey names one piece of a room's state.
type stateKey struct{ typ, key string }

type windowEvent struct {
	id      id.EventID
	sender  id.UserID
	at      int64
	content *networkstate.Window
}

// child is an m.space.child event. It lists a room in the Space, so that people find it in Element. One without via takes the room out.
type child struct {
	sender id.UserID
	via    []string
	// word is what an admin said last. Others can overwrite the event, but not this.
	word  adminWord
	event id.EventID // that the admin said it with
}

// adminWord is what an admin of the Space says about a room in it.
type adminWord int

const (
	nothingSaid adminWord = iota
	lists
	takesDown
)

// announcement is what a kiosk announces, and the event that it came with.
type announcement struct {
	networkstate.Announcement
	event    id.EventID
	inMember bool // it came with the kiosk's membership
}

// rejection remembers a room that a kiosk announced, that we joined, and that is not the kiosk's window.
type rejection struct {
	room      id.RoomID
	announced id.EventID // the event that announced it
	pause     backoff.Backoff
	until     time.Time
}

// powerLevels is the part of m.room.power_levels that matters here.
type powerLevels struct {
	raw     json.RawMessage
	Users   map[id.UserID]int `json:"users"`
	Default int               `json:"users_default"`
	Events  map[string]int    `json:"events"`
	// State is the level for state events that Events doesn't name. nil: 50.
	State *int `json:"state_default"`
}

// of is a user's level.
func (p *powerLevels) of(user id.UserID) int {
	if level, ok := p.Users[user]; ok {
		return level
	}
	return p.Default
}

// forState is the level that a state event needs.
func (p *powerLevels) forState(t event.Type) int {
	level, ok := p.Events[t.Type]
	switch {
	case ok:
		return level
	case p.State != nil:
		return *p.State
	}
	return 50
}

func newModel(self id.UserID, admins []id.UserID) *model {
	return &model{
		self: self, admins: admins, rooms: make(map[id.RoomID]*room), rejected: make(map[id.UserID]*rejection), known: make(map[id.UserID]known),
		called: make(map[id.RoomID]string), newNames: make(map[id.UserID]string),
	}
}

// room returns a room's record, and makes it if there is none.
func (m *model) room(name id.RoomID) *room {
	r := m.rooms[name]
	if r == nil {
		r = &room{
			members: make(map[id.UserID]event.Membership), children: make(map[id.RoomID]child), parents: make(map[id.RoomID]bool),
			announced: make(map[id.UserID]announcement), seen: make(map[stateKey]bool),
		}
		m.rooms[name] = r
	}
	return r
}

// forget drops the rooms that we are not in. It must not be called between the events of one sync response, whose timeline may say that we
// left a room and came back.
func (m *model) forget() {
	maps.DeleteFunc(m.rooms, func(_ id.RoomID, r *room) bool { return !r.joined })
}

// admin says whether a user is an admin of the network: one of the configured admins, or somebody with power in the Space.
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
	return space.power.of(user) >= maxPower || slices.Contains(space.creators, user)
}

// isWindow says whether we have been admitted to the network as a window, and not only into its Space.
func (m *model) isWindow() bool {
	return m.space != "" && (m.windows == "" || m.isIn(m.windows))
}

// isIn says whether we are in a room.
func (m *model) isIn(room id.RoomID) bool { return m.rooms[room] != nil && m.rooms[room].joined }

// home is the room in which the windows announce their rooms.
func (m *model) home() id.RoomID {
	if m.windows != "" {
		return m.windows
	}
	return m.space
}

// windowMembership is a user's membership of the network as a window. In networks of earlier versions everybody in the Space can be one.
func (m *model) windowMembership(user id.UserID) event.Membership {
	in := m.membership(user)
	if m.windows == "" || out(in) {
		return in
	}
	if !m.isIn(m.windows) {
		return ""
	}
	if as := m.rooms[m.windows].members[user]; as != event.MembershipJoin {
		return as
	}
	return in
}

// membership is a user's membership of the network's Space. After an upgrade of the Space, the old Space counts for users who have not
// followed into the new one yet: they are invited one by one, and each bot accepts when it runs.
func (m *model) membership(user id.UserID) event.Membership {
	for _, space := range m.chain {
		if membership := m.rooms[space].members[user]; membership != "" && membership != event.MembershipInvite {
			return membership
		}
	}
	return ""
}
