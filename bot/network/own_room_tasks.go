package network

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/backoff"
	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bot/networkstate"
	"multifactorymodel.org/ewindow/bot/newroom"
	"multifactorymodel.org/ewindow/bot/plain"
	"multifactorymodel.org/ewindow/bot/powerlevels"
	"multifactorymodel.org/ewindow/bot/tasks"
)

// createBackoff is the shortest wait before a new room is asked for again. The homeserver may still be creating the room of the request
// that failed.
const createBackoff = 15 * time.Second

// ownTasks adds the tasks for our own room: that it exists, that the Space lists it, and that its state is as it should be. wake is when to
// ask again.
func (n *Network) ownTasks(todo []tasks.Task, now time.Time) (_ []tasks.Task, wake time.Time) {
	space, chain := n.model.space, n.model.chain
	own, _ := n.model.own()
	if own == "" {
		known := slices.Collect(maps.Keys(n.model.rooms))
		return append(todo, tasks.Task{
			Key: "make", What: "make the window's room", Min: createBackoff, Log: logRoom(space),
			Do: func(ctx context.Context) (func(), error) { return n.makeOwn(ctx, chain, known) },
		}), time.Time{}
	}
	room := n.model.rooms[own]
	state := func(what string, where id.RoomID, t event.Type, key string, content any) {
		data, _ := json.Marshal(content) // so that another content need not wait until sync has shown this one
		todo = append(todo, tasks.Task{
			Key: what + string(data), What: what, Log: logRoom(where),
			Do: func(ctx context.Context) (func(), error) {
				_, err := n.cfg.Bot.Client().SendStateEvent(ctx, where, t, key, content)
				return nil, err
			},
		})
	}
	todo = n.windowTask(todo, own, room)
	if room.goneAt != 0 && room.goneBy == n.model.self {
		todo = append(todo, tasks.Task{
			Key: "here", What: "say that this window is here again", Log: logRoom(own),
			Do: func(ctx context.Context) (func(), error) {
				_, err := n.cfg.Bot.Client().SendStateEvent(ctx, own, networkstate.TypeGone, "", networkstate.Gone{})
				return n.sign.Again, err
			},
		})
	}
	todo, invite := n.invitationTasks(todo, now, own, room)
	if !n.model.isDown(n.model.self) {
		delete(n.warned, "removed from the Space")
		todo, wake = n.announceTasks(todo, now, own, room)
	} else if !n.warned["removed from the Space"] {
		n.warned["removed from the Space"] = true
		n.cfg.Log.Warn().Stringer("room_id", own).Msg("An admin took this window out of the network")
	}
	if !slices.Contains(room.allow, space) { // the Space was upgraded
		state("let the network's members in", own, event.StateJoinRules, "", newroom.OpenTo(space))
	}
	if !room.parents[space] {
		state("name the network in the window's room", own, event.StateSpaceParent, string(space),
			&event.SpaceParentEventContent{Via: n.spaceServers(space), Canonical: true})
	}
	if name := n.roomName(); room.name != name {
		state("name the window", own, event.StateRoomName, "", &event.RoomNameEventContent{Name: name})
	}
	var present []id.UserID
	for _, admin := range n.cfg.Admins {
		if admin != n.model.self && room.members[admin] == event.MembershipJoin {
			present = append(present, admin)
		}
	}
	listed := n.model.self
	if room.creators != nil {
		listed = ""
	}
	if power, changed := powerlevels.Merge(room.power.raw, powerlevels.Window(listed, present, networkstate.TypeWindow, networkstate.TypeGone), true); changed {
		state("set the power levels", own, event.StatePowerLevels, "", power)
	}
	for _, user := range n.model.removedUsers(room) {
		todo = append(todo, tasks.Task{
			Key: "remove " + string(user), What: "remove a user who left the network", Log: logRoom(own),
			Do: func(ctx context.Context) (func(), error) {
				_, err := n.cfg.Bot.Client().KickUser(ctx, own, &mautrix.ReqKickUser{UserID: user, Reason: "no longer in the network"})
				return nil, err
			},
		})
	}
	return todo, backoff.Earlier(wake, invite)
}

