package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"go.mau.fi/util/ptr"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
)

// CreateOptions describe a new network.
type CreateOptions struct {
	// Name is the name of the Space that people see. It is required.
	Name string
	// Admins get the same power as the creator, and are invited.
	Admins []id.UserID
	// Windows are the bots to be invited at once.
	Windows []id.UserID
}

// Create makes the Space of a new network, with the account that the client is logged in with. That account becomes its admin. Create
// returns the Space's room id.
func Create(ctx context.Context, client *mautrix.Client, opts CreateOptions) (id.RoomID, error) {
	name := cleanName(opts.Name)
	if name == "" {
		return "", errors.New("create network: its name needs a letter or a digit")
	}
	for _, user := range slices.Concat(opts.Admins, opts.Windows) {
		if !validUser(user) {
			return "", fmt.Errorf("create network: %q is not a Matrix user id", user)
		}
	}
	power := networkPower()
	for _, admin := range opts.Admins {
		power.Users[admin] = 100
	}
	req := &mautrix.ReqCreateRoom{
		Visibility:      "private",
		Preset:          "private_chat",
		Name:            name,
		CreationContent: map[string]any{"type": event.RoomTypeSpace},
		Invite:          slices.DeleteFunc(slices.Concat(opts.Admins, opts.Windows), func(u id.UserID) bool { return u == client.UserID }),
		InitialState: []*event.Event{
			state(event.StateJoinRules, "", &event.JoinRulesEventContent{JoinRule: event.JoinRuleInvite}),
			// Members may see all of the past, which has no messages. If they may not, Dendrite hides the content of old events from a
			// server that joins later, and then from everybody else, too.
			state(event.StateHistoryVisibility, "", &event.HistoryVisibilityEventContent{HistoryVisibility: event.HistoryVisibilityShared}),
			state(event.StateGuestAccess, "", &event.GuestAccessEventContent{GuestAccess: event.GuestAccessForbidden}),
			state(StateNetwork, "", &networkContent{Version: version, Policy: networkPolicy{Admit: "admins"}}),
		},
		PowerLevelOverride: power,
	}
	room, err := createRoom(ctx, client, req)
	if err != nil {
		return "", fmt.Errorf("create network: %w", err)
	}
	return room, nil
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
	power, changed := mergePower(old, networkPower(), false)
	if !changed {
		return false, nil
	}
	if _, err := client.SendStateEvent(ctx, space, event.StatePowerLevels, "", power); err != nil {
		return false, fmt.Errorf("upgrade network: set the power levels: %w", err)
	}
	return true, nil
}

// networkPower are the power levels of a network's Space.
func networkPower() *event.PowerLevelsEventContent {
	power := &event.PowerLevelsEventContent{
		Users: make(map[id.UserID]int),
		Events: map[string]int{
			StateRoom.Type:             0, // each kiosk announces its own room
			event.StateSpaceChild.Type: 0, // and lists it for people
			StateNetwork.Type:          100,
		},
		EventsDefault:   50,
		StateDefaultPtr: ptr.Ptr(50),
		InvitePtr:       ptr.Ptr(50),
		KickPtr:         ptr.Ptr(50),
		BanPtr:          ptr.Ptr(50),
		RedactPtr:       ptr.Ptr(50),
	}
	protect(power)
	return power
}

// windowRequest describes our window's room. All of it is made in one request, so that the room is either complete or does not exist.
func (n *Network) windowRequest(space id.RoomID) *mautrix.ReqCreateRoom {
	return &mautrix.ReqCreateRoom{
		Visibility: "private",
		Preset:     "private_chat",
		Name:       n.cfg.Name,
		InitialState: []*event.Event{
			state(event.StateJoinRules, "", windowJoinRules(space)),
			state(event.StateHistoryVisibility, "", &event.HistoryVisibilityEventContent{HistoryVisibility: event.HistoryVisibilityJoined}),
			state(event.StateGuestAccess, "", &event.GuestAccessEventContent{GuestAccess: event.GuestAccessForbidden}),
			state(event.StateEncryption, "", &event.EncryptionEventContent{
				// Windows delete keys after a day, so keys must not be in use for longer.
				Algorithm: id.AlgorithmMegolmV1, RotationPeriodMillis: (12 * time.Hour).Milliseconds(),
			}),
			state(event.StateSpaceParent, string(space), &event.SpaceParentEventContent{
				Via: []string{n.cfg.Bot.ServerName()}, Canonical: true,
			}),
			state(StateWindow, "", n.initialWindow()),
		},
		PowerLevelOverride: n.windowPower(false, nil),
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

// createRoom makes a room of the best version that the homeserver offers. It makes the request once: repeating it after a lost answer would
// make a second room.
func createRoom(ctx context.Context, client *mautrix.Client, req *mautrix.ReqCreateRoom) (id.RoomID, error) {
	offered, err := client.Capabilities(ctx)
	if err != nil {
		return "", fmt.Errorf("ask for room versions: %w", err)
	}
	req.RoomVersion = bestVersion(offered.RoomVersions)
	if !req.RoomVersion.PrivilegedRoomCreators() {
		req.PowerLevelOverride.Users[client.UserID] = 100
	}
	var resp mautrix.RespCreateRoom
	_, err = client.MakeFullRequest(ctx, mautrix.FullRequest{
		Method: http.MethodPost, URL: client.BuildClientURL("v3", "createRoom"), RequestJSON: req, ResponseJSON: &resp, MaxAttempts: 1,
	})
	if err != nil {
		return "", fmt.Errorf("create room: %w", err)
	}
	if !validRoom(resp.RoomID) {
		return "", errors.New("create room: the server did not say which")
	}
	for _, e := range req.InitialState {
		// The bot's store must know at once that the room is encrypted, not only when sync says so.
		e.RoomID = resp.RoomID
		mautrix.UpdateStateStore(ctx, client.StateStore, e)
	}
	return resp.RoomID, nil
}

// bestVersion is 12 if the homeserver has it, else 11, else 10. Older versions lack restricted joins (MSC3083) or integer power levels.
func bestVersion(offered *mautrix.CapRoomVersions) id.RoomVersion {
	for _, v := range []id.RoomVersion{id.RoomV12, id.RoomV11} {
		if offered != nil && offered.IsAvailable(string(v)) && offered.IsStable(string(v)) {
			return v
		}
	}
	return id.RoomV10
}

// state makes a state event for a new room.
func state(t event.Type, key string, content any) *event.Event {
	return &event.Event{Type: t, StateKey: &key, Content: event.Content{Parsed: content}}
}
