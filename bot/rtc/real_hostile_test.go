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

// TestTakenOffTheScreen: a member of the call whom the screen does not name any more has the keys until then, and no later one.
func TestTakenOffTheScreen(t *testing.T) {
	service := newService(t, nil)
	hs := rig.StartHomeserverWith(t, rig.Options{Transports: []string{service.URL + "/jwt"}})
	dresden, _ := newKiosk(t, hs, "dresden")
	munich, _ := newKiosk(t, hs, "munich")
	ghost, _ := newKiosk(t, hs, "ghost")
	room := openRoom(t, 0, dresden, munich, ghost)
	for _, k := range []*kiosk{dresden, munich, ghost} {
		k.join(t, room)
	}
	munich.hears(t, dresden)
	ghost.hears(t, dresden)
	takeOff := func(k, gone *kiosk) (before int) {
		k.mu.Lock()
		before = k.using
		k.unnamed = []id.UserID{gone.UserID()}
		k.mu.Unlock()
		k.share(room)
		rig.Eventually(t, limit, func() error {
			k.mu.Lock()
			defer k.mu.Unlock()
			return rig.Check(k.using > before, fmt.Sprintf("%s uses another key", k.UserID()), k.using)
		})
		return before
	}
	before := takeOff(dresden, ghost)
	munich.hears(t, dresden)
	// Everything that is sent to the ghost comes in order: the key that Munich sends after this is the mark.
	takeOff(munich, dresden)
	ghost.hears(t, munich)
	ghost.mu.Lock()
	defer ghost.mu.Unlock()
	for index, material := range dresden.own {
		if got := ghost.keys[fmt.Sprint(dresden.identity(), " ", index)]; int(index) > before && got != nil {
			t.Errorf("the ghost has key %d of %d bytes", index, len(material))
		}
	}
}
