package kiosk

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mau.fi/util/jsontime"

	"multifactorymodel.org/ewindow/bot/directory"
)

// encodeMessage writes a message as a page does.
func encodeMessage(t testing.TB, m Message) []byte {
	t.Helper()
	fields := map[string]any{}
	switch m := m.(type) {
	case Answer:
		fields = map[string]any{"type": "answer", "id": m.ID, "sdp": m.SDP}
	case Shutter:
		fields = map[string]any{"type": "shutter", "to": m.To, "room": m.Room}
	case RingPeople:
		to := "cancel"
		if m.Start {
			to = "start"
		}
		fields = map[string]any{"type": "ring", "to": to}
	case KnockAnswer:
		fields = map[string]any{"type": "knock", "id": m.ID, "let_in": m.LetIn}
	case LetTalk:
		fields = map[string]any{"type": "talk", "user": m.User}
	case IdentityAnswer:
		fields = map[string]any{"type": "identity", "user": m.User, "key": m.Key, "confirmed": m.Confirmed}
	case VerifyAnswer:
		fields = map[string]any{"type": "verify", "id": m.ID, "same": m.Same}
	case Camera:
		fields = map[string]any{"type": "camera", "state": m.State, "code": m.Code}
	case Picture:
		fields = map[string]any{"type": "picture", "tile": m.Tile, "playing": m.Playing, "frames": m.Frames}
	default:
		t.Fatalf("%T is no message of a page", m)
	}
	data, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestDecode(t *testing.T) {
	for text, want := range map[string]Message{
		`{"type":"answer","id":3,"sdp":"v=0"}`:                           Answer{ID: 3, SDP: "v=0"},
		`{"type":"shutter","to":"open"}`:                                 Shutter{To: "open"},
		`{"type":"shutter","to":"shut","room":"!a:b"}`:                   Shutter{To: "shut", Room: "!a:b"},
		`{"type":"camera","state":"on","code":"busy"}`:                   Camera{State: "on"},
		`{"type":"camera","state":"fault","code":"busy"}`:                Camera{State: "fault", Code: "busy"},
		`{"type":"camera","state":"fault","code":"no_picture"}`:          Camera{State: "fault", Code: "no_picture"},
		`{"type":"picture","tile":15,"playing":true,"frames":7,"new":1}`: Picture{Tile: 15, Playing: true, Frames: 7},
		`{"type":"answer","id":3}`:                                       nil,
		`{"type":"answer","id":-3,"sdp":"v=0"}`:                          nil,
		`{"type":"shutter","to":"ajar"}`:                                 Shutter{To: "ajar"},
		`{"type":"shutter","to":"half"}`:                                 nil,
		`{"type":"knock","id":4,"let_in":true}`:                          KnockAnswer{ID: 4, LetIn: true},
		`{"type":"ring","to":"start"}`:                                   RingPeople{Start: true}, `{"type":"ring","to":"cancel"}`: RingPeople{}, `{"type":"ring"}`: nil,
		`{"type":"talk","user":"@a:b"}`: LetTalk{"@a:b"},
		`{"type":"talk"}`:               nil,
		`{"type":"talk","user":"` + strings.Repeat("a", 256) + `"}`:                                nil,
		`{"type":"identity","user":"@a:b","key":"k","confirmed":true}`:                             IdentityAnswer{"@a:b", "k", true},
		`{"type":"identity","user":"@a:b","key":"k","confirmed":false}`:                            IdentityAnswer{"@a:b", "k", false},
		`{"type":"identity","user":"@a:b","key":"k"}`:                                              nil,
		`{"type":"identity","user":"@a:b","confirmed":true}`:                                       nil,
		`{"type":"identity","key":"k","confirmed":true}`:                                           nil,
		`{"type":"identity","user":"` + strings.Repeat("a", 256) + `","key":"k","confirmed":true}`: nil,
		`{"type":"verify","id":2,"same":true}`:                                                     VerifyAnswer{2, true},
		`{"type":"verify","id":2,"same":false}`:                                                    VerifyAnswer{2, false},
		`{"type":"verify","id":2}`:                                                                 nil,
		`{"type":"knock","id":4}`:                                                                  KnockAnswer{ID: 4},
		`{"type":"knock","id":4,"let_in":1}`:                                                       nil,
		`{"type":"shutter","to":"open","room":"` + strings.Repeat("a", 256) + `"}`:                 nil,
		`{"type":"camera","state":"fault","code":"tired"}`:                                         nil,
		`{"type":"camera","state":"half"}`:                                                         nil,
		`{"type":"picture","tile":16}`:                                                             nil,
		`{"type":"picture","tile":-1}`:                                                             nil,
		`{"type":"hello","version":2,"role":"page"}`:                                               nil,
		`{}`: nil, `[]`: nil, ``: nil, `null`: nil, `{"type":"shutter","to":"open"} {}`: nil,
		`{"type":"answer","sdp":"` + strings.Repeat("a", maxMessage) + `"}`: nil,
	} {
		got, err := decode([]byte(text))
		if !reflect.DeepEqual(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%.80s is read as %#v, %v", text, got, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"type":"answer","id":18446744073709551615,"sdp":"v=0\r\n"}`, `{"type":"shutter","to":"open","room":"!room:example.org"}`,
		`{"type":"shutter","to":"shut"}`, `{"type":"shutter","to":"ajar"}`, `{"type":"knock","id":7,"let_in":true}`, `{"type":"ring","to":"start"}`, `{"type":"camera","state":"fault","code":"no_microphone"}`, `{"type":"camera","state":"off"}`,
		`{"type":"picture","tile":3,"playing":true,"frames":12}`, `{"type":"hello","version":2,"role":"page","shutter":"open"}`,
		`{"type":"hello","version":3,"role":"observer"}`, `{"type":"picture","tile":1e2}`, `{"TYPE":"answer","SDP":"\ud800"}`, `null`, `[{}]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decode(data)
		if err != nil && m != nil {
			t.Fatalf("an error comes with %#v", m)
		}
		if err == nil {
			again, err := decode(encodeMessage(t, m))
			if err != nil || !reflect.DeepEqual(m, again) {
				t.Fatalf("%#v becomes %#v, %v", m, again, err)
			}
			switch m := m.(type) {
			case Answer:
				if m.SDP == "" {
					t.Fatal("an answer is empty")
				}
			case Shutter:
				if len(m.Room) > 255 {
					t.Fatal("a room is too long")
				}
			case Camera:
				if (m.State == "fault") != slices.Contains(cameraCodes, m.Code) {
					t.Fatalf("%#v has a code without a fault, or the other way round", m)
				}
			case Picture:
				if m.Tile < 0 || m.Tile > maxTile {
					t.Fatalf("%#v", m)
				}
			}
		}
		h, err := decodeHello(data)
		if err != nil && h != (hello{}) {
			t.Fatalf("an error comes with %#v", h)
		}
		if err == nil {
			if h.shutter != "open" && h.shutter != "ajar" && h.shutter != "shut" {
				t.Fatalf("%#v", h)
			}
			if m != nil {
				t.Fatal("one message is a hello and something else")
			}
		}
	})
}

// FuzzState reads arbitrary messages as an observer does. It checks that a state does not change when it is sent and read again.
func FuzzState(f *testing.F) {
	now := time.UnixMilli(1_700_000_000_000)
	f.Add(encode(fullState(now).message(now)))
	f.Add([]byte(`{"type":"state","since":-1,"count_ms":9223372036854775807,"peer":{},"windows":[{}],"fault":{}}`))
	f.Add([]byte(`{"type":"offer"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m stateMessage
		if json.Unmarshal(data, &m) != nil {
			return
		}
		first := m.state(now)
		first.CountUntil = time.Time{} // it may overflow, or be rounded
		var back stateMessage
		if err := json.Unmarshal(encode(first.message(now)), &back); err != nil {
			t.Fatal(err)
		}
		if second := back.state(now); !second.Equal(first) {
			t.Fatalf("%+v becomes %+v", first, second)
		}
	})
}

func fullState(now time.Time) State {
	return State{
		Screen: "visit", Name: "Werk", Shutter: "open", Since: jsontime.UM(now.Add(-time.Minute)), CountUntil: now.Add(time.Second), CountMS: 1000,
		Camera: true, Send: true, Seen: true, Peer: &Person{"Rosenwerk", 0}, Guests: []Person{{"Anna", 1}}, Shared: &Person{"Anna", 3},
		Knock: &Knock{ID: 2, Name: "Ben", Guest: true, Others: []string{"Anna"}}, CanRing: true, Held: true, Trials: true, Withheld: []string{"Emil"}, Renewed: []string{"Hans"}, Identity: &Identity{"@a:b", "key", "Rosenwerk", true}, Verify: &Verify{3, "Anna", []string{"x"}, []string{"X"}}, Unseen: []string{"Finn"}, Unshown: []string{"Ines"}, Line: "here", Voice: &Voice{"@jan:b", "Jan"}, Talking: []string{"Kim"}, Allowed: []string{"Gina"}, More: 2, Stranger: true,
		Ring: &Ring{"ringing", []string{"Dora"}}, Missed: []Missed{{"Cem", true, jsontime.UM(now.Add(-time.Hour))}},
		Windows: []directory.Window{{Room: "!a:b", Name: "Rosenwerk", City: "Dresden", Shutter: "open", Since: jsontime.UM(now), Joined: true}},
		Fault:   &Fault{Code: "hub", Since: jsontime.UM(now), Detail: "x"}, TestPattern: true, Languages: []string{"de"}, Timezone: "Europe/Berlin",
	}
}

// TestStateWhole sends a state with every field set, so that none is forgotten on the way.
func TestStateWhole(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	s := fullState(now)
	v := reflect.ValueOf(s)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("%s is not tested", v.Type().Field(i).Name)
		}
	}
	var m stateMessage
	if err := json.Unmarshal(encode(s.message(now)), &m); err != nil {
		t.Fatal(err)
	}
	if got := m.state(now); !reflect.DeepEqual(got, s) {
		t.Errorf("\n%+v becomes\n%+v", s, got)
	}
	if !s.Equal(fullState(now)) {
		t.Error("a state is not equal to itself")
	}
	o := fullState(now)
	o.CountUntil = o.CountUntil.Add(time.Second)
	if s.Equal(o) {
		t.Error("a longer countdown looks the same")
	}
}

