package bot

import (
	"context"
	"errors"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// renewPause is the shortest time between two new Olm sessions with one device. Messages that were under way before the first one can't be
// decrypted either.
const renewPause = 2 * time.Second

// wedged is called by mautrix when a message of a device can't be decrypted: one side has lost its place in their Olm session, perhaps because its
// data folder was restored. mautrix's own remedy (UnwedgeDevice) waits until an hour has passed since the last session was begun. Two windows would
// not see each other for that long.
func (b *Bot) wedged(ctx context.Context, user id.UserID, key id.SenderKey) {
	now := time.Now()
	if !b.renewals.Allow(now, key) || user != b.UserID() && !b.work.Allow(user, now) {
		return
	}
	b.background.Go(func() {
		ctx, cancel := context.WithTimeout(quietly(ctx), sendTime)
		defer cancel()
		if err := b.renew(ctx, user, key); err != nil && ctx.Err() == nil {
			b.log.Debug().Err(short(err)).Stringer("user_id", user).Msg("No new Olm session could be begun")
		}
	})
}

// renew begins a new Olm session with a device, and tells the device by an empty message (m.dummy). What is sent after that can be decrypted; what
// was lost is sent again by those who need it, or asked for.
func (b *Bot) renew(ctx context.Context, user id.UserID, key id.SenderKey) (err error) {
	device, err := b.crypto.FindDeviceByKey(ctx, user, key)
	if err != nil || device == nil || !b.trusted(ctx, device) {
		return err
	}
	defer func() {
		if recover() != nil { // mautrix panics when encryption fails
			b.stats.count(&b.stats.s.Panics)
			err = errors.New("encryption panicked")
		}
	}()
	// The device may lack the keys of our running Megolm sessions, too.
	b.mach.OnDevicesChanged(ctx, user)
	b.olm.Abandon(key)
	if err := b.mach.SendEncryptedToDevice(ctx, device, event.ToDeviceDummy, event.Content{}); err != nil {
		b.olm.Abandon(key) // the next message tries again
		return err
	}
	b.log.Info().Stringer("user_id", user).Stringer("device_id", device.DeviceID).
		Msg("A message could not be decrypted: a new Olm session was begun with its sender")
	return nil
}

// repairOneTimeKeys is for a homeserver that refuses our new one-time keys, because it has others with the same ids. They are from the time after
// this data folder was copied. They are used up first, since nobody has their private halves.
func (b *Bot) repairOneTimeKeys(ctx context.Context, err error) {
	var refusal mautrix.HTTPError
	if transient(err) || !errors.As(err, &refusal) || !b.repairing.CompareAndSwap(false, true) {
		return
	}
	b.background.Go(func() {
		defer b.repairing.Store(false)
		if err := b.mach.RepairOneTimeKeys(ctx); err != nil && ctx.Err() == nil {
			b.log.Warn().Err(short(err)).Msg("The one-time keys can't be renewed: trying again")
		}
	})
}
