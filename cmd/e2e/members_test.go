package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/callmedia/sfu"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// TestOnlyMembers asks the demonstration's hub for everything that it gives, as somebody who is in the network's Space and in no window's room, then
// in the room, and then removed from it.
func TestOnlyMembers(t *testing.T) {
	n := startDemo(t, t.TempDir())
	n.await("know each other", time.Minute)
	host := &n.Windows[0]
	base := fmt.Sprintf("http://127.0.0.1:%d", host.Local)
	client, err := mautrix.NewClient(base, "", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Login(t.Context(), &mautrix.ReqLogin{
		Type: mautrix.AuthTypePassword, Identifier: mautrix.UserIdentifier{Type: mautrix.IdentifierTypeUser, User: n.Admin},
		Password: n.Password, StoreCredentials: true,
	}); err != nil {
		t.Fatal(err)
	}
	state, err := client.State(t.Context(), id.RoomID(n.Space))
	if err != nil {
		t.Fatal(err)
	}
	var room id.RoomID
	for key, child := range state[event.StateSpaceChild] {
		if child.Sender == id.NewUserID(host.Username, client.UserID.Homeserver()) {
			room = id.RoomID(key)
		}
	}
	if room == "" {
		t.Fatal("the window has no room")
	}
	type access struct{ ErrCode, URL, JWT, Username string }
	ask := func(method, path string, body any) (int, access) {
		t.Helper()
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		request, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+client.AccessToken)
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		var got access
		if text, err := io.ReadAll(answer.Body); err != nil || json.Unmarshal(text, &got) != nil {
			t.Fatalf("%s answers %s", path, text)
		}
		return answer.StatusCode, got
	}
	openID := func() any {
		t.Helper()
		token, err := client.RequestOpenIDToken(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	plain := func() (int, access) {
		t.Helper()
		return ask("POST", "/livekit/jwt/sfu/get", map[string]any{"room": room, "openid_token": openID(), "device_id": "DEVICE"})
	}
	everything := func() map[string]int {
		t.Helper()
		got := make(map[string]int)
		got["/sfu/get"], _ = plain()
		got["/get_token"], _ = ask("POST", "/livekit/jwt/get_token", map[string]any{
			"room_id": room, "slot_id": "m.call#ROOM", "openid_token": openID(),
			"member": map[string]any{"id": "member", "claimed_user_id": client.UserID, "claimed_device_id": "DEVICE"},
		})
		got["turnServer"], _ = ask("GET", "/_matrix/client/v3/voip/turnServer", nil)
		return got
	}
	const refused, given = "map[/get_token:403 /sfu/get:403 turnServer:403]", "map[/get_token:200 /sfu/get:200 turnServer:200]"
	await := func(what, want string) {
		t.Helper()
		rig.Eventually(t, time.Minute, func() error {
			got := fmt.Sprint(everything())
			return rig.Check(got == want, what, got)
		})
	}
	if got := fmt.Sprint(everything()); got != refused {
		t.Errorf("somebody in no window's room gets %s", got)
	}
	if _, err := client.JoinRoom(t.Context(), room.String(), nil); err != nil {
		t.Fatal(err)
	}
	await("somebody in a window's room", given)
	_, token := plain()
	inside, err := sfu.Connect(t.Context(), sfu.Options{URL: token.URL, Token: token.JWT, AllowLoopback: true, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	if _, err := client.LeaveRoom(t.Context(), room); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range inside.Events() {
		}
	}()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("who has left the room stays at the SFU")
	}
	await("somebody who has left the room", refused)
	var told *sfu.RefusedError
	if _, err := sfu.Connect(t.Context(), sfu.Options{URL: token.URL, Token: token.JWT, AllowLoopback: true, Log: zerolog.Nop()}); !errors.As(err, &told) || told.Status != http.StatusForbidden {
		t.Errorf("with the token from before: %v", err)
	}
}
