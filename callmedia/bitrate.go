package callmedia

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"
)

// Bitrates in bit/s.
const (
	// defaultBitrate is enough for 720p30 of people in a room.
	defaultBitrate = 1_700_000
	// minBitrate is the least that is asked of the page's encoder.
	minBitrate = 40_000
	// none is no limit.
	none = math.MaxInt32
	// smallBitrate is for the small picture. It is dropped when the bandwidth is below smallUntil, and sent again from smallFrom on.
	smallBitrate = 150_000
	smallFrom    = 600_000
	smallUntil   = 450_000
)

// A picture's packets have headers (RTP, SRTP, UDP, IP), and each frame of it is longer by what encryption adds. packetBits is what that takes in any
// case, in bit/s. Of the rest the encoder gets packetShare per cent.
const packetBits, packetShare = 15_000, 94

// paceFactor is how much faster than the encoder's limit packets may go, in per cent. A key frame takes several times as long as other frames.
const paceFactor = 130

// On a narrow line packets are shorter, so that there are about packetRate of them in a second: LiveKit says what arrived once 20 packets have. None is
// shorter than minPacket bytes.
const packetRate, minPacket = 60, 300

// A window tells the others every askEvery what its line carries of their picture, and at once when that has fallen. It is taken to be so for askTime.
const askEvery, askTime = 500 * time.Millisecond, 10 * time.Second

// setEstimate sets the estimated bandwidth of our picture to our own SFU in bit/s. The estimate is made on the sending side.
func (s *Session) setEstimate(bps int) {
	s.post(func() {
		s.estimate = bps
		s.limitBitrate()
	})
}

// ask is what a window wants of our picture at most.
type ask struct {
	bps  int // none: no limit
	slow bool
	lost int // of our sound, per cent
	at   time.Time
}

// takeAsk takes note of what somebody asks for. Only windows that are shown can ask: a picture is the same for all.
func (s *Session) takeAsk(identity string, bps int, slow bool, lost int, now time.Time) {
	if !slices.ContainsFunc(s.remotes, func(r Remote) bool { return r.Identity == identity && !r.Guest }) {
		return
	}
	s.asks[identity] = ask{cmp.Or(bps, none), slow, lost, now}
	s.limitBitrate()
}

// forgetAsks forgets what was asked too long ago, or by somebody who is not in the visit any more.
func (s *Session) forgetAsks(now time.Time) {
	maps.DeleteFunc(s.asks, func(identity string, a ask) bool {
		return now.Sub(a.at) > askTime || !slices.ContainsFunc(s.remotes, func(r Remote) bool { return r.Identity == identity })
	})
}

// asked returns what the windows in the visit ask for: the most that any of them can take, and the least. It is none when one of them has not asked.
func (s *Session) asked(now time.Time) (most, least int) {
	s.forgetAsks(now)
	most, least = 0, none
	for _, r := range s.remotes {
		a, ok := s.asks[r.Identity]
		if !ok {
			most = none
			continue
		}
		most, least = max(most, a.bps), min(least, a.bps)
	}
	if len(s.remotes) == 0 {
		most = none
	}
	return most, least
}

// encoded is how many bit/s an encoder may make when its packets may take bps, with all their headers.
func encoded(bps int) int {
	if bps == none {
		return none
	}
	return max(bps-packetBits, 0) / 100 * packetShare
}

// limitBitrate limits the page's encoders to the bandwidth, and stops an encoder whose picture nobody wants. Session.run calls it. Start also
// calls it, before Session.run begins.
func (s *Session) limitBitrate() {
	most, least := s.asked(time.Now())
	line := most
	if s.estimate >= 0 {
		line = min(line, s.estimate)
	}
	small := 0
	room := s.estimate < 0 || s.estimate >= smallFrom || s.smallLimit > 0 && s.estimate >= smallUntil
	wanted := slices.ContainsFunc(s.remotes, func(r Remote) bool { return r.Guest }) || least < most/2 && encoded(least) < s.cfg.MaxBitrate/2
	if (room || s.smallOnly) && wanted {
		small = smallBitrate
	}
	bps := max(min(encoded(line)-small, s.cfg.MaxBitrate), minBitrate)
	s.pace(bps, small)
	if s.smallOnly && small > 0 {
		bps = 0
	}
	// Changes of less than a twentieth are not worth a message.
	diff := bps - s.bitrate
	slight := diff*20 < s.bitrate && -diff*20 < s.bitrate && bps != s.cfg.MaxBitrate && bps > 0
	if small == s.smallLimit && (slight || diff == 0) {
		return
	}
	s.bitrate, s.smallLimit = bps, small
	s.cfg.Local.SetBitrate(bps, small)
}

// pace spreads pictures over time if the line is narrow: if it carries less than our largest picture, and was full before, or if another window's line
// does. On a good line that would only add delay.
func (s *Session) pace(bps, small int) {
	switch {
	case s.estimate >= 0 && encoded(s.estimate) >= s.cfg.MaxBitrate:
		s.narrow = false
	case s.estimate >= 0 && s.estimate < s.highest:
		s.narrow = true
	}
	s.highest = max(s.highest, s.estimate)
	rate, size := 0, 0
	if bps < s.cfg.MaxBitrate && (s.narrow || s.asksLittle()) {
		rate = (bps + small) * paceFactor / 100
		size = max((bps+small)/8/packetRate, minPacket)
	}
	s.packetSize.Store(int32(size))
	if c := s.connections[s.cfg.Service]; c != nil && c.room != nil {
		c.room.SetPace(rate)
	}
}

// asksLittle says whether a window asks for less than our largest picture.
func (s *Session) asksLittle() bool {
	for _, a := range s.asks {
		if encoded(a.bps) < s.cfg.MaxBitrate {
			return true
		}
	}
	return false
}

// askOthers tells the windows whose picture we show what our line carries of it, and takes note of that for the next session. Session.run calls it ten
// times a second.
func (s *Session) askOthers(now time.Time) {
	own := s.connections[s.cfg.Service]
	if own == nil || own.room == nil {
		return
	}
	maps.DeleteFunc(s.told, func(_ string, told ask) bool { return now.Sub(told.at) > askTime })
	here := s.slowNow(slowBelow) == SlowHere
	for _, r := range s.remotes {
		p, c := s.participants[r.Identity], s.connections[r.Service]
		if r.Guest || c == nil || c.room == nil {
			continue
		}
		trackSID := "" // what is known from earlier visits counts before the picture comes
		if p != nil && p.video != nil {
			trackSID = p.video.trackSID
		}
		_, bps := c.room.Downlink(trackSID)
		lost := p.soundLost(now)
		last, before := s.told[r.Identity]
		if bps == 0 && !here && !last.slow && lost == 0 && last.lost == 0 || before && now.Sub(last.at) < askEvery && bps*20 > last.bps*19 && here == last.slow {
			continue
		}
		s.told[r.Identity] = ask{bps, here, lost, now}
		own.room.AskBitrate(r.Identity, bps, here, lost)
	}
	up, down := 0, 0
	if s.narrow {
		up = s.estimate
	}
	for _, c := range s.connections {
		if c.room != nil && down == 0 {
			down, _ = c.room.Downlink("")
		}
	}
	s.cfg.Line.note(now, up, down)
}
