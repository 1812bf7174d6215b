package bot_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

const limit = 30 * time.Second

var errNothingYet = errors.New("nothing yet")

var testType = event.Type{Type: "org.multifactorymodel.ewindow.test"}

// inbox collects what a bot gives to its handlers.
type inbox struct {
	toDevice chan bot.ToDevice
	events   chan *event.Event
}

// listen registers handlers for to-device messages and room events of the test's type, and of the given types.
func listen(b *bot.Bot, types ...event.Type) *inbox {
	in := &inbox{make(chan bot.ToDevice, 100), make(chan *event.Event, 100)}
	b.OnToDevice(testType, func(_ context.Context, e bot.ToDevice) { in.toDevice <- e })
	for _, t := range append(types, testType) {
		b.On(t, func(_ context.Context, e *event.Event) { in.events <- e })
	}
	return in
}

// next waits for a value that f accepts.
func next[T any](t *testing.T, what string, c chan T, f func(T) bool) T {
	t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for seen := 0; ; seen++ {
		select {
		case v := <-c:
			if f == nil || f(v) {
				return v
			}
		case <-timer.C:
			t.Fatalf("%s did not come, but %d others", what, seen)
		}
	}
}

func device(b *bot.Bot) bot.Device { return bot.Device{User: b.UserID(), ID: b.DeviceID()} }

type message struct {
	Text string `json:"text"`
}

func textOf(content []byte) string {
	var m message
	_ = json.Unmarshal(content, &m)
	return m.Text
}

// deliver sends a to-device message and waits until it was received.
func deliver(t *testing.T, from, to *bot.Bot, in *inbox, text string) {
	t.Helper()
	rig.Eventually(t, limit, func() error {
		failed := from.SendToDevice(t.Context(), testType, map[bot.Device]any{device(to): message{text}})
		return failed[device(to)]
	})
	got := next(t, "the message "+text, in.toDevice, func(e bot.ToDevice) bool { return textOf(e.Content) == text })
	if got.From != device(from) || got.Type.Type != testType.Type {
		t.Fatalf("the message is from %v, of type %s", got.From, got.Type.Type)
	}
}

// makeRoom makes an encrypted room with the others in it.
func makeRoom(t *testing.T, owner *bot.Bot, others ...*mautrix.Client) id.RoomID {
	t.Helper()
	key := ""
	room, err := owner.Client().CreateRoom(t.Context(), &mautrix.ReqCreateRoom{
		Preset: "public_chat",
		InitialState: []*event.Event{{
			Type: event.StateEncryption, StateKey: &key,
			Content: event.Content{Parsed: &event.EncryptionEventContent{Algorithm: id.AlgorithmMegolmV1}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range others {
		if _, err := other.JoinRoom(t.Context(), room.RoomID.String(), &mautrix.ReqJoinRoom{Via: []string{owner.ServerName()}}); err != nil {
			t.Fatal(err)
		}
	}
	return room.RoomID
}

// meet puts bots into an encrypted room, since strangers' to-device messages are dropped, and returns the room. All have to run.
func meet(t *testing.T, owner *bot.Bot, others ...*bot.Bot) id.RoomID {
	t.Helper()
	clients := make([]*mautrix.Client, len(others))
	for i, other := range others {
		clients[i] = other.Client()
	}
	room := makeRoom(t, owner, clients...)
	for _, b := range append(others, owner) {
		waitMembers(t, b, room, len(others)+1)
	}
	return room
}

// waitMembers waits until a bot knows of n users in a room.
func waitMembers(t *testing.T, b *bot.Bot, room id.RoomID, n int) {
	t.Helper()
	rig.Eventually(t, limit, func() error {
		members, err := b.Members(t.Context(), room)
		if err == nil && len(members) != n {
			err = fmt.Errorf("%s knows of the members %v", b.UserID(), members)
		}
		return err
	})
}

func dropped(t *testing.T, b *bot.Bot, reason string, n uint64) {
	t.Helper()
	rig.Eventually(t, limit, func() error {
		if stats := b.Stats(); stats.Dropped[reason] != n {
			return fmt.Errorf("dropped %v", stats.Dropped)
		}
		return nil
	})
}

// newLaxBot makes a bot that accepts devices which nobody has signed, such as those of rawDevice.
func newLaxBot(t *testing.T, hs *rig.Homeserver, name string) *bot.Bot {
	t.Helper()
	cfg := rig.NewBotAccount(t, hs, name).Config(t)
	cfg.AcceptUnsignedDevices = true
	return newBot(t, cfg)
}

// rawDevice is a device whose client does not use cross-signing.
func rawDevice(t *testing.T, hs *rig.Homeserver, user id.UserID) *crypto.OlmMachine {
	t.Helper()
	client := hs.Client(t, user)
	client.StateStore = mautrix.NewMemoryStateStore()
	log := zerolog.Nop()
	mach := crypto.NewOlmMachine(client, &log, crypto.NewMemoryStore(nil), client.StateStore.(crypto.StateStore))
	mach.SendKeysMinTrust = id.TrustStateUnset
	if err := mach.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := mach.ShareKeys(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(mach.Destroy)
	return mach
}

// sendPlain sends a to-device message in the clear.
func sendPlain(t *testing.T, from *mautrix.Client, to bot.Device, kind string, content any) {
	t.Helper()
	_, err := from.SendToDevice(t.Context(), event.Type{Type: kind, Class: event.ToDeviceEventType}, &mautrix.ReqSendToDevice{
		Messages: map[id.UserID]map[id.DeviceID]*event.Content{to.User: {to.ID: {Parsed: content}}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// sendRaw sends an Olm message from a raw device.
func sendRaw(t *testing.T, from *crypto.OlmMachine, to bot.Device, kind event.Type, content any) {
	t.Helper()
	kind.Class = event.ToDeviceEventType
	target, err := from.GetOrFetchDevice(t.Context(), to.User, to.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := from.SendEncryptedToDevice(t.Context(), target, kind, event.Content{Parsed: content}); err != nil {
		t.Fatal(err)
	}
}

func newBot(t *testing.T, cfg bot.Config) *bot.Bot {
	t.Helper()
	b, err := bot.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// startError demands an error of the start of a bot.
func startError(t *testing.T, cfg bot.Config, want error) {
	t.Helper()
	err := newBot(t, cfg).Start(t.Context())
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
	t.Log(err)
}

func copyFolder(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}
