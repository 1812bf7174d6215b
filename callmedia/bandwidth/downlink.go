package bandwidth

import (
	"cmp"
	"strings"
	"sync"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"
)

// Downlink estimates the bandwidth from the SFU, from the RTP timestamps of what arrives and from when it arrives. It also keeps back requests for
// packets that were asked for less than a round trip ago: the answer to the first request can't have come yet, and LiveKit sends a packet up to
// three times. It is a pion interceptor, and the factory of itself: it belongs to one peer connection. Its methods may be called from any
// goroutine.
type Downlink struct {
	interceptor.NoOp
	begun time.Time

	mu        sync.Mutex // guards what follows
	estimator *Estimator
	known     bool                // something was known of the line from the beginning
	streams   map[uint32]*inbound // by SSRC
	rtt       time.Duration
	updated   time.Time
	told      int // as estimated when it was last told
	toldAt    time.Time
}

// inbound is a stream that arrives.
type inbound struct {
	rate    uint32 // of its clock, Hz
	video   bool
	begun   bool
	number  uint16 // highest sequence number
	last    uint32 // RTP timestamp
	elapsed int64  // of the stream's clock since the first packet
	again   bool   // of retransmissions of pictures
	bytes   int    // since the last update
	bps     float64
	asked   map[uint16]time.Time // packets that were asked for, and when
	missing map[uint16]time.Time // packets that were overtaken, and when
	lost    int                  // since the last update
}

const (
	// rateTime is over how long a stream's rate is measured.
	rateTime = time.Second
	// rttStart is assumed before the first round trip is measured.
	rttStart = 30 * time.Millisecond
	// maxAsked is for how many packets of a stream a request is remembered. As many can be missing.
	maxAsked = 512
	// lateTime is how late a packet may come before it counts as lost. On Wi-Fi and mobile lines packets overtake each other.
	lateTime = 150 * time.Millisecond
)

// NewDownlink makes an estimator that begins with start bit/s; 0 means that nothing is known.
func NewDownlink(start int) *Downlink {
	return &Downlink{
		begun: time.Now().Add(-time.Hour), known: start > 0, estimator: NewEstimator(cmp.Or(start, lineMax), lineMin, lineMax), streams: make(map[uint32]*inbound), rtt: rttStart,
	}
}

// NewInterceptor implements pion's interceptor.Factory.
func (d *Downlink) NewInterceptor(string) (interceptor.Interceptor, error) { return d, nil }

// BindRemoteStream implements pion's interceptor.Interceptor. Streams of retransmissions count, but have no time of their own.
func (d *Downlink) BindRemoteStream(info *interceptor.StreamInfo, reader interceptor.RTPReader) interceptor.RTPReader {
	s := d.bind(info.SSRC, info.MimeType, info.ClockRate)
	return interceptor.RTPReaderFunc(func(b []byte, a interceptor.Attributes) (int, interceptor.Attributes, error) {
		n, a, err := reader.Read(b, a)
		if err != nil {
			return n, a, err
		}
		if a == nil {
			a = make(interceptor.Attributes)
		}
		if header, err := a.GetRTPHeader(b[:n]); err == nil {
			d.arrived(info.SSRC, s, header.SequenceNumber, header.Timestamp, n, s.again || n <= header.MarshalSize(), time.Now())
		}
		return n, a, nil
	})
}

// bind adds a stream.
func (d *Downlink) bind(ssrc uint32, mimeType string, rate uint32) *inbound {
	s := &inbound{
		rate: rate, video: strings.HasPrefix(strings.ToLower(mimeType), "video/"), asked: make(map[uint16]time.Time),
		missing: make(map[uint16]time.Time),
		again:   strings.EqualFold(mimeType, webrtc.MimeTypeRTX) || rate == 0,
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.streams[ssrc] = s
	return s
}

// UnbindRemoteStream implements pion's interceptor.Interceptor.
func (d *Downlink) UnbindRemoteStream(info *interceptor.StreamInfo) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.streams, info.SSRC)
	d.estimator.Forget(info.SSRC)
}

// arrived takes note of a packet. again says that it has no time of its own: it was sent again, or is padding.
func (d *Downlink) arrived(ssrc uint32, s *inbound, number uint16, timestamp uint32, size int, again bool, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := now.Sub(d.begun)
	s.bytes += size + PacketOverhead
	delete(s.asked, number)
	switch step := int16(number - s.number); {
	case s.again:
	case !s.begun:
		s.begun, s.number, s.last = true, number, timestamp
	case step <= 0:
		delete(s.missing, number)
		again = true
	default:
		s.miss(s.number+1, number, now)
		s.number = number
	}
	if again {
		d.estimator.ArrivedLate(at, size+PacketOverhead)
		return
	}
	s.elapsed += int64(int32(timestamp - s.last))
	s.last = timestamp
	sent := time.Duration(s.elapsed) * time.Second / time.Duration(s.rate)
	d.estimator.Arrived(ssrc, sent, at, size+PacketOverhead)
}

