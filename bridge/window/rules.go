package window

import (
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bridge/window/redial"
	"multifactorymodel.org/ewindow/bridge/window/unseen"
)

// pageGrace is how long a window whose page has gone (a reload, a crashed browser) stays open for the network. After the program's start,
// it is also how long the program waits for the page to say whether the window is open.
const pageGrace = 30 * time.Second

// Device is one device of a user.
type Device struct {
	User id.UserID
	ID   id.DeviceID
}

// Member is one device in the MatrixRTC call of a room: one membership event (MSC4143).
type Member struct {
	User   id.UserID
	Device id.DeviceID
	// Identity is the participant's name at the SFU. Alias is the name that the device may have at SFUs where it does not publish. Service is
	// the address of the MatrixRTC authorisation service whose SFU the device publishes to.
	Identity, Alias, Service string
	// Created is when the membership was made. A device that leaves and comes again has another time.
	Created time.Time
}

// Rules is what one window knows and decides. See the package comment for how to use it. It belongs to one goroutine.
type Rules struct {
	countdown time.Duration
	tiles     int // how many others can be seen at once
	// unseenGuests says that guests may see the window without being seen, see AllowUnseenGuests.
	unseenGuests bool

	own      id.RoomID
	joined   bool // our room exists and is listed in the network
	removed  bool // we were in a network and are not any more
	windows  windows
	members  memberships
	shutter  directory.Shutter
	openedAt time.Time // when the shutter was set last
	decided  bool      // the shutter was set since the start, by a person or by a page that remembers it
	chosen   id.RoomID // the window that somebody picked, empty for any

	pageUp        bool
	pageGoneAt    time.Time
	cameraFault   Fault
	cameraFaultAt time.Time

	homeserverDownSince time.Time // zero while it answers
	noFocusSince        time.Time // zero while one is known

	visit     *visit // nil while there is none
	visits    uint64 // how many there were
	restarts  int    // visits in a row that were begun again because nobody was seen
	backoffs  redial.Rooms
	budgets   unseen.Budgets
	comparing comparing
	// identities are those that are new.
	identities identities
	loss       loss
	knocks     knocks
	ringing    ringing
	outbox     outbox
}

// New makes the rules of a window that is shut. tiles is how many pictures of others the page can show; more than four
// are not shown.
func New(countdown time.Duration, tiles int) *Rules {
	return &Rules{
		countdown:  countdown,
		tiles:      min(tiles, maxPictures),
		shutter:    directory.Shut,
		windows:    newWindows(),
		members:    newMemberships(),
		backoffs:   make(redial.Rooms),
		budgets:    unseen.New(),
		outbox:     newOutbox(),
		identities: identities{keys: make(map[id.UserID]id.Ed25519), answered: make(map[id.UserID]id.Ed25519), told: make(map[id.UserID]toldIdentity), confirming: make(map[id.UserID]id.Ed25519)},
	}
}

// AllowUnseenGuests lets guests see and hear the window with their cameras off, while somebody else is seen. The screen names them.
func (r *Rules) AllowUnseenGuests() { r.unseenGuests = true }

// Start says when the program was started. The page may remember that the window was open, so the rules wait for the page for a while.
// Meanwhile nobody is declined and the network is told nothing, because a restart must not shut a window for a moment.
func (r *Rules) Start(now time.Time) { r.openedAt = now }

// SetShutter sets the shutter, as a person does at the button. A change ends the visit. It also ends all back-offs, because a person does not
// want to wait.
func (r *Rules) SetShutter(now time.Time, to directory.Shutter) {
	r.decided = true
	if to == r.shutter || !to.Valid() {
		return
	}
	if to != directory.Shut {
		r.knocks.forget() // people are there now
	}
	r.shutter = to
	r.openedAt = now
	r.chosen = ""
	r.visit = nil
	r.loss, r.restarts = loss{}, 0
	clear(r.identities.answered) // other people may be there now
	r.ringing.forget()
	r.backoffs.EndAll()
}

// SetPage says whether a page is on the screen.
func (r *Rules) SetPage(now time.Time, up bool) {
	if r.pageUp && !up {
		r.pageGoneAt = now
	}
	r.pageUp = up
}

