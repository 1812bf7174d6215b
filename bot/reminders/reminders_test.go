package reminders_test

import (
	"testing"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/reminders"
)

// TestList: somebody who is waited for is reminded with growing waits, and again when they show a sign of life.
func TestList(t *testing.T) {
	const munich id.UserID = "@munich:b"
	wait := 15 * time.Second
	l, now, absent := reminders.New(wait), time.Now(), map[id.UserID]id.EventID{munich: "$1"}
	count := func(d time.Duration) (again int) {
		t.Helper()
		for end := now.Add(d); ; {
			due, wake := l.Due(now, absent)
			again += len(due)
			if wake.IsZero() || wake.After(end) {
				now = end
				return again
			}
			if !wake.After(now) {
				t.Fatal("wakes in the past")
			}
			now = wake
		}
	}
	if got := count(wait - 1); got != 0 {
		t.Fatalf("reminds %d times at once", got)
	}
	if got := count(24 * time.Hour); got != reminders.Max {
		t.Fatalf("reminds %d times in a day", got)
	}
	absent[munich] = "$2"
	if got := count(24 * time.Hour); got != reminders.Max {
		t.Fatalf("reminds %d times after a sign of life", got)
	}
	delete(absent, munich)
	if got := count(24 * time.Hour); got != 0 {
		t.Fatalf("reminds %d times although nobody is absent", got)
	}
	absent[munich] = "$2"
	if got := count(wait - 1); got != 0 {
		t.Fatalf("reminds %d times at once, the second time", got)
	}
}
