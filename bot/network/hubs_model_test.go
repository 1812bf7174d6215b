package network

import (
	"slices"
	"testing"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/networkstate"
)

// TestHubs: a hub is invited once for each time that it says so, stays wherever its membership of the windows' room lets it, and is never somebody who is
// removed at the same time. A window that was removed, and says that it is a hub, is none. A guest is no hub.
func TestHubs(t *testing.T) {
	const windows, hub, guest = id.RoomID("!windows:a"), id.UserID("@hub:b"), id.UserID("@guest:elsewhere")
	m := newTestModel()
	says := func(user id.UserID) *event.Event {
		return stateEvent(windows, user, event.StateMember, string(user), `{"membership":"join","org.multifactorymodel.ewindow.hub":true}`)
	}
	for _, e := range []*event.Event{
		stateEvent(space, admin, networkstate.TypeNetwork, "", `{"version":1,"windows":"!windows:a"}`),
		stateEvent(windows, admin, event.StateCreate, "", `{"room_version":"12"}`),
		stateEvent(windows, admin, networkstate.TypeNetwork, "", `{"version":1,"space":"!space:a","via":["a"]}`),
		member(windows, self, event.MembershipJoin),
		member(windows, munich, event.MembershipJoin),
		stateEvent(windows, self, networkstate.TypeRoom, string(self), `{"room":"`+string(ownRoom)+`","via":["a"]}`),
		stateEvent(windows, munich, networkstate.TypeRoom, string(munich), `{"room":"`+string(peerRoom)+`","via":["b"]}`),
		member(ownRoom, guest, event.MembershipJoin),
		stateEvent(windows, admin, event.StateMember, string(guest), `{"membership":"leave"}`), // an invitation was withdrawn
		says(hub),
	} {
		m.apply(e)
	}
	m.chooseSpace()
	check := func(when string, absent, removed, kiosks []id.UserID) {
		t.Helper()
		own := m.rooms[ownRoom]
		var got []id.UserID
		for user := range m.absentHubs(own) {
			got = append(got, user)
		}
		if !slices.Equal(got, absent) {
			t.Errorf("%s, %v are invited as hubs", when, got)
		}
		if got := m.removedUsers(own); !slices.Equal(got, removed) {
			t.Errorf("%s, %v are removed", when, got)
		}
		if got := m.kiosks(); !slices.Equal(got, kiosks) {
			t.Errorf("%s, %v are no people", when, got)
		}
	}
	hubs, none, both := []id.UserID{hub}, []id.UserID(nil), []id.UserID{hub, munich}
	check("before the hub has come", hubs, none, both)
	m.apply(member(ownRoom, hub, event.MembershipInvite))
	check("while it is invited", hubs, none, both) // it is waited for, and not invited twice
	m.apply(member(ownRoom, hub, event.MembershipJoin))
	check("when it is there", none, none, both)
	m.apply(member(space, hub, event.MembershipJoin))
	m.apply(stateEvent(space, admin, event.StateMember, string(hub), `{"membership":"leave"}`))
	check("removed from the Space alone", none, none, both)
	m.apply(stateEvent(space, admin, event.StateMember, string(munich), `{"membership":"leave"}`))
	m.chooseSpace()
	m.apply(says(munich))
	m.chooseSpace()
	check("with a removed window that says it is a hub", none, []id.UserID{munich}, both)
	m.apply(stateEvent(windows, admin, event.StateMember, string(hub), `{"membership":"leave"}`))
	check("removed from the windows' room", none, both, []id.UserID{munich})
}
