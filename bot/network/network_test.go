//go:build full

package network_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.mau.fi/util/jsontime"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bot/network"
	"multifactorymodel.org/ewindow/bot/networkstate"
	"multifactorymodel.org/ewindow/bot/newnetwork"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// patience is how long something may take on a busy machine.
const patience = 40 * time.Second

// window is a Network with its bot on a real homeserver. It can be stopped and started again.
type window struct {
	*network.Network
	account rig.BotAccount
	user    id.UserID
	http    *http.Client    // of the bot; nil: the default
	client  *mautrix.Client // of the bot, once it was started
	cfg     network.Config
	changes atomic.Int64
	stop    func()
}

func newWindow(t *testing.T, hs *rig.Homeserver, name string, admins ...id.UserID) *window {
	t.Helper()
	w := &window{account: rig.NewBotAccount(t, hs, strings.ToLower(name)), stop: func() {}}
	w.user = w.account.User
	w.cfg = network.Config{
		Admins: admins, Name: name, City: "City of " + name, Timezone: "Europe/Berlin", Languages: []string{"de", "en"},
		OnChange: func() { w.changes.Add(1) }, Log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.InfoLevel),
	}
	return w
}

// start runs the window until stop is called.
func (w *window) start(t *testing.T) {
	t.Helper()
	cfg := w.account.Config(t)
	cfg.HTTPClient = w.http
	b, err := bot.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.cfg.Bot, w.cfg.DB = b, cfg.DB
	if w.Network, err = network.New(w.cfg); err != nil {
		t.Fatal(err)
	}
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.client = b.Client()
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	for _, run := range []func(context.Context) error{b.Run, w.Run} {
		group.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	w.stop = sync.OnceFunc(func() {
		cancel()
		group.Wait()
		_ = cfg.DB.Close()
	})
	t.Cleanup(w.stop)
}

// listed waits until the network's Space lists the window's room.
func (w *window) listed(t *testing.T) id.RoomID {
	t.Helper()
	rig.Eventually(t, patience, func() error {
		if own, listed := w.Own(); !listed {
			return fmt.Errorf("%s: the network does not list the own room %q", w.cfg.Name, own)
		}
		return nil
	})
	own, _ := w.Own()
	return own
}

// sees waits until the directory has exactly these windows, each written as name=shutter.
func (w *window) sees(t *testing.T, want ...string) []directory.Window {
	t.Helper()
	rig.Eventually(t, patience, func() error {
		var got []string
		for _, other := range w.Windows() {
			got = append(got, other.Name+"="+string(other.Shutter))
			if !other.Joined {
				return fmt.Errorf("%s lists %s without being in its room", w.cfg.Name, other.Name)
			}
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("%s sees %q, want %q", w.cfg.Name, got, want)
		}
		return nil
	})
	return w.Windows()
}

// newNetwork makes an admin and the admin's network.
func newNetwork(t *testing.T, hs *rig.Homeserver) (*mautrix.Client, id.RoomID) {
	t.Helper()
	account, _ := hs.Register(t, "admin")
	admin := hs.Client(t, account)
	space, err := newnetwork.Create(t.Context(), admin, newnetwork.Options{Name: "Multifactory"})
	if err != nil {
		t.Fatal(err)
	}
	return admin, space
}

func invite(t *testing.T, by *mautrix.Client, room id.RoomID, users ...id.UserID) {
	t.Helper()
	for _, u := range users {
		if _, err := by.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: u}); err != nil {
			t.Fatal(err)
		}
	}
}

func readState(t *testing.T, client *mautrix.Client, room id.RoomID, typ event.Type, key string) map[string]any {
	t.Helper()
	var content map[string]any
	if err := client.StateEvent(t.Context(), room, typ, key, &content); err != nil {
		t.Fatalf("%s: %v", typ.Type, err)
	}
	return content
}

