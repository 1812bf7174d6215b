package callmedia

import "time"

const (
	// lossPeriod is how long packets are counted until it is said how many of them are lost.
	lossPeriod = 2 * time.Second
	// fewPackets of sound say nothing about loss. There are 50 a second, but none in silence.
	fewPackets = 40
)

// heard counts the packets of a participant's sound.
type heard struct {
	from          *receiver
	since         time.Time
	packets, lost uint64 // at that time
	percent       int    // that were lost in the time before
}

// soundLost says how much of a participant's sound does not come in time, in per cent. It may be asked about nobody.
func (p *participant) soundLost(now time.Time) int {
	if p == nil || p.audio == nil {
		return 0
	}
	h, packets, lost := &p.heard, p.audio.packets.Load(), p.audio.lost.Load()
	if h.from == p.audio && now.Sub(h.since) < lossPeriod {
		return h.percent
	}
	percent := 0
	if came, gone := packets-h.packets, lost-h.lost; h.from == p.audio && came+gone >= fewPackets {
		percent = int(100 * gone / (came + gone))
	}
	*h = heard{p.audio, now, packets, lost, percent}
	return percent
}

// reportLoss tells our own end how much of our sound gets lost: on the way to the SFU, or on the way from there to the window where most of it does.
func (s *Session) reportLoss(now time.Time) {
	loss := 0.0
	if own := s.connections[s.cfg.Service]; own != nil && len(own.tracks) > 0 {
		loss = own.tracks[0].Lost()
	}
	s.forgetAsks(now)
	for _, a := range s.asks {
		loss = max(loss, float64(a.lost)/100)
	}
	if loss != s.loss {
		s.loss = loss
		s.cfg.Local.SetLoss(loss)
	}
}
