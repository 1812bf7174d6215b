package bandwidth

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// line is a simulated line: what it carries, how long its queue is, and how it delays and loses packets.
type line struct {
	bps           func(at time.Duration) int // 0: nothing gets through
	queue, jitter time.Duration
	loss          float64

	free, last time.Duration
	chance     *rand.Rand
}

// send returns when a packet arrives, and whether it does.
func (l *line) send(at time.Duration, size int) (time.Duration, bool) {
	if l.chance == nil {
		l.chance = rand.New(rand.NewPCG(1, 1))
	}
	bps := l.bps(at)
	if bps == 0 || l.chance.Float64() < l.loss {
		return 0, false
	}
	l.free = max(l.free, at)
	if l.free-at > l.queue {
		return 0, false
	}
	l.free += time.Duration(8*size) * time.Second / time.Duration(bps)
	arrival := l.free + 20*time.Millisecond
	if l.jitter > 0 {
		arrival += time.Duration(l.chance.Int64N(int64(l.jitter)))
	}
	l.last = max(l.last, arrival) // in order
	return l.last, true
}

// second is what came in one second of a simulation.
type second struct {
	bps   int           // that arrived
	sound time.Duration // longest wait of sound
	lost  int           // packets of sound
}

// simulate sends sound and a picture that follows the estimate, for some seconds. A report of the other end takes 30 ms.
func simulate(l *line, e *Estimator, seconds int, most int, every time.Duration) (out []second) {
	const step = time.Millisecond
	type report struct {
		due  time.Duration
		told []func()
		last time.Duration // newest arrival
	}
	var reports []report
	pending := report{due: every + 30*time.Millisecond}
	out = make([]second, seconds)
	var pictures []int // packets that wait for the pacer
	budget := 0.0
	chance := rand.New(rand.NewPCG(2, 2))
	arrivals := func(id uint32, at time.Duration, size int) {
		arrival, ok := l.send(at, size)
		i := int(at / time.Second)
		if !ok {
			if id == 0 {
				out[i].lost++
			}
			pending.told = append(pending.told, func() { e.Lost(at, 1) })
			return
		}
		if j := int(arrival / time.Second); j < seconds {
			out[j].bps += 8 * size
		}
		if id == 0 {
			out[i].sound = max(out[i].sound, arrival-at-20*time.Millisecond)
		}
		pending.told = append(pending.told, func() { e.Arrived(id, at, arrival, size) })
		pending.last = max(pending.last, arrival)
	}
	for at := time.Duration(0); at < time.Duration(seconds)*time.Second; at += step {
		target := min(e.BPS()-64_000, most)
		if at%(20*time.Millisecond) == 0 {
			arrivals(0, at, 160)
		}
		if at%(33*time.Millisecond) == 0 && target > 0 {
			size := target / 8 / 30 * (80 + chance.IntN(41)) / 100
			if at%(5*time.Second) < 33*time.Millisecond {
				size *= 6 // a key frame
			}
			for ; size > 0; size -= 1100 {
				pictures = append(pictures, min(size, 1100)+60)
			}
		}
		budget = min(budget+1.25*float64(max(target, 0))*step.Seconds()/8, 1500)
		for len(pictures) > 0 && budget > 0 {
			budget -= float64(pictures[0])
			arrivals(1, at, pictures[0])
			pictures = pictures[1:]
		}
		if at >= pending.due-30*time.Millisecond {
			reports = append(reports, pending)
			pending = report{due: at + every + 30*time.Millisecond}
		}
		if len(reports) > 0 && reports[0].due <= at {
			for _, tell := range reports[0].told {
				tell()
			}
			if last := reports[0].last; last > 0 {
				e.Update(last)
			}
			reports = reports[1:]
		}
	}
	return out
}

func constant(bps int) func(time.Duration) int { return func(time.Duration) int { return bps } }

