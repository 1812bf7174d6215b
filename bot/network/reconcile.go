package network

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/backoff"
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
	n.runner.retryNow()
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
}

// apply applies one event of a room that we are in, or were in.
func (n *Network) apply(e *event.Event) {
	if e.StateKey != nil && e.Type.Type == event.StateMember.Type && id.UserID(*e.StateKey) == n.model.self {
		delete(n.invites, e.RoomID)
	}
	if e.Type.Type == StateWindow.Type && e.ID == n.sent.event {
		n.sent = sentWindow{}
	}
	n.model.apply(e)
}

// reconcile compares the rooms with how they should be, and starts the requests that are missing. It returns when to look again if nothing
// happens before.
func (n *Network) reconcile(now time.Time) time.Time {
	n.model.forget()
	if n.model.adopting {
		return n.runner.run(now, []task{n.adoptTask()})
	}
	n.model.chooseSpace()
	tasks := n.rememberTask(nil)
	var remind time.Time
	if n.model.space != "" {
		tasks, remind = n.ownTasks(tasks, now)
	}
	if !n.searchedInvites && (n.model.space == "" || n.model.unjoinedSuccessor() != "") {
		tasks = append(tasks, task{key: "look", what: "look for invitations", known: true, do: n.findOldInvites})
	}
	join, leave, wake := n.model.movements(now)
	space := n.model.space
	listedOwn, listed := n.model.own()
	if !listed {
		listedOwn = ""
	}
	may := space != "" && n.model.mayAnnounce(n.model.rooms[space])
	for _, v := range join {
		tasks = append(tasks, task{
			key: "join " + string(v.room), what: "join a window", max: maxJoinBackoff, slow: true, log: logRoom(v.room),
			do: func(ctx context.Context) (func(), error) {
				done, err := n.join(ctx, v.room, v.via)
				if errors.Is(err, mautrix.MForbidden) {
					n.reintroduce(ctx, space, listedOwn, may)
				}
				return done, err
			},
		})
	}
	for _, room := range n.model.unclear() {
		tasks = append(tasks, task{
			key: "look " + string(room), what: "fetch a window's state", log: logRoom(room),
			do: func(ctx context.Context) (func(), error) {
				events, err := n.fetch(ctx, room)
				return func() { n.model.addState(room, events) }, err
			},
		})
	}
	for _, v := range leave {
		tasks = append(tasks, n.leaveTask(v.room))
	}
	tasks = n.inviteTasks(tasks, join)
	return backoff.Earlier(backoff.Earlier(wake, remind), n.runner.run(now, tasks))
}

// rememberTask adds the tasks of writing to the database which network we were admitted to, and which windows there are and were, if that has changed.
func (n *Network) rememberTask(tasks []task) []task {
	if a := n.model.admission; a != n.saved {
		tasks = append(tasks, task{
			key: "remember", what: "write to the database", known: true,
			do: func(ctx context.Context) (func(), error) {
				return func() { n.saved = a }, n.store.setAdmission(ctx, n.model.self, a)
			},
		})
	}
	if !maps.Equal(n.model.known, n.savedWindows) {
		before, now := n.savedWindows, maps.Clone(n.model.known)
		tasks = append(tasks, task{
			key: "remember windows", what: "write to the database", known: true,
			do: func(ctx context.Context) (func(), error) {
				return func() { n.savedWindows = now }, n.store.setWindows(ctx, n.model.self, before, now)
			},
		})
	}
	return tasks
}

// leaveTask leaves a room.
func (n *Network) leaveTask(room id.RoomID) task {
	return task{
		key: "leave " + string(room), what: "leave a room", log: logRoom(room),
		do: func(ctx context.Context) (func(), error) {
			_, err := n.cfg.Bot.Client().LeaveRoom(ctx, room)
			return nil, err
		},
	}
}

// logRoom adds a room to a log line.
func logRoom(room id.RoomID) func(*zerolog.Event) {
	return func(e *zerolog.Event) { e.Stringer("room_id", room) }
}
