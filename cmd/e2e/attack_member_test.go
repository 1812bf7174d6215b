//go:build full

package e2e_test

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"maunium.net/go/mautrix/event"

	"multifactorymodel.org/ewindow/bot/networkstate"
	"multifactorymodel.org/ewindow/bot/unstable"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// membersAttacks are the attacks of somebody whom an admin has invited into the network's Space. The member is in the windows' rooms, too.
var membersAttacks = []attack{
	{"a member changes rooms", memberChangesRooms},
	{"a member writes for others", memberWritesForOthers},
	{"a member invents devices", memberInventsDevices},
	{"a member is a ghost", memberIsAGhost},
	{"a member overwrites the list", memberOverwritesList},
	{"a member names services", memberNamesServices},
	{"a member rings", memberRings},
	{"a member sends keys", memberSendsKeys},
	{"a member changes names", memberChangesNames},
	{"a member plants Spaces", func(_ *testing.T, a *attacks) { a.plantSpaces(a.member, 5) }},
	{"a member comes and goes", memberComesAndGoes},
}

// memberChangesRooms tries every change of state that could open a room, take it over, or say something wrong about it.
func memberChangesRooms(_ *testing.T, a *attacks) {
	user := a.member.client.UserID.String()
	changes := map[string]any{
		"m.room.join_rules":           map[string]string{"join_rule": "public"},
		"m.room.power_levels":         map[string]any{"users": map[string]int{user: 100}},
		"m.room.encryption":           map[string]string{"algorithm": "none"},
		"m.room.history_visibility":   map[string]string{"history_visibility": "world_readable"},
		"m.room.guest_access":         map[string]string{"guest_access": "can_join"},
		"m.room.server_acl":           map[string]any{"allow": []string{"evil.example"}},
		"m.room.tombstone":            map[string]string{"body": "moved", "replacement_room": "!x:evil.example"},
		"m.room.name":                 map[string]string{"name": "Somewhere else"},
		"m.room.topic":                map[string]string{"topic": "closed"},
		"m.room.avatar":               map[string]string{"url": "mxc://evil.example/x"},
		"m.room.canonical_alias":      map[string]string{"alias": ""},
		"m.room.pinned_events":        map[string]any{"pinned": []string{}},
		"m.room.third_party_invite":   map[string]string{"display_name": "x"},
		"m.room.create":               map[string]string{"creator": user},
		"m.space.parent":              map[string]any{"via": a.servers()},
		"m.room.retention":            map[string]int{"max_lifetime": 1},
		"m.policy.rule.user":          map[string]string{"entity": "*", "recommendation": "m.ban", "reason": "x"},
		"im.vector.modular.widgets":   map[string]string{"type": "m.custom", "url": "https://evil.example"},
		"io.element.functional":       map[string]any{"service_members": []string{user}},
		unstable.RTCSlot:              map[string]any{},
		networkstate.TypeWindow.Type:  map[string]any{"version": 1, "kiosk": user, "shutter": "open"},
		networkstate.TypeNetwork.Type: map[string]any{"version": 1},
	}
	for _, room := range append([]string{a.Space}, a.rooms...) {
		for eventType, content := range changes {
			key := ""
			if eventType == unstable.RTCSlot {
				key = unstable.RoomSlot
			}
			a.member.refused(eventType+" in "+room, http.MethodPut, statePath(room, eventType, key), content)
		}
		for _, victim := range []string{a.Windows[0].userID(), a.Windows[1].userID(), a.adminID()} {
			for _, action := range []string{"kick", "ban", "unban"} {
				a.member.refused(action+" in "+room, http.MethodPost, matrixPath("v3", "rooms", room, action), map[string]string{"user_id": victim})
			}
			a.member.refused("a membership in "+room, http.MethodPut, statePath(room, event.StateMember.Type, victim), map[string]string{"membership": "leave"})
		}
		a.member.refused("inviting into "+room, http.MethodPost, matrixPath("v3", "rooms", room, "invite"),
			map[string]string{"user_id": a.stranger.client.UserID.String()})
		a.member.refused("upgrading "+room, http.MethodPost, matrixPath("v3", "rooms", room, "upgrade"), map[string]string{"new_version": "11"})
	}
}

