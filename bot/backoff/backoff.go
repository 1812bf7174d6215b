// Package backoff computes how long to wait before something that failed is tried again. The pauses grow, and they are random, so that two
// windows that lost the same server at the same moment do not come back at the same moment.
//
// It only computes; the caller waits, until the earliest time of all that it waits for ([Earlier]). A caller can wait longer if a server names
// a time (Retry-After).
//
// No dependency of the program exports a back-off. github.com/cenkalti/backoff, the usual choice, lets pauses exceed the limit by the
// jitter, takes no source of randomness, and does not know of programs that ran well before they failed.
package backoff

import (
	"math/rand/v2"
	"time"
)

// Earlier returns the first of two times at which something is to be tried. A zero time means never.
func Earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Backoff counts failures in a row. Min and Max must be set, and may be changed at any time, for example to a Max that fits the
// last error. A Backoff belongs to one goroutine.
type Backoff struct {
	// Min and Max are the shortest and the longest pause.
	Min, Max time.Duration
	// Steady is how long something must run to count as a success, see Ran; 0 means that Ran never resets.
	Steady time.Duration
	// Random returns a number from 0, for the shortest pause that is possible, to 1, for the longest. nil means math/rand.
	Random func() float64

	failures int
}

// Next counts a failure, and returns how long to wait before the next try. The first pause is between Min and twice Min. Both bounds double
// with each failure, until the upper one is Max.
func (b *Backoff) Next() time.Duration {
	longest := b.Min
	for range b.failures + 1 {
		if longest >= b.Max/2 {
			longest = b.Max
			break
		}
		longest *= 2
	}
	b.failures++
	shortest := max(longest/2, min(b.Min, b.Max))
	random := b.Random
	if random == nil {
		random = rand.Float64
	}
	return shortest + time.Duration(random()*float64(longest-shortest))
}

// Failures returns how many pauses there were since the last reset.
func (b *Backoff) Failures() int { return b.failures }

// Reset lets the next pause be as short as the first. The caller calls it after a success.
func (b *Backoff) Reset() { b.failures = 0 }

// Ran resets if something ran for Steady or longer before it failed. The caller calls it before Next.
func (b *Backoff) Ran(lasted time.Duration) {
	if b.Steady > 0 && lasted >= b.Steady {
		b.Reset()
	}
}
