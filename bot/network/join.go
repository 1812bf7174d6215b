package network

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/networkstate"
	"multifactorymodel.org/ewindow/bot/plain"
)

// maxJoinBackoff is the longest wait between two attempts to join a room. A server may have a lasting reason to refuse.
const maxJoinBackoff = 10 * time.Minute

// join joins a room through the servers named, and fetches its state. The function that it returns gives the state to the model.
func (n *Network) join(ctx context.Context, room id.RoomID, via []string) (func(), error) {
	client := n.cfg.Bot.Client()
	address := client.BuildURLWithFullQuery(mautrix.ClientURLPath{"v3", "join", room}, func(q url.Values) {
		q["via"] = via
		q["server_name"] = via // as via was called before Matrix 1.12
	})
	var resp mautrix.RespJoinRoom
	if _, err := client.MakeRequest(ctx, http.MethodPost, address, struct{}{}, &resp); err != nil {
		return nil, err
	}
	if resp.RoomID == "" {
		return nil, errors.New("the homeserver has not finished joining the room") // Dendrite's 202 after twenty seconds
	}
	events, err := n.fetch(ctx, room)
	if err != nil {
		return nil, err
	}
	// Dendrite may say that we joined and then forget it, as long as the invitation has not reached all servers.
	self := n.cfg.Bot.UserID()
	if !slices.ContainsFunc(events, func(e *event.Event) bool {
		return e.Type.Type == event.StateMember.Type && e.GetStateKey() == string(self) &&
			membershipOf(contentOf(e)) == event.MembershipJoin
	}) {
		return nil, errors.New("the homeserver does not show us in the room that we joined")
	}
	return func() { n.model.addState(room, events) }, nil
}

// reintroduce sends our membership of the Space, and what we announce there, once more. A homeserver that joined the Space at the
// same moment as we did may never have received our membership. Dendrite then rejects all our events in the Space for good, and does not let us
// join the rooms of that homeserver's windows. New events of the same meaning bring it what it lacks. If reintroduce fails, it is tried again at
// the next refusal.
func (n *Network) reintroduce(ctx context.Context, space, home, own id.RoomID, may bool) {
	err := n.sendMember(ctx, space, func(member map[string]any) { member[networkstate.Again] = time.Now().UnixMilli() })
	if err == nil && own != "" {
		err = n.announce(ctx, home, own, may, true)
	}
	n.cfg.Log.Info().Err(err).Stringer("room_id", space).Msg("A window's homeserver does not know us, so the network is told again that we are here")
}

// fetch asks for a room's state. mautrix also writes it to the bot's store.
func (n *Network) fetch(ctx context.Context, room id.RoomID) ([]*event.Event, error) {
	state, err := n.cfg.Bot.Client().State(ctx, room)
	if err != nil {
		return nil, err
	}
	var events []*event.Event
	for _, byKey := range state {
		events = slices.AppendSeq(events, maps.Values(byKey))
	}
	return events, nil
}

// servers returns the list with one more server, if that is valid and not in it.
func servers(list []string, more string) []string {
	list = slices.Clone(list)
	if plain.ValidServer(more) && !slices.Contains(list, more) {
		list = append(list, more)
	}
	return list
}
