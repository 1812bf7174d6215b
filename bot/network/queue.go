package network

import (
	"sync"

	"maunium.net/go/mautrix/event"
)

// queue hands events and results to the owner. Nothing that puts into it ever blocks. Events of one sync response become visible
// together, so that no decision is made on half of it.
type queue struct {
	signal chan struct{}

	mu        sync.Mutex // guards what follows
	collected []*event.Event
	committed []*event.Event
	calls     []func()
	synced    bool
}

func newQueue() queue {
	return queue{signal: make(chan struct{}, 1)}
}

func (q *queue) collect(e *event.Event) {
	q.mu.Lock()
	q.collected = append(q.collected, e)
	q.mu.Unlock()
}

func (q *queue) commit() {
	q.mu.Lock()
	q.committed = append(q.committed, q.collected...)
	q.collected = nil
	q.synced = true
	q.mu.Unlock()
	q.wake()
}

func (q *queue) put(f func()) {
	q.mu.Lock()
	q.calls = append(q.calls, f)
	q.mu.Unlock()
	q.wake()
}

func (q *queue) wake() {
	select {
	case q.signal <- struct{}{}:
	default:
	}
}

// take empties the queue, except for a sync response that is still being read. synced says that one has come since last time.
func (q *queue) take() (events []*event.Event, calls []func(), synced bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	events, calls, synced = q.committed, q.calls, q.synced
	q.committed, q.calls, q.synced = nil, nil, false
	return events, calls, synced
}
