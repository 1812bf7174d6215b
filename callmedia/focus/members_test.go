package focus_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/callmedia/focus"
	"multifactorymodel.org/ewindow/callmedia/sfu"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// rooms says who is in which room.
type rooms struct {
	mu   sync.Mutex
	list map[string]bool
}

func (r *rooms) set(user id.UserID, room string, joined bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list[user.String()+" "+room] = joined
}

func (r *rooms) has(user id.UserID, room id.RoomID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.list[user.String()+" "+room.String()]
}

// TestMembersOnly demands that nobody gets into the SFU's room of a Matrix room that they are not in: not with a new token, not with one from before,
// and not by staying.
func TestMembersOnly(t *testing.T) {
	hs := rig.StartHomeserver(t)
	l := rig.StartLiveKitWith(t, rig.LiveKitOptions{NoAutoCreate: true})
	joined := &rooms{list: make(map[string]bool)}
	proxy, err := focus.NewProxy(focus.ProxyConfig{LiveKitURL: l.HTTPURL, Key: l.Key, Secret: l.Secret, Member: joined.has, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	signalling := strings.Replace(rig.Serve(t, rig.Listen(t), proxy), "http", "ws", 1)
	s, err := focus.NewService(focus.ServiceConfig{
		LiveKitURL: l.HTTPURL, PublicURL: signalling, Key: l.Key, Secret: l.Secret, FullAccess: []string{hs.ServerName}, Allowed: loopbackOnly,
		Member: func(_ context.Context, user id.UserID, room id.RoomID) bool { return joined.has(user, room) }, Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	focus.TrustOnly(s, roots(t))
	anna, eve := newPerson(t, hs, "anna"), newPerson(t, hs, "eve")
	const room, other = "!room:elsewhere.example", "!other:elsewhere.example"
	joined.set(anna.id, room, true)
	get := func(p person, room string) (int, map[string]any) {
		status, answer, _ := ask(t, s, "POST", "/sfu/get", p.plain(t, room))
		return status, answer
	}
	hashed := map[string]any{"room_id": room, "slot_id": "m.call#ROOM", "openid_token": eve.openID(t), "member": map[string]any{
		"id": "member", "claimed_user_id": string(eve.id), "claimed_device_id": "DEVICE",
	}}
	if status, answer, _ := ask(t, s, "POST", "/get_token", hashed); status != http.StatusForbidden || answer["errcode"] != "M_FORBIDDEN" {
		t.Errorf("/get_token answers somebody who is not in the room with %d %v", status, answer)
	}
	for _, c := range []struct {
		who  person
		room string
	}{{eve, room}, {eve, other}, {anna, other}} {
		if status, answer := get(c.who, c.room); status != http.StatusForbidden || answer["errcode"] != "M_FORBIDDEN" {
			t.Errorf("/sfu/get answers %s in %s with %d %v", c.who.id, c.room, status, answer)
		}
		if _, _, err := s.DeviceToken(t.Context(), c.who.id, "DEVICE", id.RoomID(c.room)); !errors.Is(err, mautrix.MForbidden) {
			t.Errorf("%s in %s: %v", c.who.id, c.room, err)
		}
	}

	status, answer := get(anna, room)
	if status != http.StatusOK {
		t.Fatalf("a member is answered %d %v", status, answer)
	}
	inside := enter(t, answer)
	if !proxy.Recheck(t.Context()) {
		t.Error("not all is done, with nobody to be removed")
	}
	wantAlive(t, l, inside, answer)
	joined.set(anna.id, room, false) // she is removed from the Matrix room
	done := func() {
		t.Helper()
		rig.Eventually(t, patience, func() error { return rig.Check(proxy.Recheck(t.Context()), "it is never done", nil) })
	}
	done()
	wantOver(t, inside)
	rig.Eventually(t, patience, func() error {
		list := l.Participants(t, publishedRoom(t, l, answer))
		return rig.Check(len(list) == 0, "the participant stays", list)
	})
	var refused *sfu.RefusedError
	if _, err := sfu.Connect(t.Context(), options(answer)); !errors.As(err, &refused) || refused.Status != http.StatusForbidden {
		t.Errorf("she comes back with her old token: %v", err)
	}

	// She reaches LiveKit without the proxy. LiveKit may run elsewhere.
	joined.set(anna.id, room, true)
	_, answer = get(anna, room)
	answer["url"] = l.URL
	outside := enter(t, answer)
	proxy.Recheck(t.Context())
	wantAlive(t, l, outside, answer)
	joined.set(anna.id, room, false)
	done()
	wantOver(t, outside)
	if left := l.Participants(t, publishedRoom(t, l, answer)); len(left) != 0 {
		t.Errorf("%v stay, who came without the proxy", left)
	}
}
