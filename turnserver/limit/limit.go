// Package limit limits what callers may do: how often, and how much at the same time.
//
// [Source] returns what callers are counted by. [Rate] limits how often something happens for each key, [Semaphore] how much of it goes on
// at the same time. Their methods may be called from any goroutine, and neither starts one. The memory of a Rate is limited, however many
// keys there are; that of a Semaphore grows with its limit.
//
// A Rate is a table of golang.org/x/time/rate limiters. Each row of it has a lock of its own, so that a flood from many addresses does not wait
// for one lock. For media packets the TURN relay uses an atomic number instead of a Rate; the package comment of turnserver has the figures.
package limit

import (
	"hash/maphash"
	"math"
	"net/netip"
	"sync"
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

// A Rate is a table with this many rows, of this many buckets each.
const (
	rateRows   = 512
	rateInARow = 8
)

// Rate has a token bucket for each key. There are at most 4,096 buckets, so nobody can make the table grow, and however many keys somebody invents, no more
// than 4,096 times perSecond events a second are allowed. A hash of a key says in which row
// of eight its bucket is. The hash function differs for each Rate, so nobody can choose whose row to fill. A key that finds its row full takes
// over the bucket in it that has the most tokens, with these tokens. So keys that use up their own buckets take nothing from others until they
// fill a row: of 400 such keys hardly ever eight come together. Make one with NewRate.
type Rate[K comparable] struct {
	perSecond float64
	burst     int
	seed      maphash.Seed
	rows      [rateRows]rateRow
}

type rateRow struct {
	mu      sync.Mutex // guards what follows, not what the limiters do
	buckets [rateInARow]struct {
		hash    uint64        // of the key that has it
		limiter *rate.Limiter // nil until a key needs it; those without one come last
	}
}

// NewRate allows perSecond events a second for each key, and burst events at once after a pause. Both must be above 0.
func NewRate[K comparable](perSecond float64, burst int) *Rate[K] {
	return &Rate[K]{perSecond: perSecond, burst: burst, seed: maphash.MakeSeed()}
}

func (r *Rate[K]) row(key K) (row *rateRow, hash uint64) {
	hash = maphash.Comparable(r.seed, key)
	return &r.rows[hash%rateRows], hash
}

// bucket returns a key's bucket, and gives it one at the time now if it has none.
func (r *Rate[K]) bucket(now time.Time, key K) *rate.Limiter {
	row, hash := r.row(key)
	row.mu.Lock()
	defer row.mu.Unlock()
	for i := range row.buckets {
		b := &row.buckets[i]
		if b.limiter == nil {
			b.hash, b.limiter = hash, rate.NewLimiter(rate.Limit(r.perSecond), r.burst)
		}
		if b.hash == hash {
			return b.limiter
		}
	}
	fullest, most := 0, math.Inf(-1)
	for i := range row.buckets {
		if tokens := row.buckets[i].limiter.TokensAt(now); tokens > most {
			fullest, most = i, tokens
		}
	}
	row.buckets[fullest].hash = hash
	return row.buckets[fullest].limiter
}

// Allow says whether an event of a key may happen at the time now, and counts it if so.
func (r *Rate[K]) Allow(now time.Time, key K) bool { return r.bucket(now, key).AllowN(now, 1) }

// Wait returns how long it takes until the next event of a key may happen, if no other event of the key happens before. It returns 0 if the
// event may happen at the time now. It counts nothing.
func (r *Rate[K]) Wait(now time.Time, key K) time.Duration {
	missing := 1 - r.bucket(now, key).TokensAt(now)
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
