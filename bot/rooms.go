package bot

import (
	"context"
	"fmt"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// Send sends an event to a room, encrypted when the room is encrypted.
func (b *Bot) Send(ctx context.Context, room id.RoomID, t event.Type, content any) (id.EventID, error) {
	if !b.ready.Load() {
		return "", errNotStarted
	}
	answer, err := b.client.SendMessageEvent(ctx, room, t, content)
	if err != nil {
		return "", fmt.Errorf("send %s to room %s: %w", t.Type, room, err)
	}
	return answer.EventID, nil
}

// Encrypted says whether a room is encrypted. For a room that the bot has just joined it fetches the state first.
func (b *Bot) Encrypted(ctx context.Context, room id.RoomID) (bool, error) {
	if !b.ready.Load() {
		return false, errNotStarted
	}
	return b.state.IsEncrypted(ctx, room)
}

// Members lists the joined members of a room, in a stable order. For a room that the bot has just joined it fetches the state first.
func (b *Bot) Members(ctx context.Context, room id.RoomID) ([]id.UserID, error) {
	if !b.ready.Load() {
		return nil, errNotStarted
	}
	if err := b.state.know(ctx, room); err != nil {
		return nil, err
	}
	return b.state.joined(ctx, room)
}