// miss takes note of the packets from first on, before next. They may still come.
func (s *inbound) miss(first, next uint16, now time.Time) {
	if int(next-first)+len(s.missing) > maxAsked {
		s.lost += int(next-first) + len(s.missing)
		clear(s.missing)
		return
	}
	for ; first != next; first++ {
		s.missing[first] = now
	}
}

// missed returns how many packets were lost since it was last called.
func (s *inbound) missed(now time.Time) int {
	for number, since := range s.missing {
		if now.Sub(since) >= lateTime {
			delete(s.missing, number)
			s.lost++
		}
	}
	lost := s.lost
	s.lost = 0
	return lost
}

// BindRTCPWriter implements pion's interceptor.Interceptor. It keeps back requests that come too early.
func (d *Downlink) BindRTCPWriter(writer interceptor.RTCPWriter) interceptor.RTCPWriter {
	return interceptor.RTCPWriterFunc(func(packets []rtcp.Packet, a interceptor.Attributes) (int, error) {
		kept := packets[:0:0]
		for _, p := range packets {
			nack, ok := p.(*rtcp.TransportLayerNack)
			if !ok {
				kept = append(kept, p)
			} else if nack = d.thin(nack, time.Now()); nack != nil {
				kept = append(kept, nack)
			}
		}
		if len(kept) == 0 {
			return 0, nil
		}
		return writer.Write(kept, a)
	})
}

// thin returns a request for those packets that were not asked for less than a round trip ago, nil if there are none.
func (d *Downlink) thin(nack *rtcp.TransportLayerNack, now time.Time) *rtcp.TransportLayerNack {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.streams[nack.MediaSSRC]
	if s == nil {
		return nack
	}
	var numbers []uint16
	for _, pair := range nack.Nacks {
		for _, number := range pair.PacketList() {
			if at, ok := s.asked[number]; ok && now.Sub(at) < d.rtt {
				continue
			}
			numbers = append(numbers, number)
		}
	}
	if len(numbers) == 0 {
		return nil
	}
	if len(s.asked)+len(numbers) > maxAsked {
		clear(s.asked)
	}
	for _, number := range numbers {
		s.asked[number] = now
	}
	return &rtcp.TransportLayerNack{SenderSSRC: nack.SenderSSRC, MediaSSRC: nack.MediaSSRC, Nacks: rtcp.NackPairsFromSequenceNumbers(numbers)}
}

// Update makes a new estimate. It returns the message to the SFU that says so (REMB, draft-alvestrand-rmcat-remb), nil if there is nothing new, or if the
// line has carried everything so far.
func (d *Downlink) Update(now time.Time) *rtcp.ReceiverEstimatedMaximumBitrate {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.streams {
		d.estimator.Lost(now.Sub(d.begun), s.missed(now))
	}
	bps := d.estimator.Update(now.Sub(d.begun))
	weight := min(now.Sub(d.updated).Seconds()/rateTime.Seconds(), 1)
	d.updated = now
	var pictures []uint32
	for ssrc, s := range d.streams {
		s.bps += weight * (float64(8*s.bytes)/max(weight*rateTime.Seconds(), 0.001) - s.bps)
		s.bytes = 0
		if s.video && s.begun {
			pictures = append(pictures, ssrc)
		}
	}
	fell := bps*100 < d.told*97
	d.known = d.known || d.estimator.Fell()
	if len(pictures) == 0 || !d.known || !fell && now.Sub(d.toldAt) < time.Second {
		return nil
	}
	d.told, d.toldAt = bps, now
	return &rtcp.ReceiverEstimatedMaximumBitrate{Bitrate: float32(bps), SSRCs: pictures}
}

// SetRTT sets the round trip to the SFU.
func (d *Downlink) SetRTT(rtt time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rtt = min(max(rtt+rtt/4, rttStart), time.Second)
}

// Estimate returns the estimate in bit/s, and how much of it is left for a stream. Both are 0 while the line has carried everything.
func (d *Downlink) Estimate(ssrc uint32) (bps, left int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.known {
		return 0, 0
	}
	others := 0.0
	for other, s := range d.streams {
		if other != ssrc && !s.again {
			others += s.bps
		}
	}
	bps = d.estimator.BPS()
	return bps, max(bps-int(others), lineMin)
}
