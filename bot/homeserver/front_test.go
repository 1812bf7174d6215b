package homeserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/homeserver"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
	"multifactorymodel.org/ewindow/migrations"
)

const soon = 20 * time.Second // for something quick on a busy machine

var testType = event.Type{Type: "org.example.delayed", Class: event.StateEventType}

// window is a homeserver with a user in a room.
type window struct {
	*rig.Homeserver
	client *mautrix.Client
	room   id.RoomID
}

func newWindow(t *testing.T) window {
	t.Helper()
	hs := rig.StartHomeserverWith(t, rig.Options{Transports: []string{"https://rtc.example.org/livekit/jwt"}})
	user, _ := hs.Register(t, "anna")
	client := hs.Client(t, user)
	room, err := client.CreateRoom(t.Context(), &mautrix.ReqCreateRoom{Preset: "private_chat"})
	if err != nil {
		t.Fatal(err)
	}
	return window{hs, client, room.RoomID}
}

// schedule schedules a state event whose content says n.
func (w window) schedule(t *testing.T, base, key string, n int, delay time.Duration) id.DelayID {
	t.Helper()
	client, err := mautrix.NewClient(base, w.client.UserID, w.client.AccessToken)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.SendStateEvent(t.Context(), w.room, testType, key, map[string]any{"n": n}, mautrix.ReqSendEvent{UnstableDelay: delay})
	if err != nil {
		t.Fatal(err)
	}
	if res.UnstableDelayID == "" || res.EventID != "" {
		t.Fatalf("no delay id but %+v", res)
	}
	return res.UnstableDelayID
}

// state returns the n of a state event, or 0 when there is none.
func (w window) state(t *testing.T, key string) int {
	t.Helper()
	var content struct{ N int }
	err := w.client.StateEvent(t.Context(), w.room, testType, key, &content)
	if err != nil && !errors.Is(err, mautrix.MNotFound) {
		t.Fatal(err)
	}
	return content.N
}

func (w window) wantState(t *testing.T, key string, n int) {
	t.Helper()
	rig.Eventually(t, soon, func() error {
		if got := w.state(t, key); got != n {
			return fmt.Errorf("the state is %d, not %d", got, n)
		}
		return nil
	})
}

// do makes a request and returns its status and body.
func do(t *testing.T, method, url, token, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("%s %s can't be used by a browser", method, url)
	}
	return res.StatusCode, string(text)
}

const delayedPath = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events"

// act sends an action for a delayed event and returns the status.
func act(t *testing.T, base string, delayID id.DelayID, action string) int {
	t.Helper()
	status, text := do(t, http.MethodPost, base+delayedPath+"/"+string(delayID)+"/"+action, "", "{}")
	if status == http.StatusNotFound && !strings.Contains(text, "M_NOT_FOUND") {
		t.Errorf("%s: %s", action, text)
	}
	return status
}

