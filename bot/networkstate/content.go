package networkstate

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bot/plain"
)

// Limits on what is written and read. That of texts is in characters.
const (
	MaxCity      = 64
	MaxLanguages = 8
	maxPending   = 1024
)

// MaxMillis is the last moment of the year 9999, in milliseconds since 1970. No time that others write is later.
const MaxMillis = 253_402_300_799_999

// Window is the content of [TypeWindow].
type Window struct {
	Version int               `json:"version"`
	Kiosk   id.UserID         `json:"kiosk"`
	Shutter directory.Shutter `json:"shutter"`
	// Since is in milliseconds since 1970.
	Since     int64     `json:"since"`
	NoPicture bool      `json:"no_picture,omitempty"`
	Facing    id.RoomID `json:"facing,omitempty"`
	City      string    `json:"city,omitempty"`
	Languages []string  `json:"languages,omitempty"`
	Timezone  string    `json:"timezone,omitempty"`
}

// ParseWindow reads the window event that somebody sent. What it returns is within all limits. On an error it is nil.
func ParseWindow(data []byte) (*Window, error) {
	var c Window
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("read window state: %w", err)
	}
	switch {
	case c.Version < Version:
		return nil, errors.New("read window state: the version is missing")
	case !plain.ValidUser(c.Kiosk):
		return nil, errors.New("read window state: the kiosk is not a user id")
	}
	c.Shutter = directory.ParseShutter(string(c.Shutter))
	if c.Since < 0 || c.Since > MaxMillis {
		c.Since = 0
	}
	c.NoPicture = c.NoPicture && c.Shutter == directory.Shut
	if !plain.ValidRoom(c.Facing) {
		c.Facing = ""
	}
	c.City = plain.Clean(c.City, MaxCity)
	c.Timezone = plain.Tag(c.Timezone)
	var languages []string
	for _, l := range c.Languages {
		if l = plain.Tag(l); l != "" && len(languages) < MaxLanguages {
			languages = append(languages, l)
		}
	}
	c.Languages = languages
	return &c, nil
}

// Equal says whether two contents are the same.
func (c *Window) Equal(o *Window) bool {
	return c.Version == o.Version && c.Kiosk == o.Kiosk && c.Shutter == o.Shutter && c.Since == o.Since && c.NoPicture == o.NoPicture && c.Facing == o.Facing &&
		c.City == o.City && c.Timezone == o.Timezone && slices.Equal(c.Languages, o.Languages)
}

// Gone is the content of [TypeGone].
type Gone struct {
	Gone bool `json:"gone,omitempty"`
}

// Network is the content of [TypeNetwork], in a network's Space and in the room of its windows. Each names the other.
type Network struct {
	Version int    `json:"version"`
	Policy  Policy `json:"policy"`
	// Windows is the room of the network's windows. Networks of earlier versions have none.
	Windows id.RoomID `json:"windows,omitempty"`
	// Space is the network's Space, Via are servers through which it can be joined.
	Space id.RoomID `json:"space,omitempty"`
	Via   []string  `json:"via,omitempty"`
	// Pending are windows that an admin's program is about to invite into this room, the one of the windows.
	Pending []id.UserID `json:"pending,omitempty"`
}

// ParseNetwork reads a network event. What can't be read counts as not there: it matters, too, that the event exists.
func ParseNetwork(data []byte) (c Network) {
	if json.Unmarshal(data, &c) != nil {
		return Network{}
	}
	if !plain.ValidRoom(c.Windows) {
		c.Windows = ""
	}
	if !plain.ValidRoom(c.Space) {
		c.Space = ""
	}
	c.Via = plain.Via(c.Via)
	c.Pending = slices.DeleteFunc(c.Pending[:min(len(c.Pending), maxPending)], func(user id.UserID) bool { return !plain.ValidUser(user) })
	return c
}

// Policy says how the network is run.
type Policy struct {
	// Admit says who may let new windows in: "admins".
	Admit string `json:"admit"`
}

// Announcement is the content of [TypeRoom] and [MemberRoom].
type Announcement struct {
	// Room is the window's room. Empty: the kiosk has none.
	Room id.RoomID `json:"room,omitempty"`
	// Via are the servers through which it can be joined.
	Via []string `json:"via,omitempty"`
}

// ParseAnnouncement reads what a kiosk announces. One that can't be read names no room.
func ParseAnnouncement(data []byte) (a Announcement) {
	if json.Unmarshal(data, &a) != nil || !plain.ValidRoom(a.Room) {
		return Announcement{}
	}
	a.Via = plain.Via(a.Via)
	return a
}

// ParseChild reads m.space.child: the servers through which the room can be joined. None means that the room is no longer listed.
func ParseChild(data []byte) []string {
	var c struct {
		Via []string `json:"via"`
	}
	if json.Unmarshal(data, &c) != nil {
		return nil
	}
	return plain.Via(c.Via)
}
