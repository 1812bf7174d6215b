package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	tick        = time.Millisecond       // how often packets that are due are sent
	returnLimit = 300 * time.Millisecond // for packets that are missing when all have been sent
	maxLate     = 4 * tick               // packets that are later than this are delayed, so that no large burst follows a pause

	batchSize     = 32 // packets received at once
	echoBatchSize = 8  // packets that the peer sends back at once; they have the same time of sending

	tagPeer, tagTimer = -1, -2
)

// Traffic describes the packets that Run sends.
type Traffic struct {
	// Payload is a packet's size in bytes, MinPayload to MaxPayload.
	Payload int
	// Rate is how many packets are sent in a second, through all allocations together.
	Rate int
	// Burst is how many packets go through one allocation before the next allocation's turn.
	Burst int
	// Packets is the number of packets.
	Packets int
}

// Result is the result of a run.
type Result struct {
	// Sent counts the packets that were sent, Echoed those that reached the peer and that it sent back, Received those that came back. Received counts
	// duplicates once.
	Sent, Echoed, Received int
	// Unexpected packets came that are none of this run's, or not as they were sent.
	Unexpected int
	// Dropped packets were lost because a receive buffer of this client was full. They are missing in Echoed or Received.
	Dropped int
	// RoundTrips holds the round-trip time of each packet in Received, sorted.
	RoundTrips []time.Duration
}

// Relayed returns how many packets went through the server, in both directions together.
func (r *Result) Relayed() int { return r.Echoed + r.Received }

// Lost returns how many packets did not come back.
func (r *Result) Lost() int { return r.Sent - r.Received }

// Quantile returns the q-quantile of the round-trip times, for example the median for 0.5. It returns 0 if no packet came back.
func (r *Result) Quantile(q float64) time.Duration {
	if len(r.RoundTrips) == 0 {
		return 0
	}
	return r.RoundTrips[min(len(r.RoundTrips)-1, int(q*float64(len(r.RoundTrips))))]
}

// run is a run in progress.
type run struct {
	*Client
	Traffic
	Result
	header   int // bytes of the ChannelData header before a payload, 0 without a server
	seen     []bool
	out, in  *batch
	peer     *batch
	events   []unix.EpollEvent
	dropped  uint32 // before the run
	deadline time.Time
}

// Run sends packets and waits until they come back. It takes a little more than Packets/Rate seconds. If it returns an error, there is no result.
func (c *Client) Run(t Traffic) (Result, error) {
	r, err := c.newRun(t)
	if err == nil {
		err = c.renew()
	}
	if err == nil {
		err = r.measure()
	}
	if err != nil {
		return Result{}, fmt.Errorf("run load: %w", err)
	}
	return r.Result, nil
}

func (c *Client) newRun(t Traffic) (*run, error) {
	switch {
	case t.Payload < MinPayload || t.Payload > MaxPayload:
		return nil, fmt.Errorf("a payload of %d bytes is too small or too large", t.Payload)
	case t.Rate < 1 || t.Burst < 1 || t.Packets < 1 || t.Burst > t.Packets:
		return nil, fmt.Errorf("%+v is no traffic", t)
	case time.Duration(t.Packets/t.Rate)*time.Second > maxRunTime:
		return nil, fmt.Errorf("%d packets at %d a second take too long", t.Packets, t.Rate)
	}
	c.run++
	r := &run{
		Client: c, Traffic: t, seen: make([]bool, t.Packets), events: make([]unix.EpollEvent, 256),
		out: newBatch(t.Burst, channelHeader+t.Payload), in: newBatch(batchSize, 2048), peer: newBatch(batchSize, 2048),
	}
	r.RoundTrips = make([]time.Duration, 0, t.Packets)
	if c.cfg.Server.IsValid() {
		r.header = channelHeader
	}
	for i := range t.Burst {
		if r.header > 0 {
			binary.BigEndian.PutUint16(r.out.buffers[i], channelNumber)
			binary.BigEndian.PutUint16(r.out.buffers[i][2:], uint16(t.Payload))
		}
		r.out.prepare(i, r.header+t.Payload, false)
	}
	return r, nil
}

// measure sends, echoes and receives packets until all have come back, or until the time limit for missing packets.
func (r *run) measure() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	runtime.GC() // now, so that none runs during the measurement
	var err error
	if r.dropped, err = r.drops(); err != nil {
		return err
	}
	every := unix.NsecToTimespec(int64(tick))
	if err := unix.TimerfdSettime(r.timer, 0, &unix.ItimerSpec{Interval: every, Value: every}, nil); err != nil {
		return err
	}
	defer func() { _ = unix.TimerfdSettime(r.timer, 0, &unix.ItimerSpec{}, nil) }()
	// With more than one processor this thread never sleeps. Otherwise the server's system calls would have to wake it, and cost more CPU time.
	wait := 0
	if runtime.NumCPU() == 1 {
		wait = 100
	}
	pace := pacer{time.Now(), r.Traffic}
	for r.Received < r.Packets {
		now := time.Now()
		if r.Sent == r.Packets && now.After(r.deadline) {
			break
		}
		if err := r.send(pace.due(now, r.Sent)); err != nil {
			return err
		}
		n, err := unix.EpollWait(r.poll, r.events, wait)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		for _, e := range r.events[:max(0, n)] {
			if err := r.handle(e.Fd); err != nil {
				return err
			}
		}
	}
	slices.Sort(r.RoundTrips)
	after, err := r.drops()
	r.Dropped = int(after - r.dropped)
	return err
}

