package frames

import (
	"time"

	"github.com/pion/rtp"

	"multifactorymodel.org/ewindow/callmedia/codec"
)

const (
	// defaultVideoWait is time for the receiver to notice a gap and send a NACK (30 ms in package sfu), and for two tries on a round trip of
	// 200 ms. Where so much is lost that a repair is lost as well, a key frame asked for instead, which is many packets, hardly ever comes whole:
	// with 150 ms no picture moved at 5 % of loss and 160 ms there and back.
	defaultVideoWait = 500 * time.Millisecond
	// defaultAudioWait is three Opus frames: enough for packets that overtook each other and for one NACK on a way of 30 ms. What is
	// later than that has been concealed by the listener already, and each wait makes the listener's own jitter buffer longer.
	defaultAudioWait = 60 * time.Millisecond

	defaultVideoPackets = 1024
	defaultAudioPackets = 128
	minPackets          = 16
	maxPackets          = 8192

	// packetRoom is the size of pooled packet buffers: what fits into an Ethernet frame.
	packetRoom = 1500
	// strayDistance is how far back a packet may be late; beyond it the sender has perhaps begun to count anew.
	strayDistance = 1024

	// maxPayload is the longest payload taken. pion's receive buffer is shorter.
	maxPayload = 4096
)

// Frame is one encoded frame.
type Frame struct {
	// Data is the frame's bytes, without anything of RTP. It is valid until the next call of Pop.
	Data []byte
	// Timestamp is the RTP timestamp, in the codec's clock.
	Timestamp uint32
	// Key tells that the frame refers to no other. Always true for audio.
	Key bool
	// Packets is the number of RTP packets that carried the frame.
	Packets int
	// Arrived is when the last of them was pushed.
	Arrived time.Time
}

// AssemblerOptions tune an [Assembler]. The zero value means the defaults.
type AssemblerOptions struct {
	// MaxWait is how long to wait for a missing packet after a later one came. 0 means 500 ms for video, 60 ms for audio.
	MaxWait time.Duration
	// MaxPackets is the most packets kept, rounded up to a power of two between 16 and 8192. 0 means 1024 for video (five seconds
	// of 1.7 Mbit/s), 128 for audio.
	MaxPackets int
}

// Counters count what an [Assembler] has seen since it was made.
type Counters struct {
	// Packets counts all packets pushed; all other packet counters are parts of it.
	Packets uint64
	// Padding counts packets without payload, as SFUs send them to probe for bandwidth.
	Padding uint64
	// Duplicates counts packets that were there already.
	Duplicates uint64
	// Late counts packets that came after they had been given up or used.
	Late uint64
	// Malformed counts payloads that are too long or not the codec's.
	Malformed uint64
	// Unsupported counts packets of a codec that is not supported.
	Unsupported uint64
	// Orphans counts packets dropped because the rest of their frame never came.
	Orphans uint64
	// Lost counts packets that never came in time.
	Lost uint64
	// Frames counts the frames handed out, KeyFrames those of them that are key frames of video.
	Frames, KeyFrames uint64
	// Withheld counts whole frames not handed out because their references were missing.
	Withheld uint64
	// Resets counts jumps of the sequence numbers and changes of the SSRC.
	Resets uint64
}

type slotState uint8

const (
	slotMissing slotState = iota
	slotPresent
)

// slot is one place of the ring of packets. A slot between next and highest is missing or present.
type slot struct {
	state     slotState
	start     bool // begins a frame
	key       bool // begins a key frame
	marker    bool
	timestamp uint32
	at        time.Time // when it came, or when it was found missing
	buf       []byte    // from the pool; nil when missing
	data      []byte    // part of buf; empty for padding
}

// Assembler puts the frames of one track together. Packets may come in any order. It belongs to one goroutine and takes the time as
// an argument. A user pushes each packet, then pops until there is no frame, asks for a key frame when NeedKey says so, and pops
// again at the time that Next tells.
type Assembler struct {
	codec codec.Codec
	video bool
	wait  time.Duration

	slots []slot
	mask  int64
	pool  [][]byte
	frame []byte

	begun         bool
	ssrc          uint32
	next, highest int64 // extended sequence numbers: the first not yet used, and the highest seen
	popped        bool  // next must not go back any more
	strayed       bool  // stray is valid
	stray         uint16
	needKey       bool
	keyStarts     int // packets in the ring that begin a key frame

	counters Counters
}

// NewAssembler returns an assembler for one track. For a codec that is not supported all packets are counted and dropped.
func NewAssembler(c codec.Codec, opts AssemblerOptions) *Assembler {
	video := !c.Parameters().Audio
	wait, size := opts.MaxWait, opts.MaxPackets
	if wait <= 0 {
		if wait = defaultAudioWait; video {
			wait = defaultVideoWait
		}
	}
	if size <= 0 {
		if size = defaultAudioPackets; video {
			size = defaultVideoPackets
		}
	}
	power := minPackets
	for power < size && power < maxPackets {
		power *= 2
	}
	return &Assembler{
		codec: c, video: video, wait: wait, needKey: video,
		slots: make([]slot, power), mask: int64(power - 1),
	}
}

