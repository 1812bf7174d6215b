package network

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
)

const (
	// maxRunning is how many requests are under way at once.
	maxRunning = 4
	// requestLimit bounds one task, with the client's own retries.
	requestLimit = 2 * time.Minute
	// settle is how long a request that succeeded may take to show in sync before it is sent again.
	settle = 30 * time.Second

	// endGrace is how long requests may go on when everything ends. Dendrite's SQLite can be left in the middle of a transaction, and
	// then refuses every other, when the one who asked goes away.
	endGrace = 3 * time.Second

	firstBackoff = time.Second
	// maxBackoff bounds the waiting of everything but joins.
	maxBackoff = time.Minute
	// maxJoinBackoff bounds that of joins, which a server may have a reason to refuse.
	maxJoinBackoff = 10 * time.Minute
)

// task is something that is to be true and isn't yet.
type task struct {
	key  string
	what string        // for the log, the same for all tasks of a kind
	min  time.Duration // the shortest waiting after a failure; 0 means firstBackoff
	max  time.Duration // the longest waiting after a failure; 0 means maxBackoff
	// known says that the owner knows of a success before sync shows it, so that there is nothing to settle.
	known bool
	log   func(*zerolog.Event)
	// do runs beside the owner. What it returns, if anything, is called by the owner after a success.
	do func(ctx context.Context) (func(), error)
	// failed, if set, is called by the owner after a failure.
	failed func(count int)
}

// attempt is the record of a task that was begun. It is kept as long as the task is asked for.
type attempt struct {
	running  bool
	failures int
	next     time.Time
	patient  bool // it keeps its waiting though the homeserver answers again
}

// runner runs tasks beside the owner, each again and again until it isn't asked for any more. It belongs to the owner.
type runner struct {
	ctx      context.Context // ends a little after the owner's
	post     func(func())
	log      zerolog.Logger
	attempts map[string]*attempt
	running  int
	group    sync.WaitGroup
	cancel   context.CancelFunc
}

func newRunner(ctx context.Context, post func(func()), log zerolog.Logger) *runner {
	r := &runner{post: post, log: log, attempts: make(map[string]*attempt)}
	r.ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return r
}

// run begins those of the tasks whose time has come, in their order. It returns when to look again.
func (r *runner) run(now time.Time, tasks []task) (wake time.Time) {
	asked := make(map[string]bool, len(tasks))
	for _, t := range tasks {
		asked[t.key] = true
	}
	for key, a := range r.attempts {
		if !asked[key] && !a.running {
			delete(r.attempts, key)
		}
	}
	for _, t := range tasks {
		a := r.attempts[t.key]
		if a == nil {
			a = &attempt{}
			r.attempts[t.key] = a
		}
		switch {
		case a.running:
		case now.Before(a.next):
			wake = earliest(wake, a.next)
		case r.running < maxRunning:
			r.begin(t, a)
		}
	}
	return wake
}

func (r *runner) begin(t task, a *attempt) {
	a.running = true
	r.running++
	r.group.Go(func() {
		ctx, cancel := context.WithTimeout(r.ctx, requestLimit)
		defer cancel()
		done, err := t.do(ctx)
		r.post(func() {
			a.running = false
			r.running--
			if err != nil {
				r.fail(t, a, err)
				return
			}
			a.failures, a.next = 0, time.Time{}
			if !t.known {
				a.next = time.Now().Add(settle)
			}
			if done != nil {
				done()
			}
		})
	})
}

func (r *runner) fail(t task, a *attempt, err error) {
	a.failures++
	wait := backoff(a.failures, max(t.min, firstBackoff), max(t.max, maxBackoff))
	if after := retryAfter(err); after > wait {
		wait = after
	}
	a.next = time.Now().Add(wait)
	// What has a waiting of its own may still be under way in the server: it must not be hurried either.
	a.patient = t.min > 0 || answered(err)
	e := r.log.Debug()
	if a.failures == 1 || a.failures == 4 || a.failures%20 == 0 {
		e = r.log.Warn()
	}
	if t.log != nil {
		t.log(e)
	}
	e.Err(err).Str("task", t.what).Int("failures", a.failures).Dur("retry_in", wait).Msg("A request failed, it will be tried again")
	if t.failed != nil {
		t.failed(a.failures)
	}
}

// hurry lets those that failed for want of a connection be tried at once: the homeserver answers again.
func (r *runner) hurry() {
	for _, a := range r.attempts {
		if a.failures > 0 && !a.patient {
			a.next = time.Time{}
		}
	}
}

// answered says whether a homeserver has answered, and not only what stands before it. Dendrite refuses some joins with status 500 and
// no error code, so the status alone must do.
func answered(err error) bool {
	var failed mautrix.HTTPError
	if !errors.As(err, &failed) || failed.Response == nil {
		return false
	}
	switch failed.Response.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return false
	}
	return true
}

// end returns when no task is running any more. They have a moment for it.
func (r *runner) end() {
	timer := time.AfterFunc(endGrace, r.cancel)
	defer timer.Stop()
	defer r.cancel()
	r.group.Wait()
}

// backoff doubles from first up to limit, and spreads by a quarter to both sides.
func backoff(failures int, first, limit time.Duration) time.Duration {
	wait := limit
	if failures < 16 {
		wait = min(first<<(failures-1), limit)
	}
	return wait - wait/4 + rand.N(wait/2+1)
}

// retryAfter is how long a rate limit (M_LIMIT_EXCEEDED) asks to wait, at most an hour; 0 for any other error.
func retryAfter(err error) time.Duration {
	var refused mautrix.RespError
	if !errors.As(err, &refused) || !errors.Is(refused, mautrix.MLimitExceeded) {
		return 0
	}
	ms, ok := refused.ExtraData["retry_after_ms"].(float64)
	if !ok || ms < 0 {
		return 0
	}
	return time.Duration(min(ms, float64(time.Hour.Milliseconds()))) * time.Millisecond
}