func joinedRooms(t *testing.T, client *mautrix.Client) []id.RoomID {
	t.Helper()
	resp, err := client.JoinedRooms(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(resp.JoinedRooms)
	return resp.JoinedRooms
}

// TestFederation: two windows on two homeservers are admitted to a network. They find each other and see each other's shutter. A
// restart changes nothing. They lose each other when an admin removes one.
func TestFederation(t *testing.T) {
	servers := rig.StartFederation(t)
	admin, space := newNetwork(t, servers[0])
	dresden := newWindow(t, servers[0], "Dresden", admin.UserID)
	munich := newWindow(t, servers[1], "Munich", admin.UserID)
	dresden.start(t)
	munich.start(t)
	invite(t, admin, space, dresden.user, munich.user)

	dresdenRoom, munichRoom := dresden.listed(t), munich.listed(t)
	dresden.sees(t, "Munich=shut")
	munich.sees(t, "Dresden=shut")
	if name := dresden.Name(munich.user); name != "munich" {
		t.Errorf("Munich's bot is called %q", name)
	}
	checkWindowRoom(t, dresden.client, dresdenRoom, space)

	since := time.UnixMilli(time.Now().UnixMilli())
	for i := range 20 { // only the last one counts
		dresden.SetState(directory.State{Shutter: directory.Ajar, Since: since.Add(time.Duration(i) * time.Second)})
	}
	dresden.SetState(directory.State{Shutter: directory.Open, Since: since, Facing: munichRoom})
	seen := munich.sees(t, "Dresden=open")
	want := directory.Window{
		Room: dresdenRoom, Kiosk: dresden.user, Name: "Dresden", City: "City of Dresden", Shutter: directory.Open, Since: jsontime.UM(since),
		Facing: munichRoom, Joined: true,
	}
	if seen[0] != want {
		t.Errorf("Munich sees %+v", seen[0])
	}
	munich.SetState(directory.State{Shutter: directory.Open, Since: since})
	dresden.sees(t, "Munich=open")
	munich.SetState(directory.State{Shutter: directory.Shut, Since: since})
	dresden.sees(t, "Munich=shut")
	if dresden.changes.Load() == 0 {
		t.Error("OnChange was never called")
	}

	// An admin who joins the room may invite guests.
	if _, err := admin.JoinRoom(t.Context(), string(dresdenRoom), nil); err != nil {
		t.Fatal(err)
	}
	rig.Eventually(t, patience, func() error {
		power := readState(t, admin, dresdenRoom, event.StatePowerLevels, "")
		if users, _ := power["users"].(map[string]any); users[string(admin.UserID)] != 50.0 {
			return fmt.Errorf("power levels of users %v", power["users"])
		}
		return nil
	})

	// A restart changes only what the configuration changed.
	before := joinedRooms(t, dresden.client)
	listedBefore := childEvent(t, admin, space, dresdenRoom)
	dresden.stop()
	dresden.cfg.City, dresden.cfg.Name = "Elbflorenz", "Rosenwerk"
	dresden.start(t)
	if room := dresden.listed(t); room != dresdenRoom {
		t.Errorf("after the restart the room is %s, not %s", room, dresdenRoom)
	}
	dresden.sees(t, "Munich=shut")
	if seen = munich.sees(t, "Rosenwerk=open"); true {
		rig.Eventually(t, patience, func() error {
			if seen = munich.Windows(); len(seen) != 1 || seen[0].City != "Elbflorenz" || !seen[0].Since.Equal(since) {
				return fmt.Errorf("after the restart Munich sees %+v", seen)
			}
			return nil
		})
	}
	if after := joinedRooms(t, dresden.client); !slices.Equal(before, after) {
		t.Errorf("rooms %v before the restart, %v after", before, after)
	}
	if listedAfter := childEvent(t, admin, space, dresdenRoom); listedAfter != listedBefore {
		t.Error("the restart listed the room again")
	}

	// A user who is removed from the Space is removed from every room.
	if _, err := admin.KickUser(t.Context(), space, &mautrix.ReqKickUser{UserID: munich.user}); err != nil {
		t.Fatal(err)
	}
	dresden.sees(t)
	munich.sees(t)
	rig.Eventually(t, patience, func() error {
		if own, listed := munich.Own(); listed {
			return fmt.Errorf("Munich's room %s is still listed in the Space", own)
		}
		members, err := dresden.client.JoinedMembers(t.Context(), dresdenRoom)
		if err != nil {
			return err
		}
		if _, in := members.Joined[munich.user]; in {
			return errors.New("Munich's bot is still in Dresden's room")
		}
		if rooms := joinedRooms(t, dresden.client); slices.Contains(rooms, munichRoom) {
			return errors.New("Dresden's bot is still in Munich's room")
		}
		return nil
	})
	// Admitted again, it uses the same room.
	invite(t, admin, space, munich.user)
	if room := munich.listed(t); room != munichRoom {
		t.Errorf("back in the network with room %s instead of %s", room, munichRoom)
	}
	munich.sees(t, "Rosenwerk=open")
	dresden.sees(t, "Munich=shut")
}

func childEvent(t *testing.T, admin *mautrix.Client, space, room id.RoomID) id.EventID {
	t.Helper()
	var listed id.EventID
	rig.Eventually(t, patience, func() error {
		state, err := admin.State(t.Context(), space)
		if err != nil {
			return err
		}
		e := state[event.StateSpaceChild][string(room)]
		if e == nil {
			return fmt.Errorf("%s isn't listed in the Space", room)
		}
		listed = e.ID
		return nil
	})
	return listed
}

func checkWindowRoom(t *testing.T, client *mautrix.Client, room, space id.RoomID) {
	t.Helper()
	if v := readState(t, client, room, event.StateCreate, "")["room_version"]; v != "12" {
		t.Errorf("room version %v", v)
	}
	if v := readState(t, client, room, event.StateEncryption, "")["algorithm"]; v != "m.megolm.v1.aes-sha2" {
		t.Errorf("encryption %v", v)
	}
	if v := readState(t, client, room, event.StateHistoryVisibility, "")["history_visibility"]; v != "joined" {
		t.Errorf("history visibility %v", v)
	}
	if v := readState(t, client, room, event.StateGuestAccess, "")["guest_access"]; v != "forbidden" {
		t.Errorf("guest access %v", v)
	}
	if v, _ := json.Marshal(readState(t, client, room, event.StateJoinRules, "")); !strings.Contains(string(v), string(space)) ||
		!strings.Contains(string(v), `"restricted"`) {
		t.Errorf("join rules %s", v)
	}
	if v := readState(t, client, room, event.StateSpaceParent, string(space))["canonical"]; v != true {
		t.Errorf("the parent is %v", v)
	}
	power := readState(t, client, room, event.StatePowerLevels, "")
	events, _ := power["events"].(map[string]any)
	for name, want := range map[string]float64{
		"org.matrix.msc3401.call.member": 0, "m.call.member": 0, "org.matrix.msc4143.rtc.slot": 50,
		"org.matrix.msc4075.rtc.notification": 0, "org.matrix.msc4310.rtc.decline": 0, networkstate.TypeWindow.Type: 100,
	} {
		if events[name] != want {
			t.Errorf("power level of %s is %v, want %v", name, events[name], want)
		}
	}
}

// TestInvitations: one invitation is accepted, all others are refused.
func TestInvitations(t *testing.T) {
	hs := rig.StartHomeserver(t)
	admin, space := newNetwork(t, hs)
	dresden := newWindow(t, hs, "Dresden", admin.UserID)
	stranger, strangers := func() (*mautrix.Client, id.RoomID) {
		account, _ := hs.Register(t, "mallory")
		client := hs.Client(t, account)
		room, err := newnetwork.Create(t.Context(), client, newnetwork.Options{Name: "Not ours"})
		if err != nil {
			t.Fatal(err)
		}
		return client, room
	}()
	plain := func(by *mautrix.Client, content map[string]any) id.RoomID {
		resp, err := by.CreateRoom(t.Context(), &mautrix.ReqCreateRoom{Preset: "private_chat", CreationContent: content})
		if err != nil {
			t.Fatal(err)
		}
		return resp.RoomID
	}
	dresden.start(t)
	refused := func(want int) {
		t.Helper()
		rig.Eventually(t, patience, func() error {
			if got := dresden.Stats().RefusedInvitations; got != uint64(want) {
				return fmt.Errorf("%d refused, want %d", got, want)
			}
			if rooms := joinedRooms(t, dresden.client); len(rooms) > 2 {
				return fmt.Errorf("the bot is in %v", rooms)
			}
			return nil
		})
	}
	invite(t, stranger, strangers, dresden.user)
	invite(t, stranger, plain(stranger, nil), dresden.user)
	refused(2)
	invite(t, admin, plain(admin, nil), dresden.user)
	refused(3)
	invite(t, admin, plain(admin, map[string]any{"type": "m.space"}), dresden.user) // a Space that is not a network's
	refused(4)
	if rooms := joinedRooms(t, dresden.client); len(rooms) > 0 {
		t.Fatalf("the bot is in %v", rooms)
	}
	if own, listed := dresden.Own(); own != "" || listed {
		t.Fatalf("own room %q", own)
	}

	// An invitation that sync had shown before the window was started again.
	dresden.stop()
	invite(t, admin, space, dresden.user)
	dresden.start(t)
	dresden.listed(t)

	second, err := newnetwork.Create(t.Context(), admin, newnetwork.Options{Name: "Second", Windows: []id.UserID{dresden.user}})
	if err != nil {
		t.Fatal(err)
	}
	refused(1)
	if rooms := joinedRooms(t, dresden.client); len(rooms) != 2 || slices.Contains(rooms, second) {
		t.Errorf("the bot is in %v", rooms)
	}
}

// breaker is an HTTP transport that can fail requests.
type breaker struct {
	mu    sync.Mutex
	check func(*http.Request, func() (*http.Response, error)) (*http.Response, error)
	seen  []string
}

func (b *breaker) RoundTrip(r *http.Request) (*http.Response, error) {
	b.mu.Lock()
	check := b.check
	b.seen = append(b.seen, r.Method+" "+r.URL.Path)
	b.mu.Unlock()
	send := func() (*http.Response, error) { return http.DefaultTransport.RoundTrip(r) }
	if check == nil {
		return send()
	}
	return check(r, send)
}

func (b *breaker) count(part string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.seen {
		if strings.Contains(s, part) {
			n++
		}
	}
	return n
}

// TestCrashes ends the window between its steps, and loses the answer to the request that makes its room. At the end there is one room.
func TestCrashes(t *testing.T) {
	hs := rig.StartHomeserver(t)
	admin, space := newNetwork(t, hs)
	dresden := newWindow(t, hs, "Dresden", admin.UserID)
	transport := &breaker{}
	dresden.http = &http.Client{Transport: transport}

	// The room is made, but the answer is lost, and it is not announced.
	var made atomic.Int64
	transport.check = func(r *http.Request, send func() (*http.Response, error)) (*http.Response, error) {
		if strings.Contains(r.URL.Path, "/state/"+networkstate.TypeRoom.Type+"/") {
			return nil, errors.New("broken on purpose")
		}
		resp, err := send()
		if err == nil && strings.HasSuffix(r.URL.Path, "/createRoom") {
			resp.Body.Close()
			made.Add(1)
			return nil, errors.New("lost on purpose")
		}
		return resp, err
	}
	dresden.start(t)
	invite(t, admin, space, dresden.user)
	rig.Eventually(t, patience, func() error {
		if own, listed := dresden.Own(); own == "" || listed || transport.count("/state/"+networkstate.TypeRoom.Type+"/") == 0 || made.Load() == 0 {
			return fmt.Errorf("own room %q, listed %t, %d made", own, listed, made.Load())
		}
		return nil
	})
	dresden.stop()
	if made.Load() != 1 {
		t.Fatalf("%d rooms were made", made.Load())
	}
	rooms := joinedRooms(t, dresden.client)

	transport.mu.Lock()
	transport.check = nil
	transport.mu.Unlock()
	dresden.start(t)
	own := dresden.listed(t)
	if after := joinedRooms(t, dresden.client); !slices.Equal(rooms, after) || !slices.Contains(after, own) || len(after) != 2 {
		t.Fatalf("rooms %v before the crash, %v after", rooms, after)
	}

	// The shutter is set while the homeserver is away, and sent when it is back.
	watcher := newWindow(t, hs, "Munich", admin.UserID)
	watcher.start(t)
	invite(t, admin, space, watcher.user)
	watcher.sees(t, "Dresden=shut")
	// Not while Munich's room is being made: a Dendrite that is killed while it stores m.room.guest_access fails with a nil pointer at each
	// later start (roomserver/internal/input, kickGuests, before SetUserAPI).
	watcher.listed(t)
	hs.Kill(t)
	dresden.SetState(directory.State{Shutter: directory.Ajar, Since: time.Now()})
	dresden.SetState(directory.State{Shutter: directory.Open, Since: time.Now()})
	hs.Restart(t)
	watcher.sees(t, "Dresden=open")
	// What is right already is not sent again.
	if n := transport.count("/state/org.multifactorymodel.ewindow.window"); n > 40 {
		t.Errorf("the shutter was sent %d times", n)
	}
}

// TestStranger announces rooms in the network's Space that are no windows: a member's plain room, one that pretends to be Munich's, and one that nobody
// can join. The windows come and go.
func TestStranger(t *testing.T) {
	servers := rig.StartFederation(t)
	admin, space := newNetwork(t, servers[0])
	dresden := newWindow(t, servers[0], "Dresden", admin.UserID)
	munich := newWindow(t, servers[1], "Munich", admin.UserID)
	dresden.start(t)
	munich.start(t)
	// One after the other: if two users of a homeserver join a room of another one at the same time, Dendrite loses one of them.
	invite(t, admin, space, dresden.user)
	dresden.listed(t)
	invite(t, admin, space, munich.user)
	dresden.sees(t, "Munich=shut")
	munich.sees(t, "Dresden=shut")

	key := ""
	pretends := &event.Event{Type: networkstate.TypeWindow, StateKey: &key, Content: event.Content{Raw: map[string]any{
		"version": 1, "kiosk": munich.user, "shutter": "open", "since": 1,
	}}}
	var members []*mautrix.Client
	var traps []id.RoomID
	for i, request := range []*mautrix.ReqCreateRoom{
		{Preset: "public_chat"}, {Preset: "public_chat", InitialState: []*event.Event{pretends}}, {Preset: "private_chat"},
	} {
		account, _ := servers[1].Register(t, fmt.Sprintf("mallory%d", i))
		mallory := servers[1].Client(t, account)
		invite(t, admin, space, mallory.UserID)
		rig.Eventually(t, patience, func() error { // repeated, as package network does, and for the same reason
			if _, err := mallory.JoinRoom(t.Context(), string(space), &mautrix.ReqJoinRoom{Via: []string{servers[0].ServerName}}); err != nil {
				return err
			}
			return mallory.StateEvent(t.Context(), space, networkstate.TypeNetwork, "", new(map[string]any))
		})
		resp, err := mallory.CreateRoom(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		_, err = mallory.SendStateEvent(t.Context(), space, networkstate.TypeRoom, mallory.UserID.String(),
			map[string]any{"room": resp.RoomID, "via": []string{servers[1].ServerName}})
		if err != nil {
			t.Fatal(err)
		}
		members, traps = append(members, mallory), append(traps, resp.RoomID)
	}
	for i, room := range traps[:2] {
		for _, w := range []*window{dresden, munich} {
			rig.Eventually(t, patience, func() error {
				chunk, err := members[i].Members(t.Context(), room)
				if err != nil {
					return err
				}
				for _, e := range chunk.Chunk {
					if e.GetStateKey() == string(w.user) && e.Content.AsMember().Membership == event.MembershipLeave {
						return nil
					}
				}
				return fmt.Errorf("%s has not come and gone in room %d", w.cfg.Name, i)
			})
		}
	}
	dresden.sees(t, "Munich=shut")
	munich.sees(t, "Dresden=shut")
}
