package bot_test

import (
	"fmt"
	"sync"
	"testing"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// TestOwnKeys sends messages while our own user's keys are fetched. With a single machine of mautrix that is a data race.
func TestOwnKeys(t *testing.T) {
	hs := rig.StartHomeserver(t)
	b, other := rig.NewBot(t, hs, "munich"), rig.NewBot(t, hs, "dresden")
	in := listen(other)
	rig.RunBot(t, b)
	rig.RunBot(t, other)
	meet(t, b, other)
	deliver(t, b, other, in, "before")

	var sending sync.WaitGroup
	fetched := make(chan struct{})
	sending.Go(func() {
		for {
			select {
			case <-fetched:
				return
			default:
			}
			if err := b.SendToDevice(t.Context(), testType, map[bot.Device]any{device(other): message{"meanwhile"}})[device(other)]; err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 40 {
		if err := b.FetchKeys(t.Context(), b.UserID()); err != nil {
			t.Error(err)
		}
	}
	close(fetched)
	sending.Wait()
	deliver(t, b, other, in, "after")
}

// TestKeyRequest: a device may ask for the key of a session that it got before. Requests of unknown devices
// are ignored, there is a limit, and other users cannot ask for secrets.
func TestKeyRequest(t *testing.T) {
	hs := rig.StartHomeserver(t)
	b := newLaxBot(t, hs, "dresden")
	rig.RunBot(t, b)
	user, _ := hs.Register(t, "anna")
	raw := rawDevice(t, hs, user)
	room := makeRoom(t, b, raw.Client)
	waitMembers(t, b, room, 2)
	sent, err := b.Send(t.Context(), room, event.EventMessage, map[string]any{"msgtype": "m.text", "body": "hello"})
	if err != nil {
		t.Fatal(err)
	}
	got := func(n int) {
		t.Helper()
		rig.Eventually(t, limit, func() error {
			if now := toDevices(t, raw); now != n {
				return fmt.Errorf("anna was sent %d messages instead of %d", now, n)
			}
			return nil
		})
	}
	got(1)
	encrypted, err := raw.Client.GetEvent(t.Context(), room, sent)
	if err != nil {
		t.Fatal(err)
	}
	if err := encrypted.Content.ParseRaw(event.EventEncrypted); err != nil {
		t.Fatal(err)
	}
	content := encrypted.Content.AsEncrypted()
	ask := func(from id.DeviceID) {
		t.Helper()
		sendPlain(t, raw.Client, device(b), event.ToDeviceRoomKeyRequest.Type, &event.RoomKeyRequestEventContent{
			Action: event.KeyRequestActionRequest, RequestID: string(from), RequestingDeviceID: from,
			Body: event.RequestedKeyInfo{Algorithm: content.Algorithm, RoomID: room, SessionID: content.SessionID},
		})
	}
	ask(raw.Client.DeviceID)
	got(2)
	for n := range 5 {
		ask(id.DeviceID(fmt.Sprintf("UNHEARD%d", n)))
	}
	dropped(t, b, bot.DropUnknownDevice, 4)
	dropped(t, b, bot.DropTooMany, 1)
	sendPlain(t, raw.Client, device(b), event.ToDeviceSecretRequest.Type, &event.SecretRequestEventContent{
		Name: id.SecretXSMaster, Action: event.SecretRequestRequest, RequestID: "secret", RequestingDeviceID: "UNHEARD",
	})
	dropped(t, b, bot.DropUnhandled, 1)
	dropped(t, b, bot.DropUnknownDevice, 4)
	got(2)
}
