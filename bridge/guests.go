package bridge

import (
	"slices"
	"time"

	"maunium.net/go/mautrix/id"
)

// maxPictures is how many others are seen and heard at once: more find no room on the screen, and each takes its share of the line.
const maxPictures = 4

// held says whether guests are there and none of them shows a picture, so that ours is held back: their cameras are off. Where another
// window is there, or somebody's picture is announced and does not come, the connection is at fault.
func (m *machine) held(now time.Time, c *visit) bool {
	return !c.alone && !c.peerPresent && m.outgoing == nil && c.connected && c.hubLost.IsZero() && !c.picture() && !c.waiting() &&
		!now.Before(c.counted) && !now.Before(c.trialUntil)
}

// followHeld tells the room, once a visit, why nobody sees the window.
func (m *machine) followHeld(now time.Time, c *visit) {
	if c.toldHeld || c.room != m.own || !m.held(now, c) {
		return
	}
	// Where no camera was announced it may still be on its way.
	muted := false
	for _, r := range c.remotes {
		muted = muted || r.up && r.muted
	}
	if !muted && now.Before(c.counted.Add(connectLimit)) {
		return
	}
	c.toldHeld = true
	m.notify(now, noticeCamera, c.members[0].User)
}

// withhold notes that a member's device gets no keys, since its owner has not confirmed it.
func (m *machine) withhold(now time.Time, c *visit, user id.UserID) {
	if slices.Contains(c.withheld, user) || len(c.withheld) >= maxGuests {
		return
	}
	c.withheld = append(c.withheld, user)
	if c.room == m.own && m.who(user).window == "" {
		m.notify(now, noticeDevice, user)
	}
}

// legacyCall takes a call of the kind that Matrix had before, which was rejected.
func (m *machine) legacyCall(now time.Time, room id.RoomID, user id.UserID) {
	if room == m.own && m.mayCall(user) {
		m.notify(now, noticeLegacy, user)
	}
}
