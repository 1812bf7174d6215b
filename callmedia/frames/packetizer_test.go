package frames

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"

	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/e2ee"
)

// vp8Frame returns size bytes that begin like a VP8 frame. Different n make different frames.
func vp8Frame(key bool, size, n int) []byte {
	r := rand.New(rand.NewPCG(uint64(size), uint64(n)))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	b[0] |= 1
	if key {
		b[0] &^= 1
		copy(b[3:], []byte{0x9d, 0x01, 0x2a})
	}
	return b
}

// cut returns a frame's packets.
func cut(t testing.TB, p *Packetizer, frame []byte, ts uint32) []*rtp.Packet {
	t.Helper()
	var out []*rtp.Packet
	err := p.Packetize(frame, ts, func(packet *rtp.Packet) error {
		c := *packet
		c.Payload = bytes.Clone(packet.Payload)
		out = append(out, &c)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestPacketizeVP8 reads our packets with pion's depacketizer.
func TestPacketizeVP8(t *testing.T) {
	const mtu = 500
	p := NewPacketizer(codec.VP8, mtu, 77, 96, Seed{Sequence: 65534, PictureID: 0x7ffe})
	sequence := uint16(65534)
	for n, size := range []int{1, 483, 484, 485, 968, 969, 5000, 100000} {
		frame := vp8Frame(n == 0, max(size, 6), n)[:size]
		packets := cut(t, p, frame, uint32(n)*3000)
		if want := (size + 483) / 484; len(packets) != want {
			t.Errorf("%d bytes: %d packets, want %d", size, len(packets), want)
		}
		var got []byte
		for i, packet := range packets {
			if packet.Version != 2 || packet.SSRC != 77 || packet.PayloadType != 96 || packet.Timestamp != uint32(n)*3000 {
				t.Errorf("header %+v", packet.Header)
			}
			if packet.SequenceNumber != sequence {
				t.Errorf("sequence number %d, want %d", packet.SequenceNumber, sequence)
			}
			sequence++
			if last := i == len(packets)-1; packet.Marker != last {
				t.Errorf("marker of packet %d of %d is %t", i, len(packets), packet.Marker)
			}
			if size := packet.MarshalSize(); size > mtu {
				t.Errorf("packet of %d bytes, want at most %d", size, mtu)
			}
			var d codecs.VP8Packet
			part, err := d.Unmarshal(packet.Payload)
			if err != nil {
				t.Fatal(err)
			}
			if (d.S == 1) != (i == 0) || d.PID != 0 || d.I != 1 || d.L != 0 || d.T != 0 || d.K != 0 {
				t.Errorf("packet %d has the descriptor %x", i, packet.Payload[:4])
			}
			if want := uint16(0x7ffe+n) & 0x7fff; d.PictureID != want {
				t.Errorf("picture id %d, want %d", d.PictureID, want)
			}
			got = append(got, part...)
		}
		if !bytes.Equal(got, frame) {
			t.Errorf("%d bytes came out different", size)
		}
		if len(packets) > 1 && len(packets[0].Payload)-len(packets[len(packets)-1].Payload) > 1 {
			t.Errorf("%d bytes: packets of %d and %d bytes", size, len(packets[0].Payload), len(packets[len(packets)-1].Payload))
		}
	}
}

func TestPacketizeOpus(t *testing.T) {
	p := NewPacketizer(codec.Opus, 0, 5, 111, Seed{Sequence: 65535})
	for i, size := range []int{1, 160, 1275 + e2ee.Overhead} {
		frame := vp8Frame(false, size, i)
		packets := cut(t, p, frame, uint32(i)*960)
		if len(packets) != 1 || !bytes.Equal(packets[0].Payload, frame) || packets[0].Marker {
			t.Fatalf("%d bytes became %v", size, packets)
		}
		if want := uint16(65535 + i); packets[0].SequenceNumber != want || packets[0].Timestamp != uint32(i)*960 {
			t.Errorf("header %+v", packets[0].Header)
		}
	}
}

func TestPacketizeErrors(t *testing.T) {
	emit := func(*rtp.Packet) error { t.Error("a packet was emitted"); return nil }
	err := NewPacketizer(codec.None, 0, 1, 2, Seed{}).Packetize([]byte{1, 2, 3}, 0, emit)
	if !errors.Is(err, errUnsupported) {
		t.Errorf("error %v, want errUnsupported", err)
	}
	p := NewPacketizer(codec.VP8, 0, 1, 2, Seed{Sequence: 10, PictureID: 20})
	if err := p.Packetize(nil, 0, emit); err != nil {
		t.Error(err)
	}
	broken := errors.New("broken")
	calls := 0
	err = p.Packetize(vp8Frame(true, 5000, 1), 0, func(*rtp.Packet) error {
		if calls++; calls == 2 {
			return broken
		}
		return nil
	})
	if !errors.Is(err, broken) || calls != 2 {
		t.Errorf("error %v after %d calls, want the emitter's after 2", err, calls)
	}
	packets := cut(t, p, vp8Frame(false, 10, 2), 3000)
	if packets[0].SequenceNumber != 12 || packets[0].Payload[3] != 21 {
		t.Errorf("numbers were used twice: sequence %d, picture id %d", packets[0].SequenceNumber, packets[0].Payload[3])
	}
}

func TestRandomSeed(t *testing.T) {
	seen := map[Seed]bool{}
	for range 100 {
		s := RandomSeed()
		if s.Sequence >= 1<<15 || s.PictureID >= 1<<15 {
			t.Fatalf("seed %+v", s)
		}
		seen[s] = true
	}
	if len(seen) < 90 {
		t.Errorf("only %d of 100 seeds differ", len(seen))
	}
}
