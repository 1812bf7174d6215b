package turnserver

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"time"
)

// nonceLifetime is how long a client may use a nonce. RFC 8656, section 5, asks for a new one at least once an hour.
const nonceLifetime = time.Hour

const (
	nonceMAC  = 8  // bytes of a nonce's signature
	nonceSize = 16 // bytes of its text
)

// nonces makes and checks nonces. It keeps none of them: each holds the time at which it expires, signed together with the address
// that it was given to. A nonce that somebody heard on the wire is worth nothing from another address. It may be used by several
// goroutines.
type nonces struct{ key [32]byte }

func newNonces() *nonces {
	n := &nonces{}
	_, _ = rand.Read(n.key[:]) // it never fails
	return n
}

// add appends a new nonce for a client to p.
func (n *nonces) add(p []byte, now time.Time, source addr, stream uint64) []byte {
	var raw [4 + nonceMAC]byte
	binary.BigEndian.PutUint32(raw[:], uint32(now.Add(nonceLifetime).Unix()))
	copy(raw[4:], n.sign(raw[:4], source, stream))
	return base64.RawURLEncoding.AppendEncode(p, raw[:])
}

// valid says whether a nonce is one of ours, was given to this client and has not expired.
func (n *nonces) valid(nonce []byte, now time.Time, source addr, stream uint64) bool {
	var raw [4 + nonceMAC]byte
	if len(nonce) != nonceSize {
		return false
	}
	if _, err := base64.RawURLEncoding.Decode(raw[:], nonce); err != nil {
		return false
	}
	left := int64(binary.BigEndian.Uint32(raw[:])) - now.Unix()
	return left > 0 && left <= int64(nonceLifetime/time.Second) &&
		subtle.ConstantTimeCompare(raw[4:], n.sign(raw[:4], source, stream)) == 1
}

// sign covers the time and the client: its address, and the number of its stream, 0 for UDP.
func (n *nonces) sign(expiry []byte, source addr, stream uint64) []byte {
	var input [4 + 16 + 2 + 8]byte
	copy(input[:], expiry)
	copy(input[4:], source.ip[:])
	binary.BigEndian.PutUint16(input[20:], source.port)
	binary.BigEndian.PutUint64(input[22:], stream)
	mac := hmac.New(sha256.New, n.key[:])
	mac.Write(input[:])
	return mac.Sum(nil)[:nonceMAC]
}
