package homeserver

import (
	"cmp"
	"container/heap"
	"context"
	"crypto/rand"
	"errors"
	mathrand "math/rand/v2"
	"net/http"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/unstable"
)

const (
	maxDelay        = 24 * time.Hour
	maxPerUser      = 100    // as Synapse has it
	maxScheduled    = 20_000 // of all users together
	maxSending      = 8      // at once, not counting those that clients ask for
	maxWaiting      = 16     // requests about one event while it is being sent
	firstRetry      = 500 * time.Millisecond
	lastRetry       = 30 * time.Second
	giveUpAfter     = 24 * time.Hour // since the event fell due
	shutdownGrace   = 5 * time.Second
	storeLimit      = 10 * time.Second
	actionsRate     = 10.0 // requests for each user, a second
	actionsBurst    = 200.0
	noAnswerMessage = "The event was not sent yet because the homeserver can't be reached; it stays scheduled"
)

// Answers to clients.
var (
	errNoEvent    = mautrix.MNotFound.WithMessage("There is no such delayed event: it was sent or cancelled")
	errStore      = mautrix.MUnknown.WithMessage("The event could not be stored")
	errNotRunning = mautrix.MUnknown.WithMessage("Delayed events are not served at the moment").WithStatus(http.StatusServiceUnavailable)
	errLimited    = mautrix.MLimitExceeded.WithMessage("Too many requests").WithExtraField("retry_after_ms", 1000)
	errTooMany    = mautrix.MUnknown.WithMessage("Too many delayed events are scheduled").WithStatus(http.StatusBadRequest).
			WithExtraField(unstable.DelayedErrcode, unstable.CodeTooManyDelayed)
)

// delayed is an event that is to be sent.
type delayed struct {
	id        string
	user      id.UserID
	device    id.DeviceID
	token     string // secret, as is id
	room      id.RoomID
	eventType string
	stateKey  *string // nil: no state event
	txn       string  // what the client called it; only of events that are no state
	query     string  // further parameters of the request
	content   []byte
	delay     time.Duration
	since     time.Time // when the delay began
}

// storage is where scheduled events outlive us.
type storage interface {
	insert(ctx context.Context, d *delayed) error
	restart(ctx context.Context, id string, since time.Time) error
	remove(ctx context.Context, id string) error
	get(ctx context.Context, id string) (*delayed, error)
	// all returns every event without token and content.
	all(ctx context.Context) ([]*delayed, error)
}

// refused is an answer of the homeserver that another attempt would not change.
type refused struct{ mautrix.RespError }

// later is an answer of the homeserver that asks for patience.
type later struct {
	error
	after time.Duration
}

// entry is a scheduled event in memory. Its token and content are in the storage alone.
type entry struct {
	delayed
	next     time.Time // of the next attempt
	index    int       // in the queue; -1 while it is being sent
	failures int
	waiting  []waiter
}

// waiter is a request that is answered when the sending has ended.
type waiter struct {
	action string
	reply  chan<- error
}

// account is what one user has scheduled. It stays, for its limiter: there are no more than the homeserver has users.
type account struct {
	entries map[string]*entry
	tokens  float64 // of the limiter
	last    time.Time
}

// queue orders entries by their next attempt (container/heap).
type queue []*entry

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].next.Before(q[j].next) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	e := x.(*entry)
	e.index = len(*q)
	*q = append(*q, e)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	e.index = -1
	return e
}

// scheduler sends events when they are due. Everything below commands belongs to the goroutine of run.
type scheduler struct {
	store    storage
	send     func(ctx context.Context, d *delayed) error
	log      zerolog.Logger
	commands chan func()
	done     chan struct{} // closed when run has ended

	entries  map[string]*entry
	accounts map[id.UserID]*account
	queue    queue
	sending  int
	results  chan result
	sendCtx  context.Context
}

type result struct {
	entry *entry
	err   error
}

func newScheduler(s storage, send func(context.Context, *delayed) error, log zerolog.Logger) *scheduler {
	return &scheduler{
		store: s, send: send, log: log,
		commands: make(chan func()), done: make(chan struct{}),
		entries: make(map[string]*entry), accounts: make(map[id.UserID]*account), results: make(chan result),
	}
}

