package callmedia

import (
	"sync"
	"time"
)

// keyFrameInterval is the least time between two requests for a key frame: one costs as much as twenty other frames. Browsers take no
// notice of a request within 300 ms of the last; it must not come a moment too early.
const keyFrameInterval = 330 * time.Millisecond

// asker passes requests for key frames on, at most one an interval. A request that comes too early is passed on when the interval
// ends, never lost. It may be used by several goroutines.
type asker struct {
	ask func()

	mu      sync.Mutex // guards what follows
	last    time.Time
	pending *time.Timer
	closed  bool
}

// request calls ask now or soon.
func (a *asker) request() {
	a.mu.Lock()
	if a.closed || a.pending != nil {
		a.mu.Unlock()
		return
	}
	now := time.Now()
	if wait := keyFrameInterval - now.Sub(a.last); wait > 0 {
		a.pending = time.AfterFunc(wait, func() {
			a.mu.Lock()
			a.pending = nil
			a.last = time.Now()
			closed := a.closed
			a.mu.Unlock()
			if !closed {
				a.ask()
			}
		})
		a.mu.Unlock()
		return
	}
	a.last = now
	a.mu.Unlock()
	a.ask()
}

// close ends requests; one that is being passed on may still be.
func (a *asker) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	if a.pending != nil {
		a.pending.Stop()
	}
}
