package track

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestTimeline(t *testing.T) {
	l := NewTimeline(90000)
	now := time.Unix(1000, 0)
	if got := l.Shift(now, 1, 5000); got != 5000 {
		t.Errorf("the first source is shifted to %d", got)
	}
	if got := l.Shift(now.Add(time.Second/30), 1, 8000); got != 8000 {
		t.Errorf("one source is not shifted by a constant: %d", got)
	}
	// Another source begins a second later, with an earlier clock.
	now = now.Add(time.Second/30 + time.Second)
	if got := l.Shift(now, 2, 7); got != 8000+90000+1 {
		t.Errorf("a new source begins at %d", got)
	}
	if got, ok := l.Shifted(2, 3007); !ok || got != 8000+90000+1+3000 {
		t.Errorf("its clock is %d, %v", got, ok)
	}
	if _, ok := l.Shifted(1, 3007); ok {
		t.Error("the source before still has a clock")
	}
	// Timestamps wrap around.
	if got := l.Shift(now, 2, 0xffffffff); got != 8000+90000+1-8 {
		t.Errorf("an earlier frame of the same source is at %d", got)
	}
}

// TestKeyFrameRequester makes a hundred requests in five seconds. Time is synctest's, so that no load of the machine changes it.
func TestKeyFrameRequester(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var mu sync.Mutex
		var asked []time.Duration
		k := KeyFrameRequester{Ask: func() {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, time.Since(begin))
		}}
		for range 100 {
			k.Request()
			<-time.After(50 * time.Millisecond)
		}
		<-time.After(time.Second)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		for i, at := range asked {
			if i > 0 && at-asked[i-1] < keyFrameInterval {
				t.Errorf("requests at %v and %v", asked[i-1], at)
			}
		}
		if len(asked) < 16 || len(asked) > 18 {
			t.Errorf("%d requests in five seconds", len(asked))
		}
		if last := asked[len(asked)-1]; last < 4950*time.Millisecond {
			t.Errorf("the last request was lost: %v", last)
		}
		k.Close()
		n := len(asked)
		mu.Unlock()
		k.Request()
		<-time.After(time.Second)
		mu.Lock()
		if len(asked) != n {
			t.Error("a closed requester asks")
		}
	})
}
