package membership

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/rtc/transport"
	"multifactorymodel.org/ewindow/bot/strictjson"
	"multifactorymodel.org/ewindow/bot/unstable"
)

var self = bot.Device{User: alice, ID: "OWN"}

var bobKey = keyOf(bob, "BOBDEV")

// keyOf is the state key of a device's membership.
func keyOf(user id.UserID, device string) string {
	return StateKey(bot.Device{User: user, ID: id.DeviceID(device)})
}

// state makes a membership's content.
func state(device, selection, service string, more ...string) []byte {
	return []byte(fmt.Sprintf(`{"application":"m.call","call_id":"","device_id":%q,"focus_active":{"type":"livekit","focus_selection":%q},
		"foci_preferred":[{"type":"livekit","livekit_service_url":%q}]%s}`, device, selection, service, strings.Join(more, "")))
}

// world is a roster with one room in which alice (ourselves) and bob are.
func world() *Roster {
	r := NewRoster(self)
	r.SetUser(hall, alice, event.MembershipJoin)
	r.SetUser(hall, bob, event.MembershipJoin)
	return r
}

func membersOf(t *testing.T, r *Roster, now time.Time) []Member {
	t.Helper()
	changes := r.Changes(now)
	if len(changes) != 1 || changes[0].Room != hall {
		t.Fatalf("got changes %+v", changes)
	}
	return changes[0].Members
}

func names(members []Member) string {
	var list []string
	for _, m := range members {
		list = append(list, m.Identity)
	}
	return strings.Join(list, " ")
}

func TestRosterComesAndGoes(t *testing.T) {
	now := time.UnixMilli(1_793_000_000_000)
	r := world()
	if changes := r.Changes(now); len(changes) != 0 {
		t.Fatalf("an empty call is reported: %+v", changes)
	}
	r.SetState(now, hall, bobKey, Header{"$1", bob, now.UnixMilli()}, []byte(validState))
	want := Member{
		User: bob, Device: "BOBDEV", Identity: "@bob:two.example:BOBDEV", Service: "https://rtc.two.example/jwt",
		Alias:   transport.HashedIdentity(bob, "BOBDEV", "@bob:two.example:BOBDEV"),
		Created: time.UnixMilli(now.UnixMilli()), Intent: "video",
	}
	if got := membersOf(t, r, now); !slices.Equal(got, []Member{want}) {
		t.Fatalf("got %+v", got)
	}
	// The same content again with a longer expiry is not a change.
	r.SetState(now, hall, bobKey, Header{"$2", bob, now.UnixMilli() + 5}, edit(t, validState, `"expires":14400000`,
		fmt.Sprintf(`"expires":28800000,"created_ts":%d`, now.UnixMilli())))
	if changes := r.Changes(now); len(changes) != 0 {
		t.Fatalf("got %+v", changes)
	}
	if at := r.Wake(); !at.Equal(now.Add(8 * time.Hour)) {
		t.Fatalf("wakes at %v", at)
	}
	if changes := r.Changes(now.Add(8*time.Hour - 1)); len(changes) != 0 {
		t.Fatalf("ended too early: %+v", changes)
	}
	if got := membersOf(t, r, now.Add(8*time.Hour)); len(got) != 0 {
		t.Fatalf("not expired: %+v", got)
	}
	if !r.Wake().IsZero() {
		t.Fatal("wakes for nothing")
	}
	r.SetState(now, hall, bobKey, Header{"$3", bob, now.UnixMilli()}, []byte(validState))
	membersOf(t, r, now)
	r.SetState(now, hall, bobKey, Header{"$4", bob, now.UnixMilli()}, []byte(`{}`))
	if got := membersOf(t, r, now); len(got) != 0 {
		t.Fatalf("not left: %+v", got)
	}
}

