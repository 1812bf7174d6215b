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

// h264Capture is a recorded stream, put together by pion.
func h264Capture(t testing.TB) (packets []*rtp.Packet, pictures [][]byte) {
	t.Helper()
	packets = rtpPackets(t, "testdata/h264-chromium.rtp")
	var d codecs.H264Packet
	for i, p := range packets {
		part, err := d.Unmarshal(p.Payload)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 || p.Timestamp != packets[i-1].Timestamp {
			pictures = append(pictures, nil)
		}
		pictures[len(pictures)-1] = append(pictures[len(pictures)-1], part...)
	}
	if len(pictures) != 13 {
		t.Fatalf("the capture has %d pictures", len(pictures))
	}
	return packets, pictures
}

// TestH264Capture joins packets that Chromium made. It encrypts the pictures as LiveKit's clients do, lets pion cut them into packets, joins and
// decrypts them again, and compares.
func TestH264Capture(t *testing.T) {
	packets, want := h264Capture(t)
	material := bytes.Repeat([]byte{7}, 16)
	encryptor, err := e2ee.NewEncryptor(codec.H264)
	if err != nil {
		t.Fatal(err)
	}
	ring := e2ee.NewKeyRing()
	for _, err := range []error{encryptor.SetKey(0, material), ring.Set(0, material)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	decryptor := e2ee.NewDecryptor(codec.H264, ring, nil)
	up, down := NewAssembler(codec.H264), NewAssembler(codec.H264)
	packetizer := rtp.NewPacketizer(defaultMTU, 96, 1, &codecs.H264Payloader{}, rtp.NewFixedSequencer(65530), 90000)
	now, n := epoch, 0
	for _, p := range packets {
		now = now.Add(time.Millisecond)
		up.Push(now, p)
		clear, ok := up.Pop(now)
		if !ok {
			continue
		}
		if key := n == 0 || n == 6; !bytes.Equal(clear.Data, want[n]) || clear.Key != key {
			t.Fatalf("picture %d is not Chromium's, or key frame %t is wrong", n, clear.Key)
		}
		sealed, err := encryptor.Encrypt(nil, clear.Data)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range packetizer.Packetize(sealed, 6000) {
			down.Push(now, p)
		}
		f, ok := down.Pop(now)
		if !ok || f.Key != clear.Key {
			t.Fatalf("the encrypted picture %d came as %+v, %t", n, f, ok)
		}
		plain, err := decryptor.Decrypt(nil, f.Data)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(plain, clear.Data) {
			t.Fatalf("picture %d was changed on its way", n)
		}
		n++
	}
	if c := up.Counters(); n != len(want) || c.KeyFrames != 2 || c.Late+c.Lost+c.Orphans+c.Malformed+c.Withheld != 0 {
		t.Errorf("%d pictures, counters %+v", n, c)
	}
}

// TestH264Loss loses each packet of the first pictures, one at a time. Nothing behind the loss is handed out before the next key frame.
func TestH264Loss(t *testing.T) {
	packets, pictures := h264Capture(t)
	for lost := range 19 {
		a := newAssembler(codec.H264, limits{wait: 150 * time.Millisecond, packets: 64})
		now, got := epoch, 0
		for i, p := range packets {
			now = now.Add(20 * time.Millisecond)
			if i != lost {
				a.Push(now, p)
			}
			for f, ok := a.Pop(now); ok; f, ok = a.Pop(now) {
				if !slices.ContainsFunc(pictures, func(picture []byte) bool { return bytes.Equal(picture, f.Data) }) {
					t.Fatalf("without packet %d a picture came that is not whole", lost)
				}
				got++
			}
		}
		whole := 0 // pictures before the loss
		for _, p := range packets[:lost] {
			if p.Marker {
				whole++
			}
		}
		if want := whole + len(pictures) - 6; got != want {
			t.Errorf("without packet %d %d pictures came, want %d (%+v)", lost, got, want, a.Counters())
		}
	}
}

// TestH264Key finds key frames whose parameter sets are not in the first packet.
func TestH264Key(t *testing.T) {
	stamp := uint32(0)
	sequence := uint16(0)
	frame := func(payloads ...[]byte) (packets []*rtp.Packet) {
		stamp += 3000
		for i, payload := range payloads {
			sequence++
			header := rtp.Header{SequenceNumber: sequence, Timestamp: stamp, Marker: i == len(payloads)-1}
			packets = append(packets, &rtp.Packet{Header: header, Payload: payload})
		}
		return packets
	}
	delta, aud := []byte{0x61, 0x80, 1}, []byte{9, 0x10}
	a := NewAssembler(codec.H264)
	for _, p := range frame(delta) {
		a.Push(epoch, p)
	}
	if _, ok := a.Pop(epoch); ok || !a.NeedKey() {
		t.Error("a stream begins with a picture that refers to others")
	}
	frame(delta) // is lost, and not waited for when the key frame is here
	for _, p := range frame(aud, []byte{0x67, 1}, []byte{0x68, 1}, []byte{0x65, 0x80, 2}) {
		a.Push(epoch, p)
	}
	f, ok := a.Pop(epoch)
	if want := []byte{0, 0, 0, 1, 9, 0x10, 0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 1, 0, 0, 0, 1, 0x65, 0x80, 2}; !ok || !f.Key || !bytes.Equal(f.Data, want) {
		t.Errorf("the key frame came as %+v, %t", f, ok)
	}
	for _, p := range frame(aud, delta) {
		a.Push(epoch, p)
	}
	if f, ok := a.Pop(epoch); !ok || f.Key || a.NeedKey() {
		t.Errorf("the next frame came as %+v, %t", f, ok)
	}
	if c := a.Counters(); c.Lost != 1 || c.Withheld+c.Orphans != 1 {
		t.Errorf("counters %+v", c)
	}
}

// TestPacketizeH264 reads our packets with pion's depacketizer.
func TestPacketizeH264(t *testing.T) {
	const mtu = 500
	_, pictures := h264Capture(t)
	pictures = append(pictures, []byte{0, 0, 1, 0x67, 1, 2, 0, 0, 0, 0, 0, 1, 0x68, 3, 0, 0, 1, 0x65, 0xb8, 4, 0, 0})
	wanted := append(slices.Clone(pictures[:13]), []byte{0, 0, 0, 1, 0x67, 1, 2, 0, 0, 0, 1, 0x68, 3, 0, 0, 0, 1, 0x65, 0xb8, 4})
	p := NewPacketizer(codec.H264, mtu, 77, 102, Seed{})
	var d codecs.H264Packet
	for n, frame := range pictures {
		var got []byte
		packets := cut(t, p, frame, uint32(n)*3000)
		for i, packet := range packets {
			if size := packet.MarshalSize(); size > mtu || packet.Marker != (i == len(packets)-1) {
				t.Errorf("packet of %d bytes, marker %t", size, packet.Marker)
			}
			part, err := d.Unmarshal(packet.Payload)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, part...)
		}
		if !bytes.Equal(got, wanted[n]) {
			t.Errorf("picture %d came out different", n)
		}
	}
	for _, none := range [][]byte{nil, {1, 2, 3}, {0, 0, 1}, {0, 0, 0, 1, 0, 0, 0, 1}} {
		if packets := cut(t, p, none, 0); len(packets) > 0 {
			t.Errorf("%x became %d packets", none, len(packets))
		}
	}
}

