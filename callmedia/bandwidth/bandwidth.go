// Package bandwidth estimates how many bits a second a line carries, from when packets were sent and when they arrived.
//
// An [Estimator] watches how long packets wait in the line's queue. What was sent last leaves the queue last, so a queue that never becomes empty
// means that more is sent than the line carries. A burst, such as a key frame, fills the queue for a moment only. So the measure is the shortest
// delay within 200 ms, compared with the shortest delay within half a minute (as in CoDel, RFC 8289). The estimate falls quickly below what
// arrives, until the queue is empty, and then grows again.
//
// It is used in both directions. A sender knows when its packets arrived from the other end's reports (transport-wide congestion control): see
// [Uplink]. A receiver knows from RTP timestamps how far apart packets were sent: see [Downlink].
//
// # Why no library
//
// pion's estimator (package gcc) knows the sending side only. On a line of 300 kbit/s with 200 ms of queue it used 200 to 290 kbit/s, and 16 s after
// the line was good again it had reached 0.6 Mbit/s. It takes the bursts of a picture for a full line. This one used 260 to 280 kbit/s there, and
// had reached 1.7 Mbit/s after 8 s (BenchmarkLine).
//
// Nothing here starts a goroutine. An Estimator reads no clock, and is not safe for concurrent use. An Uplink and a Downlink have a lock each.
package bandwidth

import (
	"math"
	"time"
)

const (
	// slot is the grain of time. Rate and loss are measured over rateSlots of them, and the queue over queueSlots.
	slot       = 50 * time.Millisecond
	rateSlots  = 10
	queueSlots = 4
	// The shortest delay is that of the last baseSlots times baseSlot. Clocks that run differently do not matter in that time.
	baseSlot  = 3 * time.Second
	baseSlots = 10

	// queueLimit is how long packets may wait in the queue all the time before the line counts as full. Half of the usual spread of delays is added,
	// so that a line with much jitter does not count as full.
	queueLimit = 40 * time.Millisecond
	maxSpread  = 100 * time.Millisecond
	// spreadTime is how quickly the usual spread of delays is learnt.
	spreadTime = 2 * time.Second
)

// The controller's factors.
const (
	drainFactor  = 0.75 // of what the line carries, while its queue becomes empty
	hurryFactor  = 0.6  // the same, for a long queue
	steadyFactor = 0.92 // of what the line carries, once its queue is empty
	maxFall      = 0.35 // the least that is left of an estimate at once
	cutPause     = 400 * time.Millisecond
	nearTime     = 15 * time.Second // how long the line is taken to carry what it carried when it was full
	nearLow      = 0.85             // from here on the estimate grows slowly, until nearHigh times as much arrives
	nearHigh     = 1.15
	slowGrowth   = 0.06 // a second
	fastGrowth   = 0.5
	firstGrowth  = 0.8       // while it has never fallen
	lossLimit    = 0.1       // of the packets: a line that loses less may be full or simply bad
	fullLoss     = 0.02      // of the packets: a line whose queue is half full and that loses more is full
	firstFrom    = 1_200_000 // bit/s from which the first fall begins at least
	// enoughPackets in all slots say what the line carries. If fewer come, their sender may not get through itself.
	enoughPackets = 20
	headroom      = 1.5 // the estimate grows to this times what arrives and headroomMore at most, since more was never tried
	headroomMore  = 50_000
)

// Estimator estimates one direction of a line. Make it with [NewEstimator].
//
// Times are those of any clock, as long as it is always the same one: now and arrival on the clock of whoever received, sent on the clock of
// the stream's sender.
type Estimator struct {
	bps, low, high float64

	slots   [rateSlots]traffic
	current int64 // number of the newest slot
	begun   bool
	streams map[uint32]*stream

	updated  time.Duration // last call of Update
	full     bool          // the queue has to become empty
	cut      time.Duration // when the estimate fell last
	capacity float64       // what arrived when the line was full; 0: it never was
	fullAt   time.Duration
}

