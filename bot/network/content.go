package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bot/plain"
)

// Limits on what others write. Those of texts are in characters.
const (
	maxCity      = 64
	maxLanguages = 8
	maxMillis    = 253_402_300_799_999 // the last moment of the year 9999
)

// windowContent is the content of [StateWindow].
type windowContent struct {
	Version int               `json:"version"`
	Kiosk   id.UserID         `json:"kiosk"`
	Shutter directory.Shutter `json:"shutter"`
	// Since is in milliseconds since 1970.
	Since     int64     `json:"since"`
	Facing    id.RoomID `json:"facing,omitempty"`
	City      string    `json:"city,omitempty"`
	Languages []string  `json:"languages,omitempty"`
	Timezone  string    `json:"timezone,omitempty"`
}

// parseWindow reads the window event that somebody sent. What it returns is within all limits. On an error it is nil.
func parseWindow(data []byte) (*windowContent, error) {
	var c windowContent
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("read window state: %w", err)
	}
	switch {
	case c.Version < version:
		return nil, errors.New("read window state: the version is missing")
	case !plain.ValidUser(c.Kiosk):
		return nil, errors.New("read window state: the kiosk is not a user id")
	}
	c.Shutter = directory.ParseShutter(string(c.Shutter))
	if c.Since < 0 || c.Since > maxMillis {
		c.Since = 0
	}
	if !plain.ValidRoom(c.Facing) {
		c.Facing = ""
	}
	c.City = plain.Clean(c.City, maxCity)
	c.Timezone = plain.Tag(c.Timezone)
	var languages []string
	for _, l := range c.Languages {
		if l = plain.Tag(l); l != "" && len(languages) < maxLanguages {
			languages = append(languages, l)
		}
	}
	c.Languages = languages
	return &c, nil
}

func (c *windowContent) equal(o *windowContent) bool {
	return c.Version == o.Version && c.Kiosk == o.Kiosk && c.Shutter == o.Shutter && c.Since == o.Since && c.Facing == o.Facing &&
		c.City == o.City && c.Timezone == o.Timezone && slices.Equal(c.Languages, o.Languages)
}

// goneContent is the content of [StateGone].
type goneContent struct {
	Gone bool `json:"gone,omitempty"`
}

// networkContent is the content of [StateNetwork], in a network's Space and in the room of its windows. Each names the other.
type networkContent struct {
	Version int           `json:"version"`
	Policy  networkPolicy `json:"policy"`
	// Windows is the room of the network's windows. Networks of earlier versions have none.
	Windows id.RoomID `json:"windows,omitempty"`
	// Space is the network's Space, Via are servers through which it can be joined.
	Space id.RoomID `json:"space,omitempty"`
	Via   []string  `json:"via,omitempty"`
}

// parseNetwork reads a network event. What can't be read counts as not there: it matters, too, that the event exists.
func parseNetwork(data []byte) (c networkContent) {
	if json.Unmarshal(data, &c) != nil {
		return networkContent{}
	}
	if !plain.ValidRoom(c.Windows) {
		c.Windows = ""
	}
	if !plain.ValidRoom(c.Space) {
		c.Space = ""
	}
	c.Via = plain.Via(c.Via)
	return c
}

// networkPolicy says how the network is run.
type networkPolicy struct {
	// Admit says who may let new windows in: "admins".
	Admit string `json:"admit"`
}

// announcement is the content of [StateRoom], and the event that it came with.
type announcement struct {
	// Room is the window's room. Empty: the kiosk has none.
	Room id.RoomID `json:"room,omitempty"`
	// Via are the servers through which it can be joined.
	Via []string `json:"via,omitempty"`

	event    id.EventID
	inMember bool // it came with the kiosk's membership
}

// parseAnnouncement reads what a kiosk announces. One that can't be read names no room.
func parseAnnouncement(data []byte, event id.EventID) announcement {
	var a announcement
	if json.Unmarshal(data, &a) != nil || !plain.ValidRoom(a.Room) {
		return announcement{event: event}
	}
	return announcement{Room: a.Room, Via: plain.Via(a.Via), event: event}
}

// parseChild reads m.space.child: the servers through which the room can be joined. None means that the room is no longer listed.
func parseChild(data []byte) []string {
	var c struct {
		Via []string `json:"via"`
	}
	if json.Unmarshal(data, &c) != nil {
		return nil
	}
	return plain.Via(c.Via)
}
