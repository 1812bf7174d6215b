// Package load puts a TURN server under load and measures delay and loss. One process makes many allocations, each with a channel to one echo peer,
// and sends paced bursts through all of them.
//
//	c, err := load.Open(load.Config{Server: addr, Credentials: credentials, Allocations: 100}) // allocates and binds channels
//	r, err := c.Run(load.Traffic{Payload: 500, Rate: 20000, Burst: 5, Packets: 20000})      // there and back through the relay
//	r.Sent, r.Received, r.Quantile(0.99)
//	err = c.Close()                                                                       // ends the allocations
//
// Without a server the same packets go directly to the echo peer. This measures the cost of the sockets alone.
//
// Client and echo peer run on one thread that never sleeps, with epoll, recvmmsg and sendmmsg. So on two cores the server has one core for itself.
// A packet needs no memory allocation. Arrival times are the kernel's time stamps. A round trip is the time from before sendmmsg to the packet's
// arrival at the peer's socket, plus the same for the way back. It does not include the time in which this process notices and answers a packet.
// Linux only, IPv4 over UDP only.
//
// Only one goroutine at a time may use a Client.
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
	// perSource is how many allocations use the same source address of 127.0.0.0/8. Servers limit the unauthenticated requests of each address.
	perSource = 20
	// renewAfter is how old permissions, channels and allocations may be when a run begins. Their shortest lifetime is 5 minutes (RFC 8656).
	renewAfter = 2 * time.Minute
	// maxRunTime is the longest time that a run may take at its rate.
	maxRunTime = time.Minute

	channelNumber = 0x4000
	channelHeader = 4 // bytes before the payload (RFC 8656, section 12.4)
)

// Config configures a Client.
type Config struct {
	// Server is the TURN server's UDP address. The zero value means no server: packets go directly to the echo peer.
	Server netip.AddrPort
	// Credentials returns the user name and password of each allocation. Not needed without a server.
	Credentials func(allocation int) (username, password string)
	// Allocations is the number of allocations, at least 1.
	Allocations int
}

// Client is a set of allocations and the echo peer. Make one with Open.
type Client struct {
	cfg         Config
	allocations []*allocation
	peer        int // the echo peer's socket
	peerAddr    netip.AddrPort
	poll, timer int // file descriptors of the epoll set and of the timer that paces
	renewed     time.Time
	run         uint32     // number of the run: a late packet of an earlier run does not count
	source      netip.Addr // source address of the newest allocation
}

// sources counts the source addresses that were used, so that each client in this process has its own.
var sources atomic.Uint32

// nextSource returns an address of 127.0.0.0/8 that was not used recently. It is never in 127.0.0.0/16, where the servers are.
func nextSource() netip.Addr {
	n := sources.Add(1)
	return netip.AddrFrom4([4]byte{127, byte(1 + n/62500%250), byte(n / 250 % 250), byte(1 + n%250)})
}

// Open makes allocations and binds a channel of each to the echo peer. On error nothing is left open.
func Open(cfg Config) (*Client, error) {
	if cfg.Allocations < 1 || cfg.Allocations > 60000 {
		return nil, fmt.Errorf("open load client: %d allocations: want 1 to 60000", cfg.Allocations)
	}
	c := &Client{cfg: cfg, peer: -1, poll: -1, timer: -1, renewed: time.Now()}
	if err := c.start(); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("open load client: %w", err)
	}
	return c, nil
}

// start opens everything. On error the caller must close what is open.
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

// renew refreshes allocations, permissions and channels if they are older than renewAfter.
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
				c.cfg.Server = netip.AddrPort{} // do not wait for the other allocations if the server does not answer
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

// Offsets in a packet's payload: the run's number, the packet's number, when it was sent, when it arrived at the peer, and when the peer returned it.
// The payload ends with the packet's number again. Times are nanoseconds since 1970.
const (
	atRun, atNumber, atSent, atArrived, atReturned = 0, 4, 8, 16, 24

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
	return getTime(p, atArrived) - getTime(p, atSent) + now - getTime(p, atReturned)
}
func wholePacket(p []byte, payload int) bool {
	return len(p) == payload && get32(p, atNumber) == get32(p, len(p)-4)
}