// TestVersion checks that the page has the same protocol version as the program. Otherwise the page would reload for ever.
func TestVersion(t *testing.T) {
	script, err := os.ReadFile("web/connection.js")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("const version = %d;", protocolVersion); !strings.Contains(string(script), want) {
		t.Errorf("connection.js lacks %q", want)
	}
}

func TestListen(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:8470": "127.0.0.1:8470", "localhost:0": "127.0.0.1:0", "[::1]:80": "[::1]:80", "127.4.5.6:1": "127.4.5.6:1",
	} {
		if got, err := parseListen(listen); err != nil || got.String() != want {
			t.Errorf("%s: %v, %v", listen, got, err)
		}
	}
	for listen, want := range map[string]string{
		"0.0.0.0:8470": "kiosk.listen: 0.0.0.0 can be reached from other machines, and who opens the page can open the window; use 127.0.0.1",
		"[::]:1":       "kiosk.listen: :: can be reached from other machines, and who opens the page can open the window; use 127.0.0.1",
		"":             `kiosk.listen: "" is not an address with a port, such as 127.0.0.1:8470`,
		"127.0.0.1":    `kiosk.listen: "127.0.0.1" is not an address with a port, such as 127.0.0.1:8470`,
		"host:1":       `kiosk.listen: "host:1" is not an address with a port, such as 127.0.0.1:8470`,
	} {
		if _, err := parseListen(listen); err == nil || err.Error() != want {
			t.Errorf("%s: %v", listen, err)
		}
	}
}

