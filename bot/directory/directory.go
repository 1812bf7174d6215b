// Package directory has the types of the network's directory of windows: what one window tells the network about itself
// ([State]), and what it knows about each other window ([Window]).
//
// The types are written once, here. Package network fills them from Matrix state events, package bridge/window decides with
// them, and package bridge/kiosk sends them to the page, which is what the JSON tags are for. The Matrix events themselves
// have their own types in package network.
//
// The package has no state and no goroutine. It imports nothing of ours, so that anything may import it.
package directory

import (
	"time"

	"go.mau.fi/util/jsontime"
	"maunium.net/go/mautrix/id"
)

// Shutter is the position of a window's shutter, which the people on site set.
type Shutter string

// The positions of a shutter, as Matrix events and the page's protocol spell them.
const (
	// Shut: nobody sees or hears anything.
	Shut Shutter = "shut"
	// Ajar: whoever calls must be let in by somebody on site.
	Ajar Shutter = "ajar"
	// Open: whoever calls is answered.
	Open Shutter = "open"
)

// Valid says whether s is one of the three positions.
func (s Shutter) Valid() bool { return s == Shut || s == Ajar || s == Open }

// ParseShutter reads a position that somebody else wrote. Everything that is not a known position counts as [Shut].
func ParseShutter(s string) Shutter {
	if p := Shutter(s); p.Valid() {
		return p
	}
	return Shut
}

// Window is another window of the network.
type Window struct {
	// Room is the window's room.
	Room id.RoomID `json:"room"`
	// Kiosk is the user id of the bot in that room. The page does not get it.
	Kiosk id.UserID `json:"-"`
	// Name and City are shown to people.
	Name string `json:"name"`
	City string `json:"city"`
	// Shutter is the position that the window announced. Since is when it was set, by the other kiosk's clock; it may be zero.
	Shutter Shutter            `json:"shutter"`
	Since   jsontime.UnixMilli `json:"since"`
	// NoPicture says that the people there have not shut the window: its camera gives no picture, and that is why it counts as shut.
	NoPicture bool `json:"no_picture,omitempty"`
	// Facing is the room of the window with which that window is in a visit. It is empty when there is none. The page does not get it.
	Facing id.RoomID `json:"-"`
	// Gone is since when the window's kiosk has given no sign of life. It is zero if it has: only then do Shutter and Facing count.
	Gone jsontime.UnixMilli `json:"gone,omitzero"`
	// Joined says that we are in the window's room. Without that it cannot be called.
	Joined bool `json:"joined"`
}

// Equal says whether w and o are the same. Since and Gone are compared as moments, whatever their time zone.
func (w Window) Equal(o Window) bool {
	same := w.Since.Equal(o.Since.Time) && w.Gone.Equal(o.Gone.Time)
	w.Since, o.Since, w.Gone, o.Gone = jsontime.UnixMilli{}, jsontime.UnixMilli{}, jsontime.UnixMilli{}, jsontime.UnixMilli{}
	return same && w == o
}

// State is what this window tells the network. State events are not encrypted, so no more may be added than others need to know whether and why they
// can't call.
type State struct {
	// Shutter is the position of our shutter, Since is when it was set.
	Shutter Shutter
	Since   time.Time
	// NoPicture says that the shutter counts as shut because our camera gives no picture.
	NoPicture bool
	// Facing is the room of the window with which we are in a visit. It is empty when there is none.
	Facing id.RoomID
}
