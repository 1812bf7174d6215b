package network

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.mau.fi/util/dbutil"
	"go.mau.fi/util/jsontime"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bot/networkstate"
	"multifactorymodel.org/ewindow/bot/plain"
	"multifactorymodel.org/ewindow/bot/queue"
	"multifactorymodel.org/ewindow/bot/tasks"
)

const (
	self    = id.UserID("@dresden:a")
	munich  = id.UserID("@munich:b")
	admin   = id.UserID("@admin:a")
	mallory = id.UserID("@mallory:b")

	space    = id.RoomID("!space:a")
	ownRoom  = id.RoomID("!dresden:a")
	peerRoom = id.RoomID("!munich:b")
)

// nobody is a bot that only has a name.
type nobody struct{}

func (nobody) UserID() id.UserID                                  { return self }
func (nobody) ServerName() string                                 { return "a" }
func (nobody) Client() *mautrix.Client                            { return nil }
func (nobody) On(event.Type, func(context.Context, *event.Event)) {}
func (nobody) OnSynced(func(context.Context))                     {}

var lastEvent int

func stateEvent(room id.RoomID, sender id.UserID, t event.Type, key string, content string) *event.Event {
	lastEvent++
	e := &event.Event{
		ID: id.EventID(fmt.Sprintf("$%d", lastEvent)), Timestamp: int64(lastEvent), RoomID: room, Sender: sender, Type: t, StateKey: &key,
	}
	if err := json.Unmarshal([]byte(content), &e.Content); err != nil {
		panic(err)
	}
	return e
}

func member(room id.RoomID, user id.UserID, membership event.Membership) *event.Event {
	return stateEvent(room, user, event.StateMember, string(user), fmt.Sprintf(`{"membership":%q,"displayname":"I am %s"}`, membership, user))
}

// announcing is a kiosk's announcement of its room in the network's Space.
func announcing(kiosk id.UserID, room id.RoomID) *event.Event {
	return stateEvent(space, kiosk, networkstate.TypeRoom, string(kiosk), fmt.Sprintf(`{"room":%q,"via":[%q]}`, room, kiosk.Homeserver()))
}

func windowState(sender, kiosk id.UserID) string {
	return fmt.Sprintf(`{"version":1,"kiosk":%q,"shutter":"open","since":1700000000000,"city":"City"}`, kiosk)
}

// newTestModel is a network of Dresden (us) and Munich in which everything is as it should be.
func newTestModel() *model {
	m := newModel(self, []id.UserID{admin})
	m.admission.Space = space
	for _, e := range []*event.Event{
		stateEvent(space, admin, event.StateCreate, "", `{"type":"m.space","room_version":"12"}`),
		stateEvent(space, admin, event.StatePowerLevels, "", `{"users":{},"events":{"org.multifactorymodel.ewindow.room":0}}`),
		stateEvent(space, admin, networkstate.TypeNetwork, "", `{"version":1}`),
		member(space, admin, event.MembershipJoin),
		member(space, self, event.MembershipJoin),
		member(space, munich, event.MembershipJoin),
		announcing(self, ownRoom),
		announcing(munich, peerRoom),
		stateEvent(space, self, event.StateSpaceChild, string(ownRoom), `{"via":["a"]}`),
		stateEvent(space, munich, event.StateSpaceChild, string(peerRoom), `{"via":["b"]}`),
		stateEvent(ownRoom, self, event.StateCreate, "", `{"room_version":"12"}`),
		stateEvent(ownRoom, self, networkstate.TypeWindow, "", windowState(self, self)),
		stateEvent(ownRoom, self, event.StateJoinRules, "", `{"join_rule":"restricted","allow":[{"type":"m.room_membership","room_id":"!space:a"}]}`),
		member(ownRoom, self, event.MembershipJoin),
		member(ownRoom, munich, event.MembershipJoin),
		stateEvent(peerRoom, munich, event.StateCreate, "", `{"room_version":"10"}`),
		stateEvent(peerRoom, munich, networkstate.TypeWindow, "", windowState(munich, munich)),
		stateEvent(peerRoom, munich, event.StateRoomName, "", `{"name":"FabLab Munich"}`),
		member(peerRoom, self, event.MembershipJoin),
		member(peerRoom, munich, event.MembershipJoin),
	} {
		m.apply(e)
	}
	for _, r := range m.rooms {
		r.complete = true
	}
	m.chooseSpace()
	return m
}

