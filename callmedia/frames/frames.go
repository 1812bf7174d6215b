// Package frames turns RTP packets into whole encoded frames, and frames into packets again. End-to-end encryption of frames (package e2ee) needs
// that on both sides of a relay.
//
// An [Assembler] is a jitter buffer. It waits only as long as a NACK (RFC 4585) can still repair a loss, and never hands out a video frame that
// refers to a missing one. A [Packetizer] goes the other way. Both are pure: they have no goroutine, no clock and no randomness of their own.
// Neither allocates in steady state. Neither may be used by several goroutines at once.
//
// VP8 (RFC 7741) and Opus (RFC 7587) are supported. VP8's payload descriptor belongs to RTP and not to a frame: temporal layers are received, but
// not described again when a frame is sent.
//
// # Why not pion's
//
// pion has payloaders and a samplebuilder. The samplebuilder gives a packet up when enough later ones have come. Waiting for a NACK needs a time
// instead. The samplebuilder does not know which frames refer to a lost one, nor when a key frame has to be asked for. And both allocate: for a
// picture of 7,000 bytes there and back BenchmarkRelay counts 25 allocations of 38 kB for pion's, none for ours, and ours is more than ten times
// as fast.
//
// The VP8 payload descriptor is written and read by hand for the same reason. pion's payloader makes a slice for each packet, and its first
// picture id can't be set. Its reader, codecs.VP8Packet, is what FuzzVP8Descriptor compares ours with.
package frames

import (
	"errors"

	"multifactorymodel.org/ewindow/callmedia/codec"
)

// errUnsupported means that a codec can't be packetised.
var errUnsupported = errors.New("codec is not supported")

// supported says whether assemblers and packetizers know the codec.
func supported(c codec.Codec) bool { return c == codec.Opus || c == codec.VP8 }

// vp8Descriptor is what we use of a payload descriptor (RFC 7741, section 4.2).
type vp8Descriptor struct {
	size  int  // of the descriptor in bytes
	start bool // the packet begins a frame: S bit and partition 0
}

// parseVP8Descriptor reads the descriptor at the start of a payload. It is false when the payload has nothing behind it.
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

// isVP8Key says whether a frame that begins with data is a key frame (RFC 6386, section 9.1). An encrypted frame has these bytes in clear, too.
func isVP8Key(data []byte) bool {
	if data[0]&1 != 0 {
		return false
	}
	// The start code makes sure that the packet really begins a frame: some senders set the S bit for later partitions, too, and do not number the
	// partitions.
	return len(data) < 6 || data[3] == 0x9d && data[4] == 0x01 && data[5] == 0x2a
}
