// Package limit bounds what a stranger may have done: how often, and how much at a time.
//
// [Source] says what strangers are counted by. [Rate] limits how often something happens for each key, [Semaphore] how much of it
// goes on at the same time. Both need little memory, however many keys there are, and their methods may be called from any
// goroutine. Neither starts a goroutine.
//
// A Rate is a table of golang.org/x/time/rate limiters, each with a lock of its own, so that a flood from many addresses does not
// meet at one lock. Nothing here is asked for single packets of media: the TURN relay has an atomic number for that (meter.go in
// package turnserver says why).
package limit

import (
	"hash/maphash"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Source returns what a caller is counted by: an IPv4 address, or the first address of an IPv6 address's /64, since that is what
// one customer has at least. IPv4-mapped addresses are IPv4 addresses, and zones don't count. The zero Addr is its own source.
func Source(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		prefix, _ := addr.Prefix(64) // it fails for IPv4 only
		addr = prefix.Addr()
	}
	return addr
}

// rateSize is how many limiters a Rate has at most.
const rateSize = 4096

// Rate is a token bucket for each key. There are 4,096 buckets at most: keys with the same hash share one, and nobody can make the
// table grow. The hash differs at each start, so that nobody can choose with whom to share. Make one with NewRate.
type Rate[K comparable] struct {
	perSecond float64
	burst     int
	seed      maphash.Seed
	buckets   [rateSize]atomic.Pointer[rate.Limiter] // nil until a key needs one
}

// NewRate lets perSecond events through for each key, and burst of them at once after a rest. Both must be above 0.
func NewRate[K comparable](perSecond float64, burst int) *Rate[K] {
	return &Rate[K]{perSecond: perSecond, burst: burst, seed: maphash.MakeSeed()}
}

func (r *Rate[K]) bucket(key K) *rate.Limiter {
	slot := &r.buckets[maphash.Comparable(r.seed, key)%rateSize]
	if l := slot.Load(); l != nil {
		return l
	}
	slot.CompareAndSwap(nil, rate.NewLimiter(rate.Limit(r.perSecond), r.burst))
	return slot.Load()
}

// Allow says whether an event of a key may happen now, and counts it if so.
func (r *Rate[K]) Allow(now time.Time, key K) bool { return r.bucket(key).AllowN(now, 1) }

// Wait returns after what time the next event of a key may happen, if no other happens until then; 0 for now. It counts nothing.
func (r *Rate[K]) Wait(now time.Time, key K) time.Duration {
	missing := 1 - r.bucket(key).TokensAt(now)
	return time.Duration(math.Ceil(max(0, missing) / r.perSecond * float64(time.Second)))
}

// Semaphore counts what goes on at the same time, in all and for each key, up to a limit for both. Make one with NewSemaphore.
type Semaphore[K comparable] struct {
	all, each int

	mu    sync.Mutex // guards what follows
	used  int        // the sum of byKey
	byKey map[K]int  // never 0
}

// NewSemaphore allows all at once, and each of them for one key.
func NewSemaphore[K comparable](all, each int) *Semaphore[K] {
	return &Semaphore[K]{all: all, each: each, byKey: make(map[K]int)}
}

// TryAcquire counts one more for a key, or returns false where a limit is reached. Release must follow if it returned true.
func (s *Semaphore[K]) TryAcquire(key K) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used >= s.all || s.byKey[key] >= s.each {
		return false
	}
	s.used++
	s.byKey[key]++
	return true
}

// Release counts one less for a key.
func (s *Semaphore[K]) Release(key K) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used--
	if s.byKey[key]--; s.byKey[key] == 0 {
		delete(s.byKey, key)
	}
}

// Used returns how much goes on now, in all.
func (s *Semaphore[K]) Used() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}
