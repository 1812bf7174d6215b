package window

import "time"

// PictureGrace is the five-second rule: nothing leaves our camera unless somebody else is seen. It is how long anything may be sent
// while the others are not seen yet, and how long their picture may stand still before it counts as gone (package bridge passes it
// to the media session for that) and ours stops.
const PictureGrace = 5 * time.Second

const (
	// Two sides that both stopped sending because they did not see each other would wait for ever. So each sends for
	// trialLength every trialEvery while the other announces an unmuted camera: the first one that is seen is answered. Nothing
	// that others do makes it more often.
	trialLength = 2 * time.Second
	trialEvery  = 10 * time.Second
	// A window that sees nothing of another one in as many trials in a row leaves the call and comes again: nobody is there who
	// could switch it off and on. Each time it makes twice as many, until they take five minutes.
	fewTrials = 2
	maxTrials = 32
)

// reciprocity decides, for one visit, when something may leave the camera though nobody is seen.
type reciprocity struct {
	until    time.Time // when permission without being seen ends
	next     time.Time // the next trial
	seeing   bool      // somebody was seen the last time
	seenOnce bool
	trials   int // since somebody was seen, or the visit began
	// unseen counts how often somebody was not seen, or not any more. Our key may be what they lack: it is sent again each time.
	unseen int
}

// begin allows sending for the first while, from the end of the countdown.
func (r *reciprocity) begin(now time.Time, c countdown) {
	r.until = later(now, c.ends).Add(PictureGrace)
	r.next = r.until.Add(trialEvery - trialLength)
}

// see takes that somebody is seen now.
func (r *reciprocity) see() { r.seenOnce, r.seeing, r.trials = true, true, 0 }

// lose takes that nobody is seen any more. The media side has waited for [PictureGrace] already, so sending ends at once.
func (r *reciprocity) lose(now time.Time) {
	r.seeing = false
	r.unseen++
	r.until, r.next = time.Time{}, now.Add(trialEvery)
}

// exhausted says that enough trials were in vain and the next one is due.
func (r *reciprocity) exhausted(now time.Time, restarts int) bool {
	return r.trials >= min(fewTrials<<min(restarts, 10), maxTrials) && !now.Before(r.next)
}

// try allows sending for a moment, if the last time was long enough ago.
func (r *reciprocity) try(now time.Time) {
	if now.Before(r.next) {
		return
	}
	r.unseen++
	r.trials++
	r.until = now.Add(trialLength)
	r.next = now.Add(trialEvery)
}

// trying says whether something may be sent though nobody is seen.
func (r *reciprocity) trying(now time.Time) bool { return now.Before(r.until) }

// advanceReciprocity brings what may be sent in the visit up to now. The trials before another window came (welcomed) say nothing about it.
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