func listed(m *model) string {
	var names []string
	for _, w := range m.directory() {
		names = append(names, string(w.Room))
	}
	return strings.Join(names, " ")
}

func rooms(movements []movement) string {
	var names []string
	for _, v := range movements {
		names = append(names, string(v.room))
	}
	return strings.Join(names, " ")
}

func TestDirectory(t *testing.T) {
	m := newTestModel()
	if m.space != space {
		t.Fatalf("the Space is %q", m.space)
	}
	if own, isListed := m.own(); own != ownRoom || !isListed {
		t.Fatalf("own room %q, listed %t", own, isListed)
	}
	want := directory.Window{
		Room: peerRoom, Kiosk: munich, Name: "FabLab Munich", City: "City", Shutter: directory.Open, Since: jsontime.UMInt(1700000000000), Joined: true,
	}
	if got := m.directory(); len(got) != 1 || !got[0].Equal(want) {
		t.Fatalf("directory %+v", got)
	}
	if join, leave, _ := m.movements(time.Now()); len(join)+len(leave) > 0 {
		t.Fatalf("would join %v and leave %v", join, leave)
	}
	if got := m.newNames[munich]; got != "I am @munich:b" {
		t.Errorf("name %q", got)
	}
}

// TestHostile changes one thing in the network of newTestModel.
func TestHostile(t *testing.T) {
	other := id.RoomID("!other:b")
	for _, test := range []struct {
		name          string
		events        []*event.Event
		listed        string
		join, leave   string
		ownIsOut      bool
		keepsStranger bool
	}{
		{name: "child removed by an admin", events: []*event.Event{stateEvent(space, admin, event.StateSpaceChild, string(peerRoom), `{}`)}, leave: "!munich:b"},
		{name: "child removed by an admin, and listed again by the kiosk", events: []*event.Event{
			stateEvent(space, admin, event.StateSpaceChild, string(peerRoom), `{}`),
			stateEvent(space, munich, event.StateSpaceChild, string(peerRoom), `{"via":["b"]}`),
		}, leave: "!munich:b"},
		{name: "child removed by an admin, and listed again by an admin", events: []*event.Event{
			stateEvent(space, admin, event.StateSpaceChild, string(peerRoom), `{}`),
			stateEvent(space, admin, event.StateSpaceChild, string(peerRoom), `{"via":["b"]}`),
		}, listed: "!munich:b"},
		{name: "child removed by its kiosk", events: []*event.Event{stateEvent(space, munich, event.StateSpaceChild, string(peerRoom), `{}`)}, listed: "!munich:b"},
		{name: "child removed by a member", events: []*event.Event{
			member(space, mallory, event.MembershipJoin), stateEvent(space, mallory, event.StateSpaceChild, string(peerRoom), `{}`),
		}, listed: "!munich:b"},
		{name: "a kiosk announces no room any more", events: []*event.Event{announcing(munich, "")}, leave: "!munich:b"},
		{name: "somebody else's announcement of a kiosk's room", events: []*event.Event{
			member(space, mallory, event.MembershipJoin), stateEvent(space, mallory, networkstate.TypeRoom, string(munich), `{}`),
			stateEvent(space, mallory, networkstate.TypeRoom, "x", `{"room":"!other:b"}`), stateEvent(space, mallory, networkstate.TypeRoom, "", `{"room":"!other:b"}`),
		}, listed: "!munich:b"},
		{name: "a member announces a window's room", events: []*event.Event{
			member(space, mallory, event.MembershipJoin), announcing(mallory, peerRoom),
		}, listed: "!munich:b"},
		{name: "a member announces our room, the Space and no room", events: []*event.Event{
			member(space, mallory, event.MembershipJoin), announcing(mallory, ownRoom),
			member(space, "@m2:b", event.MembershipJoin), announcing("@m2:b", space), member(space, "@m3:b", event.MembershipJoin), announcing("@m3:b", "x"),
		}, listed: "!munich:b"},
		{name: "an announcement in a membership", events: []*event.Event{
			announcing(munich, ""),
			stateEvent(space, munich, event.StateMember, string(munich),
				`{"membership":"join","org.multifactorymodel.ewindow.room":{"room":"!munich:b","via":["b"]}}`),
		}, leave: "!munich:b"},
		{name: "an announcement in a membership that somebody else wrote", events: []*event.Event{
			stateEvent(space, admin, event.StateMember, string(mallory), `{"membership":"join","org.multifactorymodel.ewindow.room":{"room":"!other:b"}}`),
		}, listed: "!munich:b"},
		{name: "kiosk left", events: []*event.Event{member(space, munich, event.MembershipLeave)}, leave: "!munich:b"},
		{name: "kiosk banned", events: []*event.Event{stateEvent(space, admin, event.StateMember, string(munich), `{"membership":"ban"}`)}, leave: "!munich:b"},
		{name: "child replaced by a stranger", events: []*event.Event{
			member(space, mallory, event.MembershipJoin),
			stateEvent(space, mallory, event.StateSpaceChild, string(peerRoom), `{"via":["b"]}`),
		}, listed: "!munich:b"},
		{name: "child replaced by an admin", events: []*event.Event{
			stateEvent(space, admin, event.StateSpaceChild, string(peerRoom), `{"via":["b"]}`),
		}, listed: "!munich:b"},
		{name: "window state of somebody else", events: []*event.Event{
			stateEvent(peerRoom, mallory, networkstate.TypeWindow, "", windowState(mallory, munich)),
		}, leave: "!munich:b"},
		{name: "window state naming somebody else", events: []*event.Event{
			stateEvent(peerRoom, munich, networkstate.TypeWindow, "", windowState(munich, admin)),
		}, leave: "!munich:b"},
		{name: "window state redacted", events: []*event.Event{stateEvent(peerRoom, munich, networkstate.TypeWindow, "", `{}`)}},
		{name: "our window state redacted", events: []*event.Event{stateEvent(ownRoom, self, networkstate.TypeWindow, "", `{}`)}, listed: "!munich:b"},
		{name: "network state redacted", events: []*event.Event{stateEvent(space, admin, networkstate.TypeNetwork, "", `{}`)}, listed: "!munich:b"},
		{name: "room of a stranger", events: []*event.Event{
			stateEvent(space, mallory, event.StateSpaceChild, string(other), `{"via":["b"]}`), announcing(mallory, other),
		}, listed: "!munich:b"},
		{name: "child of a new member", events: []*event.Event{
			member(space, mallory, event.MembershipJoin),
			stateEvent(space, mallory, event.StateSpaceChild, string(other), `{"via":["b"]}`),
		}, listed: "!munich:b"},
		{name: "room of a new member", events: []*event.Event{
			member(space, mallory, event.MembershipJoin), announcing(mallory, other),
		}, listed: "!munich:b", join: "!other:b"},
		{name: "many rooms of one member", events: append([]*event.Event{member(space, mallory, event.MembershipJoin)}, func() (l []*event.Event) {
			for i := range 9 {
				l = append(l, announcing(mallory, id.RoomID(fmt.Sprintf("!r%d:b", i))))
			}
			return l
		}()...), listed: "!munich:b", join: "!r8:b"},
		{name: "joined room without window", events: []*event.Event{
			member(space, mallory, event.MembershipJoin), announcing(mallory, other),
			member(other, self, event.MembershipJoin),
		}, listed: "!munich:b", leave: "!other:b"},
		{name: "another's kiosk named", events: []*event.Event{
			member(space, mallory, event.MembershipJoin),
			announcing(mallory, other),
			stateEvent(other, mallory, networkstate.TypeWindow, "", windowState(mallory, munich)),
			member(other, self, event.MembershipJoin),
		}, listed: "!munich:b", leave: "!other:b"},
		{name: "second window of one kiosk", events: []*event.Event{
			announcing(munich, other),
			stateEvent(other, munich, networkstate.TypeWindow, "", windowState(munich, munich)),
			member(other, self, event.MembershipJoin),
		}, listed: "!other:b", leave: "!munich:b"},
		{name: "our room listed by somebody else", events: []*event.Event{
			stateEvent(space, munich, event.StateSpaceChild, string(ownRoom), `{"via":["b"]}`),
		}, listed: "!munich:b"},
		{name: "our room removed from the Space by a member", events: []*event.Event{
			stateEvent(space, munich, event.StateSpaceChild, string(ownRoom), `{}`),
		}, listed: "!munich:b"},
		{name: "our room removed from the Space", events: []*event.Event{
			stateEvent(space, admin, event.StateSpaceChild, string(ownRoom), `{}`),
			stateEvent(space, self, event.StateSpaceChild, string(ownRoom), `{"via":["a"]}`),
		}, leave: "!munich:b", ownIsOut: true},
		{name: "our room listed by an admin", events: []*event.Event{
			stateEvent(space, admin, event.StateSpaceChild, string(ownRoom), `{"via":["a"]}`),
		}, listed: "!munich:b"},
		{name: "we were removed", events: []*event.Event{member(space, self, event.MembershipLeave)}, leave: "!munich:b", ownIsOut: true},
		{name: "unreadable power levels", events: []*event.Event{
			stateEvent(space, mallory, event.StatePowerLevels, "", `{"users":{"@mallory:b":1e300}}`),
			stateEvent(space, mallory, event.StateSpaceChild, string(peerRoom), `{}`),
		}, listed: "!munich:b"},
		{name: "somebody with power", events: []*event.Event{
			stateEvent(space, admin, event.StatePowerLevels, "", `{"users":{"@mallory:b":50}}`),
			stateEvent(space, mallory, event.StateSpaceChild, string(peerRoom), `{}`),
		}, leave: "!munich:b"},
		{name: "the Space in itself", events: []*event.Event{
			stateEvent(space, munich, event.StateSpaceChild, string(space), `{"via":["b"]}`),
		}, listed: "!munich:b"},
		{name: "events for unreadable keys", events: []*event.Event{
			stateEvent(space, munich, event.StateSpaceChild, "", `{"via":["b"]}`),
			stateEvent(space, munich, event.StateMember, "", `{"membership":"join"}`),
			stateEvent(space, munich, event.StateMember, "x", `{"membership":["join"]}`),
		}, listed: "!munich:b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newTestModel()
			for _, e := range test.events {
				m.apply(e)
			}
			m.forget()
			for _, r := range m.rooms {
				r.complete = true
			}
			m.chooseSpace()
			now := time.Now()
			join, leave, _ := m.movements(now)
			if got := rooms(join); got != test.join {
				t.Errorf("joins %q, want %q", got, test.join)
			}
			if got := rooms(leave); got != test.leave {
				t.Errorf("leaves %q, want %q", got, test.leave)
			}
			if got := listed(m); got != test.listed {
				t.Errorf("lists %q, want %q", got, test.listed)
			}
			if _, isListed := m.own(); isListed == test.ownIsOut {
				t.Errorf("our room is listed: %t", isListed)
			}
			// A room that we left is not joined again for the same reason.
			for _, v := range leave {
				m.apply(member(v.room, self, event.MembershipLeave))
			}
			for _, v := range join {
				m.apply(member(v.room, self, event.MembershipJoin))
				m.rooms[v.room].complete = true
			}
			_, second, _ := m.movements(now)
			for _, v := range second {
				m.apply(member(v.room, self, event.MembershipLeave))
			}
			if again, _, _ := m.movements(now); len(again) > 0 {
				t.Errorf("would join again: %v", again)
			}
		})
	}
}

