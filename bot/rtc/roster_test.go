package rtc

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
)

var self = bot.Device{User: alice, ID: "OWN"}

// state makes a membership's content.
func state(device, selection, service string, more ...string) []byte {
	return []byte(fmt.Sprintf(`{"application":"m.call","call_id":"","device_id":%q,"focus_active":{"type":"livekit","focus_selection":%q},
		"foci_preferred":[{"type":"livekit","livekit_service_url":%q}]%s}`, device, selection, service, strings.Join(more, "")))
}

// world is a roster with one room in which alice (ourselves) and bob are.
func world() *roster {
	r := newRoster(self)
	r.setMember(hall, alice, event.MembershipJoin)
	r.setMember(hall, bob, event.MembershipJoin)
	return r
}

func membersOf(t *testing.T, r *roster, now time.Time) []Member {
	t.Helper()
	changes := r.changes(now)
	if len(changes) != 1 || changes[0].room != hall {
		t.Fatalf("got changes %+v", changes)
	}
	return changes[0].members
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
	if changes := r.changes(now); len(changes) != 0 {
		t.Fatalf("an empty call is reported: %+v", changes)
	}
	r.setState(now, hall, "k", header{"$1", bob, now.UnixMilli()}, []byte(validState))
	want := Member{
		User: bob, Device: "BOBDEV", Identity: "@bob:two.example:BOBDEV", Service: "https://rtc.two.example/jwt",
		Created: time.UnixMilli(now.UnixMilli()), Intent: "video",
	}
	if got := membersOf(t, r, now); !slices.Equal(got, []Member{want}) {
		t.Fatalf("got %+v", got)
	}
	// The same again, and a longer expiry, change nothing that anybody sees.
	r.setState(now, hall, "k", header{"$2", bob, now.UnixMilli() + 5}, edit(t, validState, `"expires":14400000`,
		fmt.Sprintf(`"expires":28800000,"created_ts":%d`, now.UnixMilli())))
	if changes := r.changes(now); len(changes) != 0 {
		t.Fatalf("got %+v", changes)
	}
	if at := r.wake(); !at.Equal(now.Add(8 * time.Hour)) {
		t.Fatalf("wakes at %v", at)
	}
	if changes := r.changes(now.Add(8*time.Hour - 1)); len(changes) != 0 {
		t.Fatalf("ended too early: %+v", changes)
	}
	if got := membersOf(t, r, now.Add(8*time.Hour)); len(got) != 0 {
		t.Fatalf("not expired: %+v", got)
	}
	if !r.wake().IsZero() {
		t.Fatal("wakes for nothing")
	}
	r.setState(now, hall, "k", header{"$3", bob, now.UnixMilli()}, []byte(validState))
	membersOf(t, r, now)
	r.setState(now, hall, "k", header{"$4", bob, now.UnixMilli()}, []byte(`{}`))
	if got := membersOf(t, r, now); len(got) != 0 {
		t.Fatalf("not left: %+v", got)
	}
}

func TestRosterSenderJoined(t *testing.T) {
	now := time.UnixMilli(1_793_000_000_000)
	r := newRoster(self)
	r.setState(now, hall, "k", header{"$1", bob, now.UnixMilli()}, []byte(validState))
	r.setMember(hall, alice, event.MembershipJoin)
	if changes := r.changes(now); len(changes) != 0 {
		t.Fatalf("bob isn't in the room: %+v", changes)
	}
	r.setMember(hall, bob, event.MembershipJoin)
	if got := membersOf(t, r, now); len(got) != 1 {
		t.Fatalf("got %+v", got)
	}
	r.setMember(hall, bob, event.MembershipBan)
	if got := membersOf(t, r, now); len(got) != 0 {
		t.Fatalf("got %+v", got)
	}
	r.setMember(hall, bob, event.MembershipJoin)
	membersOf(t, r, now)
	// Once we are outside nothing is known of the room.
	r.setMember(hall, alice, event.MembershipLeave)
	if got := membersOf(t, r, now); len(got) != 0 || len(r.rooms) != 0 {
		t.Fatalf("got %+v, rooms %v", got, r.rooms)
	}
}

// TestRosterOwnInvite: the first sync response after joining has the room's state, and then a time line with our invitation and our join.
func TestRosterOwnInvite(t *testing.T) {
	now := time.UnixMilli(1_793_000_000_000)
	for _, to := range []event.Membership{event.MembershipInvite, event.MembershipKnock} {
		r := newRoster(self)
		r.setMember(hall, bob, event.MembershipJoin)
		r.setEncrypted(hall)
		r.setState(now, hall, "k", header{"$1", bob, now.UnixMilli()}, []byte(validState))
		r.setMember(hall, alice, to)
		r.setMember(hall, alice, event.MembershipJoin)
		if got := membersOf(t, r, now); names(got) != "@bob:two.example:BOBDEV" || !r.rooms[hall].encrypted {
			t.Fatalf("after %s: %+v", to, got)
		}
		// Once more, as state and time line may both tell it.
		r.setMember(hall, alice, to)
		if changes := r.changes(now); len(changes) != 0 || !r.inside(hall) {
			t.Fatalf("after %s: %+v", to, changes)
		}
		r.setMember(hall, alice, event.MembershipBan)
		if got := membersOf(t, r, now); len(got) != 0 || r.inside(hall) {
			t.Fatalf("got %+v", got)
		}
	}
}

