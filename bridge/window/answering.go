package window

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
)

// earlier says whether the call between this window and w happens in our room. The window that has been open longer is the host. If
// both opened in the same millisecond, the room id decides. So both sides always agree.
func (r *Rules) earlier(w directory.Window) bool {
	mine, theirs := r.openedAt.UnixMilli(), w.Since.UnixMilli()
	if mine != theirs {
		return mine < theirs
	}
	return strings.Compare(string(r.own), string(w.Room)) < 0
}

// free says whether w is open and not in a visit with a third window.
func (r *Rules) free(w directory.Window) bool {
	return w.Joined && w.Shutter == directory.Open && (w.Facing == "" || w.Facing == r.own)
}

// callable says whether a visit with w can begin: it is free, and its kiosk is there. A visit goes on if the kiosk is gone for its homeserver: it may
// be the homeserver that is gone.
func (r *Rules) callable(w directory.Window) bool { return r.free(w) && w.Gone.IsZero() }

// advanceCall decides which call this window is in: it ends the visit, goes on with it, or begins another one.
func (r *Rules) advanceCall(now time.Time) {
	v := r.visit
	if v != nil && r.usable(now) {
		r.advanceVisit(now, v, r.welcomePeer(v))
		if !r.stays(now, v) {
			r.visit = nil
		}
	}
	room, peer := id.RoomID(""), id.RoomID("")
	switch {
	case !r.usable(now):
	case r.visit != nil:
		room, peer = v.room, v.peer
	default:
		room, peer = r.target(now)
	}
	switch {
	case room == "":
		r.visit = nil
	case v == nil || v.room != room || v.stuck:
		r.visits++
		r.visit = newVisit(r.visits, room, peer, now, r.countdown)
		if v != nil && v.stuck && v.room == room {
			r.restarts++ // the new visit has a new call, new keys and a new connection to the focus
			r.visit.reciprocity.seenOnce = v.reciprocity.seenOnce
		}
		r.advanceVisit(now, r.visit, false)
	default:
		r.visit = v
	}
}

// welcomePeer looks for a window in our own call while the visit's other window is not in it. If there is one, it becomes the visit's
// other window, and welcomePeer returns true.
func (r *Rules) welcomePeer(v *visit) (welcomed bool) {
	if v.room != r.own {
		return false
	}
	before, present := r.shown(v)
	peer, _ := r.caller()
	if present || peer == "" {
		return false
	}
	v.forgetRemotes(before) // the new window was not shown, so nothing is known about its picture
	v.peer = peer
	return true
}

// stays says whether the present call is still the right one.
func (r *Rules) stays(now time.Time, v *visit) bool {
	if v.room == r.own {
		return r.staysHost(now, v)
	}
	w, ok := r.windows.in(v.room)
	if !ok || !r.free(w) {
		return false
	}
	// Both windows have called each other. The window that has been open longer goes back to its own call. The other one stays.
	for _, member := range r.members.in(r.own) {
		if member.User == w.Kiosk && r.earlier(w) {
			return false
		}
	}
	if !v.alone {
		return true
	}
	// A window that has come into our call is running. The window that we wait for may be down.
	if peer, _ := r.caller(); peer != "" && peer != w.Room {
		return false
	}
	if now.Sub(v.emptyAt) >= answerWait {
		r.backoffs.Unanswered(now, w)
		if r.chosen == w.Room {
			r.chosen = ""
		}
		return false
	}
	return true
}

// staysHost says whether to stay in our own room's call.
func (r *Rules) staysHost(now time.Time, v *visit) bool {
	if r.ringing.on() {
		return true
	}
	if !v.alone {
		// Who was refused may still be in the call. While the window is ajar, nobody stays with them for want of those who were let in.
		return r.shutter != directory.Ajar || r.knocks.admitted(now)
	}
	if w, ok := r.windows.in(v.peer); v.peer != "" && (!ok || w.Shutter == directory.Shut || !v.metOnce && !r.callable(w)) {
		return false // the other window has shut, or it was expected here and is in another visit
	}
	return now.Sub(v.emptyAt) < emptyGrace
}

// target is the call that this window should enter while it is in none: its room, and the room of the other window.
func (r *Rules) target(now time.Time) (room, peer id.RoomID) {
	if !r.homeserverDownSince.IsZero() {
		return "", "" // no call can be entered
	}
	if r.ringing.on() {
		return r.own, ""
	}
	if r.shutter == directory.Ajar {
		if r.knocks.admitted(now) && !r.backoffs.Waits(now, r.own) {
			peer, _ := r.caller()
			return r.own, peer
		}
		return "", ""
	}
	if peer, ok := r.caller(); ok && !r.backoffs.Waits(now, r.own) {
		return r.own, peer
	}
	if w, ok := r.windows.in(r.chosen); ok && r.callable(w) && !r.backoffs.Waits(now, w.Room) {
		return w.Room, w.Room
	}
	candidates := slices.DeleteFunc(slices.Clone(r.windows.list), func(w directory.Window) bool {
		return !r.callable(w) || r.earlier(w) || r.backoffs.Waits(now, w.Room)
	})
	if len(candidates) == 0 {
		return r.expected(now)
	}
	best := slices.MinFunc(candidates, func(a, b directory.Window) int {
		return cmp.Or(cmp.Compare(r.backoffs.Count(a.Room), r.backoffs.Count(b.Room)), a.Since.Compare(b.Since.Time), cmp.Compare(a.Room, b.Room))
	})
	return best.Room, best.Room
}

// expected is our own call, and a window that has just opened and will come into it. It returns nothing if another free window has been
// open longer than ours, because the new window may call that one. We enter our call before we see the new window's membership, which takes
// a while through two homeservers.
func (r *Rules) expected(now time.Time) (room, peer id.RoomID) {
	for _, w := range r.windows.list {
		if r.callable(w) && !r.earlier(w) {
			return "", "" // the new window may call this one
		}
		if at := r.windows.openings[w.Room].at; r.callable(w) && !at.IsZero() && now.Sub(at) < expectTime {
			peer = w.Room
		}
	}
	if peer == "" || r.backoffs.Waits(now, r.own) {
		return "", ""
	}
	return r.own, peer
}

// caller finds who is in our own room's call. ok says whether anybody is. peer is the other window's room, empty if there are only guests.
func (r *Rules) caller() (peer id.RoomID, ok bool) {
	for _, member := range r.members.in(r.own) {
		if w, kiosk := r.windows.of(member.User); kiosk {
			return w.Room, true
		}
		ok = ok || !r.windows.kiosks[member.User]
	}
	return "", ok
}