// TestKioskReturns: a window is shown again when its kiosk comes back into the Space, and when it is listed again after a rejection.
func TestKioskReturns(t *testing.T) {
	m := newTestModel()
	now := time.Now()
	m.apply(member(space, munich, event.MembershipLeave))
	if _, leave, _ := m.movements(now); rooms(leave) != string(peerRoom) {
		t.Fatalf("leaves %v", leave)
	}
	m.apply(member(peerRoom, self, event.MembershipLeave))
	if join, _, _ := m.movements(now); len(join) > 0 {
		t.Fatalf("joins %v while the kiosk is away", join)
	}
	m.apply(member(space, munich, event.MembershipJoin))
	join, _, _ := m.movements(now)
	if rooms(join) != string(peerRoom) || !slices.Equal(join[0].via, []string{"b"}) {
		t.Fatalf("joins %v", join)
	}

	m = newTestModel()
	m.apply(stateEvent(peerRoom, munich, networkstate.TypeWindow, "", windowState(munich, admin)))
	if _, leave, _ := m.movements(now); rooms(leave) != string(peerRoom) {
		t.Fatalf("leaves %v", leave)
	}
	m.apply(member(peerRoom, self, event.MembershipLeave))
	if join, _, _ := m.movements(now.Add(time.Hour)); len(join) > 0 {
		t.Fatalf("joins %v for the same announcement", join)
	}
	m.apply(announcing(munich, peerRoom))
	join, _, wake := m.movements(now)
	if len(join) > 0 || !wake.After(now) {
		t.Fatalf("joins %v at once, wakes at %v", join, wake)
	}
	if join, _, _ = m.movements(wake); rooms(join) != string(peerRoom) {
		t.Fatalf("joins %v later", join)
	}
}

