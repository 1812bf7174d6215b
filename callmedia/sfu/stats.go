package sfu

import (
	"sync/atomic"
	"time"
)

// counters are the counters in Stats that do not belong to a track.
type counters struct {
	keyFramesAsked atomic.Uint64
	unknownSignals atomic.Uint64
	stray          atomic.Uint64
	refused        atomic.Uint64
	badRTCP        atomic.Uint64
	otherData      atomic.Uint64
}

// Stats are counters since the room was joined, except where a field says otherwise.
type Stats struct {
	RTT             time.Duration // of signalling, the newest; 0 when not yet known
	Bitrate         int           // newest send-side estimate, bit/s; 0 when nothing is published
	FractionLost    float64       // worst of our tracks in the last receiver reports, 0 to 1
	PacketsSent     uint64        // RTP, without retransmissions
	BytesSent       uint64        // RTP payload
	NACKsReceived   uint64        // RTCP messages that ask for retransmission
	KeyFramesWanted uint64        // PLI and FIR received
	KeyFramesAsked  uint64        // PLI sent
	UnknownSignals  uint64        // signalling messages of unknown kinds
	StraySignals    uint64        // answers, candidates and tracks that nothing was waiting for
	Refused         uint64        // participants, tracks and candidates above the bounds
	BadRTCP         uint64        // RTCP that could not be read or used
	OtherData       uint64        // data messages that are not ours, or came too often
	Downlink        int           // newest estimate of what the line from the SFU carries, bit/s; 0 while it has carried everything
}

// Stats returns the counters. It may be called from any goroutine, also after the room has ended.
func (r *Room) Stats() Stats {
	s := Stats{
		RTT: time.Duration(r.rtt.Load()), KeyFramesAsked: r.counters.keyFramesAsked.Load(), UnknownSignals: r.counters.unknownSignals.Load(),
		StraySignals: r.counters.stray.Load(), Refused: r.counters.refused.Load(), BadRTCP: r.counters.badRTCP.Load(), OtherData: r.counters.otherData.Load(),
	}
	if r.publisher != nil {
		s.Bitrate = r.up.BPS()
	}
	s.Downlink, _ = r.down.Estimate(0)
	for _, t := range r.tracks() {
		for _, l := range t.Layers {
			s.PacketsSent += l.packets.Load()
			s.BytesSent += l.octets.Load()
		}
		s.NACKsReceived += t.nacks.Load()
		s.KeyFramesWanted += t.keyAsked.Load()
		s.FractionLost = max(s.FractionLost, t.Lost())
	}
	return s
}
