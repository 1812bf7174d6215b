package page

import (
	"sync"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/frames"
	"multifactorymodel.org/ewindow/callmedia/peerconnection"
	"multifactorymodel.org/ewindow/callmedia/track"
)

// maxClockAge is how long after the last SetClock sender reports are still sent. Senders report their clock every few seconds.
const maxClockAge = 30 * time.Second

// tileTrack is a tile's sound or picture on its way to the page. Its source changes with the participant that the tile shows.
type tileTrack struct {
	out  *output
	ssrc uint32

	writePacket func(*rtp.Packet) error // the method packet, kept since each method value is an allocation

	mu         sync.Mutex // guards what follows
	packetizer *frames.Packetizer
	line       track.Timeline
	packets    uint32
	octets     uint32
	active     bool      // a frame was sent since the last report
	clock      time.Time // the sender's wall clock when its RTP clock was at clockTime; zero when unknown
	clockTime  uint32
	clockSet   time.Time
}

func newTileTrack(tile int, kind track.Kind) *tileTrack {
	t := &tileTrack{
		out: newOutput(tile, kind), line: track.NewTimeline(kind.ClockRate()),
		packetizer: frames.NewPacketizer(kind.Codec(), 0, 0, 0, frames.RandomSeed()),
	}
	t.writePacket = t.packet
	return t
}

// write sends one frame.
func (t *tileTrack) write(now time.Time, c codec.Codec, source track.Source, timestamp uint32, data []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if source != t.line.Source() {
		t.clock = time.Time{}
	}
	t.packetizer.Use(c, t.out.payloadType(c))
	_ = t.packetizer.Packetize(data, t.line.Shift(now, source, timestamp), t.writePacket)
	t.active = true
}

// packet sends one packet. The caller holds the lock.
func (t *tileTrack) packet(p *rtp.Packet) error {
	t.packets++
	t.octets += uint32(len(p.Payload))
	return t.out.write(p)
}

func (t *tileTrack) setClock(source track.Source, ntp time.Time, timestamp uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if shifted, ok := t.line.Shifted(source, timestamp); ok {
		t.clock, t.clockTime, t.clockSet = ntp, shifted, time.Now()
	}
}

// report returns a sender report (RFC 3550, section 6.4.1), or nil when nothing was sent since the last one or the sender's clock is not
// known.
func (t *tileTrack) report(now time.Time) *rtcp.SenderReport {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.active || t.clock.IsZero() || now.Sub(t.clockSet) > maxClockAge {
		return nil
	}
	t.active = false
	return &rtcp.SenderReport{
		SSRC: t.ssrc, NTPTime: peerconnection.NTP(t.clock), RTPTime: t.clockTime, PacketCount: t.packets, OctetCount: t.octets,
	}
}