// PageRemembers reports which position of the shutter the page remembers from before its reload or the program's restart. The report has
// no effect if somebody has set the shutter since the program was started.
func (r *Rules) PageRemembers(now time.Time, shutter directory.Shutter) {
	if !r.decided {
		r.SetShutter(now, shutter)
	}
}

// Choose reports that somebody picked another window. If it is open, it is called before other open windows.
func (r *Rules) Choose(room id.RoomID) {
	if r.shutter != directory.Open || room == r.own {
		return
	}
	r.chosen = room
	r.backoffs.End(room)
	if w, ok := r.windows.in(room); ok && r.callable(w) && r.visit != nil && r.visit.peer != room {
		r.visit = nil
	}
}

// SetCamera reports the state of the page's camera and microphone: "on", "off" or "fault". The code says which fault.
func (r *Rules) SetCamera(now time.Time, state, code string) {
	if state != "fault" {
		r.cameraFault = ""
		return
	}
	if r.cameraFault == "" {
		r.cameraFaultAt = now
	}
	switch code {
	case "busy":
		r.cameraFault = FaultCameraBusy
	case "denied":
		r.cameraFault = FaultCameraDenied
	case "no_microphone":
		r.cameraFault = FaultNoMicrophone
	case "no_picture":
		r.cameraFault = FaultNoPicture
	default:
		r.cameraFault = FaultNoCamera
	}
}

// SetDirectory says what the network is now: our own room, whether the network lists it, and all other windows.
func (r *Rules) SetDirectory(own id.RoomID, joined bool, list []directory.Window) {
	if own != r.own {
		clear(r.identities.told) // nobody has read it in the new room
	}
	r.own, r.joined = own, joined
	r.windows.set(list, r.renewed)
	for _, w := range list {
		r.backoffs.SignOfLife(w)
	}
}

// SetKnown says whether this window was removed from its network, and which users are windows of the network or were. Of these, only those in the
// directory are answered: none of the others is ever a guest.
func (r *Rules) SetKnown(removed bool, kiosks []id.UserID) {
	r.removed = removed
	r.windows.setKnown(kiosks)
}

// SetMembers says who the foreign members of a room's call are. The list is complete. ended are windows' devices that were in the call, and whose
// memberships the homeserver may have ended because it had not heard of them for a while.
func (r *Rules) SetMembers(room id.RoomID, members []Member, ended ...Device) {
	r.members.set(room, members, ended)
}

// SetHomeserver says since when the homeserver has not answered. The zero time means that it answers.
func (r *Rules) SetHomeserver(downSince time.Time) { r.homeserverDownSince = downSince }

// FocusFound reports that a focus for our call is known.
func (r *Rules) FocusFound() { r.noFocusSince = time.Time{} }

// FocusMissing reports that no focus for our call is known.
func (r *Rules) FocusMissing(now time.Time) {
	if r.noFocusSince.IsZero() {
		r.noFocusSince = now
	}
}

// CallFailed reports that the call in a room could not be entered or kept. The window does not enter it again for a while.
func (r *Rules) CallFailed(now time.Time, room id.RoomID) {
	r.backoffs.Failed(now, room)
	if r.visit != nil && r.visit.room == room {
		r.visit = nil
	}
}

// pagePresent says whether there is a page, or was one a moment ago.
func (r *Rules) pagePresent(now time.Time) bool {
	return r.pageUp || (!r.pageGoneAt.IsZero() && now.Sub(r.pageGoneAt) < pageGrace)
}

// effective is the position of the shutter that others are told. Without a page, or with a camera fault, it is shut.
func (r *Rules) effective(now time.Time) directory.Shutter {
	if r.cameraFault != "" || !r.pagePresent(now) {
		return directory.Shut
	}
	return r.shutter
}

// settling says that the program was started a moment ago and the page has not yet said whether the window is open.
func (r *Rules) settling(now time.Time) bool {
	return !r.decided && now.Before(r.openedAt.Add(pageGrace))
}

// usable says whether the window can be in a call: it is in the network, and not shut.
func (r *Rules) usable(now time.Time) bool {
	return r.joined && r.effective(now) != directory.Shut
}

// callers are the users in our own room's call who may call, the first one first.
func (r *Rules) callers() []caller {
	return r.windows.callers(r.members.in(r.own))
}
