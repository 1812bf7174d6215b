package mediakeys

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/rtc/transport"
	"multifactorymodel.org/ewindow/bot/strictjson"
	"multifactorymodel.org/ewindow/bot/unstable"
)

// How long a key may be, in bytes.
const (
	minKey = 16
	maxKey = 64
)

// newKey makes a key of the length that Element's clients use.
func newKey() []byte {
	key := make([]byte, minKey)
	_, _ = rand.Read(key) // it never fails
	return key
}

// Content is the content of the event that carries a key of ours to one device.
type Content struct {
	Keys    contentKey     `json:"keys"`
	Member  contentMember  `json:"member"`
	Room    id.RoomID      `json:"room_id"`
	Session contentSession `json:"session"`
	Sent    int64          `json:"sent_ts"`
}

type contentKey struct {
	Index uint8  `json:"index"`
	Key   string `json:"key"`
}

type contentMember struct {
	ID     string      `json:"id"`
	Device id.DeviceID `json:"claimed_device_id"`
}

type contentSession struct {
	Application string `json:"application"`
	CallID      string `json:"call_id"`
	Scope       string `json:"scope"`
}

// NewContent is a key of the device self for the call of a room.
func NewContent(room id.RoomID, self bot.Device, key Key, now time.Time) Content {
	return Content{
		Keys:    contentKey{key.Index, base64.StdEncoding.EncodeToString(key.Material)},
		Member:  contentMember{transport.Identity(self.User, self.ID), self.ID},
		Room:    room,
		Session: contentSession{unstable.Application, "", unstable.ScopeRoom},
		Sent:    now.UnixMilli(),
	}
}

// foreignKey is a key that another device has sent us.
type foreignKey struct {
	room     id.RoomID
	index    uint8
	material []byte
}

// Why a key was refused. Neither error repeats what was sent.
var (
	errKeyContent = errors.New("invalid media key")
	errKeyDevice  = errors.New("media key whose claimed device isn't the one that sent it")
)

// parseKey reads a media key that came Olm-encrypted from a device.
func parseKey(from bot.Device, content []byte) (foreignKey, error) {
	o, ok := strictjson.Parse(content)
	if !ok {
		return foreignKey{}, errKeyContent
	}
	room, ok1 := o.Text("room_id", strictjson.MaxName)
	keys, ok2 := o.Object("keys")
	member, ok3 := o.Object("member")
	if !ok1 || !ok2 || !ok3 || room == "" {
		return foreignKey{}, errKeyContent
	}
	index, ok1 := keys.Integer("index", 255)
	encoded, ok2 := keys.Text("key", 2*maxKey)
	claimed, ok3 := member.Text("claimed_device_id", strictjson.MaxName)
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

// decodeKey reads every form of base64: with and without padding, with the standard alphabet and with that for URLs.
func decodeKey(text string) ([]byte, bool) {
	material, err := base64.RawStdEncoding.DecodeString(urlAlphabet.Replace(strings.TrimRight(text, "=")))
	return material, err == nil && len(material) >= minKey && len(material) <= maxKey
}
