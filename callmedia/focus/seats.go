package focus

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// silenceLimit is how long a client may be silent before another one may take its place. LiveKit's clients send a ping every five seconds.
	silenceLimit = 7 * time.Second
	// settleTime is how long what a client has sent may still be under way when its network is gone.
	settleTime = time.Second
	// seatPoll is how often somebody who waits for a place looks again.
	seatPoll = 100 * time.Millisecond
	// maxSeatWaiting is how many may wait for one place.
	maxSeatWaiting = 4
)

// seatKey is a participant's place at the SFU.
type seatKey struct{ room, identity string }

// seat is a signalling connection of a participant.
type seat struct {
	issue
	heard atomic.Int64  // when the client sent something last, in nanoseconds since the seats were made
	gone  chan struct{} // closed when the connection has ended
}

// seats knows who is connected, so that nobody takes a place that somebody else has. LiveKit itself throws out the older participant of two with
// the same identity. A service that our users have given an OpenID token to could get a token with their identity from us, and throw them out again and
// again.
//
// Three may take a place that is taken: the same client again, which shows a token of the same login; a device that its homeserver has
// confirmed; and anybody once the client who has it is silent. A client that comes back after its network has changed mostly has the same login. If not,
// it waits for silenceLimit at most, which is less than clients wait for an SFU.
type seats struct {
	begin time.Time

	mu      sync.Mutex // guards what follows
	taken   map[seatKey][]*seat
	waiting map[seatKey]int
}

func newSeats() *seats {
	return &seats{begin: time.Now(), taken: make(map[seatKey][]*seat), waiting: make(map[seatKey]int)}
}

// take waits until a place is free for somebody, and takes it. It returns nil if it is not: its client has shown a sign of life, ctx has ended,
// or too many wait. After success, leave must be called.
func (s *seats) take(ctx context.Context, key seatKey, how issue) *seat {
	begun := s.now()
	waits := false
	defer func() {
		if waits {
			s.wait(key, -1)
		}
	}()
	ticker := time.NewTicker(seatPoll)
	defer ticker.Stop()
	for {
		mine, other := s.try(key, how)
		switch {
		case mine != nil:
			return mine
		case time.Duration(other.heard.Load()) > begun+settleTime:
			return nil
		case !waits && !s.wait(key, +1):
			return nil
		}
		waits = true
		select {
		case <-other.gone:
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// wait counts who waits for a place. It returns false if there are too many.
func (s *seats) wait(key seatKey, n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting[key]+n > maxSeatWaiting {
		return false
	}
	if s.waiting[key] += n; s.waiting[key] == 0 {
		delete(s.waiting, key)
	}
	return true
}

// try takes a place, or returns whose it is.
func (s *seats) try(key seatKey, how issue) (mine, other *seat) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.taken[key]
	if len(list) > 0 {
		// The newest has the place. The others are being thrown out.
		other = list[len(list)-1]
		same := how.Login != "" && how.Login == other.Login
		if silent := s.now()-time.Duration(other.heard.Load()) > silenceLimit; !same && !how.Confirmed && !silent {
			return nil, other
		}
	}
	mine = &seat{issue: how, gone: make(chan struct{})}
	mine.heard.Store(int64(s.now()))
	s.taken[key] = append(list, mine)
	return mine, nil
}

// leave frees the place of a connection that has ended.
func (s *seats) leave(key seatKey, mine *seat) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.DeleteFunc(s.taken[key], func(other *seat) bool { return other == mine })
	if s.taken[key] = list; len(list) == 0 {
		delete(s.taken, key)
	}
	close(mine.gone)
}

func (s *seats) now() time.Duration { return time.Since(s.begin) }

// any says whether there is a client whose token matches.
func (s *seats) any(match func(issue) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, list := range s.taken {
		if slices.ContainsFunc(list, func(taken *seat) bool { return match(taken.issue) }) {
			return true
		}
	}
	return false
}

// hear notes a sign of life.
func (s *seats) hear(mine *seat) { mine.heard.Store(int64(s.now())) }
