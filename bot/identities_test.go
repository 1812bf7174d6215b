package bot_test

import (
	"errors"
	"fmt"
	"testing"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// makeIdentity gives a raw device's user a new identity, which signs the device.
func makeIdentity(t *testing.T, m *crypto.OlmMachine, password string) (master id.Ed25519) {
	t.Helper()
	if _, _, err := m.GenerateAndUploadCrossSigningKeys(t.Context(), func(answer *mautrix.RespUserInteractive) any {
		return &mautrix.ReqUIAuthLogin{
			BaseAuthData: mautrix.BaseAuthData{Type: mautrix.AuthTypePassword, Session: answer.Session},
			User:         m.Client.UserID.String(), Password: password,
		}
	}, ""); err != nil {
		t.Fatal(err)
	}
	if err := m.SignOwnDevice(t.Context(), m.OwnIdentity()); err != nil {
		t.Fatal(err)
	}
	return m.CrossSigningKeys.PublicKeys().MasterKey
}

type newIdentity struct {
	user id.UserID
	key  id.Ed25519
}

// TestNewIdentity: the identity of a user that was first seen is kept, over restarts, too. With another one the user's devices get nothing, until
// somebody confirms exactly that one.
func TestNewIdentity(t *testing.T) {
	hs := rig.StartHomeserver(t)
	account := rig.NewBotAccount(t, hs, "dresden")
	reported := make(chan newIdentity, 10)
	config := account.Config(t)
	config.OnNewIdentity = func(user id.UserID, key id.Ed25519) { reported <- newIdentity{user, key} }
	start := func() (b *bot.Bot, stop func()) {
		b, err := bot.New(config)
		if err != nil {
			t.Fatal(err)
		}
		return b, rig.RunBot(t, b)
	}
	b, stop := start()
	user, password := hs.Register(t, "anna")
	anna := rawDevice(t, hs, user)
	first := makeIdentity(t, anna, password)
	room := makeRoom(t, b, anna.Client)
	waitMembers(t, b, room, 2)
	if err := b.KnowIdentities(t.Context(), []id.UserID{user}); err != nil {
		t.Fatal(err)
	}
	to := bot.Device{User: user, ID: anna.Client.DeviceID}
	sent := func(want error) {
		t.Helper()
		rig.Eventually(t, limit, func() error {
			if got := b.SendToDevice(t.Context(), testType, map[bot.Device]any{to: message{"x"}})[to]; !errors.Is(got, want) || (got == nil) != (want == nil) {
				return fmt.Errorf("sending: %w; want %w", got, want)
			}
			return nil
		})
	}
	sent(nil)
	second := makeIdentity(t, anna, password)
	if got := next(t, "the report", reported, nil); got != (newIdentity{user, second}) || first == second {
		t.Fatalf("reported %v, want %s", got, second)
	}
	sent(bot.ErrNewIdentity)
	if err := b.ConfirmIdentity(t.Context(), user, first); err == nil {
		t.Error("an identity that the user does not have any more was confirmed")
	}
	if err := b.ConfirmIdentity(t.Context(), "@nobody:x", second); err == nil {
		t.Error("nobody's identity was confirmed")
	}
	sent(bot.ErrNewIdentity)
	stop()
	b, stop = start()
	if got := next(t, "the report after a restart", reported, nil); got != (newIdentity{user, second}) {
		t.Fatalf("reported %v", got)
	}
	sent(bot.ErrNewIdentity)
	if err := b.ConfirmIdentity(t.Context(), user, second); err != nil {
		t.Fatal(err)
	}
	if got := next(t, "the report after it was confirmed", reported, nil); got != (newIdentity{user, ""}) {
		t.Fatalf("reported %v", got)
	}
	sent(nil)
	stop()
	select {
	case got := <-reported:
		t.Errorf("reported %v", got)
	default:
	}
}
