package frames

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"

	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/e2ee"
)

// vp9Capture is a recorded stream, put together by pion: the layers of each picture.
func vp9Capture(t testing.TB) (packets []*rtp.Packet, pictures [][][]byte) {
	t.Helper()
	packets = rtpPackets(t, "testdata/vp9-chromium.rtp")
	for i, p := range packets {
		var d codecs.VP9Packet
		part, err := d.Unmarshal(p.Payload)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 || p.Timestamp != packets[i-1].Timestamp {
			pictures = append(pictures, nil)
		}
		picture := &pictures[len(pictures)-1]
		if d.B {
			*picture = append(*picture, nil)
		}
		layer := &(*picture)[len(*picture)-1]
		*layer = append(*layer, part...)
	}
	if layers := len(slices.Concat(pictures...)); len(pictures) != 13 || layers < len(pictures)+3 {
		t.Fatalf("the capture has %d pictures with %d layers", len(pictures), layers)
	}
	return packets, pictures
}

// TestVP9Capture joins the packets of pictures with several spatial layers. Each layer is encrypted on its own, as browsers do.
func TestVP9Capture(t *testing.T) {
	packets, pictures := vp9Capture(t)
	material := bytes.Repeat([]byte{7}, 16)
	encryptor, err := e2ee.NewEncryptor(codec.VP9)
	if err != nil {
		t.Fatal(err)
	}
	ring := e2ee.NewKeyRing()
	for _, err := range []error{encryptor.SetKey(0, material), ring.Set(0, material)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	decryptor := e2ee.NewDecryptor(codec.VP9, ring, nil)

	a := NewAssembler(codec.VP9)
	now, at := epoch, 0
	var layer []*rtp.Packet
	for _, p := range packets {
		layer = append(layer, p)
		d, ok := parseVP9Descriptor(p.Payload)
		if !ok {
			t.Fatalf("%x is refused", p.Payload[:8])
		}
		if !d.end {
			continue
		}
		// The whole layer is here. Encrypted, it goes into as many packets with the same descriptors.
		var plain []byte
		for _, p := range layer {
			d, _ := parseVP9Descriptor(p.Payload)
			plain = append(plain, p.Payload[d.size:]...)
		}
		sealed, err := encryptor.Encrypt(nil, plain)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range layer {
			d, _ := parseVP9Descriptor(p.Payload)
			n := len(sealed) / (len(layer) - i)
			c := *p
			c.Payload = append(bytes.Clone(p.Payload[:d.size]), sealed[:n]...)
			sealed = sealed[n:]
			a.Push(now, &c)
		}
		layer = nil
		now = now.Add(time.Millisecond)
		f, ok := a.Pop(now)
		if ok != p.Marker {
			t.Fatalf("behind packet %d there is a frame: %t", p.SequenceNumber, ok)
		}
		if !ok {
			continue
		}
		var got [][]byte
		begin := 0
		for _, end := range f.Layers {
			plain, err := decryptor.Decrypt(nil, f.Data[begin:end])
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, plain)
			begin = end
		}
		if begin != len(f.Data) || !slices.EqualFunc(got, pictures[at], bytes.Equal) {
			t.Fatalf("picture %d has the layers %v and is not as it was sent", at, f.Layers)
		}
		if key := at == 0 || at == 6; f.Key != key || isVP9Key(got[0]) != key {
			t.Errorf("picture %d is a key frame: %t, want %t", at, f.Key, key)
		}
		at++
	}
	if c := a.Counters(); at != len(pictures) || c.KeyFrames != 2 || c.Late+c.Lost+c.Orphans+c.Malformed+c.Withheld != 0 {
		t.Errorf("%d pictures, counters %+v", at, c)
	}
}

// TestVP9Loss loses each packet of the first pictures, one at a time. Nothing is handed out before the next key frame that refers to it.
func TestVP9Loss(t *testing.T) {
	packets, pictures := vp9Capture(t)
	for lost := range 15 {
		a := newAssembler(codec.VP9, limits{wait: 150 * time.Millisecond, packets: 64})
		now, got := epoch, 0
		keys := 0
		for i, p := range packets {
			now = now.Add(20 * time.Millisecond)
			if i != lost {
				a.Push(now, p)
			}
			for f, ok := a.Pop(now); ok; f, ok = a.Pop(now) {
				// The first picture that is handed out behind the loss is the second key frame.
				if keys == 0 && got > 0 && packets[lost].Timestamp < f.Timestamp && !f.Key {
					t.Fatalf("without packet %d the picture at %d came", lost, f.Timestamp)
				}
				if f.Key && i > lost {
					keys++
				}
				got++
			}
		}
		before := slices.IndexFunc(packets, func(p *rtp.Packet) bool { return p.Timestamp == packets[lost].Timestamp })
		whole := 0 // pictures before the loss
		for i := range before {
			if packets[i].Marker {
				whole++
			}
		}
		if want := whole + len(pictures) - 6; got != want {
			t.Errorf("without packet %d %d pictures came, want %d (%+v)", lost, got, want, a.Counters())
		}
	}
}

