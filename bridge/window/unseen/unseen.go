// Package unseen counts how long people have got our picture without being seen. It keeps no clock: the time is an argument. A [Budgets] belongs to one
// goroutine.
package unseen

import (
	"maps"
	"slices"
	"time"

	"maunium.net/go/mautrix/id"
)

const (
	// PictureBudget is how long somebody may get our picture, all visits and devices together, without being seen. It is a second less than the
	// fifteen that we promise: what is on its way when it is used up still arrives.
	PictureBudget = 14 * time.Second
	// Period is how long somebody must get nothing until they have the whole budget again. So nobody gets more in any hour.
	Period = time.Hour
	// MaxBudgets is how many people's budgets are kept. Whoever is one too many gets nothing before they are seen.
	MaxBudgets = 1024
)

// Budgets are what people have got of our picture without being seen.
type Budgets struct {
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

// New makes the budgets of people of whom nobody has used anything.
func New() Budgets { return Budgets{used: make(map[id.UserID]*used)} }

// Charge charges everybody who has been getting our picture, and forgets what was long ago.
func (b *Budgets) Charge(now time.Time) {
	for _, user := range b.charged {
		if b.used[user] == nil {
			b.used[user] = &used{}
		}
		b.used[user].sum += now.Sub(b.since)
		b.used[user].last = now
	}
	b.charged, b.since = nil, now
	maps.DeleteFunc(b.used, func(_ id.UserID, u *used) bool { return now.Sub(u.last) >= Period })
}

// Begin says that somebody gets our picture without being seen, from the last Charge until the next.
func (b *Budgets) Begin(user id.UserID) {
	if !slices.Contains(b.charged, user) {
		b.charged = append(b.charged, user)
	}
}

// Seen gives somebody who is seen the whole budget again.
func (b *Budgets) Seen(user id.UserID) { delete(b.used, user) }

// Empty says whether somebody has used up their budget.
func (b *Budgets) Empty(user id.UserID) bool {
	if u := b.used[user]; u != nil {
		return u.sum >= PictureBudget
	}
	return len(b.used) >= MaxBudgets
}

// Wake calls at with the moments when somebody's budget is used up, or is there again.
func (b *Budgets) Wake(at func(time.Time)) {
	for _, user := range b.charged {
		if u := b.used[user]; u != nil {
			at(b.since.Add(PictureBudget - u.sum))
		} else {
			at(b.since.Add(PictureBudget))
		}
	}
	for user, u := range b.used {
		if b.Empty(user) || len(b.used) >= MaxBudgets {
			at(u.last.Add(Period))
		}
	}
}
