package window

import (
	"slices"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bridge/notice"
)

// maxPictures is how many others are seen and heard at once. The screen has no room for more, and each one needs bandwidth.
const maxPictures = 4

// maxNamed is how many people are named in one list on the screen. Of the people in a call, the screen names so many, and the others get no key.
const maxNamed = 16

// named are the members of the visit's call whom the screen names, with all of their devices. Only they may get our media key, see keyed.
// Members who are not at the SFU are not named, nor is a kiosk that was removed from the network. more is how many people are in the call
// besides, for whom the screen has no room. Windows always have room, and there are few of them.
func (r *Rules) named(v *visit) (list []Member, more int) {
	here := slices.DeleteFunc(slices.Clone(r.members.in(v.room)), func(m Member) bool { return !r.windows.mayCall(m.User) })
	people := make(map[id.UserID]bool)
	for _, member := range here {
		if _, kiosk := r.windows.of(member.User); kiosk {
			people[member.User] = true
		}
	}
	for _, member := range here {
		if !people[member.User] && len(people) < maxNamed {
			people[member.User] = true
		}
	}
	left := make(map[id.UserID]bool)
	for _, member := range here {
		if people[member.User] {
			list = append(list, member)
		} else {
			left[member.User] = true
		}
	}
	return list, len(left)
}

// heldBack says whether our picture is held back because only guests are there whose cameras are off, or whose pictures can't be shown. It is false
// while another window is there. It is also false while somebody's picture is announced and does not come, because that is a fault of the connection.
func (r *Rules) heldBack(now time.Time, v *visit) bool {
	return !v.alone && !v.peerPresent && !r.ringing.on() && v.focusReached && v.focusLostAt.IsZero() && !v.picture() && !v.waiting() &&
		!v.countdown.running(now) && !r.trying(now, v)
}

// advanceGuests tells guests why they see and hear nothing: there is no room for them, or the window is held back because their cameras are off.
func (r *Rules) advanceGuests(now time.Time) {
	v := r.visit
	if v == nil {
		return
	}
	if named, more := r.named(v); more > 0 {
		for _, member := range r.members.in(v.room) {
			if r.windows.mayCall(member.User) && !slices.ContainsFunc(named, func(m Member) bool { return m.User == member.User }) {
				r.tellGuest(now, v, notice.Full, member.User)
			}
		}
	}
	if !r.heldBack(now, v) {
		return
	}
	muted := false
	for _, o := range v.remotes {
		muted = muted || o.up && o.muted
	}
	if !muted && now.Before(v.countdown.ends.Add(connectLimit)) {
		return // no camera is announced yet, and one may still come
	}
	for _, member := range v.members {
		if !v.unshown(member.User) && !v.voices.let[member.User] { // they are told that their picture can't be shown, or talk
			r.tellGuest(now, v, notice.Camera, member.User)
		}
	}
}

// Withheld reports that a member's device gets no media keys, because its owner has not verified it, or has a new identity.
func (r *Rules) Withheld(now time.Time, visit uint64, user id.UserID) {
	v := r.visitNumber(visit)
	if v == nil || slices.Contains(v.withheld, user) || len(v.withheld) >= maxNamed {
		return
	}
	v.withheld = append(v.withheld, user)
	if r.windows.person(user).Window != "" {
		return
	}
	what := notice.Device
	if r.renewed(user) {
		what = notice.Identity
		r.identities.askLater(user)
	}
	r.tellGuest(now, v, what, user)
}

// Keyless reports that a member's device could not be given our media key for a while.
func (r *Rules) Keyless(now time.Time, visit uint64, user id.UserID) {
	if v := r.visitNumber(visit); v != nil {
		r.tellGuest(now, v, notice.NoKey, user)
	}
}

// LegacyCall reports that a user called a room in the way that Matrix had before MatrixRTC (m.call.invite), and was rejected.
func (r *Rules) LegacyCall(now time.Time, room id.RoomID, user id.UserID) {
	if room == r.own && r.windows.mayCall(user) {
		r.outbox.tell(now, notice.Legacy, user)
	}
}
