package window

import (
	"testing"
	"time"

	"go.mau.fi/util/jsontime"

	"multifactorymodel.org/ewindow/bot/directory"
)

// TestBackoffs: a window that does not answer is called less and less often, until its state changes.
func TestBackoffs(t *testing.T) {
	b, now, w := make(backoffs), epoch, windowOf(munich, directory.Open, epoch)
	for i, want := range []time.Duration{firstBackoff, 2 * firstBackoff, 4 * firstBackoff} {
		b.unanswered(now, w)
		if !b.waits(now.Add(want-1), munich) || b.waits(now.Add(want), munich) || b.count(munich) != i+1 {
			t.Errorf("after %d calls it does not wait for %v", i+1, want)
		}
	}
	for range 100 {
		b.unanswered(now, w)
	}
	if !b.waits(now.Add(maxBackoff-1), munich) || b.waits(now.Add(maxBackoff), munich) {
		t.Errorf("the longest wait is not %v", maxBackoff)
	}
	b.endAll()
	if b.waits(now, munich) || b.count(munich) != 103 {
		t.Error("a press does not end the wait, or forgets that nobody answered")
	}
	b.signOfLife(w)
	if b.count(munich) != 103 {
		t.Error("the same state is a sign of life")
	}
	w.Since = jsontime.UM(w.Since.Add(time.Second))
	if b.signOfLife(w); b.count(munich) != 0 {
		t.Error("a new state is no sign of life")
	}
	b.failed(now, dresden)
	b.signOfLife(windowOf(dresden, directory.Shut, now))
	if !b.waits(now.Add(failureBackoff-1), dresden) || b.waits(now.Add(failureBackoff), dresden) {
		t.Error("a call that failed is not left alone, or for too long")
	}
	if b.forget(dresden); b.waits(now, dresden) {
		t.Error("a room that is forgotten waits")
	}
}
