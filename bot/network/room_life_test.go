//go:build full

package network_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// upgrade makes the request that Element makes for /upgraderoom.
func upgrade(t *testing.T, client *mautrix.Client, room id.RoomID, version id.RoomVersion) id.RoomID {
	t.Helper()
	var answer struct {
		Room id.RoomID `json:"replacement_room"`
	}
	_, err := client.MakeRequest(context.WithoutCancel(t.Context()), http.MethodPost, client.BuildClientURL("v3", "rooms", room, "upgrade"),
		map[string]any{"new_version": version}, &answer)
	if err != nil || answer.Room == "" {
		t.Fatalf("upgrade of %s to %q: %v", room, answer.Room, err)
	}
	return answer.Room
}

// TestUpgrades: an admin upgrades the network's Space, and then a window's account upgrades its room. All windows follow, and none is lost.
func TestUpgrades(t *testing.T) {
	hs := rig.StartHomeserver(t)
	admin, space := newNetwork(t, hs)
	dresden, munich := newWindow(t, hs, "Dresden", admin.UserID), newWindow(t, hs, "Munich", admin.UserID)
	for _, w := range []*window{dresden, munich} {
		w.start(t)
	}
	invite(t, admin, space, dresden.user, munich.user)
	first, other := dresden.listed(t), munich.listed(t)
	dresden.sees(t, "Munich=shut")
	munich.sees(t, "Dresden=shut")

	next := upgrade(t, admin, space, id.RoomV12)
	invite(t, admin, next, dresden.user, munich.user)
	moved := func(w *window, own, space id.RoomID) {
		t.Helper()
		rig.Eventually(t, patience, func() error {
			var rules event.JoinRulesEventContent
			if err := w.client.StateEvent(t.Context(), own, event.StateJoinRules, "", &rules); err != nil {
				return err
			}
			var child event.SpaceChildEventContent
			if err := w.client.StateEvent(t.Context(), space, event.StateSpaceChild, own.String(), &child); err != nil {
				return fmt.Errorf("%s is not listed in the new Space: %w", w.cfg.Name, err)
			}
			if len(child.Via) == 0 || !slices.ContainsFunc(rules.Allow, func(a event.JoinRuleAllow) bool { return a.RoomID == space }) {
				return fmt.Errorf("%s: child %+v, rules %+v", w.cfg.Name, child, rules)
			}
			return nil
		})
		if got := w.listed(t); got != own {
			t.Errorf("%s has the room %s, not %s", w.cfg.Name, got, own)
		}
	}
	moved(dresden, first, next)
	moved(munich, other, next)
	dresden.sees(t, "Munich=shut")
	dresden.SetState(directory.State{Shutter: directory.Open})
	munich.sees(t, "Dresden=open")

	// A third window joins only the new Space, and a restart finds everything again.
	dresden.stop()
	dresden.start(t)
	weimar := newWindow(t, hs, "Weimar", admin.UserID)
	weimar.start(t)
	invite(t, admin, next, weimar.user)
	weimar.listed(t)
	weimar.sees(t, "Dresden=open", "Munich=shut")
	dresden.sees(t, "Munich=shut", "Weimar=shut")
	if got := dresden.listed(t); got != first {
		t.Errorf("after the restart Dresden's room is %s, not %s", got, first)
	}

	// The account of Munich's window upgrades its room.
	second := upgrade(t, munich.client, other, id.RoomV12)
	rig.Eventually(t, patience, func() error {
		if own, listed := munich.Own(); own != second || !listed {
			return fmt.Errorf("Munich's room is %s, listed %v", own, listed)
		}
		return nil
	})
	munich.SetState(directory.State{Shutter: directory.Ajar})
	rig.Eventually(t, patience, func() error {
		for _, w := range dresden.Windows() {
			if w.Name == "Munich" && w.Room == second && w.Shutter == directory.Ajar {
				return nil
			}
		}
		return fmt.Errorf("Dresden sees %+v", dresden.Windows())
	})
	rig.Eventually(t, patience, func() error {
		if slices.Contains(joinedRooms(t, dresden.client), other) {
			return fmt.Errorf("Dresden is still in Munich's old room")
		}
		return nil
	})
}

// TestRoomNames: two windows of one name call their rooms so that people in Element can tell them apart. When one of them gets another name, the other
// one's room has its own name again.
func TestRoomNames(t *testing.T) {
	hs := rig.StartHomeserver(t)
	admin, space := newNetwork(t, hs)
	first, second := newWindow(t, hs, "Munich", admin.UserID), newWindow(t, hs, "Twin", admin.UserID)
	second.cfg.Name = "Munich"
	var mu sync.Mutex // guards what follows
	var names []string
	first.http = &http.Client{Transport: &breaker{check: func(r *http.Request, send func() (*http.Response, error)) (*http.Response, error) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/state/"+event.StateRoomName.Type) {
			var content event.RoomNameEventContent
			body, err := r.GetBody()
			if err == nil {
				err = json.NewDecoder(body).Decode(&content)
			}
			if err != nil {
				return nil, err
			}
			mu.Lock()
			names = append(names, content.Name)
			mu.Unlock()
		}
		return send()
	}}}
	called := func(w *window, want string) {
		t.Helper()
		rig.Eventually(t, patience, func() error {
			var name event.RoomNameEventContent
			own, _ := w.Own()
			err := w.client.StateEvent(t.Context(), own, event.StateRoomName, "", &name)
			return rig.Check(err == nil && name.Name == want, "a room called "+want, name.Name)
		})
	}
	first.start(t)
	second.start(t)
	invite(t, admin, space, first.user, second.user)
	called(first, "Munich ("+first.user.String()+")")
	called(second, "Munich ("+second.user.String()+")")
	first.sees(t, "Munich ("+second.user.String()+")=shut")
	second.sees(t, "Munich ("+first.user.String()+")=shut")
	second.stop()
	second.cfg.Name = "Weimar"
	second.start(t)
	called(second, "Weimar")
	called(first, "Munich")
	mu.Lock()
	defer mu.Unlock()
	// Sync may show the new room's name late, so that the window gives it once more.
	if got := slices.Compact(append([]string{"Munich"}, names...)); !slices.Equal(got, []string{"Munich", "Munich (" + first.user.String() + ")", "Munich"}) {
		t.Errorf("the room was called %q", got)
	}
}
