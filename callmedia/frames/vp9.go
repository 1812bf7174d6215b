package frames

// maxSpatialLayers is how many spatial layers a picture has at most, and maxReferences how many pictures it may refer to (RFC 9628, section 4.2).
const (
	maxSpatialLayers = 5
	maxReferences    = 3
)

// vp9Descriptor is what we use of a payload descriptor (RFC 9628, section 4.2).
//
// A picture has a frame for each spatial layer, all with one timestamp. Browsers encrypt each of these frames on its own. They decode them together,
// joined in order, and so does the page.
type vp9Descriptor struct {
	size  int  // of the descriptor in bytes
	start bool // the packet begins a layer that does not depend on a lower one of its picture: B bit, without D bit
	end   bool // the packet ends a layer: E bit
	inter bool // the layer refers to earlier pictures: P bit
}

// parseVP9Descriptor reads the descriptor at the start of a payload, in flexible or non-flexible mode. It is false when the descriptor is not valid or
// the payload has nothing behind it.
func parseVP9Descriptor(payload []byte) (vp9Descriptor, bool) {
	const (
		hasPicture, isInter, hasLayers, isFlexible = 0x80, 0x40, 0x20, 0x10
		begins, ends, hasStructure                 = 0x08, 0x04, 0x02
		longPicture, dependent, more               = 0x80, 0x01, 0x01
	)
	if len(payload) == 0 {
		return vp9Descriptor{}, false
	}
	bits := payload[0]
	d := vp9Descriptor{size: 1, start: bits&begins != 0, end: bits&ends != 0, inter: bits&isInter != 0}
	if bits&hasPicture != 0 {
		if len(payload) <= d.size {
			return vp9Descriptor{}, false
		}
		if payload[d.size]&longPicture != 0 {
			d.size++
		}
		d.size++
	}
	if bits&hasLayers != 0 {
		if len(payload) <= d.size || payload[d.size]>>1&7 >= maxSpatialLayers {
			return vp9Descriptor{}, false
		}
		d.start = d.start && payload[d.size]&dependent == 0
		d.size++
		if bits&isFlexible == 0 {
			d.size++ // TL0PICIDX
		}
	}
	if bits&isFlexible != 0 && d.inter {
		for n := 1; ; n++ {
			if len(payload) <= d.size || n > maxReferences {
				return vp9Descriptor{}, false
			}
			d.size++
			if payload[d.size-1]&more == 0 {
				break
			}
		}
	}
	if bits&hasStructure != 0 {
		d.size = skipVP9Structure(payload, d.size)
	}
	if len(payload) <= d.size {
		return vp9Descriptor{}, false
	}
	return d, true
}

// skipVP9Structure returns where the scalability structure ends that begins at i. If it is cut off, that is at or behind the end of the payload.
func skipVP9Structure(payload []byte, i int) int {
	const hasSizes, hasGroup = 0x10, 0x08
	if len(payload) <= i {
		return i
	}
	bits := payload[i]
	i++
	if bits&hasSizes != 0 {
		i += 4 * (int(bits>>5) + 1)
	}
	if bits&hasGroup == 0 || len(payload) <= i {
		return i
	}
	pictures := int(payload[i])
	i++
	for ; pictures > 0 && i < len(payload); pictures-- {
		i += 1 + int(payload[i]>>2&3)
	}
	return i + pictures // those that are missing have a byte at least
}

// isVP9Key says whether a frame that begins with data is a key frame (VP9 bitstream specification, section 6.2). An encrypted frame has nothing of this
// in clear.
func isVP9Key(data []byte) bool {
	bits := data[0] << 4 // behind the frame marker and the profile
	if data[0]&0x30 == 0x30 {
		bits <<= 1 // profile 3 has a reserved bit
	}
	const showExisting, nonKey = 0x80, 0x40
	return bits&(showExisting|nonKey) == 0
}

// appendVP9Descriptor appends our payload descriptor of a picture's packet, in flexible mode. A picture that is no key frame refers to the one before,
// since none is left out.
func appendVP9Descriptor(b []byte, id uint16, key, first, last bool) []byte {
	bits := byte(0x80 | 0x10 | 0x01) // I, F, Z
	if !key {
		bits |= 0x40 // P
	}
	if first {
		bits |= 0x08 // B
	}
	if last {
		bits |= 0x04 // E
	}
	b = append(b, bits, 0x80|byte(id>>8), byte(id)) // M
	if !key {
		b = append(b, 1<<1) // P_DIFF
	}
	return b
}
