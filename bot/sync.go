package bot

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// Run syncs until ctx ends, and then returns nil. It returns an error when it can't go on: the homeserver has logged the device out
// (ErrLoggedOut), a copy of the data folder was started (ErrCopied), or the database can't be written.
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
	// pollLimit is how long a poll may take.
	pollLimit = pollTime + 20*time.Second
	// firstLimit is for the first response, which has everything.
	firstLimit = 3 * time.Minute
)

// sync polls and processes responses until ctx ends or the bot can't go on.
func (b *Bot) sync(ctx context.Context) error {
	a, err := b.session.get(ctx)
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
			if err := b.disconnected(ctx, err); err != nil {
				return err
			}
			continue
		}
		b.connected()
		quick = false
		if err := b.process(ctx, response, since == ""); err != nil {
			return err
		}
		// The response's effects are in the database by now. After the next request the homeserver may forget the response.
		if err := b.session.setNextBatch(ctx, response.NextBatch); err != nil {
			return err
		}
		since = response.NextBatch
	}
	return ctx.Err()
}

// poll asks for the next sync response. With quick the homeserver answers at once.
func (b *Bot) poll(ctx context.Context, since string, quick bool) (*syncResponse, error) {
	wait, limit := pollTime, pollLimit
	if quick {
		wait = 0
	}
	if since == "" {
		limit = firstLimit
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	request := mautrix.ReqSync{Timeout: int(wait.Milliseconds()), Since: since, FilterID: syncFilter, SetPresence: event.PresenceOffline}
	var response *syncResponse
	_, err := b.client.MakeFullRequest(ctx, mautrix.FullRequest{
		Method: http.MethodGet, URL: b.client.BuildURLWithQuery(mautrix.ClientURLPath{"v3", "sync"}, request.BuildQuery()),
		ResponseJSON: &response, MaxAttempts: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("sync: %w", err)
	}
	if response == nil || response.NextBatch == "" {
		return nil, mautrix.HTTPError{Message: "the homeserver's answer to sync has no next_batch"}
	}
	return response, nil
}

// syncFilter leaves out what nobody here uses. Presence, typing and receipts would come often.
const syncFilter = `{"presence":{"not_types":["*"]},"account_data":{"types":["` + runType + `"]},` +
	`"room":{"timeline":{"limit":50},"ephemeral":{"not_types":["*"]},"account_data":{"not_types":["*"]}}}`

// process handles one sync response. Its error means that the bot can't go on.
func (b *Bot) process(ctx context.Context, r *syncResponse, first bool) error {
	if err := b.checkRun(r.AccountData.Events.events); err != nil {
		return err
	}
	b.stats.drop(DropMalformed, r.malformed())
	// The rooms' state comes first: it says who may send us to-device messages.
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
	b.deviceLists(ctx, r.DeviceLists.Changed)
	b.toDeviceEvents(ctx, r.ToDevice.Events.events)
	b.oneTimeKeys(ctx, r.OneTimeKeys)
	b.fallbackKey(ctx, r.FallbackKeys)
	b.mach.MarkOlmHashSavePoint(ctx)
	if err := b.keepSticky(ctx, time.Now(), all); err != nil && ctx.Err() == nil {
		return err
	}
	for _, e := range all {
		b.deliver(ctx, e, first)
	}
	b.retryWaiting(ctx)
	if ctx.Err() != nil {
		return ctx.Err() // a handler's work may have been interrupted, so the next run has to see this response again
	}
	if now := time.Now(); now.Sub(b.pruned) > pruneEvery {
		if err := b.prune(ctx, now); err != nil && ctx.Err() == nil {
			return err
		}
	}
	b.synced(ctx)
	b.stats.count(&b.stats.s.Responses)
	return nil
}

// roomEvents lists the events of a response for the handlers, in the right order.
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

// deliver gives an event to the handlers, after decrypting it if necessary.
func (b *Bot) deliver(ctx context.Context, e *event.Event, first bool) {
	if e.Type == event.EventEncrypted {
		b.decrypt(ctx, e, first)
	} else {
		b.dispatch(ctx, e)
	}
}

// dispatch gives an event to the handlers of its type.
func (b *Bot) dispatch(ctx context.Context, e *event.Event) {
	for _, h := range b.handlers[e.Type.Type] {
		if h.class == event.UnknownEventType || h.class == e.Type.Class {
			b.guard(e.Type.Type, func() { h.f(ctx, e) })
		}
	}
}

// synced calls the functions of OnSynced.
func (b *Bot) synced(ctx context.Context) {
	for _, f := range b.syncedFuns {
		b.guard("", func() { f(ctx) })
	}
}

// guard calls a handler. A panic in it is a bug of ours that somebody's event has triggered. It must not end the program.
func (b *Bot) guard(what string, f func()) {
	defer func() {
		if r := recover(); r != nil {
			b.stats.count(&b.stats.s.Panics)
			b.log.Error().Str("event_type", what).Str("stack", stack()).Msg("A handler panicked: its event is lost")
		}
	}()
	f()
}

// stack is where the caller's goroutine panicked, without the panic's value, which may hold parts of a message.
func stack() string {
	text := string(debug.Stack())
	if _, rest, ok := strings.Cut(text, "panic("); ok {
		if _, rest, ok = strings.Cut(rest, "\n"); ok {
			text = rest
		}
	}
	return clip(text, 4<<10)
}
