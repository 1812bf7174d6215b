package network

import (
	"context"
	"time"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/backoff"
	"multifactorymodel.org/ewindow/bot/networkstate"
	"multifactorymodel.org/ewindow/bot/tasks"
)

const (
	// firstListing and longestListing are how long our room's entry in the Space's list stays as others have left it. They may overwrite it as often as
	// they like. firstListing is also how long the entry waits if somebody was invited and may be joining: Dendrite can lose a room for good if an event
	// comes while it joins.
	firstListing   = 5 * time.Second
	longestListing = 6 * time.Hour
	// quietListing is how long nobody must have overwritten it until the waits are short again.
	quietListing = 24 * time.Hour
	// firstReminder is how long a kiosk may take to join our room, before our room is announced once more.
	firstReminder = 15 * time.Second
)

// listing limits how often our room is put into the Space's list.
type listing struct {
	pause backoff.Backoff
	next  time.Time
}

func newListing() listing {
	return listing{pause: backoff.Backoff{Min: firstListing, Max: longestListing}}
}

// done notes that the room was put into the list.
func (l *listing) done(now time.Time) {
	if !l.next.IsZero() && now.After(l.next.Add(quietListing)) {
		l.pause.Reset()
	}
	l.next = now.Add(l.pause.Next())
}

// announceTasks adds the tasks that make our room known: to the other kiosks by our announcement, to people by the Space's list. wake is when to ask
// again.
func (n *Network) announceTasks(todo []tasks.Task, now time.Time, own id.RoomID, room *room) (_ []tasks.Task, wake time.Time) {
	where, home := n.model.space, n.model.home()
	space := n.model.rooms[where]
	may := n.model.mayAnnounce(n.model.rooms[home])
	if !may && !n.warned["earlier version"] {
		n.warned["earlier version"] = true
		n.cfg.Log.Warn().Stringer("room_id", where).
			Msg("The network's Space was made by an earlier version. It works, but an admin should run: ewindow network create --upgrade")
	}
	a := n.model.rooms[home].announced[n.model.self]
	// When two kiosks join a Space at about the same time, the server of one may miss the events of the other. The next event makes that server notice
	// the gap.
	unaware, wake := n.unaware.Due(now, n.model.absentKiosks(room, n.model.directory()))
	known := a.Room == own && (!a.inMember || !may)
	if !known || len(unaware) > 0 {
		todo = append(todo, tasks.Task{
			Key: "announce", What: "announce the window's room", Log: logRoom(home),
			Do: func(ctx context.Context) (func(), error) {
				return func() {
					if !known && space.awaits() {
						n.listing.next = time.Now().Add(firstListing)
					}
				}, n.announce(ctx, home, own, may, known)
			},
		})
	}
	list := func(room id.RoomID, content any, done func()) {
		todo = append(todo, tasks.Task{
			Key: "list " + string(room), What: "change the Space's list", Log: logRoom(where),
			Do: func(ctx context.Context) (func(), error) {
				_, err := n.cfg.Bot.Client().SendStateEvent(ctx, where, event.StateSpaceChild, string(room), content)
				return done, err
			},
		})
	}
	switch {
	case !known, n.model.inElement(space.children[own]):
	case now.Before(n.listing.next):
		wake = backoff.Earlier(wake, n.listing.next)
	default:
		list(own, &event.SpaceChildEventContent{Via: []string{n.cfg.Bot.ServerName()}}, func() { n.listing.done(time.Now()) })
	}
	for _, old := range n.model.replaced() {
		list(old, struct{}{}, nil)
	}
	return todo, wake
}

// awaits says whether somebody is invited and has not come.
func (r *room) awaits() bool {
	for _, membership := range r.members {
		if membership == event.MembershipInvite {
			return true
		}
	}
	return false
}

// mayAnnounce says whether the Space lets us send [networkstate.TypeRoom].
func (m *model) mayAnnounce(space *room) bool {
	return space.power.of(m.self) >= space.power.forState(networkstate.TypeRoom)
}

// announce announces our room in home: by an event of its own if we may send it, else in our membership. With onceMore it makes an event that differs
// from the last one.
func (n *Network) announce(ctx context.Context, home, own id.RoomID, may, onceMore bool) error {
	client := n.cfg.Bot.Client()
	a := map[string]any{"room": own, "via": []string{n.cfg.Bot.ServerName()}}
	if onceMore {
		a[networkstate.Again] = time.Now().UnixMilli()
	}
	if may {
		_, err := client.SendStateEvent(ctx, home, networkstate.TypeRoom, client.UserID.String(), a)
		return err
	}
	return n.sendMember(ctx, home, func(member map[string]any) { member[networkstate.MemberRoom] = a })
}

// sendMember sends our membership of a room once more, with a change. It does nothing if we are not in the room.
func (n *Network) sendMember(ctx context.Context, room id.RoomID, change func(member map[string]any)) error {
	client := n.cfg.Bot.Client()
	var member map[string]any
	if err := client.StateEvent(ctx, room, event.StateMember, client.UserID.String(), &member); err != nil {
		return err
	}
	if member["membership"] != string(event.MembershipJoin) {
		return nil
	}
	// This would be another join that a server has to authorise (MSC3083).
	delete(member, "join_authorised_via_users_server")
	change(member)
	_, err := client.SendStateEvent(ctx, room, event.StateMember, client.UserID.String(), member)
	return err
}