// Counters returns what was counted so far.
func (a *Assembler) Counters() Counters { return a.counters }

// NeedKey tells that video can't go on without a new key frame, and that none is on its way: the caller asks the sender for one
// (PLI), at its own rate, and asks again here after the next packets.
func (a *Assembler) NeedKey() bool { return a.needKey && a.keyStarts == 0 }

// Drop tells that the last frame could not be used: the frames that refer to it are withheld until the next key frame. It does
// nothing for audio.
func (a *Assembler) Drop() { a.needKey = a.video }

// Push takes one packet, which is copied.
func (a *Assembler) Push(now time.Time, p *rtp.Packet) {
	a.counters.Packets++
	if !Supported(a.codec) {
		a.counters.Unsupported++
		return
	}
	s := slot{state: slotPresent, timestamp: p.Timestamp, marker: p.Marker, at: now}
	offset := 0
	switch {
	case len(p.Payload) == 0:
		a.counters.Padding++
	case len(p.Payload) > maxPayload:
		a.counters.Malformed++
		return
	case a.codec == codec.VP8:
		d, ok := parseVP8Descriptor(p.Payload)
		if !ok {
			a.counters.Malformed++
			return
		}
		offset = d.size
		s.start = d.start
		s.key = d.start && isVP8Key(p.Payload[d.size:])
	default:
		s.start = true
	}
	ext, ok := a.place(now, p)
	if !ok {
		return
	}
	s.buf = append(a.take(), p.Payload[offset:]...)
	s.data = s.buf
	a.slots[ext&a.mask] = s
	if s.key {
		a.keyStarts++
	}
}

// place finds the extended sequence number for a packet and makes its slot free. It is false for duplicates and late packets.
func (a *Assembler) place(now time.Time, p *rtp.Packet) (int64, bool) {
	size := int64(len(a.slots))
	if !a.begun || p.SSRC != a.ssrc {
		if a.begun {
			a.counters.Resets++
		}
		return a.restart(p), true
	}
	ext := a.highest + int64(int16(p.SequenceNumber-uint16(a.highest)))
	switch {
	case ext-a.highest >= size:
		a.counters.Resets++
		return a.restart(p), true
	case ext > a.highest:
		for ; ext-a.next >= size; a.next++ { // nobody popped, or a frame is longer than the ring
			a.discard(a.next)
			a.popped = true
			a.needKey = a.video
		}
		for i := a.highest + 1; i < ext; i++ {
			a.slots[i&a.mask] = slot{at: now}
		}
		a.highest = ext
	case ext < a.next && !a.popped && a.highest-ext < size:
		// The first packets overtook each other.
		for i := ext + 1; i < a.next; i++ {
			a.slots[i&a.mask] = slot{at: now}
		}
		a.next = ext
	case ext < a.next:
		if a.next-ext > max(size, strayDistance) {
			// Far too old: two such in a row mean that the sender counts anew (as in RFC 3550, A.1).
			if a.strayed && p.SequenceNumber == a.stray {
				a.counters.Resets++
				return a.restart(p), true
			}
			a.strayed, a.stray = true, p.SequenceNumber+1
		}
		a.counters.Late++
		return 0, false
	case a.slots[ext&a.mask].state == slotPresent:
		a.counters.Duplicates++
		return 0, false
	}
	return ext, true
}

// restart forgets what is kept and begins with a packet.
func (a *Assembler) restart(p *rtp.Packet) int64 {
	if a.begun {
		for ; a.next <= a.highest; a.next++ {
			a.discard(a.next)
		}
	}
	// Far enough from zero that earlier packets have positive numbers too.
	ext := int64(1)<<17 + int64(p.SequenceNumber)
	a.begun, a.ssrc, a.popped, a.strayed = true, p.SSRC, false, false
	a.next, a.highest = ext, ext
	a.needKey = a.video
	return ext
}

// take returns an empty packet buffer.
func (a *Assembler) take() []byte {
	if n := len(a.pool); n > 0 {
		b := a.pool[n-1]
		a.pool = a.pool[:n-1]
		return b
	}
	return make([]byte, 0, packetRoom)
}

// release empties a slot that is present.
func (a *Assembler) release(s *slot) {
	if s.key {
		a.keyStarts--
	}
	if s.buf != nil {
		a.pool = append(a.pool, s.buf[:0])
	}
	*s = slot{}
}

// discard empties a slot without use and counts it.
func (a *Assembler) discard(ext int64) {
	s := &a.slots[ext&a.mask]
	switch {
	case s.state == slotMissing:
		a.counters.Lost++
	case len(s.data) > 0:
		a.counters.Orphans++
	}
	a.release(s)
}

