package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bot/newroom"
	"multifactorymodel.org/ewindow/bot/plain"
	"multifactorymodel.org/ewindow/bot/powerlevels"
)

// CreateOptions describe a new network.
type CreateOptions struct {
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
func Create(ctx context.Context, client *mautrix.Client, opts CreateOptions) (id.RoomID, error) {
	name := plain.Name(opts.Name)
	if name == "" {
		return "", errors.New("create network: its name needs a letter or a digit")
	}
	for _, user := range slices.Concat(opts.Admins, opts.Windows) {
		if !plain.ValidUser(user) {
			return "", fmt.Errorf("create network: %q is not a Matrix user id", user)
		}
	}
	power := networkPower()
	for _, admin := range opts.Admins {
		power.Users[admin] = 100
	}
	var windows id.RoomID
	invited, joinRules := slices.Concat(opts.Admins, opts.Windows), &event.JoinRulesEventContent{JoinRule: event.JoinRuleInvite}
	if opts.WindowsRoom {
		var err error
		if windows, err = createWindowsRoom(ctx, client, name, opts.Admins); err != nil {
			return "", fmt.Errorf("create network: %w", err)
		}
		invited, joinRules = opts.Admins, windowJoinRules(windows)
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
			newroom.State(StateNetwork, "", &networkContent{Version: version, Policy: networkPolicy{Admit: "admins"}, Windows: windows}),
		},
		PowerLevelOverride: power,
	}
	room, err := newroom.Create(ctx, client, req)
	if err != nil {
		return "", fmt.Errorf("create network: %w", err)
	}
	if windows != "" {
		if err := bindWindowsRoom(ctx, client, room, windows, opts.Windows); err != nil {
			return "", fmt.Errorf("create network: %w", err)
		}
	}
	return room, nil
}

// createWindowsRoom makes the room of a network's windows. Nobody writes messages there.
func createWindowsRoom(ctx context.Context, client *mautrix.Client, network string, admins []id.UserID) (id.RoomID, error) {
	power := networkPower()
	for _, admin := range admins {
		power.Users[admin] = 100
	}
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
		PowerLevelOverride: power,
	})
}

// bindWindowsRoom makes the room of the windows name the Space, shows it to the admins in Element, and invites windows into it. The Space must let its
// members in, and name it.
func bindWindowsRoom(ctx context.Context, client *mautrix.Client, space, windows id.RoomID, invited []id.UserID) error {
	via := []string{client.UserID.Homeserver()}
	content := &networkContent{Version: version, Policy: networkPolicy{Admit: "admins"}, Space: space, Via: via}
	if _, err := client.SendStateEvent(ctx, windows, StateNetwork, "", content); err != nil {
		return fmt.Errorf("name the Space in the windows' room: %w", err)
	}
	if _, err := client.SendStateEvent(ctx, space, event.StateSpaceChild, windows.String(), &event.SpaceChildEventContent{Via: via}); err != nil {
		return fmt.Errorf("list the windows' room: %w", err)
	}
	for _, user := range invited {
		if _, err := client.InviteUser(ctx, windows, &mautrix.ReqInviteUser{UserID: user}); err != nil {
			return fmt.Errorf("invite %s: %w", user, err)
		}
	}
	return nil
}

// WindowsRoom returns the room of a network's windows, into which an admin invites them. It is empty for a network of an earlier version.
func WindowsRoom(ctx context.Context, client *mautrix.Client, space id.RoomID) (id.RoomID, error) {
	var content json.RawMessage
	if err := client.StateEvent(ctx, space, StateNetwork, "", &content); err != nil {
		return "", fmt.Errorf("read the network of %s: %w", space, err)
	}
	return parseNetwork(content).Windows, nil
}

// Upgrade gives the Space of a network what this version needs, if an earlier version made it. The client is logged in with an admin's account.
// changed is false if nothing was missing.
func Upgrade(ctx context.Context, client *mautrix.Client, space id.RoomID) (changed bool, err error) {
	err = client.StateEvent(ctx, space, StateNetwork, "", new(json.RawMessage))
	if errors.Is(err, mautrix.MNotFound) {
		return false, fmt.Errorf("upgrade network: %s is no network's Space", space)
	}
	if err != nil {
		return false, fmt.Errorf("upgrade network: %w", err)
	}
	var old json.RawMessage
	if err := client.StateEvent(ctx, space, event.StatePowerLevels, "", &old); err != nil {
		return false, fmt.Errorf("upgrade network: read the power levels: %w", err)
	}
	power, changed := powerlevels.Merge(old, networkPower(), false)
	if !changed {
		return false, nil
	}
	if _, err := client.SendStateEvent(ctx, space, event.StatePowerLevels, "", power); err != nil {
		return false, fmt.Errorf("upgrade network: set the power levels: %w", err)
	}
	return true, nil
}

