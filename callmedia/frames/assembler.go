package frames

import (
	"time"

	"github.com/pion/rtp"

	"multifactorymodel.org/ewindow/callmedia/codec"
)

const (
	// videoWait is how long to wait for a missing packet of video. It is long enough to notice a gap, to send a NACK (after 30 ms in package
	// sfu), and to try twice at a round trip of 200 ms. Where so much is lost that repairs are lost as well, a longer wait is better than a
	// key frame. A key frame is many packets and hardly ever comes whole. With a wait of 150 ms no picture moved at 5 % of loss and a round
	// trip of 160 ms.
	videoWait = 500 * time.Millisecond
	// audioWait is how long a missing packet of sound may take until it counts as lost. Nothing waits for it: a packet of sound needs no other one, and
	// the browser's jitter buffer puts them in order. It also knows better how long to wait, and fills a gap from the redundancy in the next packet.
	audioWait = 200 * time.Millisecond

	// packetRoom is the size of pooled packet buffers: what fits into an Ethernet frame.
	packetRoom = 1500
	// strayDistance is how far back a packet may be late. If it is further back, the sender may have begun to count anew.
	strayDistance = 1024

	// maxPayload is the longest payload taken. pion's receive buffer is shorter.
	maxPayload = 4096
)

// Frame is one encoded frame.
type Frame struct {
	// Data is the frame's bytes, without RTP headers and payload descriptors. It is valid until the next call of Pop.
	Data []byte
	// Timestamp is the RTP timestamp, in the codec's clock.
	Timestamp uint32
	// Layers is where each spatial layer ends in Data, if the codec has such layers. Each one is encrypted on its own. It is valid as long as Data.
	Layers []int
	// Key is true when the frame refers to no other. It is always true for audio.
	Key bool
	// Packets is the number of RTP packets that carried the frame.
	Packets int
	// Arrived is when the last of them was pushed.
	Arrived time.Time
}

// limits are how long an [Assembler] waits and how much it keeps.
type limits struct {
	wait    time.Duration // for a missing packet, since a later one came
	packets int           // a power of two, so that a mask finds a sequence number's place in the ring
}

// limitsOf returns a codec's limits. 1024 packets of video are five seconds of 1.7 Mbit/s.
func limitsOf(c codec.Codec) limits {
	if c.Parameters().Audio {
		return limits{wait: audioWait, packets: 128}
	}
	return limits{wait: videoWait, packets: 1024}
}

// Counters count what an [Assembler] has seen since it was made.
type Counters struct {
	// Packets counts all packets pushed. Padding, Duplicates, Late, Malformed and Unsupported are parts of it.
	Packets uint64
	// Padding counts packets without payload, as SFUs send them to probe for bandwidth.
	Padding uint64
	// Duplicates counts packets that came twice.
	Duplicates uint64
	// Late counts packets that came when nobody waited for them any more.
	Late uint64
	// Malformed counts payloads that are too long, or not valid for the codec.
	Malformed uint64
	// Unsupported counts packets of a codec that is not supported.
	Unsupported uint64
	// Orphans counts packets dropped because the rest of their frame never came.
	Orphans uint64
	// Lost counts packets that never came in time.
	Lost uint64
	// Frames counts the frames handed out, KeyFrames those of them that are key frames of video.
	Frames, KeyFrames uint64
	// Withheld counts whole frames that were not handed out because a frame they refer to is missing.
	Withheld uint64
	// Resets counts jumps of the sequence numbers and changes of the SSRC.
	Resets uint64
}

type entryState uint8

const (
	missing entryState = iota
	present
	used // handed out before its turn
)

// entry is one sequence number in the ring of packets. Entries between next and highest are missing or present.
type entry struct {
	state     entryState
	start     bool // begins a frame
	key       bool // has the beginning of a key frame
	end       bool // ends a layer
	marker    bool
	timestamp uint32
	at        time.Time // when it came, or when it was found missing
	buf       []byte    // from the pool; nil when missing
	data      []byte    // part of buf; empty for padding
}

