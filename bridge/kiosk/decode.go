package kiosk

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
)

// maxMessage is the longest message that the page may send, in bytes. Its SDP answer is the longest, with about 15 kB.
const maxMessage = 64 << 10

// maxTile is the highest number of a tile that a page may send.
const maxTile = 15

// The longest user id and identity key that a page may send, in bytes. The Matrix specification allows 255; a key has 43.
const (
	maxUserID = 255
	maxKey    = 64
)

// incoming is any message of the page.
type incoming struct {
	Type    string `json:"type"`
	Version int    `json:"version"`
	Role    string `json:"role"`
	Shutter string `json:"shutter"`
	ID      uint64 `json:"id"`
	SDP     string `json:"sdp"`
	To      string `json:"to"`
	Room    string `json:"room"`
	State   string `json:"state"`
	Code    string `json:"code"`
	Tile    int    `json:"tile"`
	Playing bool   `json:"playing"`
	Frames  uint64 `json:"frames"`
	LetIn   bool   `json:"let_in"`
	User    string `json:"user"`
	Key     string `json:"key"`
	// These are pointers so that a message without them confirms nothing and is refused.
	Confirmed *bool `json:"confirmed"`
	Same      *bool `json:"same"`
}

// hello is the first message of every client.
type hello struct {
	observer bool
	shutter  directory.Shutter
}

// errVersion says that a page was loaded from another version of the program.
var errVersion = errors.New("the page speaks another version of the protocol")

func decodeHello(data []byte) (hello, error) {
	var m incoming
	if err := unmarshal(data, &m); err != nil {
		return hello{}, err
	}
	switch {
	case m.Type != "hello":
		return hello{}, errors.New("read page: the first message is not hello")
	case m.Version != protocolVersion:
		return hello{}, errVersion
	case m.Role != "page" && m.Role != "observer":
		return hello{}, errors.New("read page: unknown role")
	}
	// A page that remembers nothing starts with the shutter shut.
	return hello{observer: m.Role == "observer", shutter: directory.ParseShutter(m.Shutter)}, nil
}

// cameraCodes are the reasons of a camera fault.
var cameraCodes = []string{"none", "busy", "denied", "no_microphone", "no_picture", "other"}

// decode reads any later message.
func decode(data []byte) (Message, error) {
	var m incoming
	if err := unmarshal(data, &m); err != nil {
		return nil, err
	}
	switch m.Type {
	case "answer":
		if m.SDP == "" {
			return nil, errors.New("read page: an answer is empty")
		}
		return Answer{ID: m.ID, SDP: m.SDP}, nil
	case "shutter":
		to := directory.Shutter(m.To)
		if !to.Valid() || len(m.Room) > 255 {
			return nil, errors.New("read page: a shutter message is out of range")
		}
		return Shutter{To: to, Room: m.Room}, nil
	case "knock":
		return KnockAnswer{ID: m.ID, LetIn: m.LetIn}, nil
	case "talk":
		if m.User == "" || len(m.User) > maxUserID {
			return nil, errors.New("read page: a talk message is out of range")
		}
		return LetTalk{User: id.UserID(m.User)}, nil
	case "identity":
		if m.User == "" || len(m.User) > maxUserID || m.Key == "" || len(m.Key) > maxKey || m.Confirmed == nil {
			return nil, errors.New("read page: an answer about an identity is out of range")
		}
		return IdentityAnswer{User: id.UserID(m.User), Key: id.Ed25519(m.Key), Confirmed: *m.Confirmed}, nil
	case "verify":
		if m.Same == nil {
			return nil, errors.New("read page: an answer about emoji is empty")
		}
		return VerifyAnswer{ID: m.ID, Same: *m.Same}, nil
	case "ring":
		if m.To != "start" && m.To != "cancel" {
			return nil, errors.New("read page: a ring message is out of range")
		}
		return RingPeople{Start: m.To == "start"}, nil
	case "camera":
		if m.State == "fault" && slices.Contains(cameraCodes, m.Code) {
			return Camera{State: m.State, Code: m.Code}, nil
		}
		if m.State != "on" && m.State != "off" {
			return nil, errors.New("read page: a camera message is out of range")
		}
		return Camera{State: m.State}, nil
	case "picture":
		if m.Tile < 0 || m.Tile > maxTile {
			return nil, errors.New("read page: a picture message is out of range")
		}
		return Picture{Tile: m.Tile, Playing: m.Playing, Frames: m.Frames}, nil
	}
	return nil, errors.New("read page: unknown message type")
}

func unmarshal(data []byte, m *incoming) error {
	if len(data) > maxMessage {
		return errors.New("read page: a message is too long")
	}
	if err := json.Unmarshal(data, m); err != nil {
		return fmt.Errorf("read page: %w", err)
	}
	return nil
}
