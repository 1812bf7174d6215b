package window

import (
	"slices"
	"time"

	"maunium.net/go/mautrix/id"
)

const (
	// RingTime is how long the window's people are rung. ringBackoff is the least time from one start of ringing to the next.
	RingTime    = time.Minute
	ringBackoff = time.Minute
	// ringNoteTime is how long the screen shows the result.
	ringNoteTime = 20 * time.Second
)

// RingStatus is the state or the result of ringing the window's people, as the page's protocol spells it.
type RingStatus string

// The states and results of ringing the window's people.
const (
	RingOn       RingStatus = "ringing"
	RingNobody   RingStatus = "nobody"
	RingDeclined RingStatus = "declined"
	RingFailed   RingStatus = "failed"
	RingNoPeople RingStatus = "no_people"
)

// ringing is the state of ringing the window's people. The window enters its own room's call and waits there for them.
type ringing struct {
	now       *ring // nil while nobody is rung
	count     uint64
	again     time.Time  // when they may be rung again
	note      RingStatus // the result of the last ring, shown until noteUntil
	noteUntil time.Time
}

type ring struct {
	number       uint64
	until        time.Time
	notification id.EventID // ours (MSC4075), "" until it is sent
	asked        int        // how many people it rings
	declined     []id.UserID
}

func (g *ringing) on() bool { return g.now != nil }

// start begins to ring people.
func (g *ringing) start(now time.Time) {
	g.count++
	g.now = &ring{number: g.count, until: now.Add(RingTime)}
	g.again = now.Add(ringBackoff)
	g.note = ""
}

// end ends ringing. The screen shows the note, if there is one.
func (g *ringing) end(now time.Time, note RingStatus) {
	g.now = nil
	g.note, g.noteUntil = note, now.Add(ringNoteTime)
}

// forget ends ringing without a note.
func (g *ringing) forget() { g.now, g.note = nil, "" }

// allDeclined says whether everybody who was rung has declined.
func (g *ring) allDeclined() bool { return g.asked > 0 && len(g.declined) >= g.asked }

// canRing says whether ringing may begin. It may not begin while somebody is in our room's call: nobody at the window has let them in, and
// they would see the person who rings.
func (r *Rules) canRing(now time.Time) bool {
	if len(r.callers()) > 0 {
		return false
	}
	return !r.ringing.on() && r.visit == nil && r.usable(now) && r.homeserverDownSince.IsZero() && r.knocks.waiting() == nil &&
		!now.Before(r.ringing.again)
}

// StartRinging begins to ring the window's people, if that is possible now.
func (r *Rules) StartRinging(now time.Time) {
	if r.canRing(now) {
		r.ringing.start(now)
		r.backoffs.Forget(r.own) // a person wants this call, so it need not wait
	}
}

// StopRinging ends ringing. Somebody at the window has cancelled it.
func (r *Rules) StopRinging(now time.Time) { r.endRinging(now, "") }

// endRinging ends ringing, and leaves the call if nobody has come into it.
func (r *Rules) endRinging(now time.Time, note RingStatus) {
	if !r.ringing.on() {
		return
	}
	r.ringing.end(now, note)
	if r.visit != nil && r.visit.room == r.own && r.visit.alone {
		r.visit = nil
	}
}

// Rang reports the result of sending the notification of a ring. number is [Ring.Number] of the plan, and asked is how many people the
// notification rings.
func (r *Rules) Rang(now time.Time, number uint64, notification id.EventID, asked int, err error) {
	g := r.ringing.now
	switch {
	case g == nil || g.number != number:
	case err != nil:
		r.endRinging(now, RingFailed)
	case asked == 0:
		r.endRinging(now, RingNoPeople)
	default:
		g.notification, g.asked = notification, asked
	}
}

// RingDecline reports that a person declined our notification (MSC4310) and does not come.
func (r *Rules) RingDecline(room id.RoomID, sender id.UserID, notification id.EventID) {
	g := r.ringing.now
	if g == nil || room != r.own || g.notification != "" && g.notification != notification || slices.Contains(g.declined, sender) ||
		len(g.declined) >= maxNamed {
		return
	}
	g.declined = append(g.declined, sender)
}

// advanceRinging brings the ringing up to now.
func (r *Rules) advanceRinging(now time.Time) {
	if r.ringing.note != "" && !now.Before(r.ringing.noteUntil) {
		r.ringing.note = ""
	}
	g, v := r.ringing.now, r.visit
	if g == nil {
		return
	}
	if v != nil && v.room == r.own {
		if _, came := r.caller(); came {
			// Somebody came, so the countdown begins now.
			r.ringing.now = nil
			v.started, v.countdown = now, countdown{now.Add(r.countdown)}
			return
		}
	}
	switch {
	case !r.usable(now) || v != nil && v.room != r.own:
		r.endRinging(now, "")
	case r.backoffs.Waits(now, r.own) || !r.homeserverDownSince.IsZero():
		r.endRinging(now, RingFailed)
	case g.allDeclined():
		r.endRinging(now, RingDeclined)
	case !now.Before(g.until):
		r.endRinging(now, RingNobody)
	}
}
