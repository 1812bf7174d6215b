//go:build full

package rtc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/rtc"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// limit is how long anything may take on a busy machine.
const limit = 20 * time.Second

// wire is a connection to the homeserver that can be cut.
type wire struct {
	http.RoundTripper
	cut    atomic.Bool
	sticky atomic.Pointer[string] // the section of a room in sync to which encrypted events are moved, as sticky ones; nil: they are not moved
	synced atomic.Int64           // bytes of the longest sync response
}

var errCut = errors.New("the wire is cut")

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	if w.cut.Load() {
		return nil, errCut
	}
	response, err := w.RoundTripper.RoundTrip(r)
	if err != nil || response.StatusCode != http.StatusOK || !strings.HasSuffix(r.URL.Path, "/sync") {
		return response, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	w.synced.Store(max(w.synced.Load(), int64(len(data)))) // there is one request at a time
	if section := w.sticky.Load(); section != nil {
		var body map[string]any
		if err := json.Unmarshal(data, &body); err != nil {
			return nil, err
		}
		stick(body, *section)
		if data, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
	response.Header.Del("Content-Length")
	return response, nil
}

// stick makes encrypted events of a sync response sticky, as a homeserver with MSC4354 would show them.
func stick(body map[string]any, section string) {
	rooms, _ := body["rooms"].(map[string]any)
	joined, _ := rooms["join"].(map[string]any)
	for _, value := range joined {
		room := value.(map[string]any)
		timeline, _ := room["timeline"].(map[string]any)
		events, _ := timeline["events"].([]any)
		var kept, moved []any
		for _, e := range events {
			if e := e.(map[string]any); e["type"] == "m.room.encrypted" {
				e["msc4354_sticky"] = map[string]any{"duration_ms": 3_600_000}
				moved = append(moved, e)
			} else {
				kept = append(kept, e)
			}
		}
		if section != "timeline" && len(moved) > 0 {
			timeline["events"] = kept
			room[section] = map[string]any{"events": moved}
		}
	}
}

// kiosk is a bot with a manager, and what it was told.
type kiosk struct {
	*bot.Bot
	*rtc.Manager
	wire *wire

	mu      sync.Mutex // guards what follows
	members map[id.RoomID][]rtc.Member
	calls   map[id.RoomID]*rtc.Call
	unnamed []id.UserID       // they get no keys
	keys    map[string][]byte // received, by identity and index
	own     map[uint8][]byte  // used
	using   int
	sent    int
	service string
	failed  error
	rings   []rtc.Ring
	denials []rtc.Decline
	legacy  []id.UserID
}

// newKiosk starts a bot on hs. stop leaves its calls and ends it.
func newKiosk(t *testing.T, hs *rig.Homeserver, name string) (k *kiosk, stop func()) {
	t.Helper()
	return startKiosk(t, rig.NewBotAccount(t, hs, name), name)
}

// startKiosk is newKiosk for an account that may have run a kiosk before.
func startKiosk(t *testing.T, account rig.BotAccount, name string) (k *kiosk, stop func()) {
	t.Helper()
	k = &kiosk{
		wire:    &wire{RoundTripper: http.DefaultTransport},
		members: make(map[id.RoomID][]rtc.Member), calls: make(map[id.RoomID]*rtc.Call), keys: make(map[string][]byte), own: make(map[uint8][]byte), using: -1,
	}
	log := zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.InfoLevel).With().Str("kiosk", name).Timestamp().Logger()
	config := account.Config(t)
	config.HTTPClient = &http.Client{Transport: k.wire}
	config.Log = log.Level(zerolog.WarnLevel)
	var err error
	if k.Bot, err = bot.New(config); err != nil {
		t.Fatal(err)
	}
	note := func(change func()) {
		k.mu.Lock()
		defer k.mu.Unlock()
		change()
	}
	k.Manager, err = rtc.NewManager(rtc.Config{
		Bot: k.Bot, DB: config.DB, Log: log,
		OnMembers: func(room id.RoomID, members []rtc.Member, _ []bot.Device) {
			note(func() { k.members[room] = members })
			k.share(room)
		},
		OnRing:       func(r rtc.Ring) { note(func() { k.rings = append(k.rings, r) }) },
		OnDecline:    func(d rtc.Decline) { note(func() { k.denials = append(k.denials, d) }) },
		OnLegacyCall: func(_ id.RoomID, user id.UserID) { note(func() { k.legacy = append(k.legacy, user) }) },
	})
	if err != nil {
		t.Fatal(err)
	}
	stopBot := rig.RunBot(t, k.Bot)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Manager.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		stopBot()
		_ = config.DB.Close()
	})
	t.Cleanup(stop)
	return k, stop
}

