package network

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
)

// createBackoff is how long a request for a new room that failed may still be under way in the homeserver.
const createBackoff = 15 * time.Second

// apply takes an event of sync.
func (n *Network) apply(e *event.Event) {
	if e.Mautrix.EventSource&event.SourceInvite != 0 {
		n.applyInvite(e)
		return
	}
	if e.StateKey != nil && e.Type.Type == event.StateMember.Type && id.UserID(*e.StateKey) == n.model.self {
		delete(n.invites, e.RoomID)
	}
	if e.Type.Type == StateWindow.Type && e.ID == n.sent.event {
		n.sent = sentWindow{}
	}
	n.model.apply(e)
}

// reconcile asks for everything that isn't yet as it should be, and returns when to look again though nothing has happened.
func (n *Network) reconcile(now time.Time) time.Time {
	n.model.forget()
	n.model.chooseSpace()
	var tasks []task
	var remind time.Time
	if n.model.space != "" {
		tasks, remind = n.ownTasks(tasks, now)
	}
	if !n.looked && (n.model.space == "" || n.model.awaited() != "") {
		tasks = append(tasks, task{key: "look", what: "look for invitations", known: true, do: n.lookForInvites})
	}
	join, leave, wake := n.model.movements(now)
	space := n.model.space
	hungOwn, hung := n.model.own()
	if !hung {
		hungOwn = ""
	}
	for _, v := range join {
		tasks = append(tasks, task{
			key: "join " + string(v.room), what: "join a window", max: maxJoinBackoff, log: logRoom(v.room),
			do: func(ctx context.Context) (func(), error) {
				done, err := n.join(ctx, v.room, v.via)
				if errors.Is(err, mautrix.MForbidden) {
					n.reintroduce(ctx, space, hungOwn)
				}
				return done, err
			},
		})
	}
	for _, v := range leave {
		tasks = append(tasks, n.leaveTask(v.room))
	}
	tasks = n.inviteTasks(tasks, join)
	return earliest(earliest(wake, remind), n.runner.run(now, tasks))
}

// ownTasks asks for our own room, with everything that belongs to it. wake is when to ask again.
func (n *Network) ownTasks(tasks []task, now time.Time) (_ []task, wake time.Time) {
	space, trail := n.model.space, n.model.trail
	own, _ := n.model.own()
	if own == "" {
		known := slices.Collect(maps.Keys(n.model.rooms))
		return append(tasks, task{
			key: "make", what: "make the window's room", min: createBackoff, log: logRoom(space),
			do: func(ctx context.Context) (func(), error) { return n.makeOwn(ctx, trail, known) },
		}), time.Time{}
	}
	room := n.model.rooms[own]
	state := func(what string, where id.RoomID, t event.Type, key string, content any) {
		tasks = append(tasks, task{
			key: what, what: what, log: logRoom(where),
			do: func(ctx context.Context) (func(), error) {
				_, err := n.cfg.Bot.Client().SendStateEvent(ctx, where, t, key, content)
				return nil, err
			},
		})
	}
	tasks = n.windowTask(tasks, own, room)
	c, exists := n.model.rooms[space].children[own]
	switch {
	case n.model.hangs(c):
		delete(n.said, "taken down")
		var due bool
		if due, wake = n.remind(now, n.model.absent(room, n.model.directory())); due {
			state("hang the window into the network again", space, event.StateSpaceChild, string(own),
				map[string]any{"via": []string{n.cfg.Bot.ServerName()}, again: now.UnixMilli()})
		}
		for _, old := range n.model.replaced() {
			state("take a window's old room down: "+string(old), space, event.StateSpaceChild, string(old), struct{}{})
		}
	case exists && len(c.via) == 0 && c.sender != n.model.self && n.model.admin(c.sender):
		if !n.said["taken down"] {
			n.said["taken down"] = true
			n.cfg.Log.Warn().Stringer("room_id", own).Stringer("sender", c.sender).Msg("An admin took this window out of the network")
		}
	default:
		state("hang the window into the network", space, event.StateSpaceChild, string(own),
			&event.SpaceChildEventContent{Via: []string{n.cfg.Bot.ServerName()}})
	}
	if !slices.Contains(room.allow, space) { // the Space was upgraded
		state("let the network's members in", own, event.StateJoinRules, "", windowJoinRules(space))
	}
	if !room.parents[space] {
		state("name the network in the window's room", own, event.StateSpaceParent, string(space),
			&event.SpaceParentEventContent{Via: n.spaceServers(space), Canonical: true})
	}
	if name := clean(n.cfg.Name, maxName); room.name != name {
		state("name the window", own, event.StateRoomName, "", &event.RoomNameEventContent{Name: name})
	}
	var present []id.UserID
	for _, admin := range n.cfg.Admins {
		if admin != n.model.self && room.members[admin] == event.MembershipJoin {
			present = append(present, admin)
		}
	}
	if power, changed := mergePower(room.power.raw, n.windowPower(room.creators == nil, present), n.cfg.Admins); changed {
		state("set the power levels", own, event.StatePowerLevels, "", power)
	}
	for _, user := range n.model.strangers(room) {
		tasks = append(tasks, task{
			key: "remove " + string(user), what: "remove a user who left the network", log: logRoom(own),
			do: func(ctx context.Context) (func(), error) {
				_, err := n.cfg.Bot.Client().KickUser(ctx, own, &mautrix.ReqKickUser{UserID: user, Reason: "no longer in the network"})
				return nil, err
			},
		})
	}
	return tasks, wake
}

