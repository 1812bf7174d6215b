package window

import (
	"slices"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bridge/window/strangers"
)

// visit is one use of the window: the call it is in, and what has been seen of the others.
type visit struct {
	number    uint64
	room      id.RoomID
	peer      id.RoomID // the other window's room, empty when only guests are in the call
	started   time.Time
	countdown countdown

	members     []Member // those to be shown, the other window first
	peerPresent bool     // the other window's kiosk is among them
	alone       bool
	emptyAt     time.Time // since when nobody has been there, if alone
	metOnce     bool      // somebody came

	remotes      map[string]*remote // by identity
	absent       absences
	participants strangers.Participants

	focusReached bool
	focusLostAt  time.Time // when the connection to our focus was lost, zero while there is one
	announced    bool      // somebody's picture was announced

	reciprocity reciprocity
	stuck       bool // the window must leave the call and enter it again

	shown map[id.UserID]bool // who was seen and is still in the call
	turns turns

	voices   voices
	told     map[telling]bool // what guests were told
	withheld []id.UserID      // the users whose devices get no key
}

// remote is what the media side knows of one other participant.
type remote struct {
	up, muted, picture bool
	unshown            bool // its picture is in a codec that can't be shown
	tile               int
	sharing            bool // a screen, which is shown in screenTile
	screenTile         int
}

func newVisit(number uint64, room, peer id.RoomID, now time.Time, length time.Duration) *visit {
	return &visit{
		number: number, room: room, peer: peer, started: now, countdown: countdown{now.Add(length)}, emptyAt: now, alone: true,
		remotes: make(map[string]*remote), absent: make(absences), participants: make(strangers.Participants),
		shown: make(map[id.UserID]bool), told: make(map[telling]bool), turns: turns{had: make(map[id.UserID]int)}, voices: voices{let: make(map[id.UserID]bool)},
	}
}

// meet sets who is in the visit's call now. It notes when the call becomes empty, and when somebody comes for the first time.
func (v *visit) meet(now time.Time, members []Member, peerPresent bool) {
	if peerPresent && !v.peerPresent {
		v.reciprocity.welcome(now)
	}
	v.members, v.peerPresent = members, peerPresent
	if empty := len(v.members) == 0; empty != v.alone {
		v.alone, v.emptyAt = empty, now
	}
	if !v.alone && !v.metOnce {
		v.metOnce = true
		v.reciprocity.begin(now, v.countdown)
	}
	v.forgetRemotes(members)
}

// forgetRemotes forgets what the media side reported about everybody except these members.
func (v *visit) forgetRemotes(but []Member) {
	for identity := range v.remotes {
		if !slices.ContainsFunc(but, func(m Member) bool { return m.Identity == identity }) {
			delete(v.remotes, identity)
		}
	}
}

// picture says whether anyone in the visit is seen now. A shared screen does not count, because it does not show the person.
func (v *visit) picture() bool {
	for _, o := range v.remotes {
		if o.picture {
			return true
		}
	}
	return false
}

// shows says whether a participant is seen now.
func (v *visit) shows(identity string) bool { o := v.remotes[identity]; return o != nil && o.picture }

// sees says whether one of a person's devices is seen now.
func (v *visit) sees(user id.UserID) bool {
	for _, member := range v.members {
		if member.User == user && v.shows(member.Identity) {
			return true
		}
	}
	return false
}

// unshown says whether somebody's picture is in a codec that can't be shown.
func (v *visit) unshown(user id.UserID) bool {
	return !v.sees(user) && slices.ContainsFunc(v.members, func(m Member) bool {
		o := v.remotes[m.Identity]
		return m.User == user && o != nil && o.unshown
	})
}

// waiting says whether somebody is there who should be seen but is not.
func (v *visit) waiting() bool {
	for _, o := range v.remotes {
		if o.up && !o.muted && !o.unshown && !o.picture {
			return true
		}
	}
	return false
}

func (v *visit) remote(identity string) *remote {
	o := v.remotes[identity]
	if o == nil {
		o = &remote{}
		v.remotes[identity] = o
	}
	return o
}

// advanceVisit brings the visit up to now: its members, and what may be sent to them. welcomed says that the other window has just come.
func (r *Rules) advanceVisit(now time.Time, v *visit, welcomed bool) {
	r.advanceTurns(now, v)
	members, peerPresent := r.shown(v)
	v.meet(now, members, peerPresent)
	r.advanceReciprocity(now, v, welcomed)
}

// visitNumber is the present visit if it has this number, else nil. Reports of the media side about an earlier visit are ignored.
func (r *Rules) visitNumber(number uint64) *visit {
	if r.visit == nil || r.visit.number != number {
		return nil
	}
	return r.visit
}

// FocusConnected reports that the visit's media are connected to our focus.
func (r *Rules) FocusConnected(now time.Time, visit uint64) {
	if v := r.visitNumber(visit); v != nil {
		v.focusConnected(now)
	}
}

func (v *visit) focusConnected(now time.Time) {
	if !v.focusLostAt.IsZero() && v.reciprocity.seenOnce {
		// The others did not see us, either. Without this, both sides would wait for a trial.
		v.reciprocity.begin(now, v.countdown)
	}
	v.focusLostAt, v.focusReached = time.Time{}, true
}

// FocusLost reports that the connection to our focus was lost. It returns false if the loss was reported before.
func (r *Rules) FocusLost(now time.Time, visit uint64) (news bool) {
	v := r.visitNumber(visit)
	return v != nil && v.focusLost(now)
}

func (v *visit) focusLost(now time.Time) (news bool) {
	if news = v.focusLostAt.IsZero(); news {
		v.focusLostAt = now
	}
	return news
}

// RemoteCamera reports whether one participant's camera is announced (up), whether it is muted, and its tile.
func (r *Rules) RemoteCamera(now time.Time, visit uint64, identity string, tile int, up, muted bool) {
	if v := r.visitNumber(visit); v != nil {
		v.remoteCamera(now, identity, tile, up, muted)
	}
}

func (v *visit) remoteCamera(now time.Time, identity string, tile int, up, muted bool) {
	o := v.remote(identity)
	if up && !muted && !o.unshown && !v.announced {
		v.announced = true // connecting may have used up PictureGrace, so this time begins again
		v.reciprocity.begin(now, v.countdown)
	}
	o.up, o.muted, o.tile = up, muted, tile
	if !up {
		o.picture = false
	}
}

// RemoteUnshown reports whether one participant's camera picture is announced in a codec that can't be shown. Trials are no use then.
func (r *Rules) RemoteUnshown(visit uint64, identity string, on bool) {
	if v := r.visitNumber(visit); v != nil {
		v.remote(identity).unshown = on
	}
}

// RemotePicture reports whether one participant's camera picture is seen, and in which tile.
func (r *Rules) RemotePicture(visit uint64, identity string, tile int, on bool) {
	if v := r.visitNumber(visit); v != nil {
		v.remotePicture(identity, tile, on)
	}
}

func (v *visit) remotePicture(identity string, tile int, on bool) {
	o := v.remote(identity)
	o.picture, o.tile = on, tile
}

// RemoteScreen reports whether one participant shares a screen, and in which tile it is shown.
func (r *Rules) RemoteScreen(visit uint64, identity string, tile int, on bool) {
	if v := r.visitNumber(visit); v != nil {
		o := v.remote(identity)
		o.sharing, o.screenTile = on, tile
	}
}
