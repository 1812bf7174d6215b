package membership

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/matrixerror"
	"multifactorymodel.org/ewindow/bot/queue"
	"multifactorymodel.org/ewindow/bot/unstable"
)

const (
	// requestLimit bounds one request to the homeserver.
	requestLimit = 10 * time.Second
	// leaveLimit is how long leaving takes at most. It includes the wait for a request that is under way when leaving begins.
	leaveLimit = 4500 * time.Millisecond
	// leaveGrace is how long leaving waits for a request that is under way. We should know what the request did to the room.
	leaveGrace = time.Second
	// sendLeaveLimit bounds the request that sends the delayed leave, so that time is left to empty the membership instead.
	sendLeaveLimit = 2 * time.Second
	// leaveRetry is the time between two attempts to empty the membership.
	leaveRetry = 300 * time.Millisecond
)

// Homeserver is what publishing a membership needs of the homeserver. Each method makes one request; a refusal is a
// [matrixerror.Error].
type Homeserver interface {
	// Delayed says whether the homeserver has delayed events (MSC4140).
	Delayed(ctx context.Context) (bool, error)
	// SendState sends a membership.
	SendState(ctx context.Context, room id.RoomID, key string, content any) (id.EventID, error)
	// Schedule schedules an empty membership that the homeserver sends by itself after the delay.
	Schedule(ctx context.Context, room id.RoomID, key string, delay time.Duration) (delayID string, err error)
	// UpdateDelayed restarts, sends or cancels a delayed event. action is unstable.DelayRestart and so on.
	UpdateDelayed(ctx context.Context, delayID, action string) error
	// State reads a membership.
	State(ctx context.Context, room id.RoomID, key string) (json.RawMessage, error)
}

// LeaveStore remembers delayed leaves for the next run of the program. [DelayedLeaves] implements it.
type LeaveStore interface {
	// Keep remembers a delayed leave of a room.
	Keep(ctx context.Context, room id.RoomID, delayID string) error
	// Drop forgets a delayed leave that was sent or cancelled.
	Drop(ctx context.Context, delayID string) error
	// Kept lists the delayed leaves of a room, the oldest first.
	Kept(ctx context.Context, room id.RoomID) ([]string, error)
}

// Observer is told what happens to a membership. Its methods are called by Run's goroutine and must not block.
type Observer interface {
	// Sent: the homeserver has accepted a membership. rejoined says that others see us join again: our membership had been removed, or
	// was renewed.
	Sent(event id.EventID, rejoined bool)
	// Failed: the membership cannot be sent. Nothing more happens until the call is left.
	Failed(err error)
	// Versions: the homeserver has said whether it has delayed events.
	Versions(delayed bool)
	// Unprotected: the membership has no delayed leave, since the homeserver does not offer it.
	Unprotected()
	// RateLimited: the homeserver refused a request because there were too many.
	RateLimited()
}

// PublisherConfig is what a Publisher needs. Every field but Intent, Stale and Delayed is required.
type PublisherConfig struct {
	Room id.RoomID
	Self bot.Device
	// Intent is "audio", "video" or "".
	Intent string
	// Stale says that a membership of an earlier run of this device is in the room. It is emptied first, so that the others see that
	// we have come again and send us their keys.
	Stale bool
	// Delayed says whether the homeserver has delayed events, if that is known. nil: Run asks.
	Delayed    *bool
	Homeserver Homeserver
	Leaves     LeaveStore
	Observer   Observer
	Log        zerolog.Logger
}

// Publisher keeps our membership in one room's call while Run runs. Its methods may be called from any goroutine.
type Publisher struct {
	cfg     PublisherConfig
	inbox   *queue.Queue[func()] // for Run's goroutine, which owns the manager
	manager *manager
	leaving context.Context // is set by Run
	// interrupt ends the request about a delayed leave that is under way, nil while there is none.
	interrupt atomic.Pointer[context.CancelFunc]
}

// NewPublisher makes a Publisher. It starts nothing.
func NewPublisher(cfg PublisherConfig) *Publisher {
	p := &Publisher{cfg: cfg, inbox: queue.New[func()](), manager: newManager(cfg.Room, cfg.Self, cfg.Intent, cfg.Stale)}
	if cfg.Delayed != nil {
		p.manager.done(time.Time{}, stepVersions, outcome{delayed: *cfg.Delayed})
	}
	return p
}

