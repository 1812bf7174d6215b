package frames

import (
	"bytes"
	"testing"
	"time"

	"github.com/pion/rtp"

	"multifactorymodel.org/ewindow/callmedia/codec"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// at returns the moment ms milliseconds after the tests' beginning.
func at(ms int) time.Time { return epoch.Add(time.Duration(ms) * time.Millisecond) }

// track is an assembler, and a packetizer that makes packets for it.
type track struct {
	t      *testing.T
	a      *Assembler
	p      *Packetizer
	ts     uint32
	number int
}

// newTrack makes a track for a codec. Its assembler waits 150 ms for video.
func newTrack(t *testing.T, c codec.Codec) *track {
	l := limitsOf(c)
	if c == codec.VP8 {
		l.wait = 150 * time.Millisecond
	}
	return newLimitedTrack(t, c, l)
}

func newLimitedTrack(t *testing.T, c codec.Codec, l limits) *track {
	return &track{t: t, a: newAssembler(c, l), p: NewPacketizer(c, 500, 1, 96, Seed{Sequence: 65500})}
}

// frame makes the next frame with the given number of packets, and returns the frame and its packets.
func (k *track) frame(key bool, packets int) ([]byte, []*rtp.Packet) {
	k.t.Helper()
	k.number++
	k.ts += 3000
	f := vp8Frame(key, packets*484, k.number)
	out := cut(k.t, k.p, f, k.ts)
	if len(out) != packets {
		k.t.Fatalf("the frame has %d packets, want %d", len(out), packets)
	}
	return f, out
}

func (k *track) push(ms int, packets ...*rtp.Packet) {
	for _, p := range packets {
		k.a.Push(at(ms), p)
	}
}

// want pops frames until there is none, and compares them.
func (k *track) want(ms int, frames ...[]byte) {
	k.t.Helper()
	for i, want := range frames {
		f, ok := k.a.Pop(at(ms))
		if !ok {
			k.t.Fatalf("at %d ms there are %d frames, want %d (%+v)", ms, i, len(frames), k.a.Counters())
		}
		if !bytes.Equal(f.Data, want) {
			k.t.Fatalf("at %d ms frame %d is another one (%+v)", ms, i, k.a.Counters())
		}
	}
	if f, ok := k.a.Pop(at(ms)); ok {
		k.t.Fatalf("at %d ms there is one more frame, with timestamp %d", ms, f.Timestamp)
	}
}

func (k *track) wantKey(want bool) {
	k.t.Helper()
	if got := k.a.NeedKey(); got != want {
		k.t.Fatalf("a key frame is needed: %t, want %t (%+v)", got, want, k.a.Counters())
	}
}

// wantNext checks the next time-out. -1 means that there is none.
func (k *track) wantNext(now, want int) {
	k.t.Helper()
	got, ok := k.a.Next(at(now))
	if ok != (want >= 0) || ok && !got.Equal(at(want)) {
		k.t.Fatalf("next time-out %v %t, want %d ms", got.Sub(epoch), ok, want)
	}
}

func (k *track) wantCounters(want Counters) {
	k.t.Helper()
	if got := k.a.Counters(); got != want {
		k.t.Errorf("counters\n%+v, want\n%+v", got, want)
	}
}

func TestFramesInOrder(t *testing.T) {
	k := newTrack(t, codec.VP8)
	k.wantKey(true)
	k.wantNext(0, -1)
	// 40 packets, so that the sequence number wraps.
	for i := range 20 {
		f, packets := k.frame(i == 0, 3)
		k.push(10*i, packets[:2]...)
		k.want(10 * i)
		k.wantNext(10*i, -1)
		k.push(10*i+5, packets[2])
		got, ok := k.a.Pop(at(10*i + 5))
		if !ok || !bytes.Equal(got.Data, f) {
			t.Fatalf("frame %d did not come", i)
		}
		if got.Timestamp != k.ts || got.Key != (i == 0) || got.Packets != 3 || !got.Arrived.Equal(at(10*i+5)) {
			t.Errorf("frame %+v", got)
		}
		k.wantKey(false)
	}
	k.wantCounters(Counters{Packets: 60, Frames: 20, KeyFrames: 1})
}

func TestDisorderAndRepair(t *testing.T) {
	k := newTrack(t, codec.VP8)
	f1, p1 := k.frame(true, 3)
	f2, p2 := k.frame(false, 3)
	f3, p3 := k.frame(false, 1)
	f4, p4 := k.frame(false, 2)
	// The first packets overtake each other.
	k.push(0, p1[2], p1[0])
	k.push(1, p1[1], p1[1], p1[0])
	k.want(1, f1)
	// The second frame lacks its middle packet, which a NACK brings later.
	k.push(33, p2[0], p2[2])
	k.want(33)
	k.wantNext(33, 183)
	k.push(66, p3...)
	k.want(66)
	k.wantNext(66, 183)
	k.push(90, p2[1])
	k.want(90, f2, f3)
	// That the fourth frame is missing is known only when the fifth comes.
	f5, p5 := k.frame(false, 1)
	k.push(133, p5...)
	k.want(133)
	k.wantNext(133, 283)
	k.push(282, p4[1], p4[0])
	k.want(282, f4, f5)
	k.wantKey(false)
	k.wantCounters(Counters{Packets: 12, Duplicates: 2, Frames: 5, KeyFrames: 1})
}

func TestGivenUp(t *testing.T) {
	for lost := range 3 {
		k := newLimitedTrack(t, codec.VP8, limits{100 * time.Millisecond, 1024})
		f1, p1 := k.frame(true, 2)
		k.push(0, p1...)
		k.want(0, f1)
		_, p2 := k.frame(false, 3)
		_, p3 := k.frame(false, 2)
		for i, p := range p2 {
			if i != lost {
				k.push(33, p)
			}
		}
		k.push(40, p3...)
		known := 33
		if lost == 2 {
			known = 40 // nothing came behind it before
		}
		k.want(known + 99)
		k.wantKey(false)
		k.wantNext(known+99, known+100)
		k.want(known + 100) // what follows needs the lost frame
		k.wantKey(true)
		k.wantNext(known+100, -1)
		_, p4 := k.frame(false, 1)
		k.push(150, p4...)
		k.push(150, p2[lost])
		k.want(150)
		// When a key frame has begun to come, there is no reason to ask for another one.
		f5, p5 := k.frame(true, 3)
		k.push(170, p5[:2]...)
		k.want(170)
		k.wantKey(false)
		k.push(171, p5[2])
		f6, p6 := k.frame(false, 1)
		k.push(172, p6...)
		k.want(172, f5, f6)
		k.wantCounters(Counters{
			Packets: 12, Late: 1, Lost: 1, Orphans: 2, Withheld: 2, Frames: 3, KeyFrames: 2,
		})
	}
}

// TestWholeKeyFrameEndsWaiting: when a key frame is needed and has come, the assembler does not wait for anything before it.
func TestWholeKeyFrameEndsWaiting(t *testing.T) {
	k := newTrack(t, codec.VP8)
	_, p1 := k.frame(false, 3)
	k.push(0, p1[0], p1[2])
	f2, p2 := k.frame(true, 3)
	k.push(10, p2[0], p2[1])
	k.want(10)
	k.push(11, p2[2])
	k.want(11, f2)
	// When no key frame is needed, a missing packet before one is waited for.
	_, p3 := k.frame(false, 3)
	f4, p4 := k.frame(true, 1)
	k.push(20, p3[0], p3[2])
	k.push(21, p4...)
	k.want(169)
	k.want(170, f4)
}

// TestKeyFrameGivenUp: while a key frame has only begun to come, none is asked for. When it is given up, one is.
func TestKeyFrameGivenUp(t *testing.T) {
	k := newTrack(t, codec.VP8)
	_, p1 := k.frame(true, 3)
	_, p2 := k.frame(false, 1)
	k.push(0, p1[0], p1[2])
	k.push(30, p2...)
	k.want(149)
	k.wantKey(false)
	k.want(150)
	k.wantKey(true)
	f3, p3 := k.frame(true, 1)
	k.push(160, p3...)
	k.want(160, f3)
	k.wantKey(false)
}

// TestRepairBehindGivenUp: when one frame is given up, the next one still has its full time for repair.
func TestRepairBehindGivenUp(t *testing.T) {
	k := newTrack(t, codec.VP8)
	f1, p1 := k.frame(true, 1)
	_, p2 := k.frame(false, 2)
	f3, p3 := k.frame(true, 3)
	k.push(0, p1...)
	k.push(10, p2[1])
	k.push(100, p3[1:]...)
	k.want(100, f1)
	k.wantNext(100, 160)
	k.want(160)
	k.wantNext(160, 250)
	k.push(240, p3[0])
	k.want(240, f3)
	k.wantCounters(Counters{Packets: 5, Lost: 1, Orphans: 1, Frames: 2, KeyFrames: 2})
}

// TestDrop: after a frame that could not be decrypted only a key frame helps.
func TestDrop(t *testing.T) {
	k := newTrack(t, codec.VP8)
	f1, p1 := k.frame(true, 1)
	k.push(0, p1...)
	k.want(0, f1)
	k.a.Drop()
	k.wantKey(true)
	_, p2 := k.frame(false, 1)
	k.push(1, p2...)
	k.want(1)
	f3, p3 := k.frame(true, 1)
	f4, p4 := k.frame(false, 1)
	k.push(2, p3...)
	k.push(3, p4...)
	k.want(3, f3, f4)

	audio := newTrack(t, codec.Opus)
	audio.wantKey(false)
	audio.a.Drop()
	audio.wantKey(false)
}

// TestMarkerForgotten: the next frame's first packet ends a frame, too, when the sender forgot the marker.
func TestMarkerForgotten(t *testing.T) {
	k := newTrack(t, codec.VP8)
	f1, p1 := k.frame(true, 2)
	p1[1].Marker = false
	k.push(0, p1...)
	k.want(0)
	k.wantNext(0, -1)
	f2, p2 := k.frame(false, 1)
	k.push(1, p2...)
	k.want(1, f1, f2)
}

// TestPadding: SFUs fill the stream with packets without payload. These have sequence numbers, too.
func TestPadding(t *testing.T) {
	k := newTrack(t, codec.VP8)
	f1, p1 := k.frame(true, 3)
	f2, p2 := k.frame(false, 1)
	pad := func(number uint16, ts uint32) *rtp.Packet {
		return &rtp.Packet{Header: rtp.Header{
			Version: 2, SequenceNumber: number, Timestamp: ts, SSRC: 1, Padding: true, PaddingSize: 200,
		}}
	}
	first := p1[0].SequenceNumber
	k.push(0, pad(first-1, 0))
	k.push(0, p1[0], pad(first+1, p1[0].Timestamp))
	p1[1].SequenceNumber, p1[2].SequenceNumber = first+2, first+3
	k.push(1, p1[1:]...)
	k.push(2, pad(first+4, p1[0].Timestamp), pad(first+5, p1[0].Timestamp))
	p2[0].SequenceNumber = first + 7
	k.push(3, p2...)
	k.want(3, f1)
	k.wantNext(3, 153) // the packet between might have been a frame
	k.push(4, pad(first+6, p1[0].Timestamp))
	k.want(4, f2)
	k.wantCounters(Counters{Packets: 9, Padding: 5, Frames: 2, KeyFrames: 1})
}

func TestOpus(t *testing.T) {
	k := newTrack(t, codec.Opus)
	packet := func(number uint16, ts uint32) ([]byte, *rtp.Packet) {
		f := []byte{0x78, byte(number), byte(ts)}
		return f, &rtp.Packet{Header: rtp.Header{SequenceNumber: number, Timestamp: ts, SSRC: 9}, Payload: f}
	}
	f1, p1 := packet(65535, 960)
	k.push(0, p1)
	k.want(0, f1)
	// DTX: there is no packet for 400 ms, and the sequence numbers go on.
	f2, p2 := packet(0, 960*21)
	k.push(400, p2)
	got, ok := k.a.Pop(at(400))
	if !ok || !bytes.Equal(got.Data, f2) || got.Timestamp != 960*21 || !got.Key || got.Packets != 1 {
		t.Fatalf("frame %+v, %t", got, ok)
	}
	// A packet that overtakes another one does not wait for it, and neither does one after a gap.
	f3, p3 := packet(1, 960*22)
	f4, p4 := packet(2, 960*23)
	k.push(420, p4)
	k.want(420, f4)
	k.wantNext(420, -1)
	k.push(425, p3)
	k.want(425, f3)
	f5, p5 := packet(3, 960*24)
	f6, p6 := packet(4, 960*25)
	f7, p7 := packet(5, 960*26)
	_, p8 := packet(6, 960*27)
	f9, p9 := packet(7, 960*28)
	k.push(460, p6, p6)
	k.want(460, f6)
	k.push(480, p7, p7)
	k.want(480, f7)
	k.push(659, p5, p5) // it may still be of use
	k.want(659, f5)
	k.push(660, p9)
	k.want(660, f9)
	k.want(859)
	k.want(860) // p8 is lost
	k.push(861, p8)
	k.push(861, &rtp.Packet{Header: rtp.Header{SequenceNumber: 8, SSRC: 9}})
	k.want(861)
	k.wantKey(false)
	k.wantCounters(Counters{Packets: 13, Padding: 1, Duplicates: 3, Late: 1, Lost: 1, Frames: 8})
}

func TestRestarts(t *testing.T) {
	k := newLimitedTrack(t, codec.VP8, limits{150 * time.Millisecond, 16})
	next := func(key bool) []byte {
		t.Helper()
		f, p := k.frame(key, 1)
		k.push(0, p...)
		return f
	}
	k.want(0, next(true))
	// Another SSRC.
	k.p = NewPacketizer(codec.VP8, 500, 2, 96, Seed{Sequence: 7})
	next(false)
	k.want(0)
	k.wantKey(true)
	k.want(0, next(true))
	// A jump forward.
	k.p = NewPacketizer(codec.VP8, 500, 2, 96, Seed{Sequence: 5000})
	next(false)
	k.want(0)
	k.wantKey(true)
	k.want(0, next(true))
	// A jump far back. The first packet after it may be a very late one.
	k.p = NewPacketizer(codec.VP8, 500, 2, 96, Seed{Sequence: 3000})
	next(true)
	k.want(0)
	k.wantKey(false)
	k.want(0, next(true))
	k.wantCounters(Counters{Packets: 7, Late: 1, Withheld: 2, Frames: 4, KeyFrames: 4, Resets: 3})
}

// TestFull: when a frame is longer than the ring, or the caller doesn't pop, the oldest packets are lost, and memory does not grow.
func TestFull(t *testing.T) {
	k := newLimitedTrack(t, codec.VP8, limits{150 * time.Millisecond, 16})
	_, p1 := k.frame(true, 40)
	k.push(0, p1...)
	k.want(0)
	k.wantKey(true)
	f2, p2 := k.frame(true, 16)
	k.push(1, p2...)
	k.want(1, f2)
	if n := len(k.a.pool); n != 16 {
		t.Errorf("%d packet buffers, want 16", n)
	}
	k.wantKey(false)
	// The caller doesn't pop: the last 16 of 20 frames of one packet are kept, but the key frame before them is not.
	for i := range 20 {
		_, p := k.frame(i == 0, 1)
		k.push(2, p...)
	}
	k.want(2)
	k.wantKey(true)
	k.wantCounters(Counters{Packets: 76, Orphans: 44, Withheld: 16, Frames: 1, KeyFrames: 1})
}

func TestUnsupportedAndMalformed(t *testing.T) {
	k := newTrack(t, codec.None)
	k.push(0, &rtp.Packet{Payload: []byte{1, 2, 3}})
	k.want(0)
	k.wantCounters(Counters{Packets: 1, Unsupported: 1})
	k = newTrack(t, codec.VP8)
	for _, payload := range [][]byte{{0x10}, {0x90, 0x80, 0x80, 1}, make([]byte, maxPayload+1)} {
		k.push(0, &rtp.Packet{Payload: payload})
	}
	k.want(0)
	k.wantCounters(Counters{Packets: 3, Malformed: 3})
}

func TestVP8Descriptors(t *testing.T) {
	tests := []struct {
		name    string
		payload []byte
		want    vp8Descriptor
		ok      bool
	}{
		{"plain", []byte{0x10, 1}, vp8Descriptor{1, true}, true},
		{"later packet", []byte{0x00, 1}, vp8Descriptor{1, false}, true},
		{"later partition", []byte{0x13, 1}, vp8Descriptor{1, false}, true},
		{"reserved bits", []byte{0x58, 1}, vp8Descriptor{1, true}, true},
		{"short picture id", []byte{0x90, 0x80, 0x7f, 1}, vp8Descriptor{3, true}, true},
		{"long picture id", []byte{0x90, 0x80, 0xff, 0xff, 1}, vp8Descriptor{4, true}, true},
		{"browser with temporal layers", []byte{0xb0, 0xf0, 0x92, 0x34, 0x56, 0x61, 1}, vp8Descriptor{6, true}, true},
		{"key index alone", []byte{0x90, 0x10, 0x01, 1}, vp8Descriptor{3, true}, true},
		{"no more than a descriptor", []byte{0xb0, 0xf0, 0x92, 0x34, 0x56, 0x61}, vp8Descriptor{}, false},
		{"empty", nil, vp8Descriptor{}, false},
		{"extension missing", []byte{0x90}, vp8Descriptor{}, false},
		{"picture id missing", []byte{0x90, 0x80}, vp8Descriptor{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, ok := parseVP8Descriptor(tt.payload); got != tt.want || ok != tt.ok {
				t.Errorf("got %+v, %t, want %+v, %t", got, ok, tt.want, tt.ok)
			}
		})
	}
}

// TestTemporalLayers: browsers describe temporal layers in each packet, and use a longer picture id when it grows.
func TestTemporalLayers(t *testing.T) {
	k := newTrack(t, codec.VP8)
	for i := range 8 {
		f, packets := k.frame(i == 0, 3)
		descriptor := []byte{0x80, 0xf0, byte(124 + i), byte(i), byte(i%4)<<6 | 1}
		if id := 124 + i; id > 127 {
			descriptor = []byte{0x80, 0xf0, 0x80 | byte(id>>8), byte(id), byte(i), byte(i%4)<<6 | 1}
		}
		for _, p := range packets {
			body := p.Payload[4:]
			p.Payload = append(bytes.Clone(descriptor), body...)
			p.Payload[0] |= 0x20 * byte(i&1)
		}
		packets[0].Payload[0] |= 0x10
		k.push(i, packets...)
		k.want(i, f)
	}
}

// TestPartitions: a later partition with the S bit, and the rest of a frame that was given up, don't count as a frame.
func TestPartitions(t *testing.T) {
	k := newTrack(t, codec.VP8)
	f1, p1 := k.frame(true, 4)
	p1[2].Payload[0] |= 0x10
	k.push(0, p1...)
	k.want(0, f1)
	_, p2 := k.frame(false, 4)
	p2[2].Payload[0] |= 0x10
	p2[2].Payload[4] = 0 // looks like a key frame but for the start code
	k.push(10, p2[0], p2[2], p2[3])
	f3, p3 := k.frame(true, 1)
	k.push(11, p3...)
	k.want(160, f3)
	k.wantCounters(Counters{Packets: 8, Orphans: 3, Lost: 1, Frames: 2, KeyFrames: 2})
}
