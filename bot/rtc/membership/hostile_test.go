package membership

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/unstable"
)

// TestOnlyOwnKeys: a membership counts only under a key of its sender and device. Element's clients write all of the forms that count.
func TestOnlyOwnKeys(t *testing.T) {
	now := time.UnixMilli(1_793_000_000_000)
	for key, counts := range map[string]bool{
		"_@bob:two.example_BOBDEV_m.call":     true,
		"@bob:two.example_BOBDEV_m.call":      true, // in room versions with MSC3757 or MSC3779
		"_@bob:two.example_BOBDEV_m.callROOM": true, // the call's id by its name
		"_@bob:two.example_BOBDEV_m.callx":    false,
		"_@bob:two.example_OTHER_m.call":      false,
		"_@carol:one.example_BOBDEV_m.call":   false,
		"__@bob:two.example_BOBDEV_m.call":    false,
		"bob":                                 false,
		"":                                    false,
	} {
		r := world()
		r.SetState(now, hall, key, Header{"$1", bob, now.UnixMilli()}, []byte(validState))
		if got := r.Changes(now); (len(got) == 1) != counts {
			t.Errorf("%q: %+v", key, got)
		}
		if invalid, _ := r.Counts(); (invalid == 1) == counts {
			t.Errorf("%q: %d invalid", key, invalid)
		}
	}
	// The key of a sticky event is its member's id.
	r := world()
	r.SetSticky(now, hall, Header{"$1", bob, now.UnixMilli()}, time.Hour, edit(t, validSticky, `"id":"5d0c1b52"`, `"id":"another"`))
	if got := r.Changes(now); len(got) != 0 {
		t.Errorf("a sticky membership under another key: %+v", got)
	}
}

// TestOthersEndNoMembership: everybody can write under a device's key, but only its owner, the room's creator and we end the membership.
func TestOthersEndNoMembership(t *testing.T) {
	now := time.UnixMilli(1_793_000_000_000)
	forged := state("BOBDEV", unstable.FocusMultiSFU, "https://evil.example")
	for sender, ends := range map[id.UserID]bool{bob: true, alice: true, "@host:one.example": true, carol: false} {
		write := func(content []byte) []Change {
			r := world()
			r.SetUser(hall, carol, event.MembershipJoin)
			r.SetCreator(hall, "@host:one.example")
			r.SetState(now, hall, bobKey, Header{"$1", bob, now.UnixMilli()}, []byte(validState))
			membersOf(t, r, now)
			r.SetState(now, hall, bobKey, Header{"$2", sender, now.UnixMilli()}, content)
			return r.Changes(now)
		}
		for _, content := range []string{`{}`, `{"call_id":1}`, `[]`, `{"memberships":[]}`} {
			if changes := write([]byte(content)); (len(changes) == 1) != ends {
				t.Errorf("%s writes %s: %+v", sender, content, changes)
			}
		}
		if changes := write(forged); sender != bob && len(changes) != 0 {
			t.Errorf("%s writes a membership under bob's key: %+v", sender, changes)
		}
	}
	if r := world(); r.SetState(now, hall, StateKey(self), Header{"$3", bob, now.UnixMilli()}, state("OWN", unstable.FocusMultiSFU, "https://evil.example")) {
		t.Error("a membership that bob wrote is taken for ours")
	}
}

// TestNobodyIsOlderThanTheirEvent: a client says when its device came, and nobody gets a place before others by that. The time stays when the
// membership is sent again.
func TestNobodyIsOlderThanTheirEvent(t *testing.T) {
	now := time.UnixMilli(1_793_000_000_000)
	r := world()
	r.SetUser(hall, carol, event.MembershipJoin)
	r.SetState(now, hall, keyOf(carol, "C"), Header{"$1", carol, now.UnixMilli()}, state("C", unstable.FocusMultiSFU, "https://c.example"))
	claim := func(at time.Time, created int64) []Member {
		r.SetState(now, hall, bobKey, Header{"$2", bob, at.UnixMilli()},
			state("BOBDEV", unstable.FocusMultiSFU, "https://b.example", fmt.Sprintf(`,"created_ts":%d,"expires":9e15`, created)))
		r.Changes(now)
		return r.Members(hall)
	}
	if got := claim(now.Add(time.Minute), 1); len(got) != 2 || got[0].User != carol || !got[1].Created.Equal(now.Add(time.Minute)) {
		t.Fatalf("got %+v", got)
	}
	if got := claim(now.Add(time.Hour), 1); !got[1].Created.Equal(now.Add(time.Minute)) {
		t.Fatalf("sent again: %+v", got)
	}
	if got := claim(now.Add(time.Hour), 2); !got[1].Created.Equal(now.Add(time.Hour)) {
		t.Fatalf("joined again: %+v", got)
	}
}

