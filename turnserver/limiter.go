package turnserver

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// What a source without an allocation may send: enough for the clients of a workshop behind one address to log in at once,
// too little to make a flood of answers out of forged sources.
const (
	limiterRate  = 20  // messages a second
	limiterBurst = 100 // messages
	limiterSize  = 4096
)

// limiter is a token bucket for each source address (IPv4) or /64 (IPv6), in a table of fixed size: sources that share a
// place by chance share a bucket, and nobody can make it grow.
type limiter struct {
	seed maphash.Seed

	mu      sync.Mutex // guards buckets
	buckets [limiterSize]bucket
}

type bucket struct {
	tokens float64
	last   time.Time
}

func newLimiter(now time.Time) *limiter {
	l := &limiter{seed: maphash.MakeSeed()}
	for i := range l.buckets {
		l.buckets[i] = bucket{limiterBurst, now}
	}
	return l
}

// allow takes one token of a source, or reports that there is none.
func (l *limiter) allow(now time.Time, source netip.Addr) bool {
	source = source.Unmap().WithZone("")
	if source.Is6() {
		prefix, _ := source.Prefix(64)
		source = prefix.Addr()
	}
	i := maphash.Comparable(l.seed, source) % limiterSize
	l.mu.Lock()
	defer l.mu.Unlock()
	b := &l.buckets[i]
	if passed := now.Sub(b.last); passed > 0 {
		b.tokens = min(limiterBurst, b.tokens+passed.Seconds()*limiterRate)
		b.last = now
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
