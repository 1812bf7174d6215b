package bridge

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bot/rtc"
)

const (
	// pageGrace is how long a window without a page (a reload, a crashed browser) stays open for the network.
	pageGrace = 30 * time.Second
	// answerWait is how long a called window may take to come into the call before it counts as not answering: a kiosk that lost
	// its power is open in the directory until it is back.
	answerWait = 12 * time.Second
	// A window that did not answer is called again after firstPause, which doubles up to maxPause. It is called at once when its
	// state changes, for that is a sign of life, or when somebody presses the button.
	firstPause = 15 * time.Second
	maxPause   = 15 * time.Minute
	// failurePause is how long a call that could not be entered is left alone.
	failurePause = 20 * time.Second
	// emptyGrace is how long an answered call is kept after its last member has left.
	emptyGrace = 10 * time.Second
	// lostLimit is how long "connection lost" is shown before the window goes back to waiting.
	lostLimit = 2 * time.Minute
	// expectTime is how long a window that has just opened is expected to call us.
	expectTime = 5 * time.Second
	// connectLimit is how long "opening" is shown while nothing can be seen.
	connectLimit = 15 * time.Second
)

// machine holds what is known about this window and the others and decides what follows. It is pure: every method
// takes the time, nothing blocks, and the same facts give the same plan. It is owned by one goroutine.
type machine struct {
	countdown time.Duration
	slots     int // how many others can be seen at once

	own      id.RoomID
	joined   bool // the own window room exists and hangs in the network
	windows  []directory.Window
	kiosks   map[id.UserID]bool // that were ever listed: such a user is never a guest
	members  map[id.RoomID][]rtc.Member
	listed   map[id.RoomID][]rtc.Member // as they were told, ghosts included
	ghosts   map[ghost]time.Time        // and when their membership was made
	shutter  directory.Shutter
	openedAt time.Time // when the shutter was set last
	chosen   id.RoomID // the window that somebody picked, empty for any

	pageUp      bool
	pageGoneAt  time.Time
	cameraFault string // why the page has no camera, as a fault code of the page's protocol
	decided     bool   // someone, or a page that stood open, has said whether the window is open

	homeserverDownSince time.Time // zero while online
	noHubSince          time.Time // no focus is known; zero when one is

	call     *visit
	visits   uint64
	openings map[id.RoomID]opening
	pauses   map[id.RoomID]*pause
	lostPeer id.RoomID // the window a visit was lost with, while "lost" is shown
	lostAt   time.Time
	afresh   int // visits begun anew since somebody was seen

	knocks    []*knock // who called while the window was not open, in the order in which they came
	lastKnock uint64
	stood     directory.Shutter // for others, when it was looked at last
	stoodAt   time.Time
	missed    []missed // the newest first
	outgoing  *ringing // the window's people are rung, nil while not
	rings     uint64
	ringAgain time.Time // when they may be rung again
	ringNote  string    // what became of it, shown until ringNoteUntil

	ringNoteUntil time.Time

	errands []errand
	noticed map[noticeKind]time.Time // when the room was told what
}

// opening is whether a window is open, and when we saw it open; zero when it was open from the first.
type opening struct {
	open bool
	at   time.Time
}

// pause is for a room that is not to be called for a while.
type pause struct {
	until time.Time
	count int // calls in a row that nobody answered
	// shutter and since are the window's state at that time: another one is a sign of life.
	shutter directory.Shutter
	since   time.Time
}

// plan is how the world should look.
type plan struct {
	visit   uint64    // numbers the visit, 0 for none
	room    id.RoomID // the room whose call to be in, empty for none
	peer    id.RoomID
	members []rtc.Member
	kiosk   id.UserID // the other window's, empty when there are only guests
	send    bool      // frames may leave
	camera  bool      // the page's camera is on and not held back; false tells the SFU "muted"
	blind   int       // grows each time that the others, who may lack our key, were not seen for a while

	screen   screen
	announce directory.State
	wake     time.Time // when to decide again though nothing happened, zero for never
}

func newMachine(countdown time.Duration) *machine {
	return &machine{
		countdown: countdown,
		slots:     maxPictures,
		shutter:   directory.Shut,
		kiosks:    make(map[id.UserID]bool),
		members:   make(map[id.RoomID][]rtc.Member),
		listed:    make(map[id.RoomID][]rtc.Member),
		ghosts:    make(map[ghost]time.Time),
		pauses:    make(map[id.RoomID]*pause),
		noticed:   make(map[noticeKind]time.Time),
	}
}