// reminder is for a kiosk that should have come into our room.
type reminder struct {
	window id.EventID // its state, as a sign of life
	count  int
	next   time.Time
}

const (
	// firstReminder is how long a kiosk may take to come into our room. It then doubles.
	firstReminder = 15 * time.Second
	// maxReminders is how often a kiosk that gives no sign of life is reminded.
	maxReminders = 5
)

// remind says whether our room should be hung in again, for a kiosk that doesn't come into it. Where two join a Space at about the
// same time, the server of one can miss the events of the other, until the next event points it to the gap.
func (n *Network) remind(now time.Time, absent map[id.UserID]id.EventID) (due bool, wake time.Time) {
	maps.DeleteFunc(n.reminders, func(kiosk id.UserID, _ *reminder) bool { return absent[kiosk] == "" })
	for kiosk, window := range absent {
		r := n.reminders[kiosk]
		if r == nil {
			r = &reminder{next: now.Add(firstReminder)}
			n.reminders[kiosk] = r
		}
		if r.window != window {
			r.window, r.count = window, 0
		}
		switch {
		case r.count >= maxReminders:
		case now.Before(r.next):
			wake = earliest(wake, r.next)
		default:
			due = true
			r.count++
			r.next = now.Add(firstReminder << r.count)
			wake = earliest(wake, r.next)
		}
	}
	return due, wake
}

// windowTask asks for our window's state event to say what it should.
func (n *Network) windowTask(tasks []task, own id.RoomID, room *room) []task {
	var current *windowContent
	if room.window != nil {
		current = room.window.content
	}
	if n.sent.room == own {
		current = n.sent.content
	}
	want := n.windowContent(current)
	if current != nil && want.equal(current) {
		return tasks
	}
	return append(tasks, task{
		key: "window", what: "tell the network the shutter", known: true, log: logRoom(own),
		do: func(ctx context.Context) (func(), error) {
			resp, err := n.cfg.Bot.Client().SendStateEvent(ctx, own, StateWindow, "", want)
			if err != nil {
				return nil, err
			}
			return func() {
				// Sync may have been faster.
				if r := n.model.rooms[own]; r != nil && (r.window == nil || r.window.id != resp.EventID) {
					n.sent = sentWindow{room: own, event: resp.EventID, content: want}
				}
			}, nil
		},
	})
}

// windowContent is what our state event should be; old is what it was, for as long as nobody has set a state.
func (n *Network) windowContent(old *windowContent) *windowContent {
	c := &windowContent{
		Version: version, Kiosk: n.model.self, Shutter: directory.Shut, Since: time.Now().UnixMilli(),
		City: clean(n.cfg.City, maxCity), Timezone: tag(n.cfg.Timezone),
	}
	for _, l := range n.cfg.Languages {
		if l = tag(l); l != "" {
			c.Languages = append(c.Languages, l)
		}
	}
	switch {
	case n.desired.Shutter != "":
		c.Shutter, c.Since, c.Facing = n.desired.Shutter, millis(n.desired.Since), n.desired.Facing
	case old != nil:
		c.Shutter, c.Since, c.Facing = old.Shutter, old.Since, old.Facing
	}
	return c
}

func millis(t time.Time) int64 {
	if ms := t.UnixMilli(); !t.IsZero() && ms > 0 && ms <= maxMillis {
		return ms
	}
	return 0
}

