package rtc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/matrixerror"
	"multifactorymodel.org/ewindow/bot/rtc/mediakeys"
	"multifactorymodel.org/ewindow/bot/rtc/membership"
	"multifactorymodel.org/ewindow/bot/rtc/transport"
	"multifactorymodel.org/ewindow/bot/unstable"
)

var (
	errNoNetwork  = errors.New("no network")
	errNotFound   = &matrixerror.Error{Status: 404, Code: "M_NOT_FOUND"}
	errForbidden  = &matrixerror.Error{Status: 403, Code: "M_FORBIDDEN"}
	errUnknownURL = &matrixerror.Error{Status: 404, Code: "M_UNRECOGNIZED"}
)

const (
	alice = id.UserID("@alice:one.example")
	bob   = id.UserID("@bob:two.example")
	carol = id.UserID("@carol:one.example")
	hall  = id.RoomID("!hall:one.example")
)

var (
	self      = bot.Device{User: alice, ID: "OWN"}
	bobDevice = bot.Device{User: bob, ID: "BOBDEV"}
	bobKey    = membership.StateKey(bobDevice)
	carolKey  = membership.StateKey(bot.Device{User: carol, ID: "C"})
)

// leaveDelay is how long the homeserver waits for us before it sends the delayed leave.
const leaveDelay = 18 * time.Second

// Contents as bob's client sends them.
const (
	validState = `{"application":"m.call","call_id":"","scope":"m.room","device_id":"BOBDEV","membershipID":"@bob:two.example:BOBDEV",
	"expires":14400000,"m.call.intent":"video","focus_active":{"type":"livekit","focus_selection":"multi_sfu"},
	"foci_preferred":[{"type":"livekit","livekit_service_url":"https://rtc.two.example/jwt/","livekit_alias":"!hall:one.example"}]}`
	validSticky = `{"slot_id":"m.call#ROOM","application":{"type":"m.call","m.call.intent":"video"},
	"member":{"user_id":"@bob:two.example","device_id":"BOBDEV","id":"5d0c1b52"},
	"transports":{"published":[{"type":"livekit","livekit_service_url":"https://rtc.two.example/jwt"}],"can_subscribe":["livekit"]},
	"versions":[],"msc4354_sticky_key":"5d0c1b52","m.relation":{}}`
	validKey = `{"keys":{"index":3,"key":"8OHSw7Sllod4aVpLPC0eDw=="},"member":{"id":"@bob:two.example:BOBDEV","claimed_device_id":"BOBDEV"},
	"room_id":"!hall:one.example","session":{"application":"m.call","call_id":"","scope":"m.room"},"sent_ts":1793000000000}`
)

// state is a membership of a device that publishes at its own focus.
func state(device, service string) string {
	return fmt.Sprintf(`{"application":"m.call","call_id":"","device_id":%q,"focus_active":{"type":"livekit","focus_selection":"multi_sfu"},
		"foci_preferred":[{"type":"livekit","livekit_service_url":%q}]}`, device, service)
}

// names are the identities of members.
func names(members []Member) string {
	var list []string
	for _, m := range members {
		list = append(list, m.Identity)
	}
	return strings.Join(list, " ")
}

const ownService = "https://rtc.one.example/jwt"

// fakeServer implements the interface homeserver in memory, for tests in a synctest bubble. Its changes of room state come back as if by
// sync.
type fakeServer struct {
	m *Manager

	mu        sync.Mutex
	begin     time.Time
	calls     []string // what was asked, with the time since begin
	faults    map[string]error
	lost      map[string]bool // the request is done, but its answer is lost
	hang      bool            // nothing is answered
	held      bool            // no request about a delayed leave is answered
	delayed   bool
	maxDelay  time.Duration
	transport string
	wellKnown string
	encrypted bool
	state     map[string]string
	timers    map[string]*delayedLeave
	serial    int
	silent    bool   // nothing comes back by sync
	given     string // the service that devices get access to with their access token
	untrusted map[bot.Device]bool
	keys      []sentKey
	messages  []sentMessage
	onSend    func(sentMessage) // is called before the answer
	kept      []string          // delayed leaves that are remembered
}

// sentMessage is an event that was sent to a room.
type sentMessage struct {
	id, kind, content string
}

type delayedLeave struct {
	timer *time.Timer
	key   string
	delay time.Duration
}

type sentKey struct {
	to  bot.Device
	key mediakeys.Content
}

