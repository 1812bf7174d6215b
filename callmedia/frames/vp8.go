package frames

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

// appendVP8Descriptor appends our payload descriptor of a picture's packet.
func appendVP8Descriptor(b []byte, id uint16, first bool) []byte {
	bits := byte(0x80) // X
	if first {
		bits |= 0x10 // S
	}
	return append(b, bits, 0x80, 0x80|byte(id>>8), byte(id)) // I, M
}
