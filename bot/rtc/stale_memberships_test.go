package rtc

import (
	"testing"
	"testing/synctest"
	"time"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// made says who created the hall.
func (b *bench) made(by id.UserID) {
	b.m.handleEvent(stateEvent(hall, "$c", event.StateCreate, by, "", `{"room_version":"12"}`))
}

// goes lets a user leave the room.
func (b *bench) goes(user id.UserID, membership string) {
	b.m.handleEvent(stateEvent(hall, "$l", event.StateMember, user, user.String(), `{"membership":"`+membership+`"}`))
}

// TestLeftBehind: memberships of users who have left the room are emptied, but only in rooms that our account created.
func TestLeftBehind(t *testing.T) {
	for _, c := range []struct {
		by        id.UserID
		leaves    string
		back      bool
		want      string
		remaining string
	}{
		{alice, "leave", false, "empty", ""},
		{alice, "ban", false, "empty", ""},
		{alice, "leave", true, "", "@bob:two.example:BOBDEV"}, // within the grace, as when events come in another order
		{alice, "join", false, "", "@bob:two.example:BOBDEV"},
		{carol, "leave", false, "", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			b.made(c.by)
			b.bobComes()
			b.goes(bob, c.leaves)
			b.wait(staleGrace - time.Millisecond)
			b.expect("too early", b.took(), "")
			if c.back {
				b.joinRoom(bob)
			}
			b.wait(time.Hour)
			b.expect(c.leaves, b.took(), c.want)
			if c.want != "" {
				if got := b.state[bobKey]; got != "{}" {
					t.Errorf("bob's membership is %s", got)
				}
				b.joinRoom(bob) // the removed membership does not come back with the user
			}
			b.wait(time.Second)
			if got := names(b.inCall()); got != c.remaining {
				t.Errorf("by %s, %s: %q are in the call, want %q", c.by, c.leaves, got, c.remaining)
			}
		})
	}
}

// TestRemove empties the membership of a device that is not there, but only in rooms that our account created.
func TestRemove(t *testing.T) {
	for by, want := range map[id.UserID]string{alice: "empty", carol: ""} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			b.made(by)
			b.bobComes()
			b.wait(time.Second)
			members := b.inCall()
			if len(members) != 1 {
				t.Fatal(members)
			}
			b.m.Remove(hall, members[0])
			b.m.Remove("!unknown:x", members[0])
			b.wait(time.Second)
			b.expect("requests", b.took(), want)
			if got := len(b.inCall()); (got == 0) != (want != "") {
				t.Errorf("%d are in the call of %s's room", got, by)
			}
		})
	}
}
