//go:build full

package e2e_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix/event"

	"multifactorymodel.org/ewindow/bot/networkstate"
	"multifactorymodel.org/ewindow/bot/unstable"
	"multifactorymodel.org/ewindow/bridge/kiosk"
)

// strangersAttacks are the attacks of somebody whom no admin has invited, with an account on one of the homeservers or without one.
var strangersAttacks = []attack{
	{"a stranger reads and joins", strangerReads},
	{"a stranger registers", strangerRegisters},
	{"a stranger confuses paths", strangerConfusesPaths},
	{"a stranger smuggles requests", strangerSmuggles},
	{"a stranger forges tokens", strangerForgesTokens},
	{"a stranger asks for access", strangerAsksForAccess},
	{"a stranger opens the page", strangerOpensPage},
	{"a stranger sends to devices", strangerSendsToDevices},
	{"a stranger plants Spaces", strangerPlantsSpaces},
}

// strangerReads asks for everything in the network's rooms, and tries to get into them.
func strangerReads(t *testing.T, a *attacks) {
	user := a.stranger.client.UserID.String()
	for _, room := range append([]string{a.Space}, a.rooms...) {
		// For rooms that Dendrite knows, it answers this with an empty list.
		if got := a.stranger.try(http.MethodGet, matrixPath("v3", "rooms", room, "messages")+"?dir=b", nil); strings.Contains(string(got.body), "event_id") {
			t.Errorf("messages of %s: %v", room, got)
		}
		for _, read := range []string{"state", "members", "joined_members", "timestamp_to_event", "initialSync", "aliases"} {
			a.stranger.refused(read+" of "+room, http.MethodGet, matrixPath("v3", "rooms", room, read)+"?dir=b", nil)
		}
		for _, eventType := range []string{event.StateRoomName.Type, event.StateMember.Type, event.StatePowerLevels.Type} {
			a.stranger.refused(eventType+" of "+room, http.MethodGet, statePath(room, eventType, ""), nil)
		}
		a.stranger.refused("the hierarchy of "+room, http.MethodGet, matrixPath("v1", "rooms", room, "hierarchy"), nil)
		via := "?" + url.Values{"via": a.servers(), "server_name": a.servers()}.Encode()
		a.stranger.refused("joining "+room, http.MethodPost, matrixPath("v3", "join", room)+via, struct{}{})
		a.stranger.refused("knocking at "+room, http.MethodPost, matrixPath("v3", "knock", room)+via, struct{}{})
		a.stranger.refused("inviting into "+room, http.MethodPost, matrixPath("v3", "rooms", room, "invite"), map[string]string{"user_id": user})
		a.stranger.refused("writing into "+room, http.MethodPut, matrixPath("v3", "rooms", room, "send", "m.room.message", "1"),
			map[string]string{"msgtype": "m.text", "body": "let me in"})
		a.stranger.refused("upgrading "+room, http.MethodPost, matrixPath("v3", "rooms", room, "upgrade"), map[string]string{"new_version": "11"})
		a.stranger.refused("a membership in "+room, http.MethodPut, statePath(room, unstable.CallMember, "_"+user+"_X_m.call"), struct{}{})
	}
}

// strangerRegisters tries to get an account, or somebody else's.
func strangerRegisters(t *testing.T, a *attacks) {
	for _, body := range []map[string]any{
		{"username": "nobody", "password": "a long password"},
		{"username": "nobody", "password": "a long password", "auth": map[string]string{"type": "m.login.dummy"}},
		{"username": "nobody", "password": "a long password", "auth": map[string]string{"type": "m.login.registration_token", "token": ""}},
		{"type": "m.login.application_service", "username": "nobody"},
	} {
		a.stranger.refused("registering", http.MethodPost, "/v3/register", body)
	}
	a.stranger.refused("a guest's account", http.MethodPost, "/v3/register?kind=guest", struct{}{})
	for _, kind := range []string{"m.login.password", "m.login.token", "m.login.application_service"} {
		a.stranger.refused("logging in", http.MethodPost, "/v3/login", map[string]any{
			"type": kind, "identifier": map[string]string{"type": "m.id.user", "user": a.Windows[1].Username}, "password": "a guess", "token": "a guess",
		})
	}
}

