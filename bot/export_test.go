package bot

import (
	"context"

	"maunium.net/go/mautrix/id"
)

// FetchKeys does what the bot does when a device list has changed. Tests cannot change one that often.
func (b *Bot) FetchKeys(ctx context.Context, user id.UserID) error {
	_, err := b.fetchKeys(ctx, []id.UserID{user})
	return err
}
