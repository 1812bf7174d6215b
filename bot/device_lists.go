package bot

import (
	"context"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/backoff"
)

// fetchTime is how long sync waits for other homeservers' device lists. Lists that take longer are asked for again.
const fetchTime = 8 * time.Second

// deviceLists fetches the devices of users whose devices have changed. Those that can't be fetched now are asked for again.
func (b *Bot) deviceLists(ctx context.Context, changed []id.UserID) {
	tracked, err := b.crypto.FilterTrackedUsers(ctx, changed)
	if err != nil && ctx.Err() == nil {
		b.log.Warn().Err(err).Msg("The list of known users can't be read")
		tracked = changed
	}
	if len(tracked) == 0 {
		return
	}
	for _, user := range tracked {
		// A device that was signed only now did not get the keys of the running sessions. End these, so that it gets the next.
		b.mach.OnDevicesChanged(ctx, user)
	}
	got, err := b.fetchKeys(ctx, tracked)
	if missed := without(tracked, got); len(missed) > 0 && ctx.Err() == nil {
		b.log.Warn().AnErr("error", short(err)).Int("users", len(missed)).Msg("Changed device lists can't be fetched: trying again")
		b.background.Go(func() { b.fetchLater(ctx, missed) })
	}
}

// fetchLater goes on asking for the devices of users whose homeserver can't be reached. It gives up after a day. After that, their devices
// are asked for when a message comes from them or goes to them.
func (b *Bot) fetchLater(ctx context.Context, users []id.UserID) {
	begun := time.Now()
	pause := backoff.Backoff{Min: 2 * time.Second, Max: 10 * time.Minute}
	for len(users) > 0 && time.Since(begun) < 24*time.Hour {
		timer := time.NewTimer(pause.Next())
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		got, _ := b.fetchKeys(ctx, users)
		users = without(users, got)
	}
}

// without lists the users who have no entry in a map.
func without[T any](users []id.UserID, got map[id.UserID]T) (missed []id.UserID) {
	for _, user := range users {
		if _, ok := got[user]; !ok {
			missed = append(missed, user)
		}
	}
	return missed
}

// fetchKeys asks for the devices and identities of users, for a limited time.
func (b *Bot) fetchKeys(ctx context.Context, users []id.UserID) (map[id.UserID]map[id.DeviceID]*id.Device, error) {
	ctx, cancel := context.WithTimeout(quietly(ctx), fetchTime)
	defer cancel()
	got, err := b.fetcher.FetchKeys(mautrix.WithMaxRetries(ctx, 0), users, true)
	for user := range got {
		if err := b.identities.Report(ctx, user); err != nil && ctx.Err() == nil {
			b.log.Warn().Err(err).Msg("An identity can't be looked up")
		}
	}
	return got, err
}

// refetch asks for a user's devices once more, unless that user has caused it too often. It says whether there was an answer.
func (b *Bot) refetch(ctx context.Context, user id.UserID) bool {
	if !b.work.Allow(user, time.Now()) {
		return false
	}
	_, err := b.fetchKeys(ctx, []id.UserID{user})
	return err == nil
}

// known says whether a device exists. If it is new, its user's devices are asked for, whatever the budget.
func (b *Bot) known(ctx context.Context, d Device) bool {
	device, err := b.crypto.GetDevice(ctx, d.User, d.ID)
	if err == nil && device == nil {
		if _, err = b.fetchKeys(ctx, []id.UserID{d.User}); err == nil {
			device, err = b.crypto.GetDevice(ctx, d.User, d.ID)
		}
	}
	return err == nil && device != nil
}

// trusted says whether a device may get our keys, and whether its messages are accepted.
func (b *Bot) trusted(ctx context.Context, device *id.Device) bool {
	if device.Trust == id.TrustStateBlacklisted || device.Trust == id.TrustStateDeviceKeyMismatch || device.Deleted {
		return false
	}
	if b.cfg.AcceptUnsignedDevices {
		return true
	}
	trust, err := b.mach.ResolveTrustContext(quietly(ctx), device)
	return err == nil && trust >= b.minTrust()
}

// oneTimeKeys uploads new one-time keys when few are left.
func (b *Bot) oneTimeKeys(ctx context.Context, count *mautrix.OTKCount) {
	if count == nil || count.SignedCurve25519 >= int(b.mach.GetAccount().Internal.MaxNumberOfOneTimeKeys()/2) {
		return
	}
	limited, cancel := context.WithTimeout(quietly(ctx), fetchTime)
	defer cancel()
	if err := b.mach.ShareKeys(mautrix.WithMaxRetries(limited, 0), count.SignedCurve25519); err != nil && limited.Err() == nil {
		b.log.Warn().Err(short(err)).Msg("One-time keys can't be uploaded: trying again")
		b.repairOneTimeKeys(ctx, err)
	}
}
