package membership

import (
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/rtc/transport"
	"multifactorymodel.org/ewindow/bot/strictjson"
)

const (
	alice = id.UserID("@alice:one.example")
	bob   = id.UserID("@bob:two.example")
	carol = id.UserID("@carol:one.example")
	hall  = id.RoomID("!hall:one.example")
)

const validState = `{"application":"m.call","call_id":"","scope":"m.room","device_id":"BOBDEV","membershipID":"@bob:two.example:BOBDEV",
	"expires":14400000,"m.call.intent":"video","focus_active":{"type":"livekit","focus_selection":"multi_sfu"},
	"foci_preferred":[{"type":"livekit","livekit_service_url":"https://rtc.two.example/jwt/","livekit_alias":"!hall:one.example"}]}`

const validSticky = `{"slot_id":"m.call#ROOM","application":{"type":"m.call","m.call.intent":"video"},
	"member":{"user_id":"@bob:two.example","device_id":"BOBDEV","id":"5d0c1b52"},
	"transports":{"published":[{"type":"livekit","livekit_service_url":"https://rtc.two.example/jwt"}],"can_subscribe":["livekit"]},
	"versions":[],"msc4354_sticky_key":"5d0c1b52","m.relation":{}}`

// edit replaces one piece of a valid content.
func edit(t testing.TB, content, old, new string) []byte {
	t.Helper()
	if strings.Count(content, old) != 1 {
		t.Fatalf("%q is not there exactly once", old)
	}
	return []byte(strings.Replace(content, old, new, 1))
}

func TestParseState(t *testing.T) {
	const ts = 1_793_000_000_000
	begin := time.UnixMilli(ts)
	cases := []struct {
		name     string
		old, new string // what is replaced in the valid content
		none     bool   // left, or in another call
		invalid  bool
		check    func(*membership) bool
	}{
		{name: "valid", check: func(m *membership) bool {
			return m.device == "BOBDEV" && m.user == bob && m.service == "https://rtc.two.example/jwt" && m.intent == "video" &&
				m.created.Equal(begin) && m.expires.Equal(begin.Add(4*time.Hour)) && m.identity() == "@bob:two.example:BOBDEV"
		}},
		{name: "call ROOM", old: `"call_id":""`, new: `"call_id":"ROOM"`},
		{name: "another call", old: `"call_id":""`, new: `"call_id":"x"`, none: true},
		{name: "another application", old: `"m.call","call`, new: `"m.board","call`, none: true},
		{name: "old array form", old: `"scope"`, new: `"memberships":[],"scope"`, none: true},
		{name: "no focus_active", old: `"focus_active"`, new: `"focus"`, invalid: true},
		{name: "focus_active without type", old: `{"type":"livekit","focus_selection"`, new: `{"focus_selection"`, invalid: true},
		{name: "no device", old: `"device_id"`, new: `"device"`, invalid: true},
		{name: "device null", old: `"BOBDEV","membershipID"`, new: `null,"membershipID"`, invalid: true},
		{name: "device empty", old: `"BOBDEV","membershipID"`, new: `"","membershipID"`, invalid: true},
		{name: "device that could be another user's identity", old: `"BOBDEV","membershipID"`, new: `"8448:X","membershipID"`, invalid: true},
		{name: "device too long", old: `"BOBDEV","membershipID"`, new: `"` + strings.Repeat("x", 256) + `","membershipID"`, invalid: true},
		{name: "other spelling is another member", old: `"device_id"`, new: `"Device_ID"`, invalid: true},
		{name: "created_ts text", old: `"expires"`, new: `"created_ts":"1","expires"`, invalid: true},
		{name: "created_ts negative", old: `"expires"`, new: `"created_ts":-1,"expires"`, invalid: true},
		{name: "created_ts", old: `"expires"`, new: `"created_ts":1000,"expires"`, check: func(m *membership) bool {
			return m.created.Equal(begin) && m.claimed.Equal(time.UnixMilli(1000)) && m.expires.Equal(time.UnixMilli(1000).Add(4*time.Hour))
		}},
		{name: "expires text", old: `"expires":14400000`, new: `"expires":"x"`, invalid: true},
		{name: "expires negative", old: `"expires":14400000`, new: `"expires":-5`, check: func(m *membership) bool { return m.expires.Equal(begin) }},
		{name: "expires huge", old: `"expires":14400000`, new: `"expires":1e300`, check: func(m *membership) bool { return m.expires.After(begin) }},
		{name: "expires absent", old: `"expires":14400000,`, new: ``, check: func(m *membership) bool { return m.expires.Equal(begin.Add(4 * time.Hour)) }},
		{name: "unknown members", old: `"scope"`, new: `"x":[{}],"scope"`},
		{name: "unknown intent", old: `"video"`, new: `"smell"`, check: func(m *membership) bool { return m.intent == "" }},
		{name: "transports no list", old: `"foci_preferred":[`, new: `"foci_preferred":7,"x":[`, invalid: true},
		{name: "transports absent", old: `"foci_preferred"`, new: `"x"`, check: func(m *membership) bool { return m.service == "" }},
		{name: "transport of another type", old: `[{"type":"livekit"`, new: `[{"type":"mesh"`, check: func(m *membership) bool { return m.service == "" }},
		{name: "transport without type", old: `[{"type":"livekit",`, new: `[{`, invalid: true},
		{name: "transport in clear", old: `"https://rtc`, new: `"http://rtc`, check: func(m *membership) bool { return m.service == "" }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			content := []byte(validState)
			if c.old != "" {
				content = edit(t, validState, c.old, c.new)
			}
			m, err := parseState(bob, ts, content)
			if (err != nil) != c.invalid || (m == nil) != (c.none || c.invalid) {
				t.Fatalf("got %+v, %v", m, err)
			}
			if c.check != nil && !c.check(m) {
				t.Fatalf("got %+v", m)
			}
		})
	}
	for _, content := range []string{`{}`, `{"slot_id":"m.call#ROOM","msc4354_sticky_key":"x"}`} {
		if m, err := parseState(bob, ts, []byte(content)); m != nil || err != nil {
			t.Errorf("%s: got %+v, %v", content, m, err)
		}
	}
	for _, content := range []string{``, `null`, `[]`, `"x"`, `{`, `{"application":"m.call","call_id":"` + strings.Repeat("x", strictjson.MaxContent) + `"}`} {
		if m, err := parseState(bob, ts, []byte(content)); m != nil || err == nil {
			t.Errorf("%.20s: got %+v, %v", content, m, err)
		}
	}
}