// run owns the schedule until ctx ends.
func (s *scheduler) run(ctx context.Context) error {
	defer close(s.done)
	list, err := s.store.all(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	for _, d := range list {
		// A clock that was set back must not hold an event for longer than its delay.
		if d.since.After(now) {
			d.since = now
		}
		s.add(&entry{delayed: *d, next: d.since.Add(d.delay)}, now)
	}
	var stop context.CancelFunc
	s.sendCtx, stop = context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now = time.Now()
		for s.sending < maxSending && len(s.queue) > 0 && !s.queue[0].next.After(now) {
			s.start(s.queue[0])
		}
		timer.Stop()
		if s.sending < maxSending && len(s.queue) > 0 {
			timer.Reset(s.queue[0].next.Sub(now))
		}
		select {
		case command := <-s.commands:
			command()
		case r := <-s.results:
			s.finish(r, time.Now())
		case <-timer.C:
		case <-ctx.Done():
			s.drain(stop)
			return nil
		}
	}
}

// drain waits for what is being sent.
func (s *scheduler) drain(stop context.CancelFunc) {
	grace := time.AfterFunc(shutdownGrace, stop)
	defer grace.Stop()
	for s.sending > 0 {
		s.finish(<-s.results, time.Now())
	}
}

// do runs f in the goroutine of run.
func (s *scheduler) do(ctx context.Context, f func()) error {
	select {
	case s.commands <- f:
		return nil
	case <-s.done:
		return errNotRunning
	case <-ctx.Done():
		return errNotRunning
	}
}

// await waits for what a command replies.
func (s *scheduler) await(ctx context.Context, reply <-chan error) error {
	select {
	case err := <-reply:
		return err
	case <-ctx.Done():
		return errNotRunning
	case <-s.done:
		select {
		case err := <-reply:
			return err
		default:
			return errNotRunning
		}
	}
}

// schedule stores an event and returns its delay id, which is new unless the same device has already scheduled the same
// transaction: then a client has repeated its request.
func (s *scheduler) schedule(ctx context.Context, d delayed) (string, error) {
	reply := make(chan error, 1)
	var delayID string
	err := s.do(ctx, func() {
		var err error
		delayID, err = s.insert(d, time.Now())
		reply <- err
	})
	if err == nil {
		err = s.await(ctx, reply)
	}
	if err != nil {
		return "", err
	}
	return delayID, nil
}

// act restarts, sends or cancels an event. "send" returns when the event was sent.
func (s *scheduler) act(ctx context.Context, delayID, action string) error {
	reply := make(chan error, 1)
	if err := s.do(ctx, func() { s.perform(delayID, waiter{action, reply}, time.Now()) }); err != nil {
		return err
	}
	return s.await(ctx, reply)
}

func (s *scheduler) insert(d delayed, now time.Time) (string, error) {
	if a := s.accounts[d.user]; a != nil {
		for _, e := range a.entries {
			if d.txn != "" && e.txn == d.txn && e.device == d.device && e.room == d.room && e.eventType == d.eventType {
				return e.id, nil
			}
		}
		if len(a.entries) >= maxPerUser {
			return "", errTooMany
		}
		if !a.allow(now) {
			return "", errLimited
		}
	}
	if len(s.entries) >= maxScheduled {
		return "", errTooMany
	}
	d.id, d.since = "ew_"+rand.Text(), now
	ctx, cancel := context.WithTimeout(s.sendCtx, storeLimit)
	defer cancel()
	if err := s.store.insert(ctx, &d); err != nil {
		s.log.Error().Err(err).Msg("A delayed event can't be stored")
		return "", errStore
	}
	d.token, d.content = "", nil
	s.add(&entry{delayed: d, next: now.Add(d.delay)}, now)
	return d.id, nil
}

func (s *scheduler) add(e *entry, now time.Time) {
	s.entries[e.id] = e
	a := s.accounts[e.user]
	if a == nil {
		a = &account{entries: make(map[string]*entry), tokens: actionsBurst, last: now}
		s.accounts[e.user] = a
	}
	a.entries[e.id] = e
	heap.Push(&s.queue, e)
}

// erase removes an event from the storage. One that stays there is sent once more after our next start.
func (s *scheduler) erase(e *entry) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.sendCtx), storeLimit)
	defer cancel()
	err := s.store.remove(ctx, e.id)
	if err != nil {
		s.log.Error().Err(err).Stringer("user_id", e.user).Stringer("room_id", e.room).
			Msg("A delayed event can't be removed from the database")
	}
	return err
}

// forget removes an event from memory.
func (s *scheduler) forget(e *entry) {
	if e.index >= 0 {
		heap.Remove(&s.queue, e.index)
	}
	delete(s.entries, e.id)
	delete(s.accounts[e.user].entries, e.id)
}

