package window

import (
	"time"

	"maunium.net/go/mautrix/id"
)

// Comparison is emoji that people at the window compare with those of somebody's Element (m.sas.v1). If they are the same, nobody between the two has
// exchanged keys.
type Comparison struct {
	// ID is for [Rules.AnswerComparison].
	ID uint64
	// Who is the other person, an admin of the network.
	Who Person
	// Symbols are the seven emoji, and Names are their English names.
	Symbols, Names []string
}

// comparing is the comparison that waits for an answer.
type comparing struct {
	now   *Comparison // nil for none
	count uint64
	since time.Time // since when it is on the screen, zero while it is not
}

// SetComparison reports emoji that are to be compared with a user's.
func (r *Rules) SetComparison(user id.UserID, symbols, names []string) {
	r.comparing.count++
	r.comparing.now = &Comparison{r.comparing.count, r.windows.person(user), symbols, names}
	r.comparing.since = time.Time{}
}

// EndComparison reports that there is nothing to be compared any more.
func (r *Rules) EndComparison() { r.comparing.now = nil }

// compares says whether a comparison is on the screen. It waits while somebody is there, or wants in. It does not need an open window.
func (r *Rules) compares() bool {
	return r.comparing.now != nil && r.visit == nil && !r.knockedAjar()
}

// advanceComparison notes since when a comparison is on the screen.
func (r *Rules) advanceComparison(now time.Time) {
	switch {
	case !r.compares():
		r.comparing.since = time.Time{}
	case r.comparing.since.IsZero():
		r.comparing.since = now
	}
}

// AnswerComparison reports whether people see the same. Like a knock, the emoji must have been shown for a moment.
func (r *Rules) AnswerComparison(now time.Time, comparison uint64, same bool) {
	c := &r.comparing
	if !r.compares() || c.now.ID != comparison || c.since.IsZero() || now.Sub(c.since) < knockGuard {
		return
	}
	c.now = nil
	r.outbox.add(Message{Compared: &same})
}
