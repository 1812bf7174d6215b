package bot

import (
	"context"

	"maunium.net/go/mautrix/id"
)

// FetchKeys is what a changed device list has the bot do. Tests can't change one as often.
func (b *Bot) FetchKeys(ctx context.Context, user id.UserID) error {
	_, err := b.fetchKeys(ctx, []id.UserID{user})
	return err
}
