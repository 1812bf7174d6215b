package rtc_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/rtc"
	"multifactorymodel.org/ewindow/cmd/ewindow/e2e/rig"
)

// TestRoomLife: a bot comes late into an encrypted room with a past and a running call, is in the call like anybody else, is thrown out
// in the middle of it, and sees the room upgraded in the middle of another one.
func TestRoomLife(t *testing.T) {
	hs := rig.StartHomeserverWith(t, rig.Options{Transports: []string{"https://rtc.example/jwt"}})
	host, _ := newKiosk(t, hs, "host")
	room := openRoom(t, 0, host)
	hostCall := host.join(t, room)
	for i := range 60 { // more than one sync response shows
		if err := host.Notice(t.Context(), room, fmt.Sprint("note ", i)); err != nil {
			t.Fatal(err)
		}
	}
	old := map[string]any{"call_id": "past", "party_id": "X", "version": "1", "lifetime": 1, "offer": map[string]any{"type": "offer", "sdp": "v=0"}}
	if _, err := host.Send(t.Context(), room, event.CallInvite, old); err != nil {
		t.Fatal(err)
	}
	late, _ := newKiosk(t, hs, "late")
	if _, err := host.Client().InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: late.UserID()}); err != nil {
		t.Fatal(err)
	}
	if _, err := late.Client().JoinRoom(t.Context(), room.String(), nil); err != nil {
		t.Fatal(err)
	}
	call := late.join(t, room) // at once, whether sync has shown the room or not
	late.sees(t, limit, room, host)
	host.sees(t, limit, room, late)
	host.hears(t, late)
	late.hears(t, host)
	ring, err := host.Ring(t.Context(), room, []id.UserID{late.UserID()})
	if err != nil {
		t.Fatal(err)
	}
	rig.Eventually(t, limit, func() error {
		late.mu.Lock()
		defer late.mu.Unlock()
		if len(late.rings) != 1 || late.rings[0].Event != ring || len(late.legacy) > 0 {
			return fmt.Errorf("rings %+v, old calls %v, %+v", late.rings, late.legacy, late.Manager.Stats())
		}
		return nil
	})

	begun := time.Now()
	if _, err := host.Client().KickUser(t.Context(), room, &mautrix.ReqKickUser{UserID: late.UserID(), Reason: "time to go"}); err != nil {
		t.Fatal(err)
	}
	rig.Eventually(t, limit, func() error {
		late.mu.Lock()
		defer late.mu.Unlock()
		if !errors.Is(late.failed, rtc.ErrNotJoined) {
			return fmt.Errorf("told %v", late.failed)
		}
		return nil
	})
	host.sees(t, limit, room)
	t.Log("out after ", time.Since(begun))
	begun = time.Now()
	if err := call.Leave(t.Context()); err != nil {
		t.Errorf("who was thrown out has nothing to leave: %v", err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("leaving took %v", took)
	}
	// It may come again.
	if _, err := host.Client().InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: late.UserID()}); err != nil {
		t.Fatal(err)
	}
	if _, err := late.Client().JoinRoom(t.Context(), room.String(), nil); err != nil {
		t.Fatal(err)
	}
	late.sees(t, limit, room, host)
	call = late.join(t, room)
	host.sees(t, limit, room, late)
	host.hears(t, late)
	late.hears(t, host)

	// The room is upgraded in the middle of the call. The old one is closed, but for leaving its call; and the new one has a call like any other.
	var upgraded struct {
		Room id.RoomID `json:"replacement_room"`
	}
	client := host.Client()
	_, err = client.MakeRequest(context.WithoutCancel(t.Context()), http.MethodPost, client.BuildClientURL("v3", "rooms", room, "upgrade"),
		map[string]any{"new_version": id.RoomV12}, &upgraded)
	if err != nil || upgraded.Room == "" {
		t.Fatalf("upgraded to %q: %v", upgraded.Room, err)
	}
	for _, c := range []*rtc.Call{call, hostCall} {
		if err := c.Leave(t.Context()); err != nil {
			t.Error(err)
		}
	}
	for _, k := range []*kiosk{host, late} {
		k.sees(t, limit, room)
		if left := membership(t, host, k, room); len(left) > 0 {
			t.Errorf("in the old room stands %v", left)
		}
	}
	next := upgraded.Room
	if _, err := client.InviteUser(t.Context(), next, &mautrix.ReqInviteUser{UserID: late.UserID()}); err != nil {
		t.Fatal(err)
	}
	if _, err := late.Client().JoinRoom(t.Context(), next.String(), nil); err != nil {
		t.Fatal(err)
	}
	call, hostCall = late.join(t, next), host.join(t, next)
	host.sees(t, limit, next, late)
	late.sees(t, limit, next, host)
	host.hears(t, late)
	late.hears(t, host)
	for _, c := range []*rtc.Call{call, hostCall} {
		if err := c.Leave(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
