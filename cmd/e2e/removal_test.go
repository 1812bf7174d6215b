//go:build full

package e2e_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/newnetwork"
	"multifactorymodel.org/ewindow/callmedia/sfu"
	"multifactorymodel.org/ewindow/cmd/e2e/page"
)

// TestRemovedWindow removes a window from the network in the middle of a visit. It loses everything, and its screen says so. The test prints how long
// each thing took.
func TestRemovedWindow(t *testing.T) {
	t.Parallel()
	n := startDemo(t, t.TempDir())
	n.await("know each other", time.Minute)
	pages := n.startPages()
	pages[0].Command(t, "open")
	pages[0].Await(t, time.Minute, "the open window", func(r page.Report) bool { return r.Screen == "alone" })
	pages[1].Command(t, "open")
	for _, p := range pages {
		p.Await(t, time.Minute, "the visit", func(r page.Report) bool { return r.Screen == "visit" && r.Pictures > 60 })
	}

	// The admin sees from Munich's room who is at the SFU.
	admin, removed := n.admin(), n.login(1, n.Windows[1].Username, n.Windows[1].Password)
	munich := n.windowRooms()[1]
	var present atomic.Int64 // devices of the removed account at the SFU
	var reading sync.WaitGroup
	t.Cleanup(reading.Wait) // when the connection has been closed
	observer := n.joinAsMember(admin, munich)
	reading.Go(func() {
		for e := range observer.Events() {
			switch e := e.(type) {
			case sfu.ParticipantJoined:
				if strings.HasPrefix(e.Identity, removed.UserID.String()+":") {
					present.Add(1)
				}
			case sfu.ParticipantLeft:
				if strings.HasPrefix(e.Identity, removed.UserID.String()+":") {
					present.Add(-1)
				}
			}
		}
	})
	relay := func() int { return n.askForRelay(1, removed) }
	// The window has shown its device's key at Munich's hub, so its OpenID token alone is good for nothing there. The answer says why.
	why := func() string {
		t.Helper()
		_, answer := n.askForToken(0, removed, munich)
		return answer.ErrCode + " " + answer.Error
	}
	// Homeservers limit such requests, so they are made twice a second.
	eventually := func(what string, f func() (state any, is bool)) {
		t.Helper()
		deadline := time.After(time.Minute)
		for {
			state, is := f()
			if is {
				return
			}
			select {
			case <-deadline:
				t.Fatalf("not within a minute: %s; last: %v", what, state)
			case <-time.After(500 * time.Millisecond):
			}
		}
	}
	const unsigned, outside = "M_FORBIDDEN This user gets tokens through", "M_FORBIDDEN You are not in this room"
	eventually("the window's presence at the SFU, its relay, and why it gets no token", func() (any, bool) {
		got := fmt.Sprintf("%d %d %s", present.Load(), relay(), why())
		return got, strings.HasPrefix(got, "1 200 "+unsigned)
	})

	windows, err := newnetwork.WindowsRoom(t.Context(), admin, id.RoomID(n.Space))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.KickUser(t.Context(), windows, &mautrix.ReqKickUser{UserID: removed.UserID}); err != nil {
		t.Fatal(err)
	}
	removal := time.Now()
	waiting := map[string]func() bool{
		"no visit":                   func() bool { r := pages[0].Report(); return r.Screen == "alone" && len(r.Joined) == 0 },
		"the removed screen says so": func() bool { return pages[1].Report().Fault == "network_removed" },
		"no connection to the SFU":   func() bool { return present.Load() == 0 },
		"no token":                   func() bool { return strings.HasPrefix(why(), outside) },
		"no relay":                   func() bool { return relay() == http.StatusForbidden },
		"not in the network's rooms": func() bool { return !n.isIn(removed, munich) && !n.isIn(removed, n.Space) },
	}
	eventually("the end of everything", func() (any, bool) {
		for what, is := range waiting {
			// The hub waits three seconds for somebody who may be joining, so the token is looked at last.
			if (what != "no token" || len(waiting) == 1) && is() {
				t.Logf("%s: %.1f s after the removal", what, time.Since(removal).Seconds())
				delete(waiting, what)
			}
		}
		return slices.Sorted(maps.Keys(waiting)), len(waiting) == 0
	})
	sent := pages[0].Report().Sent
	if _, err := removed.JoinRoom(t.Context(), munich, nil); err == nil {
		t.Error("the removed account joins the window's room again")
	}
	if again := pages[0].Report().Sent; again != sent {
		t.Errorf("Munich has sent %d pictures after the removal", again-sent)
	}
}

// isIn says whether an account is in a room.
func (n *demoNetwork) isIn(client *mautrix.Client, room string) bool {
	n.t.Helper()
	rooms, err := client.JoinedRooms(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	return slices.Contains(rooms.JoinedRooms, id.RoomID(room))
}
