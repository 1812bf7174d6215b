package rtc

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
)

const (
	minKey = 16 // bytes
	maxKey = 64
	// maxDeviceKeys and maxKeys cap the keys that are kept for one device and for all.
	maxDeviceKeys = 16
	maxKeys       = 200
	// keyLife is how long a key waits for its member.
	keyLife = time.Hour
)

// keyContent is what we send to a device.
type keyContent struct {
	Keys    keyItem    `json:"keys"`
	Member  keyMember  `json:"member"`
	Room    id.RoomID  `json:"room_id"`
	Session keySession `json:"session"`
	Sent    int64      `json:"sent_ts"`
}

type keyItem struct {
	Index uint8  `json:"index"`
	Key   string `json:"key"`
}

type keyMember struct {
	ID     string      `json:"id"`
	Device id.DeviceID `json:"claimed_device_id"`
}

type keySession struct {
	Application string `json:"application"`
	CallID      string `json:"call_id"`
	Scope       string `json:"scope"`
}

func newKeyContent(room id.RoomID, self bot.Device, key ownKey, now time.Time) keyContent {
	return keyContent{
		Keys:    keyItem{key.index, base64.StdEncoding.EncodeToString(key.material)},
		Member:  keyMember{plainIdentity(self.User, self.ID), self.ID},
		Room:    room,
		Session: keySession{application, "", scopeRoom},
		Sent:    now.UnixMilli(),
	}
}

// foreignKey is a key that another device has sent us.
type foreignKey struct {
	room     id.RoomID
	index    uint8
	material []byte
}

// Why a key was not taken. None of them repeats what was sent.
var (
	errKeyContent = errors.New("invalid media key")
	errKeyDevice  = errors.New("media key whose claimed device isn't the one that sent it")
)

// parseKey reads a media key that came Olm-encrypted from a device.
func parseKey(from bot.Device, content []byte) (foreignKey, error) {
	o, ok := parseObject(content)
	if !ok {
		return foreignKey{}, errKeyContent
	}
	room, ok1 := o.text("room_id", maxName)
	keys, ok2 := o.object("keys")
	member, ok3 := o.object("member")
	if !ok1 || !ok2 || !ok3 || room == "" {
		return foreignKey{}, errKeyContent
	}
	index, ok1 := keys.integer("index", 255)
	encoded, ok2 := keys.text("key", 2*maxKey)
	claimed, ok3 := member.text("claimed_device_id", maxName)
	if !ok1 || !ok2 || !ok3 {
		return foreignKey{}, errKeyContent
	}
	if from.ID == "" || claimed != from.ID.String() {
		return foreignKey{}, errKeyDevice
	}
	material, ok := decodeKey(encoded)
	if !ok {
		return foreignKey{}, errKeyContent
	}
	return foreignKey{id.RoomID(room), uint8(index), material}, nil
}

var urlAlphabet = strings.NewReplacer("-", "+", "_", "/")

// decodeKey takes every form of base64: padded or not, standard or for URLs.
func decodeKey(text string) ([]byte, bool) {
	material, err := base64.RawStdEncoding.DecodeString(urlAlphabet.Replace(strings.TrimRight(text, "=")))
	return material, err == nil && len(material) >= minKey && len(material) <= maxKey
}

// keyStore keeps the keys of other devices, also those that come before their member. It is pure and owned by one goroutine.
type keyStore struct {
	keys  []storedKey // in the order in which they came
	drops uint64
}

type storedKey struct {
	foreignKey
	from      bot.Device
	at        time.Time
	installed string // the identity it was last installed for
}

// add keeps a key. A key of the same device and index is replaced: the last one received counts. present and joined say who is in
// the call and in the room: their keys are the last to give way.
func (s *keyStore) add(now time.Time, from bot.Device, key foreignKey, present, joined func(id.RoomID, bot.Device) bool) {
	s.keys = slices.DeleteFunc(s.keys, func(k storedKey) bool {
		return k.room == key.room && k.from == from && k.index == key.index || s.stale(now, k, present)
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
		if !s.evict(func(k storedKey) bool { return !joined(k.room, k.from) }) &&
			!s.evict(func(k storedKey) bool { return !present(k.room, k.from) }) {
			s.evict(func(storedKey) bool { return true })
		}
	}
}

// stale says whether a key has waited too long for its member.
func (s *keyStore) stale(now time.Time, k storedKey, present func(id.RoomID, bot.Device) bool) bool {
	return now.Sub(k.at) >= keyLife && !present(k.room, k.from)
}

// evict drops the oldest key that matches.
func (s *keyStore) evict(match func(storedKey) bool) bool {
	i := slices.IndexFunc(s.keys, match)
	if i < 0 {
		return false
	}
	s.keys = slices.Delete(s.keys, i, i+1)
	s.drops++
	return true
}

// installable returns the keys of a room's members that are not yet installed for their identities, and notes that they are now.
func (s *keyStore) installable(now time.Time, room id.RoomID, members []Member) (events []Event) {
	for i := range s.keys {
		k := &s.keys[i]
		if k.room != room || k.installed == "" && now.Sub(k.at) >= keyLife {
			continue
		}
		at := slices.IndexFunc(members, func(m Member) bool { return m.device() == k.from })
		if at < 0 || members[at].Identity == k.installed {
			continue
		}
		k.installed = members[at].Identity
		events = append(events, Event{
			Kind: Key, User: k.from.User, Device: k.from.ID, Identity: k.installed, Index: k.index, Material: slices.Clone(k.material),
		})
	}
	return events
}

// uninstall is for a call that begins: nothing is installed yet.
func (s *keyStore) uninstall(room id.RoomID) {
	for i := range s.keys {
		if s.keys[i].room == room {
			s.keys[i].installed = ""
		}
	}
}

// forget drops a room's keys.
func (s *keyStore) forget(room id.RoomID) {
	s.keys = slices.DeleteFunc(s.keys, func(k storedKey) bool { return k.room == room })
}
