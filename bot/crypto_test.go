package bot_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

func queryFor(b *bot.Bot) *mautrix.ReqQueryKeys {
	return &mautrix.ReqQueryKeys{DeviceKeys: mautrix.DeviceKeysRequest{b.UserID(): mautrix.DeviceIDList{}}}
}

func TestToDevice(t *testing.T) {
	for name, start := range map[string]func(t testing.TB) [2]*rig.Homeserver{
		"one": func(t testing.TB) [2]*rig.Homeserver {
			hs := rig.StartHomeserver(t)
			return [2]*rig.Homeserver{hs, hs}
		},
		"federation": rig.StartFederation,
	} {
		t.Run(name, func(t *testing.T) {
			servers := start(t)
			dresden, munich := rig.NewBot(t, servers[0], "dresden"), rig.NewBot(t, servers[1], "munich")
			atDresden, atMunich := listen(dresden), listen(munich)
			rig.RunBot(t, dresden)
			rig.RunBot(t, munich)
			meet(t, dresden, munich)
			deliver(t, dresden, munich, atMunich, "there")
			deliver(t, munich, dresden, atDresden, "and back")

			// Several goroutines send at the same time, while sync decrypts.
			const senders, each = 4, 10
			var sending sync.WaitGroup
			for _, way := range [][2]*bot.Bot{{dresden, munich}, {munich, dresden}} {
				for s := range senders {
					sending.Go(func() {
						for n := range each {
							to := device(way[1])
							failed := way[0].SendToDevice(t.Context(), testType, map[bot.Device]any{to: message{fmt.Sprint(s, " ", n)}})
							if failed[to] != nil {
								t.Error(failed[to])
							}
						}
					})
				}
			}
			sending.Wait()
			for _, in := range []*inbox{atDresden, atMunich} {
				seen := make(map[string]bool)
				for range senders * each {
					seen[textOf(next(t, "a message", in.toDevice, nil).Content)] = true
				}
				if len(seen) != senders*each {
					t.Errorf("%d of %d messages came", len(seen), senders*each)
				}
			}
			if n := dresden.Stats().Dropped; len(n) != 0 {
				t.Error("dropped", n)
			}

			// A device that cannot be reached does not keep the others from getting theirs.
			nobody := bot.Device{User: munich.UserID(), ID: "NOBODY"}
			stranger := bot.Device{User: "@x:localhost:1", ID: "X"}
			failed := dresden.SendToDevice(t.Context(), testType, map[bot.Device]any{
				nobody: message{"x"}, stranger: message{"x"}, device(munich): message{"last"}, device(dresden): message{"x"},
			})
			if !errors.Is(failed[nobody], bot.ErrUnknownDevice) || !errors.Is(failed[stranger], bot.ErrUnknownDevice) ||
				failed[device(dresden)] == nil || len(failed) != 3 {
				t.Error(failed)
			}
			next(t, "the last message", atMunich.toDevice, nil)
			for _, bad := range []any{"no object", func() {}, map[string]string{"x": strings.Repeat("x", 70_000)}} {
				if failed := dresden.SendToDevice(t.Context(), testType, map[bot.Device]any{device(munich): bad}); failed[device(munich)] == nil {
					t.Errorf("%T was sent", bad)
				}
			}
		})
	}
}

// TestUnsignedDevice: as long as its owner has not cross-signed it, a device gets nothing and its messages are dropped.
func TestUnsignedDevice(t *testing.T) {
	hs := rig.StartHomeserver(t)
	strict := rig.NewBot(t, hs, "dresden")
	lax := newLaxBot(t, hs, "munich")
	atStrict, atLax := listen(strict), listen(lax)
	rig.RunBot(t, strict)
	rig.RunBot(t, lax)

	user, password := hs.Register(t, "anna")
	raw := rawDevice(t, hs, user)
	room := makeRoom(t, strict, raw.Client, lax.Client())
	waitMembers(t, strict, room, 3)
	waitMembers(t, lax, room, 3)
	from := bot.Device{User: user, ID: raw.Client.DeviceID}
	for _, b := range []*bot.Bot{strict, lax} {
		sendRaw(t, raw, device(b), testType, message{"hello"})
	}
	if got := next(t, "the unsigned device's message", atLax.toDevice, nil); got.From != from {
		t.Error(got)
	}
	dropped(t, strict, bot.DropUntrusted, 1)
	if failed := strict.SendToDevice(t.Context(), testType, map[bot.Device]any{from: message{"x"}}); !errors.Is(failed[from], bot.ErrUntrusted) {
		t.Error(failed)
	}
	if failed := lax.SendToDevice(t.Context(), testType, map[bot.Device]any{from: message{"x"}}); len(failed) != 0 {
		t.Error(failed)
	}

	// It does not get the keys of rooms either.
	if _, err := strict.Send(t.Context(), room, testType, message{"secret"}); err != nil {
		t.Fatal(err)
	}
	got := next(t, "the room's message", atLax.events, nil)
	if !got.Mautrix.WasEncrypted || got.Mautrix.TrustState < id.TrustStateCrossSignedTOFU || textOf(got.Content.VeryRaw) != "secret" {
		t.Errorf("%+v", got.Mautrix)
	}
	if keys := toDevices(t, raw); keys != 1 { // lax's message
		t.Errorf("%d Olm messages came to the unsigned device", keys)
	}

	// Then the owner signs it.
	if _, _, err := raw.GenerateAndUploadCrossSigningKeys(t.Context(), func(answer *mautrix.RespUserInteractive) any {
		return &mautrix.ReqUIAuthLogin{
			BaseAuthData: mautrix.BaseAuthData{Type: mautrix.AuthTypePassword, Session: answer.Session},
			User:         user.String(), Password: password,
		}
	}, ""); err != nil {
		t.Fatal(err)
	}
	if err := raw.SignOwnDevice(t.Context(), raw.OwnIdentity()); err != nil {
		t.Fatal(err)
	}
	rig.Eventually(t, limit, func() error {
		return strict.SendToDevice(t.Context(), testType, map[bot.Device]any{from: message{"x"}})[from]
	})
	sendRaw(t, raw, device(strict), testType, message{"signed"})
	if got := next(t, "the signed device's message", atStrict.toDevice, nil); textOf(got.Content) != "signed" {
		t.Error(got)
	}
}