// SetService sets our own transport, the livekit_service_url. The membership is not sent before that.
func (p *Publisher) SetService(service string) {
	p.inbox.Put(func() { p.manager.service = service })
}

// Fail ends the attempts to publish. The observer is told, and Run waits until it is to leave. With [ErrNotJoined] leaving sends nothing to the
// room.
func (p *Publisher) Fail(err error) {
	p.inbox.Put(func() { p.manager.err = err })
}

// Renew sends a new membership, unless that was done within the last half minute. Others then send us their keys again.
func (p *Publisher) Renew() {
	p.inbox.Put(func() { p.manager.renew(time.Now()) })
}

// Seen reports the event that sync shows under [StateKey]. present says whether it is a membership of this device, foreign whether its sender
// may not end such a membership, see [Roster.MayEnd]. A membership that is gone is sent again at once, without waiting
// for an answer about its delayed leave.
func (p *Publisher) Seen(event id.EventID, ts int64, present, foreign bool) {
	p.inbox.Put(func() { p.manager.seen(event, ts, present, foreign) })
	if stop := p.interrupt.Load(); stop != nil && !present && !foreign {
		(*stop)()
	}
}

// Run publishes the membership until the context leaving ends. Then it removes the membership, which takes up to 4.5 seconds. ctx is for the
// requests and must last longer. Run returns nil when the membership is gone, and an error when it could not be removed. Then the membership
// ends by itself, mostly after 18 seconds.
func (p *Publisher) Run(ctx, leaving context.Context) error {
	p.leaving = leaving
	m := p.manager
	var err error
	if m.earlier, err = p.cfg.Leaves.Kept(ctx, p.cfg.Room); err != nil {
		p.cfg.Log.Warn().Err(err).Msg("Delayed leaves of an earlier run can't be cancelled")
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	reported := false
	for {
		for _, f := range p.inbox.Take() {
			f()
		}
		if p.leaving.Err() != nil {
			return p.unpublish(ctx)
		}
		if m.err != nil && !reported {
			reported = true
			p.cfg.Observer.Failed(m.err)
		}
		s, wake := m.next(time.Now())
		if s != stepWait {
			p.perform(ctx, s)
			continue
		}
		timer.Stop()
		if !wake.IsZero() {
			timer.Reset(time.Until(wake))
		}
		select {
		case <-p.leaving.Done():
		case <-p.inbox.Ready():
		case <-timer.C:
		}
	}
}

// perform does one step and tells the manager and the observer the result.
func (p *Publisher) perform(ctx context.Context, s step) {
	m := p.manager
	o := p.request(ctx, s)
	m.done(time.Now(), s, o)
	if m.versionsKnown && m.delay == 0 {
		p.cfg.Observer.Unprotected()
	}
	if matrixerror.IsRateLimited(o.err) {
		p.cfg.Observer.RateLimited()
	}
	if o.err != nil && m.err == nil {
		level := zerolog.DebugLevel
		if m.retries[s].Failures() == 1 {
			level = zerolog.WarnLevel // the first of a series
		}
		p.cfg.Log.WithLevel(level).Err(o.err).Msg("The call membership needs another try")
	}
}

// request makes the request of one step.
func (p *Publisher) request(ctx context.Context, s step) (o outcome) {
	m := p.manager
	limit := requestLimit
	if s == stepCancel {
		limit = sendLeaveLimit // entering the call waits for this request, so it must be short
	}
	if m.delayID != "" {
		limit = min(limit, m.delay/2) // the delayed leave has to be restarted meanwhile
	}
	if s == stepRestart {
		limit = m.restartLimit()
	}
	ctx, cancel := p.limit(ctx, limit)
	defer cancel()
	if s == stepRestart || s == stepCancel {
		p.interrupt.Store(&cancel)
		defer p.interrupt.Store(nil)
	}
	hs, key := p.cfg.Homeserver, StateKey(p.cfg.Self)
	switch s {
	case stepCancel:
		o.err = hs.UpdateDelayed(ctx, m.earlier[0], unstable.DelayCancel)
		if o.err == nil {
			p.cfg.Log.Info().Msg("The delayed leave of an earlier run was cancelled")
		}
		if o.err == nil || matrixerror.IsNotFound(o.err) {
			p.drop(ctx, m.earlier[0])
		}
	case stepVersions:
		if o.delayed, o.err = hs.Delayed(ctx); o.err == nil {
			p.cfg.Observer.Versions(o.delayed)
		}
	case stepSchedule:
		if o.delayID, o.err = hs.Schedule(ctx, p.cfg.Room, key, m.delay); o.err == nil {
			if err := p.cfg.Leaves.Keep(ctx, p.cfg.Room, o.delayID); err != nil {
				p.cfg.Log.Warn().Err(err).Msg("A delayed leave can't be noted")
			}
		}
	case stepClear:
		o.event, o.err = hs.SendState(ctx, p.cfg.Room, key, struct{}{})
	case stepSend:
		o.event, o.err = hs.SendState(ctx, p.cfg.Room, key, m.content(time.Now()))
		if o.err == nil {
			p.cfg.Log.Info().Stringer("event_id", o.event).Bool("delayed_leave", m.delayID != "").Bool("again", m.rejoining).Msg("Call membership sent")
			p.cfg.Observer.Sent(o.event, m.rejoining)
		}
	case stepRestart:
		if o.err = hs.UpdateDelayed(ctx, m.delayID, unstable.DelayRestart); matrixerror.IsNotFound(o.err) {
			p.drop(ctx, m.delayID)
		}
	case stepCheck:
		var content []byte
		if content, o.err = hs.State(ctx, p.cfg.Room, key); o.err == nil {
			member, err := parseState(p.cfg.Self.User, 0, content)
			o.present = err == nil && member != nil
		}
	}
	return o
}

// limit bounds a request by d. Once leaving has begun, leaveGrace is left.
func (p *Publisher) limit(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, d)
	stop := context.AfterFunc(p.leaving, func() { time.AfterFunc(leaveGrace, cancel) })
	return ctx, func() {
		stop()
		cancel()
	}
}

