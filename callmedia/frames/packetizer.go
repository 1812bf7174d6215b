package frames

import (
	"fmt"
	"math/rand/v2"

	"github.com/pion/rtp"

	"multifactorymodel.org/ewindow/callmedia/codec"
)

const (
	defaultMTU = 1200
	minMTU     = 100
	rtpHeader  = 12
	// descriptorSize is the size of our payload descriptors. They always have a picture id of 15 bits, so that SFUs can rewrite it in place.
	// VP9's has a byte less in key frames.
	descriptorSize = 4
)

// Seed holds the first numbers of a [Packetizer]. RFC 3550 wants them to be unpredictable. Tests fix them.
type Seed struct {
	// Sequence is the first packet's sequence number.
	Sequence uint16
	// PictureID is the first picture's, modulo 2^15. Only for VP8 and VP9.
	PictureID uint16
}

// RandomSeed returns random first numbers.
func RandomSeed() Seed {
	r := rand.Uint32()
	// RFC 3711 advises against a start close to the wrap: a receiver that misses the wrap gets the roll-over counter wrong.
	return Seed{Sequence: uint16(r) >> 1, PictureID: uint16(r>>16) & 0x7fff}
}

// Packetizer cuts frames into RTP packets, with its own sequence numbers and picture ids. It belongs to one goroutine.
type Packetizer struct {
	codec     codec.Codec
	room      int // payload bytes of one packet
	sequence  uint16
	pictureID uint16
	ssrc      uint32
	pt        uint8
	packet    rtp.Packet
	payload   []byte
}

// NewPacketizer returns a packetizer. mtu is the longest RTP packet in bytes without header extensions; below 100 it means 1200, which leaves
// room for extensions, SRTP, TURN and IPv6 within 1280.
func NewPacketizer(c codec.Codec, mtu int, ssrc uint32, pt uint8, seed Seed) *Packetizer {
	if mtu < minMTU {
		mtu = defaultMTU
	}
	return &Packetizer{
		codec: c, room: mtu - rtpHeader, sequence: seed.Sequence, pictureID: seed.PictureID & 0x7fff,
		ssrc: ssrc, pt: pt, payload: make([]byte, mtu-rtpHeader),
	}
}

// SetSize sets the longest packet, in bytes as mtu in [NewPacketizer]; anything above that mtu, and 0, means that mtu.
func (p *Packetizer) SetSize(size int) {
	p.room = len(p.payload)
	if size >= minMTU {
		p.room = min(p.room, size-rtpHeader)
	}
}

// Use sets the codec and the payload type of the frames that follow. Sequence numbers and picture ids go on.
func (p *Packetizer) Use(c codec.Codec, pt uint8) { p.codec, p.pt = c, pt }

// Packetize calls emit with each packet of the frame in order. ts is the frame's RTP timestamp. The packet and all it refers to are valid only until
// emit returns. An error of emit ends the frame and is returned. Sequence numbers that were used are not used again. An empty frame has no
// packets. An Opus frame is always one packet, whatever its size. A frame of VP9 or H.264 must not be encrypted.
func (p *Packetizer) Packetize(frame []byte, ts uint32, emit func(*rtp.Packet) error) error {
	if !supported(p.codec) {
		return fmt.Errorf("packetise %s frame: %w", p.codec, errUnsupported)
	}
	switch {
	case len(frame) == 0:
		return nil
	case p.codec == codec.Opus:
		return p.emit(frame, ts, false, emit)
	case p.codec == codec.H264:
		return p.packetizeH264(frame, ts, emit)
	}
	id := p.pictureID
	p.pictureID = (p.pictureID + 1) & 0x7fff
	key := p.codec == codec.VP9 && isVP9Key(frame)
	room := p.room - descriptorSize
	count := (len(frame) + room - 1) / room
	// The packets have about equal sizes: a short last one would cost as much overhead and be lost as easily as the others.
	for first := true; count > 0; count-- {
		n := (len(frame) + count - 1) / count
		var b []byte
		if p.codec == codec.VP9 {
			b = appendVP9Descriptor(p.payload[:0], id, key, first, count == 1)
		} else {
			b = appendVP8Descriptor(p.payload[:0], id, first)
		}
		if err := p.emit(append(b, frame[:n]...), ts, count == 1, emit); err != nil {
			return err
		}
		frame, first = frame[n:], false
	}
	return nil
}

// Empty calls emit with a packet without payload. It shows that the track is there before there is a frame.
func (p *Packetizer) Empty(ts uint32, emit func(*rtp.Packet) error) error {
	return p.emit(nil, ts, false, emit)
}

// emit hands over one packet.
func (p *Packetizer) emit(payload []byte, ts uint32, marker bool, emit func(*rtp.Packet) error) error {
	// All fields are written: interceptors may have left extensions in the packet.
	p.packet = rtp.Packet{
		Header: rtp.Header{
			Version: 2, Marker: marker, PayloadType: p.pt, SequenceNumber: p.sequence, Timestamp: ts, SSRC: p.ssrc,
		},
		Payload: payload,
	}
	p.sequence++
	return emit(&p.packet)
}
