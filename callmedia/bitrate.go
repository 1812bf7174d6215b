package callmedia

import "slices"

// Bitrates in bit/s.
const (
	// defaultBitrate is enough for 720p30 of people in a room.
	defaultBitrate = 1_700_000
	// minBitrate is the least that is asked of the page's encoder.
	minBitrate = 100_000
	// audioBitrate is the part of the estimated bandwidth that is kept for sound.
	audioBitrate = 48_000
	// smallBitrate is for the small picture. It is dropped when the bandwidth is below smallUntil, and sent again from smallFrom on.
	smallBitrate = 150_000
	smallFrom    = 600_000
	smallUntil   = 450_000
)

// setEstimate sets the estimated bandwidth of the connection to our own SFU in bit/s. The estimate is made on the sending side.
func (s *Session) setEstimate(bps int) {
	s.post(func() {
		s.estimate = bps
		s.limitBitrate()
	})
}

// limitBitrate limits the page's encoders to the bandwidth, and stops an encoder whose picture nobody wants. Session.run calls it. Start also
// calls it, before Session.run begins.
func (s *Session) limitBitrate() {
	small := 0
	room := s.estimate < 0 || s.estimate >= smallFrom || s.smallLimit > 0 && s.estimate >= smallUntil
	if (room || s.smallOnly) && slices.ContainsFunc(s.remotes, func(r Remote) bool { return r.Guest }) {
		small = smallBitrate
	}
	bps := s.cfg.MaxBitrate
	if s.estimate >= 0 {
		bps = max(min(s.estimate-audioBitrate-small, s.cfg.MaxBitrate), minBitrate)
	}
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