// ask notes a request and returns its error.
func (f *fakeServer) ask(ctx context.Context, name, detail string) error {
	f.mu.Lock()
	f.calls = append(f.calls, strings.TrimSpace(name+" "+detail))
	err, hang := f.faults[name], f.hang || f.held && slices.Contains([]string{unstable.DelayRestart, unstable.DelayCancel, unstable.DelaySend}, name)
	if all := f.faults["all"]; err == nil {
		err = all
	}
	f.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	latency := 10 * time.Millisecond
	if name == "keys" {
		latency *= 3
	}
	select {
	case <-time.After(latency):
	case <-ctx.Done():
		return ctx.Err()
	}
	return err
}

func (f *fakeServer) fault(name string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		delete(f.faults, name)
		return
	}
	f.faults[name] = err
}

// set changes how the server behaves.
func (f *fakeServer) set(change func(*fakeServer)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// sent are the keys that were delivered.
func (f *fakeServer) sent() []sentKey {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.keys)
}

func (f *fakeServer) Delayed(ctx context.Context) (bool, error) {
	err := f.ask(ctx, "versions", "")
	return f.delayed && err == nil, err
}

func (f *fakeServer) Transport(ctx context.Context) (string, error) {
	if err := f.ask(ctx, "transport", ""); err != nil {
		return "", err
	}
	return f.transport, nil
}

func (f *fakeServer) WellKnown(ctx context.Context) (string, error) {
	if err := f.ask(ctx, "wellknown", ""); err != nil {
		return "", err
	}
	return f.wellKnown, nil
}

