package window

import (
	"slices"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
)

// Screen is which of the page's screens people see, as the page's protocol spells it.
type Screen string

// The page's screens.
const (
	// ScreenShut: the window is shut. The screen shows who knocked meanwhile.
	ScreenShut Screen = "shut"
	// ScreenAlone: the window is open, and nobody is there. ScreenAjar: the window is ajar, and nobody is there.
	ScreenAlone Screen = "alone"
	ScreenAjar  Screen = "ajar"
	// ScreenKnocked: somebody wants in.
	ScreenKnocked Screen = "knocked"
	// ScreenRinging: the window's people are rung.
	ScreenRinging Screen = "ringing"
	// ScreenOpening: the window enters a call, and the countdown runs.
	ScreenOpening Screen = "opening"
	// ScreenVisit: others are seen, or would be if their cameras were on.
	ScreenVisit Screen = "visit"
	// ScreenLost: the connection to the focus or to the other window is lost.
	ScreenLost Screen = "lost"
	// ScreenIdentity: somebody's identity is new, and people are asked whether it is them.
	ScreenIdentity Screen = "identity"
	// ScreenVerify: emoji are to be compared with those of an admin's Element.
	ScreenVerify Screen = "verify"
	// ScreenFault: something keeps the window from working.
	ScreenFault Screen = "fault"
)

// Fault is what keeps the window from working, as the page's protocol spells it.
type Fault string

// What may keep the window from working.
const (
	FaultNoCamera     Fault = "no_camera"
	FaultCameraBusy   Fault = "camera_busy"
	FaultCameraDenied Fault = "camera_denied"
	FaultNoMicrophone Fault = "no_microphone"
	FaultNoPicture    Fault = "no_picture" // the camera is there and gives no picture
	FaultPage         Fault = "page"
	FaultHomeserver   Fault = "homeserver"
	FaultHub          Fault = "hub"
	FaultNotJoined    Fault = "network_not_joined"
	FaultRemoved      Fault = "network_removed"
)

// View is what people at the window see.
type View struct {
	Screen Screen
	// Shutter is the position that people have set. Since is when the state that the screen shows began.
	Shutter directory.Shutter
	Since   time.Time
	// CountUntil is when a countdown on the screen ends: that of a visit, of a knock or of ringing. Zero for none.
	CountUntil time.Time
	// Camera asks the page for camera and microphone, Send for their tracks on its connection. Seen says that frames are sent.
	Camera, Send, Seen bool
	// Held says that nothing is sent because nobody else's camera is on. Trials says that now and then our picture goes out for a moment although
	// nobody is seen.
	Held, Trials bool
	// Withheld are the people who get no keys because their devices are not verified, Renewed those who get none because their identity is new, and
	// Unseen those who get none because they are not seen, unless Held. Allowed are the guests who see us without being seen, as the configuration allows.
	Withheld, Renewed, Unseen, Allowed []Person
	// Voice is the guest whom people may let talk without a picture, nil for nobody. Talking are the guests who do, while the picture is held back.
	Voice   *Person
	Talking []Person
	// Unshown are the people whose pictures are in a codec that can't be shown. They are not in Unseen.
	Unshown []Person
	// Peer is the person in the big picture, nil for nobody. Guests are the others in the call. More is how many people are in the call besides
	// them, without a name and without our key. Shared is the person who shares a screen.
	Peer   *Person
	Guests []Person
	More   int
	Shared *Person
	// Stranger says that somebody is at the SFU whom no membership explains. They get no key of ours.
	Stranger bool
	// Identity is the new identity that people are asked about, nil for none.
	Identity *Identity
	// Comparison is the emoji to be compared, nil for none.
	Comparison *Comparison
	// Knock is who wants in, nil for nobody.
	Knock *Knock
	// CanRing says that the window's people can be rung. Ring is the state or the result of ringing, empty for none. Declined are the
	// people who do not come.
	CanRing  bool
	Ring     RingStatus
	Declined []Person
	// Missed are the people whose knocks nobody answered, the newest first.
	Missed []Missed
	// Windows are the other windows of the network.
	Windows []directory.Window
	// Fault is what keeps the window from working, empty for nothing. Of several faults, it is the one nearest to the people at the window:
	// camera and page come before the homeserver, the network and the hub.
	Fault      Fault
	FaultSince time.Time
}