// traffic is what came in one slot of time.
type traffic struct {
	bytes, packets, lost int
}

// stream is a sequence of packets whose sending times are on one clock.
type stream struct {
	delays [queueSlots]delays
	at     int64 // number of the newest slot
	base   [baseSlots]time.Duration
	baseAt int64
	spread time.Duration
}

type delays struct {
	low, high time.Duration
	any       bool
}

const none = time.Duration(math.MaxInt64)

// NewEstimator makes an estimator that begins with start bit/s, and stays between low and high.
func NewEstimator(start, low, high int) *Estimator {
	return &Estimator{bps: float64(min(max(start, low), high)), low: float64(low), high: float64(high), streams: make(map[uint32]*stream)}
}

// BPS is the estimate in bit/s.
func (e *Estimator) BPS() int { return int(e.bps) }

// Fell says that the line was full, or lost much, at least once. Before that the estimate is only what was needed so far.
func (e *Estimator) Fell() bool { return e.cut != 0 }

// Arrived says that a packet of size bytes, headers included, has arrived. Packets that were sent again have no sending time of their own: for those
// call [Estimator.ArrivedLate].
func (e *Estimator) Arrived(id uint32, sent, arrival time.Duration, size int) {
	e.ArrivedLate(arrival, size)
	s := e.streams[id]
	if s == nil {
		s = &stream{at: int64(arrival / slot), baseAt: int64(arrival / baseSlot)}
		for i := range s.base {
			s.base[i] = none
		}
		e.streams[id] = s
	}
	s.add(arrival-sent, arrival)
}

// ArrivedLate says that a packet has arrived whose sending time is not known.
func (e *Estimator) ArrivedLate(arrival time.Duration, size int) {
	t := e.slotAt(arrival)
	t.bytes += size
	t.packets++
}

// Lost says that packets that were sent before arrival have not arrived. A negative number takes some back: they were only late.
func (e *Estimator) Lost(arrival time.Duration, packets int) { e.slotAt(arrival).lost += packets }

// Forget removes a stream that has ended, or whose clock was set anew.
func (e *Estimator) Forget(id uint32) { delete(e.streams, id) }

// slotAt returns the slot of a time, the newest one for an earlier time than that.
func (e *Estimator) slotAt(at time.Duration) *traffic {
	number := int64(at / slot)
	if !e.begun || number-e.current >= rateSlots {
		e.slots, e.current, e.begun = [rateSlots]traffic{}, number, true
	}
	for e.current < number {
		e.current++
		e.slots[e.current%rateSlots] = traffic{}
	}
	return &e.slots[e.current%rateSlots]
}

func (s *stream) add(delay, at time.Duration) {
	number := int64(at / slot)
	for ; s.at < number; s.at++ {
		if number-s.at > queueSlots {
			s.at = number - queueSlots
		}
		s.delays[(s.at+1)%queueSlots] = delays{}
	}
	d := &s.delays[s.at%queueSlots]
	if !d.any {
		*d = delays{delay, delay, true}
	}
	d.low, d.high = min(d.low, delay), max(d.high, delay)

	base := int64(at / baseSlot)
	for ; s.baseAt < base; s.baseAt++ {
		s.base[(s.baseAt+1)%baseSlots] = none
	}
	b := &s.base[s.baseAt%baseSlots]
	*b = min(*b, delay)
}

// measure returns the shortest delay of the last 200 ms, and its spread. It is false when nothing came.
func (s *stream) measure(now time.Duration) (queue, spread time.Duration, ok bool) {
	low, high := none, time.Duration(math.MinInt64)
	for i := range int64(queueSlots) {
		number := int64(now/slot) - i
		if number < 0 || number > s.at || number <= s.at-queueSlots || !s.delays[number%queueSlots].any {
			continue
		}
		d := s.delays[number%queueSlots]
		low, high, ok = min(low, d.low), max(high, d.high), true
	}
	if !ok {
		return 0, 0, false
	}
	base := none
	for _, b := range s.base {
		base = min(base, b)
	}
	return low - base, high - low, true
}

