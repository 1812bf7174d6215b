package window

import (
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
)

// How long the window waits for others, and when it calls again. Package callmedia decides how the media connect to the SFU again. It
// tries for as long as the visit lasts.
const (
	// answerWait is how long a called window may take to come into the call. After that it counts as not answering. A kiosk that
	// lost its power is open in the directory until it is back.
	answerWait = 12 * time.Second
	// A window that did not answer is called again after firstBackoff, which doubles up to maxBackoff. It is called at once when
	// its state changes, because then it is running again, or when somebody presses the button.
	firstBackoff = 15 * time.Second
	maxBackoff   = 15 * time.Minute
	// failureBackoff is how long the window waits before it enters a call again that could not be entered or kept.
	failureBackoff = 20 * time.Second
	// emptyGrace is how long an answered call is kept after its last member has left.
	emptyGrace = 10 * time.Second
	// expectTime is how long a window that has just opened is expected to call us.
	expectTime = 5 * time.Second
	// lostLimit is how long "connection lost" is shown before the window goes back to waiting.
	lostLimit = 2 * time.Minute
	// connectLimit is how long "opening" is shown while nothing can be seen.
	connectLimit = 15 * time.Second
)

// backoffs are the rooms that are not called for a while. Unlike the waits of package backoff, these have no jitter: only one window calls
// here, and the rules must give the same plan for the same facts.
type backoffs map[id.RoomID]*backoff

type backoff struct {
	until      time.Time
	unanswered int // calls in a row that nobody answered
	// shutter and since are the window's state when it did not answer. If the state changes, the window is running.
	shutter directory.Shutter
	since   time.Time
}

func (b backoffs) of(room id.RoomID) *backoff {
	if b[room] == nil {
		b[room] = &backoff{}
	}
	return b[room]
}

// failed begins the back-off of a room whose call could not be entered or kept.
func (b backoffs) failed(now time.Time, room id.RoomID) { b.of(room).until = now.Add(failureBackoff) }

// unanswered begins the back-off of a window whose kiosk did not come into the call.
func (b backoffs) unanswered(now time.Time, w directory.Window) {
	o := b.of(w.Room)
	o.until = now.Add(min(firstBackoff<<min(o.unanswered, 10), maxBackoff))
	o.unanswered++
	o.shutter, o.since = w.Shutter, w.Since.Time
}

// waits says whether a room must not be called now.
func (b backoffs) waits(now time.Time, room id.RoomID) bool {
	o := b[room]
	return o != nil && now.Before(o.until)
}

// count is how many calls in a row a room's window did not answer.
func (b backoffs) count(room id.RoomID) int {
	if o := b[room]; o != nil {
		return o.unanswered
	}
	return 0
}

// end lets a room be called at once. It keeps how often the window did not answer: windows that answer are called first.
func (b backoffs) end(room id.RoomID) {
	if o := b[room]; o != nil {
		o.until = time.Time{}
	}
}

// endAll lets all rooms be called at once, as end does.
func (b backoffs) endAll() {
	for room := range b {
		b.end(room)
	}
}

// forget forgets everything about a room.
func (b backoffs) forget(room id.RoomID) { delete(b, room) }

// signOfLife forgets that a window did not answer, if its state has changed since.
func (b backoffs) signOfLife(w directory.Window) {
	if o := b[w.Room]; o != nil && o.unanswered > 0 && (o.shutter != w.Shutter || !o.since.Equal(w.Since.Time)) {
		delete(b, w.Room)
	}
}