// TestPartialState: a room of which not all is known yet is not rejected. Its state is fetched, and then it is judged.
func TestPartialState(t *testing.T) {
	for name, state := range map[string][]*event.Event{
		"nothing":          {},
		"its create event": {stateEvent(peerRoom, munich, event.StateCreate, "", `{"room_version":"10"}`)},
	} {
		m := newTestModel()
		m.apply(member(peerRoom, self, event.MembershipLeave))
		m.forget()
		for _, e := range append(state, member(peerRoom, self, event.MembershipJoin)) {
			m.apply(e)
		}
		now := time.Now()
		if join, leave, _ := m.movements(now); len(join)+len(leave)+len(m.rejected) > 0 || !slices.Equal(m.unclear(), []id.RoomID{peerRoom}) {
			t.Fatalf("%s is known: joins %v, leaves %v, rejects %v, fetches %v", name, join, leave, m.rejected, m.unclear())
		}
		// The homeserver leaves something out. That decides nothing, either.
		m.addState(peerRoom, nil)
		if _, leave, _ := m.movements(now); name == "nothing" && len(leave) > 0 {
			t.Fatalf("leaves %v", leave)
		}
		m = newTestModel()
		m.apply(member(peerRoom, self, event.MembershipLeave))
		m.forget()
		m.apply(member(peerRoom, self, event.MembershipJoin))
		m.apply(stateEvent(peerRoom, munich, networkstate.TypeWindow, "", windowState(munich, munich)))
		if listed(m) != string(peerRoom) || !slices.Equal(m.unclear(), []id.RoomID{peerRoom}) {
			t.Fatalf("sync has shown its window event alone: lists %q, fetches %v", listed(m), m.unclear())
		}
		m.addState(peerRoom, []*event.Event{
			stateEvent(peerRoom, munich, networkstate.TypeWindow, "", windowState(munich, munich)), stateEvent(peerRoom, munich, event.StateCreate, "", `{}`),
		})
		if w := m.directory(); len(w) != 1 || w[0].Name != "FabLab Munich" {
			t.Fatalf("its name is hidden, and it is listed as %+v", w)
		}
		if listed(m) != string(peerRoom) || !slices.Equal(m.unclear(), []id.RoomID{peerRoom}) {
			t.Fatalf("its name is missing: lists %q, fetches %v", listed(m), m.unclear())
		}
		m.addState(peerRoom, []*event.Event{stateEvent(peerRoom, munich, event.StateRoomName, "", `{"name":"Munich"}`)})
		if listed(m) != string(peerRoom) || len(m.unclear()) > 0 {
			t.Fatalf("lists %q, fetches %v", listed(m), m.unclear())
		}
	}
}