func TestDelayedEvents(t *testing.T) {
	w := newWindow(t)
	token := w.client.AccessToken

	t.Run("fires", func(t *testing.T) {
		begun := time.Now()
		delayID := w.schedule(t, w.URL, "fires/with slash", 1, 500*time.Millisecond)
		later := w.schedule(t, w.URL, "fires later", 1, time.Hour)
		w.wantState(t, "fires/with slash", 1)
		if w.state(t, "fires later") != 0 {
			t.Fatal("it was sent at once")
		}
		act(t, w.URL, later, "cancel")
		if passed := time.Since(begun); passed < 500*time.Millisecond {
			t.Fatal("it was sent after ", passed)
		}
		rig.Eventually(t, soon, func() error { // the row is removed a moment after the event was sent
			if status := act(t, w.URL, delayID, "restart"); status != http.StatusNotFound {
				return fmt.Errorf("status %d", status)
			}
			return nil
		})
	})

	t.Run("restart postpones", func(t *testing.T) {
		const delay = 2 * time.Second // a busy machine needs its time for each restart
		delayID := w.schedule(t, w.URL, "restart", 1, delay)
		tick := time.NewTicker(delay / 5)
		defer tick.Stop()
		var last time.Time
		for range 8 {
			<-tick.C
			last = time.Now()
			if status := act(t, w.URL, delayID, "restart"); status != http.StatusOK {
				t.Fatal("status ", status)
			}
		}
		if w.state(t, "restart") != 0 {
			t.Fatal("it was sent although it was restarted all the time")
		}
		w.wantState(t, "restart", 1)
		if passed := time.Since(last); passed < delay {
			t.Fatal("it was sent after ", passed)
		}
	})

	t.Run("send sends at once", func(t *testing.T) {
		delayID := w.schedule(t, w.URL, "send", 1, time.Hour)
		if status := act(t, w.URL, delayID, "send"); status != http.StatusOK {
			t.Fatal("status ", status)
		}
		if w.state(t, "send") != 1 {
			t.Fatal("it was not sent when the answer came")
		}
		if status := act(t, w.URL, delayID, "send"); status != http.StatusNotFound {
			t.Fatal("status ", status)
		}
	})

	t.Run("mautrix and cancel", func(t *testing.T) {
		delayID := w.schedule(t, w.URL, "cancel", 1, 300*time.Millisecond)
		for _, action := range []event.DelayAction{event.DelayActionRestart, event.DelayActionCancel} {
			if _, err := w.client.UpdateDelayedEvent(t.Context(), &mautrix.ReqUpdateDelayedEvent{DelayID: delayID, Action: action}); err != nil {
				t.Fatal(err)
			}
		}
		if status := act(t, w.URL, delayID, "cancel"); status != http.StatusNotFound {
			t.Fatal("status ", status)
		}
		w.schedule(t, w.URL, "later", 1, 600*time.Millisecond)
		w.wantState(t, "later", 1)
		if w.state(t, "cancel") != 0 {
			t.Fatal("a cancelled event was sent")
		}
	})

	t.Run("own newer state does not cancel", func(t *testing.T) {
		w.schedule(t, w.URL, "newer", 1, 500*time.Millisecond)
		if _, err := w.client.SendStateEvent(t.Context(), w.room, testType, "newer", map[string]any{"n": 2}); err != nil {
			t.Fatal(err)
		}
		w.wantState(t, "newer", 1)
	})

	t.Run("many sends are one", func(t *testing.T) {
		message := w.URL + "/_matrix/client/v3/rooms/" + url.PathEscape(w.room.String()) + "/send/m.room.message/txn1?org.matrix.msc4140.delay=3600000"
		body := `{"msgtype":"m.text","body":"only once"}`
		status, first := do(t, http.MethodPut, message, token, body)
		_, second := do(t, http.MethodPut, message, token, body)
		var scheduled struct {
			DelayID id.DelayID `json:"delay_id"`
		}
		if err := json.Unmarshal([]byte(first), &scheduled); err != nil || status != http.StatusOK || first != second {
			t.Fatal("a repeated request is scheduled twice: ", first, second, err)
		}
		var all sync.WaitGroup
		statuses := make([]int, 10)
		for i := range statuses {
			all.Go(func() { statuses[i] = act(t, w.URL, scheduled.DelayID, "send") })
		}
		all.Wait()
		// Dendrite's list of messages may lag behind. When it shows a later message, it shows all earlier ones.
		if _, err := w.client.SendText(t.Context(), w.room, "after that"); err != nil {
			t.Fatal(err)
		}
		count := 0
		rig.Eventually(t, soon, func() error {
			messages, err := w.client.Messages(t.Context(), w.room, "", "", mautrix.DirectionBackward, nil, 50)
			if err != nil {
				return err
			}
			bodies := make(map[any]int)
			for _, e := range messages.Chunk {
				bodies[e.Content.Raw["body"]]++
			}
			if bodies["after that"] != 1 {
				return fmt.Errorf("the messages are %v", bodies)
			}
			count = bodies["only once"]
			return nil
		})
		if count != 1 {
			t.Errorf("%d messages, statuses %v", count, statuses)
		}
		for _, status := range statuses {
			if status != http.StatusOK && status != http.StatusNotFound {
				t.Error("status ", status)
			}
		}
	})

	t.Run("the delay in the body", func(t *testing.T) {
		path := w.URL + strings.TrimSuffix(delayedPath, "delayed_events") + "rooms/" + url.PathEscape(w.room.String()) + "/delayed_event/"
		put := func(rest, body string, want int) (delayID id.DelayID, text string) {
			t.Helper()
			status, text := do(t, http.MethodPut, path+rest, token, body)
			var answer struct {
				DelayID id.DelayID `json:"delay_id"`
			}
			if err := json.Unmarshal([]byte(text), &answer); err != nil || status != want || (answer.DelayID != "") != (want == http.StatusOK) {
				t.Fatalf("%s: status %d, %s", body, status, text)
			}
			return answer.DelayID, text
		}
		first, _ := put(testType.Type+"/txn1", `{"delay_ms":400,"state_key":"body","content":{"n":1}}`, http.StatusOK)
		if again, _ := put(testType.Type+"/txn1", `{"delay_ms":400,"state_key":"body","content":{"n":1}}`, http.StatusOK); again != first {
			t.Errorf("the same request again is %q, not %q", again, first)
		}
		w.wantState(t, "body", 1)
		message, _ := put("m.room.message/txn2", `{"delay_ms":3600000,"content":{"msgtype":"m.text","body":"later"}}`, http.StatusOK)
		if status := act(t, w.URL, message, "send"); status != http.StatusOK {
			t.Error("status ", status)
		}
		for body, code := range map[string]string{
			`{"content":{}}`:                              "M_INVALID_PARAM",
			`{"delay_ms":0,"content":{}}`:                 "M_INVALID_PARAM",
			`{"delay_ms":1.5,"content":{}}`:               "M_INVALID_PARAM",
			`{"delay_ms":"x","content":{}}`:               "M_BAD_JSON",
			`{"delay_ms":1e12,"content":{}}`:              "M_INVALID_PARAM",
			`{"delay_ms":99999999999,"content":{}}`:       "M_MAX_DELAY_EXCEEDED",
			`{"delay_ms":400}`:                            "M_BAD_JSON",
			`{"delay_ms":400,"content":[]}`:               "M_BAD_JSON",
			`{"delay_ms":400,"content":{},"state_key":7}`: "M_BAD_JSON",
			`{"delay_ms":400,"content":{},"state_key":"` + strings.Repeat("k", 256) + `"}`: "M_INVALID_PARAM",
		} {
			if _, text := put(testType.Type+"/txn3", body, http.StatusBadRequest); !strings.Contains(text, code) {
				t.Errorf("%.60s: %s", body, text)
			}
		}
	})

	t.Run("list", func(t *testing.T) {
		delayID := w.schedule(t, w.URL, "list", 7, time.Hour)
		other, _ := w.Register(t, "ben")
		_, foreign := do(t, http.MethodGet, w.URL+delayedPath, w.Client(t, other).AccessToken, "")
		if foreign != `{"delayed_events":[]}`+"\n" {
			t.Error("another user sees ", foreign)
		}
		_, own := do(t, http.MethodGet, w.URL+delayedPath, token, "")
		var list struct {
			Events []struct {
				DelayID  id.DelayID `json:"delay_id"`
				StateKey string     `json:"state_key"`
				Delay    int64
				Content  struct{ N int }
			} `json:"delayed_events"`
		}
		if err := json.Unmarshal([]byte(own), &list); err != nil {
			t.Fatal(err)
		}
		if len(list.Events) != 1 || list.Events[0].DelayID != delayID || list.Events[0].Content.N != 7 ||
			list.Events[0].StateKey != "list" || list.Events[0].Delay != 3_600_000 {
			t.Error(own)
		}
		if strings.Contains(own, token) {
			t.Error("the list shows the access token")
		}
		if status, _ := do(t, http.MethodGet, w.URL+delayedPath, "", ""); status != http.StatusUnauthorized {
			t.Error("status ", status)
		}
		act(t, w.URL, delayID, "cancel")
	})

	t.Run("refuses", func(t *testing.T) {
		state := "/_matrix/client/v3/rooms/" + url.PathEscape(w.room.String()) + "/state/org.example.delayed/refused?org.matrix.msc4140.delay="
		for _, c := range []struct {
			name, method, path, token, body string
			status                          int
			want                            string
		}{
			{"no token", "PUT", state + "1000", "", "{}", 401, `"M_MISSING_TOKEN"`},
			{"wrong token", "PUT", state + "1000", "wrong", "{}", 401, `"M_UNKNOWN_TOKEN"`},
			{"no number", "PUT", state + "soon", token, "{}", 400, `"M_INVALID_PARAM"`},
			{"zero", "PUT", state + "0", token, "{}", 400, `"M_INVALID_PARAM"`},
			{"negative", "PUT", state + "-1", token, "{}", 400, `"M_INVALID_PARAM"`},
			{"two", "PUT", state + "1000&org.matrix.msc4140.delay=5", token, "{}", 400, `"M_INVALID_PARAM"`},
			{"too long", "PUT", state + "86400001", token, "{}", 400, `"org.matrix.msc4140.errcode":"M_MAX_DELAY_EXCEEDED"`},
			{"far too long", "PUT", state + "99999999999999999999", token, "{}", 400, `"org.matrix.msc4140.max_delay":86400000`},
			{"no JSON", "PUT", state + "1000", token, "{", 400, `"M_NOT_JSON"`},
			{"no object", "PUT", state + "1000", token, "[]", 400, `"M_BAD_JSON"`},
			{"large", "PUT", state + "1000", token, `{"a":"` + strings.Repeat("x", 64<<10) + `"}`, 413, `"M_TOO_LARGE"`},
			{"not an event", "PUT", "/_matrix/client/v3/rooms/x/state/a/b/c?org.matrix.msc4140.delay=1000", token, "{}", 404, `"M_UNRECOGNIZED"`},
			{"unknown id", "POST", delayedPath + "/ew_unknown/restart", "", "{}", 404, `"M_NOT_FOUND"`},
			{"unknown id, older form", "POST", delayedPath + "/ew_unknown", "", `{"action":"send"}`, 404, `"M_NOT_FOUND"`},
			{"unknown action", "POST", delayedPath + "/ew_unknown/pause", "", "{}", 404, `"M_UNRECOGNIZED"`},
			{"unknown action, older form", "POST", delayedPath + "/ew_unknown", "", `{"action":"pause"}`, 400, `"M_INVALID_PARAM"`},
			{"no action", "POST", delayedPath + "/ew_unknown", "", ``, 400, `"M_NOT_JSON"`},
			{"wrong method", "DELETE", delayedPath + "/ew_unknown", "", ``, 405, `"M_UNRECOGNIZED"`},
		} {
			status, text := do(t, c.method, w.URL+c.path, c.token, c.body)
			if status != c.status || !strings.Contains(text, c.want) {
				t.Errorf("%s: %d %s", c.name, status, text)
			}
		}
		if w.state(t, "refused") != 0 {
			t.Error("a refused event was sent")
		}
	})

	t.Run("a hundred and no more", func(t *testing.T) {
		var ids []id.DelayID
		for i := range 100 {
			ids = append(ids, w.schedule(t, w.URL, fmt.Sprint("many ", i), 1, time.Hour))
		}
		_, err := w.client.SendStateEvent(t.Context(), w.room, testType, "x", struct{}{}, mautrix.ReqSendEvent{UnstableDelay: time.Hour})
		var refused mautrix.RespError
		if !errors.As(err, &refused) || refused.ExtraData["org.matrix.msc4140.errcode"] != "M_MAX_DELAYED_EVENTS_EXCEEDED" {
			t.Error(err)
		}
		limited := false
		for _, delayID := range ids {
			status := act(t, w.URL, delayID, "cancel")
			limited = limited || status == http.StatusTooManyRequests
			if !limited && status != http.StatusOK {
				t.Fatal("status ", status)
			}
		}
	})
}

