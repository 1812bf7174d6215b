package membership

import (
	"slices"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
)

// Own returns the state keys of this device's unexpired memberships in a room that we are joined to.
func (r *Roster) Own(now time.Time, name id.RoomID) (keys []string) {
	rm := r.rooms[name]
	if rm == nil || !rm.inside {
		return nil
	}
	for key, m := range rm.states {
		if m.id() == r.self && m.expires.After(now) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// LeftBehind returns the state keys of unexpired memberships whose users have left the room, in a room that our account created.
func (r *Roster) LeftBehind(now time.Time, name id.RoomID) (keys []string) {
	return r.keys(name, func(rm *room, m *membership) bool {
		return !rm.has(m.user) && len(rm.joined) < maxJoined && m.expires.After(now)
	})
}

// KeysOf returns the state keys of a device's memberships, in a room that our account created.
func (r *Roster) KeysOf(name id.RoomID, device bot.Device) []string {
	return r.keys(name, func(_ *room, m *membership) bool { return m.id() == device })
}

// keys returns the state keys of the memberships that match, in a room that our account created: elsewhere we may not change them.
func (r *Roster) keys(name id.RoomID, match func(*room, *membership) bool) (keys []string) {
	rm := r.rooms[name]
	if rm == nil || !rm.inside || rm.creator != r.self.User {
		return nil
	}
	for key, m := range rm.states {
		if match(rm, m) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}
