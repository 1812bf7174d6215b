package window

import "time"

// How long the window waits for others. Package redial decides when it calls again. Package callmedia decides how the media connect to the SFU again. It
// tries for as long as the visit lasts.
const (
	// answerWait is how long a called window may take to come into the call. After that it counts as not answering. A kiosk that
	// lost its power is open in the directory until it is back.
	answerWait = 12 * time.Second
	// emptyGrace is how long an answered call is kept after its last member has left.
	emptyGrace = 10 * time.Second
	// expectTime is how long a window that has just opened is expected to call us.
	expectTime = 5 * time.Second
	// lostLimit is how long "connection lost" is shown before the window goes back to waiting.
	lostLimit = 2 * time.Minute
	// connectLimit is how long "opening" is shown while nothing can be seen.
	connectLimit = 15 * time.Second
)
