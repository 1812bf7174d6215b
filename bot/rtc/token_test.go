package rtc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/matrixerror"
	"multifactorymodel.org/ewindow/bot/rtc/transport"
	"multifactorymodel.org/ewindow/bot/unstable"
)

const jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"

// issuer is a MatrixRTC authorisation service with any answers.
type issuer struct {
	*httptest.Server
	asked   []string
	answers map[string]func(http.ResponseWriter)
}

func newIssuer(t *testing.T) *issuer {
	s := &issuer{answers: make(map[string]func(http.ResponseWriter))}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.asked = append(s.asked, r.Method+" "+r.URL.Path+" "+string(body))
		answer := s.answers[r.URL.Path]
		if answer == nil {
			http.NotFound(w, r)
			return
		}
		answer(w)
	}))
	t.Cleanup(s.Close)
	return s
}

func give(text string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) { _, _ = io.WriteString(w, text) }
}

func refuse(status int, text string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header().Set("Retry-After", "7")
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}
}

func newTokenCall(t *testing.T, known ...string) *Call {
	fake := &fakeServer{faults: make(map[string]error)}
	m, err := newManager(Config{OnMembers: func(id.RoomID, []Member, []bot.Device) {}, KnownServices: known, Log: zerolog.Nop()}, fake, fake,
		transport.NewClient(http.DefaultClient, http.DefaultClient))
	if err != nil {
		t.Fatal(err)
	}
	return &Call{m: m, room: hall}
}

func TestToken(t *testing.T) {
	const answer = `{"url":"wss://sfu.example","jwt":"` + jwt + `"}`
	const legacy = `POST /jwt/sfu/get {"room":"!hall:one.example","openid_token":{"access_token":"opaque"},"device_id":"OWN"}`
	const hashed = `POST /jwt/get_token {"room_id":"!hall:one.example","slot_id":"m.call#ROOM","openid_token":{"access_token":"opaque"},` +
		`"member":{"id":"@alice:one.example:OWN","claimed_user_id":"@alice:one.example","claimed_device_id":"OWN"}}`
	cases := []struct {
		name           string
		legacy, hashed func(http.ResponseWriter)
		own            bool
		asked          []string
		status         int // of the refusal; 0: none
		fails          bool
	}{
		{name: "legacy", legacy: give(answer), hashed: give(answer), asked: []string{legacy}},
		{name: "newer service", hashed: give(answer), asked: []string{legacy, hashed}},
		{name: "own service is never asked for a hash", hashed: give(answer), own: true, asked: []string{legacy}, status: 404, fails: true},
		{name: "refused", legacy: refuse(401, `{"errcode":"M_UNAUTHORIZED","error":"secret eyJ"}`), hashed: give(answer), asked: []string{legacy}, status: 401, fails: true},
		{name: "redirect", legacy: refuse(307, ``), asked: []string{legacy}, status: 307, fails: true},
		{name: "neither", asked: []string{legacy, hashed}, status: 404, fails: true},
		{name: "too long", legacy: give(`{"url":"wss://sfu.example","jwt":"` + jwt + `"` + strings.Repeat(" ", transport.MaxAnswer) + `}`), asked: []string{legacy}, fails: true},
		{name: "nonsense", legacy: give(`<html>`), asked: []string{legacy}, fails: true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			service := newIssuer(t)
			service.answers["/jwt"+unstable.TokenPath], service.answers["/jwt"+unstable.HashedTokenPath] = c.legacy, c.hashed
			call := newTokenCall(t, service.URL+"/jwt")
			if c.own {
				own := service.URL + "/jwt"
				call.service.Store(&own)
			}
			url, token, err := call.Token(t.Context(), service.URL+"/jwt/")
			if strings.Join(service.asked, "\n") != strings.Join(c.asked, "\n") {
				t.Errorf("asked\n%s", strings.Join(service.asked, "\n"))
			}
			if (err != nil) != c.fails || !c.fails && (url != "wss://sfu.example" || token != jwt) {
				t.Fatalf("got %q, %v", url, err)
			}
			if err != nil && strings.Contains(err.Error(), "eyJ") {
				t.Errorf("the error repeats the answer: %v", err)
			}
			var refusal *matrixerror.Error
			if errors.As(err, &refusal) != (c.status != 0) || refusal != nil && refusal.Status != c.status {
				t.Errorf("got %v", err)
			}
			if c.status == 401 && (refusal.Code != "M_UNAUTHORIZED" || refusal.RetryAfter != 7*time.Second) {
				t.Errorf("got %+v", refusal)
			}
		})
	}
	t.Run("access token", func(t *testing.T) {
		service := newIssuer(t)
		own := service.URL + "/jwt"
		service.answers["/jwt"+unstable.TokenPath] = give(answer)
		call := newTokenCall(t)
		fake := call.m.hs.(*fakeServer)
		call.service.Store(&own)
		get := func() string {
			t.Helper()
			_, token, err := call.Token(t.Context(), own)
			if refused := matrixerror.Of(err); refused != nil {
				return fmt.Sprint(refused.Status)
			}
			return token
		}
		steps := []struct {
			what, given, want string
			answer            func(http.ResponseWriter)
		}{
			{"a homeserver without an SFU", "", jwt, give(answer)},
			{"is asked again only later", own, jwt, give(answer)},
			{"unless the service refuses OpenID tokens", own, "403", refuse(403, `{"errcode":"M_FORBIDDEN"}`)},
			{"a homeserver with this SFU", own, "device.token.x", give(answer)},
			{"a homeserver that has lost it for a moment", "", "404", give(answer)},
			{"and has it again", own, "device.token.x", give(answer)},
			{"a homeserver with another SFU", own + "/other", jwt, give(answer)},
		}
		for _, step := range steps {
			fake.given, service.answers["/jwt"+unstable.TokenPath] = step.given, step.answer
			before := len(service.asked)
			if got := get(); got != step.want {
				t.Errorf("%s: got %s", step.what, got)
			}
			if sent := len(service.asked) > before; sent != (step.want == jwt || step.want == "403") {
				t.Errorf("%s: an OpenID token was sent: %v", step.what, sent)
			}
		}
	})
	t.Run("in clear", func(t *testing.T) {
		call := newTokenCall(t)
		if _, _, err := call.Token(t.Context(), "http://rtc.example"); err == nil || len(call.m.hs.(*fakeServer).calls) != 0 {
			t.Errorf("got %v", err)
		}
	})
	t.Run("ends with its context", func(t *testing.T) {
		service := newIssuer(t)
		ctx, cancel := context.WithCancel(t.Context())
		service.answers["/jwt"+unstable.TokenPath] = func(http.ResponseWriter) { cancel() }
		if _, _, err := newTokenCall(t, service.URL+"/jwt").Token(ctx, service.URL+"/jwt"); err == nil {
			t.Error("no error")
		}
	})
}
