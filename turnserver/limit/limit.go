// Package limit limits what callers may do: how often, and how much at the same time.
//
// [Source] returns what callers are counted by. [Rate] limits how often something happens for each key, [Semaphore] how much of it goes on
// at the same time. Their methods may be called from any goroutine, and neither starts one. The memory of a Rate is limited, however many
// keys there are; that of a Semaphore grows with its limit.
//
// A Rate is a table of golang.org/x/time/rate limiters. Each has a lock of its own, so that a flood from many addresses does not wait for one
// lock. For media packets the TURN relay uses an atomic number instead of a Rate; the package comment of turnserver has the figures.
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

// Source returns what a caller is counted by: the IPv4 address, or the first address of the IPv6 address's /64, since one customer has at
// least a /64. An IPv4-mapped address counts as the IPv4 address, and zones are ignored. The zero Addr is a source, too.
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

// Rate has a token bucket for each key. There are at most 4,096 buckets, and keys with the same hash share one, so nobody can make the table
// grow. The hash function differs for each Rate, so nobody can choose whose bucket to share. Make one with NewRate.
type Rate[K comparable] struct {
	perSecond float64
	burst     int
	seed      maphash.Seed
	buckets   [rateSize]atomic.Pointer[rate.Limiter] // nil until a key needs one
}

// NewRate allows perSecond events a second for each key, and burst events at once after a pause. Both must be above 0.
func NewRate[K comparable](perSecond float64, burst int) *Rate[K] {
	return &Rate[K]{perSecond: perSecond, burst: burst, seed: maphash.MakeSeed()}
}

func (r *Rate[K]) bucket(key K) *rate.Limiter {
	bucket := &r.buckets[maphash.Comparable(r.seed, key)%rateSize]
	if l := bucket.Load(); l != nil {
		return l
	}
	bucket.CompareAndSwap(nil, rate.NewLimiter(rate.Limit(r.perSecond), r.burst))
	return bucket.Load()
}

// Allow says whether an event of a key may happen at the time now, and counts it if so.
func (r *Rate[K]) Allow(now time.Time, key K) bool { return r.bucket(key).AllowN(now, 1) }

// Wait returns how long it takes until the next event of a key may happen, if no other event of the key happens before. It returns 0 if the
// event may happen at the time now. It counts nothing.
func (r *Rate[K]) Wait(now time.Time, key K) time.Duration {
	missing := 1 - r.bucket(key).TokensAt(now)
	return time.Duration(math.Ceil(max(0, missing) / r.perSecond * float64(time.Second)))
}

// Semaphore limits what goes on at the same time, in all and for each key. Make one with NewSemaphore.
type Semaphore[K comparable] struct {
	all, each int

	mu    sync.Mutex // guards what follows
	used  int        // the sum of byKey
	byKey map[K]int  // never 0
}

// NewSemaphore makes a semaphore with two limits for what goes on at the same time: all for all keys together, each for one key.
func NewSemaphore[K comparable](all, each int) *Semaphore[K] {
	return &Semaphore[K]{all: all, each: each, byKey: make(map[K]int)}
}

// TryAcquire counts one more for a key, or returns false if a limit is reached. After true, Release must be called once.
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

// Used returns how much is acquired now, in all.
func (s *Semaphore[K]) Used() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}
