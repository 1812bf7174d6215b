package window

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bridge/notice"
)

const (
	// PictureBudget is how long somebody may get our picture, all visits and devices together, without being seen. It is a second less than the
	// fifteen that we promise: what is on its way when it is used up still arrives.
	PictureBudget = 14 * time.Second
	// budgetPeriod is how long somebody must get nothing until they have the whole budget again. So nobody gets more in any hour.
	budgetPeriod = time.Hour
	// maxBudgets is how many people's budgets are kept. Whoever is one too many gets nothing before they are seen.
	maxBudgets = 1024
	// turnTime is how long somebody who is not seen keeps a place on the screen that somebody else waits for.
	turnTime = 10 * time.Second
)

// budgets are what people have got of our picture without being seen.
type budgets struct {
	used map[id.UserID]*used
	// charged are those who get our picture without being seen, since then.
	charged []id.UserID
	since   time.Time
}

// used is how much of the budget somebody has used, and when they used something last.
type used struct {
	sum  time.Duration
	last time.Time
}

// charge charges everybody who has been getting our picture, and forgets what was long ago.
func (b *budgets) charge(now time.Time) {
	for _, user := range b.charged {
		if b.used[user] == nil {
			b.used[user] = &used{}
		}
		b.used[user].sum += now.Sub(b.since)
		b.used[user].last = now
	}
	b.charged, b.since = nil, now
	maps.DeleteFunc(b.used, func(_ id.UserID, u *used) bool { return now.Sub(u.last) >= budgetPeriod })
}

// empty says whether somebody has used up their budget.
func (b *budgets) empty(user id.UserID) bool {
	if u := b.used[user]; u != nil {
		return u.sum >= PictureBudget
	}
	return len(b.used) >= maxBudgets
}

// wake calls at with the moments when somebody's budget is used up, or is there again.
func (b *budgets) wake(at func(time.Time)) {
	for _, user := range b.charged {
		if u := b.used[user]; u != nil {
			at(b.since.Add(PictureBudget - u.sum))
		} else {
			at(b.since.Add(PictureBudget))
		}
	}
	for user, u := range b.used {
		if b.empty(user) || len(b.used) >= maxBudgets {
			at(u.last.Add(budgetPeriod))
		}
	}
}

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
			delete(r.budgets.used, member.User) // a fresh start
			v.shown[member.User] = true
		}
	}
	sends := r.sends(now, v)
	for _, member := range named {
		user := member.User
		if r.cut(v, user) || v.unshown(user) {
			r.tellCut(now, v, user)
		}
		switch {
		case r.cut(v, user):
		case sends && r.unseen(v, user) && !r.allowed(v, user) && !slices.Contains(r.budgets.charged, user):
			r.budgets.charged = append(r.budgets.charged, user)
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

// allowed says whether a guest may get our picture without being seen: somebody else is seen, and the window's people have allowed it.
func (r *Rules) allowed(v *visit, user id.UserID) bool {
	_, kiosk := r.windows.of(user)
	return r.unseenGuests && !kiosk && v.picture()
}

// cut says whether somebody who is named gets no key, because they have used up their budget.
func (r *Rules) cut(v *visit, user id.UserID) bool {
	return r.unseen(v, user) && !r.allowed(v, user) && r.budgets.empty(user)
}

// keyed are those of the named who get our media key.
func (r *Rules) keyed(v *visit) []Member {
	named, _ := r.named(v)
	return slices.DeleteFunc(named, func(m Member) bool { return r.cut(v, m.User) })
}

// tellCut tells a guest, once in a visit, why they get nothing, or will soon get nothing.
func (r *Rules) tellCut(now time.Time, v *visit, user id.UserID) {
	if _, kiosk := r.windows.of(user); kiosk || v.room != r.own || slices.Contains(v.withheld, user) || slices.Contains(v.toldCut, user) ||
		len(v.toldCut) >= maxBudgets {
		return
	}
	v.toldCut = append(v.toldCut, user)
	what := notice.Unseen
	if v.unshown(user) {
		what = notice.Codec
	}
	r.outbox.tellPerson(now, what, user)
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