func (k *kiosk) event(e rtc.Event) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch e.Kind {
	case rtc.Transport:
		k.service = e.Service
	case rtc.Key:
		k.keys[fmt.Sprint(e.Identity, " ", e.Index)] = e.Material
	case rtc.UseKey:
		k.own[e.Index], k.using = e.Material, int(e.Index)
	case rtc.KeySent:
		k.sent++
	case rtc.Failed:
		k.failed = e.Err
	}
}

func (k *kiosk) join(t *testing.T, room id.RoomID) *rtc.Call {
	t.Helper()
	call, err := k.Join(room, rtc.JoinOptions{Intent: "video", OnEvent: k.event})
	if err != nil {
		t.Fatal(err)
	}
	k.mu.Lock()
	k.calls[room] = call
	k.mu.Unlock()
	k.share(room)
	return call
}

// share gives our keys to everybody in a call that we are in, except those whom the screen does not name.
func (k *kiosk) share(room id.RoomID) {
	k.mu.Lock()
	call := k.calls[room]
	var devices []bot.Device
	for _, m := range k.members[room] {
		if !slices.Contains(k.unnamed, m.User) {
			devices = append(devices, m.BotDevice())
		}
	}
	k.mu.Unlock()
	if call != nil {
		call.SetRecipients(devices)
	}
}

func (k *kiosk) identity() string { return k.UserID().String() + ":" + k.DeviceID().String() }

