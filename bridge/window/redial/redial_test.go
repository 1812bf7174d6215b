package redial_test

import (
	"testing"
	"time"

	"go.mau.fi/util/jsontime"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bridge/window/redial"
)

const (
	munich  = id.RoomID("!munich:x")
	dresden = id.RoomID("!dresden:x")
)

func windowOf(room id.RoomID, shutter directory.Shutter, since time.Time) directory.Window {
	return directory.Window{Room: room, Shutter: shutter, Since: jsontime.UMInt(since.UnixMilli())}
}

// TestRooms: a window that does not answer is called less and less often, until its state changes.
func TestRooms(t *testing.T) {
	now := time.UnixMilli(1_793_000_000_000)
	b, w := make(redial.Rooms), windowOf(munich, directory.Open, now)
	for i, want := range []time.Duration{redial.First, 2 * redial.First, 4 * redial.First} {
		b.Unanswered(now, w)
		if !b.Waits(now.Add(want-1), munich) || b.Waits(now.Add(want), munich) || b.Count(munich) != i+1 {
			t.Errorf("after %d calls it does not wait for %v", i+1, want)
		}
	}
	for range 100 {
		b.Unanswered(now, w)
	}
	if !b.Waits(now.Add(redial.Max-1), munich) || b.Waits(now.Add(redial.Max), munich) {
		t.Errorf("the longest wait is not %v", redial.Max)
	}
	b.EndAll()
	if b.Waits(now, munich) || b.Count(munich) != 103 {
		t.Error("a press does not end the wait, or forgets that nobody answered")
	}
	b.SignOfLife(w)
	if b.Count(munich) != 103 {
		t.Error("the same state is a sign of life")
	}
	w.Since = jsontime.UM(w.Since.Add(time.Second))
	if b.SignOfLife(w); b.Count(munich) != 0 {
		t.Error("a new state is no sign of life")
	}
	b.Failed(now, dresden)
	b.SignOfLife(windowOf(dresden, directory.Shut, now))
	if !b.Waits(now.Add(redial.AfterFailure-1), dresden) || b.Waits(now.Add(redial.AfterFailure), dresden) {
		t.Error("a call that failed is not left alone, or for too long")
	}
	if b.Forget(dresden); b.Waits(now, dresden) {
		t.Error("a room that is forgotten waits")
	}
}
