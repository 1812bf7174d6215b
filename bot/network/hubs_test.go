//go:build full

package network_test

import (
	"context"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/members"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// TestHub lets an admin invite a hub and a window of one homeserver, in either order. Dendrite lets only one of them into the room of another homeserver's
// window without an invitation. Both must come in, and the hub must be nobody's guest.
func TestHub(t *testing.T) {
	t.Run("window first", func(t *testing.T) { testHub(t, false) })
	t.Run("hub first", func(t *testing.T) { testHub(t, true) })
}

func testHub(t *testing.T, hubFirst bool) {
	servers := rig.StartFederation(t)
	admin, _, windows := newNetworkOfBoth(t, servers[0])
	dresden, munich := newWindow(t, servers[0], "Dresden", admin.UserID), newWindow(t, servers[1], "Munich", admin.UserID)
	user, password := servers[1].Register(t, "hub")
	hub, err := members.New(members.Config{
		HomeserverURL: servers[1].URL, Username: user.String(), Password: password, Admins: []id.UserID{admin.UserID},
		File: filepath.Join(t.TempDir(), "hub.json"), Log: zerolog.New(zerolog.NewTestWriter(t)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- hub.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	admit := func(w *window) {
		t.Helper()
		w.start(t)
		invite(t, admin, windows, w.user)
		w.listed(t)
	}
	admitHub := func() {
		t.Helper()
		invite(t, admin, windows, user)
		rig.Eventually(t, patience, func() error {
			return rig.Check(hub.IsJoined(dresden.user, dresden.listed(t)), "the hub does not see Dresden", nil)
		})
	}
	admit(dresden)
	if hubFirst {
		admitHub()
	}
	admit(munich)
	dresden.sees(t, "Munich=shut")
	munich.sees(t, "Dresden=shut")
	if !hubFirst {
		admitHub()
	}
	for _, of := range []*window{dresden, munich} {
		for _, w := range []*window{dresden, munich} {
			room := of.listed(t)
			rig.Eventually(t, patience, func() error { return rig.Check(hub.IsJoined(w.user, room), "the hub does not see "+w.cfg.Name, room) })
		}
		rig.Eventually(t, patience, func() error {
			kiosks := of.Kiosks()
			return rig.Check(slices.Contains(kiosks, user), "the hub can be a guest", kiosks)
		})
	}

	// An admin removes the hub. It may not stay anywhere.
	if _, err := admin.KickUser(t.Context(), windows, &mautrix.ReqKickUser{UserID: user}); err != nil {
		t.Fatal(err)
	}
	for _, w := range []*window{dresden, munich} {
		rig.Eventually(t, patience, func() error {
			members, err := w.client.JoinedMembers(t.Context(), w.listed(t))
			if err != nil {
				return err
			}
			_, in := members.Joined[user]
			return rig.Check(!in, "the hub is still in the room of "+w.cfg.Name, nil)
		})
	}
}
