package frames

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"
	"time"

	"github.com/pion/rtp"

	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/e2ee"
)

// ivfFrames returns the frames of an IVF file.
func ivfFrames(t testing.TB, name string) [][]byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) < 32 || string(b[:4]) != "DKIF" {
		t.Fatalf("%s is no IVF file", name)
	}
	var out [][]byte
	for b = b[binary.LittleEndian.Uint16(b[6:]):]; len(b) > 0; {
		n := 12 + int(binary.LittleEndian.Uint32(b))
		out = append(out, b[12:n])
		b = b[n:]
	}
	return out
}

// rtpPackets returns recorded packets.
func rtpPackets(t testing.TB, name string) []*rtp.Packet {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var out []*rtp.Packet
	for len(b) > 0 {
		n := 2 + int(binary.BigEndian.Uint16(b))
		p := &rtp.Packet{}
		if err := p.Unmarshal(b[2:n]); err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
		b = b[n:]
	}
	return out
}

// TestCapture joins packets that another program made to frames. It encrypts and packetises these, joins and decrypts them again, and compares.
func TestCapture(t *testing.T) {
	want := ivfFrames(t, "testdata/vp8-ffmpeg.ivf")
	packets := rtpPackets(t, "testdata/vp8-ffmpeg.rtp")
	if len(want) != 21 || len(packets) < 2*len(want) {
		t.Fatalf("the capture has %d frames and %d packets", len(want), len(packets))
	}
	material := bytes.Repeat([]byte{7}, 16)
	encryptor, err := e2ee.NewEncryptor(codec.VP8)
	if err != nil {
		t.Fatal(err)
	}
	if err := encryptor.SetKey(0, material); err != nil {
		t.Fatal(err)
	}
	ring := e2ee.NewKeyRing()
	if err := ring.Set(0, material); err != nil {
		t.Fatal(err)
	}
	decryptor := e2ee.NewDecryptor(codec.VP8, ring, nil)
	up, down := NewAssembler(codec.VP8), NewAssembler(codec.VP8)
	packetizer := NewPacketizer(codec.VP8, 0, 1, 96, Seed{})

	var got [][]byte
	now := epoch
	for _, p := range packets {
		now = now.Add(time.Millisecond)
		up.Push(now, p)
		clear, ok := up.Pop(now)
		if !ok {
			continue
		}
		if n := len(got); n >= len(want) || !bytes.Equal(clear.Data, want[n]) {
			t.Fatalf("frame %d is not the file's", n)
		}
		sealed, err := encryptor.Encrypt(nil, clear.Data)
		if err != nil {
			t.Fatal(err)
		}
		if err := packetizer.Packetize(sealed, clear.Timestamp, func(p *rtp.Packet) error {
			down.Push(now, p)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		f, ok := down.Pop(now)
		if !ok || f.Timestamp != clear.Timestamp || f.Key != clear.Key {
			t.Fatalf("the encrypted frame %d came as %+v, %t", len(got), f, ok)
		}
		plain, err := decryptor.Decrypt(nil, f.Data)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(plain, clear.Data) {
			t.Fatalf("frame %d was changed on its way", len(got))
		}
		got = append(got, plain)
	}
	if len(got) != len(want) {
		t.Errorf("%d frames came, want %d", len(got), len(want))
	}
	if c := up.Counters(); c.KeyFrames < 3 || c.Late+c.Lost+c.Orphans+c.Malformed != 0 {
		t.Errorf("counters %+v", c)
	}
}