// memberWritesForOthers ends the windows' memberships, and makes some in their names. The key of such an event begins with "_", so homeservers do not
// check whose it is (MSC3757 is not in use). The windows must not believe it, and their kiosks write their memberships again.
func memberWritesForOthers(t *testing.T, a *attacks) {
	user := a.member.client.UserID.String()
	type stateEvent struct {
		Type, Sender string
		Key          string `json:"state_key"`
		ID           string `json:"event_id"`
	}
	memberships := func(room, sender string) (list []stateEvent) {
		var state []stateEvent
		a.member.get(matrixPath("v3", "rooms", room, "state"), &state)
		return slices.DeleteFunc(state, func(e stateEvent) bool { return e.Type != unstable.CallMember || e.Sender != sender })
	}
	ended := 0
	for _, room := range a.rooms {
		for _, w := range a.Windows {
			for _, e := range memberships(room, w.userID()) {
				a.member.refused("redacting "+w.Name+"'s membership", http.MethodPut, matrixPath("v3", "rooms", room, "redact", e.ID, "1"), struct{}{})
				a.member.does(http.MethodPut, statePath(room, e.Type, e.Key), struct{}{})
				ended++
				rig.Eventually(t, time.Minute, func() error {
					now := memberships(room, w.userID())
					return rig.Check(slices.ContainsFunc(now, func(again stateEvent) bool { return again.Key == e.Key }), w.Name+"'s membership", now)
				})
			}
			a.member.refused("a membership for "+w.Name, http.MethodPut, statePath(room, unstable.CallMember, w.userID()), struct{}{})
			// A key of the member's own that names the window's device.
			key := "_" + user + "_" + w.userID() + "_m.call"
			a.member.does(http.MethodPut, statePath(room, unstable.CallMember, key), a.membership(user, w.userID(), time.Now()))
			a.member.does(http.MethodPut, statePath(room, unstable.CallMember, key), struct{}{})
		}
	}
	if ended != 2 {
		t.Errorf("%d memberships of windows were ended, instead of both", ended)
	}
}

// membership is what Element writes as the state of a device that is in a call.
func (a *attacks) membership(user, device string, created time.Time) map[string]any {
	return map[string]any{
		"application": "m.call", "call_id": "", "scope": unstable.ScopeRoom, "device_id": device, "expires": 14_400_000, unstable.CallIntent: "video",
		"membershipID": user + ":" + device, "created_ts": created.UnixMilli(),
		"focus_active": map[string]string{"type": "livekit", "focus_selection": unstable.FocusOldestMember},
		"foci_preferred": []map[string]string{{
			"type": "livekit", "livekit_alias": a.rooms[0], unstable.ServiceURL: fmt.Sprintf("http://127.0.0.1:%d/livekit/jwt", a.Windows[0].Local),
		}},
	}
}

// memberInventsDevices fills the places of both calls with devices that do not exist, and that have been there for years.
func memberInventsDevices(t *testing.T, a *attacks) {
	user := a.member.client.UserID.String()
	key := func(i int) string { return fmt.Sprintf("_%s_INVENTED%d_m.call", user, i) }
	for _, room := range a.rooms {
		for i := range 32 {
			a.member.does(http.MethodPut, statePath(room, unstable.CallMember, key(i)), a.membership(user, fmt.Sprint("INVENTED", i), time.Unix(int64(i), 0)))
		}
	}
	a.checkVisit(t)
	for _, room := range a.rooms {
		for i := range 32 {
			a.member.does(http.MethodPut, statePath(room, unstable.CallMember, key(i)), struct{}{})
		}
	}
}

// memberIsAGhost says in both rooms that her device is in the call, and never comes to the SFU.
func memberIsAGhost(t *testing.T, a *attacks) {
	user, device := a.member.client.UserID.String(), a.member.client.DeviceID.String()
	key := "_" + user + "_" + device + "_m.call"
	for _, room := range a.rooms {
		a.member.does(http.MethodPut, statePath(room, unstable.CallMember, key), a.membership(user, device, time.Now()))
	}
	a.checkVisit(t)
	for _, room := range a.rooms {
		a.member.does(http.MethodPut, statePath(room, unstable.CallMember, key), struct{}{})
	}
}

// memberOverwritesList takes both windows out of the list that Element shows, and adds rooms that are no windows.
func memberOverwritesList(t *testing.T, a *attacks) {
	for i, room := range a.rooms {
		a.member.does(http.MethodPut, statePath(a.Space, event.StateSpaceChild.Type, room), struct{}{})
		a.member.refused("an announcement for "+a.Windows[1-i].Name, http.MethodPut, statePath(a.Space, networkstate.TypeRoom.Type, a.Windows[1-i].userID()),
			map[string]any{"room": "!x:evil.example", "via": a.servers()})
	}
	a.checkVisit(t)
	for i := range 100 {
		a.member.does(http.MethodPut, statePath(a.Space, event.StateSpaceChild.Type, fmt.Sprintf("!junk%d:evil.example", i)),
			map[string]any{"via": []string{"evil.example"}})
	}
	// Her own announcement may name any room, also a window's.
	for _, room := range a.rooms {
		_ = a.member.try(http.MethodPut, statePath(a.Space, networkstate.TypeRoom.Type, a.member.client.UserID.String()),
			map[string]any{"room": room, "via": a.servers()})
	}
}

