package window

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bridge/notice"
	"multifactorymodel.org/ewindow/bridge/window/unseen"
)

// PictureBudget is how long somebody may get our picture within an hour, all visits and devices together, without being seen.
const PictureBudget = unseen.PictureBudget

// turnTime is how long somebody who is not seen keeps a place on the screen that somebody else waits for.
const turnTime = 10 * time.Second

// advanceUnseen notes who is seen, who gets our picture without being seen, and tells those who get nothing.
func (r *Rules) advanceUnseen(now time.Time) {
	v := r.visit
	if v == nil {
		return
	}
	named, _ := r.named(v)
	maps.DeleteFunc(v.shown, func(user id.UserID, _ bool) bool {
		return !slices.ContainsFunc(named, func(m Member) bool { return m.User == user })
	})
	for _, member := range named {
		if v.sees(member.User) {
			r.budgets.Seen(member.User)
			v.shown[member.User] = true
		}
	}
	sends := r.sends(now, v)
	for _, member := range named {
		user := member.User
		switch {
		case slices.Contains(v.withheld, user):
		case v.unshown(user):
			r.tellGuest(now, v, notice.Codec, user)
		case r.spent(v, user):
			r.tellGuest(now, v, notice.Unseen, user)
		}
		if sends && r.unseen(v, user) && !r.allowed(v, user) && !r.cut(v, user) {
			r.budgets.Begin(user)
		}
	}
}

// unseen says whether somebody in the call is not seen, although they should be. The visit's other window is not meant: two windows that do not
// see each other make trials. Nor is somebody who was seen in this visit, and for whom the screen has no place now.
func (r *Rules) unseen(v *visit, user id.UserID) bool {
	if w, kiosk := r.windows.of(user); kiosk && w.Room == v.peer {
		return false
	}
	return !v.sees(user) && (r.placed(v, user) || !v.shown[user])
}

// placed says whether one of a person's devices has a place on the screen. A shared screen takes one.
func (r *Rules) placed(v *visit, user id.UserID) bool {
	places := r.tiles
	if r.sharer(v) != nil {
		places--
	}
	return slices.ContainsFunc(v.members[:min(len(v.members), places)], func(m Member) bool { return m.User == user })
}

// allowed says whether a guest may get our picture without being seen: somebody else is seen, and the window's people have allowed it, or have let
// this guest talk.
func (r *Rules) allowed(v *visit, user id.UserID) bool {
	_, kiosk := r.windows.of(user)
	return v.voices.let[user] || r.unseenGuests && !kiosk && v.picture()
}

// spent says whether somebody gets no key because they have used up their budget.
func (r *Rules) spent(v *visit, user id.UserID) bool {
	return r.unseen(v, user) && !r.allowed(v, user) && r.budgets.Empty(user)
}

// cut says whether somebody who is named gets no key: they have used up their budget, or others talk and they may not.
func (r *Rules) cut(v *visit, user id.UserID) bool {
	return r.spent(v, user) || v.hushes(user)
}

// keyed are those of the named who get our media key.
func (r *Rules) keyed(v *visit) []Member {
	named, _ := r.named(v)
	return slices.DeleteFunc(named, func(m Member) bool { return r.cut(v, m.User) })
}

// persons are the named people for whom f holds, each one once.
func (r *Rules) persons(named []Member, f func(user id.UserID) bool) (list []Person) {
	for _, member := range named {
		if p := r.windows.person(member.User); f(member.User) && !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	return list
}

// turns are a visit's turns on a screen that has not enough places: how often somebody had one and was not seen.
type turns struct {
	had  map[id.UserID]int
	next time.Time // when the present turn ends, zero while there are enough places
}

// advanceTurns takes the places of those who are not seen, if somebody else waits for one.
func (r *Rules) advanceTurns(now time.Time, v *visit) {
	placed, waits := make(map[id.UserID]bool), false
	for _, member := range v.members {
		placed[member.User] = true
	}
	called := make(map[id.UserID]bool)
	for _, member := range r.members.in(v.room) {
		called[member.User] = true
		waits = waits || !placed[member.User] && !r.windows.kiosks[member.User]
	}
	t := &v.turns
	maps.DeleteFunc(t.had, func(user id.UserID, _ int) bool { return !called[user] || v.sees(user) })
	switch {
	case !waits || v.alone:
		t.next = time.Time{}
	case t.next.IsZero():
		t.next = now.Add(turnTime)
	case !now.Before(t.next):
		t.next = now.Add(turnTime)
		for user := range placed {
			if !v.sees(user) {
				t.had[user]++
			}
		}
	}
}

// shown are those of the visit's members who are shown: the other window first, then the guests in the order of rank, as many as there are tiles. A
// guest's second device comes after all other guests. A third window is not shown: visits are between two windows. A kiosk that was removed from the
// network is not shown, either.
func (r *Rules) shown(v *visit) (out []Member, peerPresent bool) {
	var guests, more []Member
	for _, member := range r.members.in(v.room) {
		other, kiosk := r.windows.of(member.User)
		switch {
		case kiosk && other.Room == v.peer:
			out = append(out, member)
			peerPresent = true
		case r.windows.kiosks[member.User]:
		case slices.ContainsFunc(guests, func(m Member) bool { return m.User == member.User }):
			more = append(more, member)
		default:
			guests = append(guests, member)
		}
	}
	slices.SortStableFunc(guests, func(a, b Member) int { return cmp.Compare(v.rank(a.User), v.rank(b.User)) })
	out = slices.Concat(out, guests, more)
	return out[:min(len(out), r.tiles)], peerPresent
}

// rank orders those who want a place: first who is seen, then who had the fewest turns.
func (v *visit) rank(user id.UserID) int {
	if v.sees(user) {
		return -1
	}
	return v.turns.had[user]
}
