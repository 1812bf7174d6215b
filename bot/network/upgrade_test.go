package network

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/networkstate"
)

const (
	newSpace = id.RoomID("!newspace:a")
	newOwn   = id.RoomID("!newdresden:a")
)

func tombstone(room id.RoomID, by id.UserID, next id.RoomID) *event.Event {
	return stateEvent(room, by, event.StateTombstone, "", fmt.Sprintf(`{"body":"upgraded","replacement_room":%q}`, next))
}

func successorCreate(room id.RoomID, by id.UserID, kind string, previous id.RoomID) *event.Event {
	return stateEvent(room, by, event.StateCreate, "", fmt.Sprintf(`{%s"room_version":"12","predecessor":{"room_id":%q,"event_id":"$x"}}`, kind, previous))
}

// TestSpaceUpgraded upgrades a network's Space on a homeserver that copies none of our state events.
func TestSpaceUpgraded(t *testing.T) {
	m := newTestModel()
	look := func(what string, wantSpace id.RoomID) {
		t.Helper()
		m.forget()
		m.chooseSpace()
		own, isListed := m.own()
		join, leave, _ := m.movements(time.Now())
		if m.space != wantSpace || own != ownRoom || !isListed || listed(m) != string(peerRoom) || len(join)+len(leave) > 0 {
			t.Fatalf("%s: Space %s, own room %s, listed %v, others %s, would join %v and leave %v", what, m.space, own, isListed, listed(m), join, leave)
		}
	}
	m.apply(tombstone(space, admin, newSpace))
	look("not invited yet", space)
	if got := m.unjoinedSuccessor(); got != newSpace {
		t.Fatalf("waits for %q", got)
	}
	m.apply(successorCreate(newSpace, admin, `"type":"m.space",`, space))
	m.apply(member(newSpace, admin, event.MembershipJoin))
	m.apply(member(newSpace, self, event.MembershipJoin))
	look("Munich isn't invited yet, and no room is listed there", newSpace)
	m.apply(member(newSpace, munich, event.MembershipInvite))
	look("Munich is invited", newSpace)
	m.apply(stateEvent(newSpace, admin, event.StateSpaceChild, string(peerRoom), `{"via":["b"]}`))
	look("the homeserver listed Munich's room in the admin's name", newSpace)
	if m.unjoinedSuccessor() != "" || m.admin(munich) {
		t.Fatal("still waits, or has made Munich an admin")
	}
	m.apply(stateEvent(newSpace, self, networkstate.TypeRoom, string(self), `{"room":"!dresden:a","via":["a"]}`))
	look("our room is listed there", newSpace)
	m.apply(member(newSpace, munich, event.MembershipJoin))
	m.apply(stateEvent(newSpace, munich, networkstate.TypeRoom, string(munich), `{"room":"!munich:b","via":["b"]}`))
	look("and Munich's", newSpace)
	m.apply(stateEvent(ownRoom, self, event.StateJoinRules, "",
		`{"join_rule":"restricted","allow":[{"type":"m.room_membership","room_id":"!newspace:a"}]}`))
	look("our room lets its members in", newSpace)

	// After a restart everything is found again, in whatever order the events come.
	m.space = ""
	look("after a restart", newSpace)

	// The same holds after a second upgrade, even if nobody is invited there yet.
	third := id.RoomID("!thirdspace:a")
	m.apply(tombstone(newSpace, admin, third))
	m.apply(successorCreate(third, admin, `"type":"m.space",`, newSpace))
	m.apply(member(third, self, event.MembershipJoin))
	look("the second upgrade", third)
	if got := m.removedUsers(m.rooms[ownRoom]); len(got) > 0 {
		t.Fatalf("would remove %v", got)
	}
	m.space = ""
	look("after a second restart", third)

	// A user who is removed from the new Space is out of the network.
	m.apply(member(third, munich, event.MembershipLeave))
	m.chooseSpace()
	if _, leave, _ := m.movements(time.Now()); listed(m) != "" || rooms(leave) != string(peerRoom) {
		t.Fatalf("others %s, would leave %v", listed(m), leave)
	}
	if got := m.removedUsers(m.rooms[ownRoom]); len(got) != 1 || got[0] != munich {
		t.Fatalf("would remove %v", got)
	}
	// So are we. The rooms before the upgrade do not become the network again.
	m.apply(member(third, self, event.MembershipLeave))
	m.forget()
	m.chooseSpace()
	if own, isListed := m.own(); m.space != "" || own != "" || isListed || !m.admission.Member {
		t.Fatalf("removed from the third, the Space is %q, own room %q, admission %+v", m.space, own, m.admission)
	}
	if _, leave, _ := m.movements(time.Now()); rooms(leave) != "!munich:b !newspace:a !space:a" {
		t.Fatalf("would leave %v", leave)
	}
}