// TestLines checks how much of a line is used, and how long sound waits, after the first two seconds.
func TestLines(t *testing.T) {
	for _, test := range []struct {
		name       string
		line       line
		from       int // second
		used       float64
		of         int // bit/s
		wait       time.Duration
		lostAtMost int
		seconds    int
		reports    time.Duration // between two; 100 ms if it is 0
	}{
		{name: "300 kbit/s", line: line{bps: constant(300_000), queue: 200 * time.Millisecond}, from: 3, used: 0.85, of: 300_000, wait: 160 * time.Millisecond, seconds: 40},
		{name: "300 kbit/s, few reports", line: line{bps: constant(300_000), queue: 200 * time.Millisecond}, from: 5, used: 0.85, of: 300_000, wait: 205 * time.Millisecond, seconds: 40, lostAtMost: 10, reports: 500 * time.Millisecond},
		{name: "1 Mbit/s", line: line{bps: constant(1_000_000), queue: 200 * time.Millisecond}, from: 3, used: 0.85, of: 1_000_000, wait: 150 * time.Millisecond, seconds: 40},
		{name: "1 Mbit/s, short queue", line: line{bps: constant(1_000_000), queue: 60 * time.Millisecond}, from: 3, used: 0.8, of: 1_000_000, wait: 100 * time.Millisecond, seconds: 40, lostAtMost: 80},
		{name: "good", line: line{bps: constant(50_000_000), queue: 200 * time.Millisecond}, from: 4, used: 0.9, of: 1_700_000, wait: 10 * time.Millisecond, seconds: 20},
		{name: "jitter of 100 ms", line: line{bps: constant(10_000_000), queue: 200 * time.Millisecond, jitter: 100 * time.Millisecond}, from: 6, used: 0.9, of: 1_700_000, wait: 110 * time.Millisecond, seconds: 30},
		{name: "5 % loss", line: line{bps: constant(10_000_000), queue: 200 * time.Millisecond, loss: 0.05}, from: 4, used: 0.85, of: 1_700_000, wait: 20 * time.Millisecond, seconds: 20, lostAtMost: 100},
		{name: "good again after 10 s", line: line{bps: func(at time.Duration) int {
			if at < 10*time.Second {
				return 300_000
			}
			return 20_000_000
		}, queue: 200 * time.Millisecond}, from: 20, used: 0.9, of: 1_700_000, wait: 10 * time.Millisecond, seconds: 25},
		{name: "10 Mbit/s to 500 kbit/s and back", line: line{bps: func(at time.Duration) int {
			if at/(10*time.Second)%2 == 1 {
				return 500_000
			}
			return 10_000_000
		}, queue: 200 * time.Millisecond}, from: 13, used: 0.8, of: 500_000, wait: 250 * time.Millisecond, seconds: 40, lostAtMost: 60},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := NewEstimator(700_000, 50_000, 6_000_000)
			seconds := simulate(&test.line, e, test.seconds, 1_700_000, cmp.Or(test.reports, 100*time.Millisecond))
			sum, lost, wait := 0, 0, time.Duration(0)
			text := ""
			for i, s := range seconds {
				if text += fmt.Sprintf(" %d/%d", s.bps/1000, s.sound.Milliseconds()); s.lost > 0 {
					text += fmt.Sprintf("(%d)", s.lost)
				}
				if i >= test.from {
					sum += s.bps
					lost += s.lost
					wait = max(wait, s.sound)
				}
			}
			t.Logf("kbit/s, longest wait of sound in ms, and lost packets of sound:%s", text)
			if used := float64(sum) / float64(len(seconds)-test.from) / float64(test.of); used < test.used {
				t.Errorf("%.2f of the line is used", used)
			}
			if wait > test.wait {
				t.Errorf("sound waits %v", wait)
			}
			if lost > test.lostAtMost {
				t.Errorf("%d packets of sound are lost", lost)
			}
		})
	}
}
