package rtc

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/unstable"
)

func TestNormalise(t *testing.T) {
	for in, want := range map[string]string{
		"https://rtc.example":                    "https://rtc.example",
		"https://rtc.example/":                   "https://rtc.example",
		"HTTPS://RTC.Example:443/jwt//":          "https://rtc.example/jwt",
		"https://rtc.example:8443/A":             "https://rtc.example:8443/A",
		"http://127.0.0.1:7000/jwt":              "http://127.0.0.1:7000/jwt",
		"http://localhost/":                      "http://localhost",
		"http://[::1]:80":                        "http://[::1]",
		"http://rtc.example":                     "",
		"http://127.0.0.1.evil.example":          "",
		"https://user:pw@rtc.example":            "",
		"https://rtc.example/?a=b":               "",
		"https://rtc.example/#x":                 "",
		"https:rtc.example":                      "",
		"https://":                               "",
		"wss://rtc.example":                      "",
		"file:///etc/passwd":                     "",
		"":                                       "",
		"/sfu":                                   "",
		"https://" + strings.Repeat("x", maxURL): "",
	} {
		if got, ok := normalise(in); got != want || ok != (want != "") {
			t.Errorf("%.40s: got %q, %v", in, got, ok)
		}
	}
}

func TestParseTransports(t *testing.T) {
	for in, want := range map[string]string{
		`{"rtc_transports":[{"type":"livekit","livekit_service_url":"https://a.example/"}]}`: "https://a.example",
		`{"rtc_transports":[{"type":"mesh"},{"type":"livekit","livekit_service_url":"http://evil.example"},
			{"type":"livekit","livekit_service_url":"https://b.example"}]}`: "https://b.example",
		`{}`:                              "",
		`{"rtc_transports":{}}`:           "",
		`{"rtc_transports":[7,"x",null]}`: "",
		`{"rtc_transports":[{"type":"livekit"}]}`: "",
		`nonsense`: "",
	} {
		if got := parseTransports([]byte(in)); got != want {
			t.Errorf("%s: got %q", in, got)
		}
	}
	const file = `{"m.homeserver":{"base_url":"https://x"},"org.matrix.msc4143.rtc_foci":[{"type":"livekit","livekit_service_url":"https://a.example"}]}`
	if got := parseWellKnown([]byte(file)); got != "https://a.example" {
		t.Errorf("got %q", got)
	}
}

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

const jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"

func TestParseToken(t *testing.T) {
	for in, ok := range map[string]bool{
		`{"url":"wss://sfu.example","jwt":"` + jwt + `"}`:           true,
		`{"url":"https://sfu.example/x","jwt":"` + jwt + `","a":1}`: true,
		`{"url":"ws://127.0.0.1:7880","jwt":"` + jwt + `"}`:         true,
		`{"url":"ws://sfu.example","jwt":"` + jwt + `"}`:            false,
		`{"url":"wss://sfu.example"}`:                               false,
		`{"url":"wss://sfu.example","jwt":"a.b"}`:                   false,
		`{"url":"wss://sfu.example","jwt":"a.b.c d"}`:               false,
		`{"jwt":"` + jwt + `"}`:                                     false,
		`[]`:                                                        false,
	} {
		url, token, err := parseToken([]byte(in))
		if (err == nil) != ok || (url == "") == ok || (token == "") == ok {
			t.Errorf("%s: got %q, %v", in, url, err)
		}
		if err != nil && strings.Contains(err.Error(), "eyJ") {
			t.Errorf("the error tells the token: %v", err)
		}
	}
}

// issuer is an authorisation service of which only the shape of its answers matters.
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

