//go:build full

package rtc_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// typeMember is the membership that is a state event.
var typeMember = event.Type{Type: "org.matrix.msc3401.call.member", Class: event.StateEventType}

// claim is a membership of an invented device, which says that it has been in the call for ever.
func claim(device, service string) map[string]any {
	return map[string]any{
		"application": "m.call", "call_id": "", "device_id": device, "created_ts": 1, "expires": int64(9e15),
		"focus_active":   map[string]any{"type": "livekit", "focus_selection": "multi_sfu"},
		"foci_preferred": []any{map[string]any{"type": "livekit", "livekit_service_url": service, "livekit_alias": "x"}},
	}
}

// TestPlacesCantBeTaken: a member of the room invents devices, and writes under the keys of others. The window that calls is and stays the first
// member of the call, and it comes back into the room's state.
func TestPlacesCantBeTaken(t *testing.T) {
	service := newService(t, nil)
	hs := rig.StartHomeserverWith(t, rig.Options{Transports: []string{service.URL + "/jwt"}})
	dresden, _ := newKiosk(t, hs, "dresden")
	munich, _ := newKiosk(t, hs, "munich")
	dresden.SetWindows([]id.UserID{munich.UserID()})
	room := openRoom(t, 0, dresden, munich)
	user, _ := hs.Register(t, "mallory")
	mallory := hs.Client(t, user)
	if _, err := dresden.Client().InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: user}); err != nil {
		t.Fatal(err)
	}
	if _, err := mallory.JoinRoomByID(t.Context(), room); err != nil {
		t.Fatal(err)
	}
	write := func(key string, content any) {
		t.Helper()
		if _, err := mallory.SendStateEvent(t.Context(), room, typeMember, key, content); err != nil {
			t.Fatal(err)
		}
	}
	const evil = "https://evil.example"
	for i := range 40 {
		device := fmt.Sprintf("D%03d", i)
		write(fmt.Sprintf("_%s_%s_m.call", user, device), claim(device, evil))
	}
	call := munich.join(t, room)
	defer func() { _ = call.Leave(t.Context()) }()
	first := func() error {
		dresden.mu.Lock()
		defer dresden.mu.Unlock()
		members := dresden.members[room]
		if len(members) == 0 || members[0].Identity != munich.identity() || members[0].Service != service.URL+"/jwt" {
			return fmt.Errorf("in the call: %+v", members)
		}
		if len(members) > 4 {
			return fmt.Errorf("%d members", len(members))
		}
		return nil
	}
	rig.Eventually(t, limit, first)
	// Each time that something of mallory's is known, the window must still be the first.
	own := fmt.Sprintf("_%s_%s_m.call", munich.UserID(), munich.DeviceID())
	for i, content := range []any{struct{}{}, claim(munich.DeviceID().String(), evil), struct{}{}} {
		write(own, content)
		mark := fmt.Sprintf("MARK%d", i)
		write(fmt.Sprintf("_%s_%s_m.call", user, mark), claim(mark, evil))
		rig.Eventually(t, limit, func() error {
			dresden.mu.Lock()
			members := slices.Clone(dresden.members[room])
			dresden.mu.Unlock()
			if len(members) == 0 || members[0].User != munich.UserID() {
				t.Fatalf("after %d: %+v", i, members)
			}
			for _, m := range members {
				if m.Device.String() == mark {
					return nil
				}
			}
			return errors.New("what mallory wrote last is not known yet")
		})
	}
	rig.Eventually(t, limit, func() error {
		var content map[string]any
		if err := dresden.Client().StateEvent(t.Context(), room, typeMember, own, &content); err != nil {
			return err
		}
		return rig.Check(content["device_id"] == munich.DeviceID().String() && fmt.Sprint(content["created_ts"]) != "1", "munich is back in the state", content)
	})
	if err := first(); err != nil {
		t.Error(err)
	}
}
