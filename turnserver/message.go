package turnserver

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the protocol's hash
	"encoding/binary"
	"net/netip"
)

// The part of STUN and TURN that a relay needs (RFC 8489, sections 5 and 14; RFC 8656, sections 17 to 19).
const (
	stunHeader  = 20
	magicCookie = 0x2112A442
	channelHead = 4
	maxPeers    = 16 // in one CreatePermission
	tokenSize   = 8

	methodBinding          = 0x001
	methodAllocate         = 0x003
	methodRefresh          = 0x004
	methodSend             = 0x006
	methodData             = 0x007
	methodCreatePermission = 0x008
	methodChannelBind      = 0x009

	classRequest    = 0x000
	classIndication = 0x010
	classSuccess    = 0x100
	classError      = 0x110
	classMask       = 0x110

	attrMappedAddress      = 0x0001
	attrUsername           = 0x0006
	attrMessageIntegrity   = 0x0008
	attrErrorCode          = 0x0009
	attrUnknownAttributes  = 0x000a
	attrChannelNumber      = 0x000c
	attrLifetime           = 0x000d
	attrPeerAddress        = 0x0012
	attrData               = 0x0013
	attrRealm              = 0x0014
	attrNonce              = 0x0015
	attrRelayedAddress     = 0x0016
	attrRequestedFamily    = 0x0017
	attrEvenPort           = 0x0018
	attrRequestedTransport = 0x0019
	attrDontFragment       = 0x001a
	attrXORMappedAddress   = 0x0020
	attrReservationToken   = 0x0022

	protocolUDP = 17
	familyIPv4  = 1
	familyIPv6  = 2
)

// isChannelData tells channel data from STUN by its first byte. RFC 8656, section 12, allows channel numbers from 0x4000 to 0x4fff
// only. Clients of RFC 5766, which it replaced, use numbers up to 0x7fff, coturn's client among them.
func isChannelData(p []byte) bool { return len(p) >= channelHead && p[0]&0xc0 == 0x40 }

// message is a STUN message that has come. Its slices point into the bytes that it was read from. If an attribute comes more than once
// the first one counts; only XOR-PEER-ADDRESS counts each time.
type message struct {
	raw           []byte
	method, class uint16
	transaction   []byte // with the cookie

	username, realm, nonce []byte
	signed                 bool
	integrity              []byte // of MESSAGE-INTEGRITY
	integrityAt            int    // where that attribute begins

	transport         byte // REQUESTED-TRANSPORT, 0 if there is none
	family            byte // REQUESTED-ADDRESS-FAMILY, 0 if there is none
	lifetime          uint32
	hasLifetime       bool
	evenPort, reserve bool   // EVEN-PORT, and its R bit
	token             []byte // RESERVATION-TOKEN, nil if there is none
	dontFragment      bool   // DONT-FRAGMENT
	channel           uint16
	data              []byte
	hasData           bool
	peers             [maxPeers]netip.AddrPort
	peerCount         int

	malformed bool     // an attribute that we know has the wrong size
	unknown   []uint16 // comprehension-required attributes that we do not know; the first few
	unknowns  [8]uint16
}

// parse reads a STUN message. It returns false for bytes that are not a STUN message. Those get no answer. It ignores attributes after
// MESSAGE-INTEGRITY (RFC 8489, section 14.5). m's slices point into p.
func (m *message) parse(p []byte) bool {
	*m = message{raw: p}
	if len(p) < stunHeader || p[0]&0xc0 != 0 || binary.BigEndian.Uint32(p[4:]) != magicCookie {
		return false
	}
	length := int(binary.BigEndian.Uint16(p[2:]))
	if length%4 != 0 || len(p)-stunHeader < length {
		return false
	}
	kind := binary.BigEndian.Uint16(p)
	m.class = kind & classMask
	m.method = kind&0x000f | kind&0x00e0>>1 | kind&0x3e00>>2
	m.transaction = p[4:stunHeader]
	m.unknown = m.unknowns[:0]
	for at, end := stunHeader, stunHeader+length; at < end; {
		if end-at < 4 {
			return false
		}
		kind, size := binary.BigEndian.Uint16(p[at:]), int(binary.BigEndian.Uint16(p[at+2:]))
		padded := (size + 3) &^ 3
		if end-at-4 < padded {
			return false
		}
		if kind == attrMessageIntegrity {
			if size != sha1.Size {
				return false
			}
			m.signed, m.integrity, m.integrityAt = true, p[at+4:at+4+size], at
			return true
		}
		m.take(kind, p[at+4:at+4+size])
		at += 4 + padded
	}
	return true
}