func newTokenCall(t *testing.T) *Call {
	fake := &fakeServer{faults: make(map[string]error)}
	m, err := newManager(Config{OnMembers: func(id.RoomID, []Member) {}, Log: zerolog.Nop()}, fake, newWeb(nil))
	if err != nil {
		t.Fatal(err)
	}
	m.self = bot.Device{User: alice, ID: "OWN"}
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
		{name: "too long", legacy: give(`{"url":"wss://sfu.example","jwt":"` + jwt + `"` + strings.Repeat(" ", maxAnswer) + `}`), asked: []string{legacy}, fails: true},
		{name: "nonsense", legacy: give(`<html>`), asked: []string{legacy}, fails: true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			service := newIssuer(t)
			service.answers["/jwt"+unstable.TokenPath], service.answers["/jwt"+unstable.HashedTokenPath] = c.legacy, c.hashed
			call := newTokenCall(t)
			if c.own {
				call.m.owners[call] = service.URL + "/jwt"
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
			var refusal *ReplyError
			if errors.As(err, &refusal) != (c.status != 0) || refusal != nil && refusal.Status != c.status {
				t.Errorf("got %v", err)
			}
			if c.status == 401 && (refusal.Code != "M_UNAUTHORIZED" || refusal.RetryAfter != 7*time.Second) {
				t.Errorf("got %+v", refusal)
			}
		})
	}
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
		if _, _, err := newTokenCall(t).Token(ctx, service.URL+"/jwt"); err == nil {
			t.Error("no error")
		}
	})
}

func TestReplyError(t *testing.T) {
	r := newReply(&http.Response{StatusCode: 429}, []byte(`{"errcode":"M_LIMIT_EXCEEDED","error":"x","retry_after_ms":2500}`))
	if r.RetryAfter != 2500*time.Millisecond || r.Error() != "HTTP status 429, M_LIMIT_EXCEEDED" {
		t.Errorf("got %+v, %v", r, r)
	}
	r = newReply(&http.Response{StatusCode: 400}, []byte(`{"errcode":"M_UNKNOWN","org.matrix.msc4140.errcode":"M_MAX_DELAY_EXCEEDED","org.matrix.msc4140.max_delay":9000}`))
	if !tooLong(r) || r.MaxDelay != 9*time.Second {
		t.Errorf("got %+v", r)
	}
	r = newReply(&http.Response{StatusCode: 500}, []byte(`{"errcode":"M_X\nforged log line","retry_after_ms":1e300}`))
	if r.Code != "" || r.RetryAfter != 0 {
		t.Errorf("got %+v", r)
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add([]byte(`{"url":"wss://sfu.example","jwt":"` + jwt + `"}`))
	f.Add([]byte(`{"url":"ws://[::1]:80/","jwt":"..."}`))
	f.Add([]byte(`{"url":"HTTP://localhost:80?x","jwt":".."}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		url, token, err := parseToken(data)
		if err != nil {
			if url != "" || token != "" {
				t.Fatal("an error and a result")
			}
			return
		}
		if token == "" || len(token) > maxJWT || strings.ContainsAny(token, " \r\n\"") {
			t.Fatalf("token of %d bytes", len(token))
		}
		again, err := json.Marshal(map[string]string{"url": url, "jwt": token})
		if err != nil {
			t.Fatal(err)
		}
		if url2, token2, err := parseToken(again); err != nil && len(url) <= maxURL || err == nil && (url2 != url || token2 != token) {
			t.Fatalf("%q becomes %q, %v", url, url2, err)
		}
	})
}

func FuzzTransports(f *testing.F) {
	f.Add([]byte(`{"rtc_transports":[{"type":"livekit","livekit_service_url":"https://a.example/"}]}`))
	f.Add([]byte(`{"org.matrix.msc4143.rtc_foci":[{"type":"livekit","livekit_service_url":"http://127.0.0.1:1/%2F"}]}`))
	f.Add([]byte(`{"rtc_transports":[[],{"type":"livekit","livekit_service_url":"https://[::1"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, service := range []string{parseTransports(data), parseWellKnown(data)} {
			if service == "" {
				continue
			}
			if again, ok := normalise(service); !ok || again != service || len(service) > maxURL {
				t.Fatalf("%q becomes %q, %v", service, again, ok)
			}
			if !strings.HasPrefix(service, "https://") && !strings.HasPrefix(service, "http://") {
				t.Fatalf("got %q", service)
			}
		}
	})
}
