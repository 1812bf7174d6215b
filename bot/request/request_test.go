package request

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
)

func TestParseVersions(t *testing.T) {
	for in, want := range map[string]bool{
		`{"versions":["v1.11"],"unstable_features":{"org.matrix.msc4140":true}}`:   true,
		`{"versions":["v1.11"],"unstable_features":{"org.matrix.msc4140":false}}`:  false,
		`{"versions":["v1.11"],"unstable_features":{"org.matrix.msc4140":"true"}}`: false,
		`{}`: false, `x`: false,
	} {
		if got := parseVersions([]byte(in)); got != want {
			t.Errorf("%s: got %v", in, got)
		}
	}
}

// TestScheduleState schedules at homeservers that know one form of MSC4140 or the other, or none and send at once. The form is found out once.
func TestScheduleState(t *testing.T) {
	for _, test := range []struct {
		name   string
		newest bool
		answer string // to the older form
		want   string
		asked  int // requests in the newest form, for two events
	}{
		{"newest", true, "", "id1", 2},
		{"older", false, `{"delay_id":"id2"}`, "id2", 1},
		{"none", false, `{"event_id":"$1"}`, "", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var body struct {
					DelayMS  int             `json:"delay_ms"`
					StateKey string          `json:"state_key"`
					Content  json.RawMessage `json:"content"`
				}
				switch {
				case strings.Contains(r.URL.Path, "/org.matrix.msc4140/rooms/!r:example/delayed_event/"):
					if asked++; !test.newest {
						w.WriteHeader(http.StatusNotFound)
						_, _ = w.Write([]byte(`{"errcode":"M_UNRECOGNIZED"}`))
						return
					}
					if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.DelayMS != 18_000 || body.StateKey != "key" || string(body.Content) != "{}" {
						t.Errorf("the body is %+v, %v", body, err)
					}
					_, _ = w.Write([]byte(`{"delay_id":"id1"}`))
				case r.URL.Query().Get("org.matrix.msc4140.delay") == "18000":
					_, _ = w.Write([]byte(test.answer))
				default:
					t.Errorf("%s %s", r.Method, r.URL)
				}
			}))
			t.Cleanup(server.Close)
			client, err := mautrix.NewClient(server.URL, "@a:example", "token")
			if err != nil {
				t.Fatal(err)
			}
			c := New(func() *mautrix.Client { return client })
			for range 2 {
				delayID, err := c.ScheduleState(t.Context(), "!r:example", event.NewEventType("test"), "key", struct{}{}, 18*time.Second)
				if delayID != test.want || (err == nil) != (test.want != "") {
					t.Errorf("%q, %v", delayID, err)
				}
			}
			if asked != test.asked {
				t.Errorf("%d requests in the newest form", asked)
			}
		})
	}
}