// pacer computes how many packets are due.
type pacer struct {
	begun time.Time
	Traffic
}

// due returns how many packets should have been sent by now. sent is how many were sent already. After a pause of the thread it skips the time that
// was missed (it moves begun), so that the rate is never exceeded for longer than maxLate.
func (p *pacer) due(now time.Time, sent int) int {
	due := p.in(now.Sub(p.begun))
	if late := due - sent - p.in(maxLate) - p.Burst; late > 0 {
		p.begun = p.begun.Add(time.Duration(late) * time.Second / time.Duration(p.Rate))
		due -= late
	}
	return min(due, p.Packets)
}

// in returns how many packets are sent in a duration.
func (p *pacer) in(d time.Duration) int { return int(int64(d) * int64(p.Rate) / int64(time.Second)) }

// send sends the bursts that are due.
func (r *run) send(due int) error {
	for r.Sent < due {
		n := min(r.Burst, r.Packets-r.Sent)
		a := r.allocations[r.Sent/r.Burst%len(r.allocations)]
		now := time.Now()
		for i := range n {
			p := r.out.buffers[i][r.header : r.header+r.Payload]
			putPacket(p, r.Client.run, uint32(r.Sent+i))
			putTime(p, atSent, now.UnixNano())
		}
		if err := r.out.send(a.fd, 0, n); err != nil {
			return err
		}
		r.Sent += n
		r.deadline = now.Add(returnLimit)
	}
	return nil
}

// handle handles a file descriptor that is ready.
func (r *run) handle(tag int32) error {
	switch tag {
	case tagTimer:
		var expirations [8]byte
		_, _ = unix.Read(r.timer, expirations[:])
		return nil
	case tagPeer:
		return r.echo()
	}
	return r.receive(r.allocations[tag].fd)
}

// echo sends back the packets that came to the peer. It drops packets that are not from this run: another socket may have had the port before.
func (r *run) echo() error {
	n, err := r.peer.receive(r.Client.peer)
	first := 0 // the first packet that is not sent yet
	flush := func(to int) {
		if err == nil {
			now := time.Now().UnixNano()
			for i := first; i < to; i++ {
				putTime(r.peer.packet(i), atReturned, now)
			}
			err = r.peer.send(r.Client.peer, first, to-first)
			r.Echoed += to - first
		}
		first = to
	}
	now := time.Now().UnixNano()
	for i := range n {
		p := r.peer.packet(i)
		if !wholePacket(p, r.Payload) || get32(p, atRun) != r.Client.run {
			flush(i)
			first = i + 1
			r.Unexpected++
			continue
		}
		putTime(p, atArrived, r.peer.arrived(i, now))
		r.peer.prepare(i, len(p), true)
		if i+1-first == echoBatchSize {
			flush(i + 1)
		}
	}
	flush(n)
	return err
}

// receive reads the packets that came back to an allocation's socket.
func (r *run) receive(fd int) error {
	n, err := r.in.receive(fd)
	now := time.Now().UnixNano()
	for i := range n {
		p := r.in.packet(i)
		ok := len(p) >= r.header+r.Payload
		if ok && r.header > 0 {
			ok = binary.BigEndian.Uint16(p) == channelNumber && int(binary.BigEndian.Uint16(p[2:])) == r.Payload
		}
		if ok {
			p = p[r.header : r.header+r.Payload]
			number := get32(p, atNumber)
			ok = wholePacket(p, r.Payload) && get32(p, atRun) == r.Client.run && number < uint32(len(r.seen)) && !r.seen[number]
		}
		if !ok {
			r.Unexpected++
			continue
		}
		r.seen[get32(p, atNumber)] = true
		r.Received++
		r.RoundTrips = append(r.RoundTrips, max(0, time.Duration(roundTrip(p, r.in.arrived(i, now)))))
	}
	return err
}

// drops returns how many packets all sockets of this client have dropped so far.
func (c *Client) drops() (sum uint32, err error) {
	sum, err = dropped(c.peer)
	for _, a := range c.allocations {
		n, e := dropped(a.fd)
		sum, err = sum+n, errors.Join(err, e)
	}
	return sum, err
}

// watch adds a descriptor to the epoll set.
func (c *Client) watch(fd int, tag int32) error {
	return unix.EpollCtl(c.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: tag})
}
