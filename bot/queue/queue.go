// Package queue hands values from any goroutine to the one goroutine that owns the state which they change.
//
// Put never blocks and has no limit, because it is called by callbacks of the sync loop, of the media and of the page's server. They must not
// wait for the owner, which may be waiting for one of them. A channel cannot do that: it blocks when it is full. go.mau.fi/util/exsync and
// golang.org/x/sync have no queue. The ring buffer of exsync overwrites what nobody has read yet.
//
// The owner waits for [Queue.Ready] in its select and then takes everything at once:
//
//	select {
//	case <-ctx.Done():
//	case <-q.Ready():
//	}
//	for _, f := range q.Take() {
//		f()
//	}
//
// The package imports nothing of ours, so that anything may import it.
package queue

import "sync"

// Queue is a queue without a limit. Put, PutMax and Take may be called from any goroutine; one goroutine waits for Ready.
type Queue[T any] struct {
	ready chan struct{} // has room for one signal

	mu     sync.Mutex // guards values
	values []T
}

// New makes an empty queue.
func New[T any]() *Queue[T] {
	return &Queue[T]{ready: make(chan struct{}, 1)}
}

// Put appends values, next to each other and in this order. It never blocks.
func (q *Queue[T]) Put(values ...T) {
	q.mu.Lock()
	q.values = append(q.values, values...)
	q.mu.Unlock()
	q.wake()
}

// PutMax appends a value unless limit values or more are waiting, and says whether it did. It is for work that strangers can cause.
func (q *Queue[T]) PutMax(limit int, value T) bool {
	q.mu.Lock()
	fits := len(q.values) < limit
	if fits {
		q.values = append(q.values, value)
	}
	q.mu.Unlock()
	if fits {
		q.wake()
	}
	return fits
}

func (q *Queue[T]) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// Ready returns a channel with room for one signal. Put and PutMax send the signal. Take may return nothing after a signal, because an earlier
// Take may have taken the values already.
func (q *Queue[T]) Ready() <-chan struct{} { return q.ready }

// Take empties the queue and returns what was in it, the oldest first.
func (q *Queue[T]) Take() []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	values := q.values
	q.values = nil
	return values
}