func (f *fakeServer) SendState(ctx context.Context, room id.RoomID, key string, content any) (id.EventID, error) {
	data, err := json.Marshal(content)
	if err != nil {
		return "", err
	}
	var c struct {
		Application string
		Expires     int64
		Created     int64 `json:"created_ts"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return "", err
	}
	name, detail := "empty", ""
	if c.Application != "" {
		name, detail = "member", fmt.Sprint((time.Duration(c.Expires) * time.Millisecond).Round(time.Second))
		if c.Created != 0 {
			detail += fmt.Sprint(" since ", time.UnixMilli(c.Created).Sub(f.begin))
		}
	}
	if err := f.ask(ctx, name, detail); err != nil {
		return "", err
	}
	return f.put(room, key, string(data)), nil
}

// put changes the room's state and tells the manager.
func (f *fakeServer) put(room id.RoomID, key, content string) id.EventID {
	f.mu.Lock()
	f.serial++
	event := id.EventID(fmt.Sprintf("$%d", f.serial))
	f.state[key] = content
	silent := f.silent
	f.mu.Unlock()
	if !silent {
		f.m.handleEvent(stateEvent(room, event, typeMember, self.User, key, content))
	}
	return event
}

func stateEvent(room id.RoomID, eventID id.EventID, kind event.Type, sender id.UserID, key, content string) *event.Event {
	return &event.Event{
		RoomID: room, ID: eventID, Type: kind, Sender: sender, StateKey: &key, Timestamp: time.Now().UnixMilli(),
		Content: event.Content{VeryRaw: json.RawMessage(content)},
	}
}

func (f *fakeServer) Schedule(ctx context.Context, room id.RoomID, key string, delay time.Duration) (string, error) {
	if err := f.ask(ctx, "schedule", delay.String()); err != nil {
		return "", err
	}
	if f.maxDelay > 0 && delay > f.maxDelay {
		return "", errForbidden
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.serial++
	delayID := fmt.Sprintf("d%d", f.serial)
	f.timers[delayID] = &delayedLeave{time.AfterFunc(delay, func() { f.fire(room, delayID) }), key, delay}
	if f.lost["schedule"] {
		return "", errNoNetwork
	}
	return delayID, nil
}

func (f *fakeServer) fire(room id.RoomID, delayID string) bool {
	f.mu.Lock()
	d := f.timers[delayID]
	delete(f.timers, delayID)
	if d != nil {
		f.calls = append(f.calls, "fired")
	}
	f.mu.Unlock()
	if d == nil {
		return false
	}
	d.timer.Stop()
	f.put(room, d.key, "{}")
	return true
}

func (f *fakeServer) UpdateDelayed(ctx context.Context, delayID, action string) error {
	if err := f.ask(ctx, action, ""); err != nil {
		return err
	}
	if action == unstable.DelaySend {
		if !f.fire(hall, delayID) {
			return errNotFound
		}
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.timers[delayID]
	if d == nil {
		return errNotFound
	}
	if action == unstable.DelayCancel {
		d.timer.Stop()
		delete(f.timers, delayID)
		return nil
	}
	d.timer.Reset(d.delay)
	return nil
}

func (f *fakeServer) Keep(_ context.Context, _ id.RoomID, delayID string) error {
	f.set(func(f *fakeServer) { f.kept = append(f.kept, delayID) })
	return nil
}

func (f *fakeServer) Drop(_ context.Context, delayID string) error {
	f.set(func(f *fakeServer) {
		f.kept = slices.DeleteFunc(f.kept, func(other string) bool { return other == delayID })
	})
	return nil
}

func (f *fakeServer) Kept(context.Context, id.RoomID) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.kept), nil
}

func (f *fakeServer) State(ctx context.Context, _ id.RoomID, key string) (json.RawMessage, error) {
	if err := f.ask(ctx, "check", ""); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	content, ok := f.state[key]
	if !ok {
		return nil, errNotFound
	}
	return json.RawMessage(content), nil
}

func (f *fakeServer) OpenID(ctx context.Context) (json.RawMessage, error) {
	return json.RawMessage(`{"access_token":"opaque"}`), f.ask(ctx, "openid", "")
}

func (f *fakeServer) SendKeys(ctx context.Context, content map[bot.Device]any) map[bot.Device]error {
	failed := make(map[bot.Device]error)
	err := f.ask(ctx, "keys", "")
	f.mu.Lock()
	defer f.mu.Unlock()
	for device, item := range content {
		switch {
		case err != nil:
			failed[device] = err
		case f.untrusted[device]:
			failed[device] = bot.ErrUntrusted
		default:
			f.keys = append(f.keys, sentKey{device, item.(mediakeys.Content)})
		}
	}
	return failed
}

func (f *fakeServer) Send(ctx context.Context, _ id.RoomID, t event.Type, content any) (id.EventID, error) {
	data, err := json.Marshal(content)
	if err != nil {
		return "", err
	}
	if err := f.ask(ctx, "message", t.Type); err != nil {
		return "", err
	}
	f.mu.Lock()
	f.serial++
	sent := sentMessage{fmt.Sprintf("$%d", f.serial), t.Type, string(data)}
	f.messages = append(f.messages, sent)
	onSend := f.onSend
	f.mu.Unlock()
	if onSend != nil {
		onSend(sent)
	}
	return id.EventID(sent.id), nil
}

// said returns the messages that were sent since the last time.
func (f *fakeServer) said() []sentMessage {
	f.mu.Lock()
	defer f.mu.Unlock()
	messages := f.messages
	f.messages = nil
	return messages
}

func (f *fakeServer) Self() bot.Device { return self }

func (f *fakeServer) Encrypted(context.Context, id.RoomID) (bool, error) { return f.encrypted, nil }

func (f *fakeServer) SignJSON(any) (string, error) { return "signature", nil }

func (f *fakeServer) SFUToken(ctx context.Context, _ id.RoomID) (service, sfu, jwt string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.given == "" {
		return "", "", "", errUnknownURL
	}
	f.calls = append(f.calls, "sfutoken")
	return f.given, "wss://sfu.one.example", "device.token.x", ctx.Err()
}

// took returns what was asked since the last time, without the keys and discovery unless they are named.
func (f *fakeServer) took(also ...string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := slices.DeleteFunc(f.calls, func(call string) bool {
		name, _, _ := strings.Cut(call, " ")
		return slices.Contains([]string{"keys", "transport", "wellknown", "openid"}, name) && !slices.Contains(also, name)
	})
	f.calls = nil
	return strings.Join(calls, ", ")
}

// bench is a manager with a fake homeserver, in a synctest bubble.
type bench struct {
	*fakeServer
	t      *testing.T
	cancel context.CancelFunc
	ended  chan struct{}

	mu      sync.Mutex
	log     bytes.Buffer
	events  []Event
	members map[id.RoomID][]Member
	call    *Call    // the last one
	named   bool     // the test says who gets our keys; else everybody in the call does
	called  []string // rings, declines and legacy calls
}

func newBench(t *testing.T, setUp ...func(*bench)) *bench {
	b := &bench{t: t, ended: make(chan struct{}), members: make(map[id.RoomID][]Member)}
	b.fakeServer = &fakeServer{
		begin: time.Now(), faults: make(map[string]error), delayed: true, transport: ownService, encrypted: true,
		state: make(map[string]string), timers: make(map[string]*delayedLeave), untrusted: make(map[bot.Device]bool),
	}
	m, err := newManager(Config{
		Log: zerolog.New(zerolog.SyncWriter(&b.log)),
		OnMembers: func(room id.RoomID, members []Member, _ []bot.Device) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.members[room] = members
			b.nameMembers(room)
		},
		OnRing: func(r Ring) {
			kind := "notification"
			if r.Ring {
				kind = "ring"
			}
			b.note("%s %s of %s in %s for %v", kind, r.Event, r.Sender, r.Room, time.Until(r.Expires))
		},
		OnDecline:    func(d Decline) { b.note("%s declines %s in %s", d.Sender, d.Event, d.Room) },
		OnLegacyCall: func(room id.RoomID, sender id.UserID) { b.note("legacy call of %s in %s", sender, room) },
	}, b.fakeServer, b.fakeServer, transport.NewClient(http.DefaultClient, http.DefaultClient))
	if err != nil {
		t.Fatal(err)
	}
	b.m = m
	for _, user := range []id.UserID{alice, bob, carol} {
		b.joinRoom(user)
	}
	m.handleEvent(stateEvent(hall, "$e", event.StateEncryption, alice, "", `{"algorithm":"m.megolm.v1.aes-sha2"}`))
	for _, f := range setUp {
		f(b)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	go func() {
		defer close(b.ended)
		if err := m.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-b.ended
	})
	synctest.Wait()
	return b
}

func (b *bench) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.called = append(b.called, fmt.Sprintf(format, args...))
}

// rung returns the rings, declines and legacy calls since the last time.
func (b *bench) rung() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	called := strings.Join(b.called, ", ")
	b.called = nil
	return called
}

func (b *bench) joinRoom(user id.UserID) {
	b.m.handleEvent(stateEvent(hall, "$m", event.StateMember, user, user.String(), `{"membership":"join"}`))
}

func (b *bench) join() *Call {
	b.t.Helper()
	call, err := b.m.Join(hall, JoinOptions{Intent: "video", OnEvent: func(e Event) {
		b.mu.Lock()
		b.events = append(b.events, e)
		b.mu.Unlock()
	}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.call = call
	b.nameMembers(hall)
	return call
}

// nameMembers makes all members of the room's call recipients, as last reported. The caller holds mu, so that the newest list is also the last
// that is set.
func (b *bench) nameMembers(room id.RoomID) {
	if b.call != nil && !b.named {
		b.call.SetRecipients(devices(b.members[room]))
	}
}

// devices are the members' devices.
func devices(members []Member) (list []bot.Device) {
	for _, m := range members {
		list = append(list, m.BotDevice())
	}
	return list
}

// bobComes and bobGoes are bob's device joining and leaving the call.
func (b *bench) bobComes() {
	b.m.handleEvent(stateEvent(hall, "$b", typeMember, bob, bobKey, validState))
}

func (b *bench) bobGoes() {
	b.m.handleEvent(stateEvent(hall, "$b", typeMember, bob, bobKey, `{}`))
}

// inCall are the foreign members of the hall's call, as last reported.
func (b *bench) inCall() []Member {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.members[hall]
}

// told returns the events since the last time.
func (b *bench) told() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []string
	for _, e := range b.events {
		switch e.Kind {
		case Transport:
			list = append(list, "transport "+e.Service)
		case Key:
			list = append(list, fmt.Sprintf("key %d of %s", e.Index, e.Identity))
		case UseKey:
			list = append(list, fmt.Sprintf("use %d", e.Index))
		case KeySent:
			list = append(list, fmt.Sprintf("sent %d", e.Index))
		case Withheld:
			list = append(list, fmt.Sprintf("withheld %s %s", e.User, e.Device))
		case Keyless:
			list = append(list, fmt.Sprintf("keyless %s %s", e.User, e.Device))
		case Failed:
			list = append(list, "failed: "+e.Err.Error())
		}
	}
	b.events = nil
	return strings.Join(list, ", ")
}

// wait lets time pass, and waits until everything that is due was done.
func (b *bench) wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (b *bench) expect(what, got, want string) {
	b.t.Helper()
	if got != want {
		b.t.Fatalf("%s: got  %s\nwant %s", what, got, want)
	}
}

func (b *bench) leaveNow(call *Call) {
	b.t.Helper()
	begun := time.Now()
	if err := call.Leave(context.Background()); err != nil {
		b.t.Fatal(err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		b.t.Fatalf("leaving took %v", took)
	}
	synctest.Wait()
}
