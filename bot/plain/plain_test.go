package plain

import (
	"strings"
	"testing"
	"unicode/utf8"

	"maunium.net/go/mautrix/id"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"Rosen ä":                   "Rosen ä",
		"  a \t\n b  ":              "a b",
		"\u202eevil\u2066":          "evil",
		"\x1b[31mred":               "[31mred",
		"\u200b\u2060":              "",
		"abcdefghij":                "abcdefgh",
		"abcdefg hij":               "abcdefg",
		"👩\u200d🔧 Lab":              "👩\u200d🔧 Lab",
		"\xff\xfea":                 "a",
		"Ma\u0308rz":                "Ma\u0308rz",
		"\u2028line\u2029separate":  "line sep",
		"❤\ufe0f\u200d🔥 x":          "❤\ufe0f\u200d🔥 x",
		"a\ufe0fb\u200dc\u034fd":    "abcd",
		"🔧\u200d":                   "🔧",
		"🔧\u200d a":                 "🔧 a",
		"❤\ufe0f\ufe0f\ufe0f":       "❤\ufe0f",
		"1234567👩\u200d🔧":           "1234567👩",
		"123456👩\u200d🔧":            "123456👩",
		"a\u0301\u0302\u0303\u0304": "a\u0301\u0302",
		"\u0301a":                   "a",
		"a \u0301b":                 "a b",
		"Nguyễn":                    "Nguyễn",
		"ที่นี่":                    "ที่นี่",
	} {
		got := Clean(in, 8)
		if got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
		if again := Clean(got, 8); again != got {
			t.Errorf("Clean(%q) = %q", got, again)
		}
	}
}

func TestIdentifiers(t *testing.T) {
	for user, want := range map[id.UserID]bool{
		"@a:b": true, "@a:b:8448": true, "@a/b=c:[::1]:80": true, "@a_b.c-d:localhost:1": true,
		"": false, "a:b": false, "@:b": false, "@a:": false, "@a": false, "@a b:c": false, "@ä:b": false, "@a:b c": false,
	} {
		if ValidUser(user) != want {
			t.Errorf("ValidUser(%q) = %t", user, !want)
		}
	}
	for room, want := range map[id.RoomID]bool{"!a:b": true, "!a": true, "": false, "!": false, "#a:b": false, "!a b": false, "!a\n": false} {
		if ValidRoom(room) != want {
			t.Errorf("ValidRoom(%q) = %t", room, !want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("👩\u200d🔧 Lab", 8)
	f.Add("a\u0301\u0302\u0303", 2)
	f.Add("❤\ufe0f\u200d🔥 \u200d", 3)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = min(max(limit, 0), 100)
		once := Clean(s, limit)
		if again := Clean(once, limit); again != once || utf8.RuneCountInString(once) > limit || strings.TrimSpace(once) != once {
			t.Errorf("Clean(%q, %d) = %q, then %q", s, limit, once, again)
		}
	})
}
