package paths

import (
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
)

// Link is an emulated network link between two namespaces. It has a TUN device at each end, and this process forwards the packets. It delays and
// drops UDP packets as [Link.Set] says. It forwards all other packets unchanged.
type Link struct {
	quality atomic.Pointer[quality]
	tasks   sync.WaitGroup
	ends    [2]*os.File
	stop    chan struct{}

	counts [2]count // UDP packets, by the end that they come from
}

// count counts the packets of one direction.
type count struct{ lost, passed atomic.Uint64 }

// Lost returns how many UDP packets the link has dropped, in both directions together.
func (l *Link) Lost() uint64 { return l.counts[0].lost.Load() + l.counts[1].lost.Load() }

// Passed returns how many UDP packets the link has forwarded, in both directions together.
func (l *Link) Passed() uint64 { return l.counts[0].passed.Load() + l.counts[1].passed.Load() }

// Up returns how many UDP packets from the kiosk's side the link has dropped and forwarded.
func (l *Link) Up() (lost, passed uint64) { return l.counts[0].lost.Load(), l.counts[0].passed.Load() }

type quality struct {
	loss  float64
	delay time.Duration
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
func (l *Link) Set(loss float64, delay time.Duration) { l.quality.Store(&quality{loss, delay}) }

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
		q := l.quality.Load()
		if !isUDP(buffer[:n]) {
			_, _ = to.Write(buffer[:n])
			continue
		}
		if chance.Float64() < q.loss {
			counts.lost.Add(1)
			continue
		}
		counts.passed.Add(1)
		if q.delay == 0 {
			_, _ = to.Write(buffer[:n])
			continue
		}
		select {
		case delayed <- packet{append([]byte(nil), buffer[:n]...), time.Now().Add(q.delay)}:
		default:
			counts.lost.Add(1)
		}
	}
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
