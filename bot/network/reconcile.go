package network

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/backoff"
	"multifactorymodel.org/ewindow/bot/networkstate"
	"multifactorymodel.org/ewindow/bot/tasks"
)

// collect keeps an event of the bot until commit. It is called by the bot's goroutine.
func (n *Network) collect(e *event.Event) { n.collected = append(n.collected, e) }

// commit queues the events of one sync response for Run, all at once, so that no decision is made on half of it. It is called by the bot's
// goroutine.
func (n *Network) commit() {
	events := n.collected
	n.collected = nil
	n.queue.Put(func() { n.applySync(events) })
}

// applySync applies the events of one sync response.
func (n *Network) applySync(events []*event.Event) {
	n.runner.RetryNow()
	sortEvents(events)
	invited := make(map[id.RoomID][]*event.Event)
	for _, e := range events {
		if e.Mautrix.EventSource&event.SourceInvite != 0 {
			invited[e.RoomID] = append(invited[e.RoomID], e)
		} else {
			n.apply(e)
		}
	}
	for room, state := range invited {
		n.applyInvite(room, state)
	}
	if !n.started { // the bot begins with the whole state of all rooms
		n.started = true
		for _, r := range n.model.rooms {
			r.complete = r.joined && r.creator != ""
		}
	}
}

// apply applies one event of a room that we are in, or were in.
func (n *Network) apply(e *event.Event) {
	if e.StateKey != nil && e.Type.Type == event.StateMember.Type && id.UserID(*e.StateKey) == n.model.self {
		delete(n.invites, e.RoomID)
	}
	if e.Type.Type == networkstate.TypeWindow.Type && e.ID == n.sent.event {
		n.sent = sentWindow{}
	}
	n.model.apply(e)
}

// maxLooks is how often a room's state is fetched because it has no name.
const maxLooks = 6

// reconcile compares the rooms with how they should be, and starts the requests that are missing. It returns when to look again if nothing
// happens before.
func (n *Network) reconcile(now time.Time) time.Time {
	n.model.forget()
	if n.model.adopting {
		return n.runner.Run(now, []tasks.Task{n.adoptTask()})
	}
	n.model.chooseSpace()
	todo := n.rememberTask(nil)
	var remind time.Time
	switch {
	case n.model.isWindow():
		todo, remind = n.ownTasks(todo, now)
	case n.model.space != "" && !n.warned["no window"]:
		n.warned["no window"] = true
		n.cfg.Log.Warn().Stringer("room_id", n.model.windows).
			Msg("This account is in the network's Space, but is no window: an admin has to invite it into the room of the network's windows")
	}
	if r := n.model.waiting(); r != nil {
		todo = append(todo, n.enterTask(r))
	}
	if !n.searchedInvites && (!n.model.isWindow() || n.model.unjoinedSuccessor() != "") {
		todo = append(todo, tasks.Task{Key: "look", What: "look for invitations", Known: true, Do: n.findOldInvites})
	}
	join, leave, wake := n.model.movements(now)
	space := n.model.space
	listedOwn, listed := n.model.own()
	if !listed {
		listedOwn = ""
	}
	home := n.model.home()
	may := n.model.isWindow() && n.model.mayAnnounce(n.model.rooms[home])
	for _, v := range join {
		key := "join " + string(v.room)
		if inv := n.invites[v.room]; inv != nil {
			if now.Before(inv.due) {
				continue
			}
			key += " invited" // without the wait for the next attempt, which may be long
		}
		todo = append(todo, tasks.Task{
			Key: key, What: "join a window", Max: maxJoinBackoff, Slow: true, Log: logRoom(v.room),
			Do: func(ctx context.Context) (func(), error) {
				done, err := n.join(ctx, v.room, v.via)
				if errors.Is(err, mautrix.MForbidden) {
					n.reintroduce(ctx, space, home, listedOwn, may)
				}
				return done, err
			},
		})
	}
	for _, room := range n.model.unclear() {
		todo = append(todo, tasks.Task{
			Key: "look " + string(room), What: "fetch a window's state", Log: logRoom(room),
			Do: func(ctx context.Context) (func(), error) {
				events, err := n.fetch(ctx, room)
				if err != nil {
					return nil, err
				}
				n.queue.Put(func() { n.model.addState(room, events) })
				if !slices.ContainsFunc(events, func(e *event.Event) bool { return e.Type.Type == event.StateRoomName.Type }) {
					return nil, errors.New("the homeserver does not show the room's name") // Dendrite, shortly after a join
				}
				return func() { n.model.room(room).nameless = true }, nil // a name that can't be read does not count
			},
			Failed: func(count int) {
				if count >= maxLooks {
					n.model.room(room).nameless = true
				}
			},
		})
	}
	for _, v := range leave {
		todo = append(todo, n.leaveTask(v.room))
	}
	todo, answer := n.inviteTasks(todo, now, join)
	return backoff.Earlier(backoff.Earlier(wake, remind), backoff.Earlier(answer, n.runner.Run(now, todo)))
}

// rememberTask adds the tasks of writing to the database which network we were admitted to, and which windows there are and were, if that has changed.
func (n *Network) rememberTask(todo []tasks.Task) []tasks.Task {
	if a := n.model.admission; a != n.saved {
		todo = append(todo, tasks.Task{
			Key: "remember", What: "write to the database", Known: true,
			Do: func(ctx context.Context) (func(), error) {
				return func() { n.saved = a }, n.store.setAdmission(ctx, n.model.self, a)
			},
		})
	}
	if !maps.Equal(n.model.known, n.savedWindows) {
		before, now := n.savedWindows, maps.Clone(n.model.known)
		todo = append(todo, tasks.Task{
			Key: "remember windows", What: "write to the database", Known: true,
			Do: func(ctx context.Context) (func(), error) {
				return func() { n.savedWindows = now }, n.store.setWindows(ctx, n.model.self, before, now)
			},
		})
	}
	return todo
}

// leaveTask leaves a room.
func (n *Network) leaveTask(room id.RoomID) tasks.Task {
	return tasks.Task{
		Key: "leave " + string(room), What: "leave a room", Log: logRoom(room),
		Do: func(ctx context.Context) (func(), error) {
			_, err := n.cfg.Bot.Client().LeaveRoom(ctx, room)
			return nil, err
		},
	}
}

// logRoom adds a room to a log line.
func logRoom(room id.RoomID) func(*zerolog.Event) {
	return func(e *zerolog.Event) { e.Stringer("room_id", room) }
}
