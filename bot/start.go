package bot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// Start logs in, or goes on with the stored session, gets the encryption ready, and dispatches the state of all joined rooms, and the sticky
// events of an earlier run that still count, as if they had been synced; so that nobody needs to keep what rooms say. While the homeserver
// can't be reached it goes on trying. It returns an error when ctx ends, and where it can't go on.
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
		func(ctx context.Context) error { b.ready.Store(true); return b.dispatchState(ctx) },
	} {
		if err := b.persist(ctx, step); err != nil {
			return err
		}
	}
	b.log.Info().Stringer("user_id", a.User).Stringer("device_id", a.Device).Msg("The bot is ready")
	return nil
}

// dispatchState hands the state of all joined rooms, and what is sticky there, to the handlers.
func (b *Bot) dispatchState(ctx context.Context) error {
	rooms, err := b.client.JoinedRooms(ctx)
	if err != nil {
		return fmt.Errorf("list the joined rooms: %w", err)
	}
	var all []*event.Event
	for _, room := range rooms.JoinedRooms {
		events, err := b.state.refresh(ctx, room)
		if errors.Is(err, mautrix.MForbidden) {
			continue // left, or thrown out, since the list was made
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
		b.hand(ctx, e, false)
	}
	b.synced(ctx)
	return nil
}

// hand hands an event to the handlers, decrypted if need be.
func (b *Bot) hand(ctx context.Context, e *event.Event, first bool) {
	if e.Type == event.EventEncrypted {
		b.decrypt(ctx, e, first)
	} else {
		b.dispatch(ctx, e)
	}
}

// Run syncs until ctx ends, and then returns nil. It returns an error where it can't go on: the homeserver has logged the device out
// (ErrLoggedOut), a copy of the data folder came up (ErrCopied), or the database can't be written.
func (b *Bot) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer b.background.Wait()
	defer cancel()
	b.mach.SetBackgroundCtx(ctx)
	err := b.sync(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if errors.Is(err, mautrix.MUnknownToken) {
		return fmt.Errorf("%w: someone has removed the device, or the password was changed", ErrLoggedOut)
	}
	return err
}

// Long polling.
const (
	pollTime = 30 * time.Second
	// pollLimit is when a poll without any answer counts as failed.
	pollLimit = pollTime + 20*time.Second
	// firstLimit is for a response that is not just news.
	firstLimit = 3 * time.Minute
)

func (b *Bot) sync(ctx context.Context) error {
	a, err := b.account.get(ctx)
	if err != nil {
		return err
	}
	since, quick := a.NextBatch, true
	for ctx.Err() == nil {
		response, err := b.poll(ctx, since, quick)
		if err != nil {
			if !transient(err) || ctx.Err() != nil {
				return err
			}
			quick = true
			if err := b.down(ctx, err); err != nil {
				return err
			}
			continue
		}
		b.up()
		quick = false
		if err := b.process(ctx, response, since == ""); err != nil {
			return err
		}
		// What was processed is in the database by now. From here on the homeserver may forget it.
		if err := b.account.setNextBatch(ctx, response.NextBatch); err != nil {
			return err
		}
		since = response.NextBatch
	}
	return ctx.Err()
}

// process handles one sync response. Its error means that the bot can't go on.
func (b *Bot) process(ctx context.Context, r *syncResponse, first bool) error {
	if err := b.checkRun(r.AccountData.Events.events); err != nil {
		return err
	}
	b.stats.drop(DropMalformed, r.malformed())
	b.deviceLists(ctx, r.DeviceLists.Changed)
	for _, e := range r.ToDevice.Events.events {
		b.handleToDevice(ctx, e)
	}
	b.oneTimeKeys(ctx, r.OneTimeKeys)
	b.fallbackKey(ctx, r.FallbackKeys)
	b.mach.MarkOlmHashSavePoint(ctx)

	all := r.roomEvents()
	var state []*event.Event
	for _, e := range all {
		if e.StateKey != nil && e.Mautrix.EventSource&event.SourceInvite == 0 {
			state = append(state, e)
		}
	}
	if err := b.state.apply(ctx, b.UserID(), state); err != nil && ctx.Err() == nil {
		return fmt.Errorf("store the rooms' state: %w", err)
	}
	if err := b.keepSticky(ctx, time.Now(), all); err != nil && ctx.Err() == nil {
		return err
	}
	for _, e := range all {
		b.hand(ctx, e, first)
	}
	b.retryWaiting(ctx)
	if ctx.Err() != nil {
		return ctx.Err() // handlers may have been cut short: let the next run see this response again
	}
	b.synced(ctx)
	b.stats.response()
	return nil
}

// roomEvents lists what handlers should see of a response, in the order in which they should.
func (r *syncResponse) roomEvents() (all []*event.Event) {
	add := func(room id.RoomID, list eventList, source event.Source) {
		for _, e := range list.events {
			prepare(e, room, source)
			all = append(all, e)
		}
	}
	for room, invited := range r.Rooms.Invite {
		add(room, invited.State.Events, event.SourceInvite|event.SourceState)
	}
	for room, joined := range r.Rooms.Join {
		add(room, joined.State.Events, event.SourceJoin|event.SourceState)
		add(room, joined.Sticky.Events, event.SourceJoin|event.SourceSticky)
		add(room, joined.Timeline.Events, event.SourceJoin|event.SourceTimeline)
	}
	for room, left := range r.Rooms.Leave {
		add(room, left.State.Events, event.SourceLeave|event.SourceState)
		add(room, left.Timeline.Events, event.SourceLeave|event.SourceTimeline)
	}
	return all
}

// decrypt dispatches what an encrypted event holds. When the key has not come yet, the event waits.
func (b *Bot) decrypt(ctx context.Context, e *event.Event, first bool) {
	plain, err := b.mach.DecryptMegolmEvent(quietly(ctx), e)
	// We may never have asked for the sender's devices, or the device was signed a moment ago.
	if err == nil && unproven(plain.Mautrix.TrustState) && b.refetch(ctx, e.Sender) {
		if again, err := b.mach.DecryptMegolmEvent(quietly(ctx), e); err == nil {
			plain = again
		}
	}
	switch {
	case err == nil:
		plain.Sticky = e.Sticky // it stands beside the content, where mautrix leaves it (MSC4354)
		b.dispatch(ctx, plain)
	case errors.Is(err, crypto.ErrNoSessionFound) && !first: // what was said before this device existed stays closed to it
		b.stats.drop(DropUndecryptable, b.waiting.add(e, e.Content.AsEncrypted().SessionID, time.Now()))
	default:
		b.stats.drop(DropUndecryptable, 1)
	}
}

// retryWaiting tries the events again whose keys have come, and asks for the keys of those that wait for long.
func (b *Bot) retryWaiting(ctx context.Context) {
	ready, ask, expired := b.waiting.take(time.Now())
	b.stats.drop(DropUndecryptable, expired)
	for _, e := range ready {
		b.decrypt(ctx, e, false)
	}
	for _, e := range ask {
		content := e.Content.AsEncrypted()
		b.background.Go(func() {
			//lint:ignore SA1019 the field is a hint only, but without it the request would go to no device of the sender's
			b.client.Crypto.RequestSession(ctx, e.RoomID, content.SenderKey, content.SessionID, e.Sender, content.DeviceID)
		})
	}
}

// dispatch hands an event to the handlers of its type.
func (b *Bot) dispatch(ctx context.Context, e *event.Event) {
	for _, h := range b.handlers[e.Type.Type] {
		if h.class == event.UnknownEventType || h.class == e.Type.Class {
			b.guard(e.Type.Type, func() { h.f(ctx, e) })
		}
	}
}

func (b *Bot) synced(ctx context.Context) {
	for _, f := range b.syncedFuns {
		b.guard("", func() { f(ctx) })
	}
}

// guard calls a handler. A panic in it is a mistake of ours that an outside event has hit: it must not end the window.
func (b *Bot) guard(what string, f func()) {
	defer func() {
		if r := recover(); r != nil {
			b.stats.panicked()
			b.log.Error().Str("event_type", what).Str("stack", stack()).Msg("A handler panicked: its event is lost")
		}
	}()
	f()
}

// unproven says whether the sender's keys may tell more than they did.
func unproven(trust id.TrustState) bool {
	return trust == id.TrustStateUnset || trust == id.TrustStateUnknownDevice
}
