package sfu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/livekit/protocol/livekit"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

// localStream is the stream id of our tracks in the SDP. Browsers play tracks of one stream in step with each other.
const localStream = "ewindow"

// rtcpSize takes any RTCP packet that fits into an Ethernet frame.
const rtcpSize = 1500

// LocalTrack is a published track. Its methods may be called from several goroutines, also after the room has ended.
type LocalTrack struct {
	room       *Room
	cid        string
	kind       webrtc.RTPCodecType
	capability webrtc.RTPCodecCapability

	keyFrame   atomic.Pointer[func()]
	sid        atomic.Pointer[string]
	packets    atomic.Uint64
	octets     atomic.Uint64
	keyAsked   atomic.Uint64
	nacks      atomic.Uint64
	lost       atomic.Uint32 // fraction lost of the last receiver report, in 1/256
	onceReady  sync.Once
	ready      chan struct{} // closed when media can flow or publishing failed
	failure    error         // why publishing failed; read after ready
	published  bool          // owned by the room's goroutine
	answered   bool          // owned by the room's goroutine
	bound      bool          // owned by the room's goroutine
	negotiated uint32        // offer that contains the track; owned by the room's goroutine

	mu      sync.Mutex // guards what follows, and serialises writes
	writer  webrtc.TrackLocalWriter
	binding string
	ssrc    uint32
	payload uint8
	header  rtp.Header // scratch: reused for every packet
	clock   senderClock
}

// senderClock is a pair of the same instant on two clocks: wall time and RTP time. base is when we were told.
type senderClock struct {
	ntp  time.Time
	rtp  uint32
	base time.Time
	sent time.Time // when the last sender report was made
}

func newLocalTrack(room *Room, cid string, kind webrtc.RTPCodecType, capability webrtc.RTPCodecCapability) *LocalTrack {
	return &LocalTrack{room: room, cid: cid, kind: kind, capability: capability, ready: make(chan struct{})}
}

// SID is the SFU's id of the track.
func (t *LocalTrack) SID() string {
	if s := t.sid.Load(); s != nil {
		return *s
	}
	return ""
}

// SSRC is the synchronisation source the packets are sent with.
func (t *LocalTrack) SSRC() uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ssrc
}

// PayloadType is the negotiated RTP payload type the packets are sent with.
func (t *LocalTrack) PayloadType() uint8 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.payload
}

// WriteRTP sends a packet. Sequence number, timestamp, marker and payload are taken as they are; SSRC and payload type are
// set, header extensions are the room's. The packet is not changed and not kept. It returns ErrClosed after the end.
func (t *LocalTrack) WriteRTP(p *rtp.Packet) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.writer == nil {
		return ErrClosed
	}
	t.header = rtp.Header{
		Version: 2, Marker: p.Marker, PayloadType: t.payload, SSRC: t.ssrc, SequenceNumber: p.SequenceNumber,
		Timestamp: p.Timestamp, Extensions: t.header.Extensions[:0],
	}
	if _, err := t.writer.WriteRTP(&t.header, p.Payload); err != nil {
		if errors.Is(err, io.ErrClosedPipe) {
			return ErrClosed
		}
		return fmt.Errorf("write RTP to the SFU: %w", err)
	}
	t.packets.Add(1)
	t.octets.Add(uint64(len(p.Payload)))
	return nil
}

// SetMuted tells the SFU, and through it the others, whether the track has anything to show or to say. The track stays
// published; packets are not held back by it.
func (t *LocalTrack) SetMuted(muted bool) {
	sid := t.SID()
	if sid == "" {
		return
	}
	t.room.send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Mute{
		Mute: &livekit.MuteTrackRequest{Sid: sid, Muted: muted},
	}})
}

// OnKeyFrameRequest sets what is called when a receiver asks for a key frame (PLI or FIR, RFC 4585 and 5104). It is called
// from the goroutine that reads the track's RTCP and must not block.
func (t *LocalTrack) OnKeyFrameRequest(f func()) {
	t.keyFrame.Store(&f)
}

// SetClock says that the instant ntp, on a wall clock common to all tracks of this room, is rtp on the track's RTP clock.
// The sender reports (RFC 3550 section 6.4.1) that let receivers play sound and picture in step are made from it; without
// it none are sent. The first call sends one at once.
func (t *LocalTrack) SetClock(ntp time.Time, rtp uint32) {
	now := time.Now()
	t.mu.Lock()
	first := t.clock.base.IsZero()
	t.clock.ntp, t.clock.rtp, t.clock.base = ntp, rtp, now
	t.mu.Unlock()
	if first {
		t.room.sendReports(now)
	}
}

