package ring

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/strictjson"
)

// Contents as Element Call 0.26.1 and matrix-js-sdk 43 send them (MSC4075, MSC4310).
const (
	validRing = `{"notification_type":"ring","m.mentions":{"user_ids":[],"room":true},"m.relates_to":{"rel_type":"m.reference","event_id":"$b"},` +
		`"sender_ts":1793000000000,"lifetime":90000,"m.call.intent":"video"}`
	newerRing = `{"notification_type":"notification","m.mentions":{"user_ids":["@alice:one.example"]},"m.relates_to":{"rel_type":"m.reference",` +
		`"event_id":"$b"},"sender_ts":1793000000000,"lifetime":90000,"slot_id":"m.call#ROOM","msc4354_sticky_key":"m.call#ROOM"}`
	validDecline = `{"m.relates_to":{"rel_type":"m.reference","event_id":"$ours"},"msc4354_sticky_key":"x"}`
	validInvite  = `{"call_id":"c1","party_id":"BOBDEV","version":"1","lifetime":60000,"offer":{"type":"offer","sdp":"v=0"}}`
)

func TestParseNotification(t *testing.T) {
	for content, want := range map[string]string{
		validRing: "true 1793000000000 1m30s [] true",
		newerRing: "false 1793000000000 1m30s [@alice:one.example] false",
		`{"notification_type":"ring","lifetime":1e9,"sender_ts":0}`:                                                            "true 0 2m0s [] false",
		`{"notification_type":"ring","lifetime":1,"unknown":{"x":[]}}`:                                                         "true -1 1ms [] false",
		`{"notification_type":"ring"}`:                                                                                         "",
		`{"notification_type":"ring","lifetime":-1}`:                                                                           "",
		`{"notification_type":"ring","lifetime":"90000"}`:                                                                      "",
		`{"notification_type":"ring","lifetime":1,"sender_ts":"now"}`:                                                          "",
		`{"notification_type":"ring","lifetime":1,"sender_ts":1.5}`:                                                            "",
		`{"notification_type":"shout","lifetime":1}`:                                                                           "",
		`{"notification_type":["ring"],"lifetime":1}`:                                                                          "",
		`{"notification_type":"ring","lifetime":1,"m.mentions":[]}`:                                                            "",
		`{"notification_type":"ring","lifetime":1,"m.mentions":{"room":1}}`:                                                    "",
		`{"notification_type":"ring","lifetime":1,"m.mentions":{"user_ids":"@alice"}}`:                                         "",
		`{"notification_type":"ring","lifetime":1,"m.mentions":{"user_ids":["a",null]}}`:                                       "",
		`{"notification_type":"ring","lifetime":1,"m.mentions":{"user_ids":["a"` + strings.Repeat(`,"a"`, maxMentions) + `]}}`: "",
		`[]`: "", ``: "", `null`: "",
	} {
		n, err := ParseNotification([]byte(content))
		got := fmt.Sprint(n.ring, " ", n.sent, " ", n.lifetime, " ", n.users, " ", n.everyone)
		if err != nil {
			got = ""
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", content, got, want)
		}
	}
}

func TestUntil(t *testing.T) {
	now := time.UnixMilli(1_793_000_000_000)
	at := func(d time.Duration) int64 { return now.Add(d).UnixMilli() }
	for _, c := range []struct {
		name           string
		sent, origin   int64
		age, life, end time.Duration
	}{
		{"as it should be", at(-time.Second), at(-time.Second), time.Second, time.Minute, 59 * time.Second},
		{"the sender's clock counts", at(-11 * time.Second), at(-time.Second), 0, time.Minute, 49 * time.Second},
		{"when it isn't far off", at(-16 * time.Second), at(-time.Second), 0, time.Minute, 59 * time.Second},
		{"on neither side", at(14 * time.Second), at(-time.Second), 0, time.Minute, 59 * time.Second},
		{"nothing named", -1, at(-time.Second), 0, time.Minute, 59 * time.Second},
		{"all clocks ahead of ours", at(time.Hour), at(time.Hour), 0, time.Minute, time.Minute},
		{"but our homeserver knows the age", at(time.Hour), at(time.Hour), 2 * time.Minute, time.Minute, -time.Minute},
		{"old", at(-time.Hour), at(-time.Hour), time.Hour, time.Minute, -59 * time.Minute},
		{"the sender's clock is far off", 0, strictjson.MaxInteger, 0, time.Minute, time.Minute},
	} {
		n := Notification{sent: c.sent, lifetime: c.life}
		if got := n.Until(now, c.origin, c.age).Sub(now); got != c.end {
			t.Errorf("%s: ends in %v, want %v", c.name, got, c.end)
		}
	}
}

