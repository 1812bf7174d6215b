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
		switch in := m.membership(user); {
		case in == event.MembershipLeave, in == event.MembershipBan:
			m.known[user] = known{old.Room, left}
		case in == event.MembershipJoin && old.State == left:
			delete(m.known, user)
		}
	}
	children := m.children()
	for user, a := range m.announcements() {
		switch in := m.membership(user); {
		case in == event.MembershipLeave, in == event.MembershipBan:
			set(user, a.Room, left) // also if we were not here when it was a window
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

// admitted forgets that an admin took a user's window down: the user has come into the Space since, and that takes an admin's invitation.
func (m *model) admitted(r *room, space id.RoomID, user id.UserID) {
	for name, c := range r.children {
		if own := m.rooms[name]; name == r.announced[user].Room || user == m.self && own != nil && own.creator == m.self {
			c.word = nothingSaid
			r.children[name] = c
		}
	}
	if space == m.admission.Space || slices.Contains(m.chain, space) {
		if m.isDown(user) {
			delete(m.known, user)
		}
	}
}

// removed says whether we were in a network and are not any more, since an admin removed us or took our window down, or since we left.
func (m *model) removed() bool {
	return m.space == "" && m.admission.Member || m.isDown(m.self)
}

// kiosks are the others that are windows or were, sorted.
func (m *model) kiosks() []id.UserID {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(m.known)), func(user id.UserID) bool { return user == m.self })
}