func TestRosterOneMemberForEachDevice(t *testing.T) {
	now := time.UnixMilli(1_793_000_000_000)
	r := world()
	r.setState(now, hall, "a", header{"$1", bob, 1000}, state("BOBDEV", selectMulti, "https://a.example", `,"expires":9e15`))
	r.setSticky(now, hall, header{"$2", bob, now.UnixMilli()}, time.Hour, []byte(validSticky))
	got := membersOf(t, r, now)
	if len(got) != 1 || !got[0].Sticky {
		t.Fatalf("got %+v", got)
	}
	// The slot is closed: the sticky form doesn't count, the other does.
	r.setSlot(hall, []byte(`{}`))
	if got := membersOf(t, r, now); len(got) != 1 || got[0].Sticky {
		t.Fatalf("got %+v", got)
	}
	r.setSlot(hall, []byte(`{"status":"open"}`))
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
	r.setSticky(now, hall, header{"$1", bob, ts}, time.Hour, []byte(validSticky))
	if got := membersOf(t, r, now); len(got) != 1 || got[0].Identity != hashedIdentity(bob, "BOBDEV", "5d0c1b52") {
		t.Fatalf("got %+v", got)
	}
	if at := r.wake(); !at.Equal(now.Add(time.Hour)) {
		t.Fatalf("lives until %v", at)
	}
	r.setSticky(now, hall, header{"$0", bob, ts - 1}, time.Hour, leave) // older
	r.setSticky(now, hall, header{"$0", bob, ts}, time.Hour, leave)     // as old, smaller id
	if changes := r.changes(now); len(changes) != 0 {
		t.Fatalf("got %+v", changes)
	}
	r.setSticky(now, hall, header{"$2", bob, ts}, time.Hour, leave)
	if got := membersOf(t, r, now); len(got) != 0 {
		t.Fatalf("got %+v", got)
	}
	r.setSticky(now, hall, header{"$1", bob, ts}, time.Hour, []byte(validSticky)) // late
	if changes := r.changes(now); len(changes) != 0 {
		t.Fatalf("a device that has left came back: %+v", changes)
	}
	r.setSticky(now, hall, header{"$4", carol, ts}, time.Hour, []byte(validSticky)) // not the sender
	if changes := r.changes(now); len(changes) != 0 || r.invalid != 1 {
		t.Fatalf("got %+v, %d invalid", changes, r.invalid)
	}
}

func TestRosterServices(t *testing.T) {
	now := time.UnixMilli(1_793_000_000_000)
	r := world()
	r.setMember(hall, carol, event.MembershipJoin)
	set := func(key string, user id.UserID, ts int64, content []byte) {
		r.setState(now, hall, key, header{"$x", user, now.UnixMilli() + ts}, content)
	}
	set("b", bob, 2, state("B", selectOldest, "https://b.example"))
	set("c", carol, 1, state("C", selectMulti, "https://c.example"))
	got := membersOf(t, r, now)
	if names(got) != "@carol:one.example:C @bob:two.example:B" || got[0].Service != "https://c.example" || got[1].Service != "https://c.example" {
		t.Fatalf("got %+v", got)
	}
	// We are the oldest: bob publishes where we do.
	set(stateKey(self), alice, 0, state("OWN", selectMulti, "https://own.example"))
	if got := membersOf(t, r, now); got[1].Service != "https://own.example" || len(got) != 2 {
		t.Fatalf("got %+v", got)
	}
	set("b", bob, 2, state("B", "newest", "https://b.example"))
	if got := membersOf(t, r, now); got[1].Service != "" {
		t.Fatalf("got %+v", got)
	}
	// Another device of our own user is a member like any other.
	set("o", alice, 3, state("OTHER", selectMulti, "https://own.example"))
	if got := membersOf(t, r, now); names(got) != "@carol:one.example:C @bob:two.example:B @alice:one.example:OTHER" {
		t.Fatalf("got %+v", got)
	}
	if keys := r.own(now, hall); !slices.Equal(keys, []string{stateKey(self)}) {
		t.Fatalf("own keys %q", keys)
	}
}

func TestRosterCaps(t *testing.T) {
	now := time.UnixMilli(1_793_000_000_000)
	r := world()
	for i := range 100 {
		device := fmt.Sprintf("D%03d", i)
		r.setState(now, hall, device, header{"$x", bob, now.UnixMilli()}, state(device, selectMulti, "https://b.example"))
	}
	if got := membersOf(t, r, now); len(got) != maxUserEntry || r.dropped != 100-maxUserEntry {
		t.Fatalf("%d members, %d dropped", len(got), r.dropped)
	}
	for i := range 200 {
		user := id.UserID(fmt.Sprintf("@u%03d:two.example", i))
		r.setMember(hall, user, event.MembershipJoin)
		r.setState(now, hall, user.String(), header{"$x", user, now.UnixMilli()}, state("D", selectMulti, "https://b.example"))
	}
	if got := membersOf(t, r, now); len(got) != maxMembers {
		t.Fatalf("%d members", len(got))
	}
	// A clock that is years ahead keeps a member for its expiry and an hour, not for years.
	r.setState(now, hall, "f", header{"$x", bob, maxInteger}, state("D000", selectMulti, "https://b.example"))
	for _, rm := range r.rooms {
		for _, m := range rm.states {
			if m.expires.After(now.Add(6 * time.Hour)) {
				t.Fatalf("lives until %v", m.expires)
			}
		}
	}
}
