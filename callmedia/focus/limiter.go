package focus

import (
	"hash/maphash"
	"sync"
	"time"
)

// limiterSize is how many buckets a limiter has.
const limiterSize = 4096

// limiter is a token bucket for each key, in a table of fixed size: keys that share a place by chance share a bucket, and nobody
// can make it grow.
type limiter struct {
	rate, burst float64 // events a second, events
	seed        maphash.Seed

	mu      sync.Mutex // guards buckets
	buckets [limiterSize]bucket
}

// bucket holds what is left; the zero value is full.
type bucket struct {
	used float64
	last time.Time
}

func newLimiter(rate, burst float64) *limiter {
	return &limiter{rate: rate, burst: burst, seed: maphash.MakeSeed()}
}

// allow takes one event of a key. If there is none left it returns after what time there will be one.
func (l *limiter) allow(now time.Time, key string) (wait time.Duration, ok bool) {
	i := maphash.String(l.seed, key) % limiterSize
	l.mu.Lock()
	defer l.mu.Unlock()
	b := &l.buckets[i]
	if passed := now.Sub(b.last); passed > 0 {
		b.used = max(0, b.used-passed.Seconds()*l.rate)
		b.last = now
	}
	if b.used+1 > l.burst {
		return time.Duration((b.used + 1 - l.burst) / l.rate * float64(time.Second)), false
	}
	b.used++
	return 0, true
}

// places counts what is going on, in all and for each key, up to limits.
type places struct {
	all, each int

	mu    sync.Mutex // guards what follows
	used  int
	byKey map[string]int
}

func newPlaces(all, each int) *places {
	return &places{all: all, each: each, byKey: make(map[string]int)}
}

// enter takes a place, to be given back by leave.
func (p *places) enter(key string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used >= p.all || p.byKey[key] >= p.each {
		return false
	}
	p.used++
	p.byKey[key]++
	return true
}

func (p *places) leave(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used--
	if p.byKey[key]--; p.byKey[key] <= 0 {
		delete(p.byKey, key)
	}
}
