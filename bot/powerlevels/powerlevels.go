// Package powerlevels makes the power levels (m.room.power_levels) of a network's rooms: nobody but their owner can open them to others.
package powerlevels

import (
	"encoding/json"

	"go.mau.fi/util/ptr"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/unstable"
)

const (
	// owner is the level of the account that made a room, moderator that of an admin in a window's room.
	owner     = 100
	moderator = 50
)

// Window are the power levels of a window's room. Everybody may be in its calls (MSC3401, MSC4075, MSC4310). Only its kiosk sends the types in own. Only
// admins who are in the room get the power to invite guests. The reason is Dendrite: for a restricted join (MSC3083) it lets any user with that power
// authorise the join. If that user is not in the room, the join fails. The kiosk itself is listed only before room version 12, else it is "": since
// then creators have unlimited power and must not be listed.
func Window(kiosk id.UserID, admins []id.UserID, own ...event.Type) *event.PowerLevelsEventContent {
	power := closed()
	power.Notifications = &event.NotificationPowerLevels{RoomPtr: ptr.Ptr(0)}
	for _, t := range []string{unstable.CallMember, unstable.CallMemberStable, unstable.CallNotification, unstable.CallDecline} {
		power.Events[t] = 0
	}
	power.Events[unstable.RTCSlot] = moderator
	for _, t := range own {
		power.Events[t.Type] = owner
	}
	for _, admin := range admins {
		power.Users[admin] = moderator
	}
	if kiosk != "" {
		power.Users[kiosk] = owner
	}
	return power
}

// Network are the power levels of a network's Space, and of the room of its windows. Every member may send the types in open, and only admins the type
// network. Nobody writes messages there.
func Network(network event.Type, open ...event.Type) *event.PowerLevelsEventContent {
	power := closed()
	power.EventsDefault = moderator
	power.Events[network.Type] = owner
	for _, t := range open {
		power.Events[t.Type] = 0
	}
	return power
}

// closed demands a moderator for everything that members do not need, and the highest level for the events that could open a room to others.
func closed() *event.PowerLevelsEventContent {
	power := &event.PowerLevelsEventContent{
		Users:           make(map[id.UserID]int),
		Events:          make(map[string]int),
		StateDefaultPtr: ptr.Ptr(moderator),
		InvitePtr:       ptr.Ptr(moderator),
		KickPtr:         ptr.Ptr(moderator),
		BanPtr:          ptr.Ptr(moderator),
		RedactPtr:       ptr.Ptr(moderator),
	}
	for _, t := range []event.Type{
		event.StatePowerLevels, event.StateJoinRules, event.StateHistoryVisibility, event.StateGuestAccess, event.StateEncryption,
		event.StateServerACL, event.StateTombstone,
	} {
		power.Events[t.Type] = owner
	}
	return power
}

// Merge returns old with the levels that want demands, and everything else unchanged. With exact, the users whom want does not name lose their
// levels. old is the content of an m.room.power_levels event, and untrusted: if it is no JSON object, changed is false.
func Merge(old json.RawMessage, want *event.PowerLevelsEventContent, exact bool) (merged map[string]any, changed bool) {
	if json.Unmarshal(old, &merged) != nil || merged == nil {
		return nil, false
	}
	section := func(name string) map[string]any {
		m, ok := merged[name].(map[string]any)
		if !ok {
			m = make(map[string]any)
			merged[name] = m
		}
		return m
	}
	users, events := section("users"), section("events")
	for user, power := range want.Users {
		if v, ok := users[string(user)].(float64); !ok || v < float64(power) || exact && v != float64(power) {
			users[string(user)], changed = power, true
		}
	}
	for user := range users {
		if _, wanted := want.Users[id.UserID(user)]; exact && !wanted {
			delete(users, user)
			changed = true
		}
	}
	for name, power := range want.Events {
		if v, ok := events[name].(float64); !ok || v != float64(power) {
			events[name], changed = power, true
		}
	}
	return merged, changed
}