// report makes a sender report when one is due at now.
func (t *LocalTrack) report(now time.Time) *rtcp.SenderReport {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.writer == nil || t.clock.base.IsZero() || t.packets.Load() == 0 || now.Sub(t.clock.sent) < reportInterval {
		return nil
	}
	t.clock.sent = now
	elapsed := now.Sub(t.clock.base)
	rate := time.Duration(t.capability.ClockRate)
	// Whole seconds apart, so that a long time without a new pair does not overflow.
	ticks := elapsed/time.Second*rate + elapsed%time.Second*rate/time.Second
	return &rtcp.SenderReport{
		SSRC:        t.ssrc,
		NTPTime:     toNTP(t.clock.ntp.Add(elapsed)),
		RTPTime:     t.clock.rtp + uint32(ticks),
		PacketCount: uint32(t.packets.Load()),
		OctetCount:  uint32(t.octets.Load()),
	}
}

// finish ends waiting for the track: with nil when media can flow.
func (t *LocalTrack) finish(err error) {
	t.onceReady.Do(func() {
		t.failure = err
		close(t.ready)
	})
}

// wait returns when the track is published and media can flow.
func (t *LocalTrack) wait(ctx context.Context) error {
	select {
	case <-t.ready:
		return t.failure
	case <-t.room.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// readRTCP reads the receivers' feedback till the sender is stopped. Reading is also what drives retransmission and the
// bandwidth estimate.
func (t *LocalTrack) readRTCP(sender *webrtc.RTPSender) {
	buf := make([]byte, rtcpSize)
	failed := 0
	for {
		n, _, err := sender.Read(buf)
		if err != nil {
			if failed++; t.room.readingEnds(err, failed) {
				return
			}
			continue
		}
		failed = 0
		packets, err := rtcp.Unmarshal(buf[:n])
		if err != nil {
			t.room.counters.badRTCP.Add(1)
			continue
		}
		ask := false
		for _, p := range packets {
			switch p := p.(type) {
			case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
				ask = true
			case *rtcp.TransportLayerNack:
				t.nacks.Add(1)
			case *rtcp.ReceiverReport:
				for _, r := range p.Reports {
					t.lost.Store(uint32(r.FractionLost))
				}
			}
		}
		if ask {
			t.keyAsked.Add(1)
			if f := t.keyFrame.Load(); f != nil && *f != nil {
				(*f)()
			}
		}
	}
}

// The methods below make it a webrtc.TrackLocal. The library's own static track would copy and allocate for each packet.
type trackLocal struct{ *LocalTrack }

func (t trackLocal) ID() string                { return t.cid }
func (t trackLocal) RID() string               { return "" }
func (t trackLocal) StreamID() string          { return localStream }
func (t trackLocal) Kind() webrtc.RTPCodecType { return t.kind }

func (t trackLocal) Bind(c webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	for _, codec := range c.CodecParameters() {
		if codec.MimeType != t.capability.MimeType || codec.ClockRate != t.capability.ClockRate {
			continue
		}
		t.mu.Lock()
		t.writer, t.binding = c.WriteStream(), c.ID()
		t.ssrc, t.payload = uint32(c.SSRC()), uint8(codec.PayloadType)
		t.mu.Unlock()
		t.room.post(func() {
			t.bound = true
			t.room.checkReady()
		})
		return codec, nil
	}
	t.finish(webrtc.ErrUnsupportedCodec)
	return webrtc.RTPCodecParameters{}, webrtc.ErrUnsupportedCodec
}

func (t trackLocal) Unbind(c webrtc.TrackLocalContext) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.binding == c.ID() {
		t.writer = nil
	}
	return nil
}

// ntpEpoch is where NTP time starts (RFC 5905).
var ntpEpoch = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)

// toNTP gives t as 32 bits of seconds and 32 bits of fraction (RFC 3550 section 4).
func toNTP(t time.Time) uint64 {
	seconds := uint64(t.Unix() - ntpEpoch.Unix())
	fraction := (uint64(t.Nanosecond())<<32 + uint64(time.Second)/2) / uint64(time.Second)
	return seconds<<32 + fraction
}

// fromNTP is the inverse of toNTP.
func fromNTP(n uint64) time.Time {
	nanos := ((n&0xffffffff)*uint64(time.Second) + 1<<31) >> 32
	return time.Unix(int64(n>>32)+ntpEpoch.Unix(), int64(nanos))
}
