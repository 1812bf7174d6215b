package bot

import (
	"context"

	"maunium.net/go/mautrix/id"
)

// onNewIdentity passes on what package identity reports.
func (b *Bot) onNewIdentity(user id.UserID, key id.Ed25519) {
	if b.cfg.AcceptUnsignedDevices {
		return // then an identity means nothing
	}
	if key != "" {
		b.strangerLog.Warn().Stringer("user_id", user).Msg("This user's identity has changed. Their devices get no keys until somebody at the window or an admin confirms it")
	}
	b.cfg.OnNewIdentity(user, key)
}

// KnowIdentities asks for the identities of users of whom none is known, so that the first one is remembered from now on.
func (b *Bot) KnowIdentities(ctx context.Context, users []id.UserID) error {
	if !b.ready.Load() {
		return errNotStarted
	}
	unknown, err := b.identities.Unknown(ctx, users)
	if err == nil && len(unknown) > 0 {
		_, err = b.fetchKeys(ctx, unknown)
	}
	return err
}

// AnswerEmoji says whether people see the same emoji on both sides. If they do, we sign the other user's identity when the other side agrees.
func (b *Bot) AnswerEmoji(ctx context.Context, same bool) error {
	if !b.ready.Load() {
		return errNotStarted
	}
	return b.verifier.Answer(ctx, same)
}

// ConfirmIdentity makes a user's new identity the trusted one. key is what OnNewIdentity reported: if the user has changed their identity once more
// since then, that is an error.
func (b *Bot) ConfirmIdentity(ctx context.Context, user id.UserID, key id.Ed25519) error {
	if !b.ready.Load() {
		return errNotStarted
	}
	if err := b.identities.Confirm(ctx, user, key); err != nil {
		return err
	}
	b.log.Info().Stringer("user_id", user).Msg("The new identity of this user was confirmed, at the window or by an admin")
	b.mach.OnDevicesChanged(ctx, user) // the next keys of rooms go to this user's devices, too
	return nil
}

// SignJSON signs a JSON object with the device's Ed25519 key, as Matrix signs JSON.
func (b *Bot) SignJSON(object any) (string, error) {
	if !b.ready.Load() {
		return "", errNotStarted
	}
	return b.mach.GetAccount().SignJSON(object)
}
