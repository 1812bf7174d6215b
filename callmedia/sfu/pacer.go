package sfu

import (
	"sync"
	"time"

	"multifactorymodel.org/ewindow/callmedia/bandwidth"
)

const (
	// paceEvery is how often queued packets are sent.
	paceEvery = 5 * time.Millisecond
	// maxWait is how long a frame may have to wait before its first packet is sent. A frame that would wait longer is dropped: a picture that is late is
	// worth less than a new one that is small. Those that wait already are sent, so that in the end a key frame gets through, however narrow the line.
	maxWait = 600 * time.Millisecond
	// paceBurst is how many bytes may go at once, after a pause.
	paceBurst = 3000
)

// pacer sends the packets of pictures one after the other, at a rate that the line carries. Without it a key frame would fill the line's queue, and
// sound would wait there. Sound goes past the pacer.
type pacer struct {
	mu      sync.Mutex // guards what follows
	bps     int        // 0: packets are not held
	queue   []paced
	free    [][]byte
	waiting int     // bytes in queue
	frame   uint32  // RTP timestamp of the newest packet in queue
	budget  float64 // in bytes
	at      time.Time
	running bool
}

// paced is a packet that waits.
type paced struct {
	layer   *LocalLayer
	marker  bool
	number  uint16
	time    uint32
	payload []byte
}

// setRate sets the rate in bit/s; 0 sends everything at once.
func (p *pacer) setRate(bps int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bps = bps
}

// hold queues a packet. It returns false when the packet may be sent at once. start is true when run has to be started. The error is [ErrBacklog] when
// the packet was dropped.
func (p *pacer) hold(packet paced, now time.Time) (held, start bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running { // nothing waits
		if p.bps == 0 {
			return false, false, nil
		}
		if p.refill(now); p.budget > 0 {
			p.budget -= float64(len(packet.payload) + bandwidth.PacketOverhead)
			return false, false, nil
		}
	}
	first := len(p.queue) == 0 || packet.time != p.frame
	if first && p.bps > 0 && time.Duration(8*p.waiting)*time.Second/time.Duration(p.bps) > maxWait {
		return true, false, ErrBacklog
	}
	p.frame = packet.time
	var buffer []byte
	if n := len(p.free); n > 0 {
		buffer, p.free = p.free[n-1], p.free[:n-1]
	}
	packet.payload = append(buffer[:0], packet.payload...)
	p.queue = append(p.queue, packet)
	p.waiting += len(packet.payload)
	start, p.running = !p.running, true
	return true, start, nil
}

// refill adds what may be sent since the last time.
func (p *pacer) refill(now time.Time) {
	p.budget = min(p.budget+float64(p.bps)/8*now.Sub(p.at).Seconds(), paceBurst)
	p.at = now
}

// take returns the next packet that may be sent. over is true when nothing waits any more: then run ends.
func (p *pacer) take(now time.Time) (packet paced, ok, over bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refill(now)
	if len(p.queue) == 0 {
		p.running = false
		return paced{}, false, true
	}
	if p.budget <= 0 && p.bps > 0 {
		return paced{}, false, false
	}
	packet = p.queue[0]
	p.queue = append(p.queue[:0], p.queue[1:]...)
	p.waiting -= len(packet.payload)
	p.budget -= float64(len(packet.payload) + bandwidth.PacketOverhead)
	return packet, true, false
}

// recycle takes back a packet's buffer.
func (p *pacer) recycle(packet paced) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, packet.payload)
}

// run sends what waits, until nothing does any more or the room ends.
func (p *pacer) run(stop <-chan struct{}) {
	tick := time.NewTicker(paceEvery)
	defer tick.Stop()
	for {
		packet, ok, over := p.take(time.Now())
		switch {
		case over:
			return
		case ok:
			_ = packet.layer.write(packet.marker, packet.number, packet.time, packet.payload)
			p.recycle(packet)
			continue
		}
		select {
		case <-stop:
			return
		case <-tick.C:
		}
	}
}
