package bot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"time"

	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/verification"
)

// maxContent is the longest content of a to-device message, in bytes. Homeservers accept no longer ones.
const maxContent = 64 << 10

// toDeviceEvents handles the to-device events of a sync response, and those before it whose senders were strangers then.
func (b *Bot) toDeviceEvents(ctx context.Context, events []*event.Event) {
	now := time.Now()
	if len(events)+len(b.held.list) > 0 {
		if err := b.state.knowJoined(ctx, b.UserID()); err != nil && ctx.Err() == nil {
			b.log.Warn().Err(short(err)).Msg("It can't be asked who is in a room that we have joined: trying again")
		}
	}
	answers := make(map[id.UserID]bool)
	met := func(user id.UserID) bool {
		if _, asked := answers[user]; !asked {
			answers[user] = b.met(ctx, user)
		}
		return answers[user]
	}
	ready, expired := b.held.take(now, met)
	b.stats.drop(DropStranger, expired)
	for _, e := range append(ready, events...) {
		switch {
		case !met(e.Sender):
			if !b.held.add(e, now) {
				b.stats.drop(DropStranger, 1)
			}
		case e.Sender != b.UserID() && !b.messages.Allow(e.Sender, now):
			b.stats.drop(DropTooMany, 1)
		default:
			b.handleToDevice(ctx, e)
		}
	}
}

// met says whether a user is in a room with us. Others get nothing from us, so nothing of theirs is looked at.
func (b *Bot) met(ctx context.Context, user id.UserID) bool {
	if user == b.UserID() {
		return true
	}
	met, err := b.state.sharesRoom(ctx, b.UserID(), user)
	if err != nil && ctx.Err() == nil {
		b.log.Warn().Err(err).Msg("It can't be looked up who is in a room with us")
	}
	return err == nil && met
}

// handleToDevice decrypts, checks and dispatches a to-device event.
func (b *Bot) handleToDevice(ctx context.Context, e *event.Event) {
	e.Type.Class = event.ToDeviceEventType
	if err := e.Content.ParseRaw(e.Type); err != nil && !errors.Is(err, event.ErrUnsupportedContentType) {
		b.stats.drop(DropMalformed, 1)
		return
	}
	if e.Type != event.ToDeviceEncrypted {
		if _, ours := b.toDevice[e.Type.Type]; ours {
			b.stats.drop(DropCleartext, 1)
			return
		}
		b.handlePlain(ctx, e)
		return
	}
	b.handleOlm(ctx, e)
}

// handleOlm decrypts, checks and dispatches an Olm-encrypted event.
func (b *Bot) handleOlm(ctx context.Context, e *event.Event) {
	// mautrix would begin a session with each key that somebody invents, and keep it for good.
	if !b.knownKey(ctx, e.Sender, e.Content.AsEncrypted().SenderKey) {
		b.stats.drop(DropUnknownDevice, 1)
		return
	}
	// mautrix handles room keys and the like itself, and returns everything else. Only its log says that it could not decrypt.
	var (
		failed atomic.Bool
		plain  *crypto.DecryptedOlmEvent
	)
	b.guard(e.Type.Type, func() { plain = b.mach.HandleEncryptedEvent(noting(ctx, &failed), e) })
	switch {
	case plain == nil && failed.Load():
		b.stats.drop(DropUndecryptable, 1)
	case plain == nil:
	case b.toDevice[plain.Type.Type] == nil:
		b.stats.drop(DropUnhandled, 1)
	default:
		b.checkToDevice(ctx, plain)
	}
}

// knownKey says whether one of a user's devices has this identity key. If not, the user's devices are asked for.
func (b *Bot) knownKey(ctx context.Context, user id.UserID, key id.SenderKey) bool {
	device, err := b.crypto.FindDeviceByKey(ctx, user, key)
	if err == nil && device == nil && b.refetch(ctx, user) {
		device, err = b.crypto.FindDeviceByKey(ctx, user, key)
	}
	return err == nil && device != nil && !device.Deleted
}

