package window

import (
	"testing"
	"time"
)

// TestTrials: while nobody is seen, something may be sent for some seconds after the countdown, and then for a moment now and then.
func TestTrials(t *testing.T) {
	var r reciprocity
	now := epoch
	c := countdown{now.Add(testCountdown)}
	r.begin(now, c)
	if !r.trying(c.ends.Add(PictureGrace-1)) || r.trying(c.ends.Add(PictureGrace)) {
		t.Errorf("the first while does not end %v after the countdown", PictureGrace)
	}
	for now = c.ends.Add(PictureGrace); r.trials < 3; now = now.Add(100 * time.Millisecond) {
		before := r.trials
		if r.try(now); r.trials == before {
			continue
		}
		if !r.trying(now.Add(trialLength-1)) || r.trying(now.Add(trialLength)) {
			t.Errorf("trial %d is not %v long", r.trials, trialLength)
		}
		if r.try(now.Add(trialEvery - 1)); r.trials != before+1 {
			t.Errorf("trials %d and %d are less than %v apart", before, before+1, trialEvery)
		}
	}
	if r.unseen != 3 {
		t.Errorf("our key is sent %d times in 3 trials", r.unseen)
	}
	if !r.exhausted(now.Add(trialEvery), 0) || r.exhausted(now.Add(trialEvery), 1) || r.exhausted(now, 0) {
		t.Error("3 trials are to be enough for a first time, but not for a second one, and not before the next is due")
	}
	r.see()
	if r.trials != 0 || !r.seenOnce {
		t.Error("being seen does not end the trials")
	}
	if r.lose(now); r.trying(now) || r.unseen != 4 {
		t.Error("something may be sent after a picture was lost, or our key is not sent again")
	}
	if r.try(now.Add(trialEvery - 1)); r.trials != 0 {
		t.Error("a trial comes too soon after a picture was lost")
	}
}
