package backoff

import (
	"math"
	"testing"
	"time"
)

const almostOne = 1 - 1.0/(1<<53)

// pauses returns the first n pauses with a random number that never changes.
func pauses(b Backoff, random float64, n int) (list []time.Duration) {
	b.Random = func() float64 { return random }
	for range n {
		list = append(list, b.Next())
	}
	return list
}

func TestNext(t *testing.T) {
	for _, c := range []struct {
		min, max         time.Duration
		shortest, longer []time.Duration
	}{
		{1000, 10_000, []time.Duration{1000, 2000, 4000, 5000, 5000}, []time.Duration{2000, 4000, 8000, 10_000, 10_000}},
		{1000, 8000, []time.Duration{1000, 2000, 4000, 4000}, []time.Duration{2000, 4000, 8000, 8000}},
		{1000, 1500, []time.Duration{1000, 1000}, []time.Duration{1500, 1500}},
		{1000, 1000, []time.Duration{1000, 1000}, []time.Duration{1000, 1000}},
		{1000, 10, []time.Duration{10, 10}, []time.Duration{10, 10}},
	} {
		b := Backoff{Min: c.min, Max: c.max}
		for i, got := range pauses(b, 0, len(c.shortest)) {
			if got != c.shortest[i] {
				t.Errorf("from %d to %d: pause %d is %d at least, want %d", c.min, c.max, i, got, c.shortest[i])
			}
		}
		for i, got := range pauses(b, almostOne, len(c.longer)) {
			if got > c.longer[i] || got < c.longer[i]-1 {
				t.Errorf("from %d to %d: pause %d is %d at most, want %d", c.min, c.max, i, got, c.longer[i])
			}
		}
	}
}

// TestBounds demands that no pause ever leaves the bounds, after however many failures.
func TestBounds(t *testing.T) {
	for _, limit := range []time.Duration{time.Second, time.Minute, math.MaxInt64} {
		b := Backoff{Min: time.Millisecond, Max: limit}
		for i := range 200 {
			if p := b.Next(); p < b.Min || p > limit {
				t.Fatalf("pause %d is %v", i, p)
			}
		}
		if b.Failures() != 200 {
			t.Errorf("%d failures are counted", b.Failures())
		}
	}
}

// TestJitter demands that two that fail together don't come back together.
func TestJitter(t *testing.T) {
	a, b := Backoff{Min: time.Second, Max: time.Hour}, Backoff{Min: time.Second, Max: time.Hour}
	same := 0
	for range 10 {
		if a.Next() == b.Next() {
			same++
		}
	}
	if same > 1 {
		t.Errorf("%d of 10 pauses are the same", same)
	}
}

func TestReset(t *testing.T) {
	b := Backoff{Min: time.Second, Max: time.Minute, Steady: 10 * time.Second, Random: func() float64 { return 0 }}
	next := func(want time.Duration) {
		t.Helper()
		if got := b.Next(); got != want {
			t.Errorf("the pause is %v, want %v", got, want)
		}
	}
	next(time.Second)
	next(2 * time.Second)
	b.Ran(9 * time.Second)
	next(4 * time.Second)
	b.Ran(10 * time.Second)
	next(time.Second)
	next(2 * time.Second)
	b.Reset()
	next(time.Second)
	b.Steady = 0
	b.Ran(time.Hour)
	next(2 * time.Second)
	b.Max = 3 * time.Second
	next(1500 * time.Millisecond)
}

func TestEarlier(t *testing.T) {
	one, two, never := time.UnixMilli(1), time.UnixMilli(2), time.Time{}
	for _, c := range [][3]time.Time{{one, two, one}, {two, one, one}, {one, one, one}, {one, never, one}, {never, one, one}, {never, never, never}} {
		if got := Earlier(c[0], c[1]); !got.Equal(c[2]) {
			t.Errorf("Earlier(%v, %v) is %v", c[0], c[1], got)
		}
	}
}
