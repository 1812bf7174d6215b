package callmedia

import (
	"fmt"
	"sync"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"multifactorymodel.org/ewindow/callmedia/frames"
	"multifactorymodel.org/ewindow/callmedia/peerconnection"
)

// clockAge is how old a sender's clock may be to be passed on: senders report every few seconds.
const clockAge = 30 * time.Second

// slotTrack is one outgoing track of the page's peer connection. Its source changes with the participant it shows.
type slotTrack struct {
	track *webrtc.TrackLocalStaticRTP
	ssrc  uint32

	write func(*rtp.Packet) error // emit, made once since a method value is allocated

	mu         sync.Mutex // guards what follows
	packetizer *frames.Packetizer
	line       timeline
	packets    uint32
	octets     uint32
	active     bool      // something was sent since the last report
	clock      time.Time // the sender's, which clockTime stands for; zero when unknown
	clockTime  uint32
	clockSet   time.Time
}

func newSlotTrack(slot int, kind Kind) (*slotTrack, error) {
	track, err := webrtc.NewTrackLocalStaticRTP(peerconnection.Capability(kind.codec()), fmt.Sprintf("%s-%d", kind, slot), fmt.Sprintf("slot-%d", slot))
	if err != nil {
		return nil, err
	}
	t := &slotTrack{
		track: track, line: timeline{rate: kind.codec().Parameters().ClockRate},
		// SSRC and payload type are filled in by the track.
		packetizer: frames.NewPacketizer(kind.codec(), 0, 0, 0, frames.RandomSeed()),
	}
	t.write = t.emit
	return t, nil
}

func (t *slotTrack) show(now time.Time, source Source, timestamp uint32, data []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if source != t.line.source {
		t.clock = time.Time{}
	}
	_ = t.packetizer.Packetize(data, t.line.shift(now, source, timestamp), t.write)
	t.active = true
}

func (t *slotTrack) emit(p *rtp.Packet) error {
	t.packets++
	t.octets += uint32(len(p.Payload))
	return t.track.WriteRTP(p)
}

func (t *slotTrack) setClock(source Source, ntp time.Time, timestamp uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if shifted, ok := t.line.shifted(source, timestamp); ok {
		t.clock, t.clockTime, t.clockSet = ntp, shifted, time.Now()
	}
}

// report returns a sender report, or nil when there is nothing to say.
func (t *slotTrack) report(now time.Time) *rtcp.SenderReport {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.active || t.clock.IsZero() || now.Sub(t.clockSet) > clockAge {
		return nil
	}
	t.active = false
	return &rtcp.SenderReport{
		SSRC: t.ssrc, NTPTime: peerconnection.NTP(t.clock), RTPTime: t.clockTime, PacketCount: t.packets, OctetCount: t.octets,
	}
}
