package frames

import (
	"fmt"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
	"github.com/pion/webrtc/v4/pkg/media/samplebuilder"

	"multifactorymodel.org/ewindow/callmedia/codec"
)

type benchFrame struct {
	name  string
	codec codec.Codec
	bytes int
}

var benchFrames = []benchFrame{
	{"audio", codec.Opus, 120}, {"delta", codec.VP8, 7000}, {"key", codec.VP8, 60000},
	{"vp9 key", codec.VP9, 60000}, {"h264 key", codec.H264, 60000},
}

// codecFrame makes the frame, as a key frame.
func (f benchFrame) codecFrame() []byte {
	frame := vp8Frame(true, f.bytes, 1)
	switch f.codec {
	case codec.VP9:
		frame[0] = 0x82
	case codec.H264: // parameter sets and a slice without a start code in it
		for i := range frame {
			frame[i] |= 1
		}
		copy(frame, []byte{0, 0, 0, 1, 0x67, 1, 2, 3, 0, 0, 0, 1, 0x68, 1, 2, 3, 0, 0, 0, 1, 0x65, 0xb8})
	}
	return frame
}

// BenchmarkRelay packetises frames and joins them again. impl=pion does it with pion's payloaders and samplebuilder. impl=copy is the floor: the
// bytes copied once on each side.
func BenchmarkRelay(b *testing.B) {
	for _, bf := range benchFrames {
		frame := bf.codecFrame()
		b.Run(fmt.Sprintf("frame=%s/impl=ours", bf.name), func(b *testing.B) {
			relay := newRelay(bf.codec)
			b.SetBytes(int64(bf.bytes))
			b.ReportAllocs()
			for b.Loop() {
				if !relay.pass(frame) {
					b.Fatal("no frame came")
				}
			}
		})
		b.Run(fmt.Sprintf("frame=%s/impl=pion", bf.name), func(b *testing.B) {
			pass := newPionRelay(bf.codec)
			b.SetBytes(int64(bf.bytes))
			b.ReportAllocs()
			pass(frame) // the samplebuilder hands a frame out when the next one begins
			for b.Loop() {
				if !pass(frame) {
					b.Fatal("no frame came")
				}
			}
		})
		b.Run(fmt.Sprintf("frame=%s/impl=copy", bf.name), func(b *testing.B) {
			one, two := make([]byte, bf.bytes), make([]byte, bf.bytes)
			b.SetBytes(int64(bf.bytes))
			for b.Loop() {
				copy(one, frame)
				copy(two, one)
			}
		})
	}
}

// newPionRelay returns a function that passes a frame through pion's packetizer and samplebuilder.
func newPionRelay(c codec.Codec) (pass func(frame []byte) bool) {
	var payloader rtp.Payloader = &codecs.VP8Payloader{EnablePictureID: true}
	var depacketizer rtp.Depacketizer = &codecs.VP8Packet{}
	switch c {
	case codec.Opus:
		payloader, depacketizer = &codecs.OpusPayloader{}, &codecs.OpusPacket{}
	case codec.H264:
		payloader, depacketizer = &codecs.H264Payloader{}, &codecs.H264Packet{}
	case codec.VP9:
		payloader, depacketizer = &codecs.VP9Payloader{FlexibleMode: true}, &codecs.VP9Packet{}
	}
	rate := c.Parameters().ClockRate
	packetizer := rtp.NewPacketizer(defaultMTU, 96, 1, payloader, rtp.NewFixedSequencer(1), rate)
	builder := samplebuilder.New(256, depacketizer, rate)
	return func(frame []byte) bool {
		for _, p := range packetizer.Packetize(frame, 3000) {
			builder.Push(p)
		}
		return builder.Pop() != nil
	}
}

// relay passes frames from a packetizer to an assembler.
type relay struct {
	p    *Packetizer
	a    *Assembler
	now  time.Time
	ts   uint32
	emit func(*rtp.Packet) error
}

func newRelay(c codec.Codec) *relay {
	r := &relay{
		p: NewPacketizer(c, 0, 1, 96, Seed{}), a: newAssembler(c, limits{limitsOf(c).wait, 256}), now: epoch,
	}
	r.emit = func(p *rtp.Packet) error {
		r.a.Push(r.now, p)
		return nil
	}
	return r
}

func (r *relay) pass(frame []byte) bool {
	r.now = r.now.Add(33 * time.Millisecond)
	r.ts += 3000
	if err := r.p.Packetize(frame, r.ts, r.emit); err != nil {
		return false
	}
	_, ok := r.a.Pop(r.now)
	return ok
}

// BenchmarkPopEachPacket pops after each packet of a key frame, as a relay does.
func BenchmarkPopEachPacket(b *testing.B) {
	frame := vp8Frame(true, 60000, 1)
	r := newRelay(codec.VP8)
	got := 0
	r.emit = func(p *rtp.Packet) error {
		r.a.Push(r.now, p)
		if _, ok := r.a.Pop(r.now); ok {
			got++
		}
		return nil
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		r.pass(frame)
		n++
	}
	if got != n {
		b.Fatalf("%d of %d frames came", got, n)
	}
}

// TestNoAllocations checks that packetising a frame and joining it again allocates nothing.
func TestNoAllocations(t *testing.T) {
	for _, bf := range benchFrames {
		frame := bf.codecFrame()
		r := newRelay(bf.codec)
		for range 10 {
			r.pass(frame)
		}
		if n := testing.AllocsPerRun(100, func() {
			if !r.pass(frame) {
				t.Fatal("no frame came")
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations a frame, want none", bf.name, n)
		}
	}
}
