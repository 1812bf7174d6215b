// Package tasks runs requests until nothing is missing. Its user compares how things are with how they should be, and asks each time for all the tasks
// that are missing ([Runner.Run]). A task that fails is tried again, with growing waits, as long as it is asked for.
//
// A Runner belongs to one goroutine. Each task runs in a goroutine of its own and hands its result back through the owner's queue.
package tasks

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"

	"multifactorymodel.org/ewindow/bot/backoff"
)

const (
	// maxRunning is how many requests are under way at a time.
	maxRunning = 4
	// maxSlow is how many of them may be slow.
	maxSlow = 3
	// requestLimit bounds one task, with the client's own retries.
	requestLimit = 2 * time.Minute
	// settle is how long sync may take to show the effect of a request that succeeded, before the request is made again.
	settle = 30 * time.Second

	// endGrace is how long requests may go on when Run ends. A client that hangs up in the middle of a request can leave Dendrite's SQLite inside a
	// transaction. Every later transaction then fails.
	endGrace = 3 * time.Second

	// minBackoff and maxBackoff are the shortest and the longest wait after a failure.
	minBackoff = 500 * time.Millisecond
	maxBackoff = time.Minute
)

// Task is something that should be true and is not yet.
type Task struct {
	// Key names the task. There is one record of attempts for each key.
	Key  string
	What string        // for the log, the same for all tasks of a kind
	Min  time.Duration // the shortest wait after a failure; 0: minBackoff
	Max  time.Duration // the longest wait after a failure; 0: maxBackoff
	// Known says that the owner learns of a success from the answer and not from sync. Then settle does not apply.
	Known bool
	// Slow says that others decide how long it takes: a foreign server that does not answer. Such tasks never keep the others waiting.
	Slow bool
	Log  func(*zerolog.Event)
	// Do runs in a goroutine of its own. The owner calls the function that it returns, if any, after a success.
	Do func(ctx context.Context) (func(), error)
	// Failed, if set, is called by the owner after a failure.
	Failed func(count int)
}

// attempt is the record of a task that was begun. It is kept as long as the task is asked for.
type attempt struct {
	running   bool
	pause     backoff.Backoff
	next      time.Time
	keepsWait bool // RetryNow does not shorten the wait
}

// Runner runs tasks, each again and again until it is not asked for any more. It belongs to one goroutine. The
// requests run in goroutines of their own, which give their result to post.
type Runner struct {
	ctx      context.Context // ends a little after the owner's
	post     func(func())
	log      zerolog.Logger
	attempts map[string]*attempt
	running  int
	slow     int // of those that are running
	group    sync.WaitGroup
	cancel   context.CancelFunc
}

// NewRunner returns a Runner whose requests may go on for three seconds after ctx has ended. post puts a function into the queue of the owner. The owner
// calls End.
func NewRunner(ctx context.Context, post func(func()), log zerolog.Logger) *Runner {
	r := &Runner{post: post, log: log, attempts: make(map[string]*attempt)}
	r.ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return r
}

// Run begins those of the tasks whose time has come, in their order. It returns when to look again.
func (r *Runner) Run(now time.Time, tasks []Task) (wake time.Time) {
	asked := make(map[string]bool, len(tasks))
	for _, t := range tasks {
		asked[t.Key] = true
	}
	for key, a := range r.attempts {
		if !asked[key] && !a.running {
			delete(r.attempts, key)
		}
	}
	for _, t := range tasks {
		a := r.attempts[t.Key]
		if a == nil {
			a = &attempt{pause: backoff.Backoff{Min: cmp.Or(t.Min, minBackoff), Max: cmp.Or(t.Max, maxBackoff)}}
			r.attempts[t.Key] = a
		}
		switch {
		case a.running:
		case now.Before(a.next):
			wake = backoff.Earlier(wake, a.next)
		case t.Slow && r.slow >= maxSlow:
		case r.running < maxRunning:
			r.begin(t, a)
		}
	}
	return wake
}

// begin starts one attempt.
func (r *Runner) begin(t Task, a *attempt) {
	a.running = true
	r.running++
	if t.Slow {
		r.slow++
	}
	r.group.Go(func() {
		ctx, cancel := context.WithTimeout(r.ctx, requestLimit)
		defer cancel()
		done, err := t.Do(ctx)
		r.post(func() {
			a.running = false
			r.running--
			if t.Slow {
				r.slow--
			}
			if err != nil {
				r.fail(t, a, err)
				return
			}
			a.pause.Reset()
			a.next = time.Time{}
			if !t.Known {
				a.next = time.Now().Add(settle)
			}
			if done != nil {
				done()
			}
		})
	})
}

// fail notes a failed attempt and when to try again.
func (r *Runner) fail(t Task, a *attempt, err error) {
	wait := max(a.pause.Next(), retryAfter(err))
	failures := a.pause.Failures()
	a.next = time.Now().Add(wait)
	// A task with a shortest wait of its own may still be under way in the homeserver, so it is not tried sooner.
	a.keepsWait = t.Min > 0 || answered(err)
	e := r.log.Debug()
	if failures == 1 || failures == 4 || failures%20 == 0 {
		e = r.log.Warn()
	}
	if t.Log != nil {
		t.Log(e)
	}
	e.Err(err).Str("task", t.What).Int("failures", failures).Dur("retry_in", wait).Msg("A request failed, it will be tried again")
	if t.Failed != nil {
		t.Failed(failures)
	}
}

// RetryNow ends the wait of the tasks that failed because there was no connection. It is called when the homeserver answers again.
func (r *Runner) RetryNow() {
	for _, a := range r.attempts {
		if a.pause.Failures() > 0 && !a.keepsWait {
			a.next = time.Time{}
		}
	}
}

// answered says whether a homeserver has answered, and not only a proxy before it. Dendrite refuses some joins with status 500 and no
// error code, so only the status is looked at.
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

// End waits until no task is running any more. After endGrace it cancels them.
func (r *Runner) End() {
	timer := time.AfterFunc(endGrace, r.cancel)
	defer timer.Stop()
	defer r.cancel()
	r.group.Wait()
}

// retryAfter is how long a rate limit (M_LIMIT_EXCEEDED) asks us to wait, up to an hour. It is 0 for any other error. mautrix reads only
// the header Retry-After, which homeservers need not send.
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