// Assembler joins the packets of one track to frames. Packets may come in any order. It belongs to one goroutine and takes the time as an
// argument. A user pushes each packet, pops until there is no frame, asks the sender for a key frame when NeedKey says so, and pops again at the
// time that Next returns.
type Assembler struct {
	codec codec.Codec
	video bool
	wait  time.Duration

	entries []entry
	mask    int64
	pool    [][]byte
	frame   []byte
	layers  []int

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
func NewAssembler(c codec.Codec) *Assembler { return newAssembler(c, limitsOf(c)) }

func newAssembler(c codec.Codec, l limits) *Assembler {
	video := !c.Parameters().Audio
	return &Assembler{
		codec: c, video: video, wait: l.wait, needKey: video,
		entries: make([]entry, l.packets), mask: int64(l.packets - 1),
	}
}

// Counters returns what was counted so far.
func (a *Assembler) Counters() Counters { return a.counters }

// NeedKey says that video can't go on without a new key frame, and that none has begun to come. The caller asks the sender for one (PLI, RFC
// 4585) at a rate of its own, and calls NeedKey again after the next packets.
func (a *Assembler) NeedKey() bool { return a.needKey && a.keyStarts == 0 }

// Drop says that the last frame could not be used. The frames that refer to it are withheld until the next key frame. It does nothing for
// audio.
func (a *Assembler) Drop() { a.needKey = a.video }

// Push adds one packet. It copies what it needs.
func (a *Assembler) Push(now time.Time, p *rtp.Packet) {
	a.counters.Packets++
	if !supported(a.codec) {
		a.counters.Unsupported++
		return
	}
	var piece piece
	if len(p.Payload) == 0 {
		a.counters.Padding++
	} else {
		var ok bool
		if piece, ok = parse(a.codec, p.Payload); !ok || len(p.Payload) > maxPayload {
			a.counters.Malformed++
			return
		}
	}
	s := entry{
		state: present, start: piece.start, key: piece.key, end: piece.end, timestamp: p.Timestamp, marker: p.Marker, at: now,
	}
	ext, ok := a.extend(now, p)
	if !ok {
		return
	}
	if s.buf = a.take(); a.codec == codec.H264 && len(p.Payload) > 0 {
		s.buf = appendH264(s.buf, p.Payload)
	} else {
		s.buf = append(s.buf, p.Payload[piece.offset:]...)
	}
	s.data = s.buf
	a.entries[ext&a.mask] = s
	if s.key {
		a.keyStarts++
	}
}

// extend finds the extended sequence number of a packet, and makes room for it in the ring. It is false for duplicates and late packets.
func (a *Assembler) extend(now time.Time, p *rtp.Packet) (int64, bool) {
	size := int64(len(a.entries))
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
		for ; ext-a.next >= size; a.next++ { // the caller did not pop, or a frame is longer than the ring
			a.discard(a.next)
			a.popped = true
			a.needKey = a.video
		}
		for i := a.highest + 1; i < ext; i++ {
			a.entries[i&a.mask] = entry{at: now}
		}
		a.highest = ext
	case ext < a.next && !a.popped && a.highest-ext < size:
		// The first packets overtook each other.
		for i := ext + 1; i < a.next; i++ {
			a.entries[i&a.mask] = entry{at: now}
		}
		a.next = ext
	case ext < a.next:
		if a.next-ext > max(size, strayDistance) {
			// Far too old. Two such packets in a row mean that the sender counts anew (as in RFC 3550, appendix A.1).
			if a.strayed && p.SequenceNumber == a.stray {
				a.counters.Resets++
				return a.restart(p), true
			}
			a.strayed, a.stray = true, p.SequenceNumber+1
		}
		a.counters.Late++
		return 0, false
	case a.entries[ext&a.mask].state != missing:
		a.counters.Duplicates++
		return 0, false
	}
	return ext, true
}

// restart forgets all packets and begins with p.
func (a *Assembler) restart(p *rtp.Packet) int64 {
	if a.begun {
		for ; a.next <= a.highest; a.next++ {
			a.discard(a.next)
		}
	}
	// Far enough from zero that earlier packets have positive numbers, too.
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

// release empties an entry.
func (a *Assembler) release(s *entry) {
	if s.key {
		a.keyStarts--
	}
	if s.buf != nil {
		a.pool = append(a.pool, s.buf[:0])
	}
	*s = entry{}
}

// discard empties an entry that was not used, and counts it.
func (a *Assembler) discard(ext int64) {
	s := &a.entries[ext&a.mask]
	switch {
	case s.state == missing:
		a.counters.Lost++
	case len(s.data) > 0:
		a.counters.Orphans++
	}
	a.release(s)
}

// Pop returns the next whole frame, those of pictures in order. It is false when there is none now. Then Next returns when to call Pop again if no
// packet comes. Frames whose packets are missing for too long are given up.
func (a *Assembler) Pop(now time.Time) (Frame, bool) {
	if !a.video {
		return a.popSound(now)
	}
	for a.begun && a.next <= a.highest {
		s := &a.entries[a.next&a.mask]
		if s.state == present && !s.start {
			// Padding, or the rest of a frame whose start was given up.
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
				// No frame before a whole key frame is needed any more, so none is waited for.
				a.skip(key)
				continue
			}
			if now.Before(a.entries[blocked&a.mask].at.Add(a.wait)) {
				return Frame{}, false
			}
			a.giveUp(now, blocked)
			continue
		}
		if a.needKey && !a.isKey(end) {
			a.counters.Withheld++
			for ; a.next <= end; a.next++ {
				a.release(&a.entries[a.next&a.mask])
			}
			a.popped = true
			continue
		}
		return a.collect(end, bytes), true
	}
	return Frame{}, false
}

