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
	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/peerconnection"
)

// localStream is the stream id of our tracks in the SDP. Browsers play tracks of one stream in step with each other.
const localStream = "ewindow"

// rtcpSize has room for any RTCP packet that fits into an Ethernet frame.
const rtcpSize = 1500

// LocalTrack is a published track. Its methods may be called from several goroutines, also after the room has ended.
type LocalTrack struct {
	// Layers are the RTP streams of the track: one, or one for each size of the picture (simulcast, RFC 8853), the smallest first. They are not
	// changed.
	Layers []*LocalLayer

	room        *Room
	cid         string
	kind        webrtc.RTPCodecType
	codec       codec.Parameters
	transceiver *webrtc.RTPTransceiver // set before the track is offered

	keyFrame   atomic.Pointer[func(layer int)]
	sid        atomic.Pointer[string]
	keyAsked   atomic.Uint64
	nacks      atomic.Uint64
	lost       atomic.Uint32 // fraction lost of the last receiver report, in 1/256
	onceReady  sync.Once
	ready      chan struct{} // closed when media can flow or publishing failed
	failure    error         // why publishing failed; read after ready
	published  bool          // owned by the room's goroutine
	answered   bool          // owned by the room's goroutine
	bound      int           // layers that pion has bound to a sender; owned by the room's goroutine
	negotiated uint32        // number of the first offer with the track, 0: none; owned by the room's goroutine
}

// LocalLayer is one RTP stream of a [LocalTrack]. Its methods may be called from several goroutines, also after the room has ended.
type LocalLayer struct {
	track   *LocalTrack
	rid     string // RFC 8851; empty for the only layer
	packets atomic.Uint64
	octets  atomic.Uint64

	mu      sync.Mutex // guards what follows, and serialises writes
	writer  webrtc.TrackLocalWriter
	binding string
	ssrc    uint32
	payload uint8
	names   []rtp.Extension // mid and rid, by which the SFU knows the layer
	header  rtp.Header      // reused for every packet
	clock   senderClock
}

// senderClock is one instant on two clocks, the sender's wall clock and its RTP clock. base is that instant on our own clock.
type senderClock struct {
	ntp  time.Time
	rtp  uint32
	base time.Time
	sent time.Time // when the last sender report was made
}

// newLocalTrack makes a track with a layer for each rid.
func newLocalTrack(room *Room, cid string, kind webrtc.RTPCodecType, c codec.Codec, rids ...string) *LocalTrack {
	t := &LocalTrack{room: room, cid: cid, kind: kind, codec: c.Parameters(), ready: make(chan struct{})}
	for _, rid := range rids {
		t.Layers = append(t.Layers, &LocalLayer{track: t, rid: rid})
	}
	return t
}

// SID is the SFU's id of the track, empty before the SFU has given one.
func (t *LocalTrack) SID() string {
	if s := t.sid.Load(); s != nil {
		return *s
	}
	return ""
}

// Lost is which part of the track's packets did not reach the SFU, as it said last, 0 to 1.
func (t *LocalTrack) Lost() float64 { return float64(t.lost.Load()) / 256 }

// SSRC is the synchronisation source the packets are sent with.
func (l *LocalLayer) SSRC() uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ssrc
}

// PayloadType is the negotiated RTP payload type the packets are sent with.
func (l *LocalLayer) PayloadType() uint8 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.payload
}

// WriteRTP sends a packet. Sequence number, timestamp, marker and payload are sent as they are. SSRC, payload type and header extensions are set
// by the layer. The packet is not changed and not kept. A picture's packet may be sent a little later, see [Room.SetPace]. WriteRTP returns
// [ErrBacklog] when too many wait, and [ErrClosed] after the room's end.
func (l *LocalLayer) WriteRTP(p *rtp.Packet) error {
	if r := l.track.room; l.track.kind == webrtc.RTPCodecTypeVideo {
		held, start, err := r.pacer.hold(paced{l, p.Marker, p.SequenceNumber, p.Timestamp, p.Payload}, time.Now())
		if start {
			r.spawn(func() { r.pacer.run(r.failed) })
		}
		if held {
			return err
		}
	}
	return l.write(p.Marker, p.SequenceNumber, p.Timestamp, p.Payload)
}

// write sends a packet now.
func (l *LocalLayer) write(marker bool, number uint16, timestamp uint32, payload []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.writer == nil {
		return ErrClosed
	}
	l.header = rtp.Header{
		Version: 2, Marker: marker, PayloadType: l.payload, SSRC: l.ssrc, SequenceNumber: number,
		Timestamp: timestamp, Extensions: append(l.header.Extensions[:0], l.names...),
	}
	if len(l.names) > 0 {
		l.header.Extension, l.header.ExtensionProfile = true, rtp.ExtensionProfileOneByte
	}
	if _, err := l.writer.WriteRTP(&l.header, payload); err != nil {
		if errors.Is(err, io.ErrClosedPipe) {
			return ErrClosed
		}
		return fmt.Errorf("write RTP to the SFU: %w", err)
	}
	l.packets.Add(1)
	l.octets.Add(uint64(len(payload)))
	return nil
}

// SetPace says how many bit/s of pictures are sent at most. Packets that come faster wait for their turn. 0 means that none waits.
func (r *Room) SetPace(bps int) { r.pacer.setRate(bps) }