// TestGuard tests the two checks of guard: Host and Origin.
func TestGuard(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1:8470": true, "localhost:8470": true, "LOCALHOST": true, "[::1]:9": true, "127.9.9.9": true,
		"": false, "evil.example": false, "evil.example:8470": false, "127.0.0.1.evil.example": false, "localhost.evil.example": false,
		"192.168.1.4:8470": false, "0.0.0.0:8470": false, "[::]:1": false, "127.0.0.1@evil.example": false, "evil.example/127.0.0.1": false,
		"[::1%25lo]:1": false, "127.0.0.1:x": false, "localhost:1?": false,
	} {
		if got := localHost(host); got != want {
			t.Errorf("host %q: %v", host, got)
		}
	}
	for _, c := range []struct {
		site    string
		origins []string
		want    bool
	}{
		{"", nil, true},
		{"none", nil, true},
		{"same-origin", []string{"http://127.0.0.1:1"}, true},
		{"", []string{"http://127.0.0.1:1"}, true},
		{"", []string{"http://127.0.0.1:2"}, false},
		{"", []string{"http://localhost:1"}, false},
		{"", []string{"https://127.0.0.1:1"}, false},
		{"", []string{"null"}, false},
		{"", []string{""}, false},
		{"", []string{"http://127.0.0.1:1", "http://127.0.0.1:1"}, false},
		{"same-site", []string{"http://127.0.0.1:1"}, false},
		{"cross-site", nil, false},
	} {
		r := &http.Request{Host: "127.0.0.1:1", Header: http.Header{}}
		if c.site != "" {
			r.Header.Set("Sec-Fetch-Site", c.site)
		}
		for _, o := range c.origins {
			r.Header.Add("Origin", o)
		}
		if got := ownOrigin(r); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