// Person is somebody in a call: a window, if Window is set, else a guest.
type Person struct {
	// Tile is where the picture is shown, -1 without a picture.
	Tile int
	// Window is the room of a window.
	Window id.RoomID
	// User is the guest, or the window's kiosk where that is known.
	User id.UserID
}

// Knock is somebody who wants in. Others are the other people in the call: they would see us, too.
type Knock struct {
	// ID is for [Rules.AnswerKnock].
	ID     uint64
	Who    Person
	Others []Person
}

// Missed is somebody whose knock nobody answered.
type Missed struct {
	Who Person
	At  time.Time
}

// view decides what people see. This also decides whether anything may be sent.
func (r *Rules) view(now time.Time) View {
	s := View{Screen: ScreenAlone, Shutter: r.shutter, Since: r.openedAt, Windows: slices.Clone(r.windows.all)}
	s.Fault, s.FaultSince = r.fault(now)
	switch {
	case r.compares():
		c := *r.comparing.now
		c.Symbols, c.Names = slices.Clone(c.Symbols), slices.Clone(c.Names)
		s.Screen, s.Since, s.Comparison = ScreenVerify, r.comparing.since, &c
	case r.shutter == directory.Shut:
		s.Screen = ScreenShut
		s.Missed = slices.Clone(r.knocks.missed)
		if s.Fault == FaultNotJoined || s.Fault == FaultRemoved {
			s.Screen, s.Since = ScreenFault, s.FaultSince
		}
	case s.Fault != "" && r.visit == nil:
		s.Screen, s.Since = ScreenFault, s.FaultSince
		// The page goes on asking for the camera. The fault ends when it gets the camera.
		s.Camera = r.cameraFault != ""
	case r.visit == nil:
		r.viewWaiting(now, &s)
	default:
		r.viewVisit(now, r.visit, &s)
	}
	return s
}

// viewWaiting is what people see while the window is open or ajar, and in no call.
func (r *Rules) viewWaiting(now time.Time, s *View) {
	s.CanRing, s.Ring = r.canRing(now), r.ringing.note
	if r.shutter == directory.Ajar {
		s.Screen = ScreenAjar
		if k := r.knocks.waiting(); k != nil && r.effective(now) == directory.Ajar {
			s.Screen, s.Since, s.CountUntil, s.Knock = ScreenKnocked, k.shown, k.until, r.viewKnock(k)
			return
		}
	}
	s.Camera = true
	if s.Identity = r.pending(now); s.Identity != nil {
		s.Screen = ScreenIdentity
		return
	}
	if r.loss.peer != "" {
		s.Screen, s.Since = ScreenLost, r.loss.at
		s.Peer = &Person{Tile: -1, Window: r.loss.peer}
	}
}

// viewVisit is what people see while the window is in a call.
func (r *Rules) viewVisit(now time.Time, v *visit, s *View) {
	s.Camera, s.Send = true, true
	named, more := r.named(v)
	s.Peer, s.Guests = r.people(v, named)
	s.More = more
	s.Shared = r.sharer(v)
	s.Withheld = r.persons(named, func(user id.UserID) bool { return slices.Contains(v.withheld, user) && !r.renewed(user) })
	s.Renewed = r.persons(named, func(user id.UserID) bool { return slices.Contains(v.withheld, user) && r.renewed(user) })
	s.Unseen = r.persons(named, func(user id.UserID) bool {
		return r.cut(v, user) && !slices.Contains(v.withheld, user) && !v.unshown(user)
	})
	s.Unshown = r.persons(named, v.unshown)
	s.Stranger = len(v.participants.Strangers(now, maxNamed)) > 0
	counting := v.countdown.running(now)
	s.CountUntil = v.countdown.until(now)
	s.Seen = r.sends(now, v)
	s.Trials = !counting && !v.picture() && (s.Seen || v.waiting() && len(r.keyed(v)) > 0)
	if s.Seen {
		s.Allowed = r.persons(named, func(user id.UserID) bool { return r.unseen(v, user) && r.allowed(v, user) })
	}
	switch {
	case r.ringing.on():
		s.Screen, s.Ring, s.Since, s.CountUntil = ScreenRinging, RingOn, v.started, r.ringing.now.until
		for _, user := range r.ringing.now.declined {
			s.Declined = append(s.Declined, r.windows.person(user))
		}
	case s.Shared == nil && r.heldBack(now, v):
		s.Screen, s.Since, s.Held, s.Unseen = ScreenVisit, v.started, true, nil // nobody gets our picture
		s.Talking = r.persons(named, func(user id.UserID) bool { return v.voices.let[user] })
		if user := v.voices.asked; user != "" {
			p := r.windows.person(user)
			s.Voice = &p
		}
		if s.Peer == nil && len(s.Guests) > 0 {
			s.Peer, s.Guests = &s.Guests[0], s.Guests[1:]
		}
	case (v.picture() || s.Shared != nil) && !counting:
		s.Screen, s.Since = ScreenVisit, v.started
	case r.loss.of(v.peer):
		s.Screen, s.Since = ScreenLost, r.loss.at
	case !v.focusLostAt.IsZero() && !counting:
		s.Screen, s.Since = ScreenLost, v.focusLostAt
	case !v.alone && !now.Before(v.countdown.ends.Add(connectLimit)):
		s.Screen, s.Since = ScreenLost, v.started
	default:
		s.Screen, s.Since = ScreenOpening, v.started
	}
}