// SetMuted tells the SFU, and through it the others, whether the track is muted. The track stays published, and its packets are sent all the
// same.
func (t *LocalTrack) SetMuted(muted bool) {
	sid := t.SID()
	if sid == "" {
		return
	}
	t.room.send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Mute{
		Mute: &livekit.MuteTrackRequest{Sid: sid, Muted: muted},
	}})
}

// OnKeyFrameRequest sets the function that is called when a receiver asks for a key frame of a layer (PLI, RFC 4585, or FIR, RFC 5104). The
// goroutine that reads the layer's RTCP calls it. It must not block.
func (t *LocalTrack) OnKeyFrameRequest(f func(layer int)) {
	t.keyFrame.Store(&f)
}

// SetClock says that the layer's RTP clock was at rtp when the wall clock was at ntp. All layers of the room share that wall clock. Sender
// reports (RFC 3550, section 6.4.1) are made from it, so that receivers can play sound and picture in step. Without a clock none are sent. The
// first call sends one at once.
func (l *LocalLayer) SetClock(ntp time.Time, rtp uint32) {
	now := time.Now()
	l.mu.Lock()
	first := l.clock.base.IsZero()
	l.clock.ntp, l.clock.rtp, l.clock.base = ntp, rtp, now
	l.mu.Unlock()
	if first {
		l.track.room.sendReports(now)
	}
}

// report returns a sender report when one is due at now, else nil.
func (l *LocalLayer) report(now time.Time) *rtcp.SenderReport {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.writer == nil || l.clock.base.IsZero() || l.packets.Load() == 0 || now.Sub(l.clock.sent) < reportInterval {
		return nil
	}
	l.clock.sent = now
	elapsed := now.Sub(l.clock.base)
	rate := time.Duration(l.track.codec.ClockRate)
	// Whole seconds and their rest are converted separately, so that a long time since the last SetClock does not overflow.
	ticks := elapsed/time.Second*rate + elapsed%time.Second*rate/time.Second
	return &rtcp.SenderReport{
		SSRC:        l.ssrc,
		NTPTime:     peerconnection.NTP(l.clock.ntp.Add(elapsed)),
		RTPTime:     l.clock.rtp + uint32(ticks),
		PacketCount: uint32(l.packets.Load()),
		OctetCount:  uint32(l.octets.Load()),
	}
}

// finish ends the waiting for the track. err is nil when media can flow.
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

// readRTCP reads the receivers' feedback on a layer until the sender is stopped. pion's retransmission and bandwidth estimate work only while it
// is read.
func (t *LocalTrack) readRTCP(sender *webrtc.RTPSender, layer int) {
	read := sender.Read
	if rid := t.Layers[layer].rid; rid != "" {
		read = func(b []byte) (int, interceptor.Attributes, error) { return sender.ReadSimulcast(b, rid) }
	}
	buf := make([]byte, rtcpSize)
	failed := 0
	for {
		n, _, err := read(buf)
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
				(*f)(layer)
			}
		}
	}
}

// trackLocal makes a layer a webrtc.TrackLocal. pion's TrackLocalStaticRTP copies each packet, and does not write mid
// and rid into it.
type trackLocal struct{ *LocalLayer }

func (l trackLocal) ID() string                { return l.track.cid }
func (l trackLocal) RID() string               { return l.rid }
func (l trackLocal) StreamID() string          { return localStream }
func (l trackLocal) Kind() webrtc.RTPCodecType { return l.track.kind }

func (l trackLocal) Bind(c webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	t := l.track
	for _, p := range c.CodecParameters() {
		if p.MimeType != t.codec.MIMEType || p.ClockRate != t.codec.ClockRate {
			continue
		}
		l.mu.Lock()
		l.writer, l.binding = c.WriteStream(), c.ID()
		l.ssrc, l.payload = uint32(c.SSRC()), uint8(p.PayloadType)
		l.names = l.extensions(c.HeaderExtensions())
		l.mu.Unlock()
		t.room.post(func() {
			t.bound++
			t.room.checkReady()
		})
		return p, nil
	}
	t.finish(webrtc.ErrUnsupportedCodec)
	return webrtc.RTPCodecParameters{}, webrtc.ErrUnsupportedCodec
}

// extensions are the header extensions with mid and rid (RFC 8852) by which the SFU knows a layer: the SDP has no SSRC of a simulcast layer. The
// only layer of a track needs none.
func (l trackLocal) extensions(negotiated []webrtc.RTPHeaderExtensionParameter) (names []rtp.Extension) {
	if l.rid == "" {
		return nil
	}
	for _, e := range negotiated {
		value := ""
		switch e.URI {
		case sdp.SDESMidURI:
			value = l.track.transceiver.Mid()
		case sdp.SDESRTPStreamIDURI:
			value = l.rid
		default:
			continue
		}
		header := rtp.Header{}
		if header.SetExtension(uint8(e.ID), []byte(value)) == nil {
			names = append(names, header.Extensions...)
		}
	}
	return names
}

func (l trackLocal) Unbind(c webrtc.TrackLocalContext) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.binding == c.ID() {
		l.writer = nil
	}
	return nil
}
