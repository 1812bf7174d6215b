//go:build full

package network_test

import (
	"fmt"
	"slices"
	"testing"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// restart stops a window and starts it again.
func (w *window) restart(t *testing.T) {
	t.Helper()
	w.stop()
	w.start(t)
}

// isOut waits until Munich is out of the network: neither window sees the other, nobody but its kiosk is in either room, Munich says that it was removed,
// and Dresden remembers that Munich, and others, were windows.
func (n *plantedNetwork) isOut(t *testing.T, why string, others ...id.UserID) {
	t.Helper()
	rig.Eventually(t, patience, func() error {
		_, listed := n.munich.Own()
		if len(n.dresden.Windows()) > 0 || len(n.munich.Windows()) > 0 || listed || !n.munich.Removed() || n.dresden.Removed() {
			return fmt.Errorf("%s: Dresden sees %v, Munich sees %v, is listed: %t, removed: %t", why, n.dresden.Windows(), n.munich.Windows(), listed, n.munich.Removed())
		}
		if got := n.dresden.Kiosks(); !slices.Equal(got, append([]id.UserID{n.munich.user}, others...)) {
			return fmt.Errorf("%s: Dresden remembers the windows %v", why, got)
		}
		for room, client := range map[id.RoomID]*mautrix.Client{n.own: n.dresden.client, n.other: n.munich.client} {
			members, err := client.JoinedMembers(t.Context(), room)
			if err != nil {
				return err
			}
			if len(members.Joined) != 1 {
				return fmt.Errorf("%s: %d people are in %s", why, len(members.Joined), room)
			}
		}
		return nil
	})
}

// isBack waits until both windows see each other again.
func (n *plantedNetwork) isBack(t *testing.T) {
	t.Helper()
	n.dresden.sees(t, "Munich=shut")
	n.munich.sees(t, "Dresden=shut")
	if room := n.munich.listed(t); room != n.other || n.munich.Removed() {
		t.Fatalf("Munich's room is %s, it was %s, and Munich is removed: %t", room, n.other, n.munich.Removed())
	}
}

// TestRemovalIsRemembered: a window that was removed stays out after restarts of both, whoever invites it elsewhere, until an admin admits it again.
func TestRemovalIsRemembered(t *testing.T) {
	n := newPlantedNetwork(t)
	n.munich.sees(t, "Dresden=shut")
	for name, remove := range map[string]func(){
		"kicked": func() {
			if _, err := n.admin.KickUser(t.Context(), n.space, &mautrix.ReqKickUser{UserID: n.munich.user}); err != nil {
				t.Fatal(err)
			}
		},
		"banned": func() {
			if _, err := n.admin.BanUser(t.Context(), n.space, &mautrix.ReqBanUser{UserID: n.munich.user}); err != nil {
				t.Fatal(err)
			}
		},
		"left": func() {
			if _, err := n.munich.client.LeaveRoom(t.Context(), n.space); err != nil {
				t.Fatal(err)
			}
		},
	} {
		remove()
		n.isOut(t, name)
		n.dresden.restart(t)
		n.munich.restart(t)
		n.isOut(t, name+", and restarted")
		// Somebody lets its account into the window's room. It is not let in.
		invite(t, n.dresden.client, n.own, n.munich.user)
		rig.Eventually(t, patience, func() error {
			var member event.MemberEventContent
			if err := n.dresden.client.StateEvent(t.Context(), n.own, event.StateMember, n.munich.user.String(), &member); err != nil {
				return err
			}
			return rig.Check(member.Membership == event.MembershipLeave, "out of the window's room", member.Membership)
		})
		if name == "banned" {
			if _, err := n.admin.UnbanUser(t.Context(), n.space, &mautrix.ReqUnbanUser{UserID: n.munich.user}); err != nil {
				t.Fatal(err)
			}
			n.isOut(t, "no longer banned")
		}
		invite(t, n.admin, n.space, n.munich.user)
		n.isBack(t)
	}
}

// TestTakeDownIsRemembered: what an admin said is remembered, though a member has overwritten it.
func TestTakeDownIsRemembered(t *testing.T) {
	n := newPlantedNetwork(t)
	n.munich.sees(t, "Dresden=shut")
	sendChild(t, n.admin, n.space, n.other)
	n.isOut(t, "taken down")
	sendChild(t, n.mallory, n.space, n.other, "mallory.invalid")
	n.dresden.restart(t)
	n.munich.restart(t)
	n.isOut(t, "taken down, overwritten and restarted")
	sendChild(t, n.admin, n.space, n.other, n.hs.ServerName)
	n.isBack(t)
	n.dresden.restart(t)
	n.isBack(t)
}

// TestFormerAdmin: in a window's room exactly those admins have power who are listed and in the room.
func TestFormerAdmin(t *testing.T) {
	hs := rig.StartHomeserver(t)
	admin, space := newNetwork(t, hs)
	second := newMember(t, hs, admin, space, "second")
	dresden := newWindow(t, hs, "Dresden", admin.UserID, second.UserID)
	dresden.start(t)
	invite(t, admin, space, dresden.user)
	own := dresden.listed(t)
	powers := func(want ...id.UserID) {
		t.Helper()
		slices.Sort(want)
		rig.Eventually(t, patience, func() error {
			var power struct {
				Users map[id.UserID]int `json:"users"`
			}
			if err := dresden.client.StateEvent(t.Context(), own, event.StatePowerLevels, "", &power); err != nil {
				return err
			}
			var got []id.UserID
			for user := range power.Users {
				got = append(got, user)
			}
			slices.Sort(got)
			return rig.Check(slices.Equal(got, want), fmt.Sprintf("power of %v", want), power.Users)
		})
	}
	for _, client := range []*mautrix.Client{admin, second} {
		if _, err := client.JoinRoom(t.Context(), own.String(), nil); err != nil {
			t.Fatal(err)
		}
	}
	powers(admin.UserID, second.UserID)
	dresden.stop()
	dresden.cfg.Admins = []id.UserID{admin.UserID}
	dresden.start(t)
	powers(admin.UserID)
	if _, err := admin.LeaveRoom(t.Context(), own); err != nil {
		t.Fatal(err)
	}
	powers()
}