// setShutter is the press on the button. It forgets every back-off: a person is there and means it.
func (m *machine) setShutter(now time.Time, to directory.Shutter) {
	m.decided = true
	if to == m.shutter || !to.Valid() {
		return
	}
	if to != directory.Shut {
		m.knocks, m.missed = nil, nil // people are there now
	}
	m.shutter = to
	m.openedAt = now
	m.chosen = ""
	m.call = nil
	m.lostPeer, m.afresh = "", 0
	m.outgoing, m.ringNote = nil, ""
	for _, p := range m.pauses {
		p.until = time.Time{} // the count stays: windows that answer are called before those that don't
	}
}

// choose is a tap on a window: it is called if it is open, whoever else is.
func (m *machine) choose(room id.RoomID) {
	if m.shutter != directory.Open || room == m.own {
		return
	}
	m.chosen = room
	if p := m.pauses[room]; p != nil {
		p.until = time.Time{}
	}
	if w, ok := m.window(room); ok && m.free(w) && m.call != nil && m.call.peer != room {
		m.call = nil
	}
}

func (m *machine) setPage(now time.Time, up bool) {
	if m.pageUp && !up {
		m.pageGoneAt = now
	}
	m.pageUp = up
}

// setCamera takes what the page says about its camera and microphone.
func (m *machine) setCamera(state, code string) {
	if state != "fault" {
		m.cameraFault = ""
		return
	}
	switch code {
	case "busy":
		m.cameraFault = "camera_busy"
	case "denied":
		m.cameraFault = "camera_denied"
	case "no_microphone":
		m.cameraFault = "no_microphone"
	default:
		m.cameraFault = "no_camera"
	}
}

// setDirectory takes the network as it is known now.
func (m *machine) setDirectory(own id.RoomID, joined bool, windows []directory.Window) {
	m.own, m.joined, m.windows = own, joined, windows
	for _, w := range windows {
		m.kiosks[w.Kiosk] = true
		if p := m.pauses[w.Room]; p != nil && p.count > 0 && (p.shutter != w.Shutter || !p.since.Equal(w.Since.Time)) {
			delete(m.pauses, w.Room)
		}
	}
}

// setMembers takes all foreign members of a room's call.
func (m *machine) setMembers(room id.RoomID, members []rtc.Member) {
	m.listed[room] = members
	m.layGhosts(room)
}

// setHomeserver takes since when the homeserver does not answer, zero when it does.
func (m *machine) setHomeserver(downSince time.Time) { m.homeserverDownSince = downSince }

// fail gives up the call in room, which could not be entered or kept, for a while.
func (m *machine) fail(now time.Time, room id.RoomID) {
	p := m.pauses[room]
	if p == nil {
		p = &pause{}
		m.pauses[room] = p
	}
	p.until = now.Add(failurePause)
	if m.call != nil && m.call.room == room {
		m.call = nil
	}
}

// unanswered gives up a window whose kiosk did not come.
func (m *machine) unanswered(now time.Time, w directory.Window) {
	p := m.pauses[w.Room]
	if p == nil {
		p = &pause{}
		m.pauses[w.Room] = p
	}
	p.until = now.Add(min(firstPause<<min(p.count, 10), maxPause))
	p.count++
	p.shutter, p.since = w.Shutter, w.Since.Time
	if m.chosen == w.Room {
		m.chosen = ""
	}
}

func (m *machine) paused(now time.Time, room id.RoomID) bool {
	p := m.pauses[room]
	return p != nil && now.Before(p.until)
}

func (m *machine) window(room id.RoomID) (directory.Window, bool) {
	for _, w := range m.windows {
		if w.Room == room {
			return w, true
		}
	}
	return directory.Window{}, false
}

func (m *machine) kioskOf(user id.UserID) (directory.Window, bool) {
	for _, w := range m.windows {
		if w.Kiosk == user {
			return w, true
		}
	}
	return directory.Window{}, false
}

// earlier says whether the call between this window and w happens in our room: the longer open one is the host, and
// the room id decides between two that opened in the same millisecond, so that both sides always agree.
func (m *machine) earlier(w directory.Window) bool {
	mine, theirs := m.openedAt.UnixMilli(), w.Since.UnixMilli()
	if mine != theirs {
		return mine < theirs
	}
	return strings.Compare(string(m.own), string(w.Room)) < 0
}

