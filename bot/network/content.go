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

// parseChild reads m.space.child: the servers through which the room can be joined. None means that the room is no longer listed.
func parseChild(data []byte) []string {
	var c struct {
		Via []string `json:"via"`
	}
	if json.Unmarshal(data, &c) != nil {
		return nil
	}
	var via []string
	for _, server := range c.Via {
		if validServer(server) && !slices.Contains(via, server) && len(via) < maxVia {
			via = append(via, server)
		}
	}
	return via
}

// clean makes a line that can be shown to people: no control or direction characters, single spaces, at most limit characters.
func clean(s string, limit int) string {
	var b strings.Builder
	space, n := false, 0
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			space = n > 0
			continue
		// The joiner (U+200D) connects the parts of an emoji.
		case r != '\u200d' && !unicode.IsPrint(r), r == unicode.ReplacementChar:
			continue
		}
		if space {
			if n++; n >= limit {
				break
			}
			b.WriteByte(' ')
			space = false
		}
		if n++; n > limit {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
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
