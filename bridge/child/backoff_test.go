package child

import (
	"testing"
	"time"
)

// TestRestartPauses ends a program that has worked for a minute, again and again: each time the pause is the shortest one. A program
// that never works waits longer each time, but not longer than ten seconds.
func TestRestartPauses(t *testing.T) {
	const shortest = 500 * time.Millisecond
	again := newBackoff()
	for i := range 10 {
		again.Ran(time.Minute)
		if pause := again.Next(); pause > shortest {
			t.Errorf("killed once a minute: pause %d is %v", i, pause)
		}
	}
	again.Ran(10 * time.Second)
	if pause := again.Next(); pause > shortest {
		t.Errorf("after ten seconds of work the pause is %v", pause)
	}
	var last time.Duration
	for range 20 {
		again.Ran(9 * time.Second)
		if last = again.Next(); last > 10*time.Second {
			t.Errorf("a pause is %v", last)
		}
	}
	if last <= shortest {
		t.Errorf("a program that never works is started again after %v", last)
	}
}