// strangerConfusesPaths looks for the administration of the homeserver and of LiveKit behind the front.
func strangerConfusesPaths(t *testing.T, a *attacks) {
	for _, path := range []string{
		"/_synapse/admin/v1/register", "/_dendrite/admin/resetPassword/x", "/_dendrite/monitor/up", "/_matrix/client/../../_synapse/admin/v1/register",
		"/_matrix/client/%2e%2e/%2e%2e/_synapse/admin/v1/register", "/_matrix/client/..%2f..%2f_synapse/admin/v1/register",
		"/_matrix/client/..%5c..%5c_synapse/admin/v1/register", "//_synapse/admin/v1/register", "/./_synapse/admin/v1/register",
		"/_synapse%2fadmin/v1/register", "/%5fsynapse/admin/v1/register", "/_matrix/../_dendrite/admin/purgeRoom/x",
		"/_matrix/client;/../_synapse/admin/v1/register", "http://127.0.0.1/_synapse/admin/v1/register",
		"/livekit/sfu/twirp/livekit.RoomService/ListRooms", "/livekit/sfu/../twirp/livekit.RoomService/ListRooms",
		"/livekit/jwt/../sfu/twirp/livekit.RoomService/ListRooms", "/livekit/sfu/%2e%2e/twirp/livekit.RoomService/ListRooms", "/twirp/livekit.RoomService/ListRooms",
		"/metrics", "/debug/pprof/", "/livekit/sfu/metrics", "/livekit/sfu/debug/pprof/", "/livekit/jwt/metrics",
	} {
		for _, method := range []string{"GET", "POST"} {
			statuses := sendRaw(t, a.Windows[0].Local, 2, method+" "+path+" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
			// A path with dots is redirected to the same path without them, which is also in this list.
			if len(statuses) != 1 || statuses[0] != http.StatusTemporaryRedirect && (statuses[0] < 400 || statuses[0] >= 500) {
				t.Errorf("%s %s: %v", method, path, statuses)
			}
		}
	}
}

// strangerSmuggles hides a second request in the first. A front and a server behind it that disagree about the first one's end would pass it on.
func strangerSmuggles(t *testing.T, a *attacks) {
	const hidden = "GET /_synapse/admin/v1/register HTTP/1.1\r\nHost: localhost\r\n\r\n"
	for _, headers := range []string{
		"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", len(hidden)+5),
		"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
		"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
		"Transfer-Encoding:\vchunked\r\n\r\n0\r\n\r\n",
		fmt.Sprintf("Content-Length: 0\r\nContent-Length: %d\r\n\r\n", len(hidden)),
		"Content-Length: +0\r\n\r\n", "Content-Length: 0, 0\r\n\r\n", "X: y\rContent-Length: 0\r\n\r\n",
	} {
		statuses := sendRaw(t, a.Windows[0].Local, 3, "POST /_matrix/client/v3/login HTTP/1.1\r\nHost: localhost\r\n"+headers+hidden)
		// The front may read the hidden request as one of its own. Then it refuses it.
		for i, status := range statuses {
			if status != http.StatusNotImplemented && (status < 400 || status >= 500) || i > 1 {
				t.Errorf("%q: %v", headers, statuses)
			}
		}
	}
}

