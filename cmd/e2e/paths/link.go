package paths

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// linkMTU is the longest packet on a link, in bytes.
	linkMTU = 1500
	// linkQueue is how many packets one direction can hold: more than a picture's largest burst in 80 ms. More packets are dropped, as in a router.
	linkQueue = 2048

	protocolUDP = 17
	af41        = 34 // a mark for routers (DSCP, RFC 2597)
)

// Link is an emulated network link between two namespaces. It has a TUN device at each end, and this process forwards the packets. It delays and
// drops UDP packets as [Link.Set] says, and carries all packets at the rate that [Link.SetRate] says.
type Link struct {
	quality atomic.Pointer[quality]
	rate    atomic.Pointer[rate]
	tasks   sync.WaitGroup
	ends    [2]*os.File
	stop    chan struct{}

	mapping mapping

	counts [2]count // UDP packets, by the end that they come from
}

// count counts the UDP packets of one direction, and all packets that came to the link: their bytes, their number, and those with a mark.
type count struct{ lost, passed, bytes, all, marked atomic.Uint64 }

// Lost returns how many UDP packets the link has dropped, in both directions together.
func (l *Link) Lost() uint64 { return l.counts[0].lost.Load() + l.counts[1].lost.Load() }

// Passed returns how many UDP packets the link has forwarded, in both directions together.
func (l *Link) Passed() uint64 { return l.counts[0].passed.Load() + l.counts[1].passed.Load() }

// Up returns how many UDP packets from the kiosk's side the link has dropped and forwarded.
func (l *Link) Up() (lost, passed uint64) { return l.counts[0].lost.Load(), l.counts[0].passed.Load() }

// Marked returns how many packets came to the link from the kiosk's side, and how many of them had the mark of interactive pictures (DSCP AF41, RFC 8837).
func (l *Link) Marked() (all, marked uint64) {
	return l.counts[0].all.Load(), l.counts[0].marked.Load()
}

// Bytes returns how many bytes came to the link from the kiosk's side and from the hub, those of dropped packets included.
func (l *Link) Bytes() (up, down uint64) { return l.counts[0].bytes.Load(), l.counts[1].bytes.Load() }

type quality struct {
	loss          float64
	delay, jitter time.Duration
}

// rate is how many bits a second each direction carries, by the end that they come from, 0 for any number, and how long a packet waits at most.
type rate struct {
	bits  [2]int
	queue time.Duration
}

// packet is a delayed packet, and when it is due at the other end.
type packet struct {
	data []byte
	due  time.Time
}

// newLink makes a link between two namespaces. nameA and nameB are the names of its devices there. It is removed when the test ends.
func newLink(t testing.TB, a *Namespace, nameA string, b *Namespace, nameB string) *Link {
	t.Helper()
	l := &Link{stop: make(chan struct{})}
	l.quality.Store(&quality{})
	l.rate.Store(&rate{})
	for i, end := range []struct {
		n    *Namespace
		name string
	}{{a, nameA}, {b, nameB}} {
		err := end.n.Do(func() (err error) {
			l.ends[i], err = openTUN(end.name)
			return err
		})
		if err != nil {
			if i == 1 {
				_ = l.ends[0].Close()
			}
			t.Fatal(err)
		}
		end.n.ip(t, fmt.Sprintf("link set %s up mtu %d", end.name, linkMTU))
	}
	for i := range l.ends {
		l.tasks.Go(func() { l.forward(i) })
	}
	t.Cleanup(func() {
		close(l.stop)
		for _, end := range l.ends {
			_ = end.Close()
		}
		l.tasks.Wait()
	})
	return l
}

// openTUN makes a TUN device in the network namespace of the current thread. Closing the file removes the device.
func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", tunDevice, err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("make the device %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Set sets loss and delay of UDP packets for each direction. loss is the share of packets that are dropped, 0 to 1. delay is the one-way delay of
// the others.
func (l *Link) Set(loss float64, delay time.Duration) { l.quality.Store(&quality{loss, delay, 0}) }

// SetJitter delays each UDP packet by a random time up to jitter. Packets stay in order.
func (l *Link) SetJitter(jitter time.Duration) { l.quality.Store(&quality{0, 0, jitter}) }

// SetRate limits what the link carries, in bit/s: up from the kiosk's side, down from the hub. 0 means no limit. Packets wait in a queue, as before a
// modem; those that would wait longer than queue are dropped.
func (l *Link) SetRate(up, down int, queue time.Duration) {
	l.rate.Store(&rate{[2]int{up, down}, queue})
}

// SetMapping makes the line give each flow of UDP another port every so often, and forget the port before, as some carriers' NATs do. 0 ends that.
func (l *Link) SetMapping(every time.Duration) {
	l.mapping.mu.Lock()
	defer l.mapping.mu.Unlock()
	l.mapping.every, l.mapping.inner, l.mapping.outer = every, nil, nil
}

