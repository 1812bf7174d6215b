package network

import (
	"encoding/json"

	"go.mau.fi/util/ptr"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/unstable"
)

// windowPower are the power levels of a window's room. Everybody may be in its calls (MSC3401, MSC4075, MSC4310). Only admins who are in the
// room get the power to invite guests. The reason is Dendrite: for a restricted join (MSC3083) it lets any user with that power authorise the
// join. If that user is not in the room, the join fails. The bot itself is listed only before room version 12: since then creators have
// unlimited power and must not be listed.
func (n *Network) windowPower(listBot bool, admins []id.UserID) *event.PowerLevelsEventContent {
	power := &event.PowerLevelsEventContent{
		Users: make(map[id.UserID]int),
		Events: map[string]int{
			unstable.CallMember: 0, unstable.CallMemberStable: 0, unstable.RTCSlot: 50, unstable.CallNotification: 0, unstable.CallDecline: 0,
			StateWindow.Type: ownWindowPower, StateGone.Type: ownWindowPower,
		},
		Notifications:   &event.NotificationPowerLevels{RoomPtr: ptr.Ptr(0)},
		StateDefaultPtr: ptr.Ptr(50),
		InvitePtr:       ptr.Ptr(50),
		KickPtr:         ptr.Ptr(50),
		BanPtr:          ptr.Ptr(50),
		RedactPtr:       ptr.Ptr(50),
	}
	protect(power)
	for _, admin := range admins {
		power.Users[admin] = adminPower
	}
	if listBot {
		power.Users[n.cfg.Bot.UserID()] = ownWindowPower
	}
	return power
}

// protect demands the highest level for the events that could open a room to others.
func protect(power *event.PowerLevelsEventContent) {
	for _, t := range []event.Type{
		event.StatePowerLevels, event.StateJoinRules, event.StateHistoryVisibility, event.StateGuestAccess, event.StateEncryption,
		event.StateServerACL, event.StateTombstone,
	} {
		power.Events[t.Type] = 100
	}
}

// mergePower returns old with the levels that want demands, and everything else unchanged. With exact, the users whom want does not name lose their
// levels. old is untrusted.
func mergePower(old json.RawMessage, want *event.PowerLevelsEventContent, exact bool) (merged map[string]any, changed bool) {
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
