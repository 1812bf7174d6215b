package bot_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/crypto/verificationhelper"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/verification"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// element is an admin's client that compares emoji.
type element struct {
	password string
	t        *testing.T
	mach     *crypto.OlmMachine
	helper   *verificationhelper.VerificationHelper
	next     string // sync's position
	emoji    []rune
	ready    id.VerificationTransactionID
	ended    string
}

func newElement(t *testing.T, hs *rig.Homeserver) *element {
	t.Helper()
	user, password := hs.Register(t, "anna")
	e := &element{password: password, t: t, mach: rawDevice(t, hs, user)}
	e.mach.Client.Crypto = noCrypto{}
	makeIdentity(t, e.mach, password)
	if err := e.mach.SignOwnMasterKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.helper = verificationhelper.NewVerificationHelper(e.mach.Client, e.mach, nil, e, false, false, true)
	if err := e.helper.Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	return e
}

type noCrypto struct{ mautrix.CryptoHelper }

func (e *element) VerificationRequested(context.Context, id.VerificationTransactionID, id.UserID, id.DeviceID) {
}

func (e *element) VerificationReady(_ context.Context, txn id.VerificationTransactionID, _ id.DeviceID, _, _ bool, _ *verificationhelper.QRCode) {
	e.ready = txn
}

func (e *element) VerificationCancelled(_ context.Context, _ id.VerificationTransactionID, code event.VerificationCancelCode, _ string) {
	e.ended = string(code)
}

func (e *element) VerificationDone(context.Context, id.VerificationTransactionID, event.VerificationMethod) {
	e.ended = "done"
}

func (e *element) ShowSAS(_ context.Context, _ id.VerificationTransactionID, emoji []rune, _ []string, _ []int) {
	e.emoji = emoji
}

// until syncs until ok is true.
func (e *element) until(what string, ok func() bool) {
	e.t.Helper()
	rig.Eventually(e.t, limit, func() error {
		answer, err := e.mach.Client.SyncRequest(e.t.Context(), 100, e.next, "", false, "")
		if err != nil {
			return err
		}
		e.next = answer.NextBatch
		for _, received := range answer.ToDevice.Events {
			received.Type.Class = event.ToDeviceEventType
			if received.Content.ParseRaw(received.Type) == nil {
				e.mach.Client.Syncer.(*mautrix.DefaultSyncer).Dispatch(e.t.Context(), received)
			}
		}
		return rig.Check(ok(), what, fmt.Sprint(e.ready, e.emoji, e.ended))
	})
}

