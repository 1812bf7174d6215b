package rtc

import "sync"

// maxQueue is how many of the bot's events may wait. The initial state of large rooms fits.
const maxQueue = 1 << 17

// queue hands work to the one goroutine that owns what the work changes. Nobody who puts something in ever waits.
type queue struct {
	signal chan struct{}

	mu      sync.Mutex // guards what follows
	work    []func()
	dropped uint64
}

func newQueue() *queue {
	return &queue{signal: make(chan struct{}, 1)}
}

// put adds work of our own, which is bounded by what we have begun.
func (q *queue) put(f func()) {
	q.mu.Lock()
	q.work = append(q.work, f)
	q.mu.Unlock()
	q.wake()
}

// offer adds work that comes from outside. It is dropped and counted when far too much is waiting.
func (q *queue) offer(f func()) {
	q.mu.Lock()
	if len(q.work) >= maxQueue {
		q.dropped++
		q.mu.Unlock()
		return
	}
	q.work = append(q.work, f)
	q.mu.Unlock()
	q.wake()
}

func (q *queue) wake() {
	select {
	case q.signal <- struct{}{}:
	default:
	}
}

// take empties the queue in the order in which it was filled.
func (q *queue) take() []func() {
	q.mu.Lock()
	defer q.mu.Unlock()
	work := q.work
	q.work = nil
	return work
}

func (q *queue) drops() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}
