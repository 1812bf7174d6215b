package hub

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/homeserver"
	"multifactorymodel.org/ewindow/bridge/child"
	"multifactorymodel.org/ewindow/bridge/lifecycle"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// startHomeserver starts a hub with a Dendrite of its own, and without ports.
func startHomeserver(t *testing.T) *hub {
	t.Helper()
	h := &hub{
		cfg: Config{
			DataDir: t.TempDir(), PublicURL: "https://localhost", LocalListen: "127.0.0.1:0", Log: zerolog.Nop(),
			Account:    &AccountConfig{Username: "hub", Admins: []id.UserID{"@anna:localhost"}},
			Focus:      &FocusConfig{LiveKitURL: "http://127.0.0.1:1", Key: "key", Secret: strings.Repeat("s", 40)},
			Homeserver: &HomeserverConfig{ServerName: "localhost", Program: rig.Program(t, child.Dendrite), RegistrationSecret: "secret", BcryptCost: 4},
		},
		parts: lifecycle.NewGroup(zerolog.Nop()), mux: http.NewServeMux(),
	}
	t.Cleanup(h.parts.Close)
	if err := h.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return h
}

// TestHangingHomeserver stops Dendrite's process: it runs, and answers nothing. The hub starts it again.
func TestHangingHomeserver(t *testing.T) {
	t.Parallel()
	h := startHomeserver(t)
	pid := h.homeserver.Pid()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	rig.Eventually(t, 3*time.Minute, func() error {
		now := h.homeserver.Pid()
		return rig.Check(now != 0 && now != pid, "another Dendrite", now)
	})
	rig.Eventually(t, time.Minute, func() error {
		answer, err := http.Get(h.local + "/_matrix/client/versions")
		if err != nil {
			return err
		}
		_ = answer.Body.Close()
		return rig.Check(answer.StatusCode == http.StatusOK, "an answer", answer.Status)
	})
}

// TestRequestsThatEnd ends requests in their middle, at the address that the hub's own account uses. The hub does so when its account waits for news and
// somebody asks for access. Dendrite must not notice. Its SQLite would stay inside a transaction, and every write would fail until a restart.
func TestRequestsThatEnd(t *testing.T) {
	t.Parallel()
	h := startHomeserver(t)
	// Dendrite has no rate limits for administrators.
	login := func(address, name string) *mautrix.Client {
		if _, err := homeserver.Register(t.Context(), nil, h.dendrite, "secret", name, "a-long-password", true); err != nil {
			t.Fatal(err)
		}
		client, err := mautrix.NewClient(address, "", "")
		if err != nil {
			t.Fatal(err)
		}
		client.Log = zerolog.Nop()
		if _, err := client.Login(t.Context(), &mautrix.ReqLogin{
			Type: mautrix.AuthTypePassword, Identifier: mautrix.UserIdentifier{Type: mautrix.IdentifierTypeUser, User: name},
			Password: "a-long-password", StoreCredentials: true,
		}); err != nil {
			t.Fatal(err)
		}
		return client
	}
	address, _, err := h.makeAccount(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	anna, account := login(h.local, "anna"), login(address, "bert")
	room, err := anna.CreateRoom(t.Context(), &mautrix.ReqCreateRoom{Preset: "public_chat"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := account.JoinRoomByID(t.Context(), room.RoomID); err != nil {
		t.Fatal(err)
	}
	var beside sync.WaitGroup
	defer beside.Wait()
	since := ""
	news := func(limit time.Duration) {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		response, err := account.FullSyncRequest(mautrix.WithMaxRetries(ctx, 0), mautrix.ReqSync{Since: since, Timeout: 100, SetPresence: event.PresenceOffline})
		if err == nil {
			since = response.NextBatch
		}
	}
	for i := range 400 {
		content := &event.Content{Raw: map[string]any{"i": i}}
		beside.Go(func() {
			_, _ = anna.SendMessageEvent(t.Context(), room.RoomID, event.NewEventType("test"), content)
			_, _ = anna.SendToDevice(t.Context(), event.NewEventType("test"), &mautrix.ReqSendToDevice{
				Messages: map[id.UserID]map[id.DeviceID]*event.Content{account.UserID: {account.DeviceID: content}},
			})
		})
		if news(time.Duration(rand.IntN(12_000)) * time.Microsecond); i%7 == 0 {
			news(time.Minute)
		}
		if i%20 == 0 {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			_, err := anna.SendStateEvent(mautrix.WithMaxRetries(ctx, 0), room.RoomID, event.StateTopic, "", map[string]any{"topic": i})
			if cancel(); err != nil {
				t.Fatalf("after %d requests that ended, Dendrite does not write: %v", i, err)
			}
		}
	}
}