// mapping is a NAT that forgets.
type mapping struct {
	mu           sync.Mutex // guards what follows
	every        time.Duration
	epoch        int64
	inner, outer map[uint16]uint16 // by the other one
}

// translate changes the port of a UDP packet: up that of its source, down that of its destination. It returns false for a packet to a port that was
// forgotten. IPv4 has UDP without a checksum (RFC 768).
func (m *mapping) translate(data []byte, up bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	head := int(data[0]&0xf) * 4
	if m.every == 0 || len(data) < head+8 {
		return true
	}
	if epoch := time.Now().UnixNano() / int64(m.every); epoch != m.epoch || m.inner == nil {
		m.epoch, m.inner, m.outer = epoch, make(map[uint16]uint16), make(map[uint16]uint16)
	}
	source, destination := data[head:head+2], data[head+2:head+4]
	binary.BigEndian.PutUint16(data[head+6:], 0)
	if !up {
		port, ok := m.inner[binary.BigEndian.Uint16(destination)]
		binary.BigEndian.PutUint16(destination, port)
		return ok
	}
	port := binary.BigEndian.Uint16(source)
	outer, ok := m.outer[port]
	for !ok {
		outer = uint16(1024 + rand.IntN(60000))
		_, taken := m.inner[outer]
		ok = !taken
	}
	m.inner[outer], m.outer[port] = port, outer
	binary.BigEndian.PutUint16(source, outer)
	return true
}

// forward reads packets at one end and writes them at the other.
func (l *Link) forward(end int) {
	from, to, counts := l.ends[end], l.ends[1-end], &l.counts[end]
	// The seed is fixed, so the same sequence of packets has the same losses in each run.
	chance := rand.New(rand.NewPCG(uint64(end), 80))
	delayed := make(chan packet, linkQueue)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() { l.sendDelayed(delayed, to) })
	defer close(delayed)
	buffer := make([]byte, linkMTU+100)
	var free time.Time // when the line has sent all packets that came so far
	for {
		n, err := from.Read(buffer)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil { // the device may be down for a moment
			select {
			case <-l.stop:
				return
			case <-time.After(time.Millisecond):
			}
			continue
		}
		counts.bytes.Add(uint64(n))
		counts.all.Add(1)
		if n > 1 && (buffer[0]>>4 == 4 && buffer[1]>>2 == af41 || buffer[0]>>4 == 6 && (buffer[0]&0xf)<<2|buffer[1]>>6 == af41) {
			counts.marked.Add(1)
		}
		if isUDP(buffer[:n]) && !l.mapping.translate(buffer[:n], end == 0) {
			counts.lost.Add(1)
			continue
		}
		due, ok := l.due(end, n, isUDP(buffer[:n]), chance, &free)
		switch {
		case !ok:
			continue
		case due.IsZero():
			_, _ = to.Write(buffer[:n])
			continue
		}
		select {
		case delayed <- packet{append([]byte(nil), buffer[:n]...), due}:
		default:
			counts.lost.Add(1)
		}
	}
}

// due says when a packet of n bytes is at the other end: at once if the time is zero, never if ok is false. free is when the line has sent the packets
// before it, and becomes when it has sent this one.
func (l *Link) due(end, n int, udp bool, chance *rand.Rand, free *time.Time) (due time.Time, ok bool) {
	q, r, counts := l.quality.Load(), l.rate.Load(), &l.counts[end]
	now := time.Now()
	lost := udp && chance.Float64() < q.loss
	if bits := r.bits[end]; bits > 0 && !lost {
		if free.Before(now) {
			*free = now
		}
		if lost = free.Sub(now) > r.queue; !lost {
			*free = free.Add(time.Duration(8*n) * time.Second / time.Duration(bits))
			due = *free
		}
	}
	switch {
	case lost && udp:
		counts.lost.Add(1)
	case udp:
		counts.passed.Add(1)
	}
	if late := q.delay + time.Duration(chance.Float64()*float64(q.jitter)); udp && late > 0 {
		if due.IsZero() {
			due = now
		}
		due = due.Add(late)
	}
	return due, !lost
}

// sendDelayed writes delayed packets when they are due, in order.
func (l *Link) sendDelayed(delayed <-chan packet, to *os.File) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for p := range delayed {
		timer.Reset(time.Until(p.due))
		select {
		case <-timer.C:
		case <-l.stop:
			return
		}
		_, _ = to.Write(p.data)
	}
}

// isUDP says whether a packet is an IPv4 packet with UDP, fragments included (RFC 791).
func isUDP(data []byte) bool {
	return len(data) >= 20 && data[0]>>4 == 4 && data[9] == protocolUDP
}