// TestInvitePlaces: strangers fill their own places for invitations, and no admin's, whatever the stripped state claims.
func TestInvitePlaces(t *testing.T) {
	n := &Network{model: newTestModel(), invites: make(map[id.RoomID]*invite), warned: make(map[string]bool)}
	n.cfg = Config{Bot: nobody{}, Admins: []id.UserID{admin}}
	invited := func(room id.RoomID, by ...id.UserID) {
		events := []*event.Event{stateEvent(room, by[0], event.StateCreate, "", `{"type":"m.space"}`)}
		for _, inviter := range by {
			events = append(events, stateEvent(room, inviter, event.StateMember, string(self), `{"membership":"invite"}`))
		}
		n.applyInvite(room, events)
	}
	for i := range 2 * maxInvites {
		invited(id.RoomID(fmt.Sprintf("!a%d:b", i)), mallory)
		invited(id.RoomID(fmt.Sprintf("!b%d:b", i)), admin, mallory)
		invited(id.RoomID(fmt.Sprintf("!c%d:b", i)), mallory, admin)
	}
	if len(n.invites) != maxInvites {
		t.Fatalf("%d invitations of strangers are handled", len(n.invites))
	}
	invited("!real:a", admin)
	if inv := n.invites["!real:a"]; inv == nil || inv.forged || inv.inviter != admin {
		t.Fatalf("the admin's invitation is %+v", inv)
	}
}

