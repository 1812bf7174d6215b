// Package plain makes what strangers wrote fit to be shown and used: texts that people can read, and identifiers that can't change what a request means.
// It keeps no state.
package plain

import (
	"slices"
	"strings"
	"unicode"

	"maunium.net/go/mautrix/id"
)

// MaxName is the longest name that is shown, in characters.
const MaxName = 64

const (
	maxTag = 64  // a language, a time zone
	maxID  = 255 // bytes, as Matrix has it
)

// Name is what Clean makes of a name, or "" if that has no letter and no digit. A person whose name is nothing but marks or symbols could
// be overlooked.
func Name(s string) string {
	name := Clean(s, MaxName)
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

// Clean makes a line that can be shown to people: no control or direction characters, nothing invisible, few marks on each letter, single spaces,
// at most limit characters.
func Clean(s string, limit int) string {
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

// Tag returns s if it looks like a language (BCP 47) or a time zone (IANA), else "".
func Tag(s string) string {
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

// ValidUser says whether u looks like a Matrix user id.
func ValidUser(u id.UserID) bool {
	local, server, found := strings.Cut(string(u), ":")
	return found && len(local) > 1 && local[0] == '@' && printable(string(u)) && ValidServer(server)
}

// ValidRoom says whether r looks like a Matrix room id.
func ValidRoom(r id.RoomID) bool {
	return len(r) > 1 && r[0] == '!' && printable(string(r))
}

// MaxVia is how many servers are used to join a room.
const MaxVia = 5

// Via returns the servers of a list through which a room may be joined: the first [MaxVia] that are valid, each once.
func Via(list []string) (via []string) {
	for _, server := range list {
		if ValidServer(server) && !slices.Contains(via, server) && len(via) < MaxVia {
			via = append(via, server)
		}
	}
	return via
}

// ValidServer accepts a little more than the grammar of server names (Matrix specification, appendix "Server Name"), but no name that could
// change the address of a request.
func ValidServer(s string) bool {
	return s != "" && len(s) <= maxID && !strings.ContainsFunc(s, func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-.:[]", r)
	})
}
