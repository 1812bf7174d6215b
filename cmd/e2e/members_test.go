package e2e_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/callmedia/sfu"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// TestOnlyMembers asks the demonstration's hub for everything that it gives, as somebody who is in the network's Space and in no window's room, then
// in the room, and then removed from it.
func TestOnlyMembers(t *testing.T) {
	n := startDemo(t, t.TempDir())
	n.await("know each other", time.Minute)
	client, room := n.admin(), n.windowRooms()[1] // Munich's
	plain := func() (int, hubAnswer) {
		t.Helper()
		return n.askForToken(0, client, room)
	}
	everything := func() map[string]int {
		t.Helper()
		got := make(map[string]int)
		openID, err := client.RequestOpenIDToken(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got["/sfu/get"], _ = plain()
		got["/get_token"], _ = n.ask(0, client, http.MethodPost, "/livekit/jwt/get_token", map[string]any{
			"room_id": room, "slot_id": "m.call#ROOM", "openid_token": openID,
			"member": map[string]any{"id": "member", "claimed_user_id": client.UserID, "claimed_device_id": "DEVICE"},
		})
		got["turnServer"] = n.askForRelay(0, client)
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
	if _, err := client.JoinRoom(t.Context(), room, nil); err != nil {
		t.Fatal(err)
	}
	await("somebody in a window's room", given)
	_, token := plain()
	inside, err := sfu.Connect(t.Context(), sfu.Options{URL: token.URL, Token: token.JWT, AllowLoopback: true, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	if _, err := client.LeaveRoom(t.Context(), id.RoomID(room)); err != nil {
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