// handlePlain answers the requests for keys and secrets in the background. Besides those of a comparison of emoji, they are the only messages in the
// clear that we need. Notices that a key is withheld would be kept, and change nothing.
func (b *Bot) handlePlain(ctx context.Context, e *event.Event) {
	if verification.Is(e.Type) {
		b.guard(e.Type.Type, func() {
			if !b.verifier.Handle(quietly(ctx), time.Now(), e) {
				b.stats.drop(DropUnhandled, 1)
			}
		})
		return
	}
	var (
		from   id.DeviceID
		answer func(ctx context.Context)
	)
	switch content := e.Content.Parsed.(type) {
	case *event.RoomKeyRequestEventContent:
		if content.Action != event.KeyRequestActionRequest {
			return
		}
		// Not HandleToDeviceEvent: it starts a goroutine that nobody waits for.
		from, answer = content.RequestingDeviceID, func(ctx context.Context) { b.mach.HandleRoomKeyRequest(ctx, e.Sender, content) }
	case *event.SecretRequestEventContent:
		if content.Action != event.SecretRequestRequest {
			return
		}
		if e.Sender != b.UserID() {
			b.stats.drop(DropUnhandled, 1)
			return
		}
		from, answer = content.RequestingDeviceID, func(ctx context.Context) { b.mach.HandleToDeviceEvent(ctx, e) }
	default:
		b.stats.drop(DropUnhandled, 1)
		return
	}
	if e.Sender != b.UserID() && !b.work.Allow(e.Sender, time.Now()) {
		b.stats.drop(DropTooMany, 1)
		return
	}
	b.background.Go(func() {
		// mautrix itself would ask for each unknown device, without a limit. What allow counted pays for the question, too.
		if !b.known(ctx, Device{e.Sender, from}) {
			b.stats.drop(DropUnknownDevice, 1)
			return
		}
		ctx, cancel := context.WithTimeout(quietly(ctx), sendTime)
		defer cancel()
		b.guard(e.Type.Type, func() { answer(ctx) })
	})
}

// checkToDevice dispatches a decrypted to-device event if it comes from a device that is known and trusted.
func (b *Bot) checkToDevice(ctx context.Context, e *crypto.DecryptedOlmEvent) {
	content, ok := objectContent(e.Content.VeryRaw)
	if !ok {
		b.stats.drop(DropMalformed, 1)
		return
	}
	device, trusted := b.senderDevice(ctx, e)
	// Perhaps the owner signed the device a moment ago, or we have never asked for the owner's identity.
	if !trusted && b.refetch(ctx, e.Sender) {
		device, trusted = b.senderDevice(ctx, e)
	}
	switch {
	case device == nil:
		b.stats.drop(DropUnknownDevice, 1)
		return
	case !trusted:
		b.stats.drop(DropUntrusted, 1)
		b.strangerLog.Warn().Stringer("user_id", e.Sender).Stringer("device_id", device.DeviceID).
			Msg("A message was dropped, since its sender's device is not verified by its owner, or the owner's identity has changed")
		return
	}
	message := ToDevice{From: Device{e.Sender, device.DeviceID}, Type: e.Type, Content: content}
	for _, f := range b.toDevice[e.Type.Type] {
		b.guard(e.Type.Type, func() { f(ctx, message) })
	}
}

// senderDevice finds the device that encrypted an event, as its user's homeserver lists it, and says whether it is trusted.
func (b *Bot) senderDevice(ctx context.Context, e *crypto.DecryptedOlmEvent) (*id.Device, bool) {
	device, err := b.crypto.FindDeviceByKey(ctx, e.Sender, e.SenderKey)
	if err != nil || device == nil || device.SigningKey != e.Keys.Ed25519 {
		return nil, false
	}
	return device, b.trusted(ctx, device)
}

// objectContent returns a copy of a content, if that is a JSON object of at most maxContent bytes.
func objectContent(raw json.RawMessage) (json.RawMessage, bool) {
	if len(raw) > maxContent || !json.Valid(raw) || !bytes.HasPrefix(bytes.TrimLeft(raw, " \t\r\n"), []byte("{")) {
		return nil, false
	}
	return bytes.Clone(raw), true
}
