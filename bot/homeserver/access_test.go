package homeserver_test

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/homeserver"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// TestTURNAccess asks for access to the TURN server, which only those get who belong.
func TestTURNAccess(t *testing.T) {
	want := homeserver.TURNAccess{Username: "1:x", Password: "p", URIs: []string{"turn:turn.example.org"}, TTL: 60}
	var anna id.UserID
	hs := rig.StartHomeserverWith(t, rig.Options{
		TURN: func(user id.UserID) (homeserver.TURNAccess, bool) { return want, user == anna },
	})
	anna, _ = hs.Register(t, "anna")
	eve, _ := hs.Register(t, "eve")
	for _, version := range []string{"v3", "r0", "v1", "unstable"} {
		address := hs.URL + "/_matrix/client/" + version + "/voip/turnServer"
		var got homeserver.TURNAccess
		status, text := do(t, http.MethodGet, address, hs.Client(t, anna).AccessToken, "")
		if err := json.Unmarshal([]byte(text), &got); err != nil || status != http.StatusOK || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %d %s", version, status, text)
		}
		if status, text := do(t, http.MethodGet, address, hs.Client(t, eve).AccessToken, ""); status != http.StatusForbidden || !strings.Contains(text, "M_FORBIDDEN") {
			t.Errorf("%s answers a stranger with %d %s", version, status, text)
		}
		if status, text := do(t, http.MethodGet, address, "", ""); status != http.StatusUnauthorized {
			t.Errorf("%s answers without a token with %d %s", version, status, text)
		}
	}
	for _, path := range []string{"/_matrix/client/v3/voip/turnServer/", "/_matrix/client/v3/voip//turnServer", "/_matrix/client/v3/voip/turnserver", "/_matrix/client/v3/./voip/turnServer"} {
		if status, text := do(t, http.MethodGet, hs.URL+path, hs.Client(t, eve).AccessToken, ""); status == http.StatusOK || strings.Contains(text, "dendrite") {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
}

// TestSFUToken asks for access to the SFU with an access token, which alone says who asks.
func TestSFUToken(t *testing.T) {
	const path, service = "/_matrix/client/unstable/org.multifactorymodel.ewindow/sfu_token", "https://rtc.example.org/jwt"
	const body = `{"room_id":"!room:a.example","user_id":"@eve:a.example","device_id":"EVE"}`
	type asked struct {
		user   id.UserID
		device id.DeviceID
		room   id.RoomID
	}
	var got []asked
	hs := rig.StartHomeserverWith(t, rig.Options{
		Transports: []string{service, "https://other.example.org"},
		SFUToken: func(_ context.Context, user id.UserID, device id.DeviceID, room id.RoomID) (url, jwt string, err error) {
			got = append(got, asked{user, device, room})
			if room == "" {
				return "", "", mautrix.MForbidden.WithMessage("No")
			}
			return "wss://sfu.example.org", "a.b.c", nil
		},
	})
	user, _ := hs.Register(t, "anna")
	client := hs.Client(t, user)
	for _, c := range []struct {
		method, token, body string
		status              int
		errcode             string
	}{
		{"POST", "", body, 401, "M_MISSING_TOKEN"}, {"POST", "invented", body, 401, "M_UNKNOWN_TOKEN"}, {"GET", client.AccessToken, "", 405, "M_UNRECOGNIZED"},
		{"POST", client.AccessToken, "[", 400, "M_NOT_JSON"}, {"POST", client.AccessToken, strings.Repeat(" ", 5000) + body, 413, "M_TOO_LARGE"},
		{"POST", client.AccessToken, "{}", 403, "M_FORBIDDEN"}, {"POST", client.AccessToken, body, 200, ""},
	} {
		status, text := do(t, c.method, hs.URL+path, c.token, c.body)
		var answer map[string]string
		if err := json.Unmarshal([]byte(text), &answer); err != nil || status != c.status || answer["errcode"] != c.errcode {
			t.Errorf("%s %.20s: %d %s", c.method, c.body, status, text)
		}
		if status == http.StatusOK && (answer["livekit_service_url"] != service || answer["url"] != "wss://sfu.example.org" || answer["jwt"] != "a.b.c") {
			t.Errorf("got %s", text)
		}
	}
	if want := (asked{user, client.DeviceID, "!room:a.example"}); len(got) != 2 || got[1] != want || got[0].user != user {
		t.Errorf("the SFU was asked for %v", got)
	}
	if status, text := do(t, "POST", rig.StartHomeserver(t).URL+path, "x", body); status != 405 || !strings.Contains(text, "M_UNRECOGNIZED") {
		t.Errorf("without an SFU: %d %s", status, text)
	}
}
