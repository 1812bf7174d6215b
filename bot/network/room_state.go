package network

import (
	"cmp"
	"encoding/json"
	"slices"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/networkstate"
	"multifactorymodel.org/ewindow/bot/plain"
)

// addState applies the state of a room that was just joined, as the homeserver returned it. What sync has shown already is newer and stays. So
// it does not matter when sync shows the room's older state, or whether sync shows all of it.
func (m *model) addState(room id.RoomID, events []*event.Event) {
	sortEvents(events)
	for _, e := range events {
		if e.StateKey == nil || m.rooms[room] != nil && m.rooms[room].seen[stateKey{e.Type.Type, *e.StateKey}] {
			continue
		}
		e.RoomID = room
		m.apply(e)
	}
	// Dendrite may leave out some state of a room that we have just joined.
	if r := m.rooms[room]; r != nil {
		r.complete = r.creator != ""
	}
}

// sortEvents brings events into an order in which they can be applied: first the state before a timeline, which has no order of its own, and of
// that who is there and who has power. The timeline stays as it is.
func sortEvents(events []*event.Event) {
	rank := func(e *event.Event) int {
		switch {
		case e.Mautrix.EventSource&event.SourceTimeline != 0:
			return 3
		case e.Type.Type == event.StateMember.Type:
			return 0
		case e.Type.Type == event.StateCreate.Type, e.Type.Type == event.StatePowerLevels.Type:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(events, func(a, b *event.Event) int { return cmp.Compare(rank(a), rank(b)) })
}

// apply applies one state event of a room that the bot is in, or was in.
func (m *model) apply(e *event.Event) {
	if e.StateKey == nil || !plain.ValidRoom(e.RoomID) {
		return
	}
	key, data := *e.StateKey, contentOf(e)
	if e.Type.Type == event.StateMember.Type && id.UserID(key) == m.self {
		r := m.room(e.RoomID)
		r.joined = membershipOf(data) == event.MembershipJoin
		r.complete = r.complete && r.joined
	}
	if e.Mautrix.EventSource&event.SourceLeave != 0 {
		return
	}
	r := m.room(e.RoomID)
	switch e.Type.Type {
	case event.StateSpaceChild.Type:
		if m.applyChild(r, e, id.RoomID(key), data) {
			r.saw(e)
		}
		return
	case networkstate.TypeRoom.Type:
		if user := id.UserID(key); e.Sender == user && plain.ValidUser(user) {
			r.announce(user, announcement{Announcement: networkstate.ParseAnnouncement(data), event: e.ID})
			r.saw(e)
		}
		return
	}
	r.saw(e)
	switch e.Type.Type {
	case event.StateMember.Type:
		m.applyMember(r, e, id.UserID(key), data)
		return
	case event.StateSpaceParent.Type:
		if plain.ValidRoom(id.RoomID(key)) && len(r.parents) < maxChildren {
			r.parents[id.RoomID(key)] = len(networkstate.ParseChild(data)) > 0
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
		r.name = plain.Name(c.Name)
		if _, known := m.called[e.RoomID]; r.name != "" && (known || len(m.called) < maxChildren) {
			m.called[e.RoomID] = r.name
		}
	case event.StatePowerLevels.Type:
		p := powerLevels{raw: data}
		_ = json.Unmarshal(data, &p) // power levels that cannot be read give nobody power
		r.power = p
	case event.StateJoinRules.Type:
		r.applyJoinRules(data)
	case networkstate.TypeWindow.Type:
		r.windowSender, r.window = e.Sender, nil
		if c, err := networkstate.ParseWindow(data); err == nil {
			r.window = &windowEvent{id: e.ID, sender: e.Sender, at: e.Timestamp, content: c}
		}
	case networkstate.TypeGone.Type:
		var c networkstate.Gone
		r.goneBy, r.goneAt = e.Sender, 0
		if json.Unmarshal(data, &c) == nil && c.Gone {
			r.goneAt = min(max(e.Timestamp, 1), networkstate.MaxMillis)
		}
	case networkstate.TypeNetwork.Type:
		c := networkstate.ParseNetwork(data)
		r.network, r.networkSender, r.windows, r.windowsOf, r.windowsVia = true, e.Sender, c.Windows, c.Space, c.Via
	case event.StateTombstone.Type:
		r.applyTombstone(data)
	}
}

// saw remembers that the state which an event sets is known.
func (r *room) saw(e *event.Event) {
	if len(r.seen) < 3*maxMembers {
		r.seen[stateKey{e.Type.Type, *e.StateKey}] = true
	}
}

// announce keeps what a kiosk announces. There is one announcement for each user. An event of its own counts more than the membership.
func (r *room) announce(user id.UserID, a announcement) {
	old, known := r.announced[user]
	if !known && len(r.announced) >= maxMembers || a.inMember && known && !old.inMember {
		return
	}
	r.announced[user] = a
}

// applyChild applies an m.space.child event, and says whether it matters. Anybody in a Space can write these events, and as many as they like. What
// counts is what the Space's admins say with them, and whether the entry of our own room is still there.
func (m *model) applyChild(r *room, e *event.Event, where id.RoomID, data []byte) bool {
	c, known := r.children[where]
	admin := m.adminOf(r, e.Sender)
	if !plain.ValidRoom(where) || !known && (!admin && e.Sender != m.self || len(r.children) >= maxChildren) {
		return false
	}
	c.sender, c.via = e.Sender, networkstate.ParseChild(data)
	if admin && e.ID != c.event {
		c.event, c.word = e.ID, lists
		if len(c.via) == 0 {
			c.word = takesDown
		}
	}
	r.children[where] = c
	return true
}

// applyMember applies an m.room.member event.
func (m *model) applyMember(r *room, e *event.Event, user id.UserID, data []byte) {
	if !plain.ValidUser(user) {
		return
	}
	var c struct {
		Membership event.Membership `json:"membership"`
		Name       string           `json:"displayname"`
	}
	_ = json.Unmarshal(data, &c) // what cannot be read counts as no membership
	before, known := r.members[user]
	if !known && len(r.members) >= maxMembers {
		return
	}
	// The state of a room that we were in says nothing about the order of things.
	if before != event.MembershipJoin && (known || e.Mautrix.EventSource&event.SourceTimeline != 0) && c.Membership == event.MembershipJoin && r.space {
		m.admitted(r, e.RoomID, user)
	}
	r.members[user] = c.Membership
	if r.hubs[user] != "" && c.Membership != event.MembershipJoin {
		r.formerHubs[user] = true
	}
	delete(r.hubs, user)
	if e.Sender != user || c.Membership != event.MembershipJoin {
		return
	}
	var extra map[string]json.RawMessage // our own members
	_ = json.Unmarshal(data, &extra)
	if string(extra[networkstate.MemberHub]) == "true" {
		if r.hubs == nil {
			r.hubs, r.formerHubs = make(map[id.UserID]id.EventID), make(map[id.UserID]bool)
		}
		r.hubs[user] = e.ID
		delete(r.formerHubs, user)
	}
	if name := plain.Name(c.Name); name != "" {
		m.newNames[user] = name
	}
	// A client that changes the user's name may leave the announcement out. That says nothing.
	if extra[networkstate.MemberRoom] != nil {
		r.announce(user, announcement{Announcement: networkstate.ParseAnnouncement(extra[networkstate.MemberRoom]), event: e.ID, inMember: true})
	}
}

func (r *room) applyCreate(e *event.Event, data []byte) {
	var c event.CreateEventContent
	if json.Unmarshal(data, &c) != nil {
		return
	}
	r.creator, r.created, r.space = e.Sender, e.Timestamp, c.Type == event.RoomTypeSpace
	r.creators, r.predecessor = nil, ""
	if c.Predecessor != nil && plain.ValidRoom(c.Predecessor.RoomID) {
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
	if plain.ValidRoom(c.ReplacementRoom) {
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
