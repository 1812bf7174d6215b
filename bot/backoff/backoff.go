// Package backoff says how long to wait before something that failed is tried again: longer each time, and never the same for
// two windows that lost the same server at the same moment.
//
// It only computes. Whoever waits does so with a timer and a context of its own, and can wait longer where a server names a time
// (Retry-After). No library among the dependencies exports one. github.com/cenkalti/backoff, the usual choice, lets a pause exceed
// its limit by the jitter, takes no source of randomness, and can't tell a program that ran well from one that failed at once.
package backoff

import (
	"math/rand/v2"
	"time"
)

// Backoff counts failures in a row. Min and Max must be set, and may be changed at any time, for example to a Max that fits the
// last error. A Backoff belongs to one goroutine.
type Backoff struct {
	// Min and Max are the shortest and the longest pause.
	Min, Max time.Duration
	// Steady is how long something must have run to have worked, see Ran; 0 means that Ran never resets.
	Steady time.Duration
	// Random returns a number from 0, for the shortest pause that is possible, to 1, for the longest. nil means math/rand.
	Random func() float64

	failures int
}

// Next counts a failure, and returns how long to wait before the next try. The first pause lies between Min and twice Min, each
// further one between the double of these, and none is above Max. Where Max is reached, pauses lie between its half and itself.
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

// Reset makes the next pause the shortest one again. It is called when something has worked.
func (b *Backoff) Reset() { b.failures = 0 }

// Ran resets if something ran for Steady or longer before it failed. It is called before Next.
func (b *Backoff) Ran(lasted time.Duration) {
	if b.Steady > 0 && lasted >= b.Steady {
		b.Reset()
	}
}
