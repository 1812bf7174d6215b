package homeserver

import (
	"cmp"
	"container/heap"
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/backoff"
	"multifactorymodel.org/ewindow/bot/unstable"
)

const (
	maxDelay        = 24 * time.Hour
	maxPerUser      = 100    // the limit of Synapse
	maxScheduled    = 20_000 // of all users
	maxSending      = 8      // at a time; an event that a client asks to be sent does not wait for this
	maxWaiting      = 16     // requests about one event while it is being sent
	minRetry        = 250 * time.Millisecond
	maxRetry        = 30 * time.Second
	giveUpAfter     = 24 * time.Hour // after the event was due
	shutdownGrace   = 5 * time.Second
	storeLimit      = 10 * time.Second
	actionsRate     = 10 // requests of each user in a second
	actionsBurst    = 200
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

// delayed is an event that has to be sent later.
type delayed struct {
	id        string
	user      id.UserID
	device    id.DeviceID
	token     string // a secret, like id
	room      id.RoomID
	eventType string
	stateKey  *string // nil: not a state event
	txn       string  // the client's transaction id; state events have none
	query     string  // other parameters of the request
	content   []byte
	delay     time.Duration
	since     time.Time // when the delay began
}

// storage keeps scheduled events until the next run of the program.
type storage interface {
	insert(ctx context.Context, d *delayed) error
	restart(ctx context.Context, id string, since time.Time) error
	remove(ctx context.Context, id string) error
	get(ctx context.Context, id string) (*delayed, error)
	// all returns every event, without its token and content.
	all(ctx context.Context) ([]*delayed, error)
}

// refused is a refusal of the homeserver that another attempt would not change.
type refused struct{ mautrix.RespError }

// later is an answer of the homeserver that asks us to wait.
type later struct {
	error
	after time.Duration
}

// entry is a scheduled event in memory. Its token and content are only in the storage.
type entry struct {
	delayed
	next    time.Time // of the next attempt
	index   int       // in the queue; -1 while it is being sent
	pause   backoff.Backoff
	waiting []waiter
}

// waiter is a client's request that is answered when the event was sent.
type waiter struct {
	action string
	reply  chan<- error
}

// userEvents are the events that one user has scheduled. A record stays in memory when its user has no events, because of limit. There are no
// more records than the homeserver has users.
type userEvents struct {
	entries map[string]*entry
	limit   *rate.Limiter // of requests
}

// dueQueue orders entries by their next attempt (container/heap).
type dueQueue []*entry

func (q dueQueue) Len() int           { return len(q) }
func (q dueQueue) Less(i, j int) bool { return q[i].next.Before(q[j].next) }
func (q dueQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push implements heap.Interface.
func (q *dueQueue) Push(x any) {
	e := x.(*entry)
	e.index = len(*q)
	*q = append(*q, e)
}

// Pop implements heap.Interface.
func (q *dueQueue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	e.index = -1
	return e
}

// scheduler sends events when they are due. Everything after done belongs to the goroutine of run.
type scheduler struct {
	store    storage
	send     func(ctx context.Context, d *delayed) error
	log      zerolog.Logger
	commands chan func()
	done     chan struct{} // closed when run has ended

	entries map[string]*entry
	users   map[id.UserID]*userEvents
	queue   dueQueue
	sending int
	results chan result
	sendCtx context.Context
}

type result struct {
	entry *entry
	err   error
}

func newScheduler(s storage, send func(context.Context, *delayed) error, log zerolog.Logger) *scheduler {
	return &scheduler{
		store: s, send: send, log: log,
		commands: make(chan func()), done: make(chan struct{}),
		entries: make(map[string]*entry), users: make(map[id.UserID]*userEvents), results: make(chan result),
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
		// If the clock was set back, an event must not wait longer than its delay.
		if d.since.After(now) {
			d.since = now
		}
		s.add(&entry{delayed: *d, next: d.since.Add(d.delay)})
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

// drain waits for the events that are being sent, for a short time.
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

// await waits for the reply of a command.
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

// schedule stores an event and returns its delay id. If the same device has scheduled the same transaction before, the client has repeated
// its request, and the delay id is that of the first.
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

// act restarts, sends or cancels an event. With "send" it returns when the event was sent.
func (s *scheduler) act(ctx context.Context, delayID, action string) error {
	reply := make(chan error, 1)
	if err := s.do(ctx, func() { s.perform(delayID, waiter{action, reply}, time.Now()) }); err != nil {
		return err
	}
	return s.await(ctx, reply)
}

func (s *scheduler) insert(d delayed, now time.Time) (string, error) {
	if u := s.users[d.user]; u != nil {
		for _, e := range u.entries {
			if d.txn != "" && e.txn == d.txn && e.device == d.device && e.room == d.room && e.eventType == d.eventType {
				return e.id, nil
			}
		}
		if len(u.entries) >= maxPerUser {
			return "", errTooMany
		}
		if !u.limit.AllowN(now, 1) {
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
	s.add(&entry{delayed: d, next: now.Add(d.delay)})
	return d.id, nil
}

// add puts an event into memory.
func (s *scheduler) add(e *entry) {
	e.pause.Min, e.pause.Max = minRetry, maxRetry
	s.entries[e.id] = e
	u := s.users[e.user]
	if u == nil {
		u = &userEvents{entries: make(map[string]*entry), limit: rate.NewLimiter(actionsRate, actionsBurst)}
		s.users[e.user] = u
	}
	u.entries[e.id] = e
	heap.Push(&s.queue, e)
}

// erase removes an event from the storage. If that fails after the event was sent, the event is sent once more after our next start.
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
	delete(s.users[e.user].entries, e.id)
}

// perform does what a request asks for. If the event is being sent, the request waits for the result.
func (s *scheduler) perform(delayID string, w waiter, now time.Time) {
	e := s.entries[delayID]
	switch {
	case e == nil:
		w.reply <- errNoEvent
	case !s.users[e.user].limit.AllowN(now, 1), len(e.waiting) >= maxWaiting:
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
	e.pause.Reset()
	e.since, e.next = now, now.Add(e.delay)
	heap.Fix(&s.queue, e.index)
	return nil
}

// start sends an event in a goroutine of its own, which gives its result to run and ends.
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

// finish handles the result of an attempt.
func (s *scheduler) finish(r result, now time.Time) {
	s.sending--
	e := r.entry
	waiting := e.waiting
	e.waiting = nil
	var no refused
	switch late := now.Sub(e.since.Add(e.delay)); {
	case r.err == nil:
		s.log.Debug().Stringer("user_id", e.user).Stringer("room_id", e.room).Str("event_type", e.eventType).Msg("A delayed event was sent")
	case errors.As(r.err, &no):
		s.logDropped(e).Int("status", no.StatusCode).Str("errcode", no.ErrCode).Msg("The homeserver refused a delayed event, it is dropped")
	case late > giveUpAfter:
		s.logDropped(e).Err(r.err).Msg("A delayed event could not be sent for a day, it is dropped")
	default:
		pause := max(e.pause.Next(), errorsAfter(r.err))
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

// errorsAfter is how long the homeserver asks us to wait, up to ten minutes. It is 0 when it does not ask.
func errorsAfter(err error) time.Duration {
	var wait later
	if errors.As(err, &wait) {
		return min(wait.after, 10*time.Minute)
	}
	return 0
}

// compareDue sorts events for the list: the next one first.
func compareDue(a, b *delayed) int {
	return cmp.Or(a.since.Add(a.delay).Compare(b.since.Add(b.delay)), cmp.Compare(a.id, b.id))
}