// TestSameNames: windows of one name are told apart by their servers, or else by their accounts. Ours counts, too.
func TestSameNames(t *testing.T) {
	m := newTestModel()
	m.name = "Dresden"
	window := func(kiosk id.UserID, name string) {
		room := id.RoomID("!" + kiosk[1:])
		for _, e := range []*event.Event{
			member(space, kiosk, event.MembershipJoin), announcing(kiosk, room), member(room, self, event.MembershipJoin),
			stateEvent(room, kiosk, networkstate.TypeWindow, "", windowState(kiosk, kiosk)),
			stateEvent(room, kiosk, event.StateRoomName, "", fmt.Sprintf(`{"name":%q}`, name)),
		} {
			m.apply(e)
		}
	}
	if own := m.ownName(); own != "Dresden" {
		t.Errorf("alone, our window is called %q", own)
	}
	window("@a:c", "fablab MUNICH (c)") // its kiosk has seen the other one
	window("@b:c", "DRESDEN")
	window("@c:a", "Weimar")
	window("@d:c", "Bolzano (@d:c)")
	window("@e:c", "Bolzano")
	var got []string
	for _, w := range m.directory() {
		got = append(got, w.Name)
	}
	want := []string{"Bolzano (@d:c)", "Bolzano (@e:c)", "DRESDEN (c)", "FabLab Munich (b)", "Weimar", "fablab MUNICH (c)"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if own, want := m.ownName(), "Dresden ("+self.Homeserver()+")"; own != want {
		t.Errorf("our window is called %q, want %q", own, want)
	}
	// A window that is called as another one is with its server.
	window("@g:d", "Bolzano (@d:c)")
	window("@h:d", "fablab munich (c)")
	got = nil
	for _, w := range m.directory() {
		got = append(got, w.Name)
	}
	for _, name := range []string{"Bolzano (@d:c) (d)", "fablab munich (c) (d)", "fablab MUNICH (@a:c)"} {
		if !slices.Contains(got, name) {
			t.Errorf("%q is not among %q", name, got)
		}
	}
	window("@f:"+id.UserID(self.Homeserver()), "Dresden")
	if own, want := m.ownName(), "Dresden ("+self.String()+")"; own != want {
		t.Errorf("beside one of our server, our window is called %q, want %q", own, want)
	}
}

// TestLongNames: a name that does not fit together with the server's is left as it is, or others would read half of it and take it for another one.
func TestLongNames(t *testing.T) {
	long := strings.Repeat("n", plain.MaxName-2)
	n := &Network{cfg: Config{Name: long}, model: newTestModel()}
	n.model.name = long
	if name := n.roomName(); name != long {
		t.Errorf("alone, our room is called %q", name)
	}
	for _, e := range []*event.Event{
		member(space, "@x:c", event.MembershipJoin), announcing("@x:c", "!x:c"), member("!x:c", self, event.MembershipJoin),
		stateEvent("!x:c", "@x:c", networkstate.TypeWindow, "", windowState("@x:c", "@x:c")),
		stateEvent("!x:c", "@x:c", event.StateRoomName, "", fmt.Sprintf(`{"name":%q}`, long)),
	} {
		n.model.apply(e)
	}
	if own := n.model.ownName(); own == long {
		t.Error("another window's name is not seen")
	}
	if name := n.roomName(); name != long {
		t.Errorf("beside another one, our room is called %q", name)
	}
}

// TestTimeline reads what a homeserver shows after a join: everything since the room was made, with our own past.
func TestTimeline(t *testing.T) {
	m := newModel(self, nil)
	m.admission.Space = space
	m.apply(stateEvent(space, admin, event.StateCreate, "", `{"type":"m.space","room_version":"12"}`))
	m.apply(stateEvent(space, admin, networkstate.TypeNetwork, "", `{"version":1}`))
	for _, membership := range []event.Membership{event.MembershipInvite, event.MembershipJoin, event.MembershipLeave, event.MembershipInvite, event.MembershipJoin} {
		m.apply(member(space, self, membership))
	}
	m.forget()
	m.chooseSpace()
	if m.space != space {
		t.Fatal("the Space was lost")
	}
	// Fetched state fills gaps, and never replaces what sync has shown.
	m.addState(space, []*event.Event{
		member(space, self, event.MembershipInvite), member(space, munich, event.MembershipJoin),
	})
	m.forget()
	m.chooseSpace()
	if m.space != space || m.membership(munich) != event.MembershipJoin {
		t.Fatalf("the Space is %q, Munich in it: %t", m.space, m.membership(munich) == event.MembershipJoin)
	}
}

func TestStrangers(t *testing.T) {
	m := newTestModel()
	guest := id.UserID("@guest:elsewhere")
	m.apply(member(ownRoom, guest, event.MembershipJoin))
	m.apply(member(ownRoom, mallory, event.MembershipInvite))
	if got := m.removedUsers(m.rooms[ownRoom]); len(got) > 0 {
		t.Fatalf("would remove %v", got)
	}
	m.apply(member(space, munich, event.MembershipLeave))
	m.apply(stateEvent(space, admin, event.StateMember, string(mallory), `{"membership":"ban"}`))
	if got := m.removedUsers(m.rooms[ownRoom]); !slices.Equal(got, []id.UserID{mallory, munich}) {
		t.Fatalf("would remove %v", got)
	}
}

// TestAbsentKiosks: a kiosk of the directory that is not in our room is waited for. A new event of its window shows that it is running.
func TestAbsentKiosks(t *testing.T) {
	m := newTestModel()
	absent := func() map[id.UserID]id.EventID { return m.absentKiosks(m.rooms[ownRoom], m.directory()) }
	if len(absent()) > 0 {
		t.Fatalf("%v is absent", absent())
	}
	m.apply(member(ownRoom, munich, event.MembershipLeave))
	before := absent()
	if len(before) != 1 || before[munich] == "" {
		t.Fatalf("%v is absent", before)
	}
	m.apply(stateEvent(peerRoom, munich, networkstate.TypeWindow, "", windowState(munich, munich)))
	if got := absent(); got[munich] == "" || got[munich] == before[munich] {
		t.Fatalf("%v after a sign of life, %v before", got, before)
	}
	m.apply(member(ownRoom, munich, event.MembershipJoin))
	if len(absent()) > 0 {
		t.Fatalf("%v is absent", absent())
	}
}

// TestTwoOwnRooms chooses one room when a crash has left two.
func TestTwoOwnRooms(t *testing.T) {
	m := newTestModel()
	second := id.RoomID("!a-second:a")
	for _, e := range []*event.Event{
		stateEvent(second, self, event.StateCreate, "", `{"room_version":"12"}`),
		stateEvent(second, self, networkstate.TypeWindow, "", windowState(self, self)),
		stateEvent(second, self, event.StateJoinRules, "", `{"join_rule":"restricted","allow":[{"type":"m.room_membership","room_id":"!space:a"}]}`),
		member(second, self, event.MembershipJoin),
	} {
		m.apply(e)
	}
	if own, isListed := m.own(); own != ownRoom || !isListed {
		t.Fatalf("own room %q, listed %t", own, isListed)
	}
	m.apply(announcing(self, second))
	if own, isListed := m.own(); own != second || !isListed {
		t.Fatalf("own room %q, listed %t, although the other is announced", own, isListed)
	}
}

// FuzzModel puts any content into any event. The result must be within limits and never have a stranger's window.
func FuzzModel(f *testing.F) {
	f.Add(uint8(0), []byte(`{"membership":"join","displayname":"x"}`))
	f.Add(uint8(1), []byte(`{"via":["b"]}`))
	f.Add(uint8(2), []byte(`{"version":1,"kiosk":"@munich:b","shutter":"open"}`))
	f.Add(uint8(3), []byte(`{"users":{"@mallory:b":100}}`))
	f.Add(uint8(4), []byte(`{"join_rule":"restricted","allow":[{"type":"m.room_membership","room_id":"!space:a"}]}`))
	f.Add(uint8(5), []byte(`{"type":"m.space","room_version":"12"}`))
	f.Add(uint8(6), []byte(`{"name":"\u202e"}`))
	f.Add(uint8(10), []byte(`{"room":"!munich:b","via":["b"]}`))
	f.Add(uint8(9), []byte(`{"replacement_room":"!mallory:b"}`))
	types := []event.Type{
		event.StateMember, event.StateSpaceChild, networkstate.TypeWindow, event.StatePowerLevels, event.StateJoinRules, event.StateCreate,
		event.StateRoomName, event.StateSpaceParent, networkstate.TypeNetwork, event.StateTombstone, networkstate.TypeRoom,
	}
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		var c event.Content
		if json.Unmarshal(data, &c) != nil {
			return
		}
		typ := types[int(kind)%len(types)]
		for _, room := range []id.RoomID{peerRoom, "!mallory:b", space} {
			if room == space && typ != event.StateSpaceChild && typ != networkstate.TypeRoom {
				continue // the homeserver refuses these
			}
			for _, key := range []string{"", string(mallory), string(munich), string(peerRoom)} {
				m := newTestModel()
				m.apply(member("!mallory:b", self, event.MembershipJoin))
				m.apply(&event.Event{ID: "$x", RoomID: room, Sender: mallory, Type: typ, StateKey: &key, Content: c})
				m.chooseSpace()
				m.movements(time.Now())
				for _, w := range m.directory() {
					if w.Kiosk != munich || w.Room != peerRoom || len(w.Name) > 4*plain.MaxName {
						t.Fatalf("lists %+v", w)
					}
				}
				if own, _ := m.own(); own != ownRoom {
					t.Fatalf("own room %q", own)
				}
			}
		}
	})
}

