package network

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/backoff"
	"multifactorymodel.org/ewindow/bot/networkstate"
	"multifactorymodel.org/ewindow/bot/plain"
	"multifactorymodel.org/ewindow/bot/tasks"
)

const (
	// maxInvites is how many invitations are handled at a time: so many from admins, and so many from others. Further ones stay unanswered.
	maxInvites = 256
	// refuseAttempts is how often we try to refuse an invitation.
	refuseAttempts = 6
	// invitedWait is how long an invitation by somebody of another homeserver waits. If ours is in the room already, it gets the invitation twice: by itself,
	// and as a part of the room. Dendrite refuses or loses a join that comes before the second one.
	invitedWait = time.Second
)

// invite is an invitation as its stripped state shows it. Only the inviter is certain. Everything else is what the inviter's server says.
type invite struct {
	inviter     id.UserID
	predecessor id.RoomID // the room that this one says it replaces
	forged      bool      // it names two inviters
	due         time.Time // when it may be answered
}

// applyInvite applies the stripped state of a room that somebody invites us into.
func (n *Network) applyInvite(room id.RoomID, events []*event.Event) {
	if r := n.model.rooms[room]; !plain.ValidRoom(room) || r != nil && r.joined {
		return
	}
	inv := &invite{}
	for _, e := range events {
		if e.StateKey == nil {
			continue
		}
		data := contentOf(e)
		switch {
		case e.Type.Type == event.StateCreate.Type && *e.StateKey == "":
			var c event.CreateEventContent
			if json.Unmarshal(data, &c) == nil && c.Predecessor != nil {
				inv.predecessor = c.Predecessor.RoomID
			}
		case e.Type.Type == event.StateMember.Type && id.UserID(*e.StateKey) == n.model.self && membershipOf(data) == event.MembershipInvite:
			inv.forged = inv.forged || inv.inviter != "" && inv.inviter != e.Sender
			inv.inviter = e.Sender
		}
	}
	if n.invites[room] == nil && !n.hasPlace(inv) {
		n.refused.Add(1)
		return
	}
	if before := n.invites[room]; before != nil {
		inv.due = before.due
	} else if inv.inviter.Homeserver() != n.model.self.Homeserver() {
		inv.due = time.Now().Add(invitedWait)
	}
	n.invites[room] = inv
}

// hasPlace says whether one more invitation is handled. Strangers can't take the admins' places.
func (n *Network) hasPlace(more *invite) bool {
	fromAdmin := func(inv *invite) bool { return !inv.forged && n.model.admin(inv.inviter) }
	count := 0
	for _, inv := range n.invites {
		if fromAdmin(inv) == fromAdmin(more) {
			count++
		}
	}
	return count < maxInvites
}

// inviteTasks adds the tasks that answer invitations:
//   - from a configured admin, while we are in no network: accepted, one at a time;
//   - from an admin, into the room of the network's windows: accepted;
//   - into the room that the network's Space was upgraded to: accepted;
//   - from anybody else, or into any other room: refused.
//
// wake is when to ask again.
func (n *Network) inviteTasks(todo []tasks.Task, now time.Time, joins []movement) (_ []tasks.Task, wake time.Time) {
	accepting := n.model.space != ""
	for _, room := range slices.Sorted(maps.Keys(n.invites)) {
		if n.model.isIn(room) { // we know that from the answer to our join; sync will show it
			delete(n.invites, room)
			continue
		}
		inv := n.invites[room]
		fromAdmin := slices.Contains(n.cfg.Admins, inv.inviter) && !inv.forged
		switch {
		case now.Before(inv.due):
			wake = backoff.Earlier(wake, inv.due)
		case slices.ContainsFunc(joins, func(v movement) bool { return v.room == room }):
			// A window of the network, which is being joined anyway.
		case room == n.model.unjoinedSuccessor():
			todo = append(todo, n.followTask(room, inv.inviter))
		case n.model.space != "" && inv.predecessor == n.model.space && !inv.forged && n.model.admin(inv.inviter):
			// The invitation came before the tombstone. Wait for the tombstone.
		case room == n.model.windows && !inv.forged && n.model.admin(inv.inviter):
			todo = append(todo, n.followTask(room, inv.inviter))
		case fromAdmin && n.model.space == "":
			if !accepting { // the other invitations wait until it is known what this one leads to
				accepting = true
				n.model.admission = admission{Space: room}
				n.saved = n.model.admission // acceptTask writes it
				todo = append(todo, n.acceptTask(room, inv.inviter))
			}
		default:
			if fromAdmin && !n.warned["refused "+string(room)] && len(n.warned) < maxInvites {
				n.warned["refused "+string(room)] = true
				n.cfg.Log.Warn().Stringer("room_id", room).Stringer("sender", inv.inviter).
					Msg("This window is in a network already: an admin's invitation into another room is refused")
			}
			todo = append(todo, n.refuseTask(room))
		}
	}
	return todo, wake
}

