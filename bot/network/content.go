package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
)

// Limits on what others write. Those of texts are in characters.
const (
	maxName      = 64
	maxCity      = 64
	maxLanguages = 8
	maxTag       = 64  // a language, a time zone
	maxID        = 255 // bytes, as Matrix has it
	maxVia       = 5
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
	case !validUser(c.Kiosk):
		return nil, errors.New("read window state: the kiosk is not a user id")
	}
	c.Shutter = directory.ParseShutter(string(c.Shutter))
	if c.Since < 0 || c.Since > maxMillis {
		c.Since = 0
	}
	if !validRoom(c.Facing) {
		c.Facing = ""
	}
	c.City = clean(c.City, maxCity)
	c.Timezone = tag(c.Timezone)
	var languages []string
	for _, l := range c.Languages {
		if l = tag(l); l != "" && len(languages) < maxLanguages {
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

// networkContent is the content of [StateNetwork]. So far it only matters that the event exists.
type networkContent struct {
	Version int           `json:"version"`
	Policy  networkPolicy `json:"policy"`
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
	if json.Unmarshal(data, &a) != nil || !validRoom(a.Room) {
		return announcement{event: event}
	}
	return announcement{Room: a.Room, Via: validVia(a.Via), event: event}
}

// parseChild reads m.space.child: the servers through which the room can be joined. None means that the room is no longer listed.
func parseChild(data []byte) []string {
	var c struct {
		Via []string `json:"via"`
	}
	if json.Unmarshal(data, &c) != nil {
		return nil
	}
	return validVia(c.Via)
}

// validVia returns the servers in the list, without those that can't be any.
func validVia(list []string) (via []string) {
	for _, server := range list {
		if validServer(server) && !slices.Contains(via, server) && len(via) < maxVia {
			via = append(via, server)
		}
	}
	return via
}

// cleanName is what clean makes of a name, or "" if that has no letter and no digit. A person whose name is nothing but marks or symbols could
// be overlooked.
func cleanName(s string) string {
	name := clean(s, maxName)
	if !strings.ContainsFunc(name, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) }) {
		return ""
	}
	return name
}

const (
	joiner          = '\u200d' // connects the parts of an emoji
	emojiStyle      = '\ufe0f' // shows the symbol before it as an emoji
	brailleBlank    = '\u2800'
	maxMarksALetter = 2 // as many as Vietnamese and Thai need
)

// clean makes a line that can be shown to people: no control or direction characters, nothing invisible, few marks on each letter, single spaces,
// at most limit characters.
func clean(s string, limit int) string {
	var line []rune
	between := rune(0) // what stands before the next character: a space, a joiner or nothing
	marks := 0         // that the last letter has
	for _, r := range s {
		last := rune(0) // the character that a mark or a joiner would belong to
		if len(line) > 0 && between != ' ' {
			last = line[len(line)-1]
		}
		switch {
		case unicode.IsSpace(r):
			if len(line) > 0 {
				between = ' '
			}
			continue
		case r == joiner:
			if unicode.IsSymbol(last) || last == emojiStyle {
				between = joiner
			}
			continue
		case r == emojiStyle:
			if !unicode.IsSymbol(last) {
				continue
			}
			between = 0
		case hidden(r):
			continue
		case unicode.IsMark(r):
			if last == 0 || marks == maxMarksALetter {
				continue
			}
			between = 0
			marks++
		default:
			if between == joiner && !unicode.IsSymbol(r) {
				between = 0
			}
			marks = 0
		}
		next := []rune{between, r}
		if between == 0 {
			next = next[1:]
		}
		if len(line)+len(next) > limit {
			break
		}
		line, between = append(line, next...), 0
	}
	return string(line)
}

// hidden says whether a character shows nothing, or something else than itself. Some fillers count as letters in Unicode.
func hidden(r rune) bool {
	return !unicode.IsPrint(r) || r == unicode.ReplacementChar || r == brailleBlank ||
		unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// tag returns s if it looks like a language (BCP 47) or a time zone (IANA), else "".
func tag(s string) string {
	if len(s) > maxTag || strings.ContainsFunc(s, func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_+/", r)
	}) {
		return ""
	}
	return s
}

// printable says whether s consists of visible ASCII characters and is not too long for an identifier.
func printable(s string) bool {
	return len(s) <= maxID && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

func validUser(u id.UserID) bool {
	local, server, found := strings.Cut(string(u), ":")
	return found && len(local) > 1 && local[0] == '@' && printable(string(u)) && validServer(server)
}

func validRoom(r id.RoomID) bool {
	return len(r) > 1 && r[0] == '!' && printable(string(r))
}

// validServer accepts a little more than the grammar of server names (Matrix specification, appendix "Server Name"), but no name that could
// change the address of a request.
func validServer(s string) bool {
	return s != "" && len(s) <= maxID && !strings.ContainsFunc(s, func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-.:[]", r)
	})
}