func TestParseSticky(t *testing.T) {
	cases := []struct {
		name     string
		old, new string
		none     bool
		invalid  bool
	}{
		{name: "valid"},
		{name: "stable key", old: `"msc4354_sticky_key"`, new: `"sticky_key"`},
		{name: "no key", old: `"msc4354_sticky_key"`, new: `"key"`, invalid: true},
		{name: "user is not the sender", old: `@bob`, new: `@eve`, invalid: true},
		{name: "two hashes", old: `m.call#ROOM`, new: `m.call#ROOM#x`, invalid: true},
		{name: "no hash", old: `m.call#ROOM`, new: `m.call`, invalid: true},
		{name: "application is not the slot's", old: `{"type":"m.call"`, new: `{"type":"m.board"`, invalid: true},
		{name: "another call", old: `m.call#ROOM`, new: `m.call#x`, none: true},
		{name: "no member id", old: `"id":"5d0c1b52"`, new: `"id":5`, invalid: true},
		{name: "no device", old: `"device_id"`, new: `"dev"`, invalid: true},
		{name: "published no list", old: `"published":[`, new: `"published":{},"x":[`, invalid: true},
		{name: "published of no type", old: `[{"type":"livekit",`, new: `[{`, invalid: true},
		{name: "can_subscribe of numbers", old: `["livekit"]`, new: `[7]`, invalid: true},
		{name: "can_subscribe absent", old: `"can_subscribe"`, new: `"x"`, invalid: true},
		{name: "versions absent", old: `"versions"`, new: `"x"`, invalid: true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			content := []byte(validSticky)
			if c.old != "" {
				content = edit(t, validSticky, c.old, c.new)
			}
			m, key, err := parseSticky(bob, 1, content)
			if (err != nil) != c.invalid || (m == nil) != (c.none || c.invalid) || (key == "") != c.invalid {
				t.Fatalf("got %+v, %q, %v", m, key, err)
			}
			if m != nil && (m.service != "https://rtc.two.example/jwt" || m.identity() != transport.HashedIdentity("@bob:two.example", "BOBDEV", "5d0c1b52")) {
				t.Fatalf("got %+v", m)
			}
		})
	}
	m, key, err := parseSticky(bob, 1, []byte(`{"slot_id":"m.call#ROOM","msc4354_sticky_key":"x"}`))
	if m != nil || key != "x" || err != nil {
		t.Errorf("left: got %+v, %q, %v", m, key, err)
	}
}