// TestClientHangsUp: a client hangs up in the middle of a request. The request to the homeserver must go on.
func TestClientHangsUp(t *testing.T) {
	begun, goOn, interrupted := make(chan struct{}), make(chan struct{}), make(chan bool, 1)
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		select {
		case <-r.Context().Done():
			interrupted <- true
		case <-goOn:
			interrupted <- false
		}
	}))
	defer upstream.Close()
	base, _, _ := window{Homeserver: &rig.Homeserver{Direct: upstream.URL, ServerName: "a.example"}}.front(t, filepath.Join(t.TempDir(), "hub.db"))
	ctx, hangUp := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/_matrix/client/v3/sync", nil)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		answer, err := http.DefaultClient.Do(request)
		if err == nil {
			_ = answer.Body.Close()
		}
		ended <- err
	}()
	<-begun
	hangUp()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatal("the client ended with ", err)
	}
	select {
	case <-interrupted:
		t.Error("the homeserver's request was interrupted")
	case <-time.After(500 * time.Millisecond): // an interruption takes a millisecond
		close(goOn)
		if <-interrupted {
			t.Error("the homeserver's request was interrupted")
		}
	}
}

// front starts a front before w's homeserver. stop ends it. The buffer has its log.
func (w window) front(t *testing.T, path string) (base string, stop func(), log *rig.Output) {
	t.Helper()
	log = new(rig.Output)
	logger := zerolog.New(log)
	db, err := migrations.OpenHub(t.Context(), path, logger)
	if err != nil {
		t.Fatal(err)
	}
	upstream, err := url.Parse(w.Direct)
	if err != nil {
		t.Fatal(err)
	}
	front, err := homeserver.NewFront(homeserver.FrontConfig{
		Upstream: upstream, ServerName: w.ServerName, PublicURL: "https://" + w.ServerName, DB: db, Log: logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- front.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return rig.Serve(t, rig.Listen(t), front), stop, log
}

func TestDelayedEventsSurvive(t *testing.T) {
	w := newWindow(t)
	path := filepath.Join(t.TempDir(), "hub.db")

	// The front is restarted.
	base, stop, _ := w.front(t, path)
	w.schedule(t, base, "restart", 1, time.Second)
	kept := w.schedule(t, base, "kept", 1, time.Hour)
	stop()
	if status := act(t, base, kept, "send"); status != http.StatusServiceUnavailable {
		t.Error("a front that does not run answers with status ", status)
	}
	base, stop, log := w.front(t, path)
	w.wantState(t, "restart", 1)

	// The homeserver is away. Meanwhile one event becomes due, one is restarted and one is cancelled.
	w.schedule(t, base, "outage", 1, 300*time.Millisecond)
	cancelled := w.schedule(t, base, "cancelled", 1, 300*time.Millisecond)
	w.Kill(t)
	log.Await(t, soon, "could not be sent")
	for delayID, action := range map[id.DelayID]string{cancelled: "cancel", kept: "restart"} {
		if status := act(t, base, delayID, action); status != http.StatusOK {
			t.Error(action, " during the outage: status ", status)
		}
	}
	if status := act(t, base, kept, "send"); status != http.StatusBadGateway {
		t.Error("send during the outage: status ", status)
	}
	w.Restart(t)
	w.wantState(t, "outage", 1)
	w.wantState(t, "kept", 1)
	if w.state(t, "cancelled") != 0 {
		t.Error("an event was sent that was cancelled during the outage")
	}

	// A token that is not valid any more.
	other := w.Client(t, w.client.UserID)
	gone := window{w.Homeserver, other, w.room}
	delayID := gone.schedule(t, base, "gone", 1, 500*time.Millisecond)
	if _, err := other.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	log.Await(t, soon, "refused a delayed event")
	if status := act(t, base, delayID, "send"); status != http.StatusNotFound {
		t.Error("status ", status)
	}
	if w.state(t, "gone") != 0 {
		t.Error("an event was sent without a token")
	}
	for _, secret := range []string{w.client.AccessToken, string(delayID), string(kept), `{"n":`} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
	stop()
}

func TestFrontServes(t *testing.T) {
	w := newWindow(t)
	token := w.client.AccessToken
	foci := `[{"type":"livekit","livekit_service_url":"https://rtc.example.org/livekit/jwt","url":"https://rtc.example.org/livekit/jwt"}]`
	for _, c := range []struct {
		method, path, token string
		status              int
		want                string
	}{
		{"GET", "/.well-known/matrix/client", "", 200, `"m.homeserver":{"base_url":"https://` + w.ServerName + `"}`},
		{"GET", "/.well-known/matrix/client", "", 200, `"org.matrix.msc4143.rtc_foci":` + foci},
		{"GET", "/.well-known/matrix/server", "", 200, `{"m.server":"` + w.ServerName + `"}`},
		{"GET", "/_matrix/client/versions", "", 200, `"org.matrix.msc4140":true`},
		{"GET", "/_matrix/client/versions", "", 200, `"v1.2"`},
		{"GET", "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports", token, 200, `{"rtc_transports":` + foci + `}`},
		{"GET", "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports?access_token=" + token, "", 200, foci},
		{"GET", "/_matrix/client/v1/rtc/transports", token, 200, foci},
		{"GET", "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports", "", 401, `"M_MISSING_TOKEN"`},
		{"GET", "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports", "wrong", 401, `"M_UNKNOWN_TOKEN"`},
		{"OPTIONS", "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports", "", 204, ""},
		{"OPTIONS", "/_matrix/client/v3/sync", "", 200, ""},
		{"GET", "/_matrix/client/v3/account/whoami", token, 200, w.client.UserID.String()},
		{"GET", "/_matrix/client/v3/account/whoami", "", 401, `"M_MISSING_TOKEN"`},
		// Anybody may ask for the homeserver's own files, and for no others.
		{"GET", "/_matrix/media/v3/download/" + w.ServerName + "/nothing", "", 404, "File not found"},
		{"GET", "/_matrix/media/v3/download/example.org/file", "", 404, "need a token"},
		{"GET", "/_matrix/media/v3/download/example.org/file/name.png", token, 404, "need a token"},
		{"GET", "/_matrix/media/v1/download/example%2Eorg/file", "", 404, "need a token"},
		{"GET", "/_matrix/media/r0/%74humbnail/example.org/file?width=32&height=32", "", 404, "need a token"},
		{"GET", "/_matrix/media/v3//download/example.org/file", "", 404, `"M_UNRECOGNIZED"`},
		{"GET", "/_matrix/media/v3/config", "", 401, `"M_MISSING_TOKEN"`},
		{"GET", "/_matrix/client/v1/media/download/" + w.ServerName + "/nothing", token, 404, "File not found"},
		// Everything else is refused, however it is written.
		{"GET", "/_synapse/admin/v1/register", "", 404, `"M_UNRECOGNIZED"`},
		{"GET", "/_matrix/../_synapse/admin/v1/register", "", 404, `"M_UNRECOGNIZED"`},
		{"GET", "/_matrix/%2e%2e/_synapse/admin/v1/register", "", 404, `"M_UNRECOGNIZED"`},
		{"GET", "/_matrix/..%2f_synapse/admin/v1/register", "", 404, `"M_UNRECOGNIZED"`},
		{"GET", `/_matrix/..%5c_synapse/admin/v1/register`, "", 404, `"M_UNRECOGNIZED"`},
		{"GET", "//_synapse/admin/v1/register", "", 404, `"M_UNRECOGNIZED"`},
		{"GET", "/_dendrite/monitor/up", "", 404, `"M_UNRECOGNIZED"`},
		{"GET", "/_matrix", "", 404, `"M_UNRECOGNIZED"`},
		{"GET", "/", "", 404, `"M_UNRECOGNIZED"`},
		{"GET", "/metrics", "", 404, `"M_UNRECOGNIZED"`},
	} {
		status, text := do(t, c.method, w.URL+c.path, c.token, "")
		if status != c.status || !strings.Contains(text, c.want) {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, text)
		}
	}
	versions, err := w.client.Versions(t.Context())
	if err != nil || !versions.UnstableFeatures["org.matrix.msc4143"] {
		t.Error("mautrix does not see the features: ", err)
	}
	if transports, err := w.client.RTCTransports(t.Context()); err != nil || len(transports.RTCTransports) != 1 {
		t.Error("mautrix does not see the transports: ", err)
	}
	turn, err := w.client.TurnServer(t.Context())
	if err != nil || len(turn.URIs) != 0 {
		t.Error(turn, err)
	}
}

// TestSyncWaits: a long poll gets through, and a request that is too large does not.
func TestSyncWaits(t *testing.T) {
	w := newWindow(t)
	first, err := w.client.SyncRequest(t.Context(), 0, "", "", true, event.PresenceOffline)
	if err != nil {
		t.Fatal(err)
	}
	type answer struct {
		sync *mautrix.RespSync
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		res, err := w.client.SyncRequest(t.Context(), 30_000, first.NextBatch, "", false, event.PresenceOffline)
		answers <- answer{res, err}
	}()
	if _, err := w.client.SendText(t.Context(), w.room, "hello"); err != nil {
		t.Fatal(err)
	}
	select {
	case a := <-answers:
		if a.err != nil || len(a.sync.Rooms.Join[w.room].Timeline.Events) == 0 {
			t.Fatal("the poll brought nothing: ", a.err)
		}
	case <-time.After(soon):
		t.Fatal("the poll does not end")
	}
	for _, chunked := range []bool{false, true} {
		var body io.Reader = bytes.NewReader(bytes.Repeat([]byte(" "), 17<<20))
		if chunked {
			body = struct{ io.Reader }{body}
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.URL+"/_matrix/client/v3/keys/upload", body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+w.client.AccessToken)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			continue // the server has closed the connection while we were sending
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("chunked %t: status %d", chunked, res.StatusCode)
		}
	}
}