// FuzzH264Payload compares our reading of payloads with pion's.
func FuzzH264Payload(f *testing.F) {
	for _, p := range rtpPackets(f, "testdata/h264-chromium.rtp")[:8] {
		f.Add(p.Payload[:28])
	}
	for _, b := range [][]byte{
		{}, {0}, {1}, {0x61, 0x80}, {0x67}, {0x78}, {0x78, 0}, {0x78, 0, 0}, {0x78, 0, 1, 0x67}, {0x78, 0, 2, 0x67}, {0x78, 0, 1, 0x67, 0, 2, 0x65, 0x88}, {0x7c}, {0x7c, 0x85}, {0x7c, 0x85, 0x88},
		{0x7c, 0xc5, 1, 2}, {0x7c, 0x05, 1}, {0x7c, 0x45, 1}, {0x7c, 0x80, 1}, {0x7c, 0x98, 1}, {0x19, 1, 2}, {0x1d, 0x85, 1, 2}, {0x9c, 0xc5, 1},
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		got, ok := parseH264(payload)
		if !ok && got != (piece{}) {
			t.Fatalf("refused %+v", got)
		}
		var peer codecs.H264Packet
		want, err := peer.Unmarshal(payload)
		if err != nil {
			if ok {
				t.Fatalf("%x is accepted, and not by pion: %v", payload, err)
			}
			return
		}
		if !ok {
			return // we are stricter with lengths of zero, types and what is left at the end
		}
		data := appendH264(nil, payload)
		if payload[0]&nalType != nalFUA {
			if !bytes.Equal(data, want) {
				t.Fatalf("%x is %x, want %x", payload, data, want)
			}
			return
		}
		// pion hands a unit out at its end. It leaves out the forbidden bit.
		if start, end := payload[1]&fuStart != 0, payload[1]&fuEnd != 0; start && end {
			data[len(startCode)] &= 0x7f
			if !bytes.Equal(data, want) {
				t.Fatalf("%x is %x, want %x", payload, data, want)
			}
		} else if !start && !bytes.Equal(data, payload[fuHeader:]) {
			t.Fatalf("%x is %x", payload, data)
		}
	})
}
