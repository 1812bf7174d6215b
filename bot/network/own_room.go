package network

import (
	"maps"
	"slices"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
)

// isOwn says whether r is our window room for the network whose Spaces are in chain. It uses nothing that a redaction removes, because
// Dendrite may show us our own state without its content: it hides the content from a server that joined later, and then from everybody.
func (m *model) isOwn(r *room, chain []id.RoomID) bool {
	return r != nil && r.joined && r.creator == m.self && (r.windowSender == m.self || m.replaces(r)) &&
		slices.ContainsFunc(r.allow, func(space id.RoomID) bool { return slices.Contains(chain, space) })
}

// replaces says whether our own account upgraded another window room of ours to r. An upgrade may not copy the window's state.
func (m *model) replaces(r *room) bool {
	old := m.rooms[r.predecessor]
	return old != nil && old.upgraded && old.creator == m.self && old.windowSender == m.self && m.rooms[old.replacement] == r
}

// inElement says whether the Space's list shows our own room to people in Element, by an event of ours or of an admin.
func (m *model) inElement(c child) bool {
	return len(c.via) > 0 && (c.sender == m.self || m.admin(c.sender))
}

// own is our window room, and whether the network knows it: we have announced it, and no admin took it down. A room that has just replaced another
// one counts if that was announced, so that an upgrade does not end a visit.
func (m *model) own() (own id.RoomID, listed bool) {
	announced := m.announcements()[m.self].Room
	for _, name := range slices.Sorted(maps.Keys(m.rooms)) {
		if !m.isOwn(m.rooms[name], m.chain) || m.rooms[name].upgraded {
			continue
		}
		r := m.rooms[name]
		known := announced != "" && (name == announced || m.replaces(r) && r.predecessor == announced)
		// There should be only one. Of several, the one that we have announced is preferred, and then the oldest.
		if own == "" || known && !listed || known == listed && r.created < m.rooms[own].created {
			own, listed = name, known
		}
	}
	return own, listed && !m.isDown(m.self)
}

// replaced are the upgraded rooms of ours that the network still lists.
func (m *model) replaced() (rooms []id.RoomID) {
	for name, c := range m.children() {
		if r := m.rooms[name]; len(c.via) > 0 && r != nil && r.upgraded && r.creator == m.self {
			rooms = append(rooms, name)
		}
	}
	slices.Sort(rooms)
	return rooms
}

// absentKiosks are the kiosks of the directory that have not come into our own room.
func (m *model) absentKiosks(own *room, windows []directory.Window) map[id.UserID]id.EventID {
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

// removedUsers are the users in our own room who left the network or were removed from it.
func (m *model) removedUsers(own *room) []id.UserID {
	var users []id.UserID
	hubs, home := m.hubs(), m.rooms[m.home()]
	for user, membership := range own.members {
		if user == m.self || membership != event.MembershipJoin && membership != event.MembershipInvite {
			continue
		}
		in := m.membership(user)
		_, hub := hubs[user] // it need not be in the Space
		former := home != nil && home.formerHubs[user] && in != event.MembershipJoin
		if m.known[user].State != isWindow || former || out(in) && !hub {
			users = append(users, user)
		}
	}
	slices.Sort(users)
	return users
}
