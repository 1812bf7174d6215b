package networkstate

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"multifactorymodel.org/ewindow/bot/plain"
)

func TestParseWindow(t *testing.T) {
	long := strings.Repeat("ä", 500)
	for _, test := range []struct {
		name, in, want string // want is empty if there must be an error
	}{
		{"whole", `{"version":1,"kiosk":"@d:a.b","shutter":"open","since":5,"facing":"!m:c","city":"Dresden","languages":["de","en"],"timezone":"Europe/Berlin"}`,
			`{"version":1,"kiosk":"@d:a.b","shutter":"open","since":5,"facing":"!m:c","city":"Dresden","languages":["de","en"],"timezone":"Europe/Berlin"}`},
		{"least", `{"version":1,"kiosk":"@d:a.b"}`, `{"version":1,"kiosk":"@d:a.b","shutter":"shut","since":0}`},
		{"later version", `{"version":7,"kiosk":"@d:a.b","shutter":"ajar","new":{}}`, `{"version":7,"kiosk":"@d:a.b","shutter":"ajar","since":0}`},
		{"unknown shutter", `{"version":1,"kiosk":"@d:a.b","shutter":"OPEN"}`, `{"version":1,"kiosk":"@d:a.b","shutter":"shut","since":0}`},
		{"absurd times", `{"version":1,"kiosk":"@d:a.b","since":-1}`, `{"version":1,"kiosk":"@d:a.b","shutter":"shut","since":0}`},
		{"far future", `{"version":1,"kiosk":"@d:a.b","since":9223372036854775807}`, `{"version":1,"kiosk":"@d:a.b","shutter":"shut","since":0}`},
		{"no room", `{"version":1,"kiosk":"@d:a.b","facing":"#alias:a"}`, `{"version":1,"kiosk":"@d:a.b","shutter":"shut","since":0}`},
		{"room of version 12", `{"version":1,"kiosk":"@d:a.b","facing":"!abc-_9"}`, `{"version":1,"kiosk":"@d:a.b","shutter":"shut","since":0,"facing":"!abc-_9"}`},
		{"no picture", `{"version":1,"kiosk":"@d:a.b","shutter":"shut","no_picture":true}`, `{"version":1,"kiosk":"@d:a.b","shutter":"shut","since":0,"no_picture":true}`},
		{"open without a picture", `{"version":1,"kiosk":"@d:a.b","shutter":"open","no_picture":true}`, `{"version":1,"kiosk":"@d:a.b","shutter":"open","since":0}`},
		{"control characters", "{\"version\":1,\"kiosk\":\"@d:a.b\",\"city\":\" Dres\\u0000\\u202eden \\n an der\\tElbe \"}",
			`{"version":1,"kiosk":"@d:a.b","shutter":"shut","since":0,"city":"Dresden an der Elbe"}`},
		{"long city", `{"version":1,"kiosk":"@d:a.b","city":"` + long + `"}`,
			`{"version":1,"kiosk":"@d:a.b","shutter":"shut","since":0,"city":"` + strings.Repeat("ä", MaxCity) + `"}`},
		{"many languages", `{"version":1,"kiosk":"@d:a.b","languages":["a","<b>","c","d","e","f","g","h","i","j","k"]}`,
			`{"version":1,"kiosk":"@d:a.b","shutter":"shut","since":0,"languages":["a","c","d","e","f","g","h","i"]}`},
		{"redacted", `{}`, ""},
		{"no version", `{"kiosk":"@d:a.b"}`, ""},
		{"no kiosk", `{"version":1}`, ""},
		{"kiosk is no user", `{"version":1,"kiosk":"d:a.b"}`, ""},
		{"kiosk without server", `{"version":1,"kiosk":"@d"}`, ""},
		{"kiosk with a path for a server", `{"version":1,"kiosk":"@d:a/../b"}`, ""},
		{"kiosk too long", `{"version":1,"kiosk":"@` + long + `:a"}`, ""},
		{"kiosk with a line break", `{"version":1,"kiosk":"@d\n:a"}`, ""},
		{"wrong types", `{"version":"1","kiosk":"@d:a.b"}`, ""},
		{"broken number", `{"version":1,"kiosk":"@d:a.b","since":1.5}`, ""},
		{"list", `[]`, ""},
		{"null", `null`, ""},
		{"nothing", ``, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := ParseWindow([]byte(test.in))
			if err != nil {
				if c != nil || test.want != "" {
					t.Fatalf("got %v, %v", c, err)
				}
				return
			}
			got, err := json.Marshal(c)
			if err != nil || string(got) != test.want {
				t.Fatalf("got %s, %v\nwant %s", got, err, test.want)
			}
		})
	}
}

func TestParseChild(t *testing.T) {
	for in, want := range map[string]string{
		`{"via":["a.b","c:8448","[::1]:1"]}`:               "a.b c:8448 [::1]:1",
		`{"via":["a","a","b/c","","d e","x","y","z","u"]}`: "a x y z u",
		`{"via":[]}`:  "",
		`{}`:          "",
		`{"via":"a"}`: "",
		`{"via":[1]}`: "",
		`{"via":["` + strings.Repeat("a", 300) + `","ok"]}`: "ok",
		`nonsense`: "",
	} {
		if got := strings.Join(ParseChild([]byte(in)), " "); got != want {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
}

func FuzzParseWindow(f *testing.F) {
	f.Add([]byte(`{"version":1,"kiosk":"@d:a.b","shutter":"open","since":5,"facing":"!m:c","city":"Dresden","languages":["de"],"timezone":"Europe/Berlin"}`))
	f.Add([]byte(`{"version":2,"kiosk":"@d:localhost:8448","shutter":"wide","since":-5,"facing":"!","city":"a\u0000\u202eb"}`))
	f.Add([]byte(`{"version":1,"kiosk":"@d:a.b","languages":["","<",null]}`))
	f.Add([]byte(`{"version":1,"kiosk":"@d\n:a.b"}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseWindow(data)
		if err != nil {
			if c != nil {
				t.Fatal("an error with a result")
			}
			return
		}
		switch {
		case !plain.ValidUser(c.Kiosk), c.Facing != "" && !plain.ValidRoom(c.Facing), c.Since < 0 || c.Since > MaxMillis,
			!c.Shutter.Valid(), utf8.RuneCountInString(c.City) > MaxCity,
			!utf8.ValidString(c.City), plain.Clean(c.City, MaxCity) != c.City, len(c.Languages) > MaxLanguages, len(c.Timezone) > 64:
			t.Fatalf("out of range: %+v", c)
		}
		again, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		second, err := ParseWindow(again)
		if err != nil || !second.Equal(c) {
			t.Fatalf("not stable: %s: %v", again, err)
		}
	})
}

func FuzzParseChild(f *testing.F) {
	f.Add([]byte(`{"via":["a.b","[::1]:8448"]}`))
	f.Add([]byte(`{"via":["a/b"," ","\u0000"]}`))
	f.Add([]byte(`{"via":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		list := ParseChild(data)
		if len(list) > plain.MaxVia {
			t.Fatalf("%d servers", len(list))
		}
		for _, via := range list {
			if !plain.ValidServer(via) {
				t.Fatalf("accepted server %q", via)
			}
		}
		again, err := json.Marshal(map[string]any{"via": list})
		if err != nil || !slices.Equal(ParseChild(again), list) {
			t.Fatalf("not stable: %s: %v", again, err)
		}
	})
}
