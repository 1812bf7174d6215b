// Package newnetwork makes and changes networks with an admin's account. Kiosks and hubs do not need it.
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

// Options describe a new network.
type Options struct {
	// Name is the name of the Space that people see. It is required.
	Name string
	// Admins get the same power as the creator, and are invited.
	Admins []id.UserID
	// Windows are the bots to be invited at once: into the room of the windows if there is one, else into the Space.
	Windows []id.UserID
	// WindowsRoom makes a room for the network's windows as well. Whoever an admin invites there is a window, and comes into the Space by itself. Whoever
	// an admin invites into the Space is a person who looks in. Without that room, as in networks of earlier versions, everybody in the Space can
	// announce a window.
	WindowsRoom bool
}

// Create makes the Space of a new network, with the account that the client is logged in with. That account becomes its admin. Create
// returns the Space's room id.
func Create(ctx context.Context, client *mautrix.Client, opts Options) (id.RoomID, error) {
	name := plain.Name(opts.Name)
	if name == "" {
		return "", errors.New("create network: its name needs a letter or a digit")
	}
	for _, user := range slices.Concat(opts.Admins, opts.Windows) {
		if !plain.ValidUser(user) {
			return "", fmt.Errorf("create network: %q is not a Matrix user id", user)
		}
	}
	var windows id.RoomID
	invited, joinRules := slices.Concat(opts.Admins, opts.Windows), &event.JoinRulesEventContent{JoinRule: event.JoinRuleInvite}
	if opts.WindowsRoom {
		var err error
		if windows, err = createWindowsRoom(ctx, client, name, opts.Admins); err != nil {
			return "", fmt.Errorf("create network: %w", err)
		}
		invited, joinRules = opts.Admins, newroom.OpenTo(windows)
	}
	req := &mautrix.ReqCreateRoom{
		Visibility:      "private",
		Preset:          "private_chat",
		Name:            name,
		CreationContent: map[string]any{"type": event.RoomTypeSpace},
		Invite:          slices.DeleteFunc(slices.Clone(invited), func(u id.UserID) bool { return u == client.UserID }),
		InitialState: []*event.Event{
			newroom.State(event.StateJoinRules, "", joinRules),
			// Members may see all of the past, which has no messages. If they may not, Dendrite hides the content of old events from a
			// server that joins later, and then from everybody else, too.
			newroom.State(event.StateHistoryVisibility, "", &event.HistoryVisibilityEventContent{HistoryVisibility: event.HistoryVisibilityShared}),
			newroom.State(event.StateGuestAccess, "", &event.GuestAccessEventContent{GuestAccess: event.GuestAccessForbidden}),
			newroom.State(networkstate.TypeNetwork, "", &networkstate.Network{Version: networkstate.Version, Policy: networkstate.Policy{Admit: "admins"}, Windows: windows}),
		},
		PowerLevelOverride: spacePower(opts.Admins),
	}
	room, err := newroom.Create(ctx, client, req)
	if err != nil {
		return "", fmt.Errorf("create network: %w", err)
	}
	if windows != "" {
		err := bindWindowsRoom(ctx, client, room, windows, opts.Windows)
		if err == nil {
			err = finishWindowsRoom(ctx, client, room, windows, opts.Windows)
		}
		if err != nil {
			return "", fmt.Errorf("create network: %w", err)
		}
	}
	return room, nil
}

// createWindowsRoom makes the room of a network's windows. Nobody writes messages there.
func createWindowsRoom(ctx context.Context, client *mautrix.Client, network string, admins []id.UserID) (id.RoomID, error) {
	return newroom.Create(ctx, client, &mautrix.ReqCreateRoom{
		Visibility: "private",
		Preset:     "private_chat",
		Name:       plain.Clean(network+": windows", plain.MaxName+len(": windows")),
		Topic:      "Whoever is invited here is a window of the network. Invite people into the Space.",
		Invite:     slices.DeleteFunc(slices.Clone(admins), func(u id.UserID) bool { return u == client.UserID }),
		InitialState: []*event.Event{
			newroom.State(event.StateJoinRules, "", &event.JoinRulesEventContent{JoinRule: event.JoinRuleInvite}),
			newroom.State(event.StateHistoryVisibility, "", &event.HistoryVisibilityEventContent{HistoryVisibility: event.HistoryVisibilityShared}),
			newroom.State(event.StateGuestAccess, "", &event.GuestAccessEventContent{GuestAccess: event.GuestAccessForbidden}),
		},
		PowerLevelOverride: spacePower(admins),
	})
}

// bindWindowsRoom makes the room of the windows name the Space, and says there whom finishWindowsRoom has to invite.
func bindWindowsRoom(ctx context.Context, client *mautrix.Client, space, windows id.RoomID, pending []id.UserID) error {
	_, err := client.SendStateEvent(ctx, windows, networkstate.TypeNetwork, "", &networkstate.Network{
		Version: networkstate.Version, Policy: networkstate.Policy{Admit: "admins"}, Space: space, Via: []string{client.UserID.Homeserver()}, Pending: pending,
	})
	if err != nil {
		return fmt.Errorf("name the Space in the windows' room: %w", err)
	}
	return nil
}

// finishWindowsRoom shows the room of the windows to the admins in Element, and invites windows into it. The Space must let its members in, and name it.
// It may be called again after an error.
func finishWindowsRoom(ctx context.Context, client *mautrix.Client, space, windows id.RoomID, pending []id.UserID) error {
	child := &event.SpaceChildEventContent{Via: []string{client.UserID.Homeserver()}}
	if _, err := client.SendStateEvent(ctx, space, event.StateSpaceChild, windows.String(), child); err != nil {
		return fmt.Errorf("list the windows' room: %w", err)
	}
	if len(pending) == 0 {
		return nil
	}
	var left []id.UserID // whom the next try has to invite
	var failed error
	for _, user := range pending {
		err := client.StateEvent(ctx, windows, event.StateMember, user.String(), new(json.RawMessage))
		if errors.Is(err, mautrix.MNotFound) { // else an earlier try has invited it
			_, err = client.InviteUser(ctx, windows, &mautrix.ReqInviteUser{UserID: user})
		}
		if err != nil {
			left, failed = append(left, user), errors.Join(failed, fmt.Errorf("invite %s: %w", user, err))
		}
	}
	return errors.Join(failed, bindWindowsRoom(ctx, client, space, windows, left))
}

// WindowsRoom returns the room of a network's windows, into which an admin invites them. It is empty for a network of an earlier version.
func WindowsRoom(ctx context.Context, client *mautrix.Client, space id.RoomID) (id.RoomID, error) {
	var content json.RawMessage
	if err := client.StateEvent(ctx, space, networkstate.TypeNetwork, "", &content); err != nil {
		return "", fmt.Errorf("read the network of %s: %w", space, err)
	}
	return networkstate.ParseNetwork(content).Windows, nil
}

// spacePower are the power levels of a network's Space, and of the room of its windows. Each kiosk announces its own room, and lists it for people. The
// admins have as much power as the room's creator.
func spacePower(admins []id.UserID) *event.PowerLevelsEventContent {
	power := powerlevels.Network(networkstate.TypeNetwork, networkstate.TypeRoom, event.StateSpaceChild)
	for _, admin := range admins {
		power.Users[admin] = 100
	}
	return power
}
