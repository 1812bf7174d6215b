package frames

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pion/rtp"

	"multifactorymodel.org/ewindow/callmedia/codec"
)

// arrival is a packet at the receiver.
type arrival struct {
	at     time.Time
	packet *rtp.Packet
}

// network loses, delays, doubles and repairs the packets of a stream at 30 frames a second. The first frame of each second is a key frame. A lost
// packet comes again after repair, unless it is lost again.
func network(t testing.TB, r *rand.Rand, frames [][]byte, loss float64, jitter, repair time.Duration) []arrival {
	p := NewPacketizer(codec.VP8, 1200, 1, 96, Seed{Sequence: 65000})
	var out []arrival
	add := func(when time.Time, packet *rtp.Packet) {
		when = when.Add(time.Duration(r.Float64() * float64(jitter)))
		out = append(out, arrival{when, packet})
		if r.Float64() < 0.01 {
			out = append(out, arrival{when.Add(time.Millisecond), packet})
		}
	}
	for i, f := range frames {
		sent := epoch.Add(time.Duration(i) * time.Second / 30)
		for _, packet := range cut(t, p, f, uint32(i)*3000) {
			if r.Float64() >= loss {
				add(sent, packet)
			} else if r.Float64() >= loss {
				add(sent.Add(repair), packet)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b arrival) int { return a.at.Compare(b.at) })
	return out
}

// TestSimulation checks what the package promises on bad networks. Frames come unchanged and in order. Each delta frame comes right behind the frame
// that it refers to. No whole frame waits too long, and enough frames come. Time is simulated.
func TestSimulation(t *testing.T) {
	const count = 600
	tests := []struct {
		name           string
		loss           float64
		jitter, repair time.Duration
		want           int // at least so many frames
	}{
		{"perfect", 0, 0, 0, count},
		{"disorder", 0, 30 * time.Millisecond, 0, count - 30},
		{"repaired", 0.05, 10 * time.Millisecond, 90 * time.Millisecond, count * 7 / 10},
		{"repaired from afar", 0.05, 10 * time.Millisecond, 350 * time.Millisecond, count * 6 / 10},
		{"repaired too late", 0.001, 0, 700 * time.Millisecond, count / 3},
		{"terrible", 0.2, 20 * time.Millisecond, 100 * time.Millisecond, 20},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			frames := make([][]byte, count)
			for i := range frames {
				size := 3000 + r.IntN(8000)
				if i%30 == 0 {
					size *= 5
				}
				frames[i] = vp8Frame(i%30 == 0, size, i)
			}
			a := NewAssembler(codec.VP8)
			last, got := -1, 0
			var latest time.Duration
			pop := func(now time.Time) {
				for {
					f, ok := a.Pop(now)
					if !ok {
						return
					}
					got++
					n := int(f.Timestamp / 3000)
					if n <= last || !bytes.Equal(f.Data, frames[n]) {
						t.Fatalf("frame %d after %d, equal: %t", n, last, bytes.Equal(f.Data, frames[n]))
					}
					if !f.Key && n != last+1 {
						t.Fatalf("delta frame %d after %d", n, last)
					}
					latest = max(latest, now.Sub(f.Arrived))
					last = n
				}
			}
			for _, arrival := range network(t, r, frames, tt.loss, tt.jitter, tt.repair) {
				for {
					next, ok := a.Next(arrival.at)
					if !ok || next.After(arrival.at) {
						break
					}
					before := a.Counters()
					pop(next)
					if after, again := a.Next(next); again && !after.After(next) && before == a.Counters() {
						t.Fatal("the time-out changes nothing")
					}
				}
				a.Push(arrival.at, arrival.packet)
				pop(arrival.at)
			}
			// At most two waits follow each other: one for the frame before, and one for the frame.
			if latest > 2*videoWait {
				t.Errorf("a whole frame waited for %v", latest)
			}
			if got < tt.want {
				t.Errorf("%d frames came, want %d (%+v)", got, tt.want, a.Counters())
			}
			t.Logf("%d of %d frames, longest wait %v, %+v", got, count, latest, a.Counters())
		})
	}
}

// check compares an assembler's counts with the packets that it holds.
func check(t *testing.T, a *Assembler) {
	t.Helper()
	if !a.begun {
		return
	}
	if n := a.highest - a.next + 1; n < 0 || n > int64(len(a.entries)) {
		t.Fatalf("packets from %d to %d are kept", a.next, a.highest)
	}
	keys, held := 0, 0
	for i := a.next; i <= a.highest; i++ {
		s := a.entries[i&a.mask]
		if s.key {
			keys++
		}
		if s.state == present {
			held++
		} else if s.buf != nil {
			t.Fatal("a missing packet has a buffer")
		}
	}
	if keys != a.keyStarts {
		t.Fatalf("%d key frames begin, but %d were counted", keys, a.keyStarts)
	}
	if held+len(a.pool) > len(a.entries)+1 {
		t.Fatalf("%d packets and %d free buffers", held, len(a.pool))
	}
}

