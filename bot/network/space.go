package network

import (
	"maps"
	"slices"

	"maunium.net/go/mautrix/id"
)

// maxUpgrades is how many upgrades of one room are followed.
const maxUpgrades = 16

// successor is the Space that a network's Space was upgraded to, if we are in it. Each of the two must name the other, and the creator of
// the new one must be an admin of the old one.
func (m *model) successor(name id.RoomID) id.RoomID {
	old := m.rooms[name]
	if old == nil || !old.upgraded {
		return ""
	}
	r := m.rooms[old.replacement]
	if r == nil || !r.joined || !r.space || r.predecessor != name || !m.adminOf(old, r.creator) {
		return ""
	}
	return old.replacement
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

// chainOf follows upgrades backwards, as far as we are in the old Spaces. It begins with the Space itself.
func (m *model) chainOf(space id.RoomID) []id.RoomID {
	chain := []id.RoomID{space}
	for range maxUpgrades {
		previous := m.rooms[space].predecessor
		if m.successor(previous) != space {
			break
		}
		space = previous
		chain = append(chain, space)
	}
	return chain
}

// unjoinedSuccessor is the room that the network's Space was upgraded to, as long as we are not in it.
func (m *model) unjoinedSuccessor() id.RoomID {
	old := m.rooms[m.space]
	if old == nil || !old.upgraded || old.replacement == "" || m.rooms[old.replacement] != nil && m.rooms[old.replacement].joined {
		return ""
	}
	return old.replacement
}

// isNetwork says whether a room is a network's Space that we are in. An upgrade may not copy our state event, so a predecessor that has it
// counts, too.
func (m *model) isNetwork(name id.RoomID) bool {
	r := m.rooms[name]
	return r != nil && r.joined && r.space &&
		slices.ContainsFunc(m.chainOf(name), func(name id.RoomID) bool { return m.rooms[name].network })
}

// chooseSpace sets the network's Space: the one that the accepted invitation led to, or the latest that it was upgraded to, if we are in it. No
// other Space is ever chosen, and none follows when we are removed from it.
func (m *model) chooseSpace() {
	// The invitation may have led to the room of a network's windows.
	if r := m.rooms[m.admission.Space]; r != nil && r.joined && !r.space && r.windowsOf != "" {
		m.admission = admission{Space: r.windowsOf}
	}
	chosen := m.latest(m.admission.Space)
	if !m.isNetwork(chosen) {
		chosen = ""
	}
	if chosen != m.space {
		clear(m.rejected)
	}
	m.space, m.chain, m.windows = chosen, nil, ""
	if chosen != "" {
		m.chain = m.chainOf(chosen)
		m.admission = admission{Space: chosen, Member: true}
		for _, space := range m.chain {
			if m.windows = m.rooms[space].windows; m.windows != "" {
				break
			}
		}
	}
	m.note()
}

// strange says whether we are in a room that is a Space and not the network's. Earlier versions joined a Space if a member listed it. One that an
// admin made to replace the network's is not strange: the tombstone may be on its way.
func (m *model) strange(name id.RoomID, r *room) bool {
	return r.joined && r.space && name != m.admission.Space && !slices.Contains(m.chain, name) &&
		(m.space == "" || r.predecessor != m.space || !m.admin(r.creator))
}

// expelled says whether we have to leave a room since we are not a window any more: the Space after we were removed from the room of the windows, or that
// room after we were removed from the Space. A room of windows that an invitation has just led to is not left: the Space is being joined.
func (m *model) expelled(name id.RoomID, r *room) bool {
	switch {
	case !r.joined:
		return false
	case name == m.space:
		_, was := m.known[m.self]
		return was && !m.isWindow()
	case r.space, r.windowsOf == "", name == m.windows, name == m.admission.Space:
		return false
	}
	return m.space != "" || m.admission.Member || r.windowsOf != m.admission.Space
}

// waiting is the room of windows that an admin's invitation led to, as long as we are not in the network's Space.
func (m *model) waiting() *room {
	if m.space != "" || m.admission.Space == "" || m.admission.Member {
		return nil
	}
	for _, r := range m.rooms {
		if r.joined && !r.space && r.windowsOf == m.admission.Space {
			return r
		}
	}
	return nil
}

// children are the rooms that the network's Space lists. After an upgrade the list of the old Space counts, until the new one says
// something else about a room.
func (m *model) children() map[id.RoomID]child {
	all := make(map[id.RoomID]child)
	for _, space := range slices.Backward(m.chain) {
		maps.Copy(all, m.rooms[space].children)
	}
	return all
}