// TestInvitedBeforeTombstone: the invitation into the new Space may come before the tombstone of the old one. It is not refused then.
func TestInvitedBeforeTombstone(t *testing.T) {
	for inviter, want := range map[id.UserID]string{admin: "", mallory: "refuse !newspace:a"} {
		n := &Network{model: newTestModel(), invites: make(map[id.RoomID]*invite), warned: make(map[string]bool)}
		n.cfg = Config{Bot: nobody{}, Admins: []id.UserID{admin}}
		n.applyInvite(newSpace, []*event.Event{
			successorCreate(newSpace, inviter, `"type":"m.space",`, space), stateEvent(newSpace, inviter, event.StateMember, string(self), `{"membership":"invite"}`),
		})
		keys := func() string {
			var keys []string
			todo, _ := n.inviteTasks(nil, time.Now().Add(time.Minute), nil)
			for _, t := range todo {
				keys = append(keys, t.Key)
			}
			return strings.Join(keys, ", ")
		}
		if got := keys(); got != want {
			t.Errorf("invited by %s: %s", inviter, got)
		}
		n.model.apply(tombstone(space, admin, newSpace))
		if got := keys(); got != "follow !newspace:a" {
			t.Errorf("invited by %s, after the tombstone: %s", inviter, got)
		}
	}
}

// TestFalseSuccessors: a room that only claims to replace the Space does not replace it.
func TestFalseSuccessors(t *testing.T) {
	for name, events := range map[string][]*event.Event{
		"the Space does not name it":     {successorCreate(newSpace, admin, `"type":"m.space",`, space)},
		"it does not name the Space":     {tombstone(space, admin, newSpace), successorCreate(newSpace, admin, `"type":"m.space",`, "!other:a")},
		"its creator was no admin":       {tombstone(space, admin, newSpace), successorCreate(newSpace, mallory, `"type":"m.space",`, space)},
		"it is no Space":                 {tombstone(space, admin, newSpace), successorCreate(newSpace, admin, ``, space)},
		"the tombstone names no room":    {tombstone(space, admin, "not a room"), successorCreate(newSpace, admin, `"type":"m.space",`, space)},
		"the tombstone can't be read":    {stateEvent(space, admin, event.StateTombstone, "", `{"replacement_room":[]}`)},
		"it is the room that it follows": {tombstone(space, admin, space)},
	} {
		m := newTestModel()
		for _, e := range events {
			m.apply(e)
		}
		m.apply(member(newSpace, self, event.MembershipJoin))
		m.chooseSpace()
		if own, isListed := m.own(); m.space != space || own != ownRoom || !isListed || m.unjoinedSuccessor() != "" {
			t.Errorf("%s: Space %s, own room %s, waits for %q", name, m.space, own, m.unjoinedSuccessor())
		}
	}
}

// TestWindowUpgraded: the window's own account upgraded its room. The new room counts, although it came without the window's state.
func TestWindowUpgraded(t *testing.T) {
	const rule = `{"join_rule":"restricted","allow":[{"type":"m.room_membership","room_id":"!space:a"}]}`
	m := newTestModel()
	m.apply(successorCreate(newOwn, self, ``, ownRoom))
	m.apply(member(newOwn, self, event.MembershipJoin))
	m.apply(stateEvent(newOwn, self, event.StateJoinRules, "", rule))
	if own, isListed := m.own(); own != ownRoom || !isListed {
		t.Fatalf("own room %s, listed %v, before the tombstone", own, isListed)
	}
	m.apply(tombstone(ownRoom, self, newOwn))
	if own, isListed := m.own(); own != newOwn || !isListed {
		t.Fatalf("own room %s, listed %v, though its predecessor does", own, isListed)
	}
	if got := m.replaced(); len(got) != 1 || got[0] != ownRoom {
		t.Fatalf("would remove %v from the Space", got)
	}
	if _, leave, _ := m.movements(time.Now()); len(leave) > 0 {
		t.Fatalf("would leave %v", leave)
	}
	// The room has a tombstone, and no room of ours replaces it. There is no own room, so one is made.
	for name, next := range map[string]id.RoomID{"no room": "x", "a stranger's": "!mallory:b", "ours, which knows nothing of it": peerRoom} {
		m := newTestModel()
		m.apply(successorCreate("!mallory:b", mallory, ``, ownRoom))
		m.apply(member("!mallory:b", self, event.MembershipJoin))
		m.apply(stateEvent("!mallory:b", mallory, event.StateJoinRules, "", rule))
		m.apply(tombstone(ownRoom, self, next))
		if own, _ := m.own(); own != "" {
			t.Errorf("%s: own room %s", name, own)
		}
	}
	// Munich's room was upgraded. The new one is shown instead of the old one, which we leave some time after it is no longer listed.
	m = newTestModel()
	second := id.RoomID("!newmunich:b")
	m.apply(tombstone(peerRoom, munich, second))
	if join, leave, _ := m.movements(time.Now()); listed(m) != "" || len(join)+len(leave) > 0 {
		t.Fatalf("lists %s, would join %v and leave %v", listed(m), join, leave)
	}
	for _, e := range []*event.Event{
		successorCreate(second, munich, ``, peerRoom), member(second, self, event.MembershipJoin),
		member(second, munich, event.MembershipJoin), stateEvent(second, munich, networkstate.TypeWindow, "", windowState(munich, munich)),
		announcing(munich, second),
	} {
		m.apply(e)
	}
	now := time.Now()
	if _, leave, wake := m.movements(now); listed(m) != string(second) || len(leave) > 0 || !wake.Equal(now.Add(upgradedGrace)) {
		t.Fatalf("lists %s, would leave %v, wakes at %v", listed(m), leave, wake)
	}
	if _, leave, _ := m.movements(now.Add(upgradedGrace)); rooms(leave) != string(peerRoom) {
		t.Fatalf("would leave %v", leave)
	}
}