// memberNamesServices says that her device publishes at an authorisation service on the kiosks' own machine. Nothing may connect there: the kiosks' tokens
// would be in her hands, and what listens on that address is not for her.
func memberNamesServices(t *testing.T, a *attacks) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var connections atomic.Int64
	var serve sync.WaitGroup
	serve.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			_ = conn.Close()
		}
	})
	defer serve.Wait()
	defer listener.Close()
	user, device := a.member.client.UserID.String(), a.member.client.DeviceID.String()
	key := "_" + user + "_" + device + "_m.call"
	port := listener.Addr().(*net.TCPAddr).Port
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "127.1", "0.0.0.0", "2130706433"} {
		service := fmt.Sprintf("http://%s:%d/admin/reboot", host, port)
		content := a.membership(user, device, time.Now())
		content["foci_preferred"] = []map[string]string{{"type": "livekit", "livekit_alias": a.rooms[0], unstable.ServiceURL: service}}
		content["focus_active"] = map[string]string{"type": "livekit", "focus_selection": unstable.FocusMultiSFU, unstable.ServiceURL: service}
		for _, room := range a.rooms {
			a.member.does(http.MethodPut, statePath(room, unstable.CallMember, key), content)
		}
		a.checkVisit(t)
		for _, room := range a.rooms {
			a.member.does(http.MethodPut, statePath(room, unstable.CallMember, key), struct{}{})
		}
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("%d connections were made to an address of the member's choice", n)
	}
}

// memberRings sends rings, declines and calls of the old kind, all in the clear.
func memberRings(_ *testing.T, a *attacks) {
	for i := range 30 {
		for kind, content := range map[string]map[string]any{
			unstable.CallNotification: {
				"sender_ts": time.Now().UnixMilli(), "lifetime": 30_000, "notification_type": "ring", "m.mentions": map[string]bool{"room": true},
				"m.relates_to": map[string]string{"rel_type": "m.reference", "event_id": "$x"},
			},
			unstable.CallDecline: {"m.relates_to": map[string]string{"rel_type": "m.reference", "event_id": "$x"}},
			"m.call.invite": {
				"call_id": fmt.Sprint(i), "party_id": "x", "version": "1", "lifetime": 60_000, "offer": map[string]string{"type": "offer", "sdp": "v=0"},
			},
			"m.room.encrypted": {
				"algorithm": "m.megolm.v1.aes-sha2", "sender_key": strings.Repeat("A", 43), "session_id": fmt.Sprint(i), "device_id": "X", "ciphertext": "AwgA",
			},
		} {
			a.member.does(http.MethodPut, matrixPath("v3", "rooms", a.rooms[i%2], "send", kind, fmt.Sprint(kind, i)), content)
		}
	}
}

// memberSendsKeys sends the windows media keys of each other, in the clear and as messages that nobody can decrypt.
func memberSendsKeys(_ *testing.T, a *attacks) {
	for i := range 60 {
		content := map[string]any{
			"algorithm": "m.olm.v1.curve25519-aes-sha2", "sender_key": strings.Repeat("A", 43), "sent_ts": time.Now().UnixMilli(),
			"ciphertext": map[string]any{strings.Repeat("B", 43): map[string]any{"type": 0, "body": "AwgA"}}, "room_id": a.rooms[i%2],
			"keys": map[string]any{"index": i, "key": strings.Repeat("A", 22)}, "session": map[string]string{"call_id": "", "application": "m.call", "scope": "m.room"},
			"member": map[string]string{"id": a.Windows[1-i%2].userID() + ":X", "claimed_device_id": "X"},
		}
		messages := make(map[string]any)
		for _, w := range a.Windows {
			messages[w.userID()] = map[string]any{"*": content}
		}
		for _, kind := range []string{"m.room.encrypted", unstable.EncryptionKeys} {
			a.member.does(http.MethodPut, matrixPath("v3", "sendToDevice", kind, fmt.Sprint("member ", kind, i)), map[string]any{"messages": messages})
		}
	}
}

// memberChangesNames takes names that look like a window's, like nothing, or like other text.
func memberChangesNames(_ *testing.T, a *attacks) {
	user := a.member.client.UserID.String()
	for _, name := range []string{
		"Munich", "Dresden", "\u3164", "\u2800", "\u115f\u1160", "\uffa0", "\u200d", "\ufe0f", "\u034f", "\u202e" + "hcinuM", "a" + strings.Repeat("\u0301", 64),
		"<img src=x onerror=alert(1)>", strings.Repeat("long ", 2000), "",
	} {
		_ = a.member.try(http.MethodPut, matrixPath("v3", "profile", user, "displayname"), map[string]string{"displayname": name})
		for _, room := range a.rooms {
			_ = a.member.try(http.MethodPut, statePath(room, event.StateMember.Type, user), map[string]string{"membership": "join", "displayname": name})
		}
	}
}

// memberComesAndGoes leaves the room of Munich and joins it again.
func memberComesAndGoes(_ *testing.T, a *attacks) {
	for range 5 {
		a.member.does(http.MethodPost, matrixPath("v3", "rooms", a.rooms[1], "leave"), struct{}{})
		a.join(a.member, a.rooms[1])
	}
}