// toDevices counts the Olm messages that are waiting for a raw device.
func toDevices(t *testing.T, m *crypto.OlmMachine) (n int) {
	t.Helper()
	answer, err := m.Client.SyncRequest(t.Context(), 0, "", "", false, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range answer.ToDevice.Events {
		if e.Type.Type == event.ToDeviceEncrypted.Type {
			n++
		}
	}
	return n
}

func TestCleartextAndNonsense(t *testing.T) {
	hs := rig.StartHomeserver(t)
	b := rig.NewBot(t, hs, "dresden")
	in := listen(b)
	rig.RunBot(t, b)
	user, _ := hs.Register(t, "anna")
	client := hs.Client(t, user)
	room := makeRoom(t, b, client)
	waitMembers(t, b, room, 2)
	send := func(kind string, content any) {
		t.Helper()
		sendPlain(t, client, device(b), kind, content)
	}
	send(testType.Type, message{"in the clear"})
	dropped(t, b, bot.DropCleartext, 1)
	send("m.room.encrypted", map[string]any{"algorithm": "m.olm.v1.curve25519-aes-sha2", "sender_key": "x", "ciphertext": map[string]any{}})
	dropped(t, b, bot.DropUnknownDevice, 1)
	send("m.dummy", map[string]any{})
	dropped(t, b, bot.DropUnhandled, 1)
	send("m.room.encrypted", map[string]any{"algorithm": 5})
	dropped(t, b, bot.DropMalformed, 1)
	send("m.room.encrypted", nil)
	send("m.room_key_request", map[string]any{"action": []int{1}})
	dropped(t, b, bot.DropMalformed, 2)

	raw := rawDevice(t, hs, user)
	send("m.room.encrypted", map[string]any{
		"algorithm": "m.olm.v1.curve25519-aes-sha2", "sender_key": raw.OwnIdentity().IdentityKey, "ciphertext": map[string]any{},
	})
	dropped(t, b, bot.DropUndecryptable, 1)
	sendRaw(t, raw, device(b), event.Type{Type: "org.example.unheard"}, message{"x"})
	dropped(t, b, bot.DropUnhandled, 2)
	select {
	case e := <-in.toDevice:
		t.Error("it was heard: ", e)
	default:
	}
	other := rig.NewBot(t, hs, "munich")
	rig.RunBot(t, other)
	meet(t, b, other)
	deliver(t, other, b, in, "it goes on")
}

// TestLateKey: a message arrives before the key of its session.
func TestLateKey(t *testing.T) {
	hs := rig.StartHomeserver(t)
	b := newLaxBot(t, hs, "dresden")
	in := listen(b)
	seen := make(chan id.EventID, 100)
	b.On(event.EventMessage, func(_ context.Context, e *event.Event) { seen <- e.ID })
	rig.RunBot(t, b)
	user, _ := hs.Register(t, "anna")
	raw := rawDevice(t, hs, user)
	room := makeRoom(t, b, raw.Client)
	waitMembers(t, b, room, 2)

	if err := raw.ShareGroupSession(t.Context(), room, nil); err != nil {
		t.Fatal(err)
	}
	session, err := raw.CryptoStore.GetOutboundGroupSession(t.Context(), room)
	if err != nil {
		t.Fatal(err)
	}
	key := session.ShareContent()
	encrypted, err := raw.EncryptMegolmEvent(t.Context(), room, testType, message{"patience"})
	if err != nil {
		t.Fatal(err)
	}
	sent, err := raw.Client.SendMessageEvent(t.Context(), room, event.EventEncrypted, encrypted)
	if err != nil {
		t.Fatal(err)
	}
	after, err := raw.Client.SendText(t.Context(), room, "in the clear")
	if err != nil {
		t.Fatal(err)
	}
	next(t, "the message after it", seen, func(e id.EventID) bool { return e == after.EventID })
	sendRaw(t, raw, device(b), event.ToDeviceRoomKey, key.Parsed)
	got := next(t, "the message", in.events, nil)
	if got.ID != sent.EventID || textOf(got.Content.VeryRaw) != "patience" || !got.Mautrix.WasEncrypted {
		t.Errorf("%+v", got)
	}
}

// TestNothingInTheClear: a room was joined a moment ago. Nothing is sent there before it is known whether the room is encrypted, also not
// through Client. A room never stops being encrypted.
func TestNothingInTheClear(t *testing.T) {
	servers := rig.StartFederation(t)
	dresden, munich := rig.NewBot(t, servers[0], "dresden"), rig.NewBot(t, servers[1], "munich")
	in := listen(dresden)
	rig.RunBot(t, dresden)
	room := makeRoom(t, dresden)
	rig.RunBot(t, munich)
	if _, err := munich.Client().JoinRoom(t.Context(), room.String(), &mautrix.ReqJoinRoom{Via: []string{dresden.ServerName()}}); err != nil {
		t.Fatal(err)
	}
	sent, err := munich.Client().SendMessageEvent(t.Context(), room, testType, message{"at once"})
	if err != nil {
		t.Fatal(err)
	}
	if got := next(t, "the message", in.events, nil); got.ID != sent.EventID || !got.Mautrix.WasEncrypted {
		t.Errorf("%+v", got.Mautrix)
	}
	// The owner sets another algorithm.
	for _, content := range []any{map[string]any{"algorithm": "none"}, map[string]any{"algorithm": 7}} {
		if _, err := dresden.Client().SendStateEvent(t.Context(), room, event.StateEncryption, "", content); err != nil {
			t.Fatal(err)
		}
		mark, err := dresden.Send(t.Context(), room, testType, message{"mark"})
		if err != nil {
			t.Fatal(err)
		}
		got := next(t, "the message", in.events, func(e *event.Event) bool { return e.ID == mark })
		if !got.Mautrix.WasEncrypted {
			t.Errorf("after %v it was sent in the clear", content)
		}
	}
	if members, err := munich.Members(t.Context(), room); err != nil || len(members) != 2 {
		t.Error(members, err)
	}
}

// TestRotation: a user who leaves a room cannot decrypt what follows, and one who joins cannot decrypt what came before. Otherwise the
// session stays.
func TestRotation(t *testing.T) {
	hs := rig.StartHomeserver(t)
	account := rig.NewBotAccount(t, hs, "dresden")
	cfg := account.Config(t)
	dresden, munich := newBot(t, cfg), rig.NewBot(t, hs, "munich")
	in := listen(munich)
	stop := rig.RunBot(t, dresden)
	rig.RunBot(t, munich)
	if _, err := newBot(t, cfg).Send(t.Context(), "!x:x", testType, message{"x"}); err == nil {
		t.Error("a bot that has not started sends")
	}
	room := makeRoom(t, dresden)
	send := func(b *bot.Bot, text string) id.SessionID {
		t.Helper()
		sent, err := b.Send(t.Context(), room, testType, message{text})
		if err != nil {
			t.Fatal(err)
		}
		var e *event.Event
		rig.Eventually(t, limit, func() (err error) { // Dendrite answers before it can show the event
			e, err = b.Client().GetEvent(t.Context(), room, sent)
			return err
		})
		session, _ := e.Content.Raw["session_id"].(string)
		if session == "" {
			t.Fatalf("%s was sent as %v", text, e.Content.Raw)
		}
		return id.SessionID(session)
	}
	alone := send(dresden, "alone")
	if _, err := dresden.Client().InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: munich.UserID()}); err != nil {
		t.Fatal(err)
	}
	if _, err := munich.Client().JoinRoomByID(t.Context(), room); err != nil {
		t.Fatal(err)
	}
	waitMembers(t, dresden, room, 2)
	two := send(dresden, "two")
	if two == alone {
		t.Error("who joined got the session from before")
	}
	if got := next(t, "the message", in.events, nil); textOf(got.Content.VeryRaw) != "two" {
		t.Error(got)
	}
	if send(dresden, "two again") != two {
		t.Error("the session was not used again")
	}
	// A user leaves while the bot is not running.
	stop()
	if _, err := munich.Client().LeaveRoom(t.Context(), room); err != nil {
		t.Fatal(err)
	}
	again := newBot(t, cfg)
	synced := make(chan struct{}, 1000)
	again.OnSynced(func(context.Context) { synced <- struct{}{} })
	rig.RunBot(t, again)
	waitMembers(t, again, room, 1)
	// The first sync response shows the leaving again, which ends the session again.
	for range 2 { // the state at the start counts as a response
		next(t, "a response", synced, nil)
	}
	after := send(again, "alone again")
	if after == two {
		t.Error("the user who left can read what follows")
	}
	if send(again, "and again") != after {
		t.Error("the session was not used again")
	}
}
