package newnetwork_test

import (
	"errors"
	"net/http"
	"slices"
	"testing"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/networkstate"
	"multifactorymodel.org/ewindow/bot/newnetwork"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// budget lets a number of requests through. All others fail, as if the line had gone.
type budget struct{ left int }

func (b *budget) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.left--; b.left < 0 {
		return nil, errors.New("the line is gone")
	}
	return http.DefaultTransport.RoundTrip(r)
}

// TestInterrupted ends the upgrade of a network after each of its requests. The next try goes on from there: who was a window before is invited,
// once, and who announces a window in the meantime is not.
func TestInterrupted(t *testing.T) {
	hs := rig.StartHomeserver(t)
	register := func(name string) *mautrix.Client {
		user, _ := hs.Register(t, name)
		return hs.Client(t, user)
	}
	admin, kiosk, member := register("admin"), register("kiosk"), register("member")
	announce := func(who *mautrix.Client, space id.RoomID) {
		t.Helper()
		_, err := who.SendStateEvent(t.Context(), space, networkstate.TypeRoom, who.UserID.String(), map[string]any{"room": "!window:" + hs.ServerName, "via": []string{hs.ServerName}})
		if err != nil {
			t.Fatal(err)
		}
	}
	for requests := 0; ; requests++ {
		space, err := newnetwork.Create(t.Context(), admin, newnetwork.Options{Name: "Network", Windows: []id.UserID{kiosk.UserID, member.UserID}})
		if err != nil {
			t.Fatal(err)
		}
		for _, who := range []*mautrix.Client{kiosk, member} {
			if _, err := who.JoinRoomByID(t.Context(), space); err != nil {
				t.Fatal(err)
			}
		}
		announce(kiosk, space)
		line := &http.Client{Transport: &budget{left: requests}}
		broken := hs.Client(t, admin.UserID)
		broken.Client, broken.DefaultHTTPRetries = line, 0
		_, _, failed := newnetwork.AddWindowsRoom(t.Context(), broken, space)
		before, err := newnetwork.WindowsRoom(t.Context(), admin, space)
		if err != nil {
			t.Fatal(err)
		}
		if before != "" {
			announce(member, space)
		}
		invited, added, err := newnetwork.AddWindowsRoom(t.Context(), admin, space)
		if err != nil {
			t.Fatalf("after %d requests: %v", requests, err)
		}
		windows, err := newnetwork.WindowsRoom(t.Context(), admin, space)
		if err != nil || windows == "" || before != "" && windows != before {
			t.Fatalf("after %d requests: the room of the windows is %q, it was %q: %v", requests, windows, before, err)
		}
		if failed != nil && added && !slices.Equal(invited, []id.UserID{kiosk.UserID}) {
			t.Errorf("after %d requests: invited are %v", requests, invited)
		}
		state, err := admin.State(t.Context(), windows)
		if err != nil {
			t.Fatal(err)
		}
		if e := state[event.StateMember][kiosk.UserID.String()]; e == nil || e.Content.AsMember().Membership != event.MembershipInvite {
			t.Errorf("after %d requests: the kiosk is not invited", requests)
		}
		if state[event.StateMember][member.UserID.String()] != nil {
			t.Errorf("after %d requests: somebody who announced a window later is invited", requests)
		}
		bound := networkstate.ParseNetwork(state[networkstate.TypeNetwork][""].Content.VeryRaw)
		if bound.Space != space || len(bound.Pending) > 0 {
			t.Errorf("after %d requests: the room of the windows says %+v", requests, bound)
		}
		var child event.SpaceChildEventContent
		if err := admin.StateEvent(t.Context(), space, event.StateSpaceChild, windows.String(), &child); err != nil || len(child.Via) == 0 {
			t.Errorf("after %d requests: the Space does not list it: %v", requests, err)
		}
		if failed == nil {
			if requests < 9 || added {
				t.Errorf("the upgrade takes %d requests; one more did something: %t", requests, added)
			}
			return
		}
	}
}

// TestSecondAdmin: an admin who is not in the room of the windows, which another one has made, can look whether something is missing. An id that is not the
// Space's changes nothing.
func TestSecondAdmin(t *testing.T) {
	hs := rig.StartHomeserver(t)
	register := func(name string) *mautrix.Client {
		user, _ := hs.Register(t, name)
		return hs.Client(t, user)
	}
	first, second := register("first"), register("second")
	space, err := newnetwork.Create(t.Context(), first, newnetwork.Options{Name: "Network", Admins: []id.UserID{second.UserID}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.JoinRoomByID(t.Context(), space); err != nil {
		t.Fatal(err)
	}
	if _, added, err := newnetwork.AddWindowsRoom(t.Context(), first, space); err != nil || !added {
		t.Fatalf("added: %t %v", added, err)
	}
	for _, admin := range []*mautrix.Client{first, second} {
		if _, added, err := newnetwork.AddWindowsRoom(t.Context(), admin, space); err != nil || added {
			t.Errorf("%s: added once more: %t %v", admin.UserID, added, err)
		}
	}
	windows, err := newnetwork.WindowsRoom(t.Context(), first, space)
	if err != nil {
		t.Fatal(err)
	}
	if changed, err := newnetwork.Upgrade(t.Context(), first, windows); err == nil || changed {
		t.Errorf("the room of the windows is upgraded: %t %v", changed, err)
	}
	if _, _, err := newnetwork.AddWindowsRoom(t.Context(), first, windows); err == nil {
		t.Error("the room of the windows gets a room for its windows")
	}
}
