package track

import (
	"sync"
	"time"
)

// keyFrameInterval is the least time between two requests for a key frame: one costs as much as twenty other frames. Browsers ignore a
// request within 300 ms of the last one, so it must not come a moment too early.
const keyFrameInterval = 330 * time.Millisecond

// KeyFrameRequester passes requests for key frames on, at most one each 330 ms. A request that comes too early is passed on when that time
// is over, so that none is lost. Its methods may be called from any goroutine.
type KeyFrameRequester struct {
	// Ask makes one request. It is set before the first Request, and called by the goroutine of Request or of a timer.
	Ask func()

	mu      sync.Mutex // guards what follows
	last    time.Time
	pending *time.Timer
	closed  bool
}

// Request calls Ask now or soon.
func (k *KeyFrameRequester) Request() {
	k.mu.Lock()
	if k.closed || k.pending != nil {
		k.mu.Unlock()
		return
	}
	now := time.Now()
	if wait := keyFrameInterval - now.Sub(k.last); wait > 0 {
		k.pending = time.AfterFunc(wait, func() {
			k.mu.Lock()
			k.pending = nil
			k.last = time.Now()
			closed := k.closed
			k.mu.Unlock()
			if !closed {
				k.Ask()
			}
		})
		k.mu.Unlock()
		return
	}
	k.last = now
	k.mu.Unlock()
	k.Ask()
}

// Close ends the requests. It does not wait for one that is being made.
func (k *KeyFrameRequester) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	if k.pending != nil {
		k.pending.Stop()
	}
}
