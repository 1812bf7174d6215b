// Package verification compares emoji with an admin: the short authentication string (SAS) of m.sas.v1. When both see the same, each side signs the
// other's identity, and nobody between them has exchanged keys. An admin's Element begins, by messages to our device. mautrix has the protocol; this
// package lets in one comparison at a time, of the users whom the owner names, and leaves the decision to people. mautrix also starts a goroutine
// for each comparison, which sleeps for ten minutes. Nothing can wait for it.
package verification

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/crypto/verificationhelper"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/identity"
)

// lifetime is how long a comparison may take (Matrix specification, key verification framework).
const lifetime = 10 * time.Minute

// stepTime is how long sync waits for one step.
const stepTime = 8 * time.Second

// Emoji are what people compare. There are seven.
type Emoji struct {
	User    id.UserID
	Symbols []rune
	// Names are what the Matrix specification calls them, in English.
	Names []string
}

// Verifier is our side of comparisons. Handle is called by one goroutine, Answer by any.
type Verifier struct {
	cfg    Config
	syncer *mautrix.DefaultSyncer
	helper *verificationhelper.VerificationHelper
	turn   sync.Mutex // held by Handle and Answer: mautrix reads a comparison before it locks it

	mu      sync.Mutex // guards what follows
	user    id.UserID  // with whom the present comparison is
	device  id.DeviceID
	txn     id.VerificationTransactionID // "" for none
	expires time.Time

	// These are guarded by turn. If the other side answers first, mautrix (0.32) compares its master key with ours, and fails. So the other side's
	// answer waits for ours.
	answered bool
	waiting  *event.Event
}

// Config is what a Verifier needs. All but Show is required.
type Config struct {
	// Client's Syncer must be a mautrix.DefaultSyncer that nothing else uses.
	Client     *mautrix.Client
	Machine    *crypto.OlmMachine
	Identities *identity.Tracker
	// Users may compare emoji with us.
	Users []id.UserID
	// Show is called with the emoji to be compared, and with nil when there are none any more. It must not block.
	Show func(*Emoji)
	Log  zerolog.Logger
}

// New makes a Verifier.
func New(ctx context.Context, cfg Config) (*Verifier, error) {
	syncer, ok := cfg.Client.Syncer.(*mautrix.DefaultSyncer)
	if !ok {
		return nil, errors.New("verification: the client has another syncer")
	}
	if cfg.Show == nil {
		cfg.Show = func(*Emoji) {}
	}
	v := &Verifier{cfg: cfg, syncer: syncer}
	v.helper = verificationhelper.NewVerificationHelper(cfg.Client, cfg.Machine, nil, callbacks{v}, false, false, true)
	if err := v.helper.Init(ctx); err != nil {
		return nil, fmt.Errorf("verification: %w", err)
	}
	return v, nil
}

// Is says whether a to-device event belongs to a comparison.
func Is(t event.Type) bool {
	switch t.Type {
	case event.ToDeviceVerificationRequest.Type, event.ToDeviceVerificationReady.Type, event.ToDeviceVerificationStart.Type,
		event.ToDeviceVerificationAccept.Type, event.ToDeviceVerificationKey.Type, event.ToDeviceVerificationMAC.Type,
		event.ToDeviceVerificationDone.Type, event.ToDeviceVerificationCancel.Type:
		return true
	}
	return false
}

// Handle handles an event for which Is is true. It returns false when its sender may not compare. Events of another comparison than the present one
// are dropped: mautrix does not look at who sent them.
func (v *Verifier) Handle(ctx context.Context, now time.Time, e *event.Event) (allowed bool) {
	if !slices.Contains(v.cfg.Users, e.Sender) {
		return false
	}
	v.turn.Lock()
	defer v.turn.Unlock()
	content, ok := e.Content.Parsed.(event.VerificationTransactionable)
	if !ok {
		return true
	}
	txn := content.GetTransactionID()
	request, begins := e.Content.Parsed.(*event.VerificationRequestEventContent)
	v.mu.Lock()
	switch {
	case txn == "" || len(txn) > 255:
		begins, ok = false, false
	case begins:
		if ok = v.txn == "" || now.After(v.expires); ok {
			v.user, v.device, v.txn, v.expires = e.Sender, request.FromDevice, txn, now.Add(lifetime)
			v.answered, v.waiting = false, nil
		}
	default:
		ok = v.txn == txn && v.user == e.Sender
	}
	v.mu.Unlock()
	switch {
	case !ok:
	case e.Type.Type == event.ToDeviceVerificationMAC.Type && !v.answered:
		v.waiting = e
	default:
		ctx, cancel := context.WithTimeout(ctx, stepTime)
		defer cancel()
		v.syncer.Dispatch(ctx, e)
	}
	return true
}