// perform does what a request asks, now or when the event's sending has ended.
func (s *scheduler) perform(delayID string, w waiter, now time.Time) {
	e := s.entries[delayID]
	switch {
	case e == nil:
		w.reply <- errNoEvent
	case !s.accounts[e.user].allow(now), len(e.waiting) >= maxWaiting:
		w.reply <- errLimited
	case e.index < 0:
		e.waiting = append(e.waiting, w)
	case w.action == unstable.DelaySend:
		e.waiting = append(e.waiting, w)
		s.start(e)
	case w.action == unstable.DelayRestart:
		w.reply <- s.restart(e, now)
	case w.action == unstable.DelayCancel:
		if s.erase(e) != nil {
			w.reply <- errStore
			return
		}
		s.forget(e)
		w.reply <- nil
	default:
		w.reply <- mautrix.MInvalidParam.WithMessage("Unknown action")
	}
}

func (s *scheduler) restart(e *entry, now time.Time) error {
	ctx, cancel := context.WithTimeout(s.sendCtx, storeLimit)
	defer cancel()
	if err := s.store.restart(ctx, e.id, now); err != nil {
		s.log.Error().Err(err).Msg("A delayed event can't be restarted in the database")
		return errStore
	}
	e.since, e.failures, e.next = now, 0, now.Add(e.delay)
	heap.Fix(&s.queue, e.index)
	return nil
}

// allow takes one token of a user's limiter.
func (a *account) allow(now time.Time) bool {
	a.tokens = min(actionsBurst, a.tokens+now.Sub(a.last).Seconds()*actionsRate)
	a.last = now
	if a.tokens < 1 {
		return false
	}
	a.tokens--
	return true
}

// start sends an event in a goroutine of its own, which ends by giving its result to run.
func (s *scheduler) start(e *entry) {
	heap.Remove(&s.queue, e.index)
	s.sending++
	delayID := e.id
	go func() {
		ctx, cancel := context.WithTimeout(s.sendCtx, upstreamLimit)
		defer cancel()
		d, err := s.store.get(ctx, delayID)
		if err == nil {
			err = s.send(ctx, d)
		}
		s.results <- result{e, err}
	}()
}

// finish acts on the end of an attempt.
func (s *scheduler) finish(r result, now time.Time) {
	s.sending--
	e := r.entry
	waiting := e.waiting
	e.waiting = nil
	var no refused
	var patience later
	switch late := now.Sub(e.since.Add(e.delay)); {
	case r.err == nil:
		s.log.Debug().Stringer("user_id", e.user).Stringer("room_id", e.room).Str("event_type", e.eventType).Msg("A delayed event was sent")
	case errors.As(r.err, &no):
		s.logDropped(e).Int("status", no.StatusCode).Str("errcode", no.ErrCode).Msg("The homeserver refused a delayed event, it is dropped")
	case late > giveUpAfter:
		s.logDropped(e).Err(r.err).Msg("A delayed event could not be sent for a day, it is dropped")
	default:
		pause := max(backoff(e.failures), errorsAfter(r.err, &patience))
		e.failures++
		e.next = now.Add(pause)
		heap.Push(&s.queue, e)
		s.log.Debug().Err(r.err).Stringer("user_id", e.user).Stringer("room_id", e.room).Dur("again_in_ms", pause).
			Msg("A delayed event could not be sent")
		for _, w := range waiting {
			if w.action == unstable.DelaySend {
				w.reply <- mautrix.MUnknown.WithMessage(noAnswerMessage).WithStatus(http.StatusBadGateway)
			} else {
				s.perform(e.id, w, now)
			}
		}
		return
	}
	_ = s.erase(e)
	s.forget(e)
	for _, w := range waiting {
		switch {
		case w.action == unstable.DelaySend && r.err == nil:
			w.reply <- nil
		case w.action == unstable.DelaySend && no.ErrCode != "":
			w.reply <- no.RespError
		default:
			w.reply <- errNoEvent
		}
	}
}

func (s *scheduler) logDropped(e *entry) *zerolog.Event {
	return s.log.Warn().Stringer("user_id", e.user).Stringer("room_id", e.room).Str("event_type", e.eventType)
}

// errorsAfter is how long the homeserver asks us to wait, at most ten minutes; 0 when it does not.
func errorsAfter(err error, patience *later) time.Duration {
	if errors.As(err, patience) {
		return min(patience.after, 10*time.Minute)
	}
	return 0
}

// backoff is the pause after a failure, with jitter, so that a homeserver which comes back does not get everything at once.
func backoff(failures int) time.Duration {
	pause := min(firstRetry<<min(failures, 10), lastRetry)
	return pause/2 + mathrand.N(pause/2)
}

// compareDue orders events for people: the next one first.
func compareDue(a, b *delayed) int {
	return cmp.Or(a.since.Add(a.delay).Compare(b.since.Add(b.delay)), cmp.Compare(a.id, b.id))
}