// roomName is what our window's room is called. Others read only the first part of a long name, which would look like another name to them.
func (n *Network) roomName() string {
	if name := n.model.ownName(); plain.Name(name) == name {
		return name
	}
	return n.cfg.Name
}

// windowTask adds the task of sending our window's state event, if the present event does not have the right content.
func (n *Network) windowTask(todo []tasks.Task, own id.RoomID, room *room) []tasks.Task {
	var current *networkstate.Window
	if room.window != nil {
		current = room.window.content
	}
	if n.sent.room == own {
		current = n.sent.content
	}
	want := n.windowContent(current)
	if current != nil && want.Equal(current) {
		return todo
	}
	return append(todo, tasks.Task{
		Key: "window", What: "tell the network the shutter", Known: true, Log: logRoom(own),
		Do: func(ctx context.Context) (func(), error) {
			resp, err := n.cfg.Bot.Client().SendStateEvent(ctx, own, networkstate.TypeWindow, "", want)
			if err != nil {
				return nil, err
			}
			return func() {
				// Sync may have shown the event already.
				if r := n.model.rooms[own]; r != nil && (r.window == nil || r.window.id != resp.EventID) {
					n.sent = sentWindow{room: own, event: resp.EventID, content: want}
				}
			}, nil
		},
	})
}

// windowContent is what our state event should say. Until SetState is called, shutter and facing stay as they are in old.
func (n *Network) windowContent(old *networkstate.Window) *networkstate.Window {
	c := &networkstate.Window{
		Version: networkstate.Version, Kiosk: n.model.self, Shutter: directory.Shut, Since: time.Now().UnixMilli(),
		City: n.cfg.City, Timezone: plain.Tag(n.cfg.Timezone),
	}
	for _, l := range n.cfg.Languages {
		if l = plain.Tag(l); l != "" {
			c.Languages = append(c.Languages, l)
		}
	}
	switch {
	case n.desired.Shutter != "":
		c.Shutter, c.Since, c.NoPicture, c.Facing = n.desired.Shutter, millis(n.desired.Since), n.desired.NoPicture, n.desired.Facing
	case old != nil:
		c.Shutter, c.Since, c.NoPicture, c.Facing = old.Shutter, old.Since, old.NoPicture, old.Facing
	}
	return c
}

// millis is a time in milliseconds since 1970, 0 when it is unset or out of range.
func millis(t time.Time) int64 {
	if ms := t.UnixMilli(); !t.IsZero() && ms > 0 && ms <= networkstate.MaxMillis {
		return ms
	}
	return 0
}

// makeOwn makes the window's room, for the first Space of chain. If the room was made before a crash, makeOwn finds that room instead. known are
// the rooms whose state is known already, so they need not be searched.
func (n *Network) makeOwn(ctx context.Context, chain []id.RoomID, known []id.RoomID) (func(), error) {
	client := n.cfg.Bot.Client()
	joined, err := client.JoinedRooms(ctx)
	if err != nil {
		return nil, err
	}
	for _, room := range joined.JoinedRooms {
		if slices.Contains(known, room) {
			continue
		}
		events, err := n.fetch(ctx, room)
		if err != nil {
			return nil, err
		}
		found := newModel(n.cfg.Bot.UserID(), nil)
		for _, e := range events {
			e.RoomID = room
			found.apply(e)
		}
		if found.isOwn(found.rooms[room], chain) {
			return func() { n.model.addState(room, events) }, nil
		}
	}
	room, err := newroom.Create(ctx, client, n.windowRequest(chain[0]))
	if err != nil {
		return nil, err
	}
	n.cfg.Log.Info().Stringer("room_id", room).Msg("The window's room is made")
	return nil, nil
}

// spaceServers are the servers through which the Space can be joined.
func (n *Network) spaceServers(space id.RoomID) []string {
	return servers([]string{n.cfg.Bot.ServerName()}, n.model.rooms[space].creator.Homeserver())
}
