package network

import (
	"maps"
	"slices"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// maxKnown is how many accounts are remembered. Each of them was once admitted by an admin.
const maxKnown = 20_000

// known is what is remembered of an account that is a window of the network, or was. The kiosk's database keeps it.
type known struct {
	Room  id.RoomID
	State standing
}

// standing says whether an account is still a window. The database holds the numbers.
type standing int

const (
	isWindow standing = 0
	// left: it is not in the Space any more. It counts again when an admin has invited it again.
	left standing = 1
	// takenDown: an admin took its room out of the Space's list. It counts again when an admin lists its room or invites it again, whatever the others do,
	// and the kiosk itself.
	takenDown standing = 2
	// expelled: it is out of the Space, and was still in the room of the windows, from which it can come into the Space by itself. It counts again when it
	// has left that room, too, and an admin has invited it there again.
	expelled standing = 3
)

// isDown says whether an admin took a user's window down.
func (m *model) isDown(user id.UserID) bool { return m.known[user].State == takenDown }

// note brings what is remembered of windows up to date. It has nothing to say while we are in no network.
func (m *model) note() {
	if m.space == "" {
		return
	}
	set := func(user id.UserID, room id.RoomID, state standing) {
		if _, exists := m.known[user]; exists || len(m.known) < maxKnown {
			m.known[user] = known{room, state}
		}
	}
	for user, old := range m.known {
		if user == m.self {
			continue
		}
		switch in := m.windowMembership(user); {
		case out(in) && old.State != left:
			m.known[user] = known{old.Room, m.outState(user)}
		case in == event.MembershipJoin && old.State == left:
			delete(m.known, user)
		}
	}
	if m.windows != "" && m.isWindow() && !m.isDown(m.self) {
		m.known[m.self] = known{Room: m.windows}
	}
	children := m.children()
	for user, a := range m.announcements() {
		switch in := m.windowMembership(user); {
		case out(in):
			if _, exists := m.known[user]; !exists {
				set(user, a.Room, left) // we were not here when it was a window
			}
		case in != event.MembershipJoin:
		case children[a.Room].word == takesDown:
			set(user, a.Room, takenDown)
		case m.isDown(user) && (children[a.Room].word == lists || children[m.known[user].Room].word == lists):
			delete(m.known, user)
		}
	}
	for _, w := range m.directory() {
		set(w.Kiosk, w.Room, isWindow)
	}
}

// out says whether somebody with this membership has left or was removed.
func out(m event.Membership) bool { return m == event.MembershipLeave || m == event.MembershipBan }

// outState is what a window becomes that is out of the network. One that comes into the network is in the room of the windows first, and is not expelled.
func (m *model) outState(user id.UserID) standing {
	if m.windows != "" && m.isIn(m.windows) && m.rooms[m.windows].members[user] == event.MembershipJoin {
		return expelled
	}
	return left
}

// admitted forgets that an admin took a user's window down: the user has come into the Space since, and that takes an admin's invitation.
func (m *model) admitted(r *room, space id.RoomID, user id.UserID) {
	for name, c := range r.children {
		if own := m.rooms[name]; name == r.announced[user].Room || user == m.self && own != nil && own.creator == m.self {
			c.word = nothingSaid
			r.children[name] = c
		}
	}
	if space == m.admission.Space || slices.Contains(m.chain, space) {
		if m.isDown(user) || user == m.self {
			delete(m.known, user)
		}
	}
}

// removed says whether we were in a network and are not any more, since an admin removed us or took our window down, or since we left.
func (m *model) removed() bool {
	_, was := m.known[m.self]
	return m.space == "" && m.admission.Member || m.isDown(m.self) || m.windows != "" && was && !m.isWindow()
}

// kiosks are the others that are windows or were, and the hubs, sorted.
func (m *model) kiosks() []id.UserID {
	list := slices.AppendSeq(slices.Collect(maps.Keys(m.known)), maps.Keys(m.hubs()))
	slices.Sort(list)
	return slices.DeleteFunc(slices.Compact(list), func(user id.UserID) bool { return user == m.self })
}
