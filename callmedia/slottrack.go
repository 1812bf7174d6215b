package callmedia

import (
	"fmt"
	"sync"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"multifactorymodel.org/ewindow/callmedia/frames"
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
	capability := webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}
	if kind == Video {
		capability = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000}
	}
	track, err := webrtc.NewTrackLocalStaticRTP(capability, fmt.Sprintf("%s-%d", kind, slot), fmt.Sprintf("slot-%d", slot))
	if err != nil {
		return nil, err
	}
	t := &slotTrack{
		track: track, line: timeline{rate: kind.clockRate()},
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
		SSRC: t.ssrc, NTPTime: toNTP(t.clock), RTPTime: t.clockTime, PacketCount: t.packets, OctetCount: t.octets,
	}
}

// ntpEpoch is the NTP era's start, before the Unix epoch (RFC 5905), in seconds.
const ntpEpoch = 2208988800

// toNTP returns t as a 64-bit NTP timestamp.
func toNTP(t time.Time) uint64 {
	return uint64(t.Unix()+ntpEpoch)<<32 | uint64(t.Nanosecond())<<32/uint64(time.Second)
}

// fromNTP is the inverse of toNTP for the present era.
func fromNTP(v uint64) time.Time {
	return time.Unix(int64(v>>32)-ntpEpoch, int64((v&0xffffffff)*uint64(time.Second)>>32))
}