// FuzzAssembler pushes the packets that the input describes: each is four bytes of header, then the payload.
func FuzzAssembler(f *testing.F) {
	p := NewPacketizer(codec.VP8, 100, 1, 96, Seed{Sequence: 65530, PictureID: 5})
	var script []byte
	for i := range 8 {
		for _, packet := range cut(f, p, vp8Frame(i%4 == 0, 150, i), uint32(i)) {
			flags := byte(i) << 4
			if packet.Marker {
				flags |= 1
			}
			script = binary.BigEndian.AppendUint16(script, packet.SequenceNumber)
			script = append(script, flags, byte(len(packet.Payload)))
			script = append(script, packet.Payload...)
		}
	}
	f.Add(true, script)
	f.Add(false, script)
	f.Add(true, []byte{0, 1, 0x11, 2, 0x10, 0, 0, 0, 0x11, 2, 0x10, 0, 200, 0, 0, 0, 0, 1, 4, 0})
	f.Fuzz(func(t *testing.T, video bool, script []byte) {
		kind := codec.Opus
		if video {
			kind = codec.VP8
		}
		a := newAssembler(kind, limits{limitsOf(kind).wait, 16})
		now := epoch
		var pushed, popped int
		for len(script) >= 4 && pushed < 5000 {
			flags := script[2]
			n := min(int(script[3]), len(script)-4)
			p := &rtp.Packet{
				Header: rtp.Header{
					SequenceNumber: binary.BigEndian.Uint16(script), Marker: flags&1 != 0, Timestamp: uint32(flags >> 4),
					SSRC: uint32(flags >> 3 & 1),
				},
				Payload: script[4 : 4+n],
			}
			script = script[4+n:]
			now = now.Add(time.Duration(flags>>1&3) * 40 * time.Millisecond)
			a.Push(now, p)
			pushed++
			check(t, a)
			if flags&0x0f == 0x0e {
				continue // a caller that is late
			}
			for {
				frame, ok := a.Pop(now)
				if !ok {
					break
				}
				popped += frame.Packets
				if len(frame.Data) == 0 || frame.Packets == 0 || frame.Arrived.After(now) {
					t.Fatalf("frame %+v", frame)
				}
				if frame.Key && a.NeedKey() {
					t.Fatal("a key frame is needed after one")
				}
			}
			check(t, a)
			if next, ok := a.Next(now); ok && !next.After(now) {
				t.Fatal("after popping there is something to do at once")
			}
		}
		c := a.Counters()
		if c.Packets != uint64(pushed) || c.Frames > c.Packets || popped > pushed ||
			c.Padding+c.Late+c.Malformed+c.Duplicates+c.Orphans > 2*c.Packets {
			t.Fatalf("%d packets pushed, %d used, counters %+v", pushed, popped, c)
		}
	})
}

// FuzzPacketizer packetises any frame and joins it again.
func FuzzPacketizer(f *testing.F) {
	f.Add(100, true, []byte{0, 0, 0, 0x9d, 1, 0x2a})
	f.Add(1200, false, bytes.Repeat([]byte{1}, 5000))
	f.Add(0, true, []byte{0})
	f.Fuzz(func(t *testing.T, mtu int, video bool, frame []byte) {
		if len(frame) > 1<<16 || len(frame) == 0 {
			return
		}
		kind := codec.Opus
		if video {
			kind = codec.VP8
		}
		mtu %= 2000
		p := NewPacketizer(kind, mtu, 1, 96, Seed{Sequence: 60000})
		a := NewAssembler(kind)
		key := cut(t, p, []byte{0, 0, 0, 0x9d, 1, 0x2a}, 0)
		if !video && len(frame) > maxPayload {
			return
		}
		for _, packet := range append(key, cut(t, p, frame, 1)...) {
			if video && packet.MarshalSize() > max(mtu, defaultMTU) {
				t.Fatalf("packet of %d bytes", packet.MarshalSize())
			}
			a.Push(epoch, packet)
		}
		if _, ok := a.Pop(epoch); !ok {
			t.Fatal("no first frame")
		}
		got, ok := a.Pop(epoch)
		if !ok || !bytes.Equal(got.Data, frame) || got.Timestamp != 1 {
			t.Fatalf("%x came back as %x, %t", frame, got.Data, ok)
		}
	})
}