// take stores one attribute.
func (m *message) take(kind uint16, value []byte) {
	first := func(have *[]byte) {
		if *have == nil {
			*have = value
		}
	}
	sized := func(size int) bool {
		m.malformed = m.malformed || len(value) != size
		return len(value) == size
	}
	switch kind {
	case attrUsername:
		first(&m.username)
	case attrRealm:
		first(&m.realm)
	case attrNonce:
		first(&m.nonce)
	case attrRequestedTransport:
		if sized(4) && m.transport == 0 {
			m.transport = value[0]
		}
	case attrRequestedFamily:
		if sized(4) && m.family == 0 {
			m.family = value[0]
		}
	case attrLifetime:
		if sized(4) && !m.hasLifetime {
			m.lifetime, m.hasLifetime = binary.BigEndian.Uint32(value), true
		}
	case attrEvenPort:
		if sized(1) {
			m.evenPort, m.reserve = true, value[0]&0x80 != 0
		}
	case attrDontFragment:
		m.dontFragment = true
	case attrReservationToken:
		if sized(tokenSize) {
			first(&m.token)
		}
	case attrChannelNumber:
		if sized(4) && m.channel == 0 {
			m.channel = binary.BigEndian.Uint16(value)
		}
	case attrData:
		if !m.hasData {
			m.data, m.hasData = value, true
		}
	case attrPeerAddress:
		peer, ok := m.xorAddress(value)
		if !ok || m.peerCount == maxPeers {
			m.malformed = true
			return
		}
		m.peers[m.peerCount] = peer
		m.peerCount++
	default:
		// Attributes from 0x8000 on are comprehension-optional.
		if kind < 0x8000 && kind != attrMappedAddress && len(m.unknown) < cap(m.unknown) {
			m.unknown = append(m.unknown, kind)
		}
	}
}

// xorAddress reads a transport address that is XORed with the cookie and the transaction id (RFC 8489, section 14.2).
func (m *message) xorAddress(value []byte) (netip.AddrPort, bool) {
	if len(value) < 8 || value[1] == familyIPv4 && len(value) != 8 || value[1] == familyIPv6 && len(value) != 20 ||
		value[1] != familyIPv4 && value[1] != familyIPv6 {
		return netip.AddrPort{}, false
	}
	port := binary.BigEndian.Uint16(value[2:]) ^ magicCookie>>16
	var ip [16]byte
	n := copy(ip[:], value[4:])
	for i := range n {
		ip[i] ^= m.transaction[i]
	}
	host := netip.AddrFrom16(ip)
	if n == 4 {
		host = netip.AddrFrom4([4]byte(ip[:4]))
	}
	return netip.AddrPortFrom(host, port), true
}

// verify says whether MESSAGE-INTEGRITY was made with the key (RFC 8489, section 14.5). While it computes, it changes the message's
// length.
func (m *message) verify(key []byte) bool {
	if !m.signed {
		return false
	}
	length := [2]byte(m.raw[2:4])
	binary.BigEndian.PutUint16(m.raw[2:], uint16(m.integrityAt+4+sha1.Size-stunHeader))
	mac := hmac.New(sha1.New, key)
	mac.Write(m.raw[:m.integrityAt])
	copy(m.raw[2:4], length[:])
	return hmac.Equal(mac.Sum(nil), m.integrity)
}

// answer is a STUN message being built at the end of a buffer.
type answer struct {
	p     []byte
	begin int
}

// begin starts a message with a transaction id.
func begin(p []byte, method, class uint16, transaction []byte) *answer {
	a := &answer{p, len(p)}
	a.p = binary.BigEndian.AppendUint16(a.p, method&0x000f|method&0x0070<<1|method&0x0f80<<2|class)
	a.p = append(a.p, 0, 0)
	a.p = append(a.p, transaction...)
	return a
}

func (a *answer) add(kind uint16, value []byte) {
	a.p = binary.BigEndian.AppendUint16(a.p, kind)
	a.p = binary.BigEndian.AppendUint16(a.p, uint16(len(value)))
	a.p = append(a.p, value...)
	for (len(a.p)-a.begin)%4 != 0 {
		a.p = append(a.p, 0)
	}
}

func (a *answer) addNumber(kind uint16, value uint32) {
	a.add(kind, binary.BigEndian.AppendUint32(nil, value))
}

// addXOR adds a transport address, XORed.
func (a *answer) addXOR(kind uint16, ap netip.AddrPort) {
	var value [20]byte
	size := putXOR(value[:], ap, a.p[a.begin+4:a.begin+stunHeader])
	a.add(kind, value[:size])
}

// putXOR writes the value of an XORed address and returns its size, 8 or 20.
func putXOR(value []byte, ap netip.AddrPort, transaction []byte) int {
	host := ap.Addr().Unmap()
	size := 20
	value[0], value[1] = 0, familyIPv6
	if host.Is4() {
		size, value[1] = 8, familyIPv4
		ip := host.As4()
		copy(value[4:], ip[:])
	} else {
		ip := host.As16()
		copy(value[4:], ip[:])
	}
	binary.BigEndian.PutUint16(value[2:], ap.Port()^magicCookie>>16)
	for i := range size - 4 {
		value[4+i] ^= transaction[i]
	}
	return size
}

// done completes the message, signed with the key if there is one, and returns the whole buffer.
func (a *answer) done(key []byte) []byte {
	length := len(a.p) - a.begin - stunHeader
	if key != nil {
		binary.BigEndian.PutUint16(a.p[a.begin+2:], uint16(length+4+sha1.Size))
		mac := hmac.New(sha1.New, key)
		mac.Write(a.p[a.begin:])
		a.add(attrMessageIntegrity, mac.Sum(nil))
		return a.p
	}
	binary.BigEndian.PutUint16(a.p[a.begin+2:], uint16(length))
	return a.p
}