// TestBatches: a sync response is seen only when all of it is there.
func TestBatches(t *testing.T) {
	n := &Network{
		queue: queue.New[func()](), model: newModel(self, nil), runner: tasks.NewRunner(t.Context(), nil, zerolog.Nop()), invites: make(map[id.RoomID]*invite),
	}
	n.collect(member(space, self, event.MembershipJoin))
	if got := n.queue.Take(); len(got) > 0 {
		t.Fatal("half a response was seen")
	}
	n.collect(member(space, munich, event.MembershipJoin))
	n.commit()
	got := n.queue.Take()
	if len(got) != 1 {
		t.Fatalf("%d responses", len(got))
	}
	got[0]()
	if members := n.model.rooms[space].members; len(members) != 2 {
		t.Fatalf("%d events", len(members))
	}
}

func TestNewRefuses(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no bot":        {Name: "Dresden"},
		"no database":   {Bot: nobody{}, Name: "Dresden"},
		"no name":       {Bot: nobody{}, DB: new(dbutil.Database), Name: " \n"},
		"no user":       {Bot: nobody{}, DB: new(dbutil.Database), Name: "Dresden", Admins: []id.UserID{"admin"}},
		"too many tags": {Bot: nobody{}, DB: new(dbutil.Database), Name: "Dresden", Languages: make([]string, 9)},
	} {
		if n, err := New(cfg); err == nil || n != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestInvisibleNames takes names that show nothing, some of which Unicode counts as letters. Who has one is called by the user id.
func TestInvisibleNames(t *testing.T) {
	for _, name := range []string{
		"\u3164", "\u2800", "\u115f", "\u1160", "\uffa0", "\u200d", "\ufe0f", "\u034f", "\u3164\u2800 \u115f", "\u0301\u0302", "...", "🪟", "\u00ad",
		"\u17b4", "\U000e0041", "\u180e", "",
	} {
		if got := plain.Name(name); got != "" {
			t.Errorf("the name %q is shown as %q", name, got)
		}
	}
	m := newModel("@munich:m", nil)
	r := m.room("!space:m")
	for _, name := range []string{"\u3164", "\u2800"} {
		m.applyMember(r, &event.Event{Sender: "@eve:m"}, "@eve:m", []byte(`{"membership":"join","displayname":"`+name+`"}`))
	}
	if name, ok := m.newNames["@eve:m"]; ok {
		t.Errorf("an invisible guest is called %q", name)
	}
	if got := plain.Name("Z" + strings.Repeat("\u0335", 64)); got != "Z\u0335\u0335" {
		t.Errorf("64 marks give %q", got)
	}
}