func TestReceivedListLimits(t *testing.T) {
	now := time.UnixMilli(1_793_000_000_000)
	l := receivedList{maxSender: 2, maxRoom: 3, maxAll: 5}
	taken := 0
	for room := range 4 {
		for sender := range 4 {
			for name := range 4 {
				if l.add(now, id.RoomID(fmt.Sprint(room)), id.UserID(fmt.Sprint(room, sender)), fmt.Sprint(name), now.Add(time.Hour)) {
					taken++
				}
			}
		}
	}
	if taken != 5 || len(l.list) != 5 || l.dropped == 0 {
		t.Fatalf("%d taken, %d kept, %d dropped", taken, len(l.list), l.dropped)
	}
	if !l.add(now.Add(time.Hour), "0", "00", "0", now) || len(l.list) != 1 {
		t.Fatalf("%d kept", len(l.list))
	}
}

// TestEarlyDeclines: a decline that arrives before our homeserver's answer counts once the event id is known. Nothing is kept afterwards.
func TestEarlyDeclines(t *testing.T) {
	now := time.UnixMilli(1_793_000_000_000)
	tracker := NewTracker()
	ours, other := Decline{"!hall", "@carol:x", "$ours"}, Decline{"!hall", "@bob:x", "$other"}
	tracker.Sending("!hall")
	if tracker.AddDecline(now, ours) || tracker.AddDecline(now, other) {
		t.Error("a decline counts before its ring is known")
	}
	if got := tracker.Sent(now, "!hall", "$ours"); len(got) != 1 || got[0] != ours {
		t.Errorf("got %+v", got)
	}
	if len(tracker.early) != 0 || len(tracker.sent) != 0 {
		t.Errorf("kept %+v", tracker)
	}
}

func TestPartyID(t *testing.T) {
	for device, want := range map[id.DeviceID]string{
		"EW1234": "EW1234", "a.b_c~d-e": "a.b_c~d-e", "": plainParty, "a:b": plainParty, "ü": plainParty,
		id.DeviceID(strings.Repeat("A", 256)): plainParty,
	} {
		if got := partyID(device); got != want {
			t.Errorf("%q: got %q", device, got)
		}
	}
}

func FuzzParseRing(f *testing.F) {
	now := int64(1_793_000_000_000)
	for _, content := range []string{
		validRing, newerRing, validDecline, validInvite, `{}`, `{"call_id":"","invitee":"","lifetime":1e400}`,
		`{"notification_type":"ring","lifetime":1e15,"sender_ts":9007199254740991,"m.mentions":{"user_ids":[""],"room":false}}`,
	} {
		f.Add(now, now, content)
	}
	f.Add(int64(-1)<<63, int64(1)<<62, validRing)
	f.Fuzz(func(t *testing.T, nowMS, origin int64, content string) {
		now := time.UnixMilli(nowMS % strictjson.MaxInteger)
		n, err := ParseNotification([]byte(content))
		switch {
		case err != nil && (n.lifetime != 0 || n.users != nil):
			t.Fatalf("an error and %+v", n)
		case err == nil:
			if n.lifetime < 0 || n.lifetime > maxRingLife || len(n.users) > maxMentions || n.sent < -1 || n.sent > strictjson.MaxInteger {
				t.Fatalf("taken: %+v", n)
			}
			if until := n.Until(now, origin, 0); until.Sub(now) > maxRingLife {
				t.Fatalf("rings for %v", until.Sub(now))
			}
		}
		if of, err := ParseDecline([]byte(content)); (err == nil) != (of != "") || len(of) > strictjson.MaxName {
			t.Fatalf("declined %q, %v", of, err)
		}
		i, err := ParseInvite([]byte(content))
		if err == nil && (i.Call == "" || len(i.Call) > strictjson.MaxName || len(i.Invitee) > strictjson.MaxName || i.lifetime < 0 || i.lifetime > maxRingLife) {
			t.Fatalf("taken: %+v", i)
		}
	})
}
