// Package newroom makes Matrix rooms of the best version that a homeserver offers.
package newroom

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/plain"
)

// Create makes a room of the best version that the homeserver offers. It makes the request once: repeating it after a lost answer would
// make a second room.
func Create(ctx context.Context, client *mautrix.Client, req *mautrix.ReqCreateRoom) (id.RoomID, error) {
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
	if !plain.ValidRoom(resp.RoomID) {
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

// State makes a state event for a new room.
func State(t event.Type, key string, content any) *event.Event {
	return &event.Event{Type: t, StateKey: &key, Content: event.Content{Parsed: content}}
}

// OpenTo are join rules that let members of another room in (MSC3083), and users who are invited.
func OpenTo(room id.RoomID) *event.JoinRulesEventContent {
	return &event.JoinRulesEventContent{
		JoinRule: event.JoinRuleRestricted,
		Allow:    []event.JoinRuleAllow{{Type: event.JoinRuleAllowRoomMembership, RoomID: room}},
	}
}