// strangerForgesTokens asks the authorisation service with tokens that no homeserver gave, and LiveKit with tokens that the service did not sign.
func strangerForgesTokens(t *testing.T, a *attacks) {
	for _, openID := range []map[string]any{
		{"access_token": "forged", "matrix_server_name": a.servers()[0], "token_type": "Bearer", "expires_in": 3600},
		{"access_token": a.stranger.client.AccessToken, "matrix_server_name": a.servers()[1], "token_type": "Bearer", "expires_in": 3600},
		{"access_token": "forged", "matrix_server_name": "127.0.0.1:1", "token_type": "Bearer", "expires_in": 3600},
		{"access_token": "forged", "matrix_server_name": "localhost/../x", "token_type": "Bearer", "expires_in": 3600},
		{},
	} {
		for _, path := range []string{unstable.TokenPath, unstable.HashedTokenPath} {
			got, _ := a.stranger.request(http.MethodPost, "/livekit/jwt"+path, map[string]any{
				"room": a.rooms[0], "room_id": a.rooms[0], "slot_id": unstable.RoomSlot, "device_id": "X", "openid_token": openID,
				"member": map[string]string{"id": "x", "claimed_user_id": a.stranger.client.UserID.String(), "claimed_device_id": "X"},
			})
			if got.status < 400 || got.status >= 500 || strings.Contains(string(got.body), "jwt") {
				t.Errorf("%s answers %v to %v", path, got, openID)
			}
		}
	}
	encode := base64.RawURLEncoding.EncodeToString
	claims := func(expires time.Time) string {
		data, err := json.Marshal(map[string]any{
			"iss": "devkey", "sub": "intruder", "exp": expires.Unix(), "nbf": time.Now().Add(-time.Hour).Unix(),
			"video": map[string]any{"room": a.rooms[0], "roomJoin": true, "roomAdmin": true, "roomCreate": true, "roomList": true},
		})
		if err != nil {
			t.Fatal(err)
		}
		return encode(data)
	}
	soon := claims(time.Now().Add(time.Hour))
	for _, token := range []string{
		"", "x", encode([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + soon + ".",
		encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + soon + "." + encode(make([]byte, 32)),
		encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + claims(time.Unix(0, 0)) + "." + encode(make([]byte, 32)),
	} {
		for _, path := range []string{"rtc", "rtc/validate", "rtc/v1", "rtc/v1/validate"} {
			statuses := sendRaw(t, a.Windows[0].Local, 1, "GET /livekit/sfu/"+path+"?access_token="+url.QueryEscape(token)+" HTTP/1.1\r\n"+
				"Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
			if len(statuses) == 0 || slices.ContainsFunc(statuses, func(s int) bool { return s < 400 || s >= 500 }) {
				t.Errorf("LiveKit answers %v at %s to %q", statuses, path, token)
			}
		}
	}
}

// strangerAsksForAccess proves who he is, and asks for SFU tokens of both windows' rooms and for the relay. He is in neither room.
func strangerAsksForAccess(t *testing.T, a *attacks) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	user := a.stranger.client.UserID.String()
	for _, room := range append(slices.Clone(a.rooms), a.Space, "!invented:"+a.servers()[1]) {
		for _, path := range []string{unstable.TokenPath, unstable.HashedTokenPath} {
			openID, err := a.stranger.client.RequestOpenIDToken(ctx)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := a.stranger.request(http.MethodPost, "/livekit/jwt"+path, map[string]any{
				"room": room, "room_id": room, "slot_id": unstable.RoomSlot, "device_id": "X", "openid_token": openID,
				"member": map[string]string{"id": "x", "claimed_user_id": user, "claimed_device_id": "X"},
			})
			if got.status != http.StatusForbidden && got.status != http.StatusNotFound && got.status != http.StatusTooManyRequests {
				t.Errorf("%s for %s: %v", path, room, got)
			}
		}
	}
	if got := a.stranger.try(http.MethodGet, "/v3/voip/turnServer", nil); got.status != http.StatusForbidden {
		t.Errorf("the relay: %v", got)
	}
}

// strangerOpensPage connects to a kiosk's page as other programs of its PC and other pages in its browser can.
func strangerOpensPage(t *testing.T, a *attacks) {
	address, err := url.Parse(a.page(0))
	if err != nil {
		t.Fatal(err)
	}
	host, key := address.Host, address.Fragment
	protocols := func(key string) string {
		return "Sec-WebSocket-Protocol: " + strings.Join(kiosk.Subprotocols(key), ", ") + "\r\n"
	}
	const handshake = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
	for what, headers := range map[string]string{
		"without the key":             "Host: " + host + "\r\nOrigin: http://" + host + "\r\n",
		"with another key":            "Host: " + host + "\r\nOrigin: http://" + host + "\r\n" + protocols(strings.Repeat("A", len(key))),
		"from another origin":         "Host: " + host + "\r\nOrigin: https://evil.example\r\n" + protocols(key),
		"by a name that was rebound":  "Host: evil.example:" + address.Port() + "\r\nOrigin: http://evil.example\r\n" + protocols(key),
		"by a name, without the port": "Host: evil.example\r\n",
	} {
		statuses := sendRaw(t, a.Windows[0].Page, 1, "GET /ws HTTP/1.1\r\n"+headers+handshake+"\r\n")
		if !slices.Equal(statuses, []int{http.StatusForbidden}) && !slices.Equal(statuses, []int{http.StatusMisdirectedRequest}) {
			t.Errorf("%s: %v", what, statuses)
		}
	}
}

// strangerSendsToDevices floods the kiosks' devices with messages that look like keys and like encrypted ones.
func strangerSendsToDevices(t *testing.T, a *attacks) {
	for i := range 40 {
		content := map[string]any{
			"algorithm": "m.olm.v1.curve25519-aes-sha2", "sender_key": strings.Repeat("A", 43), "ciphertext": map[string]any{}, "code": "m.unverified",
			"room_id": a.rooms[0], "session_id": fmt.Sprint("session ", i), "reason": strings.Repeat("x", 1000),
			"keys": []any{map[string]any{"index": 0, "key": strings.Repeat("A", 22)}}, "device_id": "X", "call_id": "",
		}
		messages := make(map[string]any)
		for _, w := range a.Windows {
			messages[w.userID()] = map[string]any{"*": content}
		}
		for _, kind := range []string{"m.room.encrypted", "m.room_key.withheld", unstable.EncryptionKeys, "m.key.verification.request", "m.room_key_request"} {
			a.stranger.does(http.MethodPut, matrixPath("v3", "sendToDevice", kind, fmt.Sprint(kind, i)), map[string]any{"messages": messages})
		}
	}
}

// strangerPlantsSpaces makes Spaces that look like networks, and invites both windows.
func strangerPlantsSpaces(t *testing.T, a *attacks) { a.plantSpaces(a.stranger, 5) }

// plantSpaces makes Spaces with the events of a network, and invites both windows.
func (a *attacks) plantSpaces(by *attacker, number int) {
	for i := range number {
		var made struct {
			Room string `json:"room_id"`
		}
		_ = json.Unmarshal(by.does(http.MethodPost, "/v3/createRoom", map[string]any{
			"preset": "public_chat", "name": fmt.Sprint("e-window demo ", i), "creation_content": map[string]string{"type": "m.space"},
			"initial_state": []map[string]any{{"type": networkstate.TypeNetwork.Type, "state_key": "", "content": map[string]any{"version": 1, "policy": map[string]any{}}}},
			"invite":        []string{a.Windows[0].userID(), a.Windows[1].userID()},
		}), &made)
		if made.Room == "" {
			by.t.Fatal("no room was made")
		}
	}
}
