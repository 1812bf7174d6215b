package mediakeys

import (
	"slices"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/rtc/membership"
)

const (
	// maxDeviceKeys and maxKeys limit the keys that are kept of one device and of all devices.
	maxDeviceKeys = 16
	maxKeys       = 200
	// keyLife is how long a key waits for its member.
	keyLife = time.Hour
)

// Presence says who is in calls and rooms. [membership.Roster] implements it.
type Presence interface {
	// IsMember says whether a device is in a room's call.
	IsMember(room id.RoomID, device bot.Device) bool
	// HasJoined says whether a user is in a room.
	HasJoined(room id.RoomID, user id.UserID) bool
}

// Received keeps the keys of other devices. The zero value is ready to use.
type Received struct {
	keys    []storedKey // in the order in which they arrived
	invalid uint64
	dropped uint64
}

type storedKey struct {
	foreignKey
	from      bot.Device
	at        time.Time
	installed string // the identity that it was last installed for
}

// Installed is a key of a member, with the member's identity at the SFU.
type Installed struct {
	From     bot.Device
	Identity string
	Key      Key
}

// Add reads a key that came Olm-encrypted from a device, and keeps it. Its room need not be known: the key may arrive before everything
// that sync says of the room. The error says why the key was refused.
func (s *Received) Add(now time.Time, from bot.Device, content []byte, presence Presence) error {
	key, err := parseKey(from, content)
	if err != nil {
		s.invalid++
		return err
	}
	s.add(now, from, key, presence)
	return nil
}

// add keeps a key. It replaces the key of the same room, device and index. When there are too many keys, those of strangers go first, then those
// of people in the room, and last those of members of the call.
func (s *Received) add(now time.Time, from bot.Device, key foreignKey, presence Presence) {
	s.keys = slices.DeleteFunc(s.keys, func(k storedKey) bool {
		return k.room == key.room && k.from == from && k.index == key.index || now.Sub(k.at) >= keyLife && !presence.IsMember(k.room, k.from)
	})
	s.keys = append(s.keys, storedKey{foreignKey: key, from: from, at: now})
	own := 0
	for _, k := range s.keys {
		if k.from == from {
			own++
		}
	}
	if own > maxDeviceKeys {
		s.evict(func(k storedKey) bool { return k.from == from })
	}
	if len(s.keys) > maxKeys {
		if !s.evict(func(k storedKey) bool { return !presence.HasJoined(k.room, k.from.User) }) &&
			!s.evict(func(k storedKey) bool { return !presence.IsMember(k.room, k.from) }) {
			s.evict(func(storedKey) bool { return true })
		}
	}
}

// evict drops the oldest key that matches.
func (s *Received) evict(match func(storedKey) bool) bool {
	i := slices.IndexFunc(s.keys, match)
	if i < 0 {
		return false
	}
	s.keys = slices.Delete(s.keys, i, i+1)
	s.dropped++
	return true
}

// Install returns the keys of a room's members that were not yet installed for their identities, and notes that they are now.
func (s *Received) Install(now time.Time, room id.RoomID, members []membership.Member) (keys []Installed) {
	for i := range s.keys {
		k := &s.keys[i]
		if k.room != room || k.installed == "" && now.Sub(k.at) >= keyLife {
			continue
		}
		at := slices.IndexFunc(members, func(m membership.Member) bool { return m.BotDevice() == k.from })
		if at < 0 || members[at].Identity == k.installed {
			continue
		}
		k.installed = members[at].Identity
		keys = append(keys, Installed{k.from, k.installed, Key{k.index, slices.Clone(k.material)}})
	}
	return keys
}

// Uninstall is for a call that begins: none of the room's keys is installed yet.
func (s *Received) Uninstall(room id.RoomID) {
	for i := range s.keys {
		if s.keys[i].room == room {
			s.keys[i].installed = ""
		}
	}
}

// Forget drops a room's keys.
func (s *Received) Forget(room id.RoomID) {
	s.keys = slices.DeleteFunc(s.keys, func(k storedKey) bool { return k.room == room })
}

// Counts returns how many keys were refused, and how many were dropped because there were too many.
func (s *Received) Counts() (invalid, dropped uint64) { return s.invalid, s.dropped }
