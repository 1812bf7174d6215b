package turnserver

import "encoding/binary"

// The few things that are looked at in a STUN message before pion gets it (RFC 8489, sections 5 and 14; RFC 8656, section 18).
const (
	stunHeader        = 20
	magicCookie       = 0x2112A442
	classMask         = 0x0110
	typeAllocate      = 0x0003
	typeAllocateError = 0x0113

	attrMessageIntegrity   = 0x0008
	attrErrorCode          = 0x0009
	attrRequestedTransport = 0x0019

	protocolUDP = 17
)

// isChannelData tells channel data from STUN by its first byte. RFC 8656, section 12 keeps channels to 0x4000–0x4fff, but clients
// of its forerunner RFC 5766, coturn's among them, take numbers up to 0x7fff.
func isChannelData(p []byte) bool { return len(p) >= 4 && p[0]&0xc0 == 0x40 }

// request is what is known of a STUN message before it is authenticated.
type request struct {
	isRequest bool // and no indication or response
	allocate  bool
	integrity digest // MESSAGE-INTEGRITY
	signed    bool   // whether there is one
	transport byte   // protocol of REQUESTED-TRANSPORT, 0 if there is none
}

// parseRequest reads a STUN message's type and the attributes that stand before and at its MESSAGE-INTEGRITY; what comes after
// is ignored by rule. It reports false for bytes that are no STUN message.
func parseRequest(p []byte) (r request, ok bool) {
	if len(p) < stunHeader || p[0]&0xc0 != 0 || binary.BigEndian.Uint32(p[4:]) != magicCookie {
		return request{}, false
	}
	length := int(binary.BigEndian.Uint16(p[2:]))
	if length%4 != 0 || len(p)-stunHeader < length {
		return request{}, false
	}
	messageType := binary.BigEndian.Uint16(p)
	r.isRequest = messageType&classMask == 0
	r.allocate = messageType == typeAllocate
	for rest := p[stunHeader : stunHeader+length]; len(rest) > 0; {
		kind, size := binary.BigEndian.Uint16(rest), int(binary.BigEndian.Uint16(rest[2:]))
		padded := (size + 3) &^ 3
		if len(rest)-4 < padded {
			return request{}, false
		}
		value := rest[4 : 4+size]
		rest = rest[4+padded:]
		switch {
		case kind == attrRequestedTransport && size == 4 && r.transport == 0:
			r.transport = value[0]
		case kind == attrMessageIntegrity:
			if size != len(r.integrity) {
				return request{}, false
			}
			r.signed = true
			copy(r.integrity[:], value)
			return r, true
		}
	}
	return r, true
}

// unsupportedTransport is the answer 442 (RFC 8656, section 19) to an Allocate request.
func unsupportedTransport(request []byte) []byte {
	const reason = "Unsupported Transport Protocol"
	value := append([]byte{0, 0, 4, 42}, reason...)
	padded := (len(value) + 3) &^ 3
	p := make([]byte, stunHeader+4+padded)
	binary.BigEndian.PutUint16(p, typeAllocateError)
	binary.BigEndian.PutUint16(p[2:], uint16(4+padded))
	copy(p[4:stunHeader], request[4:stunHeader]) // cookie and transaction ID
	binary.BigEndian.PutUint16(p[stunHeader:], attrErrorCode)
	binary.BigEndian.PutUint16(p[stunHeader+2:], uint16(len(value)))
	copy(p[stunHeader+4:], value)
	return p
}
