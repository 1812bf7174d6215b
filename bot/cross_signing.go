package bot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/privatefile"
)

// recoveryFile is the file in the data folder that holds the recovery key, which restores the account's cross-signing identity.
const recoveryFile = "recovery-key"

// openIdentity makes the account's cross-signing identity, or loads it with the recovery key, and signs our device with it. It has to
// happen before the first Olm message, because that carries the signature.
func (b *Bot) openIdentity(ctx context.Context) error {
	self := b.device()
	published, err := b.publishedMasterKey(ctx, self.User)
	if err != nil {
		return err
	}
	path := filepath.Join(b.cfg.DataDir, recoveryFile)
	recovery, err := readRecoveryKey(path)
	if err != nil {
		return err
	}
	switch {
	case published == "":
		err = b.makeIdentity(ctx, path)
	case recovery == "":
		return fmt.Errorf("%w: %s has an identity that was made elsewhere, and the file %s is not there. Copy it from the data folder that "+
			"the window had before, or write the account's recovery key to it. If that is lost, make a new account for the window",
			ErrIdentity, self.User, path)
	default:
		err = b.loadIdentity(ctx, recovery, published, path)
	}
	if err != nil {
		return err
	}
	// After this the store has our own user's keys and devices, as it has those of other users.
	if _, err := b.fetcher.FetchKeys(ctx, []id.UserID{self.User}, true); err != nil {
		return fmt.Errorf("ask for our own keys: %w", err)
	}
	// This loads our identity's public keys. From now on mautrix only reads them, see openCrypto.
	if _, err := b.mach.GetOwnCrossSigningPublicKeys(ctx); err != nil {
		return fmt.Errorf("look up our own identity: %w", err)
	}
	return nil
}

// publishedMasterKey is the master key that the homeserver has for a user. It is empty when there is none.
func (b *Bot) publishedMasterKey(ctx context.Context, user id.UserID) (id.Ed25519, error) {
	answer, err := b.client.QueryKeys(ctx, &mautrix.ReqQueryKeys{
		DeviceKeys: mautrix.DeviceKeysRequest{user: mautrix.DeviceIDList{}},
	})
	if err != nil {
		return "", fmt.Errorf("ask for our own identity: %w", err)
	}
	key := answer.MasterKeys[user]
	return key.FirstKey(), nil
}

// makeIdentity makes and publishes the identity. The recovery key is on the disk before anything is published. If this is interrupted, the
// next start either finds nothing published, or can load what is.
func (b *Bot) makeIdentity(ctx context.Context, path string) error {
	key, err := b.mach.SSSS.GenerateAndUploadKey(ctx, "")
	if err != nil {
		return fmt.Errorf("make the recovery key: %w", err)
	}
	if err := privatefile.Write(path, []byte(key.RecoveryKey()+"\n")); err != nil {
		return fmt.Errorf("write the recovery key: %w", err)
	}
	keys, err := b.mach.GenerateCrossSigningKeys()
	if err != nil {
		return fmt.Errorf("make the identity: %w", err)
	}
	if err := b.mach.UploadCrossSigningKeysToSSSS(ctx, key, keys); err != nil {
		return fmt.Errorf("store the identity: %w", err)
	}
	if err := b.mach.SSSS.SetDefaultKeyID(ctx, key.ID); err != nil {
		return fmt.Errorf("store the identity: %w", err)
	}
	err = b.mach.PublishCrossSigningKeys(ctx, keys, func(answer *mautrix.RespUserInteractive) any {
		return &mautrix.ReqUIAuthLogin{
			BaseAuthData: mautrix.BaseAuthData{Type: mautrix.AuthTypePassword, Session: answer.Session},
			User:         b.UserID().String(), Password: b.cfg.Password,
		}
	})
	if err != nil {
		return fmt.Errorf("publish the identity: %w", err)
	}
	if err := b.mach.SignOwnDevice(ctx, b.mach.OwnIdentity()); err != nil {
		return fmt.Errorf("sign our own device: %w", err)
	}
	if err := b.mach.SignOwnMasterKey(ctx); err != nil {
		return fmt.Errorf("sign our own identity: %w", err)
	}
	b.log.Info().Str("file", path).Msg("The account's identity was made. Keep a copy of its recovery key in a safe place")
	return nil
}

// loadIdentity loads the private keys and signs our device. mautrix keeps private keys only in memory, so each start needs this.
func (b *Bot) loadIdentity(ctx context.Context, recovery string, published id.Ed25519, path string) error {
	if err := b.mach.VerifyWithRecoveryKey(ctx, recovery); err != nil {
		if transient(err) {
			return fmt.Errorf("load the identity: %w", err)
		}
		return fmt.Errorf("%w: the key in %s does not open the identity of %s (%w)", ErrIdentity, path, b.UserID(), short(err))
	}
	if own := b.mach.CrossSigningKeys.PublicKeys().MasterKey; own != published {
		return fmt.Errorf("%w: the key in %s opens an identity of %s that has been replaced since", ErrIdentity, path, b.UserID())
	}
	return nil
}

// readRecoveryKey returns the recovery key, or "" when there is no file.
func readRecoveryKey(path string) (string, error) {
	key, err := privatefile.Read(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the recovery key: %w", err)
	}
	return key, nil
}