// followTask joins another room of the network: the one that its Space was upgraded to, or that of its windows.
func (n *Network) followTask(room id.RoomID, inviter id.UserID) tasks.Task {
	return tasks.Task{
		Key: "follow " + string(room), What: "join a room of the network", Max: maxJoinBackoff, Log: logRoom(room),
		Do: func(ctx context.Context) (func(), error) {
			addState, err := n.join(ctx, room, servers([]string{inviter.Homeserver()}, n.cfg.Bot.ServerName()))
			if err != nil {
				return nil, err
			}
			return func() {
				addState()
				delete(n.invites, room)
				n.cfg.Log.Info().Stringer("room_id", room).Msg("This window has come into another room of its network")
			}, nil
		},
	}
}

// enterTask joins the network's Space. Who is in the room of its windows may do so without an invitation (MSC3083).
func (n *Network) enterTask(windows *room) tasks.Task {
	space, via := n.model.admission.Space, servers(windows.windowsVia, windows.creator.Homeserver())
	return tasks.Task{
		Key: "enter " + space.String(), What: "join the network's Space", Max: maxJoinBackoff, Log: logRoom(space),
		Do: func(ctx context.Context) (func(), error) { return n.join(ctx, space, via) },
	}
}

// acceptTask joins a network's Space or the room of its windows, and leaves the room again if it is neither. That it was accepted is remembered before,
// so that a crash in between does not lead into a room that we then do not know.
func (n *Network) acceptTask(room id.RoomID, inviter id.UserID) tasks.Task {
	log := n.cfg.Log.With().Stringer("room_id", room).Stringer("sender", inviter).Logger()
	return tasks.Task{
		Key: "accept " + string(room), What: "accept the invitation into a network", Log: logRoom(room),
		Do: func(ctx context.Context) (func(), error) {
			client, self := n.cfg.Bot.Client(), n.cfg.Bot.UserID()
			if err := n.store.setAdmission(ctx, self, admission{Space: room}); err != nil {
				return nil, err
			}
			addState, err := n.join(ctx, room, servers([]string{inviter.Homeserver()}, n.cfg.Bot.ServerName()))
			if err != nil {
				return nil, err
			}
			var content json.RawMessage
			err = client.StateEvent(ctx, room, networkstate.TypeNetwork, "", &content)
			if errors.Is(err, mautrix.MNotFound) { // so, too, if Dendrite has forgotten that we joined
				joined, failed := client.JoinedRooms(ctx)
				if failed != nil || !slices.Contains(joined.JoinedRooms, room) {
					return nil, err
				}
			} else if err != nil {
				return nil, err
			}
			accepted := admission{Space: networkstate.ParseNetwork(content).Space} // the room of the windows names it
			if err == nil && accepted.Space == "" {
				var create event.CreateEventContent
				if err := client.StateEvent(ctx, room, event.StateCreate, "", &create); err != nil {
					return nil, err
				}
				if create.Type == event.RoomTypeSpace { // an invitation need not say so
					accepted.Space = room
				}
			}
			if accepted.Space != "" {
				return func() {
					addState()
					if n.model.admission.Space == room {
						n.model.admission = accepted
					}
					n.model.admitted(n.model.rooms[room], room, n.model.self)
					delete(n.invites, room)
					log.Info().Msg("This window was taken into a network")
				}, nil
			}
			if _, err := client.LeaveRoom(ctx, room); err != nil {
				return nil, err
			}
			return func() {
				n.model.admission = admission{}
				delete(n.invites, room)
				n.refused.Add(1)
				log.Warn().Msg("The room that this window was invited into is no network of e-window, so it was left again")
			}, nil
		},
	}
}

// refuseTask refuses an invitation. After some failures the invitation is forgotten.
func (n *Network) refuseTask(room id.RoomID) tasks.Task {
	t := n.leaveTask(room)
	t.Key, t.What, t.Known, t.Slow = "refuse "+string(room), "refuse an invitation", true, true
	leave := t.Do
	t.Do = func(ctx context.Context) (func(), error) {
		_, err := leave(ctx)
		return func() { n.refusedOne(room) }, err
	}
	t.Failed = func(count int) {
		if count >= refuseAttempts {
			n.refusedOne(room)
		}
	}
	return t
}

// refusedOne forgets an invitation and counts it.
func (n *Network) refusedOne(room id.RoomID) {
	delete(n.invites, room)
	n.refused.Add(1)
	n.cfg.Log.Debug().Stringer("room_id", room).Msg("An invitation was refused")
}

// invitesOnly is a sync filter that leaves out nearly everything. Invitations cannot be filtered out.
const invitesOnly = `{"presence":{"not_types":["*"]},"account_data":{"not_types":["*"]},"room":{"timeline":{"limit":1},` +
	`"state":{"types":["m.room.create"]},"ephemeral":{"not_types":["*"]},"account_data":{"not_types":["*"]}}}`

// findOldInvites finds invitations that came before this program was started and were not answered. The bot's sync shows each only once.
func (n *Network) findOldInvites(ctx context.Context) (func(), error) {
	resp, err := n.cfg.Bot.Client().SyncRequest(ctx, 0, "", invitesOnly, false, "")
	if err != nil {
		return nil, err
	}
	return func() {
		n.searchedInvites = true
		for room, invited := range resp.Rooms.Invite {
			n.applyInvite(room, invited.State.Events)
		}
	}, nil
}
