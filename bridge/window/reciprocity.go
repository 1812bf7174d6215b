package window

import "time"

// PictureGrace is the time of the five-second rule. The rule is: the window sends nothing unless somebody else is seen. PictureGrace is how
// long the window may send at the beginning, while the others are not seen yet. It is also how long their picture may stand still before it
// counts as gone and ours stops; for that, the program passes PictureGrace to the media session.
const PictureGrace = 5 * time.Second

const (
	// Two sides that both stopped sending because they did not see each other would wait for ever. So each side makes trials: it
	// sends for trialLength every trialEvery while the other side announces an unmuted camera. A side that sees the other one sends all
	// the time. Nothing that others do makes trials more frequent.
	trialLength = 2 * time.Second
	trialEvery  = 10 * time.Second
	// A window that sees nothing of another window in fewTrials trials leaves the call and enters it again, because there may be nobody
	// at the window who could restart it. Each time it first makes twice as many trials, up to maxTrials, which take five minutes.
	fewTrials = 2
	maxTrials = 32
)

// reciprocity decides, for one visit, when the window may send although nobody is seen.
type reciprocity struct {
	until    time.Time // until when the window may send although nobody is seen
	next     time.Time // the next trial
	seeing   bool      // somebody was seen the last time
	seenOnce bool
	owed     bool // somebody was seen since the last trial for a window that came back
	trials   int  // since somebody was seen, or the visit began
	// unseen counts how often nobody was seen for a while. The others may lack our media key, so the key is sent again each time.
	unseen int
}

// begin allows sending for [PictureGrace], from the end of the countdown or, if the countdown has ended, from now.
func (r *reciprocity) begin(now time.Time, c countdown) {
	r.until = later(now, c.ends).Add(PictureGrace)
	r.next = r.until.Add(trialEvery - trialLength)
}

// see notes that somebody is seen now.
func (r *reciprocity) see() { r.seenOnce, r.owed, r.seeing, r.trials = true, true, true, 0 }

// lose notes that nobody is seen any more. The media side has waited for [PictureGrace] already, so sending ends at once.
func (r *reciprocity) lose(now time.Time) {
	r.seeing = false
	r.unseen++
	r.until, r.next = time.Time{}, now.Add(trialEvery)
}

// welcome brings the next trial forward for a window that has come back into the call. It does so once, until somebody is seen again.
func (r *reciprocity) welcome(now time.Time) {
	if r.owed && now.Before(r.next) {
		r.owed, r.trials, r.next = false, 0, now
	}
}

// exhausted says that enough trials were in vain and the next one is due.
func (r *reciprocity) exhausted(now time.Time, restarts int) bool {
	return r.trials >= min(fewTrials<<min(restarts, 10), maxTrials) && !now.Before(r.next)
}

// try begins a trial if the next one is due.
func (r *reciprocity) try(now time.Time) {
	if now.Before(r.next) {
		return
	}
	r.unseen++
	r.trials++
	r.until = now.Add(trialLength)
	r.next = now.Add(trialEvery)
}

// trying says whether the window may send although nobody is seen.
func (r *reciprocity) trying(now time.Time) bool { return now.Before(r.until) }

// advanceReciprocity decides what may be sent in the visit now. welcomed says that the other window has just come, so earlier trials do not
// count against it.
func (r *Rules) advanceReciprocity(now time.Time, v *visit, welcomed bool) {
	switch {
	case v.picture():
		v.reciprocity.see()
		r.restarts = 0
	case v.reciprocity.seeing:
		v.reciprocity.lose(now)
	case v.waiting() && !v.countdown.running(now):
		v.stuck = v.peerPresent && !welcomed && v.reciprocity.exhausted(now, r.restarts)
		v.reciprocity.try(now)
	}
}