// Update makes a new estimate and returns it. It is called several times a second while packets come.
func (e *Estimator) Update(now time.Duration) int {
	passed := min(max(now-e.updated, 0), time.Second)
	e.updated = now
	e.slotAt(now)
	rate := e.rate(rateSlots)
	packets, loss := e.came()
	enough := packets >= enoughPackets
	queue, limit, known := e.standing(now, passed)
	switch sinceCut := now - e.cut; {
	case enough && known && (queue > limit || queue > limit/2 && loss > fullLoss) && (!e.full || sinceCut >= cutPause):
		// While there is a queue, what arrives is what the line carries. There was none all the time over which rate was measured.
		e.full, e.capacity, e.fullAt = true, max(rate, e.rate(queueSlots+1)), now
		// More was never tried, so a first estimate may be far too high. But a machine that was busy for a moment must not make a picture small
		// that needs little.
		e.bps = min(e.bps, max(headroom*e.capacity+headroomMore, firstFrom))
		if queue > 2*limit {
			e.fall(now, hurryFactor*e.capacity)
		} else {
			e.fall(now, drainFactor*e.capacity)
		}
	case e.full && known && queue <= limit/3:
		e.full = false
		e.bps = max(e.bps, min(steadyFactor*e.capacity, e.high))
	case e.full:
	case enough && loss > lossLimit && sinceCut >= cutPause:
		e.fall(now, e.bps*(1-loss/2))
	case loss <= lossLimit && known && queue <= limit/2:
		growth := fastGrowth
		switch {
		case e.cut == 0:
			growth = firstGrowth
		case now-e.fullAt < nearTime && e.bps > nearLow*e.capacity && (rate < nearHigh*e.capacity || queue > limit/4):
			growth = slowGrowth
		}
		grown := e.bps * (1 + growth*passed.Seconds())
		e.bps = max(e.bps, min(grown, headroom*rate+headroomMore, e.high))
	}
	return e.BPS()
}

// Silence says that the other end has reported nothing for a while, although packets were sent. The line may carry next to nothing.
func (e *Estimator) Silence(now time.Duration) {
	if now-e.cut >= cutPause {
		e.fall(now, e.bps*drainFactor)
	}
}

// fall lowers the estimate, but leaves maxFall of it at once.
func (e *Estimator) fall(now time.Duration, to float64) {
	e.cut = now
	e.bps = max(min(e.bps, max(to, maxFall*e.bps)), e.low)
}

// rate is what has arrived in the newest slots, in bit/s. The very newest is not over yet, so it is left out.
func (e *Estimator) rate(slots int64) float64 {
	bytes := 0
	for number := e.current - 1; number > e.current-slots; number-- {
		if number >= 0 {
			bytes += e.slots[number%rateSlots].bytes
		}
	}
	return float64(8*bytes) / (time.Duration(slots-1) * slot).Seconds()
}

// came returns how many packets have arrived in all slots, and which share was lost, 0 if there are too few to tell.
func (e *Estimator) came() (packets int, loss float64) {
	lost := 0
	for _, t := range e.slots {
		packets += t.packets
		lost += t.lost
	}
	if lost = max(lost, 0); packets+lost < enoughPackets {
		return packets, 0
	}
	return packets, float64(lost) / float64(packets+lost)
}

// standing returns for how long packets wait in the queue all the time, and from when on that is too long. All streams share the queue, so the
// shortest wait of any stream is the queue's: a stream can be late for other reasons.
func (e *Estimator) standing(now, passed time.Duration) (queue, limit time.Duration, known bool) {
	queue = none
	for _, s := range e.streams {
		wait, spread, ok := s.measure(now)
		if !ok {
			continue
		}
		s.spread += time.Duration(float64(min(spread, maxSpread)-s.spread) * passed.Seconds() / spreadTime.Seconds())
		if wait < queue {
			queue, limit, known = wait, queueLimit+s.spread/2, true
		}
	}
	if !known {
		return 0, queueLimit, false
	}
	return queue, limit, true
}
