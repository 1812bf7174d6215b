package page

import (
	"fmt"
	"sync"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"multifactorymodel.org/ewindow/callmedia/frames"
	"multifactorymodel.org/ewindow/callmedia/peerconnection"
	"multifactorymodel.org/ewindow/callmedia/track"
)

// maxClockAge is how long after the last SetClock sender reports are still sent. Senders report their clock every few seconds.
const maxClockAge = 30 * time.Second

// tileTrack is a tile's sound or picture on its way to the page. Its source changes with the participant that the tile shows.
type tileTrack struct {
	out  *webrtc.TrackLocalStaticRTP
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

func newTileTrack(tile int, kind track.Kind) (*tileTrack, error) {
	out, err := webrtc.NewTrackLocalStaticRTP(peerconnection.Capability(kind.Codec()), fmt.Sprintf("%s-%d", kind, tile), fmt.Sprintf("tile-%d", tile))
	if err != nil {
		return nil, err
	}
	t := &tileTrack{
		out: out, line: track.NewTimeline(kind.ClockRate()),
		// pion's track fills in SSRC and payload type.
		packetizer: frames.NewPacketizer(kind.Codec(), 0, 0, 0, frames.RandomSeed()),
	}
	t.writePacket = t.packet
	return t, nil
}

// write sends one frame.
func (t *tileTrack) write(now time.Time, source track.Source, timestamp uint32, data []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if source != t.line.Source() {
		t.clock = time.Time{}
	}
	_ = t.packetizer.Packetize(data, t.line.Shift(now, source, timestamp), t.writePacket)
	t.active = true
}

// packet sends one packet. The caller holds the lock.
func (t *tileTrack) packet(p *rtp.Packet) error {
	t.packets++
	t.octets += uint32(len(p.Payload))
	return t.out.WriteRTP(p)
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