// free says whether w is open and not turned towards a third window.
func (m *machine) free(w directory.Window) bool {
	return w.Joined && w.Shutter == directory.Open && (w.Facing == "" || w.Facing == m.own)
}

// usable says whether anything at all can be shown: someone opened, and there is a page (or was one just now).
func (m *machine) usable(now time.Time) bool {
	return m.joined && m.standing(now) != directory.Shut
}

func (m *machine) pagePresent(now time.Time) bool {
	return m.pageUp || (!m.pageGoneAt.IsZero() && now.Sub(m.pageGoneAt) < pageGrace)
}

// target is the call this window should be in: its room and the window it is with.
func (m *machine) target(now time.Time) (room, peer id.RoomID) {
	if !m.usable(now) {
		return "", ""
	}
	if c := m.call; c != nil {
		m.followAway(now, c)
		m.follow(now, c)
		if m.stay(now, c) {
			return c.room, c.peer
		}
	}
	if !m.homeserverDownSince.IsZero() {
		return "", "" // no call can be entered
	}
	if m.outgoing != nil {
		return m.own, ""
	}
	if m.shutter == directory.Ajar {
		if peer, ok := m.letIn(now); ok && !m.paused(now, m.own) {
			return m.own, peer
		}
		return "", ""
	}
	if peer, ok := m.caller(); ok && !m.paused(now, m.own) {
		return m.own, peer
	}
	if w, ok := m.window(m.chosen); ok && m.free(w) && !m.paused(now, w.Room) {
		return w.Room, w.Room
	}
	candidates := slices.DeleteFunc(slices.Clone(m.windows), func(w directory.Window) bool {
		return !m.free(w) || m.earlier(w) || m.paused(now, w.Room)
	})
	if len(candidates) == 0 {
		return m.expected(now)
	}
	best := slices.MinFunc(candidates, func(a, b directory.Window) int {
		return cmp.Or(cmp.Compare(m.silence(a), m.silence(b)), a.Since.Compare(b.Since.Time), cmp.Compare(a.Room, b.Room))
	})
	return best.Room, best.Room
}

// expected is our own call with a window that has just opened and will come into it: ours has waited longest of all, so that one is
// entering our call now. To be there when it comes saves people the time of its way through two homeservers.
func (m *machine) expected(now time.Time) (room, peer id.RoomID) {
	for _, w := range m.windows {
		if m.free(w) && !m.earlier(w) {
			return "", "" // it may go there
		}
		if at := m.openings[w.Room].at; m.free(w) && !at.IsZero() && now.Sub(at) < expectTime {
			peer = w.Room
		}
	}
	if peer == "" || m.paused(now, m.own) {
		return "", ""
	}
	return m.own, peer
}

// noteOpenings keeps when each window was seen to open.
func (m *machine) noteOpenings(now time.Time) {
	openings := make(map[id.RoomID]opening, len(m.windows))
	for _, w := range m.windows {
		before, known := m.openings[w.Room]
		o := opening{open: w.Shutter == directory.Open, at: before.at}
		if known && o.open && !before.open {
			o.at = now
		}
		openings[w.Room] = o
	}
	m.openings = openings
}

// silence is how often in a row a window did not answer.
func (m *machine) silence(w directory.Window) int {
	if p := m.pauses[w.Room]; p != nil {
		return p.count
	}
	return 0
}

// caller finds who is in our own room's call: another window if there is one, else guests only.
func (m *machine) caller() (peer id.RoomID, ok bool) {
	for _, member := range m.members[m.own] {
		if w, kiosk := m.kioskOf(member.User); kiosk {
			return w.Room, true
		}
		ok = ok || !m.kiosks[member.User]
	}
	return "", ok
}

// stay says whether the present call is still the right one.
func (m *machine) stay(now time.Time, c *visit) bool {
	if c.room == m.own {
		return m.stayHost(now, c)
	}
	w, ok := m.window(c.room)
	if !ok || !m.free(w) {
		return false
	}
	// Both called each other: the one who is host by rule goes home, the other stays.
	for _, member := range m.members[m.own] {
		if member.User == w.Kiosk && m.earlier(w) {
			return false
		}
	}
	if !c.alone {
		return true
	}
	// Whoever comes to us is there for sure, other than the one we wait for.
	if peer, _ := m.caller(); peer != "" && peer != w.Room {
		return false
	}
	if now.Sub(c.emptyAt) >= answerWait {
		m.unanswered(now, w)
		return false
	}
	return true
}