// sees waits until exactly the others are in the call.
func (k *kiosk) sees(t *testing.T, within time.Duration, room id.RoomID, others ...*kiosk) {
	t.Helper()
	rig.Eventually(t, within, func() error {
		k.mu.Lock()
		defer k.mu.Unlock()
		var want, got []string
		for _, o := range others {
			want = append(want, o.identity())
		}
		for _, m := range k.members[room] {
			got = append(got, m.Identity)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(want, got) {
			return fmt.Errorf("%s sees %q, not %q (%v)", k.UserID(), got, want, k.failed)
		}
		return nil
	})
}

// hears waits until k has the key that other uses.
func (k *kiosk) hears(t *testing.T, other *kiosk) {
	t.Helper()
	rig.Eventually(t, limit, func() error {
		other.mu.Lock()
		index, material := other.using, other.own[uint8(max(other.using, 0))]
		other.mu.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if index < 0 || !bytes.Equal(k.keys[fmt.Sprint(other.identity(), " ", index)], material) {
			return fmt.Errorf("%s lacks key %d of %s; %+v, %+v", k.UserID(), index, other.UserID(), k.Bot.Stats(), k.Manager.Stats())
		}
		return nil
	})
}

// openRoom makes an encrypted room and lets all guests join. level is the power level that its calls need.
func openRoom(t *testing.T, level int, host *kiosk, guests ...*kiosk) id.RoomID {
	t.Helper()
	key := ""
	power := &event.PowerLevelsEventContent{
		Users:  map[id.UserID]int{host.UserID(): 100},
		Events: map[string]int{"org.matrix.msc3401.call.member": level},
	}
	request := &mautrix.ReqCreateRoom{
		Preset: "private_chat", RoomVersion: id.RoomV10, PowerLevelOverride: power,
		InitialState: []*event.Event{{
			Type: event.StateEncryption, StateKey: &key,
			Content: event.Content{Parsed: &event.EncryptionEventContent{Algorithm: id.AlgorithmMegolmV1}},
		}},
	}
	for _, guest := range guests {
		request.Invite = append(request.Invite, guest.UserID())
	}
	room, err := host.Client().CreateRoom(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	for _, guest := range guests {
		rig.Eventually(t, limit, func() error {
			_, err := guest.Client().JoinRoom(t.Context(), room.RoomID.String(), &mautrix.ReqJoinRoom{Via: []string{host.ServerName()}})
			return err
		})
	}
	for _, k := range append(guests, host) {
		rig.Eventually(t, limit, func() error {
			encrypted, err := k.Encrypted(t.Context(), room.RoomID)
			if err == nil && !encrypted {
				err = errors.New("the room isn't known to be encrypted")
			}
			members, err2 := k.Members(t.Context(), room.RoomID)
			if err == nil && len(members) != len(guests)+1 {
				err = fmt.Errorf("%s knows %d members", k.UserID(), len(members))
			}
			return errors.Join(err, err2)
		})
	}
	return room.RoomID
}

// newService is the part of a MatrixRTC authorisation service that the signalling needs: it checks the OpenID token and answers.
func newService(t *testing.T, userinfo map[string]*rig.Homeserver) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		for server, hs := range userinfo {
			if r.URL.Path != "/jwt/sfu/get" || !bytes.Contains(body, []byte(`"matrix_server_name":"`+server+`"`)) {
				continue
			}
			_, token, _ := strings.Cut(string(body), `"access_token":"`)
			token, _, _ = strings.Cut(token, `"`)
			response, err := hs.HTTPClient.Get("https://" + server + "/_matrix/federation/v1/openid/userinfo?access_token=" + token)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			defer response.Body.Close()
			if response.StatusCode == http.StatusOK {
				_, _ = io.WriteString(w, `{"url":"wss://sfu.example","jwt":"a.b.c"}`)
				return
			}
		}
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(s.Close)
	return s
}

// membership is the content of the membership of the kiosk of, as the homeserver of the kiosk asked has it in the room's state.
func membership(t *testing.T, asked, of *kiosk, room id.RoomID) map[string]any {
	t.Helper()
	content := make(map[string]any)
	kind := event.Type{Type: "org.matrix.msc3401.call.member", Class: event.StateEventType}
	err := asked.Client().StateEvent(t.Context(), room, kind, fmt.Sprintf("_%s_%s_m.call", of.UserID(), of.DeviceID()), &content)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestFederatedCall(t *testing.T) {
	services := make(map[string]*rig.Homeserver)
	service := newService(t, services)
	var servers [2]*rig.Homeserver
	for i := range servers {
		servers[i] = rig.StartHomeserverWith(t, rig.Options{Transports: []string{service.URL + "/jwt"}})
		services[servers[i].ServerName] = servers[i]
	}
	dresden, _ := newKiosk(t, servers[0], "dresden")
	munich, stopMunich := newKiosk(t, servers[1], "munich")
	room := openRoom(t, 0, dresden, munich)

	begun := time.Now()
	dresdenCall := dresden.join(t, room)
	munich.sees(t, limit, room, dresden)
	t.Log("the membership took ", time.Since(begun))
	begun = time.Now()
	munichCall := munich.join(t, room)
	dresden.sees(t, limit, room, munich)
	t.Log("the answer took ", time.Since(begun))
	dresden.hears(t, munich)
	munich.hears(t, dresden)
	t.Log("with both keys ", time.Since(begun))
	munich.mu.Lock()
	if got := munich.members[room][0]; got.Service != service.URL+"/jwt" || got.Intent != "video" || got.Sticky || munich.service != got.Service {
		t.Errorf("got %+v, own service %q", got, munich.service)
	}
	munich.mu.Unlock()
	url, jwt, err := munichCall.Token(t.Context(), service.URL+"/jwt")
	if err != nil || url != "wss://sfu.example" || jwt != "a.b.c" {
		t.Errorf("token: %q, %v", url, err)
	}

	// Leaving removes the membership, and those who stay use a new key.
	begun = time.Now()
	if err := munichCall.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	dresden.sees(t, limit, room)
	t.Log("leaving took ", time.Since(begun))
	rig.Eventually(t, limit, func() error {
		dresden.mu.Lock()
		defer dresden.mu.Unlock()
		if dresden.using < 1 {
			return fmt.Errorf("dresden uses key %d", dresden.using)
		}
		return nil
	})
	if got := membership(t, dresden, munich, room); len(got) != 0 {
		t.Errorf("the state still has %v", got)
	}

	// Munich joins again and is killed. The delayed leave removes it.
	munich.join(t, room)
	dresden.sees(t, limit, room, munich)
	dresden.hears(t, munich)
	munich.hears(t, dresden)
	begun = time.Now()
	munich.wire.cut.Store(true)
	dresden.sees(t, 25*time.Second, room)
	t.Log("the killed one went after ", time.Since(begun))

	// Munich's connection is back. Munich finds out that it was removed, and joins again.
	munich.wire.cut.Store(false)
	begun = time.Now()
	dresden.sees(t, limit, room, munich)
	t.Log("back after ", time.Since(begun))
	dresden.hears(t, munich)
	munich.hears(t, dresden)

	// Munich's homeserver is killed and started again. Nobody leaves the call because of that.
	servers[1].Kill(t)
	servers[1].Restart(t)
	munich.sees(t, limit, room, dresden)
	dresden.sees(t, limit, room, munich)

	// The ACL bans Munich's homeserver from the room. Munich's user cannot leave the call any more, does not count, and gets no key. Then Munich's
	// homeserver is allowed again. (Both homeservers are called localhost, and the ACL is not applied to a bot's own homeserver, so only Dresden is
	// looked at.)
	shutOut := func(deny ...string) {
		t.Helper()
		content := map[string]any{"allow": []string{"*"}, "deny": append([]string{}, deny...)}
		if _, err := dresden.Client().SendStateEvent(t.Context(), room, event.StateServerACL, "", content); err != nil {
			t.Fatal(err)
		}
	}
	keys := func() (using, sent int) {
		dresden.mu.Lock()
		defer dresden.mu.Unlock()
		return dresden.using, dresden.sent
	}
	using, _ := keys()
	shutOut("evil.example", "localhost")
	dresden.sees(t, limit, room)
	_, sent := keys()
	rig.Eventually(t, limit, func() error {
		if now, _ := keys(); now == using {
			return fmt.Errorf("dresden uses key %d still", now)
		}
		return nil
	})
	if _, now := keys(); now != sent {
		t.Error("who is shut out got a key")
	}
	shutOut("evil.example")
	dresden.sees(t, limit, room, munich)
	rig.Eventually(t, limit, func() error {
		if _, now := keys(); now == sent {
			return errors.New("who may come again got no key")
		}
		return nil
	})

	// The program is ended normally.
	begun = time.Now()
	stopMunich()
	dresden.sees(t, limit, room)
	t.Log("ending took ", time.Since(begun))
	if err := dresdenCall.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := membership(t, dresden, dresden, room); len(got) != 0 {
		t.Errorf("the state still has %v", got)
	}
}

// TestNotAllowed: the error says which power level has to be changed.
func TestNotAllowed(t *testing.T) {
	hs := rig.StartHomeserverWith(t, rig.Options{Transports: []string{"https://rtc.example/jwt"}})
	host, _ := newKiosk(t, hs, "host")
	guest, _ := newKiosk(t, hs, "guest")
	room := openRoom(t, 50, host, guest)
	call := guest.join(t, room)
	rig.Eventually(t, limit, func() error {
		guest.mu.Lock()
		defer guest.mu.Unlock()
		var refused *rtc.PowerLevelError
		if !errors.As(guest.failed, &refused) || refused.Room != room {
			return fmt.Errorf("told %v", guest.failed)
		}
		return nil
	})
	if err := call.Leave(t.Context()); err != nil {
		t.Error(err)
	}
	clear, err := host.Client().CreateRoom(t.Context(), &mautrix.ReqCreateRoom{Preset: "private_chat"})
	if err != nil {
		t.Fatal(err)
	}
	call = host.join(t, clear.RoomID)
	rig.Eventually(t, limit, func() error {
		host.mu.Lock()
		defer host.mu.Unlock()
		if !errors.Is(host.failed, rtc.ErrUnencrypted) {
			return fmt.Errorf("told %v", host.failed)
		}
		return nil
	})
	if err := call.Leave(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestRinging: a ring and its decline pass real homeservers, encrypted, and a legacy call is rejected.
func TestRinging(t *testing.T) {
	options := rig.Options{Transports: []string{"https://rtc.example/jwt"}}
	caller, _ := newKiosk(t, rig.StartHomeserverWith(t, options), "caller")
	called, _ := newKiosk(t, rig.StartHomeserverWith(t, options), "called")
	room := openRoom(t, 0, caller, called)
	call := caller.join(t, room)
	begun := time.Now()
	ring, err := caller.Ring(t.Context(), room, []id.UserID{called.UserID()})
	if err != nil {
		t.Fatal(err)
	}
	rig.Eventually(t, limit, func() error {
		called.mu.Lock()
		defer called.mu.Unlock()
		if len(called.rings) != 1 {
			return fmt.Errorf("%d rings, %+v", len(called.rings), called.Manager.Stats())
		}
		got := called.rings[0]
		if left := time.Until(got.Expires); left < 30*time.Second || left > time.Minute {
			t.Errorf("it rings for %v", left)
		}
		got.Expires = time.Time{}
		if want := (rtc.Ring{Room: room, Sender: caller.UserID(), Event: ring, Ring: true}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		return nil
	})
	t.Log("ringing took ", time.Since(begun))
	begun = time.Now()
	if err := called.Decline(t.Context(), room, ring); err != nil {
		t.Fatal(err)
	}
	rig.Eventually(t, limit, func() error {
		caller.mu.Lock()
		defer caller.mu.Unlock()
		if len(caller.denials) != 1 || caller.denials[0] != (rtc.Decline{Room: room, Sender: called.UserID(), Event: ring}) {
			return fmt.Errorf("told %+v, %+v", caller.denials, caller.Manager.Stats())
		}
		return nil
	})
	t.Log("the decline took ", time.Since(begun))
	invite := map[string]any{"call_id": "old", "party_id": "X", "version": "1", "lifetime": 60000, "offer": map[string]any{"type": "offer", "sdp": "v=0"}}
	invited, err := caller.Send(t.Context(), room, event.CallInvite, invite)
	if err != nil {
		t.Fatal(err)
	}
	if err := called.Notice(t.Context(), room, "Please start a video call."); err != nil {
		t.Fatal(err)
	}
	rig.Eventually(t, limit, func() error {
		called.mu.Lock()
		defer called.mu.Unlock()
		if len(called.legacy) != 1 || called.legacy[0] != caller.UserID() {
			return fmt.Errorf("told %v, %+v", called.legacy, called.Manager.Stats())
		}
		return nil
	})
	if err := call.Leave(t.Context()); err != nil {
		t.Error(err)
	}
	// The homeserver sees only ciphertext.
	for _, sent := range []id.EventID{ring, invited} {
		e, err := caller.Client().GetEvent(t.Context(), room, sent)
		if err != nil {
			t.Fatal(err)
		}
		if e.Type.Type != event.EventEncrypted.Type {
			t.Errorf("%s went as %s", sent, e.Type.Type)
		}
	}
}

// TestEncryptedSticky: an encrypted sticky membership is read in whatever section sync shows it, and by the window's
// next run. Dendrite has no sticky events, so the connection makes them of ordinary ones.
func TestEncryptedSticky(t *testing.T) {
	hs := rig.StartHomeserver(t)
	element, _ := newKiosk(t, hs, "element")
	account := rig.NewBotAccount(t, hs, "window")
	window, stop := startKiosk(t, account, "window")
	room := openRoom(t, 0, window, element)
	send := func(join string, come bool) {
		t.Helper()
		content := map[string]any{"slot_id": "m.call#ROOM", "msc4354_sticky_key": join}
		if come {
			content["application"], content["versions"] = map[string]any{"type": "m.call"}, []any{}
			content["member"] = map[string]any{"user_id": element.UserID(), "device_id": element.DeviceID(), "id": join}
			content["transports"] = map[string]any{"published": []any{}, "can_subscribe": []any{"livekit"}}
		}
		kind := event.Type{Type: "org.matrix.msc4143.rtc.member", Class: event.MessageEventType}
		if _, err := element.Send(t.Context(), room, kind, content); err != nil {
			t.Fatal(err)
		}
	}
	sees := func(what string, want int) {
		t.Helper()
		rig.Eventually(t, limit, func() error {
			window.mu.Lock()
			defer window.mu.Unlock()
			got := window.members[room]
			if len(got) != want || want > 0 && (!got[0].Sticky || got[0].Device != element.DeviceID()) {
				return fmt.Errorf("%s: %+v, %+v", what, got, window.Manager.Stats())
			}
			return nil
		})
	}
	for i, section := range []string{"timeline", "msc4354_sticky"} {
		window.wire.sticky.Store(&section)
		send(fmt.Sprint("join", i), true)
		sees("by "+section, 1)
		send(fmt.Sprint("join", i), false)
		sees("gone by "+section, 0)
	}
	// Sync shows each only once. A window that is started again has not forgotten who is there and who has left.
	send("last", true)
	sees("for the last time", 1)
	stop()
	window, _ = startKiosk(t, account, "window again")
	sees("after a restart", 1)
}

// TestKilledAndBack: a kiosk that is killed and started again within the delay stays in the call. The delayed leave of its earlier run,
// which the homeserver still has, must not remove it.
func TestKilledAndBack(t *testing.T) {
	hs := rig.StartHomeserverWith(t, rig.Options{Transports: []string{"https://rtc.example/jwt"}})
	dresden, _ := newKiosk(t, hs, "dresden")
	account := rig.NewBotAccount(t, hs, "munich")
	munich, stop := startKiosk(t, account, "munich")
	room := openRoom(t, 0, dresden, munich)
	dresden.join(t, room)
	munich.join(t, room)
	dresden.sees(t, limit, room, munich)
	dresden.mu.Lock()
	first := dresden.members[room][0].Created
	dresden.mu.Unlock()
	killed := time.Now()
	munich.wire.cut.Store(true)
	stop()
	munich, _ = startKiosk(t, account, "munich again")
	munich.join(t, room)
	rig.Eventually(t, limit, func() error {
		dresden.mu.Lock()
		defer dresden.mu.Unlock()
		if got := dresden.members[room]; len(got) != 1 || got[0].Created.Equal(first) {
			return fmt.Errorf("dresden sees %+v", got)
		}
		return nil
	})
	t.Log("back after ", time.Since(killed))
	dresden.mu.Lock()
	second := dresden.members[room][0].Created
	dresden.mu.Unlock()
	rig.Eventually(t, time.Minute, func() error {
		dresden.mu.Lock()
		defer dresden.mu.Unlock()
		if got := dresden.members[room]; len(got) != 1 || !got[0].Created.Equal(second) {
			t.Fatalf("%v after it was killed dresden sees %+v", time.Since(killed), got)
		}
		if left := time.Until(killed.Add(21 * time.Second)); left > 0 {
			return fmt.Errorf("%v are left to watch", left)
		}
		return nil
	})
	dresden.hears(t, munich)
	munich.hears(t, dresden)
}
