// Package load puts a TURN server under load and measures what it does to the packets: many allocations from one process, each with a
// channel to one echo peer, and paced bursts through all of them.
//
//	c, err := load.Open(load.Config{Server: addr, Credentials: credentials, Allocations: 100}) // allocates and binds channels
//	r, err := c.Run(load.Traffic{Payload: 500, Rate: 20000, Burst: 5, Packets: 20000})      // there and back through the relay
//	r.Sent, r.Received, r.Quantile(0.99)
//	err = c.Close()                                                                       // ends the allocations
//
// Without a server the same packets go straight to the echo peer, which is what the sockets alone cost.
//
// The client and its peer are one busy thread with an epoll set, recvmmsg and sendmmsg, so that on two cores the server has one for itself, and
// nothing is allocated for a packet. Times are the kernel's: a round trip is the time from before sendmmsg to the packet's arrival at the peer's
// socket, and the same back. What this client takes to notice and to answer a packet counts for nothing. Linux and IPv4 over UDP only.
//
// A Client is used by one goroutine at a time.
package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// perSource is how many allocations come from one of 127/8's addresses: servers limit what one address may ask without a login.
	perSource = 20
	// renewAfter is how old permissions, channels and allocations may be when a run begins; they live for 5 minutes and more (RFC 8656).
	renewAfter = 2 * time.Minute
	// longest is how long a run may take at its rate.
	longest = time.Minute

	channelNumber = 0x4000
	channelHeader = 4 // bytes before the payload (RFC 8656, section 12.4)
)

// Config says whom to put under load.
type Config struct {
	// Server is the TURN server's UDP address; the zero value means none: straight to the echo peer.
	Server netip.AddrPort
	// Credentials returns the user name and password of each allocation. Not needed without a server.
	Credentials func(allocation int) (username, password string)
	// Allocations is how many there are: at least 1.
	Allocations int
}

// Client is a number of allocations and the echo peer. Make one with Open.
type Client struct {
	cfg         Config
	allocations []*allocation
	peer        int // the echo peer's socket
	peerAddr    netip.AddrPort
	poll, timer int // descriptors of the epoll set and of the clock that paces
	renewed     time.Time
	run         uint32     // number of the run, so that a late packet counts for none
	source      netip.Addr // of the allocation made last
}

// sources counts the addresses that were used, so that clients of one process have each their own.
var sources atomic.Uint32

// nextSource is an address of 127/8 that nobody has used for long, but never 127.0.0.0/16, where servers are.
func nextSource() netip.Addr {
	n := sources.Add(1)
	return netip.AddrFrom4([4]byte{127, byte(1 + n/62500%250), byte(n / 250 % 250), byte(1 + n%250)})
}

// Open makes allocations and binds a channel of each to the echo peer. On error nothing is left open.
func Open(cfg Config) (*Client, error) {
	if cfg.Allocations < 1 || cfg.Allocations > 60000 {
		return nil, fmt.Errorf("open load client: %d allocations are none or too many", cfg.Allocations)
	}
	c := &Client{cfg: cfg, peer: -1, poll: -1, timer: -1, renewed: time.Now()}
	if err := c.start(); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("open load client: %w", err)
	}
	return c, nil
}

// start opens everything; what is open on error is the caller's to close.
func (c *Client) start() (err error) {
	if c.peer, err = socket(netip.MustParseAddr("127.0.0.1"), peerBuffer); err != nil {
		return err
	}
	if c.peerAddr, err = localAddr(c.peer); err != nil {
		return err
	}
	if c.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if c.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return err
	}
	if err := errors.Join(c.watch(c.peer, tagPeer), c.watch(c.timer, tagTimer)); err != nil {
		return err
	}
	for i := range c.cfg.Allocations {
		a, err := c.open(i)
		if err != nil {
			return fmt.Errorf("allocation %d: %w", i, err)
		}
		c.allocations = append(c.allocations, a)
	}
	return nil
}

// open makes one allocation.
func (c *Client) open(i int) (*allocation, error) {
	if i%perSource == 0 {
		c.source = nextSource()
	}
	fd, err := socket(c.source, clientBuffer)
	if err != nil {
		return nil, err
	}
	a := &allocation{fd: fd}
	target := c.cfg.Server
	if !target.IsValid() {
		target = c.peerAddr
	} else {
		a.username, a.password = c.cfg.Credentials(i)
	}
	err = connect(fd, target)
	if err == nil && c.cfg.Server.IsValid() {
		err = a.allocate()
		if err == nil {
			err = a.bind(c.peerAddr)
		}
	}
	if err == nil {
		err = c.watch(fd, int32(i))
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return a, nil
}

// renew makes allocations, permissions and channels last for another while.
func (c *Client) renew() error {
	if !c.cfg.Server.IsValid() || time.Since(c.renewed) < renewAfter {
		return nil
	}
	c.renewed = time.Now()
	for i, a := range c.allocations {
		if err := errors.Join(a.refresh(lifetime), a.bind(c.peerAddr)); err != nil {
			return fmt.Errorf("renew allocation %d: %w", i, err)
		}
	}
	return nil
}

// Close ends the allocations and closes all sockets. It may be called once.
func (c *Client) Close() error {
	var errs []error
	for i, a := range c.allocations {
		if c.cfg.Server.IsValid() {
			if err := a.refresh(0); err != nil {
				errs = append(errs, fmt.Errorf("end allocation %d: %w", i, err))
				c.cfg.Server = netip.AddrPort{} // one that does not answer is enough to wait for
			}
		}
		errs = append(errs, unix.Close(a.fd))
	}
	for _, fd := range []int{c.peer, c.timer, c.poll} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	return errors.Join(errs...)
}

// A packet's payload begins with the run's number, the packet's number, when it was sent, when it came to the peer, and when the peer sent
// it back; it ends with the packet's number again. The times are nanoseconds since 1970.
const (
	atRun, atNumber, atSent, atCame, atBack = 0, 4, 8, 16, 24

	// MinPayload is the smallest payload in bytes.
	MinPayload = 36
	// MaxPayload is the largest.
	MaxPayload = 1400
)

func put32(p []byte, at int, v uint32)    { binary.LittleEndian.PutUint32(p[at:], v) }
func get32(p []byte, at int) uint32       { return binary.LittleEndian.Uint32(p[at:]) }
func putTime(p []byte, at int, ns int64)  { binary.LittleEndian.PutUint64(p[at:], uint64(ns)) }
func getTime(p []byte, at int) (ns int64) { return int64(binary.LittleEndian.Uint64(p[at:])) }
func putPacket(p []byte, run, number uint32) {
	put32(p, atRun, run)
	put32(p, atNumber, number)
	put32(p, len(p)-4, number)
}
func roundTrip(p []byte, now int64) (ns int64) {
	return getTime(p, atCame) - getTime(p, atSent) + now - getTime(p, atBack)
}
func wholePacket(p []byte, payload int) bool {
	return len(p) == payload && get32(p, atNumber) == get32(p, len(p)-4)
}
