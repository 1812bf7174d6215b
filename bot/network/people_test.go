//go:build full

package network_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/networkstate"
	"multifactorymodel.org/ewindow/bot/newnetwork"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// newNetworkOfBoth makes a network with a room for its windows.
func newNetworkOfBoth(t *testing.T, hs *rig.Homeserver) (admin *mautrix.Client, space, windows id.RoomID) {
	t.Helper()
	account, _ := hs.Register(t, "admin")
	admin = hs.Client(t, account)
	space, err := newnetwork.Create(t.Context(), admin, newnetwork.Options{Name: "Multifactory", WindowsRoom: true})
	if err != nil {
		t.Fatal(err)
	}
	if windows, err = newnetwork.WindowsRoom(t.Context(), admin, space); err != nil || windows == "" {
		t.Fatalf("the windows' room is %q: %v", windows, err)
	}
	return admin, space, windows
}

// passForWindow makes a member a second "Munich": a room with the state of a window, announced wherever the homeserver lets it be.
func passForWindow(t *testing.T, by *mautrix.Client, space, windows id.RoomID) {
	t.Helper()
	key := ""
	room, err := by.CreateRoom(t.Context(), &mautrix.ReqCreateRoom{Preset: "public_chat", Name: "Munich", InitialState: []*event.Event{{
		Type: networkstate.TypeWindow, StateKey: &key, Content: event.Content{Raw: map[string]any{"version": 1, "kiosk": by.UserID, "shutter": "open", "since": 1}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := announce(t, by, space, by.UserID, room.RoomID); err != nil {
		t.Fatal(err)
	}
	if err := announce(t, by, windows, by.UserID, room.RoomID); !errors.Is(err, mautrix.MForbidden) {
		t.Errorf("a person announces a window: %v", err)
	}
	if _, err := by.JoinRoom(t.Context(), windows.String(), nil); !errors.Is(err, mautrix.MForbidden) {
		t.Errorf("a person joins the room of the windows: %v", err)
	}
	_, err = by.SendStateEvent(t.Context(), space, event.StateMember, by.UserID.String(), map[string]any{
		"membership": "join", networkstate.TypeRoom.Type: map[string]any{"room": room.RoomID},
	})
	if err != nil {
		t.Fatal(err)
	}
	sendChild(t, by, space, room.RoomID, "localhost")
}

// TestPeople: one invitation into the room of the windows makes a window. Somebody who is invited into the Space is a person, and nothing that they write
// makes them a window.
func TestPeople(t *testing.T) {
	hs := rig.StartHomeserver(t)
	admin, space, windows := newNetworkOfBoth(t, hs)
	dresden, munich := newWindow(t, hs, "Dresden", admin.UserID), newWindow(t, hs, "Munich", admin.UserID)
	dresden.start(t)
	munich.start(t)
	invite(t, admin, windows, dresden.user)
	own := dresden.listed(t)
	invite(t, admin, windows, munich.user)
	other := munich.listed(t)
	dresden.sees(t, "Munich=shut")
	munich.sees(t, "Dresden=shut")

	mallory := newMember(t, hs, admin, space, "mallory")
	if _, err := mallory.JoinRoom(t.Context(), own.String(), nil); err != nil {
		t.Errorf("a person can't look in: %v", err)
	}
	passForWindow(t, mallory, space, windows)
	// A window that comes later, after its account was invited into the Space first, as people are.
	weimar := newWindow(t, hs, "Weimar", admin.UserID)
	weimar.start(t)
	invite(t, admin, space, weimar.user)
	rig.Eventually(t, patience, func() error {
		return rig.Check(slices.Contains(joinedRooms(t, weimar.client), space), "in the Space", nil)
	})
	if room, listed := weimar.Own(); room != "" || listed || weimar.Removed() {
		t.Errorf("a person has the room %s, listed: %t", room, listed)
	}
	invite(t, admin, windows, weimar.user)
	weimar.sees(t, "Dresden=shut", "Munich=shut")
	dresden.sees(t, "Munich=shut", "Weimar=shut")
	munich.sees(t, "Dresden=shut", "Weimar=shut")
	dresden.restart(t)
	dresden.sees(t, "Munich=shut", "Weimar=shut")
	if kiosks := dresden.Kiosks(); slices.Contains(kiosks, mallory.UserID) {
		t.Errorf("%v are windows", kiosks)
	}

	// Removed from the room of the windows, a window is out of everything.
	if _, err := admin.KickUser(t.Context(), windows, &mautrix.ReqKickUser{UserID: munich.user}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		dresden.sees(t, "Weimar=shut")
		rig.Eventually(t, patience, func() error {
			members, err := dresden.client.JoinedMembers(t.Context(), own)
			if err != nil {
				return err
			}
			_, in := members.Joined[munich.user]
			rooms := joinedRooms(t, munich.client)
			if in || !munich.Removed() || len(munich.Windows()) > 0 || !slices.Equal(rooms, []id.RoomID{other}) {
				return fmt.Errorf("in our room: %t, removed: %t, sees %v, is in %v, its own is %s", in, munich.Removed(), munich.Windows(), rooms, other)
			}
			return nil
		})
		if !slices.Contains(dresden.Kiosks(), munich.user) {
			t.Error("Dresden has forgotten that Munich was a window")
		}
		dresden.restart(t)
		munich.restart(t)
	}
	invite(t, admin, windows, munich.user)
	munich.sees(t, "Dresden=shut", "Weimar=shut")
	dresden.sees(t, "Munich=shut", "Weimar=shut")
	if room := munich.listed(t); room != other {
		t.Errorf("Munich's room is %s, it was %s", room, other)
	}
}

// TestWindowsOfTwoServers: the room of the windows works through two homeservers. The windows come into the Space one after the other.
func TestWindowsOfTwoServers(t *testing.T) {
	servers := rig.StartFederation(t)
	admin, space, windows := newNetworkOfBoth(t, servers[0])
	dresden, munich := newWindow(t, servers[0], "Dresden", admin.UserID), newWindow(t, servers[1], "Munich", admin.UserID)
	for _, w := range []*window{dresden, munich} {
		w.start(t)
		invite(t, admin, windows, w.user)
		w.listed(t)
	}
	dresden.sees(t, "Munich=shut")
	munich.sees(t, "Dresden=shut")
	for _, w := range []*window{dresden, munich} {
		rig.Eventually(t, patience, func() error {
			own, _ := w.Own()
			var child event.SpaceChildEventContent
			return admin.StateEvent(t.Context(), space, event.StateSpaceChild, own.String(), &child) // people find it in Element
		})
	}
	munich.restart(t)
	munich.sees(t, "Dresden=shut")
	if _, err := admin.KickUser(t.Context(), windows, &mautrix.ReqKickUser{UserID: munich.user}); err != nil {
		t.Fatal(err)
	}
	dresden.sees(t)
	rig.Eventually(t, patience, func() error { return rig.Check(munich.Removed(), "removed", munich.Windows()) })
}

// TestAddWindowsRoom: a network of an earlier version gets a room for its windows. Those that there are come in by themselves; a member who comes later
// is no window.
func TestAddWindowsRoom(t *testing.T) {
	n := newPlantedNetwork(t)
	n.munich.sees(t, "Dresden=shut")
	n.munich.stop() // it comes later
	invited, added, err := newnetwork.AddWindowsRoom(t.Context(), n.admin, n.space)
	if err != nil || !added || !slices.Equal(invited, []id.UserID{n.dresden.user, n.munich.user}) {
		t.Fatalf("invited %v: %v", invited, err)
	}
	windows, err := newnetwork.WindowsRoom(t.Context(), n.admin, n.space)
	if err != nil {
		t.Fatal(err)
	}
	if own := n.dresden.listed(t); own != n.own {
		t.Errorf("Dresden's room is %s, it was %s", own, n.own)
	}
	n.munich.start(t)
	n.isBack(t)
	passForWindow(t, n.mallory, n.space, windows)
	n.dresden.restart(t)
	n.isBack(t)
	if again, added, err := newnetwork.AddWindowsRoom(t.Context(), n.admin, n.space); err != nil || added || again != nil {
		t.Errorf("it got a second one, for %v: %v", again, err)
	}
}
