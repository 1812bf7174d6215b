package bridge

import (
	"slices"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bot/rtc"
)

// PictureLimit is how long a picture of others may stand still before it counts as stopped: the session of a call has to be told.
const PictureLimit = pictureGrace

const (
	// pictureGrace is how long anything may leave the camera while the other side is not seen yet.
	pictureGrace = 5 * time.Second
	// Two sides that both stopped sending because they did not see each other would wait for ever. So each sends for
	// trialLength every trialEvery while the other announces an unmuted camera: whoever is seen first is answered. Nothing that
	// others do makes it more often.
	trialLength = 2 * time.Second
	trialEvery  = 10 * time.Second
	// A window that sees nothing of another one in as many trials in a row leaves the call and comes again: nobody is there who could
	// switch it off and on. Each time it makes twice as many, until they take five minutes.
	fewTrials = 2
	maxTrials = 32
)

// visit is one use of the window: the call it is in, and what has been seen of the others. It is part of the machine.
type visit struct {
	id      uint64
	room    id.RoomID
	peer    id.RoomID // the other window's room, empty when only guests are in the call
	started time.Time
	counted time.Time    // when the countdown ends
	members []rtc.Member // those to be shown, the other window first

	peerPresent bool // the other window's kiosk is among them
	alone       bool
	emptyAt     time.Time // since when nobody is there, if nobody is

	hubLost    time.Time // when the connection to the own focus was lost, zero while it stands
	remotes    map[string]*remote
	away       map[string]absence // whose participant is missing from its SFU
	seenOnce   bool
	seeing     bool // somebody was seen the last time it was looked at
	metOnce    bool // somebody came
	upOnce     bool // somebody's picture was announced
	trialUntil time.Time
	nextTrial  time.Time
	connected  bool // the own focus was reached
	toldHeld   bool // the room was told that our picture is held back
	withheld   []id.UserID
	blind      int // how often somebody was not seen, or not any more
	trials     int // since somebody was seen, or the visit began
	stuck      bool
}

// remote is what the media side knows of one other participant.
type remote struct {
	up, muted, picture bool
	slot               int
	screen             bool // it shares one, which is shown in screenSlot
	screenSlot         int
}

func newVisit(number uint64, room, peer id.RoomID, now time.Time, countdown time.Duration) *visit {
	return &visit{
		id: number, room: room, peer: peer, started: now, counted: now.Add(countdown), emptyAt: now, alone: true,
		remotes: make(map[string]*remote), away: make(map[string]absence),
	}
}

// follow updates the visit's members and, with them, since when nobody is there. It may be called twice for the same moment.
func (m *machine) follow(now time.Time, c *visit) {
	c.members, c.peerPresent = m.shown(c.room, c.peer)
	if empty := len(c.members) == 0; empty != c.alone {
		c.alone, c.emptyAt = empty, now
	}
	if !c.alone && !c.metOnce {
		c.metOnce = true
		c.begin(now)
	}
	for identity := range c.remotes {
		if !slices.ContainsFunc(c.members, func(r rtc.Member) bool { return r.Identity == identity }) {
			delete(c.remotes, identity)
		}
	}
	switch seen := c.picture(); {
	case seen:
		c.seenOnce, c.seeing, c.trials, m.afresh = true, true, 0, 0
	case c.seeing: // media has waited for five seconds already
		c.seeing = false
		c.blind++
		c.trialUntil, c.nextTrial = time.Time{}, now.Add(trialEvery)
	case c.waiting() && !now.Before(c.counted):
		c.stuck = c.peerPresent && c.trials >= min(fewTrials<<min(m.afresh, 10), maxTrials) && !now.Before(c.nextTrial)
		c.try(now)
	}
}

// followLoss keeps since when the other window is not seen any more, beyond the end of the visit.
func (m *machine) followLoss(now time.Time) {
	c := m.call
	switch {
	case c != nil && c.picture():
		m.lostPeer = ""
	case c != nil && c.seenOnce && c.peer != "" && m.lostPeer != c.peer:
		m.lostPeer, m.lostAt = c.peer, now
	}
	if m.lostPeer == "" {
		return
	}
	w, ok := m.window(m.lostPeer)
	waited := now.Sub(m.lostAt) >= lostLimit && (c == nil || c.peer != m.lostPeer || !c.seenOnce)
	if !ok || w.Shutter == directory.Shut || waited {
		m.lostPeer = ""
		if c != nil {
			c.seenOnce = false
		}
	}
}

// shown picks, out of a call's members, the other window first and then the guests. A third window is not shown:
// visits are one to one. Nor is a kiosk that was removed from the network.
func (m *machine) shown(room, peer id.RoomID) (out []rtc.Member, peerPresent bool) {
	for _, member := range m.members[room] {
		w, kiosk := m.kioskOf(member.User)
		switch {
		case kiosk && w.Room == peer:
			out = slices.Insert(out, 0, member)
			peerPresent = true
		case !m.kiosks[member.User]:
			out = append(out, member)
		}
	}
	return out[:min(len(out), m.slots)], peerPresent
}

// picture says whether anyone in the visit is seen now.
func (c *visit) picture() bool {
	for _, r := range c.remotes {
		if r.picture {
			return true
		}
	}
	return false
}

// shared says whose screen is shown, and in which slot. A screen is no face: whoever shares one is not seen by it.
func (c *visit) shared() (identity string, slot int, ok bool) {
	for identity, r := range c.remotes {
		if r.screen {
			return identity, r.screenSlot, true
		}
	}
	return "", 0, false
}

// waiting says whether somebody is there who should be seen but is not.
func (c *visit) waiting() bool {
	for _, r := range c.remotes {
		if r.up && !r.muted && !r.picture {
			return true
		}
	}
	return false
}

// begin allows sending for the first while.
func (c *visit) begin(now time.Time) {
	c.trialUntil = later(now, c.counted).Add(pictureGrace)
	c.nextTrial = c.trialUntil.Add(trialEvery - trialLength)
}

// try allows sending for a moment, if the last time was long enough ago.
func (c *visit) try(now time.Time) {
	if now.Before(c.nextTrial) {
		return
	}
	c.blind++
	c.trials++
	c.trialUntil = now.Add(trialLength)
	c.nextTrial = now.Add(trialEvery)
}

// hubDown and hubUp take that the connection to the own focus was lost, which is news the first time, and that it stands.
func (c *visit) hubDown(now time.Time) (news bool) {
	if news = c.hubLost.IsZero(); news {
		c.hubLost = now
	}
	return news
}

func (c *visit) hubUp(now time.Time) {
	if !c.hubLost.IsZero() && c.seenOnce {
		c.begin(now) // the others have not seen us either: else both would wait for a trial
	}
	c.hubLost, c.connected = time.Time{}, true
}

// remoteUp takes what the media side says about one participant's picture track.
func (c *visit) remoteUp(now time.Time, identity string, slot int, up, muted bool) {
	r := c.remote(identity)
	if up && !muted && !c.upOnce {
		c.upOnce = true // making the connection may have taken what time there was
		c.begin(now)
	}
	r.up, r.muted, r.slot = up, muted, slot
	if !up {
		r.picture = false
	}
}

func (c *visit) remotePicture(identity string, slot int, on bool) {
	r := c.remote(identity)
	r.picture, r.slot = on, slot
}

func (c *visit) remoteScreen(identity string, slot int, on bool) {
	r := c.remote(identity)
	r.screen, r.screenSlot = on, slot
}

func (c *visit) remote(identity string) *remote {
	r := c.remotes[identity]
	if r == nil {
		r = &remote{}
		c.remotes[identity] = r
	}
	return r
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
