package bridge

import (
	"slices"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/rtc"
)

// awayLimit is how long somebody in a call counts whose participant is not in the room of its SFU: joining takes a while, and so does coming
// back from an outage.
const awayLimit = 20 * time.Second

// ghost is somebody whose membership stands for hours, though nobody is there: their program ended in a moment in which it could not say so,
// and their homeserver has no delayed events, or did not let theirs through.
type ghost struct {
	room     id.RoomID
	identity string
}

// absence is since when somebody has been away, and with which membership: it says nothing of the next one.
type absence struct{ since, created time.Time }

// followAway finds those who have been away for too long, beside what follow does.
func (m *machine) followAway(now time.Time, c *visit) {
	for identity, a := range c.away {
		member, ok := m.member(c.room, identity)
		if !ok { // whoever goes leaves the SFU, too, and often first; of who comes again the media side tells anew
			delete(c.away, identity)
			continue
		}
		switch {
		case !member.Created.Equal(a.created):
			c.away[identity] = absence{now, member.Created}
		case now.Sub(a.since) >= awayLimit:
			delete(c.away, identity)
			if m.kiosks[member.User] {
				continue // a window comes back to a call that it is in, however long that takes
			}
			m.ghosts[ghost{c.room, identity}] = member.Created
			if c.room == m.own {
				m.errand(errand{ghost: &member}) // for everybody else, too
			}
			m.layGhosts(c.room)
		}
	}
}

// gone takes it that somebody is away.
func (m *machine) gone(now time.Time, c *visit, identity string) {
	member, _ := m.member(c.room, identity)
	c.away[identity] = absence{now, member.Created}
}

// member finds somebody in a room's call, ghosts included.
func (m *machine) member(room id.RoomID, identity string) (member rtc.Member, ok bool) {
	for _, member := range m.listed[room] {
		if member.Identity == identity {
			return member, true
		}
	}
	return member, false
}

// back takes it that somebody is there after all, or that nobody can tell.
func (m *machine) back(c *visit, identity string) {
	delete(c.away, identity)
	delete(m.ghosts, ghost{c.room, identity})
	m.layGhosts(c.room)
}

// layGhosts leaves ghosts out of a room's members. Whoever comes again, with another membership, is none.
func (m *machine) layGhosts(room id.RoomID) {
	listed := m.listed[room]
	for g, created := range m.ghosts {
		if g.room == room && !slices.ContainsFunc(listed, func(r rtc.Member) bool { return r.Identity == g.identity && r.Created.Equal(created) }) {
			delete(m.ghosts, g)
		}
	}
	m.members[room] = slices.DeleteFunc(slices.Clone(listed), func(r rtc.Member) bool { return m.isGhost(room, r) })
	if len(listed) == 0 {
		delete(m.listed, room)
	}
	if len(m.members[room]) == 0 {
		delete(m.members, room)
	}
}

func (m *machine) isGhost(room id.RoomID, member rtc.Member) bool {
	_, is := m.ghosts[ghost{room, member.Identity}]
	return is
}

// ghostsIn are the ghosts in a room's call.
func (m *machine) ghostsIn(room id.RoomID) (list []rtc.Member) {
	for _, member := range m.listed[room] {
		if m.isGhost(room, member) {
			list = append(list, member)
		}
	}
	return list
}
