package callmedia

import (
	"sync"
	"time"
)

// udpMemory is for how long media go over TCP after UDP did not get through.
const udpMemory = time.Hour

// lineMemory is how long a line is taken to carry what it carried. If it carries more by then, that is found out within seconds.
const lineMemory = 12 * time.Hour

// Line is what the sessions of a window have found out about the line that they all use. Each session begins with what the one before ended with. The
// zero value knows nothing. Its methods may be called from any goroutine.
type Line struct {
	mu       sync.Mutex // guards what follows
	up, down int        // bit/s
	at       time.Time
	udpLost  time.Time // when UDP was found not to get through
}

// known returns what the line carried, in bit/s; 0 when that is not known.
func (l *Line) known(now time.Time) (up, down int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.at) > lineMemory {
		return 0, 0
	}
	return l.up, l.down
}

// note takes note of what the line carries; 0 means that it carries all that is needed.
func (l *Line) note(now time.Time, up, down int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.up, l.down, l.at = up, down, now
}

// avoidUDP says whether media have to go over TCP.
func (l *Line) avoidUDP(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return now.Sub(l.udpLost) < udpMemory
}

// forget is for when the connection was lost. What it carried in the end says nothing of the line.
func (l *Line) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.up, l.down = 0, 0
}

// setUDP takes note of whether UDP gets through.
func (l *Line) setUDP(now time.Time, works bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if works {
		now = time.Time{}
	}
	l.udpLost = now
}

// lineReport is how often the log says how the line is.
const lineReport = time.Minute

// logLine writes one line about both directions of the line into the log, with what happened since the line before. Session.run calls it.
func (s *Session) logLine(passed time.Duration) {
	c := s.connections[s.cfg.Service]
	if c == nil || c.room == nil {
		return
	}
	now, before := s.counters.Stats(), s.logged
	s.logged = now
	since := func(now, before uint64) uint64 { return now - min(before, now) }
	rate := func(now, before uint64) int { return int(float64(8*since(now, before)) / passed.Seconds() / 1000) }
	most, _ := s.asked(time.Now())
	event := s.cfg.Log.Info().Dur("round_trip", now.SFU.RTT).
		Int("up_estimate", now.SFU.Bitrate/1000).Int("up_sent", rate(now.BytesSent, before.BytesSent)).Int("up_limit", s.bitrate/1000).Int("up_small", s.smallLimit/1000).
		Float64("up_lost", now.SFU.FractionLost).Uint64("up_asked_again", since(now.SFU.NACKsReceived, before.SFU.NACKsReceived)).
		Int("down_estimate", now.SFU.Downlink/1000).Int("down_received", rate(now.BytesReceived, before.BytesReceived)).
		Uint64("down_lost", since(now.PacketsLost, before.PacketsLost)).Uint64("key_frames_asked", since(now.KeyFramesAsked, before.KeyFramesAsked))
	if most != none {
		event = event.Int("others_take", most/1000)
	}
	event.Msg("The line, in kbit/s")
}

// Slow says where the line of a visit is slow, for the people there.
type Slow string

const (
	// NotSlow: nowhere.
	NotSlow Slow = ""
	// SlowHere: our own line is.
	SlowHere Slow = "here"
	// SlowThere: that of another window is.
	SlowThere Slow = "there"
)

// A line is slow when a picture gets less than slowBelow bit/s, and no longer when it gets more than slowUntil, each for slowTime. So the sign on the
// screen does not come and go.
const (
	slowBelow = 600_000
	slowUntil = 900_000
	slowTime  = 5 * time.Second
)

// slowNow says where the line is slow at this moment, if a picture gets less than limit bit/s there. What comes here has come over both lines. So a
// window that finds its own line slow on the way out says so, and the others believe it.
func (s *Session) slowNow(limit int) Slow {
	if s.narrow && encoded(s.estimate) < limit {
		return SlowHere
	}
	for _, a := range s.asks {
		if a.slow {
			return SlowThere
		}
	}
	for _, told := range s.told {
		if told.bps > 0 && encoded(told.bps) < limit {
			return SlowHere
		}
	}
	return NotSlow
}

// checkSlow emits LineChanged when another line is slow than before. Session.run calls it a few times a second.
func (s *Session) checkSlow(now time.Time) {
	limit := slowBelow
	if s.slow == SlowHere {
		limit = slowUntil
	}
	is := s.slowNow(limit)
	if is == s.slow {
		s.slowSince = now
		return
	}
	if now.Sub(s.slowSince) < slowTime {
		return
	}
	s.slow, s.slowSince = is, now
	s.cfg.OnEvent(SessionEvent{Kind: LineChanged, Slow: is})
}
