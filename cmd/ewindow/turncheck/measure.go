package turncheck

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	packets    = 200
	packetSize = 200 // bytes, like a packet of sound
	interval   = 10 * time.Millisecond
	firstTime  = 3 * time.Second // limit for the first packet to come back
	lastTime   = time.Second     // limit for the last packets
)

// arrivals are the round trips of the packets that came back.
type arrivals struct {
	mu    sync.Mutex // guards what follows
	trips map[uint32]time.Duration
	come  chan struct{} // with a buffer of one: says that a packet has come
}

func newArrivals() *arrivals {
	return &arrivals{trips: make(map[uint32]time.Duration), come: make(chan struct{}, 1)}
}

// add counts a packet that came back; only the first of its number counts.
func (a *arrivals) add(number uint32, trip time.Duration) {
	a.mu.Lock()
	if _, twice := a.trips[number]; !twice {
		a.trips[number] = trip
	}
	a.mu.Unlock()
	select {
	case a.come <- struct{}{}:
	default:
	}
}

func (a *arrivals) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.trips)
}

// sorted returns the round trips, the shortest first.
func (a *arrivals) sorted() (trips []time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, trip := range a.trips {
		trips = append(trips, trip)
	}
	slices.Sort(trips)
	return trips
}

// probe sends packets from one allocation to another one and back. A packet holds its number and the time at which it was sent.
type probe struct {
	a, b  *client
	begin time.Time
	// first are the packets that are sent until the permissions work in both directions. Their numbers begin at packets. counted are the
	// other packets.
	first, counted *arrivals
}

// echo sends back what comes to b, until its deadline.
func (p *probe) echo() {
	buffer := make([]byte, 2000)
	for {
		n, from, err := p.b.relay.ReadFrom(buffer)
		if err != nil {
			return
		}
		_, _ = p.b.relay.WriteTo(buffer[:n], from)
	}
}

// receive counts what comes back to a, until its deadline.
func (p *probe) receive() {
	buffer := make([]byte, 2000)
	for {
		n, _, err := p.a.relay.ReadFrom(buffer)
		if err != nil {
			return
		}
		if n != packetSize {
			continue
		}
		to, number := p.counted, binary.BigEndian.Uint32(buffer)
		if number >= packets {
			to = p.first
		}
		to.add(number, time.Since(p.begin)-time.Duration(binary.BigEndian.Uint64(buffer[4:])))
	}
}

func (p *probe) send(number uint32) error {
	packet := make([]byte, packetSize)
	binary.BigEndian.PutUint32(packet, number)
	binary.BigEndian.PutUint64(packet[4:], uint64(time.Since(p.begin)))
	_, err := p.a.relay.WriteTo(packet, p.b.relay.LocalAddr())
	return err
}

// measure sends packets from one allocation to the other and back.
func measure(ctx context.Context, a, b *client, o Options) (Result, error) {
	p := &probe{a: a, b: b, begin: time.Now(), first: newArrivals(), counted: newArrivals()}
	var all sync.WaitGroup
	defer all.Wait()
	defer func() { // ends the two goroutines
		_ = a.relay.SetReadDeadline(time.Unix(1, 0))
		_ = b.relay.SetReadDeadline(time.Unix(1, 0))
	}()
	all.Go(p.echo)
	all.Go(p.receive)
	tick := time.NewTicker(interval)
	defer tick.Stop()

	o.Progress("waiting for the first packet")
	first := time.After(firstTime)
	for number := uint32(packets); p.first.count() == 0; number++ {
		if err := p.send(number); err != nil {
			return Result{}, explainSend(ctx, err, a)
		}
		select {
		case <-first:
			return Result{}, explainSilence(a, b)
		case <-ctx.Done():
			return Result{}, ctx.Err()
		case <-p.first.come:
		case <-tick.C:
		}
	}
	for i := range packets {
		o.Progress(fmt.Sprintf("sending packets, %d of %d so far", i, packets))
		if err := p.send(uint32(i)); err != nil {
			return Result{}, explainSend(ctx, err, a)
		}
		select {
		case <-ctx.Done():
			return Result{}, ctx.Err()
		case <-tick.C:
		}
	}
	last := time.After(lastTime)
	for waiting := true; waiting && p.counted.count() < packets; {
		select {
		case <-p.counted.come:
		case <-last:
			waiting = false
		case <-ctx.Done():
			return Result{}, ctx.Err()
		}
	}
	trips := p.counted.sorted()
	if len(trips) == 0 {
		return Result{}, explainSilence(a, b)
	}
	return Result{
		Sent: packets, Lost: packets - len(trips), P50: trips[(len(trips)-1)*50/100], P99: trips[(len(trips)-1)*99/100],
	}, nil
}
