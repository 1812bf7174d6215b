package tasks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
)

// TestRunner repeats a task, waits as long as a server asks, and begins nothing twice.
func TestRunner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var posts []func()
		var mu sync.Mutex
		post := func(f func()) {
			mu.Lock()
			defer mu.Unlock()
			posts = append(posts, f)
		}
		handle := func() {
			synctest.Wait()
			mu.Lock()
			taken := posts
			posts = nil
			mu.Unlock()
			for _, f := range taken {
				f()
			}
		}
		r := NewRunner(t.Context(), post, zerolog.Nop())
		calls, done := 0, 0
		answer := errors.New("no connection")
		list := []Task{{Key: "a", What: "try", Do: func(context.Context) (func(), error) {
			calls++
			return func() { done++ }, answer
		}}}
		r.Run(time.Now(), list)
		if wake := r.Run(time.Now(), list); !wake.IsZero() {
			t.Errorf("a running task is begun again at %v", wake)
		}
		handle()
		wake := r.Run(time.Now(), list)
		if wait := time.Until(wake); calls != 1 || wait < 500*time.Millisecond || wait > 1500*time.Millisecond {
			t.Fatalf("%d calls, again in %v", calls, wait)
		}
		r.RetryNow()
		answer = mautrix.HTTPError{
			Response:  &http.Response{StatusCode: http.StatusTooManyRequests},
			RespError: &mautrix.RespError{ErrCode: "M_LIMIT_EXCEEDED", ExtraData: map[string]any{"retry_after_ms": 90_000.0}},
		}
		r.Run(time.Now(), list)
		handle()
		r.RetryNow()
		wake = r.Run(time.Now(), list)
		if wait := time.Until(wake); calls != 2 || wait != 90*time.Second {
			t.Fatalf("%d calls, again in %v although the server asked for 90 s", calls, wait)
		}
		<-time.After(time.Until(wake))
		answer = nil
		r.Run(time.Now(), list)
		handle()
		if wake = r.Run(time.Now(), list); calls != 3 || done != 1 || time.Until(wake) != settle {
			t.Fatalf("%d calls, %d done, again in %v", calls, done, time.Until(wake))
		}
		r.Run(time.Now(), nil)
		if len(r.attempts) != 0 {
			t.Error("a task that isn't asked for is remembered")
		}
		// At the end a request may finish, but only for some time.
		var ended error
		r.Run(time.Now(), []Task{{Key: "b", What: "hang", Do: func(ctx context.Context) (func(), error) {
			<-ctx.Done()
			ended = ctx.Err()
			return nil, ended
		}}})
		begin := time.Now()
		r.End()
		if took := time.Since(begin); took != endGrace || ended == nil {
			t.Fatalf("it took %v to end", took)
		}
	})
}

// TestAnswered: after an outage, list that failed because of it are tried at once, but not those that the homeserver refused.
func TestAnswered(t *testing.T) {
	for status, want := range map[int]bool{500: true, 403: true, 429: true, 502: false, 503: false, 504: false, 0: false} {
		err := mautrix.HTTPError{}
		if status != 0 {
			err.Response = &http.Response{StatusCode: status}
		}
		if got := answered(fmt.Errorf("join: %w", err)); got != want {
			t.Errorf("status %d: %t", status, got)
		}
	}
	if answered(errors.New("no connection")) {
		t.Error("any error is an answer")
	}
}

func TestRetryAfter(t *testing.T) {
	for _, ms := range []any{-5.0, "soon", nil, 1e300} {
		err := mautrix.RespError{ErrCode: "M_LIMIT_EXCEEDED", ExtraData: map[string]any{"retry_after_ms": ms}}
		if wait := retryAfter(fmt.Errorf("send: %w", err)); wait < 0 || wait > time.Hour {
			t.Errorf("retry_after_ms %v: %v", ms, wait)
		}
	}
}
