//go:build full

package network_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bot/networkstate"
	"multifactorymodel.org/ewindow/bot/newnetwork"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// watch notes each moment in which a window sees fewer others than it did, or is not in the network any more.
func (w *window) watch() (lost *atomic.Int64) {
	lost = new(atomic.Int64)
	seen, known := 0, false
	w.cfg.OnChange = func() {
		windows := len(w.Windows())
		_, listed := w.Own()
		if windows < seen || known && !listed {
			lost.Add(1)
		}
		seen, known = max(seen, windows), known || listed
	}
	return lost
}

// announce announces a room as an account's own, or as that of another.
func announce(t *testing.T, by *mautrix.Client, space id.RoomID, key id.UserID, room id.RoomID) error {
	t.Helper()
	_, err := by.SendStateEvent(t.Context(), space, networkstate.TypeRoom, key.String(), map[string]any{"room": room, "via": []string{"localhost"}})
	return err
}

// TestMembersEvents: whatever a member writes into the Space, the directory of windows and the rooms that they are in stay as they are.
func TestMembersEvents(t *testing.T) {
	hs := rig.StartHomeserver(t)
	admin, space := newNetwork(t, hs)
	dresden, munich := newWindow(t, hs, "Dresden", admin.UserID), newWindow(t, hs, "Munich", admin.UserID)
	lost := []*atomic.Int64{dresden.watch(), munich.watch()}
	for _, w := range []*window{dresden, munich} {
		w.start(t)
	}
	invite(t, admin, space, dresden.user, munich.user)
	own, other := dresden.listed(t), munich.listed(t)
	dresden.sees(t, "Munich=shut")
	munich.sees(t, "Dresden=shut")
	before := [][]id.RoomID{joinedRooms(t, dresden.client), joinedRooms(t, munich.client)}

	mallory := newMember(t, hs, admin, space, "mallory")
	sendChild(t, mallory, space, own)
	sendChild(t, mallory, space, other)
	sendChild(t, mallory, space, other, "nowhere.invalid")
	for _, victim := range []id.UserID{dresden.user, munich.user, admin.UserID} {
		if err := announce(t, mallory, space, victim, "!junk:localhost"); !errors.Is(err, mautrix.MForbidden) {
			t.Errorf("a member announces a room of %s: %v", victim, err)
		}
	}
	for key, room := range map[id.UserID]id.RoomID{mallory.UserID: other, "": own, "junk": other} {
		if err := announce(t, mallory, space, key, room); err != nil {
			t.Fatal(err)
		}
	}
	// What follows in the same rooms comes later.
	for i, w := range []*window{dresden, munich} {
		w.SetState(directory.State{Shutter: directory.Open, Since: time.Now()})
		[]*window{munich, dresden}[i].sees(t, []string{"Dresden=open", "Munich=open"}[i])
	}
	for i, w := range []*window{dresden, munich} {
		if after := joinedRooms(t, w.client); !slices.Equal(after, before[i]) {
			t.Errorf("%s was in %v, and is in %v", w.cfg.Name, before[i], after)
		}
		if n := lost[i].Load(); n > 0 {
			t.Errorf("%s lost the other window, or its network, %d times", w.cfg.Name, n)
		}
	}
	// People find both rooms in Element again.
	rig.Eventually(t, patience, func() error {
		state, err := admin.State(t.Context(), space)
		if err != nil {
			return err
		}
		for room, user := range map[id.RoomID]id.UserID{own: dresden.user, other: munich.user} {
			if e := state[event.StateSpaceChild][room.String()]; e == nil || e.Sender != user {
				return fmt.Errorf("%s is not listed by its window", room)
			}
		}
		return nil
	})
	// A restart changes nothing.
	sendChild(t, mallory, space, other)
	dresden.stop()
	dresden.start(t)
	dresden.sees(t, "Munich=open")
	dresden.listed(t)
}

