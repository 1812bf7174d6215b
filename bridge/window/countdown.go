package window

import "time"

// DefaultCountdown is how long "3, 2, 1" lasts if the configuration (kiosk.countdown) does not set it. The connection is made
// meanwhile. The kiosk tells the page when the countdown ends, so only this constant has the length.
const DefaultCountdown = 1200 * time.Millisecond

// MaxCountdown is the longest countdown that the configuration may ask for.
const MaxCountdown = 10 * time.Second

// countdown runs before anybody is seen, so that nobody at either window is surprised.
type countdown struct{ ends time.Time }

// running says whether people still see the numbers. Nothing leaves the camera before it has ended.
func (c countdown) running(now time.Time) bool { return now.Before(c.ends) }

// until is when the countdown ends, for the page. It is zero when it has ended.
func (c countdown) until(now time.Time) time.Time {
	if c.running(now) {
		return c.ends
	}
	return time.Time{}
}