// stayHost says whether to stay in our own room's call.
func (m *machine) stayHost(now time.Time, c *visit) bool {
	if !c.peerPresent {
		// Only guests so far, or the other window has gone: a window that comes is let in.
		if peer, ok := m.caller(); ok && peer != "" {
			c.peer = peer
			return true
		}
	}
	if !c.alone || m.outgoing != nil {
		return true
	}
	if w, ok := m.window(c.peer); c.peer != "" && (!ok || w.Shutter == directory.Shut || !c.metOnce && !m.free(w)) {
		return false // it said goodbye, or was expected and has gone elsewhere
	}
	return now.Sub(c.emptyAt) < emptyGrace
}

// decide brings the state up to now and says how the world should look.
func (m *machine) decide(now time.Time) plan {
	m.noteOpenings(now)
	m.followKnocks(now)
	m.followRing(now)
	room, peer := m.target(now)
	if room == "" {
		m.call = nil
	} else if old := m.call; old == nil || old.room != room || old.stuck {
		m.visits++
		m.call = newVisit(m.visits, room, peer, now, m.countdown)
		if old != nil && old.stuck && old.room == room {
			m.afresh++ // whatever is wrong with the call, its keys or the focus is made new with it
			m.call.seenOnce = old.seenOnce
		}
	}
	var p plan
	if c := m.call; c != nil {
		m.follow(now, c)
		m.followHeld(now, c)
		p.visit, p.room, p.peer, p.blind = c.id, c.room, c.peer, c.blind
		p.members = append(slices.Clone(c.members), m.ghostsIn(c.room)...) // to see whether they come
		if w, ok := m.window(c.peer); ok {
			p.kiosk = w.Kiosk
		}
	}
	m.followLoss(now)
	p.screen = m.show(now)
	p.send = p.screen.seen
	// Held back from guests it counts as muted, too: Element would show our last picture for ever. Never from windows, two of which would
	// wait for each other.
	p.camera = m.shutter != directory.Shut && m.pageUp && m.cameraFault == "" && !p.screen.held
	p.announce = m.announcement(now)
	p.wake = m.nextWake(now)
	return p
}

// announcement is what the network is told. A window that nobody can see through is not open, whatever was pressed. It faces another
// only when that one is there: a call that nobody has answered yet keeps nobody away.
func (m *machine) announcement(now time.Time) directory.State {
	s := directory.State{Shutter: m.standing(now), Since: m.openedAt}
	if c := m.call; c != nil && s.Shutter != directory.Shut && c.peerPresent {
		s.Facing = c.peer
	}
	return s
}

// nextWake is the next moment at which time alone changes the plan.
func (m *machine) nextWake(now time.Time) time.Time {
	var next time.Time
	at := func(t time.Time) {
		if t.After(now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if !m.pageUp && !m.pageGoneAt.IsZero() {
		at(m.pageGoneAt.Add(pageGrace))
	}
	if !m.decided {
		at(m.openedAt.Add(pageGrace))
	}
	for _, p := range m.pauses {
		at(p.until)
	}
	if m.outgoing != nil {
		at(m.outgoing.until)
	}
	at(m.ringAgain)
	at(m.ringNoteUntil)
	for _, k := range m.knocks {
		switch k.state {
		case knockWaits:
			at(k.until)
		case knockLetIn:
			at(k.answered.Add(emptyGrace))
		}
		if !k.inside {
			at(k.ringUntil)
		}
	}
	if m.lostPeer != "" {
		at(m.lostAt.Add(lostLimit))
	}
	if c := m.call; c != nil {
		at(c.counted)
		at(c.counted.Add(connectLimit))
		at(c.trialUntil)
		for _, a := range c.away {
			at(a.since.Add(awayLimit))
		}
		if c.waiting() && !c.picture() {
			at(c.nextTrial)
		}
		if c.alone {
			at(c.emptyAt.Add(emptyGrace))
			at(c.emptyAt.Add(answerWait))
		}
	}
	return next
}