// Answer says whether people see the same on both sides.
func (v *Verifier) Answer(ctx context.Context, same bool) error {
	v.turn.Lock()
	defer v.turn.Unlock()
	v.mu.Lock()
	txn := v.txn
	v.mu.Unlock()
	if txn == "" {
		return errors.New("nothing is being compared")
	}
	v.cfg.Show(nil)
	if same {
		if err := v.helper.ConfirmSAS(ctx, txn); err != nil {
			return fmt.Errorf("confirm the comparison: %w", err)
		}
		v.answered = true
		if v.waiting != nil {
			v.syncer.Dispatch(ctx, v.waiting)
		}
		return nil
	}
	v.end(txn)
	if err := v.helper.CancelVerification(ctx, txn, event.VerificationCancelCodeSASMismatch, "the emoji do not match"); err != nil {
		return fmt.Errorf("cancel the comparison: %w", err)
	}
	return nil
}

// end forgets a comparison.
func (v *Verifier) end(txn id.VerificationTransactionID) {
	v.mu.Lock()
	ended := v.txn == txn
	if ended {
		v.txn = ""
	}
	v.mu.Unlock()
	if ended {
		v.cfg.Show(nil)
	}
}

// callbacks is what mautrix tells us.
type callbacks struct{ *Verifier }

// VerificationRequested implements verificationhelper.RequiredCallbacks, as the following methods do.
func (c callbacks) VerificationRequested(ctx context.Context, txn id.VerificationTransactionID, _ id.UserID, _ id.DeviceID) {
	if err := c.helper.AcceptVerification(ctx, txn); err != nil {
		c.end(txn)
	}
}

func (c callbacks) VerificationReady(context.Context, id.VerificationTransactionID, id.DeviceID, bool, bool, *verificationhelper.QRCode) {
}

func (c callbacks) VerificationCancelled(_ context.Context, txn id.VerificationTransactionID, _ event.VerificationCancelCode, _ string) {
	c.end(txn)
}

// VerificationDone ends the comparison. mautrix trusts the other device for good, whatever its owner's identity will be. Only the identity counts here.
func (c callbacks) VerificationDone(ctx context.Context, txn id.VerificationTransactionID, _ event.VerificationMethod) {
	c.mu.Lock()
	user, device := c.user, c.device
	c.mu.Unlock()
	if known, err := c.cfg.Machine.CryptoStore.GetDevice(ctx, user, device); err == nil && known != nil {
		known.Trust = id.TrustStateUnset
		_ = c.cfg.Machine.CryptoStore.PutDevice(ctx, user, known)
	}
	if err := c.confirm(ctx, user); err != nil {
		c.cfg.Log.Warn().Err(err).Stringer("user_id", user).Msg("An identity that was compared can't be confirmed")
	}
	c.end(txn)
}

// confirm makes the identity of a user that we have signed the trusted one, if it was new.
func (v *Verifier) confirm(ctx context.Context, user id.UserID) error {
	if trusted, err := v.cfg.Machine.IsUserTrusted(ctx, user); err != nil || !trusted {
		return err
	}
	v.cfg.Log.Info().Stringer("user_id", user).Msg("Somebody compared emoji with the window, and they were the same")
	key, err := v.cfg.Identities.Changed(ctx, user)
	if err == nil && key != "" {
		err = v.cfg.Identities.Confirm(ctx, user, key)
	}
	return err
}

// ShowSAS implements verificationhelper.ShowSASCallbacks.
func (c callbacks) ShowSAS(_ context.Context, txn id.VerificationTransactionID, emoji []rune, names []string, _ []int) {
	c.mu.Lock()
	user, present := c.user, c.txn == txn
	c.mu.Unlock()
	if present {
		c.cfg.Show(&Emoji{User: user, Symbols: emoji, Names: names})
	}
}