// TestJunkChildren: a window that comes after a member has written 1,001 junk entries into the Space's list is known like any other.
func TestJunkChildren(t *testing.T) {
	hs := rig.StartHomeserver(t)
	adminAccount, _ := hs.Register(t, "admin")
	admin := hs.Client(t, adminAccount)
	account, _ := hs.Register(t, "mallory")
	mallory := hs.Client(t, account)
	// Mallory makes the Space, since a homeserver takes a thousand events in one request sooner than one by one. Then the admin takes her power away.
	key := ""
	state := []*event.Event{{Type: networkstate.TypeNetwork, StateKey: &key, Content: event.Content{Raw: map[string]any{"version": 1}}}}
	for i := range 1001 {
		key := fmt.Sprintf("!junk%d:nowhere.invalid", i)
		state = append(state, &event.Event{Type: event.StateSpaceChild, StateKey: &key, Content: event.Content{Raw: map[string]any{
			"via": []string{"nowhere.invalid"},
		}}})
	}
	anybody := 0
	resp, err := mallory.CreateRoom(t.Context(), &mautrix.ReqCreateRoom{
		Preset: "private_chat", RoomVersion: id.RoomV11, CreationContent: map[string]any{"type": "m.space"}, InitialState: state,
		Invite: []id.UserID{admin.UserID}, PowerLevelOverride: &event.PowerLevelsEventContent{
			Users: map[id.UserID]int{admin.UserID: 100, mallory.UserID: 0}, StateDefaultPtr: &anybody, InvitePtr: &anybody,
			Events: map[string]int{"m.room.join_rules": 0, "m.room.history_visibility": 0, "m.room.guest_access": 0},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	space := resp.RoomID
	if _, err := admin.JoinRoom(t.Context(), space.String(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := newnetwork.Upgrade(t.Context(), admin, space); err != nil {
		t.Fatal(err)
	}
	dresden, munich := newWindow(t, hs, "Dresden", admin.UserID), newWindow(t, hs, "Munich", admin.UserID)
	dresden.start(t)
	invite(t, admin, space, dresden.user)
	dresden.listed(t)
	munich.start(t)
	invite(t, admin, space, munich.user)
	munich.sees(t, "Dresden=shut")
	dresden.sees(t, "Munich=shut")
}

// TestPendingInvitations: strangers' invitations that can't be refused do not hide an admin's.
func TestPendingInvitations(t *testing.T) {
	hs := rig.StartHomeserver(t)
	admin, space := newNetwork(t, hs)
	dresden := newWindow(t, hs, "Dresden", admin.UserID)
	var held atomic.Int64
	transport := &breaker{check: func(r *http.Request, send func() (*http.Response, error)) (*http.Response, error) {
		if strings.HasSuffix(r.URL.Path, "/leave") { // as if the strangers' homeserver did not answer
			held.Add(1)
			<-r.Context().Done()
			return nil, r.Context().Err()
		}
		return send()
	}}
	dresden.http = &http.Client{Transport: transport}
	account, _ := hs.Register(t, "mallory")
	mallory := hs.Client(t, account)
	for range 256 {
		if _, err := mallory.CreateRoom(t.Context(), &mautrix.ReqCreateRoom{Invite: []id.UserID{dresden.user}}); err != nil {
			t.Fatal(err)
		}
	}
	dresden.start(t)
	rig.Eventually(t, patience, func() error { return rig.Check(held.Load() > 0, "refused", held.Load()) })
	invite(t, admin, space, dresden.user)
	dresden.listed(t)
}

// TestTakenDown: an admin takes a window out of the Space's list. It stays out, whatever a member or the window itself writes, until an admin lists
// it again or invites it again.
func TestTakenDown(t *testing.T) {
	n := newPlantedNetwork(t)
	n.munich.sees(t, "Dresden=shut")
	out := func(why string, others ...id.UserID) {
		t.Helper()
		n.isOut(t, why, others...)
		if own, _ := n.munich.Own(); own != n.other {
			t.Fatalf("%s: Munich's own room is %q", why, own)
		}
	}
	sendChild(t, n.admin, n.space, n.other)
	out("taken down")
	sendChild(t, n.mallory, n.space, n.other, "mallory.invalid")
	sendChild(t, n.munich.client, n.space, n.other, "munich.invalid")
	if err := announce(t, n.munich.client, n.space, n.munich.user, n.other); err != nil {
		t.Fatal(err)
	}
	// A window that comes later shows that Dresden has seen all of it.
	weimar := newWindow(t, n.hs, "Weimar", n.admin.UserID)
	weimar.start(t)
	invite(t, n.admin, n.space, weimar.user)
	n.dresden.sees(t, "Weimar=shut")
	if _, err := n.admin.KickUser(t.Context(), n.space, &mautrix.ReqKickUser{UserID: weimar.user}); err != nil {
		t.Fatal(err)
	}
	n.dresden.sees(t)
	out("listed by others", weimar.user)
	sendChild(t, n.admin, n.space, n.other, n.hs.ServerName)
	n.isBack(t)

	sendChild(t, n.admin, n.space, n.other)
	out("taken down again", weimar.user)
	if _, err := n.admin.KickUser(t.Context(), n.space, &mautrix.ReqKickUser{UserID: n.munich.user}); err != nil {
		t.Fatal(err)
	}
	invite(t, n.admin, n.space, n.munich.user)
	n.isBack(t)
}

// TestEarlierNetwork: in a Space that an earlier version made, kiosks may not send the event that announces their rooms. The windows find each other
// all the same, and after an upgrade as well.
func TestEarlierNetwork(t *testing.T) {
	hs := rig.StartHomeserver(t)
	admin, space := newNetwork(t, hs)
	power := readState(t, admin, space, event.StatePowerLevels, "")
	delete(power["events"].(map[string]any), networkstate.TypeRoom.Type)
	if _, err := admin.SendStateEvent(t.Context(), space, event.StatePowerLevels, "", power); err != nil {
		t.Fatal(err)
	}
	dresden, munich := newWindow(t, hs, "Dresden", admin.UserID), newWindow(t, hs, "Munich", admin.UserID)
	lost := dresden.watch()
	for _, w := range []*window{dresden, munich} {
		w.start(t)
	}
	invite(t, admin, space, dresden.user, munich.user)
	dresden.sees(t, "Munich=shut")
	munich.sees(t, "Dresden=shut")
	if err := announce(t, munich.client, space, munich.user, "!x:localhost"); !errors.Is(err, mautrix.MForbidden) {
		t.Fatalf("the Space is not as an earlier version made it: %v", err)
	}
	// Another client of the account changes its name, and leaves out what it does not know.
	if err := munich.client.SetDisplayName(t.Context(), "Window"); err != nil {
		t.Fatal(err)
	}
	munich.SetState(directory.State{Shutter: directory.Open, Since: time.Now()})
	dresden.sees(t, "Munich=open")

	for _, want := range []bool{true, false} {
		if changed, err := newnetwork.Upgrade(t.Context(), admin, space); err != nil || changed != want {
			t.Fatalf("upgraded: %t %v", changed, err)
		}
	}
	rig.Eventually(t, patience, func() error {
		for _, w := range []*window{dresden, munich} {
			own, _ := w.Own()
			var got struct {
				Room id.RoomID `json:"room"`
			}
			if err := admin.StateEvent(t.Context(), space, networkstate.TypeRoom, w.user.String(), &got); err != nil || got.Room != own {
				return fmt.Errorf("%s announces %q: %w", w.cfg.Name, got.Room, err)
			}
		}
		return nil
	})
	munich.sees(t, "Dresden=shut")
	dresden.stop()
	dresden.start(t)
	dresden.sees(t, "Munich=open")
	if n := lost.Load(); n > 0 {
		t.Errorf("Dresden lost the other window, or its network, %d times", n)
	}
	plain, err := admin.CreateRoom(t.Context(), &mautrix.ReqCreateRoom{})
	if err != nil {
		t.Fatal(err)
	}
	if changed, err := newnetwork.Upgrade(t.Context(), admin, plain.RoomID); err == nil || changed {
		t.Error("a room that is no network is upgraded")
	}
}
