package network

import (
	"context"
	"maps"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/backoff"
	"multifactorymodel.org/ewindow/bot/tasks"
)

// firstInvitation is how long a kiosk may take to come into our room without an invitation. It is a few times as long as a join takes: Dendrite can lose
// a room if an event comes while it joins.
const firstInvitation = 2 * time.Second

// hubs are the accounts of the network's hubs, with the events in which they say so: their own m.room.member events where the windows are announced, with
// "org.multifactorymodel.ewindow.hub": true. An account that is a window or was one is no hub.
func (m *model) hubs() map[id.UserID]id.EventID {
	hubs := make(map[id.UserID]id.EventID)
	if r := m.rooms[m.home()]; r != nil {
		for user, said := range r.hubs {
			if _, window := m.known[user]; !window && r.members[user] == event.MembershipJoin {
				hubs[user] = said
			}
		}
	}
	return hubs
}

// absentHubs are the hubs that are not in our own room. They need not be in the Space, so they come by invitation.
func (m *model) absentHubs(own *room) map[id.UserID]id.EventID {
	hubs := m.hubs()
	maps.DeleteFunc(hubs, func(user id.UserID, _ id.EventID) bool { return own.members[user] == event.MembershipJoin })
	return hubs
}

// outsiders are the kiosks that are not in our own room and can't come into it by themselves, with their announcements. All members of the Space may
// join. But Dendrite has no way for that once another user of the same homeserver is in the room: it looks for a user of its own who may invite, finds
// none, and does not ask our homeserver.
func (m *model) outsiders(own *room) map[id.UserID]id.EventID {
	present := make(map[string]bool)
	for user, membership := range own.members {
		if membership == event.MembershipJoin {
			present[user.Homeserver()] = true
		}
	}
	kiosks := make(map[id.UserID]id.EventID)
	for _, p := range m.peers() {
		if server := p.kiosk.Homeserver(); own.members[p.kiosk] != event.MembershipJoin && present[server] && server != m.self.Homeserver() {
			kiosks[p.kiosk] = p.event
		}
	}
	return kiosks
}

// invitationTasks adds the tasks of inviting those into our room who can't come by themselves. wake is when to ask again.
func (n *Network) invitationTasks(todo []tasks.Task, now time.Time, own id.RoomID, room *room) (_ []tasks.Task, wake time.Time) {
	kiosks, wake := n.outside.Due(now, n.model.outsiders(room))
	hubs, again := n.outsideHubs.Due(now, n.model.absentHubs(room))
	for _, user := range append(kiosks, hubs...) {
		if in := room.members[user]; in != "" && in != event.MembershipLeave { // they have not answered yet, or are banned
			continue
		}
		todo = append(todo, tasks.Task{
			Key: "invite " + string(user), What: "invite a hub or a window of the network", Log: logRoom(own),
			Do: func(ctx context.Context) (func(), error) {
				_, err := n.cfg.Bot.Client().InviteUser(ctx, own, &mautrix.ReqInviteUser{UserID: user})
				return nil, err
			},
		})
	}
	return todo, backoff.Earlier(wake, again)
}