// drop forgets a delayed leave that is not waiting any more.
func (p *Publisher) drop(ctx context.Context, delayID string) {
	if err := p.cfg.Leaves.Drop(ctx, delayID); err != nil {
		p.cfg.Log.Warn().Err(err).Msg("A delayed leave can't be forgotten")
	}
}

// unpublish removes the membership: it sends the delayed leave, or else empties the membership.
func (p *Publisher) unpublish(ctx context.Context) error {
	m := p.manager
	if m.delayID == "" && !m.attempted {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, leaveLimit-leaveGrace)
	defer cancel()
	if errors.Is(m.err, ErrNotJoined) {
		p.cancelLeave(ctx)
		return nil
	}
	if m.delayID != "" {
		err := p.updateLeave(ctx, unstable.DelaySend)
		if err == nil || !m.attempted {
			return nil
		}
		p.cfg.Log.Debug().Err(err).Msg("The delayed leave can't be sent, emptying the membership instead")
	}
	for {
		_, err := p.cfg.Homeserver.SendState(ctx, p.cfg.Room, StateKey(p.cfg.Self), struct{}{})
		if err == nil {
			return nil
		}
		wait := leaveRetry
		if r := matrixerror.Of(err); r != nil {
			wait = max(wait, r.RetryAfter)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		if matrixerror.IsPermanent(err) || ctx.Err() != nil {
			return fmt.Errorf("leave call in %s: %w", p.cfg.Room, err)
		}
	}
}

// cancelLeave cancels the delayed leave when we are no longer in the room. We could not change anything there, and nobody counts us as a member
// of the call. But the delayed leave must not be sent later, when we may have joined again.
func (p *Publisher) cancelLeave(ctx context.Context) {
	if p.manager.delayID != "" {
		_ = p.updateLeave(ctx, unstable.DelayCancel) // if this fails, the leave is cancelled when the room's call is entered again
	}
}

// updateLeave sends or cancels the delayed leave, and forgets it when that succeeded or the homeserver no longer has it.
func (p *Publisher) updateLeave(ctx context.Context, action string) error {
	short, stop := context.WithTimeout(ctx, sendLeaveLimit)
	err := p.cfg.Homeserver.UpdateDelayed(short, p.manager.delayID, action)
	stop()
	if err == nil || matrixerror.IsNotFound(err) {
		p.drop(ctx, p.manager.delayID)
	}
	return err
}
