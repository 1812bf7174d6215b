// Package frames turns RTP packets into whole encoded frames and frames into packets again, as end-to-end encryption of frames
// (package e2ee) needs it on both sides of a relay.
//
// An [Assembler] is a jitter buffer that waits only as long as a lost packet can still be repaired by NACK (RFC 4585), and never
// hands out a video frame whose references are missing. A [Packetizer] goes the other way. Both are pure: no goroutine, no clock,
// no randomness of their own; neither allocates in steady state; neither may be used by several goroutines at once.
//
// VP8 (RFC 7741) and Opus (RFC 7587) are supported, see [Supported]. VP8's payload descriptor belongs to RTP and is not part of a
// frame: temporal layers are received, but not described again when sending.
package frames

import (
	"errors"

	"multifactorymodel.org/ewindow/callmedia/codec"
)

// ErrUnsupported means that the codec can't be packetised here; see [Supported].
var ErrUnsupported = errors.New("codec is not supported")

// Supported tells whether assemblers and packetizers know the codec.
func Supported(c codec.Codec) bool { return c == codec.Opus || c == codec.VP8 }

// vp8Descriptor is what the payload descriptor of RFC 7741, section 4.2, tells us.
type vp8Descriptor struct {
	size  int  // bytes before the frame's
	start bool // the packet begins a frame: S bit and partition 0
}

// parseVP8Descriptor reads the descriptor of a payload. It is false when the payload ends within it or right behind it.
func parseVP8Descriptor(payload []byte) (vp8Descriptor, bool) {
	const (
		extended, startBit, partition        = 0x80, 0x10, 0x07
		hasPicture, hasTL0, hasTID, hasKeyID = 0x80, 0x40, 0x20, 0x10
		longPicture                          = 0x80
	)
	if len(payload) == 0 {
		return vp8Descriptor{}, false
	}
	d := vp8Descriptor{size: 1, start: payload[0]&startBit != 0 && payload[0]&partition == 0}
	if payload[0]&extended != 0 {
		if len(payload) < 2 {
			return vp8Descriptor{}, false
		}
		bits := payload[1]
		d.size++
		if bits&hasPicture != 0 {
			if len(payload) <= d.size {
				return vp8Descriptor{}, false
			}
			if payload[d.size]&longPicture != 0 {
				d.size++
			}
			d.size++
		}
		if bits&hasTL0 != 0 {
			d.size++
		}
		if bits&(hasTID|hasKeyID) != 0 {
			d.size++
		}
	}
	if len(payload) <= d.size {
		return vp8Descriptor{}, false
	}
	return d, true
}

// isVP8Key tells whether a frame that begins with data is a key frame (RFC 6386, section 9.1). Those bytes are in clear in
// encrypted frames too.
func isVP8Key(data []byte) bool {
	if data[0]&1 != 0 {
		return false
	}
	// The start code makes sure that the packet really begins a frame: some senders set the S bit for later partitions without
	// counting them.
	return len(data) < 6 || data[3] == 0x9d && data[4] == 0x01 && data[5] == 0x2a
}
