package homeserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/bot/unstable"
)

func FuzzPath(f *testing.F) {
	for _, seed := range []string{
		"/_matrix/client/versions", "/_matrix/client/v3/sync", "/.well-known/matrix/client", "", "/", "//", "/_matrix",
		"/_matrix/client/v3/rooms/%21a%3Ab/state/org.matrix.msc3401.call.member/_%40u%3Ab_D_m.call",
		"/_matrix/client/r0/rooms/!a/state/m.room.topic/", "/_matrix/client/r0/rooms/!a/state/m.room.topic", "/_matrix/client/v3/rooms/!a/send/m/1",
		"/_matrix/client/unstable/org.matrix.msc4140/delayed_events/ew_X/restart", "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/ew_X",
		"/_matrix/../_synapse/admin", "/_matrix/%2e%2e/_synapse", "/_matrix/..%2f_dendrite", "/_matrix/a%5c..%5cb", "/_matrix/%", "/_matrix/%zz", "/_matrix/%ff/a",
		"/_matrix/media/v3/upload", "/_matrix/media/v3/download/a:8448/b/c", "/_matrix/media/r0/thumbnail/a/b", "/_matrix/media/v3//download/a/b",
		"/_matrix/federation/v1/send/1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, escaped string) {
		p, err := parsePath(escaped)
		if err != nil {
			if p != nil {
				t.Fatal("an error with a result")
			}
			return
		}
		parts := make([]string, len(p))
		for i, part := range p {
			parts[i] = url.PathEscape(part)
			if slices.Contains(strings.FieldsFunc(part, func(c rune) bool { return c == '/' || c == '\\' }), "..") {
				t.Fatalf("%q goes upwards", part)
			}
		}
		again, err := parsePath("/" + strings.Join(parts, "/"))
		if err != nil || !slices.Equal(p, again) {
			t.Fatalf("%q became %q: %v", p, again, err)
		}
		got := p.target()
		if !reflect.DeepEqual(got, again.target()) {
			t.Fatal("the target depends on the escaping")
		}
		if got.kind != targetUnknown && !strings.HasPrefix(escaped, "/_matrix/") && p[0] != "_matrix" {
			t.Fatalf("%q is passed on", escaped)
		}
		if got.kind == targetSend && (got.room == "" || got.eventType == "" || (got.stateKey == nil) == (got.txn == "")) {
			t.Fatalf("%q is half an event: %+v", escaped, got)
		}
		if got.kind == targetDelayed && got.delayID == "" {
			t.Fatalf("%q names no event", escaped)
		}
	})
}

func FuzzDelay(f *testing.F) {
	for _, seed := range []string{"1", "18000", "86400000", "86400001", "0", "-1", "+5", "1e3", "", " 1", "99999999999999999999", "0x10"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		delay, err := parseDelay([]string{text})
		if (err == nil) != (delay != 0) || delay < 0 || delay > maxDelay || delay%time.Millisecond != 0 {
			t.Fatal(delay, err)
		}
	})
}

func FuzzContent(f *testing.F) {
	for _, seed := range []string{"{}", `{"a":1}`, "[]", "null", "", " {\n} ", `{"a":"<\u2028>"}`, `{"a":1e400}`, "{}{}", "\xff", `{"a":{"b":[1,2,{}]}}`, "1"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		content, err := parseContent(text)
		if err != nil {
			if content != nil {
				t.Fatal("an error with a result")
			}
			return
		}
		if len(content) > len(text) || !json.Valid(content) || content[0] != '{' {
			t.Fatalf("%q became %q", text, content)
		}
		again, err := parseContent(content)
		if err != nil || !bytes.Equal(content, again) {
			t.Fatalf("%q became %q: %v", content, again, err)
		}
		var before, after map[string]json.RawMessage
		if json.Unmarshal(text, &before) != nil || json.Unmarshal(content, &after) != nil || len(before) != len(after) {
			t.Fatalf("%q is not %q", text, content)
		}
	})
}

func FuzzAction(f *testing.F) {
	for _, seed := range []string{`{"action":"restart"}`, `{"action":"send"}`, `{"action":"cancel"}`, `{"action":1}`, `{}`, ``, `null`, `{"ACTION":"send"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		action, err := parseAction(text)
		if known := slices.Contains([]string{unstable.DelayRestart, unstable.DelaySend, unstable.DelayCancel}, action); known != (err == nil) || err != nil && action != "" {
			t.Fatal(action, err)
		}
	})
}

func FuzzVersions(f *testing.F) {
	for _, seed := range []string{
		`{"versions":["v1.2"],"unstable_features":{"a":true}}`, `{"versions":[]}`, `{}`, `null`, `{"unstable_features":null}`, `{"unstable_features":[1]}`,
		`{"unstable_features":{"org.matrix.msc4140":false}}`, `{"unstable_feaTures":[1]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var before map[string]json.RawMessage
		if json.Unmarshal(text, &before) != nil {
			return
		}
		kept := string(before["versions"])
		answer, err := addFeatures(before)
		if err != nil {
			t.Fatal(err)
		}
		out, err := json.Marshal(answer)
		if err != nil {
			t.Fatal(err)
		}
		// Into maps, because names of fields match in any case.
		var after map[string]json.RawMessage
		var features map[string]any
		err = errors.Join(json.Unmarshal(out, &after), json.Unmarshal(after["unstable_features"], &features))
		if err != nil || features["org.matrix.msc4140"] != true || features["org.matrix.msc4143"] != true {
			t.Fatalf("%q became %q: %v", text, out, err)
		}
		if string(answer["versions"]) != kept {
			t.Fatal("the versions have changed")
		}
	})
}

func FuzzToken(f *testing.F) {
	f.Add("Bearer abc", "")
	f.Add("", "access_token=abc")
	f.Add("bearer  abc ", "access_token=def")
	f.Add("Basic abc", "access_token=def")
	f.Add("Bearer a\nb", "access_token=a%0ab")
	f.Fuzz(func(t *testing.T, header, query string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL.RawQuery = query
		r.Header["Authorization"] = []string{header}
		token, err := accessToken(r)
		if (err == nil) != (token != "") {
			t.Fatal("an error with a token, or neither")
		}
		if strings.ContainsAny(token, "\r\n \x00") || len(token) > maxToken {
			t.Fatalf("%q goes into a header", token)
		}
	})
}

func FuzzRefusal(f *testing.F) {
	f.Add([]byte(`{"errcode":"M_LIMIT_EXCEEDED","error":"x","retry_after_ms":2000}`))
	f.Add([]byte(`{"retry_after_ms":-1}`))
	f.Add([]byte(`{"retry_after_ms":1e300}`))
	f.Add([]byte(`<html>`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, text []byte) {
		e := refusal(&http.Response{StatusCode: 429}, text)
		if e.ErrCode == "" || e.Err == "" || e.StatusCode != 429 {
			t.Fatalf("%+v", e)
		}
		if after := retryAfter(e); after < 0 || after > maxDelay {
			t.Fatal(after)
		}
	})
}