// TestWindowKeepsItsPlace: whatever others write, and in whatever order it comes, the window that is in the call is its first member.
func TestWindowKeepsItsPlace(t *testing.T) {
	const window = id.UserID("@window:three.example")
	now := time.UnixMilli(1_793_000_000_000)
	for seed := range uint64(4) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		r := world()
		r.SetWindows([]id.UserID{window})
		r.SetUser(hall, window, event.MembershipJoin)
		var users []id.UserID
		for i := range 150 {
			users = append(users, id.UserID(fmt.Sprintf("@u%03d:two.example", i)))
			r.SetUser(hall, users[i], event.MembershipJoin)
		}
		write := func() {
			user, device := users[rnd.IntN(len(users))], fmt.Sprintf("D%03d", rnd.IntN(40))
			at := now.UnixMilli() + rnd.Int64N(10_000) - 9_000
			mine := state(device, unstable.FocusMultiSFU, "https://evil.example", fmt.Sprintf(`,"created_ts":%d,"expires":9e15`, rnd.IntN(100)))
			key := []string{keyOf(user, device), keyOf(window, "W"), keyOf(window, device)}[rnd.IntN(3)]
			switch rnd.IntN(5) {
			case 0:
				r.SetState(now, hall, key, Header{"$x", user, at}, []byte(`{}`))
			case 1:
				r.SetState(now, hall, key, Header{"$x", user, at}, state("W", unstable.FocusMultiSFU, "https://evil.example"))
			case 2:
				r.SetSticky(now, hall, Header{id.EventID(fmt.Sprint("$", rnd.Uint64())), user, at}, time.Hour, []byte(fmt.Sprintf(
					`{"slot_id":"m.call#ROOM","application":{"type":"m.call"},"member":{"user_id":%q,"device_id":%q,"id":%q},
					"transports":{"published":[],"can_subscribe":[]},"versions":[],"msc4354_sticky_key":%[3]q}`, user, device, fmt.Sprint("i", rnd.IntN(99)))))
			default:
				r.SetState(now, hall, key, Header{"$x", user, at}, mine)
			}
		}
		for range 3000 {
			write()
		}
		r.SetState(now, hall, keyOf(window, "W"), Header{"$w", window, now.UnixMilli()}, state("W", unstable.FocusMultiSFU, "https://w.example"))
		for i := range 3000 {
			write()
			if i%500 != 0 {
				continue
			}
			r.Changes(now)
			got := r.Members(hall)
			if len(got) == 0 || got[0].User != window || got[0].Device != "W" || got[0].Service != "https://w.example" || got[0].Created.Before(now) {
				t.Fatalf("seed %d, after %d: %d members, first %+v", seed, i, len(got), got[:min(len(got), 1)])
			}
			if len(got) > MaxMembers {
				t.Fatalf("%d members", len(got))
			}
		}
	}
}

// TestRefusedDevices: devices that get no key, because nobody has confirmed them or they do not exist, stand behind those that do.
func TestRefusedDevices(t *testing.T) {
	now := time.UnixMilli(1_793_000_000_000)
	r := world()
	r.SetUser(hall, carol, event.MembershipJoin)
	for i, device := range []string{"GENUINE", "X1", "X2", "X3"} {
		r.SetState(now, hall, keyOf(bob, device), Header{"$x", bob, now.UnixMilli() + int64(i)}, state(device, unstable.FocusMultiSFU, "https://b.example"))
	}
	r.SetState(now, hall, keyOf(carol, "C"), Header{"$x", carol, now.UnixMilli() + 10}, state("C", unstable.FocusMultiSFU, "https://c.example"))
	if got := names(membersOf(t, r, now)); got != "@bob:two.example:X1 @bob:two.example:X2 @bob:two.example:X3 @carol:one.example:C" {
		t.Fatalf("got %s", got)
	}
	for _, device := range []id.DeviceID{"X1", "X2", "X3"} {
		r.SetRefused(bot.Device{User: bob, ID: device}, true)
	}
	if got := names(membersOf(t, r, now)); got != "@bob:two.example:GENUINE @carol:one.example:C @bob:two.example:X2 @bob:two.example:X3" {
		t.Fatalf("got %s", got)
	}
	r.SetRefused(bot.Device{User: bob, ID: "X1"}, false)
	if got := names(membersOf(t, r, now)); got != "@bob:two.example:GENUINE @bob:two.example:X1 @carol:one.example:C @bob:two.example:X3" {
		t.Fatalf("got %s", got)
	}
	for i := range 3 * maxRefused {
		r.SetRefused(bot.Device{User: "@eve:x", ID: id.DeviceID(fmt.Sprint(i))}, true)
	}
	if len(r.refused) > maxRefused {
		t.Errorf("%d refused devices are kept", len(r.refused))
	}
	if got := r.Members(hall); slices.ContainsFunc(got, func(m Member) bool { return m.User == "@eve:x" }) {
		t.Errorf("got %+v", got)
	}
}
