package window

import (
	"testing"
	"time"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bridge/window/redial"
)

func TestLost(t *testing.T) {
	far := windowOf(munich, directory.Open, epoch.Add(-time.Hour))
	visit := func() *bench {
		b := newBench(t, far)
		b.arrive(munich, kioskIn(munich))
		b.step(testCountdown)
		b.picture(kioskIn(munich), true)
		b.want(munich, munich, "visit")
		return b
	}
	t.Run("picture comes back", func(t *testing.T) {
		b := visit()
		b.picture(kioskIn(munich), false)
		b.want(munich, munich, "lost")
		at := b.now
		b.step(time.Minute)
		if b.last.View.Since != at {
			t.Errorf("lost since %v", b.last.View.Since.Sub(at))
		}
		b.step(10 * time.Minute) // they are still in the call, so ours goes on, too
		b.want(munich, munich, "lost")
		b.picture(kioskIn(munich), true)
		b.want(munich, munich, "visit")
	})
	t.Run("they vanish", func(t *testing.T) {
		b := visit()
		b.m.SetMembers(munich, nil)
		b.step(answerWait)
		b.want("", "", "lost")
		b.step(redial.First)
		b.want(munich, munich, "lost") // and they are called again
		b.arrive(munich, kioskIn(munich))
		b.step(testCountdown)
		b.picture(kioskIn(munich), true)
		b.want(munich, munich, "visit")
	})
	t.Run("they never come back", func(t *testing.T) {
		b := visit()
		b.m.SetMembers(munich, nil)
		b.step(lostLimit + answerWait)
		for b.last.Room != "" {
			b.step(time.Second)
		}
		b.want("", "", "alone")
	})
	t.Run("they shut", func(t *testing.T) {
		b := visit()
		b.m.SetDirectory(dresden, true, []directory.Window{windowOf(munich, directory.Shut, b.now)})
		b.step(0)
		b.want("", "", "alone")
		if b.last.Send {
			t.Error("goes on sending")
		}
	})
	t.Run("they turn away", func(t *testing.T) {
		b := visit()
		far := far
		far.Facing = bolzano
		b.m.SetDirectory(dresden, true, []directory.Window{far})
		b.step(0)
		if b.last.Room != "" || b.last.Send {
			t.Errorf("stays in %q", b.last.Room)
		}
	})
	t.Run("they are removed", func(t *testing.T) {
		b := visit()
		b.m.SetDirectory(dresden, true, nil)
		b.step(0)
		b.want("", "", "alone")
	})
	t.Run("our guest of a window leaves and it shuts", func(t *testing.T) {
		b := newBench(t, windowOf(munich, directory.Open, epoch.Add(time.Second)))
		b.arrive(dresden, kioskIn(munich))
		b.step(testCountdown)
		b.picture(kioskIn(munich), true)
		b.want(dresden, munich, "visit")
		b.m.SetDirectory(dresden, true, []directory.Window{windowOf(munich, directory.Shut, b.now)})
		b.arrive(dresden)
		b.want("", "", "alone")
	})
	t.Run("our guest of a window vanishes", func(t *testing.T) {
		b := newBench(t, windowOf(munich, directory.Open, epoch.Add(time.Second)))
		b.arrive(dresden, kioskIn(munich))
		b.step(testCountdown)
		b.picture(kioskIn(munich), true)
		b.arrive(dresden)
		b.want(dresden, munich, "lost")
		b.step(emptyGrace - time.Millisecond)
		b.want(dresden, munich, "lost")
		b.step(time.Millisecond)
		b.want("", "", "lost")
		b.step(lostLimit)
		b.want("", "", "alone")
	})
}

// TestBeginsAgain: another window is there and announces a picture that never comes. The visit begins again after half a minute, and after
// that less and less often.
func TestBeginsAgain(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(-time.Hour)))
	other := kioskIn(munich)
	b.arrive(munich, other)
	b.step(testCountdown)
	b.picture(other, true)
	b.picture(other, false)
	var after []time.Duration
	begun, visit := b.now, b.last.Visit
	for b.now.Sub(begun) < 15*time.Minute {
		b.step(time.Second)
		if b.last.Visit == visit {
			continue
		}
		visit = b.last.Visit
		after = append(after, b.now.Sub(begun))
		b.want(munich, munich, "lost")
		b.arrive(munich, other)
	}
	if len(after) < 4 || len(after) > 6 || after[0] > 35*time.Second || after[1]-after[0] < 40*time.Second || after[3]-after[2] < 2*time.Minute {
		t.Errorf("the visit began again after %v", after)
	}
	b.picture(other, true)
	b.want(munich, munich, "visit")
	b.picture(other, false)
	if b.step(35 * time.Second); b.last.Visit == visit {
		t.Error("seen once, the other window counts as one that never was")
	}

	// A guest who is never seen may lack our key. That is no reason to begin again.
	b = newBench(t)
	guest := memberOf("@anna:elsewhere.example")
	b.arrive(dresden, guest)
	visit = b.last.Visit
	if b.step(15 * time.Minute); b.last.Visit != visit || b.last.Room != dresden {
		t.Errorf("a guest who is not seen: visit %d in %q, then %d", visit, b.last.Room, b.last.Visit)
	}
}

func TestHubLost(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(-time.Hour)))
	b.arrive(munich, kioskIn(munich))
	b.step(testCountdown)
	b.m.visit.focusLost(b.now)
	b.step(0)
	b.want(munich, munich, "lost")
	if b.last.View.Fault != "hub" {
		t.Errorf("fault %q", b.last.View.Fault)
	}
	b.step(time.Hour)
	b.want(munich, munich, "lost") // it tries for ever
	b.m.visit.focusConnected(b.now)
	b.picture(kioskIn(munich), true)
	b.want(munich, munich, "visit")
}
