package focus

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestSeats checks who may take a place at the SFU that is taken.
func TestSeats(t *testing.T) {
	key := seatKey{"room", "@window:a.example:KIOSK"}
	const soon, later = time.Millisecond, time.Minute
	for _, c := range []struct {
		name          string
		first, second issue
		// pings: the first client goes on sending. leaves: it goes after three seconds.
		pings, leaves bool
		taken         bool
		within        time.Duration
	}{
		{name: "another token while the first client is alive", first: issue{Login: "a"}, second: issue{Login: "b"}, pings: true, within: silenceLimit + time.Second},
		{name: "a token of somebody else", second: issue{}, pings: true, within: silenceLimit + time.Second},
		{name: "an OpenID token against a confirmed device", first: issue{Login: "a", Confirmed: true}, second: issue{Login: "b"}, pings: true, within: silenceLimit + time.Second},
		{name: "the same client again", first: issue{Login: "a"}, second: issue{Login: "a"}, pings: true, taken: true, within: soon},
		{name: "a confirmed device", first: issue{Login: "a"}, second: issue{Login: "b", Confirmed: true}, pings: true, taken: true, within: soon},
		{name: "a confirmed device again", first: issue{Login: "a", Confirmed: true}, second: issue{Login: "b", Confirmed: true}, pings: true, taken: true, within: soon},
		{name: "the first client leaves", first: issue{Login: "a"}, second: issue{Login: "b"}, leaves: true, taken: true, within: 3*time.Second + soon},
		{name: "the first client's network is gone", first: issue{Login: "a"}, second: issue{Login: "b"}, taken: true, within: silenceLimit + time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSeats()
				ctx, end := context.WithCancel(t.Context())
				defer end()
				first := s.take(ctx, key, c.first)
				if first == nil {
					t.Fatal("a free place can't be taken")
				}
				go func() {
					for c.pings && ctx.Err() == nil {
						<-time.After(5 * time.Second)
						first.heard.Store(int64(s.now()))
					}
				}()
				<-time.After(2 * time.Second)
				if c.leaves {
					time.AfterFunc(3*time.Second, func() { s.leave(key, first) })
				}
				begun := time.Now()
				second := s.take(ctx, key, c.second)
				if took := time.Since(begun); (second != nil) != c.taken || took > c.within {
					t.Errorf("taken: %v, after %v", second != nil, took)
				}
				if other := s.take(ctx, seatKey{"room", "@window:a.example:OTHER"}, issue{Login: "x"}); other == nil {
					t.Error("another place is taken, too")
				}
				if !c.leaves {
					s.leave(key, first)
				}
				if second != nil {
					s.leave(key, second)
				}
				if len(s.taken) != 1 || len(s.waiting) != 0 {
					t.Errorf("%d places stay taken, and %d are waited for", len(s.taken), len(s.waiting))
				}
				end()
				<-time.After(later)
			})
		})
	}
}

// TestSeatsBounds demands that few can wait for one place, and that a join that failed gives the place back to who has it.
func TestSeatsBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, key := newSeats(), seatKey{"room", "identity"}
		first := s.take(t.Context(), key, issue{Login: "a"})
		again := s.take(t.Context(), key, issue{Login: "a"})
		s.leave(key, again) // LiveKit has refused it
		ctx, end := context.WithCancel(t.Context())
		results := make(chan *seat, 100)
		for range cap(results) {
			go func() { results <- s.take(ctx, key, issue{Login: "b"}) }()
		}
		synctest.Wait()
		if len(results) != cap(results)-maxSeatWaiting {
			t.Errorf("%d were refused at once", len(results))
		}
		end()
		synctest.Wait()
		for range cap(results) {
			if <-results != nil {
				t.Error("the place was taken")
			}
		}
		s.leave(key, first)
		if len(s.taken)+len(s.waiting) != 0 {
			t.Errorf("something is kept: %v, %v", s.taken, s.waiting)
		}
	})
}
