package frames

import (
	"bytes"
	"encoding/binary"

	"github.com/pion/rtp"
)

// Types of NAL units (ITU-T H.264, table 7-1), and of the payloads that aggregate and fragment them (RFC 6184, section 5.2).
const (
	nalSlice    = 1
	nalIDR      = 5
	nalSEI      = 6
	nalSPS      = 7
	nalAUD      = 9
	nalPrefix   = 14
	nalReserved = 18
	nalMax      = 23 // the last type of a single unit
	nalSTAPA    = 24
	nalFUA      = 28

	nalType    = 0x1f // the bits of the type
	nalRefIdc  = 0xe0 // the other bits of the header
	fuStart    = 0x80
	fuEnd      = 0x40
	fuHeader   = 2 // bytes: indicator and header
	stapHeader = 2 // bytes of length before each unit
)

// Start codes of byte streams (ITU-T H.264, annex B). Frames here have the long one, see package e2ee; others' may have both.
var (
	startCode    = []byte{0, 0, 0, 1}
	anyStartCode = startCode[1:]
)

// parseH264 reads what a payload is (RFC 6184, section 5.2): a unit, several, or a part of one. It is false when the payload is not valid in
// non-interleaved mode.
//
// Nothing in RTP says where a frame begins. It begins with a unit that can't be behind the first slice, or with that slice. A key frame has its
// parameter sets with it, as WebRTC wants it (RFC 7742, section 6.2), and is known by them. LiveKit does the same.
func parseH264(payload []byte) (piece, bool) {
	if len(payload) == 0 {
		return piece{}, false
	}
	switch t := payload[0] & nalType; {
	case t == 0:
		return piece{}, false
	case t <= nalMax:
		return piece{start: beginsFrame(payload), key: t == nalSPS}, true
	case t == nalSTAPA:
		return parseSTAPA(payload)
	case t == nalFUA && len(payload) > fuHeader:
		inner := payload[1] & nalType
		if inner == 0 || inner > nalMax {
			return piece{}, false
		}
		if payload[1]&fuStart == 0 {
			return piece{}, true
		}
		return piece{start: beginsFrame(payload[1:]), key: inner == nalSPS}, true
	}
	return piece{}, false
}

// parseSTAPA reads an aggregation packet.
func parseSTAPA(payload []byte) (p piece, ok bool) {
	for rest := payload[1:]; len(rest) > 0; ok = true {
		unit, after, valid := nextAggregated(rest)
		if !valid {
			return piece{}, false
		}
		p.start = p.start || !ok && beginsFrame(unit)
		p.key = p.key || unit[0]&nalType == nalSPS
		rest = after
	}
	return p, ok
}

// nextAggregated takes the first unit of what is left of an aggregation packet.
func nextAggregated(b []byte) (unit, rest []byte, ok bool) {
	if len(b) < stapHeader {
		return nil, nil, false
	}
	size := int(binary.BigEndian.Uint16(b))
	b = b[stapHeader:]
	if size == 0 || size > len(b) {
		return nil, nil, false
	}
	return b[:size], b[size:], true
}

// beginsFrame says whether a unit can be the first one of a frame (ITU-T H.264, section 7.4.1.2.3). An encrypted frame has what this needs in clear:
// the header of its first slice, and the byte behind it.
func beginsFrame(unit []byte) bool {
	switch t := unit[0] & nalType; {
	case t == nalSlice || t == nalIDR:
		return len(unit) > 1 && unit[1]&0x80 != 0 // first_mb_in_slice is 0
	default:
		return t >= nalSEI && t <= nalAUD || t >= nalPrefix && t <= nalReserved
	}
}

// appendH264 appends what a valid payload has, as a part of a byte stream.
func appendH264(dst, payload []byte) []byte {
	switch payload[0] & nalType {
	case nalSTAPA:
		for rest := payload[1:]; len(rest) > 0; {
			var unit []byte
			unit, rest, _ = nextAggregated(rest)
			dst = append(append(dst, startCode...), unit...)
		}
		return dst
	case nalFUA:
		if payload[1]&fuStart != 0 {
			dst = append(append(dst, startCode...), payload[0]&nalRefIdc|payload[1]&nalType)
		}
		return append(dst, payload[fuHeader:]...)
	}
	return append(append(dst, startCode...), payload...)
}

// nextUnit takes the first NAL unit of a byte stream, without its start code and the zeros behind it. It is nil when there is none.
func nextUnit(stream []byte) (unit, rest []byte) {
	for {
		i := bytes.Index(stream, anyStartCode)
		if i < 0 {
			return nil, nil
		}
		stream = stream[i+len(anyStartCode):]
		end := bytes.Index(stream, anyStartCode)
		if end < 0 {
			end = len(stream)
		}
		if unit = bytes.TrimRight(stream[:end], "\x00"); len(unit) > 0 {
			return unit, stream[end:]
		}
	}
}

// packetizeH264 cuts a byte stream into its units, and long units into fragments of about equal sizes.
func (p *Packetizer) packetizeH264(frame []byte, ts uint32, emit func(*rtp.Packet) error) error {
	unit, rest := nextUnit(frame)
	for unit != nil {
		next, after := nextUnit(rest)
		if len(unit) <= p.room {
			if err := p.emit(unit, ts, next == nil, emit); err != nil {
				return err
			}
		} else if err := p.fragmentH264(unit, ts, next == nil, emit); err != nil {
			return err
		}
		unit, rest = next, after
	}
	return nil
}

func (p *Packetizer) fragmentH264(unit []byte, ts uint32, last bool, emit func(*rtp.Packet) error) error {
	indicator, header := unit[0]&nalRefIdc|nalFUA, unit[0]&nalType|fuStart
	unit = unit[1:]
	room := p.room - fuHeader
	for count := (len(unit) + room - 1) / room; count > 0; count-- {
		if count == 1 {
			header |= fuEnd
		}
		n := (len(unit) + count - 1) / count
		b := append(append(p.payload[:0], indicator, header), unit[:n]...)
		if err := p.emit(b, ts, last && count == 1, emit); err != nil {
			return err
		}
		unit, header = unit[n:], header&nalType
	}
	return nil
}
