package rtc

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/matrixerror"
	"multifactorymodel.org/ewindow/bot/request"
	"multifactorymodel.org/ewindow/bot/rtc/membership"
	"multifactorymodel.org/ewindow/bot/rtc/transport"
	"multifactorymodel.org/ewindow/bot/unstable"
)

// oddServer is a homeserver with any answers, for homeservers that tests cannot run.
type oddServer struct {
	Bot
	client *mautrix.Client
	asked  []string
	answer func(w http.ResponseWriter, r *http.Request)
}

func (s *oddServer) Client() *mautrix.Client { return s.client }
func (s *oddServer) UserID() id.UserID       { return alice }

func newOddServer(t *testing.T) (*oddServer, *matrix) {
	s := &oddServer{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.asked = append(s.asked, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+string(body)))
		s.answer(w, r)
	}))
	t.Cleanup(server.Close)
	var err error
	if s.client, err = mautrix.NewClient(server.URL, alice, "token"); err != nil {
		t.Fatal(err)
	}
	s.client.DefaultHTTPRetries = 4
	s.client.Log = zerolog.Nop()
	return s, &matrix{bot: s, client: transport.NewClient(http.DefaultClient, http.DefaultClient), requests: request.New(s.Client)}
}

func answerError(w http.ResponseWriter, status int, body string) {
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func TestDelayedEventForms(t *testing.T) {
	const path = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/"
	s, hs := newOddServer(t)
	s.answer = func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/restart") {
			answerError(w, 404, `{"errcode":"M_UNRECOGNIZED"}`)
			return
		}
		_, _ = io.WriteString(w, `{}`)
	}
	for range 2 {
		if err := hs.UpdateDelayed(t.Context(), "syd_1/x", unstable.DelayRestart); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"POST " + path + "syd_1%2Fx/restart {}", `POST ` + path + `syd_1%2Fx {"action":"restart"}`, `POST ` + path + `syd_1%2Fx {"action":"restart"}`}
	if strings.Join(s.asked, "\n") != strings.Join(want, "\n") {
		t.Errorf("asked\n%s", strings.Join(s.asked, "\n"))
	}
	s.answer = func(w http.ResponseWriter, _ *http.Request) { answerError(w, 404, `{"errcode":"M_NOT_FOUND"}`) }
	if err := hs.UpdateDelayed(t.Context(), "syd_1", unstable.DelaySend); !matrixerror.IsNotFound(err) || matrixerror.IsUnsupported(err) {
		t.Errorf("got %v", err)
	}
	s.answer = func(w http.ResponseWriter, _ *http.Request) { answerError(w, 404, `<html>404</html>`) }
	if err := hs.UpdateDelayed(t.Context(), "syd_1", unstable.DelaySend); matrixerror.IsNotFound(err) || !matrixerror.IsUnsupported(err) {
		t.Errorf("got %v", err)
	}
}

func TestSchedule(t *testing.T) {
	s, hs := newOddServer(t)
	s.answer = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"delay_id":"syd_1"}`) }
	delayID, err := hs.Schedule(t.Context(), hall, membership.StateKey(self), leaveDelay)
	if err != nil || delayID != "syd_1" {
		t.Fatalf("got %q, %v", delayID, err)
	}
	const path, body = "/org.matrix.msc4140/rooms/%21hall:one.example/delayed_event/org.matrix.msc3401.call.member/", `_m.call"}`
	if len(s.asked) != 1 || !strings.Contains(s.asked[0], path) || !strings.Contains(s.asked[0], ` {"content":{},"delay_ms":18000,"state_key":"`) || !strings.HasSuffix(s.asked[0], body) {
		t.Errorf("asked %q", s.asked)
	}
	// A homeserver that has sent the event at once gives no delay id.
	s.answer = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"event_id":"$1"}`) }
	if _, err := hs.Schedule(t.Context(), hall, membership.StateKey(self), leaveDelay); !matrixerror.IsUnsupported(err) {
		t.Errorf("got %v", err)
	}
	// mautrix must not repeat a request after a rate limit. The membership manager waits.
	s.asked = nil
	s.answer = func(w http.ResponseWriter, _ *http.Request) {
		answerError(w, 429, `{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":3000}`)
	}
	_, err = hs.Schedule(t.Context(), hall, membership.StateKey(self), leaveDelay)
	if r := matrixerror.Of(err); r == nil || r.RetryAfter != 3*time.Second || len(s.asked) != 1 {
		t.Errorf("got %v after %d requests", err, len(s.asked))
	}
}

// TestErrorsKeepSecrets: no error has a delay id or the text of a server.
func TestErrorsKeepSecrets(t *testing.T) {
	s, hs := newOddServer(t)
	s.answer = func(w http.ResponseWriter, _ *http.Request) {
		answerError(w, 400, `{"errcode":"M_UNKNOWN","error":"the token opaque123 is wrong"}`)
	}
	errs := []error{hs.UpdateDelayed(t.Context(), "secret_id", unstable.DelaySend)}
	_, err := hs.OpenID(t.Context())
	errs = append(errs, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	errs = append(errs, hs.UpdateDelayed(ctx, "secret_id", unstable.DelaySend))
	for _, err := range errs {
		if err == nil || strings.Contains(err.Error(), "secret_id") || strings.Contains(err.Error(), "opaque123") {
			t.Errorf("got %v", err)
		}
	}
}

func TestLongAnswer(t *testing.T) {
	s, hs := newOddServer(t)
	s.answer = func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat(" ", request.MaxAnswer+1)+`{}`)
	}
	if _, err := hs.OpenID(t.Context()); err == nil || matrixerror.Of(err) != nil {
		t.Errorf("got %v", err)
	}
}

func TestQueueLimit(t *testing.T) {
	m, err := newManager(Config{OnMembers: func(id.RoomID, []Member, []bot.Device) {}}, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for range maxQueue + 5 {
		m.offer(func() { ran++ })
	}
	m.queue.Put(func() { ran++ }) // our own work is never dropped
	for _, f := range m.queue.Take() {
		f()
	}
	if ran != maxQueue+1 || m.dropped.Load() != 5 {
		t.Errorf("%d ran, %d dropped", ran, m.dropped.Load())
	}
}
