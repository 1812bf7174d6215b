package bot

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/backoff"
)

func TestPause(t *testing.T) {
	for _, c := range []struct {
		n       int // failures before
		longest time.Duration
		random  float64 // which part of the jitter is subtracted
		want    time.Duration
	}{
		{0, maxPause, 0, time.Second},
		{0, maxPause, 1, 500 * time.Millisecond},
		{3, maxPause, 0, 8 * time.Second},
		{5, maxPause, 0, maxPause},
		{5, maxPause, 0.5, 22500 * time.Millisecond},
		{1_000_000, maxPause, 0, maxPause},
		{3, maxAwayPause, 0, maxAwayPause},
	} {
		err := error(mautrix.HTTPError{Response: &http.Response{StatusCode: http.StatusInternalServerError}})
		if c.longest == maxAwayPause {
			err = &url.Error{Err: errors.New("refused")}
		}
		conn := connection{pause: backoff.Backoff{Random: func() float64 { return 1 - c.random }}}
		for range c.n {
			conn.pauseAfter(err)
		}
		if got := conn.pauseAfter(err); got != c.want {
			t.Errorf("attempt %d, at most %s, %.1f: %s, want %s", c.n, c.longest, c.random, got, c.want)
		}
	}
}

func TestPauseAfter(t *testing.T) {
	answer := func(status int, after string) error {
		return fmt.Errorf("sync: %w", mautrix.HTTPError{
			Response:  &http.Response{StatusCode: status, Header: http.Header{"Retry-After": {after}}},
			RespError: &mautrix.RespError{ErrCode: "M_UNKNOWN"},
		})
	}
	for _, c := range []struct {
		name      string
		err       error
		transient bool
		want      time.Duration
	}{
		{"refused", fmt.Errorf("sync: %w", mautrix.HTTPError{WrappedError: &url.Error{Err: errors.New("refused")}}), true, maxAwayPause},
		{"proxy", answer(502, ""), true, maxAwayPause},
		{"server", answer(500, ""), true, maxPause},
		{"limit", answer(429, "60"), true, time.Minute},
		{"long limit", answer(429, "60000"), true, maxNamedPause},
		{"odd limit", answer(429, "soon"), true, maxPause},
		{"page", mautrix.HTTPError{Response: &http.Response{StatusCode: 404}}, true, maxPause},
		{"forbidden", answer(403, ""), false, 0},
		{"token", answer(401, ""), false, 0},
		{"ours", errors.New("disk full"), false, 0},
	} {
		if transient(c.err) != c.transient {
			t.Errorf("%s: transient is not %v", c.name, c.transient)
		}
		conn := connection{pause: backoff.Backoff{Random: func() float64 { return 1 }}}
		for range 20 {
			conn.pauseAfter(errors.New("failed"))
		}
		if got := conn.pauseAfter(c.err); c.transient && got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestWaiting(t *testing.T) {
	var w waiting
	now := time.Now()
	add := func(name, session string) int {
		return w.add(&event.Event{ID: id.EventID(name)}, id.SessionID(session), now)
	}
	add("a", "1")
	add("b", "2")
	if ready, ask, expired := w.take(now); len(ready)+len(ask)+expired != 0 {
		t.Fatal(ready, ask, expired)
	}
	w.arrived("1")
	ready, ask, _ := w.take(now)
	if len(ready) != 1 || ready[0].ID != "a" || len(ask) != 1 || ask[0].ID != "b" {
		t.Fatal(ready, ask)
	}
	if ready, ask, _ := w.take(now); len(ready)+len(ask) != 0 {
		t.Fatal("asked twice")
	}
	now = now.Add(waitingLimit + 1)
	if _, _, expired := w.take(now); expired != 1 {
		t.Fatal("it waits for ever")
	}
	lost := 0
	for n := range maxWaiting + 5 {
		lost += add(fmt.Sprint(n), "3")
	}
	w.arrived("3")
	if ready, _, _ := w.take(now); lost != 5 || len(ready) != maxWaiting || ready[0].ID != "5" {
		t.Fatal(lost, len(ready))
	}
}

func TestStickyLeft(t *testing.T) {
	now := time.UnixMilli(1_793_000_000_000)
	of := func(source event.Source, sticky *event.Sticky, left time.Duration, at time.Time) *event.Event {
		e := &event.Event{Sticky: sticky, Timestamp: at.UnixMilli()}
		e.Unsigned.StickyDurationTTL.Duration, e.Mautrix.EventSource = left, event.SourceJoin|source
		return e
	}
	hour := &event.Sticky{}
	hour.Duration.Duration = 2 * time.Hour
	for i, c := range []struct {
		e    *event.Event
		want time.Duration
	}{
		{of(event.SourceTimeline, nil, 0, now), 0},
		{of(event.SourceTimeline, hour, 0, now), time.Hour},
		{of(event.SourceTimeline, hour, 0, now.Add(-10*time.Minute)), 50 * time.Minute},
		{of(event.SourceTimeline, hour, 0, now.Add(-time.Hour)), 0},
		{of(event.SourceTimeline, hour, 0, now.Add(10*time.Minute)), time.Hour},
		{of(event.SourceSticky, nil, 0, now.Add(-10*time.Minute)), 50 * time.Minute},
		{of(event.SourceSticky, nil, time.Minute, now.Add(-10*time.Minute)), time.Minute},
		// When clocks differ by hours, the time that is left counts.
		{of(event.SourceSticky, hour, time.Minute, now.Add(-3*time.Hour)), time.Minute},
		{of(event.SourceSticky, hour, time.Minute, now.Add(3*time.Hour)), time.Minute},
		{of(event.SourceSticky, hour, 9*time.Hour, now), time.Hour},
		{of(event.SourceSticky, nil, 0, time.UnixMilli(1<<62)), time.Hour},
		{of(event.SourceSticky, nil, 0, time.UnixMilli(-1<<62)), 0},
	} {
		if got := StickyLeft(now, c.e); got != c.want {
			t.Errorf("case %d: %v, want %v", i, got, c.want)
		}
	}
}

func TestSameUser(t *testing.T) {
	for name, want := range map[string]bool{
		"dresden": true, "Dresden": true, "@dresden": true, "@dresden:x.org": true,
		"@dresden:y.org": false, "munich": false, "dresden:x.org": false,
	} {
		if sameUser(name, "@dresden:x.org") != want {
			t.Errorf("%s: not %v", name, want)
		}
	}
}

// FuzzSyncResponse: an event that somebody else wrote can spoil only itself in a sync response.
func FuzzSyncResponse(f *testing.F) {
	for _, text := range []string{
		`{"type":"m.room.message","sender":"@a:x","event_id":"$1","origin_server_ts":1,"content":{"body":"x"}}`,
		`{"type":"m.room.member","state_key":"@a:x","sender":"@a:x","content":{"membership":"join"},"unsigned":{"prev_content":5}}`,
		`{"type":"m.room.encryption","state_key":"","content":{"algorithm":5}}`,
		`{"type":5}`, `{"type":"x","content":[]}`, `null`, `5`, `{"type":"x","content":{},"origin_server_ts":1e99}`, `{"type":"x","redacts":{}}`,
		`{"type":"x","content":{},"msc4354_sticky":5}`, `{"type":"m.room.encrypted","content":{"algorithm":"m.megolm.v1.aes-sha2","ciphertext":{}}}`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !json.Valid([]byte(text)) {
			return // the homeserver writes the JSON around it, so it is valid
		}
		const good = `{"type":"org.example","sender":"@a:x","content":{"a":1}}`
		var r syncResponse
		section := `{"events":[` + good + `,` + text + `,` + good + `]}`
		err := json.Unmarshal([]byte(`{"next_batch":"n","to_device":`+section+`,"rooms":{"join":{"!r:x":{"state":`+section+
			`,"timeline":`+section+`,"msc4354_sticky":`+section+`}},"invite":{"!i:x":{"invite_state":`+section+`}},"leave":{"!l:x":null}}}`), &r)
		if err != nil || r.NextBatch != "n" {
			t.Fatal(err)
		}
		all := r.roomEvents()
		n := 0
		for _, e := range all {
			if e.RoomID == "" || (e.StateKey != nil) != (e.Type.Class == event.StateEventType) {
				t.Fatalf("%+v", e)
			}
			if e.Type == event.StateEncryption && e.Content.Parsed == nil {
				t.Fatal("an encryption event without a meaning")
			}
			if e.Type.Type == "org.example" && e.Sender == "@a:x" {
				n++
			}
		}
		if n < 8 {
			t.Fatalf("%d of 8 good events were left", n)
		}
		if bad := r.malformed(); bad != 0 && bad != 5 || len(all)+bad+len(r.ToDevice.Events.events) != 15 {
			t.Fatalf("%d events and %d malformed ones", len(all), bad)
		}
	})
}

// FuzzContent: to-device handlers get only objects that are not too long, unchanged.
func FuzzContent(f *testing.F) {
	for _, text := range []string{`{}`, ` {"a":[1]} `, `[]`, `5`, `"{"`, `{`, ``, "\x00{}", `{"a":1}{"b":2}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, ok := objectContent(raw)
		var object map[string]json.RawMessage
		want := json.Unmarshal(raw, &object) == nil && object != nil && len(raw) <= maxContent
		if ok != want || ok && string(got) != string(raw) || !ok && got != nil {
			t.Fatalf("%q: %v, want %v", raw, ok, want)
		}
	})
}
