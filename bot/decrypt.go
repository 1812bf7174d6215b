package bot

import (
	"context"
	"errors"
	"io"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// decrypt decrypts an event and dispatches it. If its key has not come yet, the event waits. first says that the event is in the first sync
// response.
func (b *Bot) decrypt(ctx context.Context, e *event.Event, first bool) {
	plain, err := b.mach.DecryptMegolmEvent(quietly(ctx), e)
	// Perhaps we have never asked for the sender's devices, or the device was signed a moment ago.
	if err == nil && unproven(plain.Mautrix.TrustState) && b.refetch(ctx, e.Sender) {
		if again, err := b.mach.DecryptMegolmEvent(quietly(ctx), e); err == nil {
			plain = again
		}
	}
	switch {
	case err == nil:
		plain.Sticky = e.Sticky // it is beside the content (MSC4354), and mautrix does not copy it
		b.dispatch(ctx, plain)
	case errors.Is(err, crypto.ErrNoSessionFound) && !first: // events from before this device existed can't be decrypted by it
		b.stats.drop(DropUndecryptable, b.waiting.add(e, e.Content.AsEncrypted().SessionID, time.Now()))
	default:
		b.stats.drop(DropUndecryptable, 1)
	}
}

// unproven says whether asking for the sender's keys may change how far the event is trusted.
func unproven(trust id.TrustState) bool {
	return trust == id.TrustStateUnset || trust == id.TrustStateUnknownDevice
}

// retryWaiting decrypts the events whose keys have come, and asks for the keys of those that have waited long.
func (b *Bot) retryWaiting(ctx context.Context) {
	ready, ask, expired := b.waiting.take(time.Now())
	b.stats.drop(DropUndecryptable, expired)
	for _, e := range ready {
		b.decrypt(ctx, e, false)
	}
	for _, e := range ask {
		if !b.work.Allow(e.Sender, time.Now()) {
			continue
		}
		content := e.Content.AsEncrypted()
		b.background.Go(func() {
			//lint:ignore SA1019 the field is a hint only, but without it the request would go to no device of the sender's
			b.client.Crypto.RequestSession(ctx, e.RoomID, content.SenderKey, content.SessionID, e.Sender, content.DeviceID)
		})
	}
}

// waiting holds encrypted events whose session's key has not come yet. Keys come in to-device messages, which may be late, especially from
// other homeservers.
type waiting struct {
	mu    sync.Mutex // guards what follows
	list  []waitingEvent
	ready map[id.SessionID]bool // sessions that came since the last take
}

type waitingEvent struct {
	event   *event.Event
	session id.SessionID
	since   time.Time
	rounds  int // sync responses since it came
}

// Limits on how many events wait, and how long.
const (
	maxWaiting   = 200
	waitingLimit = 10 * time.Minute
	askAfter     = 1 // sync responses; then the sender's device is asked for the key
)

// add puts an event on the list. It returns how many older ones were dropped for it.
func (w *waiting) add(e *event.Event, session id.SessionID, now time.Time) (dropped int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.list) >= maxWaiting {
		w.list, dropped = w.list[1:], 1
	}
	w.list = append(w.list, waitingEvent{event: e, session: session, since: now})
	return dropped
}

// arrived notes that the key of a session has come.
func (w *waiting) arrived(session id.SessionID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ready == nil {
		w.ready = make(map[id.SessionID]bool)
	}
	w.ready[session] = true
}

// take returns the events that can be decrypted now, and one event for each session that should be asked for.
func (w *waiting) take(now time.Time) (ready, ask []*event.Event, expired int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked := make(map[id.SessionID]*event.Event)
	kept := w.list[:0]
	for _, e := range w.list {
		switch {
		case w.ready[e.session]:
			ready = append(ready, e.event)
			continue
		case now.Sub(e.since) > waitingLimit:
			expired++
			continue
		}
		if e.rounds == askAfter {
			asked[e.session] = e.event
		}
		e.rounds++
		kept = append(kept, e)
	}
	clear(w.list[len(kept):])
	w.list = kept
	clear(w.ready)
	for e := range maps.Values(asked) {
		ask = append(ask, e)
	}
	return ready, ask, expired
}

// silent is a logger that writes nothing. Its level lets noting see errors.
var silent = zerolog.New(io.Discard).Level(zerolog.ErrorLevel)

// quietly keeps mautrix from logging about other people's messages. They are counted instead.
func quietly(ctx context.Context) context.Context { return silent.WithContext(ctx) }

// noting is quietly, and also notes whether mautrix logged an error.
func noting(ctx context.Context, failed *atomic.Bool) context.Context {
	log := silent.Hook(zerolog.HookFunc(func(_ *zerolog.Event, level zerolog.Level, _ string) {
		if level >= zerolog.ErrorLevel {
			failed.Store(true)
		}
	}))
	return log.WithContext(ctx)
}
