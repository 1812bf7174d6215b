package e2ee

import "slices"

const (
	vp8KeyHeader   = 10
	vp8DeltaHeader = 3
	// emulationByte keeps start codes out of a NAL unit's bytes (ITU-T H.264, 7.4.1).
	emulationByte = 3
)

// clearHeader returns how many bytes at the start of frame stay in clear; false when the frame is too short for it.
func clearHeader(c Codec, frame []byte) (int, bool) {
	if len(frame) == 0 {
		return 0, false
	}
	n := 0
	switch c {
	case Opus:
		n = 1 // the TOC byte (RFC 6716, 3.1)
	case VP8:
		// A zero in the frame tag's first bit means key frame (RFC 6386, 9.1).
		if n = vp8KeyHeader; frame[0]&1 != 0 {
			n = vp8DeltaHeader
		}
	case VP9:
	case H264, H265:
		return sliceHeader(c, frame)
	default:
		return 0, false
	}
	return n, len(frame) >= n
}

// sliceHeader returns the length up to and with the second byte of the first slice in an Annex B frame.
func sliceHeader(c Codec, frame []byte) (int, bool) {
	zeros := 0
	for i, b := range frame {
		if b == 1 && zeros >= 2 && i+2 < len(frame) && isSlice(c, frame[i+1]) {
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

// isSlice tells whether the NAL unit header's first byte belongs to a slice of a picture.
func isSlice(c Codec, header byte) bool {
	if c == H264 {
		t := header & 0x1f
		return t == 1 || t == 5
	}
	t := header >> 1 & 0x3f
	return t <= 9 || t >= 16 && t <= 21
}

// appendLongStartCodes appends header to dst with every three-byte start code made four bytes long. Receivers rebuild NAL units
// with the long form, and the header is authenticated.
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
	// Moved to the end, the bytes are read before they are overwritten.
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

// escaped tells whether b holds emulation prevention bytes, looking as far as LiveKit's clients do.
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
