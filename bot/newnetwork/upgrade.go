package newnetwork

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/networkstate"
	"multifactorymodel.org/ewindow/bot/newroom"
	"multifactorymodel.org/ewindow/bot/plain"
	"multifactorymodel.org/ewindow/bot/powerlevels"
)

// Upgrade gives the Space of a network what this version needs, if an earlier version made it. The client is logged in with an admin's account.
// changed is false if nothing was missing.
func Upgrade(ctx context.Context, client *mautrix.Client, space id.RoomID) (changed bool, err error) {
	var create event.CreateEventContent
	if err = client.StateEvent(ctx, space, event.StateCreate, "", &create); err == nil {
		err = client.StateEvent(ctx, space, networkstate.TypeNetwork, "", new(json.RawMessage))
	}
	if errors.Is(err, mautrix.MNotFound) || err == nil && create.Type != event.RoomTypeSpace { // the room of the windows, for instance
		return false, fmt.Errorf("upgrade network: %s is no network's Space", space)
	}
	if err != nil {
		return false, fmt.Errorf("upgrade network: %w", err)
	}
	var old json.RawMessage
	if err := client.StateEvent(ctx, space, event.StatePowerLevels, "", &old); err != nil {
		return false, fmt.Errorf("upgrade network: read the power levels: %w", err)
	}
	power, changed := powerlevels.Merge(old, spacePower(nil), false)
	if !changed {
		return false, nil
	}
	if _, err := client.SendStateEvent(ctx, space, event.StatePowerLevels, "", power); err != nil {
		return false, fmt.Errorf("upgrade network: set the power levels: %w", err)
	}
	return true, nil
}

// AddWindowsRoom gives the network of an earlier version a room for its windows, see [Options]. It invites the accounts that announce a window in the
// Space now, and returns them: an admin should look whether each of them is one. Windows whose kiosk does not run come in when it does. After an error, call
// it again: it goes on where it ended. added is false if nothing was left to do.
func AddWindowsRoom(ctx context.Context, client *mautrix.Client, space id.RoomID) (invited []id.UserID, added bool, err error) {
	state, err := client.State(ctx, space)
	if err != nil {
		return nil, false, fmt.Errorf("add a room for the windows: %w", err)
	}
	create, present := state[event.StateCreate][""], state[networkstate.TypeNetwork][""]
	if create == nil || create.Content.AsCreate().Type != event.RoomTypeSpace || present == nil {
		return nil, false, fmt.Errorf("add a room for the windows: %s is no network's Space", space)
	}
	windows := networkstate.ParseNetwork(present.Content.VeryRaw).Windows
	if windows == "" {
		invited, added = slices.DeleteFunc(announcers(state), func(user id.UserID) bool { return user == client.UserID }), true
		windows, err = makeWindowsRoom(ctx, client, space, state, invited)
	} else {
		var bound json.RawMessage
		err = client.StateEvent(ctx, windows, networkstate.TypeNetwork, "", &bound)
		if errors.Is(err, mautrix.MForbidden) { // another admin made it and has not invited this one
			return nil, false, nil
		}
		invited = networkstate.ParseNetwork(bound).Pending
		added = len(invited) > 0 || state[event.StateSpaceChild][windows.String()] == nil
	}
	if err == nil && added {
		err = finishWindowsRoom(ctx, client, space, windows, invited)
	}
	if err != nil {
		return nil, false, fmt.Errorf("add a room for the windows: %w", err)
	}
	return invited, added, nil
}

// makeWindowsRoom makes the room of the windows, and then makes the Space name it. If that fails in between, the next try makes another room.
func makeWindowsRoom(ctx context.Context, client *mautrix.Client, space id.RoomID, state mautrix.RoomStateMap, pending []id.UserID) (id.RoomID, error) {
	name := space.String()
	if e := state[event.StateRoomName][""]; e != nil {
		name = plain.Name(e.Content.AsRoomName().Name)
	}
	windows, err := createWindowsRoom(ctx, client, name, nil)
	if err != nil {
		return "", err
	}
	if err := bindWindowsRoom(ctx, client, space, windows, pending); err != nil {
		return "", err
	}
	if _, err := client.SendStateEvent(ctx, space, event.StateJoinRules, "", newroom.OpenTo(windows)); err != nil {
		return "", fmt.Errorf("let the windows into the Space: %w", err)
	}
	content := &networkstate.Network{Version: networkstate.Version, Policy: networkstate.Policy{Admit: "admins"}, Windows: windows}
	if _, err := client.SendStateEvent(ctx, space, networkstate.TypeNetwork, "", content); err != nil {
		return "", fmt.Errorf("name the windows' room in the Space: %w", err)
	}
	return windows, nil
}

// announcers are the members of a Space who announce a window there.
func announcers(state mautrix.RoomStateMap) (users []id.UserID) {
	for key, member := range state[event.StateMember] {
		user := id.UserID(key)
		if !plain.ValidUser(user) || member.Content.AsMember().Membership != event.MembershipJoin {
			continue
		}
		var announced json.RawMessage
		switch own := state[networkstate.TypeRoom][key]; {
		case own != nil && own.Sender == user:
			announced = own.Content.VeryRaw
		case member.Sender == user:
			var content map[string]json.RawMessage
			_ = json.Unmarshal(member.Content.VeryRaw, &content) // what can't be read announces nothing
			announced = content[networkstate.MemberRoom]
		}
		if networkstate.ParseAnnouncement(announced).Room != "" {
			users = append(users, user)
		}
	}
	slices.Sort(users)
	return users
}
