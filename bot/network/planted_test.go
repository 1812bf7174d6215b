//go:build full

package network_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bot/networkstate"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
	"multifactorymodel.org/ewindow/migrations"
)

// plantSpaces makes Spaces that anybody may join, that pretend to be networks, and in which the network's admin would have power.
func plantSpaces(t *testing.T, by *mautrix.Client, admin id.UserID, count int) (list []id.RoomID) {
	t.Helper()
	key := ""
	for range count {
		resp, err := by.CreateRoom(t.Context(), &mautrix.ReqCreateRoom{
			Preset: "public_chat", Name: "Multifactory", RoomVersion: id.RoomV11, CreationContent: map[string]any{"type": "m.space"},
			InitialState: []*event.Event{{Type: networkstate.TypeNetwork, StateKey: &key, Content: event.Content{Raw: map[string]any{
				"version": 1, "policy": map[string]any{"admit": "admins"},
			}}}},
			PowerLevelOverride: &event.PowerLevelsEventContent{
				Users: map[id.UserID]int{by.UserID: 100, admin: 100}, Events: map[string]int{"m.space.child": 0},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, resp.RoomID)
	}
	return list
}

// newMember makes an account that an admin invites into the Space, and joins it.
func newMember(t *testing.T, hs *rig.Homeserver, admin *mautrix.Client, space id.RoomID, name string) *mautrix.Client {
	t.Helper()
	account, _ := hs.Register(t, name)
	client := hs.Client(t, account)
	invite(t, admin, space, client.UserID)
	if _, err := client.JoinRoom(t.Context(), string(space), nil); err != nil {
		t.Fatal(err)
	}
	return client
}

// sendChild sends an m.space.child event with some content.
func sendChild(t *testing.T, by *mautrix.Client, space, room id.RoomID, via ...string) {
	t.Helper()
	content := map[string]any{}
	if len(via) > 0 {
		content["via"] = via
	}
	if _, err := by.SendStateEvent(t.Context(), space, event.StateSpaceChild, string(room), content); err != nil {
		t.Fatal(err)
	}
}

// inNone fails if an account is in one of the rooms, and waits until it is in none of them.
func inNone(t *testing.T, client *mautrix.Client, rooms []id.RoomID) {
	t.Helper()
	rig.Eventually(t, patience, func() error {
		for _, room := range joinedRooms(t, client) {
			if slices.Contains(rooms, room) {
				return fmt.Errorf("%s is in %s", client.UserID, room)
			}
		}
		return nil
	})
}

// plantedNetwork has two windows, and Spaces that a member has hung into the network's.
type plantedNetwork struct {
	hs              *rig.Homeserver
	admin, mallory  *mautrix.Client
	space           id.RoomID
	dresden, munich *window
	own, other      id.RoomID // Dresden's room and Munich's
	planted         []id.RoomID
}

func newPlantedNetwork(t *testing.T) *plantedNetwork {
	hs := rig.StartHomeserver(t)
	n := &plantedNetwork{hs: hs}
	n.admin, n.space = newNetwork(t, hs)
	n.dresden, n.munich = newWindow(t, hs, "Dresden", n.admin.UserID), newWindow(t, hs, "Munich", n.admin.UserID)
	n.dresden.start(t)
	n.munich.start(t)
	invite(t, n.admin, n.space, n.dresden.user, n.munich.user)
	n.own, n.other = n.dresden.listed(t), n.munich.listed(t)
	n.dresden.sees(t, "Munich=shut")
	n.mallory = newMember(t, hs, n.admin, n.space, "mallory")
	n.planted = plantSpaces(t, n.mallory, n.admin.UserID, 4)
	return n
}

// TestPlantedSpaces: a member hangs Spaces of her own into the network's. No window is in them, however it came there.
func TestPlantedSpaces(t *testing.T) {
	n := newPlantedNetwork(t)
	for _, room := range n.planted {
		sendChild(t, n.mallory, n.space, room, n.hs.ServerName)
	}
	// What follows in the same room comes later.
	n.munich.SetState(directory.State{Shutter: directory.Open, Since: time.Now()})
	n.dresden.sees(t, "Munich=open")
	inNone(t, n.dresden.client, n.planted)
	// By an earlier version, or because somebody used its account.
	n.dresden.joins(t, n.planted)
	inNone(t, n.dresden.client, n.planted)
	n.dresden.stop()
	n.dresden.joins(t, n.planted)
	n.dresden.start(t)
	inNone(t, n.dresden.client, n.planted)
	n.dresden.sees(t, "Munich=open")
}

// TestRestartAmongPlanted: a member overwrites every child event. A restart still finds the network that the admin's invitation led to.
func TestRestartAmongPlanted(t *testing.T) {
	n := newPlantedNetwork(t)
	n.dresden.stop()
	n.dresden.joins(t, n.planted)
	for _, room := range append([]id.RoomID{n.own, n.other}, n.planted...) {
		sendChild(t, n.mallory, n.space, room)
	}
	n.dresden.start(t)
	if room := n.dresden.listed(t); room != n.own {
		t.Fatalf("after the restart the own room is %s, it was %s", room, n.own)
	}
	if _, found := readState(t, n.dresden.client, n.own, event.StateSpaceParent, string(n.space))["via"]; !found {
		t.Error("the own room does not name the network")
	}
	inNone(t, n.dresden.client, n.planted)
	n.dresden.sees(t, "Munich=shut")
}

// TestRemovedAmongPlanted: a window that was removed has no network and no room, also after a restart, until an admin invites it again.
func TestRemovedAmongPlanted(t *testing.T) {
	n := newPlantedNetwork(t)
	n.dresden.joins(t, n.planted)
	if _, err := n.admin.KickUser(t.Context(), n.space, &mautrix.ReqKickUser{UserID: n.dresden.user}); err != nil {
		t.Fatal(err)
	}
	for _, round := range []string{"removed", "restarted"} {
		rig.Eventually(t, patience, func() error {
			if room, listed := n.dresden.Own(); room != "" || listed || len(n.dresden.Windows()) > 0 {
				return fmt.Errorf("%s: own room %q, sees %v", round, room, n.dresden.Windows())
			}
			return nil
		})
		inNone(t, n.dresden.client, append([]id.RoomID{n.space, n.other}, n.planted...))
		if rooms := joinedRooms(t, n.dresden.client); !slices.Equal(rooms, []id.RoomID{n.own}) {
			t.Fatalf("%s: the bot is in %v, its room was %s", round, rooms, n.own)
		}
		if round == "removed" {
			n.dresden.stop()
			n.dresden.joins(t, n.planted)
			n.dresden.start(t)
		}
	}
	invite(t, n.mallory, n.planted[0], n.dresden.user)
	invite(t, n.admin, n.space, n.dresden.user)
	if room := n.dresden.listed(t); room != n.own {
		t.Errorf("invited again, the own room is %s, it was %s", room, n.own)
	}
}

// joins joins rooms with the window's account, which may be stopped.
func (w *window) joins(t *testing.T, rooms []id.RoomID) {
	t.Helper()
	client, err := mautrix.NewClient(w.client.HomeserverURL.String(), w.user, w.client.AccessToken)
	if err != nil {
		t.Fatal(err)
	}
	for _, room := range rooms {
		if _, err := client.JoinRoom(t.Context(), string(room), nil); err != nil {
			t.Fatal(err)
		}
	}
}

// forgetAll makes a window's database as an earlier version left it. The window must not be running.
func (w *window) forgetAll(t *testing.T) {
	t.Helper()
	db, err := migrations.OpenKiosk(t.Context(), filepath.Join(w.account.Dir, "kiosk.db"), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	for _, query := range []string{"DELETE FROM ewindow_network"} {
		if _, err := db.Exec(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestEarlierVersion: a window whose database is from an earlier version finds its network, and no planted one. In the second round no configured
// admin has made the network, and only the history of the Space says who has invited the window.
func TestEarlierVersion(t *testing.T) {
	hs := rig.StartHomeserver(t)
	admin, space := newNetwork(t, hs)
	account, _ := hs.Register(t, "second")
	second := hs.Client(t, account)
	power := readState(t, admin, space, event.StatePowerLevels, "")
	power["users"] = map[string]any{string(second.UserID): 50}
	if _, err := admin.SendStateEvent(t.Context(), space, event.StatePowerLevels, "", power); err != nil {
		t.Fatal(err)
	}
	invite(t, admin, space, second.UserID)
	if _, err := second.JoinRoom(t.Context(), string(space), nil); err != nil {
		t.Fatal(err)
	}
	dresden := newWindow(t, hs, "Dresden", second.UserID)
	dresden.start(t)
	invite(t, second, space, dresden.user)
	own := dresden.listed(t)
	malloryAccount, _ := hs.Register(t, "mallory")
	mallory := hs.Client(t, malloryAccount)
	planted := plantSpaces(t, mallory, second.UserID, 4)

	for _, admins := range [][]id.UserID{{admin.UserID, second.UserID}, {second.UserID}} {
		dresden.stop()
		dresden.joins(t, planted)
		dresden.forgetAll(t)
		dresden.cfg.Admins = admins
		dresden.start(t)
		if room := dresden.listed(t); room != own {
			t.Fatalf("the own room is %s, it was %s", room, own)
		}
		inNone(t, dresden.client, planted)
	}

	// Nobody's invitation leads here: closed.
	dresden.stop()
	dresden.forgetAll(t)
	dresden.cfg.Admins = []id.UserID{mallory.UserID + "x"}
	dresden.start(t)
	inNone(t, dresden.client, []id.RoomID{space})
	if room, listed := dresden.Own(); room != "" || listed {
		t.Fatal(errors.New("there is a network that no admin has invited the window into"))
	}
}
