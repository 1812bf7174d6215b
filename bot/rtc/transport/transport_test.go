package transport

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"maunium.net/go/mautrix/id"
)

func TestServiceURL(t *testing.T) {
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
		if got, ok := ServiceURL(in); got != want || ok != (want != "") {
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
		`{"rtc_transports":[{"type":"livekit"}]}`:                                                                     "",
		`{"rtc_transports":[{"type":"m.livekit","url":"https://c.example/"}]}`:                                        "https://c.example",
		`{"rtc_transports":[{"type":"livekit","url":"https://c.example","livekit_service_url":"https://d.example"}]}`: "https://d.example",
		`nonsense`: "",
	} {
		if got := ParseTransports([]byte(in)); got != want {
			t.Errorf("%s: got %q", in, got)
		}
	}
	const file = `{"m.homeserver":{"base_url":"https://x"},"org.matrix.msc4143.rtc_foci":[{"type":"livekit","livekit_service_url":"https://a.example"}]}`
	if got := parseWellKnown([]byte(file)); len(got) != 1 || got[0] != "https://a.example" {
		t.Errorf("got %q", got)
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
		for _, service := range append(parseWellKnown(data), ParseTransports(data)) {
			if service == "" {
				continue
			}
			if again, ok := ServiceURL(service); !ok || again != service || len(service) > maxURL {
				t.Fatalf("%q becomes %q, %v", service, again, ok)
			}
			if !strings.HasPrefix(service, "https://") && !strings.HasPrefix(service, "http://") {
				t.Fatalf("got %q", service)
			}
		}
	})
}

// TestHashes compares with hashes that JavaScript computed.
func TestHashes(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "callmedia", "e2ee", "testdata", "e2ee-vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	type vector struct {
		Input  []string `json:"input"`
		Output string   `json:"output"`
	}
	var file struct {
		Hashes struct {
			Rooms      []vector `json:"livekit_room_name"`
			Identities []vector `json:"livekit_identity_hashed"`
		} `json:"hash_vectors"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Hashes.Rooms) == 0 || len(file.Hashes.Identities) == 0 {
		t.Fatal("no vectors")
	}
	for _, v := range append(file.Hashes.Rooms, file.Hashes.Identities...) {
		if got := hashNames(v.Input...); got != v.Output {
			t.Errorf("%q: got %s, want %s", v.Input, got, v.Output)
		}
	}
	v := file.Hashes.Identities[0]
	if got := HashedIdentity(id.UserID(v.Input[0]), id.DeviceID(v.Input[1]), v.Input[2]); got != v.Output {
		t.Errorf("got %s, want %s", got, v.Output)
	}
}