// TestPacketizeVP9 reads our packets with pion's depacketizer.
func TestPacketizeVP9(t *testing.T) {
	const mtu = 500
	_, pictures := vp9Capture(t)
	p := NewPacketizer(codec.VP9, mtu, 77, 98, Seed{PictureID: 0x7ffe})
	for n, picture := range pictures {
		frame := bytes.Join(picture, nil)
		var got []byte
		packets := cut(t, p, frame, uint32(n)*3000)
		for i, packet := range packets {
			if size := packet.MarshalSize(); size > mtu || packet.Marker != (i == len(packets)-1) {
				t.Errorf("packet of %d bytes, marker %t", size, packet.Marker)
			}
			var d codecs.VP9Packet
			part, err := d.Unmarshal(packet.Payload)
			if err != nil {
				t.Fatal(err)
			}
			key := n == 0 || n == 6
			if !d.I || !d.F || d.L || d.V || d.P == key || d.B != (i == 0) || d.E != packet.Marker || d.PictureID != uint16(0x7ffe+n)&0x7fff {
				t.Errorf("packet %d of picture %d has the descriptor %+v", i, n, d)
			}
			if !key && !slices.Equal(d.PDiff, []uint8{1}) {
				t.Errorf("picture %d refers to %v", n, d.PDiff)
			}
			got = append(got, part...)
		}
		if !bytes.Equal(got, frame) {
			t.Errorf("picture %d came out different", n)
		}
	}
}

// TestUse changes the codec within a stream.
func TestUse(t *testing.T) {
	_, pictures := vp9Capture(t)
	p := NewPacketizer(codec.VP8, 0, 1, 96, Seed{Sequence: 10, PictureID: 20})
	cut(t, p, vp8Frame(true, 100, 1), 0)
	p.Use(codec.VP9, 98)
	packet := cut(t, p, pictures[0][0][:100], 3000)[0]
	if packet.PayloadType != 98 || packet.SequenceNumber != 11 || packet.Payload[2] != 21 {
		t.Errorf("%+v, %x", packet.Header, packet.Payload[:3])
	}
}

func TestIsVP9Key(t *testing.T) {
	for first, want := range map[byte]bool{
		0x82: true, 0x83: true, 0x86: false, 0x87: false, 0x8a: false, 0x88: false, // profile 0: the last two show an existing frame
		0xa2: true, 0xa6: false, 0x92: true, 0x96: false, // profiles 1 and 2
		0xb1: true, 0xb3: false, 0xb4: false, // profile 3
	} {
		if got := isVP9Key([]byte{first}); got != want {
			t.Errorf("%#x begins a key frame: %t, want %t", first, got, want)
		}
	}
}

// FuzzVP9Descriptor compares our reading of payload descriptors with pion's.
func FuzzVP9Descriptor(f *testing.F) {
	for _, p := range rtpPackets(f, "testdata/vp9-chromium.rtp")[:8] {
		f.Add(p.Payload[:30])
	}
	for _, b := range [][]byte{
		{}, {0}, {0x80}, {0x80, 1}, {0x80, 0x81}, {0x80, 0x81, 2, 3}, {0x8c, 0x7f, 1}, {0x20, 0}, {0x20, 0, 1, 2}, {0x30, 0, 1}, {0x28, 0x0a, 1, 2}, {0x28, 1, 1, 2},
		{0x50, 2, 9}, {0x50, 3, 3, 2, 9}, {0x50, 3, 3, 3, 2, 9}, {0x02}, {0x02, 0x38, 1, 2}, {0x02, 0, 9}, {0x02, 8, 2, 4, 1, 0, 9}, {0x02, 8, 200, 4, 1, 0, 9},
		{0x02, 0xf8, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {0x02, 8, 1, 12, 1, 2}, {0x02, 8, 2, 0},
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		got, ok := parseVP9Descriptor(payload)
		var peer codecs.VP9Packet
		rest, err := peer.Unmarshal(payload)
		if want := err == nil && len(rest) > 0; ok != want {
			t.Fatalf("%x is accepted: %t, want %t (%v)", payload, ok, want, err)
		}
		if !ok {
			if got != (vp9Descriptor{}) {
				t.Fatalf("refused descriptor %+v", got)
			}
			return
		}
		if !bytes.Equal(payload[got.size:], rest) || got.start != (peer.B && !peer.D) || got.end != peer.E || got.inter != peer.P {
			t.Fatalf("%x was read as %+v, want %+v", payload, got, peer)
		}
	})
}
