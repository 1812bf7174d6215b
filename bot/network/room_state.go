package network

import (
	"encoding/json"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// addState applies the state of a room that was just joined, as the homeserver returned it. What sync has shown already is newer and stays. So
// it does not matter when sync shows the room's older state, or whether sync shows all of it.
func (m *model) addState(room id.RoomID, events []*event.Event) {
	for _, e := range events {
		if e.StateKey == nil || m.rooms[room] != nil && m.rooms[room].seen[stateKey{e.Type.Type, *e.StateKey}] {
			continue
		}
		e.RoomID = room
		m.apply(e)
	}
}

// apply applies one state event of a room that the bot is in, or was in.
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
		_ = json.Unmarshal(data, &c) // a name that cannot be read counts as none
		r.name = cleanName(c.Name)
	case event.StatePowerLevels.Type:
		p := powerLevels{raw: data}
		_ = json.Unmarshal(data, &p) // power levels that cannot be read give nobody power
		r.power = p
	case event.StateJoinRules.Type:
		r.applyJoinRules(data)
	case StateWindow.Type:
		r.windowSender, r.window = e.Sender, nil
		if c, err := parseWindow(data); err == nil {
			r.window = &windowEvent{id: e.ID, sender: e.Sender, at: e.Timestamp, content: c}
		}
	case StateNetwork.Type:
		r.network, r.networkSender = true, e.Sender
	case event.StateTombstone.Type:
		r.applyTombstone(data)
	}
}

// applyMember applies an m.room.member event. It may clear a rejection whose reason was that this user was not in the Space.
func (m *model) applyMember(r *room, where id.RoomID, sender, user id.UserID, data []byte) {
	if !validUser(user) {
		return
	}
	var c struct {
		Membership event.Membership `json:"membership"`
		Name       string           `json:"displayname"`
	}
	_ = json.Unmarshal(data, &c) // what cannot be read counts as no membership
	if _, known := r.members[user]; !known && len(r.members) >= maxMembers {
		return
	}
	r.members[user] = c.Membership
	if name := cleanName(c.Name); sender == user && c.Membership == event.MembershipJoin && name != "" {
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
	r.creators, r.predecessor = nil, ""
	if c.Predecessor != nil && validRoom(c.Predecessor.RoomID) {
		r.predecessor = c.Predecessor.RoomID
	}
	if c.RoomVersion.PrivilegedRoomCreators() {
		r.creators = append([]id.UserID{e.Sender}, c.AdditionalCreators...)
	}
}

func (r *room) applyTombstone(data []byte) {
	var c event.TombstoneEventContent
	_ = json.Unmarshal(data, &c) // a tombstone that cannot be read names no room
	r.upgraded, r.replacement = true, ""
	if validRoom(c.ReplacementRoom) {
		r.replacement = c.ReplacementRoom
	}
}

func (r *room) applyJoinRules(data []byte) {
	var c event.JoinRulesEventContent
	_ = json.Unmarshal(data, &c) // a rule that cannot be read lets nobody in
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

// contentOf is the JSON of an event's content.
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

// membershipOf reads the membership in the content of an m.room.member event.
func membershipOf(data []byte) event.Membership {
	var c struct {
		Membership event.Membership `json:"membership"`
	}
	_ = json.Unmarshal(data, &c) // what cannot be read counts as no membership
	return c.Membership
}
