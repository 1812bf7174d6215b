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
