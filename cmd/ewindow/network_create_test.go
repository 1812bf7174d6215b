//go:build full

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/newnetwork"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// TestNetworkCreate makes a network, and invites a hub later. Nobody is invited who was not named.
func TestNetworkCreate(t *testing.T) {
	hs := rig.StartHomeserver(t)
	admin, password := hs.Register(t, "anna")
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	create := func(more ...string) string {
		t.Helper()
		code, out, errs := command(t, append([]string{"network", "create", "--homeserver", hs.URL, "--username", "anna", "--password-file", file}, more...)...)
		if code != 0 {
			t.Fatalf("exit %d: %s%s", code, out, errs)
		}
		return out
	}
	out := create("--name", "Workshops")
	found := regexp.MustCompile(`(?m)^network: (\S+)$`).FindStringSubmatch(out)
	if found == nil || !strings.Contains(out, "Invite each hub's account") {
		t.Fatalf("it prints: %s", out)
	}
	hub, _ := hs.Register(t, "ewindow-hub")
	space := found[1]
	if out := create("--upgrade", space); !strings.Contains(out, "Invite each hub's account") {
		t.Errorf("it prints: %s", out)
	}
	if out := create("--upgrade", space, "--hub", hub.String()); !strings.Contains(out, hub.String()+" is invited") {
		t.Errorf("it prints: %s", out)
	}
	client := hs.Client(t, admin)
	windows, err := newnetwork.WindowsRoom(t.Context(), client, id.RoomID(space))
	if err != nil {
		t.Fatal(err)
	}
	var member event.MemberEventContent
	if err := client.StateEvent(t.Context(), windows, event.StateMember, hub.String(), &member); err != nil || member.Membership != event.MembershipInvite {
		t.Errorf("the hub's account is %q in the room of the windows, %v", member.Membership, err)
	}
	if _, err := hs.Client(t, hub).JoinRoomByID(t.Context(), windows); err != nil {
		t.Fatal(err)
	}
	if out := create("--upgrade", space, "--hub", hub.String()); strings.Contains(out, "hub") {
		t.Errorf("it prints: %s", out)
	}
}
