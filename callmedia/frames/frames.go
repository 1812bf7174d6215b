// Package frames turns RTP packets into whole encoded frames, and frames into packets again. End-to-end encryption of frames (package e2ee) needs
// that on both sides of a relay.
//
// An [Assembler] is a jitter buffer for pictures; sound waits for nothing. It waits only as long as a NACK (RFC 4585) can still repair a loss, and never
// hands out a video frame that refers to a missing one. A [Packetizer] goes the other way. Both are pure: they have no goroutine, no clock and no
// randomness of their own. Neither allocates in steady state. Neither may be used by several goroutines at once.
//
// Opus (RFC 7587), VP8 (RFC 7741), VP9 (RFC 9628) and H.264 (RFC 6184, non-interleaved mode) are supported. A frame of H.264 is a byte stream
// of NAL units. Payload descriptors belong to RTP and not to a frame: layers are received, but
// not described again when a frame is sent.
//
// # Why not pion's
//
// pion has payloaders and a samplebuilder. The samplebuilder gives a packet up when enough later ones have come. Waiting for a NACK needs a time
// instead. The samplebuilder does not know which frames refer to a lost one, nor when a key frame has to be asked for. And both allocate: for a
// picture of 7,000 bytes there and back BenchmarkRelay counts 25 allocations of 38 kB for pion's, none for ours, and ours is more than ten times
// as fast.
//
// Payload descriptors are written and read by hand for the same reason. pion's payloaders make a slice for each packet, and their first
// picture id can't be set. Its readers, such as codecs.VP8Packet, are what the fuzz tests compare ours with.
package frames

import (
	"errors"

	"multifactorymodel.org/ewindow/callmedia/codec"
)

// errUnsupported means that a codec can't be packetised.
var errUnsupported = errors.New("codec is not supported")

// supported says whether assemblers and packetizers know the codec.
func supported(c codec.Codec) bool { return c.Known() }

// piece is what one packet's payload has of a frame.
type piece struct {
	offset int  // where the frame's bytes begin
	start  bool // it begins a frame
	key    bool // it has the beginning of a key frame
	end    bool // it ends a layer that is encrypted on its own
}

// parse reads the start of a payload that is not empty. It is false when the payload is not valid for the codec.
func parse(c codec.Codec, payload []byte) (piece, bool) {
	switch c {
	case codec.VP8:
		d, ok := parseVP8Descriptor(payload)
		return piece{offset: d.size, start: d.start, key: ok && d.start && isVP8Key(payload[d.size:])}, ok
	case codec.VP9:
		d, ok := parseVP9Descriptor(payload)
		return piece{offset: d.size, start: d.start, key: d.start && !d.inter, end: d.end}, ok
	case codec.H264:
		return parseH264(payload)
	}
	return piece{start: true}, true
}
