package members_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.mau.fi/util/ptr"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/members"
	"multifactorymodel.org/ewindow/bot/newnetwork"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

const soon = 30 * time.Second

var (
	typeWindow  = event.Type{Type: "org.multifactorymodel.ewindow.window", Class: event.StateEventType}
	typeRoom    = event.Type{Type: "org.multifactorymodel.ewindow.room", Class: event.StateEventType}
	typeNetwork = event.Type{Type: "org.multifactorymodel.ewindow.network", Class: event.StateEventType}
)

func newClient(t *testing.T, hs *rig.Homeserver, name string) *mautrix.Client {
	t.Helper()
	user, _ := hs.Register(t, name)
	return hs.Client(t, user)
}

// must ends the test if a request was refused.
func must[T any](t *testing.T, answer T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// newWindow makes a window's room as a kiosk does. kiosk is who the room says its kiosk is.
func newWindow(t *testing.T, owner *mautrix.Client, space id.RoomID, kiosk id.UserID) id.RoomID {
	t.Helper()
	key := ""
	answer, err := owner.CreateRoom(t.Context(), &mautrix.ReqCreateRoom{
		Preset: "private_chat", RoomVersion: "12", PowerLevelOverride: &event.PowerLevelsEventContent{InvitePtr: ptr.Ptr(50), KickPtr: ptr.Ptr(50)},
		InitialState: []*event.Event{
			{Type: event.StateJoinRules, StateKey: &key, Content: event.Content{Raw: map[string]any{
				"join_rule": "restricted", "allow": []map[string]any{{"type": "m.room_membership", "room_id": space}},
			}}},
			{Type: typeWindow, StateKey: &key, Content: event.Content{Raw: map[string]any{"version": 1, "kiosk": kiosk}}},
		},
	})
	return must(t, answer, err).RoomID
}

// upgrade upgrades a room, as its owner can.
func upgrade(t *testing.T, owner *mautrix.Client, room id.RoomID) (replacement id.RoomID) {
	t.Helper()
	var answer struct {
		Room id.RoomID `json:"replacement_room"`
	}
	_, err := owner.MakeRequest(t.Context(), http.MethodPost, owner.BuildClientURL("v3", "rooms", room, "upgrade"), map[string]any{"new_version": id.RoomV12}, &answer)
	must(t, 0, err)
	return answer.Room
}

// list puts a room into a Space's list.
func list(t *testing.T, who *mautrix.Client, space, room id.RoomID, via ...string) {
	t.Helper()
	content := map[string]any{}
	if len(via) > 0 {
		content["via"] = via
	}
	answer, err := who.SendStateEvent(t.Context(), space, event.StateSpaceChild, room.String(), content)
	must(t, answer, err)
}

// hub is a hub's account that runs.
type hub struct {
	*members.Members
	changes atomic.Int64
	stop    func()
}

func newHub(t *testing.T, hs *rig.Homeserver, name, file string, admins ...id.UserID) *hub {
	t.Helper()
	user, password := hs.Register(t, name)
	return runHub(t, hs.URL, user, password, file, admins...)
}

func runHub(t *testing.T, homeserver string, user id.UserID, password, file string, admins ...id.UserID) *hub {
	t.Helper()
	h := &hub{}
	var err error
	h.Members, err = members.New(members.Config{
		HomeserverURL: homeserver, Username: user.String(), Password: password, Admins: admins, File: file,
		OnChange: func() { h.changes.Add(1) }, Log: zerolog.New(zerolog.NewTestWriter(t)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	h.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		done <- nil
	}
	t.Cleanup(h.stop)
	return h
}

// sees waits until the hub knows that a user is in a room, or is not.
func (h *hub) sees(t *testing.T, user id.UserID, room id.RoomID, want bool) {
	t.Helper()
	rig.Eventually(t, soon, func() error {
		return rig.Check(h.IsJoined(user, room) == want, "the hub does not see it", []any{user, room, want})
	})
}

// TestMembers lets an admin invite the hub, and people come and go.
func TestMembers(t *testing.T) {
	hs := rig.StartHomeserver(t)
	admin, kiosk, guest, eve := newClient(t, hs, "admin"), newClient(t, hs, "kiosk"), newClient(t, hs, "guest"), newClient(t, hs, "eve")
	space, err := newnetwork.Create(t.Context(), admin, newnetwork.Options{Name: "Network"})
	must(t, space, err)
	for _, who := range []*mautrix.Client{kiosk, eve} {
		must(t, 0, invite(t, admin, space, who.UserID))
		answer, err := who.JoinRoomByID(t.Context(), space)
		must(t, answer, err)
	}
	room := newWindow(t, kiosk, space, kiosk.UserID)
	list(t, kiosk, space, room, hs.ServerName)
	file := filepath.Join(t.TempDir(), "hub.json")
	user, password := hs.Register(t, "hub")
	h := runHub(t, hs.URL, user, password, file, admin.UserID)

	// A stranger's Space is not the network. The hub answers nothing while it is in none.
	trap := newWindow(t, eve, space, eve.UserID)
	planted, err := newnetwork.Create(t.Context(), eve, newnetwork.Options{Name: "Network"})
	must(t, planted, err)
	list(t, eve, planted, trap, hs.ServerName)
	must(t, 0, invite(t, eve, planted, user))
	rig.Eventually(t, soon, func() error { return rig.Check(h.changes.Load() > 0, "the hub does not sync", nil) })
	if h.IsJoined(kiosk.UserID, room) || h.Belongs(kiosk.UserID) || len(h.Users()) != 0 {
		t.Error("the hub knows something before it was invited")
	}

	must(t, 0, invite(t, admin, space, user))
	h.sees(t, kiosk.UserID, room, true)
	if h.IsJoined(eve.UserID, room) || h.IsJoined(eve.UserID, trap) || h.Belongs(eve.UserID) || h.Joined(t.Context(), guest.UserID, room) {
		t.Error("somebody who is in no window's room belongs")
	}
	// An admin's room that is no network.
	other, err := admin.CreateRoom(t.Context(), &mautrix.ReqCreateRoom{Preset: "private_chat", Invite: []id.UserID{user, eve.UserID}})
	must(t, other, err)
	joined, err := eve.JoinRoomByID(t.Context(), other.RoomID)
	must(t, joined, err)
	sent, err := eve.SendStateEvent(t.Context(), other.RoomID, event.StateMember, eve.UserID.String(), map[string]any{
		"membership": "join", typeRoom.Type: map[string]any{"room": trap, "via": []string{hs.ServerName}},
	})
	must(t, sent, err)
	rig.Eventually(t, soon, func() error {
		members, err := admin.JoinedMembers(t.Context(), other.RoomID)
		return rig.Check(err == nil && len(members.Joined) == 3, "the hub in the admin's room", err)
	})
	must(t, 0, invite(t, eve, trap, user))

	// A member's rooms that are nobody's window: with another's name, and without being announced by its kiosk.
	copied := newWindow(t, eve, space, kiosk.UserID)
	list(t, eve, space, copied, hs.ServerName)
	foreign := newWindow(t, kiosk, space, kiosk.UserID)
	list(t, eve, space, foreign, hs.ServerName)

	// A guest is known as soon as a request of theirs can come.
	must(t, 0, invite(t, kiosk, room, guest.UserID))
	answer, err := guest.JoinRoomByID(t.Context(), room)
	must(t, answer, err)
	if !h.IsKiosk(kiosk.UserID) || h.IsKiosk(guest.UserID) {
		t.Error("the kiosk, or somebody else, is not taken for what they are")
	}
	if !h.Joined(t.Context(), guest.UserID, room) || !h.Belongs(guest.UserID) {
		t.Error("a guest who has just joined does not belong")
	}
	if h.IsJoined(eve.UserID, copied) || h.IsJoined(kiosk.UserID, foreign) || h.IsJoined(eve.UserID, trap) {
		t.Error("a room that only looks like a window's counts")
	}
	before := h.changes.Load()
	kicked, err := kiosk.KickUser(t.Context(), room, &mautrix.ReqKickUser{UserID: guest.UserID})
	must(t, kicked, err)
	h.sees(t, guest.UserID, room, false)
	if h.Belongs(guest.UserID) || h.changes.Load() == before {
		t.Error("who was removed still belongs, or the hub does not say that it has changed")
	}

	// Strangers' invitations are refused.
	rig.Eventually(t, soon, func() error {
		var member event.MemberEventContent
		err := eve.StateEvent(t.Context(), planted, event.StateMember, user.String(), &member)
		return rig.Check(err == nil && member.Membership == event.MembershipLeave, "a stranger's invitation is refused", member.Membership)
	})

	// After a restart everything is known again. A window whose kiosk was removed is none any more.
	h.stop()
	h = runHub(t, hs.URL, user, password, file, admin.UserID)
	h.sees(t, kiosk.UserID, room, true)
	kicked, err = admin.KickUser(t.Context(), space, &mautrix.ReqKickUser{UserID: kiosk.UserID})
	must(t, kicked, err)
	h.sees(t, kiosk.UserID, room, false)
	if len(h.Users()) != 0 {
		t.Errorf("%v belong", h.Users())
	}
}

// TestAnnouncements checks the ways in which kiosks of other versions announce their rooms, and what others can do about it.
func TestAnnouncements(t *testing.T) {
	servers := rig.StartFederation(t)
	admin, near, far := newClient(t, servers[0], "admin"), newClient(t, servers[0], "near"), newClient(t, servers[1], "far")
	key := ""
	created, err := admin.CreateRoom(t.Context(), &mautrix.ReqCreateRoom{
		Preset: "private_chat", RoomVersion: "12", CreationContent: map[string]any{"type": event.RoomTypeSpace},
		InitialState: []*event.Event{
			{Type: event.StateHistoryVisibility, StateKey: &key, Content: event.Content{Raw: map[string]any{"history_visibility": "shared"}}},
			{Type: typeNetwork, StateKey: &key, Content: event.Content{Raw: map[string]any{"version": 1}}},
		},
		PowerLevelOverride: &event.PowerLevelsEventContent{
			Events: map[string]int{typeRoom.Type: 0, event.StateSpaceChild.Type: 0},
		},
		Invite: []id.UserID{near.UserID, far.UserID},
	})
	space := must(t, created, err).RoomID
	for _, who := range []*mautrix.Client{near, far} {
		answer, err := who.JoinRoom(t.Context(), space.String(), &mautrix.ReqJoinRoom{Via: []string{servers[0].ServerName}})
		must(t, answer, err)
	}
	h := newHub(t, servers[0], "hub", filepath.Join(t.TempDir(), "hub.json"), admin.UserID)
	must(t, 0, invite(t, admin, space, id.NewUserID("hub", servers[0].ServerName))) // after the joins: Dendrite fails to join if an event comes meanwhile
	nearRoom, farRoom := newWindow(t, near, space, near.UserID), newWindow(t, far, space, far.UserID)
	sent, err := near.SendStateEvent(t.Context(), space, typeRoom, near.UserID.String(), map[string]any{"room": nearRoom, "via": []string{servers[0].ServerName}})
	must(t, sent, err)
	sent, err = far.SendStateEvent(t.Context(), space, event.StateMember, far.UserID.String(), map[string]any{
		"membership": "join", typeRoom.Type: map[string]any{"room": farRoom, "via": []string{servers[1].ServerName}},
	})
	must(t, sent, err)
	h.sees(t, near.UserID, nearRoom, true)
	h.sees(t, far.UserID, farRoom, true)
	// The list is for people: a member who overwrites it changes nothing, an admin takes a window down.
	list(t, near, space, farRoom)
	list(t, far, space, nearRoom, "elsewhere.example")
	list(t, admin, space, nearRoom)
	h.sees(t, near.UserID, nearRoom, false)
	h.sees(t, far.UserID, farRoom, true)
}

// TestUpgraded upgrades a window's room in a network whose windows have a room of their own, takes the window down, and removes the hub.
func TestUpgraded(t *testing.T) {
	hs := rig.StartHomeserver(t)
	admin, kiosk := newClient(t, hs, "admin"), newClient(t, hs, "kiosk")
	space, err := newnetwork.Create(t.Context(), admin, newnetwork.Options{Name: "Network", WindowsRoom: true})
	must(t, space, err)
	windows, err := newnetwork.WindowsRoom(t.Context(), admin, space)
	must(t, windows, err)
	must(t, 0, invite(t, admin, windows, kiosk.UserID))
	for _, room := range []id.RoomID{windows, space} {
		joined, err := kiosk.JoinRoomByID(t.Context(), room)
		must(t, joined, err)
	}
	announce := func(room id.RoomID) {
		t.Helper()
		sent, err := kiosk.SendStateEvent(t.Context(), windows, typeRoom, kiosk.UserID.String(), map[string]any{"room": room, "via": []string{hs.ServerName}})
		must(t, sent, err)
	}
	old := newWindow(t, kiosk, space, kiosk.UserID)
	announce(old)
	file := filepath.Join(t.TempDir(), "hub.json")
	user, password := hs.Register(t, "hub")
	h := runHub(t, hs.URL, user, password, file, admin.UserID)
	must(t, 0, invite(t, admin, windows, user))
	h.sees(t, kiosk.UserID, old, true)
	in := func(room id.RoomID, want bool) {
		t.Helper()
		rig.Eventually(t, soon, func() error {
			from := kiosk
			if room == space || room == windows {
				from = admin
			}
			members, err := from.JoinedMembers(t.Context(), room)
			if err != nil {
				return err
			}
			_, is := members.Joined[user]
			return rig.Check(is == want, "the hub in "+room.String(), is)
		})
	}
	in(space, true)

	// Who is in the old room keeps their access to the call there, until they or the kiosk leave.
	room := upgrade(t, kiosk, old)
	sent, err := kiosk.SendStateEvent(t.Context(), room, typeWindow, "", map[string]any{"version": 1, "kiosk": kiosk.UserID})
	must(t, sent, err)
	announce(room)
	h.sees(t, kiosk.UserID, room, true)
	if !h.IsJoined(kiosk.UserID, old) {
		t.Error("the upgraded room is no window's")
	}

	// An admin takes the window down. That is remembered, whatever others write there. Then the admin puts it back.
	list(t, admin, space, room)
	h.sees(t, kiosk.UserID, room, false)
	h.sees(t, kiosk.UserID, old, false)
	list(t, kiosk, space, room, "elsewhere.example")
	h.stop()
	h = runHub(t, hs.URL, user, password, file, admin.UserID)
	rig.Eventually(t, soon, func() error { return rig.Check(h.changes.Load() > 0, "the hub does not sync", nil) })
	if h.IsJoined(kiosk.UserID, room) || h.IsJoined(kiosk.UserID, old) {
		t.Error("a window that was taken down is back after a restart")
	}
	elsewhere := newWindow(t, kiosk, space, kiosk.UserID)
	announce(elsewhere) // it is the window that is down, not only its room
	in(elsewhere, true)
	if h.IsJoined(kiosk.UserID, elsewhere) {
		t.Error("a window that was taken down is back with another room")
	}
	announce(room)
	list(t, admin, space, room, hs.ServerName)
	h.sees(t, kiosk.UserID, room, true)

	// The hub leaves rooms that are not announced any more.
	next := newWindow(t, kiosk, space, kiosk.UserID)
	announce(next)
	h.sees(t, kiosk.UserID, next, true)
	in(old, false)
	in(room, false)

	// An account that is not in the Space is no window. A hub that was removed leaves everything.
	kicked, err := admin.KickUser(t.Context(), space, &mautrix.ReqKickUser{UserID: kiosk.UserID})
	must(t, kicked, err)
	h.sees(t, kiosk.UserID, next, false)
	kicked, err = admin.KickUser(t.Context(), windows, &mautrix.ReqKickUser{UserID: user})
	must(t, kicked, err)
	in(space, false)
}

// TestTakenUp lets a window announce one room after the other on a homeserver that never answers. The hub joins another window's room all the same.
func TestTakenUp(t *testing.T) {
	hs := rig.StartHomeserver(t)
	admin := newClient(t, hs, "admin")
	space, err := newnetwork.Create(t.Context(), admin, newnetwork.Options{Name: "Network", WindowsRoom: true})
	must(t, space, err)
	windows, err := newnetwork.WindowsRoom(t.Context(), admin, space)
	must(t, windows, err)
	newKiosk := func(name string) (kiosk *mautrix.Client, announce func(id.RoomID)) {
		kiosk = newClient(t, hs, name)
		must(t, 0, invite(t, admin, windows, kiosk.UserID))
		for _, room := range []id.RoomID{windows, space} {
			joined, err := kiosk.JoinRoomByID(t.Context(), room)
			must(t, joined, err)
		}
		return kiosk, func(room id.RoomID) {
			t.Helper()
			sent, err := kiosk.SendStateEvent(t.Context(), windows, typeRoom, kiosk.UserID.String(), map[string]any{"room": room, "via": []string{hs.ServerName}})
			must(t, sent, err)
		}
	}
	_, lie := newKiosk("liar")
	kiosk, announce := newKiosk("kiosk")

	// A homeserver waits for another one while it joins a room there. Here it waits until the test ends.
	target, err := url.Parse(hs.URL)
	must(t, target, err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	var hanging atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "nowhere.example") {
			hanging.Add(1)
			select {
			case <-r.Context().Done():
			case <-ctx.Done():
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(slow.Close)
	t.Cleanup(cancel)
	user, password := hs.Register(t, "hub")
	h := runHub(t, slow.URL, user, password, filepath.Join(t.TempDir(), "hub.json"), admin.UserID)
	must(t, 0, invite(t, admin, windows, user))
	lie("!0:nowhere.example")
	rig.Eventually(t, soon, func() error { return rig.Check(hanging.Load() > 0, "the hub joins no room", nil) })
	for i := range 8 {
		before := h.changes.Load()
		lie(id.RoomID(fmt.Sprintf("!%d:nowhere.example", i+1)))
		rig.Eventually(t, soon, func() error { return rig.Check(h.changes.Load() > before, "the hub does not see it", i) })
	}
	room := newWindow(t, kiosk, space, kiosk.UserID)
	announce(room)
	h.sees(t, kiosk.UserID, room, true)
	if n := hanging.Load(); n != 1 {
		t.Errorf("%d joins of one window's rooms are under way", n)
	}
}

func invite(t *testing.T, who *mautrix.Client, room id.RoomID, user id.UserID) error {
	t.Helper()
	_, err := who.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: user})
	return err
}

// TestSpaceOfPeople: in a network whose windows have a room of their own, nobody in the Space can make a window, even if the hub is invited there.
func TestSpaceOfPeople(t *testing.T) {
	hs := rig.StartHomeserver(t)
	admin, eve := newClient(t, hs, "admin"), newClient(t, hs, "eve")
	space, err := newnetwork.Create(t.Context(), admin, newnetwork.Options{Name: "Network", WindowsRoom: true})
	must(t, space, err)
	must(t, 0, invite(t, admin, space, eve.UserID))
	joined, err := eve.JoinRoomByID(t.Context(), space)
	must(t, joined, err)
	user, password := hs.Register(t, "hub")
	h := runHub(t, hs.URL, user, password, filepath.Join(t.TempDir(), "hub.json"), admin.UserID)
	must(t, 0, invite(t, admin, space, user))
	trap := newWindow(t, eve, space, eve.UserID)
	list(t, eve, space, trap, hs.ServerName)
	must(t, 0, invite(t, eve, trap, user))
	rig.Eventually(t, soon, func() error {
		var member event.MemberEventContent
		err := eve.StateEvent(t.Context(), trap, event.StateMember, user.String(), &member)
		return rig.Check(err == nil && member.Membership == event.MembershipLeave, "the hub has refused", member.Membership)
	})
	if h.IsJoined(eve.UserID, trap) || len(h.Users()) != 0 {
		t.Error("a person is a window")
	}
}

// TestLeftOut: a sync leaves out that somebody has joined a window's room. Who asks for access is found all the same.
func TestLeftOut(t *testing.T) {
	hs := rig.StartHomeserver(t)
	admin, kiosk, guest := newClient(t, hs, "admin"), newClient(t, hs, "kiosk"), newClient(t, hs, "guest")
	space, err := newnetwork.Create(t.Context(), admin, newnetwork.Options{Name: "Network"})
	must(t, space, err)
	must(t, 0, invite(t, admin, space, kiosk.UserID))
	joined, err := kiosk.JoinRoomByID(t.Context(), space)
	must(t, joined, err)
	room := newWindow(t, kiosk, space, kiosk.UserID)
	list(t, kiosk, space, room, hs.ServerName)

	target, err := url.Parse(hs.URL)
	must(t, target, err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ErrorLog = log.New(io.Discard, "", 0) // requests are cancelled
	var leaves, left atomic.Bool                // whether the window's room is left out of what is new, and whether it was
	proxy.ModifyResponse = func(answer *http.Response) error {
		if !leaves.Load() || !strings.HasSuffix(answer.Request.URL.Path, "/sync") || answer.Request.URL.Query().Get("since") == "" {
			return nil
		}
		var content map[string]any
		err := json.NewDecoder(answer.Body).Decode(&content)
		if err != nil {
			return err
		}
		rooms, _ := content["rooms"].(map[string]any)
		if joined, _ := rooms["join"].(map[string]any); joined[room.String()] != nil {
			delete(joined, room.String())
			left.Store(true)
		}
		text, err := json.Marshal(content)
		answer.Body, answer.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
		answer.Header.Set("Content-Length", strconv.Itoa(len(text)))
		return err
	}
	bad := httptest.NewServer(proxy)
	t.Cleanup(bad.Close)
	user, password := hs.Register(t, "hub")
	h := runHub(t, bad.URL, user, password, filepath.Join(t.TempDir(), "hub.json"), admin.UserID)
	must(t, 0, invite(t, admin, space, user))
	h.sees(t, kiosk.UserID, room, true)

	leaves.Store(true)
	must(t, 0, invite(t, kiosk, room, guest.UserID))
	answer, err := guest.JoinRoomByID(t.Context(), room)
	must(t, answer, err)
	if !h.Joined(t.Context(), guest.UserID, room) {
		t.Errorf("the guest is not found: %s; left out: %t", h.Why(guest.UserID, room), left.Load())
	}
	if !left.Load() {
		t.Error("nothing was left out")
	}
	if !h.Belongs(guest.UserID) {
		t.Error("the guest does not belong")
	}
}
