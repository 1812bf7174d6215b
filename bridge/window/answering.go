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

// welcomePeer makes a window that has come into our own call the visit's other window, unless that one is there already. It returns
// true if it did so.
func (r *Rules) welcomePeer(v *visit) (welcomed bool) {
	if v.room != r.own {
		return false
	}
	before, present := r.windows.shown(r.members.in(v.room), v.peer, r.tiles)
	peer, _ := r.caller()
	if present || peer == "" {
		return false
	}
	v.forgetRemotes(before) // the new one was not shown, so nothing is known about its picture
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
	// Both have called each other: the one that has been open longer goes back to its own call, and the other one stays.
	for _, member := range r.members.in(r.own) {
		if member.User == w.Kiosk && r.earlier(w) {
			return false
		}
	}
	if !v.alone {
		return true
	}
	// A window that has come to us is certainly there. The one that we wait for may not be.
	if peer, _ := r.caller(); peer != "" && peer != w.Room {
		return false
	}
	if now.Sub(v.emptyAt) >= answerWait {
		r.backoffs.unanswered(now, w)
		if r.chosen == w.Room {
			r.chosen = ""
		}
		return false
	}
	return true
}

// staysHost says whether to stay in our own room's call.
func (r *Rules) staysHost(now time.Time, v *visit) bool {
	if !v.alone || r.ringing.on() {
		return true
	}
	if w, ok := r.windows.in(v.peer); v.peer != "" && (!ok || w.Shutter == directory.Shut || !v.metOnce && !r.free(w)) {
		return false // it has shut, or it was expected and has gone elsewhere
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
		if r.knocks.admitted(now) && !r.backoffs.waits(now, r.own) {
			peer, _ := r.caller()
			return r.own, peer
		}
		return "", ""
	}
	if peer, ok := r.caller(); ok && !r.backoffs.waits(now, r.own) {
		return r.own, peer
	}
	if w, ok := r.windows.in(r.chosen); ok && r.free(w) && !r.backoffs.waits(now, w.Room) {
		return w.Room, w.Room
	}
	candidates := slices.DeleteFunc(slices.Clone(r.windows.list), func(w directory.Window) bool {
		return !r.free(w) || r.earlier(w) || r.backoffs.waits(now, w.Room)
	})
	if len(candidates) == 0 {
		return r.expected(now)
	}
	best := slices.MinFunc(candidates, func(a, b directory.Window) int {
		return cmp.Or(cmp.Compare(r.backoffs.count(a.Room), r.backoffs.count(b.Room)), a.Since.Compare(b.Since.Time), cmp.Compare(a.Room, b.Room))
	})
	return best.Room, best.Room
}

// expected is our own call, and a window that has just opened and will come into it. Our window has been open longest of all, so the other
// one is entering our call now. We enter it before we see its membership, which takes a while through two homeservers.
func (r *Rules) expected(now time.Time) (room, peer id.RoomID) {
	for _, w := range r.windows.list {
		if r.free(w) && !r.earlier(w) {
			return "", "" // it may go there
		}
		if at := r.windows.openings[w.Room].at; r.free(w) && !at.IsZero() && now.Sub(at) < expectTime {
			peer = w.Room
		}
	}
	if peer == "" || r.backoffs.waits(now, r.own) {
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