// TestRosterEnded: whose membership was ended in its own name is reported, if it is a window, until it comes again or leaves the room.
func TestRosterEnded(t *testing.T) {
	now := time.UnixMilli(1_793_000_000_000)
	ended := func(window bool, sender id.UserID, then func(r *Roster)) (list []bot.Device) {
		r := world()
		if window {
			r.SetWindows([]id.UserID{bob})
		}
		r.SetCreator(hall, carol)
		r.SetState(now, hall, bobKey, Header{"$1", bob, now.UnixMilli()}, []byte(validState))
		r.Changes(now)
		r.SetState(now, hall, bobKey, Header{"$2", sender, now.UnixMilli()}, []byte(`{}`))
		changes := r.Changes(now)
		if then != nil {
			then(r)
			changes = r.Changes(now)
		}
		if len(changes) != 1 {
			t.Fatalf("got changes %+v", changes)
		}
		return changes[0].Ended
	}
	bobDevice := bot.Device{User: bob, ID: "BOBDEV"}
	if got := ended(true, bob, nil); !slices.Equal(got, []bot.Device{bobDevice}) {
		t.Errorf("a window: %v", got)
	}
	for name, got := range map[string][]bot.Device{
		"a person":      ended(false, bob, nil),
		"by others":     ended(true, carol, nil),
		"by ourselves":  ended(true, alice, nil),
		"left the room": ended(true, bob, func(r *Roster) { r.SetUser(hall, bob, event.MembershipLeave) }),
		"came again": ended(true, bob, func(r *Roster) {
			r.SetState(now, hall, bobKey, Header{"$3", bob, now.UnixMilli() + 1}, []byte(validState))
		}),
	} {
		if len(got) != 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestRosterSenderJoined(t *testing.T) {
	now := time.UnixMilli(1_793_000_000_000)
	r := NewRoster(self)
	r.SetState(now, hall, bobKey, Header{"$1", bob, now.UnixMilli()}, []byte(validState))
	r.SetUser(hall, alice, event.MembershipJoin)
	if changes := r.Changes(now); len(changes) != 0 {
		t.Fatalf("bob isn't in the room: %+v", changes)
	}
	r.SetUser(hall, bob, event.MembershipJoin)
	if got := membersOf(t, r, now); len(got) != 1 {
		t.Fatalf("got %+v", got)
	}
	r.SetUser(hall, bob, event.MembershipBan)
	if got := membersOf(t, r, now); len(got) != 0 {
		t.Fatalf("got %+v", got)
	}
	r.SetUser(hall, bob, event.MembershipJoin)
	membersOf(t, r, now)
	// When we have left the room, nothing is known of it.
	r.SetUser(hall, alice, event.MembershipLeave)
	if got := membersOf(t, r, now); len(got) != 0 || len(r.rooms) != 0 {
		t.Fatalf("got %+v, rooms %v", got, r.rooms)
	}
}

// TestRosterOwnInvite: the first sync response after joining has the room's state, and then a timeline with our invitation and our join.
func TestRosterOwnInvite(t *testing.T) {
	now := time.UnixMilli(1_793_000_000_000)
	for _, to := range []event.Membership{event.MembershipInvite, event.MembershipKnock} {
		r := NewRoster(self)
		r.SetUser(hall, bob, event.MembershipJoin)
		r.SetEncrypted(hall)
		r.SetState(now, hall, bobKey, Header{"$1", bob, now.UnixMilli()}, []byte(validState))
		r.SetUser(hall, alice, to)
		r.SetUser(hall, alice, event.MembershipJoin)
		if got := membersOf(t, r, now); names(got) != "@bob:two.example:BOBDEV" || !r.rooms[hall].encrypted {
			t.Fatalf("after %s: %+v", to, got)
		}
		// Once more, since state and timeline may both have it.
		r.SetUser(hall, alice, to)
		if changes := r.Changes(now); len(changes) != 0 || !r.Inside(hall) {
			t.Fatalf("after %s: %+v", to, changes)
		}
		r.SetUser(hall, alice, event.MembershipBan)
		if got := membersOf(t, r, now); len(got) != 0 || r.Inside(hall) {
			t.Fatalf("got %+v", got)
		}
	}
}

func TestRosterOneMemberForEachDevice(t *testing.T) {
	now := time.UnixMilli(1_793_000_000_000)
	r := world()
	r.SetState(now, hall, bobKey, Header{"$1", bob, 1000}, state("BOBDEV", unstable.FocusMultiSFU, "https://a.example", `,"expires":9e15`))
	r.SetSticky(now, hall, Header{"$2", bob, now.UnixMilli()}, time.Hour, []byte(validSticky))
	got := membersOf(t, r, now)
	if len(got) != 1 || !got[0].Sticky {
		t.Fatalf("got %+v", got)
	}
	// The slot is closed: the sticky membership does not count, the state event does.
	r.SetSlot(hall, []byte(`{}`))
	if got := membersOf(t, r, now); len(got) != 1 || got[0].Sticky {
		t.Fatalf("got %+v", got)
	}
	r.SetSlot(hall, []byte(`{"status":"open"}`))
	membersOf(t, r, now)
	if got := membersOf(t, r, now.Add(time.Hour)); len(got) != 1 || got[0].Sticky {
		t.Fatalf("the sticky event has not ended: %+v", got)
	}
}

func TestRosterSticky(t *testing.T) {
	now := time.UnixMilli(1_793_000_000_000)
	ts := now.UnixMilli()
	leave := []byte(`{"slot_id":"m.call#ROOM","msc4354_sticky_key":"5d0c1b52"}`)
	r := world()
	r.SetSticky(now, hall, Header{"$1", bob, ts}, time.Hour, []byte(validSticky))
	if got := membersOf(t, r, now); len(got) != 1 || got[0].Identity != transport.HashedIdentity(bob, "BOBDEV", "5d0c1b52") {
		t.Fatalf("got %+v", got)
	}
	if at := r.Wake(); !at.Equal(now.Add(time.Hour)) {
		t.Fatalf("lives until %v", at)
	}
	r.SetSticky(now, hall, Header{"$0", bob, ts - 1}, time.Hour, leave) // older
	r.SetSticky(now, hall, Header{"$0", bob, ts}, time.Hour, leave)     // as old, smaller id
	if changes := r.Changes(now); len(changes) != 0 {
		t.Fatalf("got %+v", changes)
	}
	r.SetSticky(now, hall, Header{"$2", bob, ts}, time.Hour, leave)
	if got := membersOf(t, r, now); len(got) != 0 {
		t.Fatalf("got %+v", got)
	}
	r.SetSticky(now, hall, Header{"$1", bob, ts}, time.Hour, []byte(validSticky)) // late
	if changes := r.Changes(now); len(changes) != 0 {
		t.Fatalf("a device that has left came back: %+v", changes)
	}
	r.SetSticky(now, hall, Header{"$4", carol, ts}, time.Hour, []byte(validSticky)) // not the sender
	if changes := r.Changes(now); len(changes) != 0 || r.invalid != 1 {
		t.Fatalf("got %+v, %d invalid", changes, r.invalid)
	}
}

func TestRosterServices(t *testing.T) {
	now := time.UnixMilli(1_793_000_000_000)
	r := world()
	r.SetUser(hall, carol, event.MembershipJoin)
	set := func(device string, user id.UserID, ts int64, content []byte) {
		r.SetState(now, hall, keyOf(user, device), Header{"$x", user, now.UnixMilli() + ts}, content)
	}
	set("B", bob, 2, state("B", unstable.FocusOldestMember, "https://b.example"))
	set("C", carol, 1, state("C", unstable.FocusMultiSFU, "https://c.example"))
	got := membersOf(t, r, now)
	if names(got) != "@carol:one.example:C @bob:two.example:B" || got[0].Service != "https://c.example" || got[1].Service != "https://c.example" {
		t.Fatalf("got %+v", got)
	}
	// We have been in the call longest: bob publishes where we do.
	set("OWN", alice, 0, state("OWN", unstable.FocusMultiSFU, "https://own.example"))
	if got := membersOf(t, r, now); got[1].Service != "https://own.example" || len(got) != 2 {
		t.Fatalf("got %+v", got)
	}
	set("B", bob, 2, state("B", "newest", "https://b.example"))
	if got := membersOf(t, r, now); got[1].Service != "" {
		t.Fatalf("got %+v", got)
	}
	// Another device of our own user is a member like any other.
	set("OTHER", alice, 3, state("OTHER", unstable.FocusMultiSFU, "https://own.example"))
	if got := membersOf(t, r, now); names(got) != "@carol:one.example:C @bob:two.example:B @alice:one.example:OTHER" {
		t.Fatalf("got %+v", got)
	}
	if keys := r.Own(now, hall); !slices.Equal(keys, []string{StateKey(self)}) {
		t.Fatalf("own keys %q", keys)
	}
}

func TestRosterCaps(t *testing.T) {
	now := time.UnixMilli(1_793_000_000_000)
	r := world()
	for i := range 100 {
		device := fmt.Sprintf("D%03d", i)
		r.SetState(now, hall, keyOf(bob, device), Header{"$x", bob, now.UnixMilli()}, state(device, unstable.FocusMultiSFU, "https://b.example"))
	}
	if r.dropped != 100-maxUserEntry {
		t.Fatalf("%d dropped", r.dropped)
	}
	if got := membersOf(t, r, now); len(got) != maxDevices {
		t.Fatalf("%d members", len(got))
	}
	for i := range 200 {
		user := id.UserID(fmt.Sprintf("@u%03d:two.example", i))
		r.SetUser(hall, user, event.MembershipJoin)
		r.SetState(now, hall, keyOf(user, "D"), Header{"$x", user, now.UnixMilli()}, state("D", unstable.FocusMultiSFU, "https://b.example"))
	}
	if got := membersOf(t, r, now); len(got) != MaxMembers {
		t.Fatalf("%d members", len(got))
	}
	// A clock that is years ahead keeps a member for its expiry and one hour, not for years.
	r.SetState(now, hall, keyOf(bob, "D000"), Header{"$x", bob, strictjson.MaxInteger}, state("D000", unstable.FocusMultiSFU, "https://b.example"))
	for _, rm := range r.rooms {
		for _, m := range rm.states {
			if m.expires.After(now.Add(6 * time.Hour)) {
				t.Fatalf("lives until %v", m.expires)
			}
		}
	}
}

// TestInventedDevices lets users invent devices that have been in the call for ever. They do not take the places of others, and a user's newest
// devices count.
func TestInventedDevices(t *testing.T) {
	now := time.UnixMilli(1_793_000_000_000)
	r := world()
	for i := range 10 {
		user := id.UserID(fmt.Sprintf("@u%03d:two.example", i))
		r.SetUser(hall, user, event.MembershipJoin)
		for n := range maxUserEntry {
			device := fmt.Sprintf("D%03d", n)
			r.SetState(now, hall, keyOf(user, device), Header{"$x", user, now.UnixMilli() - 3_600_000 + int64(n)}, state(device, unstable.FocusMultiSFU, "https://b.example"))
		}
	}
	r.SetUser(hall, carol, event.MembershipJoin)
	r.SetState(now, hall, keyOf(carol, "C"), Header{"$x", carol, now.UnixMilli()}, state("C", unstable.FocusMultiSFU, "https://c.example"))
	got := membersOf(t, r, now)
	if len(got) != 10*maxDevices+1 || got[len(got)-1].User != carol {
		t.Fatalf("%d members: %s", len(got), names(got))
	}
	for _, m := range got[:len(got)-1] {
		if m.Device < id.DeviceID(fmt.Sprintf("D%03d", maxUserEntry-maxDevices)) {
			t.Errorf("the old device %s is in the call", m.Device)
		}
	}
}
