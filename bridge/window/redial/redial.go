// Package redial says when a window may call a room again whose window did not answer, or whose call could not be entered. It is pure: the time is an
// argument.
package redial

import (
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
)

const (
	// A window that did not answer is called again after First, which doubles up to Max. It is called at once when its state changes, because then it
	// is running again, or when somebody presses the button.
	First = 15 * time.Second
	// Max is the longest wait.
	Max = 15 * time.Minute
	// AfterFailure is how long the window waits before it enters a call again that could not be entered or kept.
	AfterFailure = 20 * time.Second
)

// Rooms are the rooms that are not called for a while. Unlike the waits of package backoff, these have no jitter: only one window calls
// here, and the rules must give the same plan for the same facts.
type Rooms map[id.RoomID]*wait

type wait struct {
	until      time.Time
	unanswered int // calls in a row that nobody answered
	// shutter and since are the window's state when it did not answer. If the state changes, the window is running.
	shutter directory.Shutter
	since   time.Time
}

func (b Rooms) of(room id.RoomID) *wait {
	if b[room] == nil {
		b[room] = &wait{}
	}
	return b[room]
}

// Failed begins the back-off of a room whose call could not be entered or kept.
func (b Rooms) Failed(now time.Time, room id.RoomID) { b.of(room).until = now.Add(AfterFailure) }

// Unanswered begins the back-off of a window whose kiosk did not come into the call.
func (b Rooms) Unanswered(now time.Time, w directory.Window) {
	o := b.of(w.Room)
	o.until = now.Add(min(First<<min(o.unanswered, 10), Max))
	o.unanswered++
	o.shutter, o.since = w.Shutter, w.Since.Time
}

// Waits says whether a room must not be called now.
func (b Rooms) Waits(now time.Time, room id.RoomID) bool {
	o := b[room]
	return o != nil && now.Before(o.until)
}

// Count is how many calls in a row a room's window did not answer.
func (b Rooms) Count(room id.RoomID) int {
	if o := b[room]; o != nil {
		return o.unanswered
	}
	return 0
}

// End lets a room be called at once. It keeps how often the window did not answer: windows that answer are called first.
func (b Rooms) End(room id.RoomID) {
	if o := b[room]; o != nil {
		o.until = time.Time{}
	}
}

// EndAll lets all rooms be called at once, as End does.
func (b Rooms) EndAll() {
	for room := range b {
		b.End(room)
	}
}

// Forget forgets everything about a room.
func (b Rooms) Forget(room id.RoomID) { delete(b, room) }

// SignOfLife forgets that a window did not answer, if its state has changed since.
func (b Rooms) SignOfLife(w directory.Window) {
	if o := b[w.Room]; o != nil && o.unanswered > 0 && (o.shutter != w.Shutter || !o.since.Equal(w.Since.Time)) {
		delete(b, w.Room)
	}
}

// Ends calls at with the moments when the waits end.
func (b Rooms) Ends(at func(time.Time)) {
	for _, o := range b {
		at(o.until)
	}
}