func TestParseSlot(t *testing.T) {
	for content, open := range map[string]bool{
		`{"status":"open","application":{"type":"m.call"},"encryption":{"type":"x"}}`: true,
		`{"status":"open"}`:   true,
		`{"status":"closed"}`: false,
		`{}`:                  false,
		`x`:                   false,
		`{"status":"open","application":{"type":"m.board"}}`: false,
	} {
		if got := parseSlot([]byte(content)); got != open {
			t.Errorf("%s: got %v", content, got)
		}
	}
}

// checkMembership checks what must hold for every accepted membership.
func checkMembership(t *testing.T, m *membership, sender id.UserID) {
	t.Helper()
	if m.user != sender || m.device == "" || len(m.device) > strictjson.MaxName || strings.Contains(m.device.String(), ":") {
		t.Fatalf("taken from %s: %+v", sender, m)
	}
	if m.created.Before(time.UnixMilli(0)) || m.created.UnixMilli() > strictjson.MaxInteger {
		t.Fatalf("created %v", m.created)
	}
	if m.service != "" {
		if again, ok := transport.ServiceURL(m.service); !ok || again != m.service {
			t.Fatalf("service %q becomes %q, %v", m.service, again, ok)
		}
	}
	if m.intent != "" && m.intent != "video" && m.intent != "audio" {
		t.Fatalf("intent %q", m.intent)
	}
}

func FuzzParseState(f *testing.F) {
	f.Add(int64(1_793_000_000_000), []byte(validState))
	f.Add(int64(-5), []byte(`{}`))
	f.Add(int64(1)<<62, []byte(`{"application":"m.call","call_id":"ROOM","device_id":"A","focus_active":{"type":""},"expires":1e400}`))
	f.Add(int64(0), []byte(`{"memberships":[]}`))
	f.Add(int64(0), []byte(`{"application":"m.call","call_id":"","device_id":"A","created_ts":9e15,"expires":9e15,"focus_active":{"type":"livekit"}}`))
	f.Fuzz(func(t *testing.T, ts int64, content []byte) {
		m, err := parseState(bob, ts, content)
		if err != nil && m != nil {
			t.Fatal("an error and a membership")
		}
		if m == nil {
			return
		}
		checkMembership(t, m, bob)
		if m.expires.Before(m.created) || m.expires.Sub(m.created) > maxExpiry || m.sticky {
			t.Fatalf("created %v, expires %v", m.created, m.expires)
		}
	})
}

func FuzzParseSticky(f *testing.F) {
	f.Add(int64(1_793_000_000_000), []byte(validSticky))
	f.Add(int64(0), []byte(`{"slot_id":"m.call#ROOM","msc4354_sticky_key":""}`))
	f.Add(int64(-1), []byte(`{"slot_id":"#","sticky_key":"x","application":{"type":""},"member":{},"transports":{},"versions":[]}`))
	f.Fuzz(func(t *testing.T, ts int64, content []byte) {
		m, key, err := parseSticky(bob, ts, content)
		if err != nil && (m != nil || key != "") {
			t.Fatal("an error and a result")
		}
		if m == nil {
			return
		}
		checkMembership(t, m, bob)
		if m.memberID == "" || len(m.memberID) > strictjson.MaxName || !m.sticky || m.key != key {
			t.Fatalf("got %+v", m)
		}
	})
}
