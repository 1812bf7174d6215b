package bridge

import "sync"

// queue hands events from anywhere to the one goroutine that owns the window. Putting never blocks, because the
// senders are the sync loop, the media's event goroutine and the page's server, which must not wait for us.
type queue struct {
	mu     sync.Mutex
	events []func()
	signal chan struct{}
}

func newQueue() *queue {
	return &queue{signal: make(chan struct{}, 1)}
}

func (q *queue) put(f func()) {
	q.mu.Lock()
	q.events = append(q.events, f)
	q.mu.Unlock()
	select {
	case q.signal <- struct{}{}:
	default:
	}
}

// take empties the queue in the order in which it was filled.
func (q *queue) take() []func() {
	q.mu.Lock()
	defer q.mu.Unlock()
	events := q.events
	q.events = nil
	return events
}