// TestEmoji: an admin's client compares emoji with the window. (TestElementVerifies in cmd/e2e does so with Element's own crypto.) When both say that they are the same, both identities are signed. When the window
// says that they are not, nothing is. Nobody but an admin can begin, and nobody else can take part.
func TestEmoji(t *testing.T) {
	hs := rig.StartHomeserver(t)
	anna := newElement(t, hs)
	user := anna.mach.Client.UserID
	account := rig.NewBotAccount(t, hs, "dresden")
	config := account.Config(t)
	shown := make(chan *verification.Emoji, 20)
	config.Verifiers, config.OnEmoji = []id.UserID{user}, func(e *verification.Emoji) { shown <- e }
	reported := make(chan newIdentity, 10)
	config.OnNewIdentity = func(user id.UserID, key id.Ed25519) { reported <- newIdentity{user, key} }
	b, err := bot.New(config)
	if err != nil {
		t.Fatal(err)
	}
	rig.RunBot(t, b)
	stranger, _ := hs.Register(t, "mallory")
	mallory := rawDevice(t, hs, stranger)
	room := makeRoom(t, b, anna.mach.Client, mallory.Client)
	waitMembers(t, b, room, 3)
	if _, err := anna.mach.FetchKeys(t.Context(), []id.UserID{b.UserID()}, true); err != nil {
		t.Fatal(err)
	}
	signed := func() bool {
		answer, err := anna.mach.Client.QueryKeys(t.Context(), &mautrix.ReqQueryKeys{DeviceKeys: mautrix.DeviceKeysRequest{b.UserID(): nil, user: nil}})
		if err != nil {
			t.Fatal(err)
		}
		master := answer.MasterKeys[b.UserID()]
		_, err = anna.mach.FetchKeys(t.Context(), []id.UserID{b.UserID()}, true)
		trusted, _ := anna.mach.IsUserTrusted(t.Context(), b.UserID())
		return err == nil && trusted && len(master.Signatures[user]) > 0
	}
	compare := func() {
		t.Helper()
		anna.ready, anna.emoji, anna.ended = "", nil, ""
		txn, err := anna.helper.StartVerification(t.Context(), b.UserID())
		if err != nil {
			t.Fatal(err)
		}
		anna.until("the window's readiness", func() bool { return anna.ready == txn })
		if err := anna.helper.StartSAS(t.Context(), txn); err != nil {
			t.Fatal(err)
		}
		anna.until("the emoji", func() bool { return len(anna.emoji) == 7 })
		got := next(t, "the emoji at the window", shown, func(e *verification.Emoji) bool { return e != nil })
		if !slices.Equal(got.Symbols, anna.emoji) || got.User != user || len(got.Names) != 7 {
			t.Fatalf("the window shows %+v, Element %q", got, string(anna.emoji))
		}
	}

	sendPlain(t, mallory.Client, device(b), event.ToDeviceVerificationRequest.Type, map[string]any{
		"from_device": mallory.Client.DeviceID, "methods": []string{"m.sas.v1"}, "timestamp": time.Now().UnixMilli(), "transaction_id": "mallory",
	})
	dropped(t, b, bot.DropUnhandled, 1)

	compare()
	if err := b.AnswerEmoji(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	anna.until("the end", func() bool { return anna.ended != "" })
	if anna.ended != string(event.VerificationCancelCodeSASMismatch) || signed() {
		t.Errorf("no match ended with %q, signed %t", anna.ended, signed())
	}
	if err := b.AnswerEmoji(t.Context(), true); err == nil {
		t.Error("an answer counts after the end")
	}

	// Her identity is new by now. The comparison confirms it.
	if err := b.KnowIdentities(t.Context(), []id.UserID{user}); err != nil {
		t.Fatal(err)
	}
	renewed := makeIdentity(t, anna.mach, anna.password)
	if err := anna.mach.SignOwnMasterKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := next(t, "the new identity", reported, nil); got != (newIdentity{user, renewed}) {
		t.Fatalf("reported %v", got)
	}
	compare()
	// Somebody else can't end it, since they are not an admin.
	sendPlain(t, mallory.Client, device(b), event.ToDeviceVerificationCancel.Type, map[string]any{
		"transaction_id": anna.ready, "code": "m.user", "reason": "",
	})
	dropped(t, b, bot.DropUnhandled, 2)
	if err := b.AnswerEmoji(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if err := anna.helper.ConfirmSAS(t.Context(), anna.ready); err != nil {
		t.Fatal(err)
	}
	anna.until("the end", func() bool { return anna.ended != "" })
	if anna.ended != "done" || !signed() {
		t.Errorf("a match ended with %q, signed %t", anna.ended, signed())
	}
	if got := next(t, "the confirmed identity", reported, nil); got != (newIdentity{user, ""}) {
		t.Errorf("reported %v", got)
	}
	next(t, "the end at the window", shown, func(e *verification.Emoji) bool { return e == nil })

	// Element answers first. What Mallory sends after that comes later.
	compare()
	if err := anna.helper.ConfirmSAS(t.Context(), anna.ready); err != nil {
		t.Fatal(err)
	}
	sendPlain(t, mallory.Client, device(b), event.ToDeviceVerificationCancel.Type, map[string]any{
		"transaction_id": anna.ready, "code": "m.user", "reason": "",
	})
	dropped(t, b, bot.DropUnhandled, 3)
	if err := b.AnswerEmoji(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	anna.until("the end", func() bool { return anna.ended != "" })
	if anna.ended != "done" || !signed() {
		t.Errorf("it ended with %q", anna.ended)
	}
	next(t, "the end at the window", shown, func(e *verification.Emoji) bool { return e == nil })
}
