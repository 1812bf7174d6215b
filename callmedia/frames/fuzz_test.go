package frames

import (
	"bytes"
	"testing"

	"github.com/pion/rtp/codecs"
)

// FuzzVP8Descriptor compares our reading of payload descriptors with pion's.
func FuzzVP8Descriptor(f *testing.F) {
	for _, b := range [][]byte{
		{}, {0x10, 1}, {0x13, 0}, {0x90, 0x80, 0x7f, 1}, {0x90, 0x80, 0xff, 0xff, 1}, {0xb0, 0xf0, 0x92, 0x34, 0x56, 0x61, 1},
		{0xb0, 0xf0, 0x92, 0x34, 0x56, 0x61}, {0x90, 0x10, 0x01, 1}, {0x90, 0x30, 0x01, 1}, {0x90}, {0x80, 0xe0, 0x80},
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		got, ok := parseVP8Descriptor(payload)
		var peer codecs.VP8Packet
		rest, err := peer.Unmarshal(payload)
		if want := err == nil && len(rest) > 0; ok != want {
			t.Fatalf("%x is accepted: %t, want %t (%v)", payload, ok, want, err)
		}
		if !ok {
			if got != (vp8Descriptor{}) {
				t.Fatalf("refused descriptor %+v", got)
			}
			return
		}
		if !bytes.Equal(payload[got.size:], rest) || got.start != (peer.S == 1 && peer.PID == 0) {
			t.Fatalf("%x was read as %+v, want %+v", payload, got, peer)
		}
	})
}
