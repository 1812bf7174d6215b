//go:build full

package rtc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/rtc"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// wordy is the length of a message in the room's past.
const wordy = 1000

// history is how many messages there were before the bot came. Sync shows only the latest 50, so 300 are as good as 10,000, and take
// Dendrite 4 s instead of two minutes (12 ms of CPU each); EWINDOW_HISTORY=10000 tries it.
func history() int {
	if n, err := strconv.Atoi(os.Getenv("EWINDOW_HISTORY")); err == nil && n > 0 {
		return n
	}
	return 300
}

// talk fills a room with messages. They are not encrypted, which does not matter here.
func talk(t *testing.T, hs *rig.Homeserver, by *kiosk, room id.RoomID) {
	t.Helper()
	content := `{"msgtype":"m.text","body":"` + strings.Repeat("x", wordy) + `"}`
	n := history()
	var group sync.WaitGroup
	var next atomic.Int64
	for range 4 {
		group.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				address := fmt.Sprintf("%s/_matrix/client/v3/rooms/%s/send/m.room.message/%d", hs.Direct, room, i)
				request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, address, strings.NewReader(content))
				if err != nil {
					t.Error(err)
					return
				}
				request.Header.Set("Authorization", "Bearer "+by.Client().AccessToken)
				response, err := http.DefaultClient.Do(request)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
				if response.StatusCode != http.StatusOK {
					t.Errorf("message %d: %s", i, response.Status)
					return
				}
			}
		})
	}
	group.Wait()
}

// TestRoomLife: a bot joins an encrypted room with a long past and a running call, and takes part in the call. It is removed from the room
// in the middle of the call. In the middle of another call the room is upgraded.
func TestRoomLife(t *testing.T) {
	hs := rig.StartHomeserverWith(t, rig.Options{Transports: []string{"https://rtc.example/jwt"}})
	host, _ := newKiosk(t, hs, "host")
	room := openRoom(t, 0, host)
	host.wire.cut.Store(true) // so that it does not process each message
	talk(t, hs, host, room)
	host.wire.cut.Store(false)
	hostCall := host.join(t, room)
	old := map[string]any{"call_id": "past", "party_id": "X", "version": "1", "lifetime": 1, "offer": map[string]any{"type": "offer", "sdp": "v=0"}}
	if _, err := host.Send(t.Context(), room, event.CallInvite, old); err != nil {
		t.Fatal(err)
	}
	late, _ := newKiosk(t, hs, "late")
	begun := time.Now()
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
	size := late.wire.synced.Load()
	t.Logf("from the invitation to both keys %v; the longest sync response had %d bytes, of %d that were said", time.Since(begun), size, history()*wordy)
	if size > 150_000 {
		t.Errorf("a sync response of %d bytes", size)
	}
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

	begun = time.Now()
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
		t.Errorf("a removed user has nothing to leave: %v", err)
	}
	t.Log("leaving took ", time.Since(begun)) // TestKicked demands that it ends within five seconds
	// It may come back.
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

	// The room is upgraded in the middle of the call. The call in the old room can still be left, and the new room has a call of its own.
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