// makeOwn finds the window's room that was made before a crash, or makes it, for the Space that the trail begins with. known are the rooms
// whose state is known already.
func (n *Network) makeOwn(ctx context.Context, trail []id.RoomID, known []id.RoomID) (func(), error) {
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
		if found.isOwn(found.rooms[room], trail) {
			return func() { n.model.fill(room, events) }, nil
		}
	}
	room, err := createRoom(ctx, client, n.windowRequest(trail[0]))
	if err != nil {
		return nil, err
	}
	n.cfg.Log.Info().Stringer("room_id", room).Msg("The window's room is made")
	return nil, nil
}

// spaceServers are servers that know the Space.
func (n *Network) spaceServers(space id.RoomID) []string {
	return servers([]string{n.cfg.Bot.ServerName()}, n.model.rooms[space].creator.Homeserver())
}

// join enters a room by way of the servers named, and fetches its state.
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
	// Dendrite says that we joined, and then forgets it, when the invitation has not got to all servers yet.
	self := n.cfg.Bot.UserID()
	if !slices.ContainsFunc(events, func(e *event.Event) bool {
		return e.Type.Type == event.StateMember.Type && e.GetStateKey() == string(self) &&
			membershipOf(contentOf(e)) == event.MembershipJoin
	}) {
		return nil, errors.New("the homeserver does not show us in the room that we joined")
	}
	return func() { n.model.fill(room, events) }, nil
}

// reintroduce says again that we are in the network, and that our window hangs there. A homeserver that entered the Space in the same
// moment as we did may never have got our membership (Dendrite then rejects everything we say there, for good) and refuses us the
// rooms of its windows; a new event of the same meaning brings it what it lacks. What fails is tried with the next refusal.
func (n *Network) reintroduce(ctx context.Context, space, own id.RoomID) {
	client := n.cfg.Bot.Client()
	now := time.Now().UnixMilli()
	var member map[string]any
	err := client.StateEvent(ctx, space, event.StateMember, client.UserID.String(), &member)
	if err == nil && member["membership"] == string(event.MembershipJoin) {
		member[again] = now
		_, err = client.SendStateEvent(ctx, space, event.StateMember, client.UserID.String(), member)
	}
	if err == nil && own != "" {
		_, err = client.SendStateEvent(ctx, space, event.StateSpaceChild, own.String(),
			map[string]any{"via": []string{n.cfg.Bot.ServerName()}, again: now})
	}
	n.cfg.Log.Info().Err(err).Stringer("room_id", space).Msg("A window's homeserver does not know us, so the network is told again that we are here")
}

// fetch asks for a room's state. The client's own store gets it too.
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

func (n *Network) leaveTask(room id.RoomID) task {
	return task{
		key: "leave " + string(room), what: "leave a room", log: logRoom(room),
		do: func(ctx context.Context) (func(), error) {
			_, err := n.cfg.Bot.Client().LeaveRoom(ctx, room)
			return nil, err
		},
	}
}

// servers puts one more server to the list, if it isn't there.
func servers(list []string, more string) []string {
	list = slices.Clone(list)
	if validServer(more) && !slices.Contains(list, more) {
		list = append(list, more)
	}
	return list
}

func logRoom(room id.RoomID) func(*zerolog.Event) {
	return func(e *zerolog.Event) { e.Stringer("room_id", room) }
}

// mergePower brings old to what want says, and leaves everything else as it is. Those of the admins whom want doesn't name lose what
// they had. old is untrusted.
func mergePower(old json.RawMessage, want *event.PowerLevelsEventContent, admins []id.UserID) (merged map[string]any, changed bool) {
	if json.Unmarshal(old, &merged) != nil || merged == nil {
		return nil, false
	}
	section := func(name string) map[string]any {
		m, ok := merged[name].(map[string]any)
		if !ok {
			m = make(map[string]any)
			merged[name] = m
		}
		return m
	}
	users, events := section("users"), section("events")
	for user, power := range want.Users {
		if v, ok := users[string(user)].(float64); !ok || v < float64(power) {
			users[string(user)], changed = power, true
		}
	}
	for _, user := range admins {
		if _, wanted := want.Users[user]; !wanted && users[string(user)] != nil {
			delete(users, string(user))
			changed = true
		}
	}
	for name, power := range want.Events {
		if v, ok := events[name].(float64); !ok || v != float64(power) {
			events[name], changed = power, true
		}
	}
	return merged, changed
}