// popSound returns the next packet of sound that has come, whatever is missing before it.
func (a *Assembler) popSound(now time.Time) (f Frame, ok bool) {
	for i := a.next; a.begun && i <= a.highest && !ok; i++ {
		s := &a.entries[i&a.mask]
		if s.state != present {
			continue
		}
		if len(s.data) > 0 {
			a.frame = append(a.frame[:0], s.data...)
			f, ok = Frame{Data: a.frame, Timestamp: s.timestamp, Key: true, Packets: 1, Arrived: s.at}, true
			a.counters.Frames++
		}
		a.release(s)
		s.state, a.popped = used, true
	}
	for ; a.begun && a.next <= a.highest; a.next++ {
		s := &a.entries[a.next&a.mask]
		if s.state == present || s.state == missing && now.Before(s.at.Add(a.wait)) {
			break
		}
		a.discard(a.next)
	}
	return f, ok
}

// Next returns when Pop should be called again even if no packet comes. It is false when only a packet can change anything. The caller must have
// popped all frames.
func (a *Assembler) Next(now time.Time) (time.Time, bool) {
	if !a.begun || !a.video || a.next > a.highest {
		return time.Time{}, false
	}
	_, _, blocked := a.scan(a.next)
	if blocked < 0 {
		return time.Time{}, false
	}
	at := a.entries[blocked&a.mask].at.Add(a.wait)
	if at.Before(now) {
		at = now
	}
	return at, true
}

// scan follows the frame that begins at from. If it is whole, end is its last packet and size its length in bytes. If a packet is missing, blocked
// is that packet. Both are -1 when no packet is missing and the frame's end has not come yet.
func (a *Assembler) scan(from int64) (end int64, size int, blocked int64) {
	first := &a.entries[from&a.mask]
	for i := from; i <= a.highest; i++ {
		s := &a.entries[i&a.mask]
		if s.state == missing {
			return -1, 0, i
		}
		if len(s.data) == 0 {
			continue
		}
		if s.timestamp != first.timestamp {
			// The next frame ends this one, as a marker does. The S bit alone does not: it may begin a partition of the same frame.
			return i - 1, size, -1
		}
		size += len(s.data)
		if s.marker || !a.video {
			return i, size, -1
		}
	}
	return -1, 0, -1
}

// isKey says whether the frame from next to end is a key frame. In H.264 that need not be in its first packet.
func (a *Assembler) isKey(end int64) bool {
	for i := a.next; i <= end; i++ {
		if a.entries[i&a.mask].key {
			return true
		}
		if a.codec != codec.H264 {
			break
		}
	}
	return false
}

// completeKey returns where the first whole key frame begins, if one is needed and has come, else -1.
func (a *Assembler) completeKey() int64 {
	if !a.needKey || a.keyStarts == 0 {
		return -1
	}
	for i := a.next; i <= a.highest; i++ {
		if !a.entries[i&a.mask].key {
			continue
		}
		from := i
		for from > a.next && a.joined(from-1, i) {
			from--
		}
		if end, _, _ := a.scan(from); end >= 0 {
			return from
		}
	}
	return -1
}

// joined says whether two packets are here and belong to the same frame.
func (a *Assembler) joined(one, other int64) bool {
	s, o := &a.entries[one&a.mask], &a.entries[other&a.mask]
	return s.state == present && len(s.data) > 0 && s.timestamp == o.timestamp
}

// skip discards everything before to.
func (a *Assembler) skip(to int64) {
	for ; a.next < to; a.next++ {
		a.discard(a.next)
	}
	a.popped = true
}

// giveUp discards the frame that lacks the packet blocked: all packets up to the next one that begins a frame, or that may still come.
func (a *Assembler) giveUp(now time.Time, blocked int64) {
	first := a.entries[a.next&a.mask]
	to := blocked + 1
	for ; to <= a.highest; to++ {
		s := &a.entries[to&a.mask]
		if s.state == missing && now.Before(s.at.Add(a.wait)) {
			break
		}
		same := a.video && first.state == present && s.timestamp == first.timestamp
		if s.state == present && s.start && !same {
			break
		}
	}
	a.skip(to)
	a.needKey = a.video
}

// collect removes the frame from next to end from the ring and returns it.
func (a *Assembler) collect(end int64, size int) Frame {
	f := Frame{Timestamp: a.entries[a.next&a.mask].timestamp, Key: !a.video || a.isKey(end)}
	if cap(a.frame) < size {
		a.frame = make([]byte, 0, size+size/2)
	}
	a.frame, a.layers = a.frame[:0], a.layers[:0]
	for ; a.next <= end; a.next++ {
		s := &a.entries[a.next&a.mask]
		if len(s.data) > 0 {
			f.Packets++
			a.frame = append(a.frame, s.data...)
			if s.at.After(f.Arrived) {
				f.Arrived = s.at
			}
			if s.end {
				a.layers = append(a.layers, len(a.frame))
			}
		}
		a.release(s)
	}
	f.Data, f.Layers = a.frame, a.layers
	a.popped = true
	a.counters.Frames++
	if a.video && f.Key {
		a.needKey = false
		a.counters.KeyFrames++
	}
	return f
}