// AddWindowsRoom gives the network of an earlier version a room for its windows, see [CreateOptions]. It invites the accounts that announce a window in the
// Space now, and returns them: an admin should look whether each of them is one. Windows whose kiosk does not run come in when it does.
func AddWindowsRoom(ctx context.Context, client *mautrix.Client, space id.RoomID) (invited []id.UserID, err error) {
	state, err := client.State(ctx, space)
	if err != nil {
		return nil, fmt.Errorf("add a room for the windows: %w", err)
	}
	m := newModel("", nil)
	m.admission.Space = space
	for _, byKey := range state {
		m.addState(space, slices.Collect(maps.Values(byKey)))
	}
	r := m.rooms[space]
	if r == nil || !r.space || !r.network {
		return nil, fmt.Errorf("add a room for the windows: %s is no network's Space", space)
	}
	if r.windows != "" {
		return nil, fmt.Errorf("add a room for the windows: there is one, %s", r.windows)
	}
	for user := range r.announced {
		if r.announced[user].Room != "" && r.members[user] == event.MembershipJoin && user != client.UserID {
			invited = append(invited, user)
		}
	}
	slices.Sort(invited)
	windows, err := createWindowsRoom(ctx, client, r.name, nil)
	if err != nil {
		return nil, fmt.Errorf("add a room for the windows: %w", err)
	}
	content := &networkContent{Version: version, Policy: networkPolicy{Admit: "admins"}, Windows: windows}
	if _, err := client.SendStateEvent(ctx, space, event.StateJoinRules, "", windowJoinRules(windows)); err != nil {
		return nil, fmt.Errorf("let the windows into the Space: %w", err)
	}
	if _, err := client.SendStateEvent(ctx, space, StateNetwork, "", content); err != nil {
		return nil, fmt.Errorf("name the windows' room in the Space: %w", err)
	}
	if err := bindWindowsRoom(ctx, client, space, windows, invited); err != nil {
		return nil, fmt.Errorf("add a room for the windows: %w", err)
	}
	return invited, nil
}

// networkPower are the power levels of a network's Space. Each kiosk announces its own room, and lists it for people.
func networkPower() *event.PowerLevelsEventContent {
	return powerlevels.Network(StateNetwork, StateRoom, event.StateSpaceChild)
}

// windowRequest describes our window's room. All of it is made in one request, so that the room is either complete or does not exist.
func (n *Network) windowRequest(space id.RoomID) *mautrix.ReqCreateRoom {
	return &mautrix.ReqCreateRoom{
		Visibility: "private",
		Preset:     "private_chat",
		Name:       n.cfg.Name,
		InitialState: []*event.Event{
			newroom.State(event.StateJoinRules, "", windowJoinRules(space)),
			newroom.State(event.StateHistoryVisibility, "", &event.HistoryVisibilityEventContent{HistoryVisibility: event.HistoryVisibilityJoined}),
			newroom.State(event.StateGuestAccess, "", &event.GuestAccessEventContent{GuestAccess: event.GuestAccessForbidden}),
			newroom.State(event.StateEncryption, "", &event.EncryptionEventContent{
				// Windows delete keys after a day, so keys must not be in use for longer.
				Algorithm: id.AlgorithmMegolmV1, RotationPeriodMillis: (12 * time.Hour).Milliseconds(),
			}),
			newroom.State(event.StateSpaceParent, string(space), &event.SpaceParentEventContent{
				Via: []string{n.cfg.Bot.ServerName()}, Canonical: true,
			}),
			newroom.State(StateWindow, "", n.initialWindow()),
		},
		PowerLevelOverride: powerlevels.Window("", nil, StateWindow, StateGone),
	}
}

// windowJoinRules let members of a Space join, and users who are invited.
func windowJoinRules(space id.RoomID) *event.JoinRulesEventContent {
	return &event.JoinRulesEventContent{
		JoinRule: event.JoinRuleRestricted,
		Allow:    []event.JoinRuleAllow{{Type: event.JoinRuleAllowRoomMembership, RoomID: space}},
	}
}

// initialWindow is the window event of a new room. The shutter in it is shut. The state that SetState has set is sent right after the room was
// made.
func (n *Network) initialWindow() *windowContent {
	return &windowContent{Version: version, Kiosk: n.cfg.Bot.UserID(), Shutter: directory.Shut, City: n.cfg.City}
}
