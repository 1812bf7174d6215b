package e2ee

import (
	"slices"

	"multifactorymodel.org/ewindow/callmedia/codec"
)

// emulationByte keeps start codes out of a NAL unit's bytes (ITU-T H.264, 7.4.1).
const emulationByte = 3

// clearHeader returns how many bytes at the start of frame stay in clear. It is false when the frame is too short for its codec, or
// the codec is not known.
func clearHeader(p *codec.Parameters, frame []byte) (int, bool) {
	switch {
	case len(frame) == 0 || p.Name == "":
		return 0, false
	case p.AnnexB:
		return sliceHeader(frame)
	}
	n := p.ClearKey
	if frame[0]&1 != 0 && p.ClearDelta != p.ClearKey {
		// Only VP8: a one in the frame tag's first bit means that this is no key frame (RFC 6386, section 9.1).
		n = p.ClearDelta
	}
	return n, len(frame) >= n
}

// sliceHeader returns the length of an Annex B frame up to and with the second byte of its first slice.
func sliceHeader(frame []byte) (int, bool) {
	zeros := 0
	for i, b := range frame {
		if b == 1 && zeros >= 2 && i+2 < len(frame) && isSlice(frame[i+1]) {
			return i + 3, true
		}
		if b == 0 {
			zeros++
		} else {
			zeros = 0
		}
	}
	return 0, false
}

// isSlice tells whether the first byte of a NAL unit's header belongs to a slice of a picture.
func isSlice(header byte) bool {
	t := header & 0x1f
	return t == 1 || t == 5
}

// appendLongStartCodes appends header to dst, with each start code of three bytes replaced by the one of four bytes. Receivers write the long form
// when they rebuild NAL units, and the header is authenticated.
func appendLongStartCodes(dst, header []byte) []byte {
	zeros := 0
	for _, b := range header {
		if b == 1 && zeros == 2 {
			dst = append(dst, 0)
		}
		dst = append(dst, b)
		if b == 0 {
			zeros++
		} else {
			zeros = 0
		}
	}
	return dst
}

// escape inserts emulation prevention bytes into b[from:] and returns the longer b.
func escape(b []byte, from int) []byte {
	extra, zeros := 0, 0
	for _, c := range b[from:] {
		if c <= emulationByte && zeros >= 2 {
			extra++
			zeros = 0
		}
		if c == 0 {
			zeros++
		} else {
			zeros = 0
		}
	}
	if extra == 0 {
		return b
	}
	end := len(b)
	b = slices.Grow(b, extra)[:end+extra]
	// The bytes are moved to the end first, so that each is read before it is overwritten.
	copy(b[from+extra:], b[from:end])
	w := from
	zeros = 0
	for r := from + extra; r < len(b); r++ {
		c := b[r]
		if c <= emulationByte && zeros >= 2 {
			b[w] = emulationByte
			w++
			zeros = 0
		}
		b[w] = c
		w++
		if c == 0 {
			zeros++
		} else {
			zeros = 0
		}
	}
	return b
}

// escaped says whether b has emulation prevention bytes. It looks only as far as LiveKit's clients do.
func escaped(b []byte) bool {
	for i := 0; i+3 < len(b); i++ {
		if b[i] == 0 && b[i+1] == 0 && b[i+2] == emulationByte {
			return true
		}
	}
	return false
}

// appendUnescaped appends src to dst without its emulation prevention bytes.
func appendUnescaped(dst, src []byte) []byte {
	zeros := 0
	for _, c := range src {
		if c == emulationByte && zeros >= 2 {
			zeros = 0
			continue
		}
		dst = append(dst, c)
		if c == 0 {
			zeros++
		} else {
			zeros = 0
		}
	}
	return dst
}
