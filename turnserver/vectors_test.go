package turnserver

import (
	"crypto/md5"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

// TestVectors reads the messages of RFC 5769, sections 2.2 to 2.4.
func TestVectors(t *testing.T) {
	longTerm := md5.Sum([]byte("マトリックス:example.org:TheMatrIX"))
	for name, v := range map[string]struct {
		key    []byte
		mapped string
		text   string
	}{
		"IPv4 response": {[]byte("VOkJxbRl1RmTxUk/WvJxBt"), "192.0.2.1:32853", `
			0101003c 2112a442 b7e7a701 bc34d686 fa87dfae
			8022000b 74657374 20766563 746f7220 00200008 0001a147 e112a643
			00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7 80280004 c07d4c96`},
		"IPv6 response": {[]byte("VOkJxbRl1RmTxUk/WvJxBt"), "[2001:db8:1234:5678:11:2233:4455:6677]:32853", `
			01010048 2112a442 b7e7a701 bc34d686 fa87dfae
			8022000b 74657374 20766563 746f7220 00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9
			00080014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41 80280004 c8fb0b4c`},
		"long-term request": {longTerm[:], "", `
			00010060 2112a442 78ad3433 c6ad72c0 29da412e
			00060012 e3839ee3 8388e383 aae38383 e382afe3 82b90000
			0015001c 662f2f34 39396b39 35346436 4f4c3334 6f4c3946 53547679 36347341
			0014000b 6578616d 706c652e 6f726700 00080014 f6702465 6dd64a3e 02b8e071 2e85c9a2 8ca89666`},
	} {
		raw, err := hex.DecodeString(strings.Join(strings.Fields(v.text), ""))
		if err != nil {
			t.Fatal(err)
		}
		var m message
		if !m.parse(raw) || !m.signed || !m.verify(v.key) || m.verify([]byte("another key")) {
			t.Errorf("%s: not read, or not verified: %+v", name, m)
			continue
		}
		if v.mapped == "" {
			if string(m.username) != "マトリックス" || string(m.realm) != "example.org" || string(m.nonce) != "f//499k954d6OL34oL9FSTvy64sA" {
				t.Errorf("%s: read as %q of %q with %q", name, m.username, m.realm, m.nonce)
			}
			continue
		}
		// The address comes after an attribute of 16 bytes.
		size := int(raw[stunHeader+16+3])
		at := stunHeader + 16 + 4
		got, ok := m.xorAddress(raw[at : at+size])
		if !ok || got != netip.MustParseAddrPort(v.mapped) {
			t.Errorf("%s: %v, want %s", name, got, v.mapped)
		}
		a := begin(nil, m.method, m.class, m.transaction)
		a.addXOR(attrXORMappedAddress, got)
		if wrote := a.done(nil)[stunHeader:]; string(wrote) != string(raw[at-4:at+size]) {
			t.Errorf("%s: written as %x", name, wrote)
		}
	}
}