// sends says whether frames may be sent: somebody is seen, or a trial is on and there is somebody who may get our picture unseen. There is no trial
// for guests none of whom has announced a camera.
func (r *Rules) sends(now time.Time, v *visit) bool {
	return !v.countdown.running(now) && r.pageUp && r.cameraFault == "" && !v.alone && (v.picture() || r.trying(now, v) && (v.peerPresent || v.waiting()))
}

// trying says whether a trial is on, and there is somebody for it.
func (r *Rules) trying(now time.Time, v *visit) bool {
	return v.reciprocity.trying(now) && len(r.keyed(v)) > 0
}

func (r *Rules) viewKnock(k *knock) *Knock {
	out := &Knock{ID: k.id, Who: r.windows.person(k.user)}
	for _, c := range r.callers() {
		if c.user != k.user && len(out.Others) < maxNamed {
			out.Others = append(out.Others, r.windows.person(c.user))
		}
	}
	return out
}

// people are the persons in the call: the one in the big picture, and the others who are named. Persons who have no picture, or may not be
// shown, are named, too: people must know who may hear them.
func (r *Rules) people(v *visit, named []Member) (peer *Person, others []Person) {
	if v.peer != "" && (v.peerPresent || v.alone) {
		peer = &Person{Tile: -1, Window: v.peer}
	}
	for _, member := range named {
		p := r.windows.person(member.User)
		if o := v.remotes[member.Identity]; o != nil && o.up && (o.picture || !o.muted && !o.unshown) {
			p.Tile = o.tile
		}
		switch {
		case peer != nil && p.Window != "" && p.Window == peer.Window:
			if peer.Tile < 0 {
				peer.Tile = p.Tile
			}
		case peer == nil && p.Tile >= 0:
			peer = &p
		default:
			others = append(others, p)
		}
	}
	return peer, others
}

// sharer is the person whose screen is shown. Tile is the screen's tile.
func (r *Rules) sharer(v *visit) *Person {
	for _, member := range v.members {
		if o := v.remotes[member.Identity]; o != nil && o.sharing {
			p := r.windows.person(member.User)
			p.Tile = o.screenTile
			return &p
		}
	}
	return nil
}

// fault is what keeps the window from working, see [View.Fault].
func (r *Rules) fault(now time.Time) (code Fault, since time.Time) {
	open := r.shutter != directory.Shut
	switch {
	case open && r.cameraFault != "":
		return r.cameraFault, r.cameraFaultAt
	case open && !r.pagePresent(now):
		return FaultPage, r.pageGoneAt
	case !r.homeserverDownSince.IsZero():
		return FaultHomeserver, r.homeserverDownSince
	case !r.joined && r.removed:
		return FaultRemoved, time.Time{}
	case !r.joined:
		return FaultNotJoined, time.Time{}
	case open && r.visit != nil && !r.visit.focusLostAt.IsZero():
		return FaultHub, r.visit.focusLostAt
	case open && !r.noFocusSince.IsZero():
		return FaultHub, r.noFocusSince
	}
	return "", time.Time{}
}
