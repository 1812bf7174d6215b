package bot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
)

// Start logs in, or continues the stored session, and prepares the encryption. Then it dispatches the state of all joined rooms, and the
// sticky events of an earlier run that are still sticky, as if sync had brought them, so that handlers need not store what rooms say. While
// the homeserver can't be reached, Start goes on trying. It returns an error when ctx ends, and when it can't go on.
func (b *Bot) Start(ctx context.Context) error {
	if err := upgradeSQL(ctx, "room state", b.state.Upgrade, b.client.Log); err != nil {
		return err
	}
	a, err := b.logIn(ctx)
	if err != nil {
		return err
	}
	for _, step := range []func(ctx context.Context) error{
		func(ctx context.Context) error { return b.refuseCopy(ctx, a) },
		func(ctx context.Context) error { return b.openCrypto(ctx, a) },
		b.openIdentity,
		func(ctx context.Context) error { return b.beginRun(ctx, a) },
		func(ctx context.Context) error { return b.identities.ReportAll(ctx) },
		func(ctx context.Context) error { b.ready.Store(true); return b.dispatchState(ctx) },
	} {
		if err := b.persist(ctx, step); err != nil {
			return err
		}
	}
	b.log.Info().Stringer("user_id", a.User).Stringer("device_id", a.Device).Msg("The bot is ready")
	return nil
}

// dispatchState gives the state of all joined rooms, and their sticky events, to the handlers.
func (b *Bot) dispatchState(ctx context.Context) error {
	rooms, err := b.client.JoinedRooms(ctx)
	if err != nil {
		return fmt.Errorf("list the joined rooms: %w", err)
	}
	if err := b.state.forgetLeft(ctx, b.UserID(), rooms.JoinedRooms); err != nil {
		return err
	}
	var all []*event.Event
	for _, room := range rooms.JoinedRooms {
		events, err := b.state.refresh(ctx, room)
		if errors.Is(err, mautrix.MForbidden) {
			continue // we have left, or were removed, since the list was made
		}
		if err != nil {
			return err
		}
		all = append(all, events...)
	}
	sticky, err := b.keptSticky(ctx, time.Now(), rooms.JoinedRooms)
	if err != nil {
		return err
	}
	for _, e := range append(all, sticky...) {
		b.deliver(ctx, e, false)
	}
	b.synced(ctx)
	return nil
}
