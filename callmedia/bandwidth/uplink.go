package bandwidth

import (
	"cmp"
	"encoding/binary"
	"sync"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/cc"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"
)

const (
	// PacketOverhead is how many bytes a packet has in the network besides RTP: SRTP's tag, UDP and IP.
	PacketOverhead = 40
	// uplinkStart is the first estimate in bit/s when nothing is known of the line. No line is estimated below lineMin or above lineMax.
	uplinkStart = 700_000
	lineMin     = 80_000
	lineMax     = 25_000_000
	// sentPackets is how many packets the uplink remembers until the SFU reports them: some seconds.
	sentPackets = 4096
	// againShare is the share of the line for what was lost.
	againShare = 4
	// silent is how long the SFU may report nothing while packets are sent. LiveKit reports after 20 packets, ten times a second at most.
	silent = 2500 * time.Millisecond
	dead   = 5 * time.Second
)

var _ cc.BandwidthEstimator = (*Uplink)(nil)

// Uplink estimates the bandwidth to the SFU, from the SFU's reports of what arrived when (transport-wide congestion control, TWCC). LiveKit reports
// pictures only. pion's package rtpfb reads such reports, too, but remembers each packet until it is reported: its memory grows as long as no
// report comes.
type Uplink struct {
	mu        sync.Mutex // guards what follows
	estimator *Estimator
	sent      [sentPackets]sentPacket // by number
	lastSent  time.Time
	reported  time.Time
	reference uint32        // of the last report, 24 bits in units of 64 ms
	clock     time.Duration // the same without wrapping
}

type sentPacket struct {
	number uint16
	size   uint16
	known  bool // sent, and not yet reported as received
	lost   bool // reported as not received
	at     time.Duration
}

// NewUplink makes an estimator that begins with start bit/s; 0 means that nothing is known.
func NewUplink(start int) *Uplink {
	return &Uplink{estimator: NewEstimator(cmp.Or(start, uplinkStart), lineMin, lineMax), clock: time.Hour}
}

// AddStream implements [cc.BandwidthEstimator]. It remembers when each packet is sent.
func (u *Uplink) AddStream(info *interceptor.StreamInfo, writer interceptor.RTPWriter) interceptor.RTPWriter {
	id := uint8(0)
	for _, e := range info.RTPHeaderExtensions {
		if e.URI == sdp.TransportCCURI {
			id = uint8(e.ID)
		}
	}
	if id == 0 {
		return writer
	}
	return interceptor.RTPWriterFunc(func(header *rtp.Header, payload []byte, attributes interceptor.Attributes) (int, error) {
		if number := header.GetExtension(id); len(number) == 2 {
			u.remember(binary.BigEndian.Uint16(number), header.MarshalSize()+len(payload), time.Now())
		}
		return writer.Write(header, payload, attributes)
	})
}

func (u *Uplink) remember(number uint16, size int, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.reported.IsZero() {
		u.reported = now
	}
	u.lastSent = now
	u.sent[number%sentPackets] = sentPacket{number, uint16(size + PacketOverhead), true, false, time.Duration(now.UnixNano())}
}

// WriteRTCP implements [cc.BandwidthEstimator]. It reads the SFU's reports.
func (u *Uplink) WriteRTCP(packets []rtcp.Packet, _ interceptor.Attributes) error {
	for _, p := range packets {
		if report, ok := p.(*rtcp.TransportLayerCC); ok {
			u.read(report, time.Now())
		}
	}
	return nil
}

// read reads one report (draft-holmer-rmcat-transport-wide-cc-extensions-01, section 3.1).
func (u *Uplink) read(report *rtcp.TransportLayerCC, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.reported = now
	// 24 bits: the nearest time to the last report's.
	step := int32((report.ReferenceTime-u.reference)<<8) >> 8
	u.reference = report.ReferenceTime & 0xffffff
	u.clock = max(u.clock+time.Duration(step)*64*time.Millisecond, time.Hour)
	arrival, latest, number, left := u.clock, time.Duration(0), report.BaseSequenceNumber, int(report.PacketStatusCount)
	deltas := report.RecvDeltas
	status := func(symbol uint16) {
		if left == 0 {
			return
		}
		left--
		p := &u.sent[number%sentPackets]
		known := p.known && p.number == number
		number++
		switch symbol {
		case rtcp.TypeTCCPacketReceivedSmallDelta, rtcp.TypeTCCPacketReceivedLargeDelta:
			if len(deltas) == 0 {
				left = 0
				return
			}
			arrival += time.Duration(deltas[0].Delta) * time.Microsecond
			deltas = deltas[1:]
			if latest = max(latest, arrival); known {
				u.estimator.Arrived(0, p.at, arrival, int(p.size))
				if p.known = false; p.lost { // it was only late, and is reported once more
					u.estimator.Lost(arrival, -1)
				}
			}
		case rtcp.TypeTCCPacketNotReceived:
			if known && !p.lost {
				u.estimator.Lost(arrival, 1)
				p.lost = true
			}
		}
	}
	for _, chunk := range report.PacketChunks {
		switch chunk := chunk.(type) {
		case *rtcp.RunLengthChunk:
			for range min(int(chunk.RunLength), left) {
				status(chunk.PacketStatusSymbol)
			}
		case *rtcp.StatusVectorChunk:
			for _, symbol := range chunk.SymbolList {
				status(symbol)
			}
		}
	}
	if latest > 0 {
		u.estimator.Update(latest)
	}
}

// Check lowers the estimate when the SFU has not reported for a while what was sent. It returns false when that has lasted so long that most likely
// nothing gets through. It is called a few times a second.
func (u *Uplink) Check(now time.Time) (alive bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	unheard := u.lastSent.Sub(u.reported)
	if unheard >= silent {
		u.estimator.Silence(u.clock + now.Sub(u.reported))
	}
	return unheard < dead
}

// BPS returns the estimate in bit/s.
func (u *Uplink) BPS() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.estimator.BPS()
}

// GetTargetBitrate implements [cc.BandwidthEstimator]. pion sends so many bit/s again at most, of what was lost. More would fill a narrow line.
func (u *Uplink) GetTargetBitrate() int { return u.BPS() / againShare }

// OnTargetBitrateChange implements [cc.BandwidthEstimator]. Nothing calls it: who wants the estimate asks [Uplink.BPS].
func (u *Uplink) OnTargetBitrateChange(func(int)) {}

// GetStats implements [cc.BandwidthEstimator].
func (u *Uplink) GetStats() map[string]any { return nil }

// Close implements [cc.BandwidthEstimator].
func (u *Uplink) Close() error { return nil }