// Pop returns the next whole frame in order. It is false when there is none now; then Next tells when to call again if no packet
// comes. Frames whose packets are missing for too long are given up.
func (a *Assembler) Pop(now time.Time) (Frame, bool) {
	for a.begun && a.next <= a.highest {
		s := &a.slots[a.next&a.mask]
		if s.state == slotPresent && !s.start {
			// Padding, or the rest of a frame whose beginning was given up.
			if len(s.data) > 0 {
				a.needKey = a.video
			}
			a.discard(a.next)
			a.next++
			a.popped = true
			continue
		}
		end, bytes, blocked := a.scan(a.next)
		if blocked < 0 && end < 0 {
			return Frame{}, false
		}
		if blocked >= 0 {
			if key := a.completeKey(); key >= 0 {
				// Nothing before a whole key frame can be used any more, so there is no reason to wait for it.
				a.skip(key)
				continue
			}
			if now.Before(a.slots[blocked&a.mask].at.Add(a.wait)) {
				return Frame{}, false
			}
			a.giveUp(now, blocked)
			continue
		}
		if a.needKey && !s.key {
			a.counters.Withheld++
			for ; a.next <= end; a.next++ {
				a.release(&a.slots[a.next&a.mask])
			}
			a.popped = true
			continue
		}
		return a.collect(end, bytes), true
	}
	return Frame{}, false
}

// Next returns when Pop should be called again even if no packet comes. It is false when only a packet can change anything. It
// supposes that Pop was called until it had no frame.
func (a *Assembler) Next(now time.Time) (time.Time, bool) {
	if !a.begun || a.next > a.highest {
		return time.Time{}, false
	}
	_, _, blocked := a.scan(a.next)
	if blocked < 0 {
		return time.Time{}, false
	}
	at := a.slots[blocked&a.mask].at.Add(a.wait)
	if at.Before(now) {
		at = now
	}
	return at, true
}

// scan follows the frame that begins at from. If it is whole, end is its last packet and size its length in bytes; if a packet is
// missing, blocked is that. Both are -1 when all packets so far are there and the end has not come yet.
func (a *Assembler) scan(from int64) (end int64, size int, blocked int64) {
	first := &a.slots[from&a.mask]
	for i := from; i <= a.highest; i++ {
		s := &a.slots[i&a.mask]
		if s.state == slotMissing {
			return -1, 0, i
		}
		if len(s.data) == 0 {
			continue
		}
		if s.timestamp != first.timestamp {
			// The next frame ends this one as well as a marker does. A packet with the S bit does not: it may begin a partition.
			return i - 1, size, -1
		}
		size += len(s.data)
		if s.marker || !a.video {
			return i, size, -1
		}
	}
	return -1, 0, -1
}

// completeKey returns where the first whole key frame begins if one is needed, else -1.
func (a *Assembler) completeKey() int64 {
	if !a.needKey || a.keyStarts == 0 {
		return -1
	}
	for i := a.next; i <= a.highest; i++ {
		if !a.slots[i&a.mask].key {
			continue
		}
		if end, _, _ := a.scan(i); end >= 0 {
			return i
		}
	}
	return -1
}

// skip discards everything before to.
func (a *Assembler) skip(to int64) {
	for ; a.next < to; a.next++ {
		a.discard(a.next)
	}
	a.popped = true
}

// giveUp discards the frame that lacks the packet blocked: up to the next packet that begins one, or that may still come.
func (a *Assembler) giveUp(now time.Time, blocked int64) {
	first := a.slots[a.next&a.mask]
	to := blocked + 1
	for ; to <= a.highest; to++ {
		s := &a.slots[to&a.mask]
		if s.state == slotMissing && now.Before(s.at.Add(a.wait)) {
			break
		}
		same := a.video && first.state == slotPresent && s.timestamp == first.timestamp
		if s.state == slotPresent && s.start && !same {
			break
		}
	}
	a.skip(to)
	a.needKey = a.video
}

// collect takes the frame from next to end out of the ring.
func (a *Assembler) collect(end int64, size int) Frame {
	first := &a.slots[a.next&a.mask]
	f := Frame{Timestamp: first.timestamp, Key: first.key || !a.video}
	if cap(a.frame) < size {
		a.frame = make([]byte, 0, size+size/2)
	}
	a.frame = a.frame[:0]
	for ; a.next <= end; a.next++ {
		s := &a.slots[a.next&a.mask]
		if len(s.data) > 0 {
			f.Packets++
			a.frame = append(a.frame, s.data...)
			if s.at.After(f.Arrived) {
				f.Arrived = s.at
			}
		}
		a.release(s)
	}
	f.Data = a.frame
	a.popped = true
	a.counters.Frames++
	if a.video && f.Key {
		a.needKey = false
		a.counters.KeyFrames++
	}
	return f
}
