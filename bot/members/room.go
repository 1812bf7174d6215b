package members

import (
	"encoding/json"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/networkstate"
	"multifactorymodel.org/ewindow/bot/plain"
)

// maxAnnounced is how many announcements of a room are kept.
const maxAnnounced = maxRooms

// filter lets sync return nothing but the state that is read here.
var filter = func() string {
	types := []string{event.StateMember.Type, event.StateSpaceChild.Type, event.StateTombstone.Type, networkstate.TypeRoom.Type, networkstate.TypeWindow.Type, networkstate.TypeNetwork.Type}
	none := map[string]any{"not_types": []string{"*"}, "types": []string{}}
	text, err := json.Marshal(map[string]any{
		"presence": none, "account_data": none, "event_fields": nil,
		"room": map[string]any{
			"account_data": none, "ephemeral": none, "state": map[string]any{"types": types}, "timeline": map[string]any{"types": types, "limit": 50},
		},
	})
	if err != nil {
		panic(err) // it can always be encoded
	}
	return string(text)
}()

// room is what is known of a room that we are in.
type room struct {
	joined  map[id.UserID]bool
	kiosk   id.UserID                               // whose window it is; "": nobody's
	states  map[id.UserID]networkstate.Announcement // in state events, by key
	members map[id.UserID]networkstate.Announcement // in memberships
	listed  map[id.UserID]networkstate.Announcement // in a Space's list (m.space.child), the last one of each user
	// replacement is the room that this one was upgraded to, if any.
	replacement id.RoomID
	// network says that this is a network's Space, or the room of its windows.
	network bool
	// windows is the room of the network's windows, if this is the Space of a network that has one. Then nobody announces a window here.
	windows id.RoomID
	// space is the network's Space, if this is the room of its windows. spaceVia are servers that know it.
	space    id.RoomID
	spaceVia []string
	// introduced: our membership says that we are a hub. It belongs to Run's goroutine.
	introduced bool
}

// introduces says whether a membership says that its user is a hub.
func introduces(e *event.Event) bool {
	var content map[string]any
	_ = json.Unmarshal(e.Content.VeryRaw, &content) // what can't be read says nothing
	return e.Type.Type == event.StateMember.Type && content[networkstate.MemberHub] == true
}

func newRoom() *room {
	return &room{
		joined: make(map[id.UserID]bool), states: make(map[id.UserID]networkstate.Announcement), members: make(map[id.UserID]networkstate.Announcement),
		listed: make(map[id.UserID]networkstate.Announcement),
	}
}

// apply takes over a state event. It says whether anything has changed.
func (r *room) apply(e *event.Event) (changed bool) {
	if e.StateKey == nil {
		return false
	}
	key := *e.StateKey
	switch e.Type.Type {
	case event.StateMember.Type:
		var content map[string]json.RawMessage
		_ = json.Unmarshal(e.Content.VeryRaw, &content) // what can't be read is no membership
		user := id.UserID(key)
		joined := membershipOf(content) == event.MembershipJoin
		changed = joined != r.joined[user]
		delete(r.members, user)
		if !joined {
			delete(r.joined, user)
			return changed
		}
		if changed && len(r.joined) >= maxMembers {
			return false
		}
		r.joined[user] = true
		if e.Sender == user {
			changed = note(r.members, user, networkstate.ParseAnnouncement(content[networkstate.MemberRoom])) || changed
		}
	case networkstate.TypeRoom.Type:
		delete(r.states, id.UserID(key))
		if e.Sender == id.UserID(key) {
			note(r.states, e.Sender, networkstate.ParseAnnouncement(e.Content.VeryRaw))
		}
		return true
	case networkstate.TypeWindow.Type:
		if key != "" {
			return false
		}
		r.kiosk = ""
		if content, err := networkstate.ParseWindow(e.Content.VeryRaw); err == nil && content.Kiosk == e.Sender {
			r.kiosk = content.Kiosk
		}
		return true
	case event.StateTombstone.Type:
		var content event.TombstoneEventContent
		_ = json.Unmarshal(e.Content.VeryRaw, &content)
		r.replacement = content.ReplacementRoom
		return true
	case networkstate.TypeNetwork.Type:
		if key != "" {
			return false
		}
		content := networkstate.ParseNetwork(e.Content.VeryRaw)
		r.network, r.windows, r.space, r.spaceVia = true, content.Windows, content.Space, content.Via
		return true
	case event.StateSpaceChild.Type:
		listed := networkstate.Announcement{Room: id.RoomID(key), Via: networkstate.ParseChild(e.Content.VeryRaw)}
		if len(listed.Via) == 0 {
			if r.listed[e.Sender].Room != listed.Room {
				return false
			}
			delete(r.listed, e.Sender)
			return true
		}
		return note(r.listed, e.Sender, listed)
	}
	return changed
}

// membershipOf reads the membership in an m.room.member event. It is empty if it can't be read.
func membershipOf(content map[string]json.RawMessage) (membership event.Membership) {
	_ = json.Unmarshal(content["membership"], &membership)
	return membership
}

// note keeps an announcement that names a room.
func note(list map[id.UserID]networkstate.Announcement, user id.UserID, a networkstate.Announcement) bool {
	if _, known := list[user]; !plain.ValidRoom(a.Room) || !known && len(list) >= maxAnnounced {
		return false
	}
	list[user] = a
	return true
}

// window is the room that a member of the network announces as their window. Kiosks of earlier versions only have it in the Space's list.
func (r *room) window(kiosk id.UserID) (a networkstate.Announcement) {
	if !r.network || r.windows != "" || !r.joined[kiosk] {
		return a
	}
	for _, list := range []map[id.UserID]networkstate.Announcement{r.states, r.members, r.listed} {
		if a = list[kiosk]; a.Room != "" {
			return a
		}
	}
	return a
}

// source is how we know of a room that we should be in.
type source struct {
	announcer id.UserID // who announces it as their window; "" for the network's own rooms
	via       []string  // servers that know it
}

// announced are the rooms that members announce. Several may announce one: then all but its kiosk lie.
func (r *room) announced() map[id.RoomID][]source {
	rooms := make(map[id.RoomID][]source)
	for user := range r.joined {
		if a := r.window(user); a.Room != "" {
			rooms[a.Room] = append(rooms[a.Room], source{user, a.Via})
		}
	}
	return rooms
}

// announcer is the member who announces a room, "" for none.
func (r *room) announcer(name id.RoomID) id.UserID {
	for user := range r.joined {
		if r.window(user).Room == name {
			return user
		}
	}
	return ""
}

// takesDown reads an entry in a Space's list: whether it takes a room out of the list. ok is false if it is no such entry.
func takesDown(e *event.Event) (room id.RoomID, down, ok bool) {
	if e.Type.Type != event.StateSpaceChild.Type || e.StateKey == nil {
		return "", false, false
	}
	return id.RoomID(*e.StateKey), len(networkstate.ParseChild(e.Content.VeryRaw)) == 0, true
}
