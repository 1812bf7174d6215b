package bot

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto/signatures"
	"maunium.net/go/mautrix/id"
)

// fallbackAccount is a part of goolm's Olm accounts that mautrix does not use. The homeserver gives out a fallback key when a device's
// one-time keys are used up, for example because a window was off during the holidays. (Dendrite 0.15 ignores fallback keys: it always says
// that it has none.)
type fallbackAccount interface {
	GenFallbackKey() error
	FallbackKeyUnpublished() map[string]id.Curve25519
}

// fallbackEvery is the shortest time between two new fallback keys. Only the latest two decrypt messages.
const fallbackEvery = time.Hour

// fallbackUpload is the part of POST /keys/upload that mautrix has no field for.
type fallbackUpload struct {
	FallbackKeys map[id.KeyID]*mautrix.OneTimeKey `json:"fallback_keys"`
}

// fallbackKey uploads a new fallback key when the homeserver has none, or has given it out. unused is the list of algorithms whose fallback keys
// sync calls unused. It is nil when sync has no such list.
func (b *Bot) fallbackKey(ctx context.Context, unused []id.KeyAlgorithm) {
	if unused == nil || slices.Contains(unused, id.KeyAlgorithmSignedCurve25519) || time.Since(b.fallbackMade) < fallbackEvery {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	if err := b.uploadFallback(mautrix.WithMaxRetries(ctx, 0)); err != nil {
		if ctx.Err() == nil {
			b.log.Warn().Err(short(err)).Msg("The fallback key can't be uploaded: trying again")
		}
		return
	}
	b.fallbackMade = time.Now()
}

// uploadFallback makes a fallback key, signs it and uploads it.
func (b *Bot) uploadFallback(ctx context.Context) error {
	olm := b.mach.GetAccount()
	inner, ok := olm.Internal.(fallbackAccount)
	if !ok {
		return nil
	}
	// A key whose upload was interrupted is uploaded again.
	keys := inner.FallbackKeyUnpublished()
	if len(keys) == 0 {
		if err := inner.GenFallbackKey(); err != nil {
			return fmt.Errorf("make a fallback key: %w", err)
		}
		keys = inner.FallbackKeyUnpublished()
	}
	if err := b.crypto.PutAccount(ctx, olm); err != nil {
		return fmt.Errorf("store the fallback key: %w", err)
	}
	self := b.device()
	upload := fallbackUpload{make(map[id.KeyID]*mautrix.OneTimeKey)}
	for name, key := range keys {
		signed := &mautrix.OneTimeKey{Key: key, Fallback: true, IsSigned: true}
		signature, err := olm.SignJSON(signed)
		if err != nil {
			return fmt.Errorf("sign the fallback key: %w", err)
		}
		signed.Signatures = signatures.NewSingleSignature(self.User, id.KeyAlgorithmEd25519, self.ID.String(), signature)
		upload.FallbackKeys[id.NewKeyID(id.KeyAlgorithmSignedCurve25519, name)] = signed
	}
	if _, err := b.client.MakeRequest(ctx, http.MethodPost, b.client.BuildClientURL("v3", "keys", "upload"), upload, nil); err != nil {
		return fmt.Errorf("upload the fallback key: %w", err)
	}
	olm.Internal.MarkKeysAsPublished()
	if err := b.crypto.PutAccount(ctx, olm); err != nil {
		return fmt.Errorf("store the fallback key: %w", err)
	}
	return nil
}
