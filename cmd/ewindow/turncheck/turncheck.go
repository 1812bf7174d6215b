// Package turncheck finds out whether a TURN server works for clients, and says in plain words why it does not.
//
// [Parse] reads which server to check. [Check] makes two allocations, sends packets from one relayed address to the other and back, and
// counts what comes back. The client is pion's. Check may be called from several goroutines. Each call waits for the goroutines that it
// started.
package turncheck

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/pion/logging"
	"github.com/pion/stun/v3"
	"github.com/pion/turn/v4"
)

const (
	packets     = 200
	packetSize  = 200 // bytes, like a packet of sound
	interval    = 10 * time.Millisecond
	connectTime = 5 * time.Second
	firstTime   = 3 * time.Second // for the first packet to come back
	lastTime    = time.Second     // for the last ones
)

// Options are the credentials and settings of a Check.
type Options struct {
	Username, Password string
	// Roots are the authorities that may sign the server's certificate; nil means the system's.
	Roots *x509.CertPool
	// Progress is called with a short text each time the check goes on to another step, always from the goroutine of Check. It may be nil.
	Progress func(string)
}

// Result is what a successful Check has measured.
type Result struct {
	// Relay is the relayed address that clients get.
	Relay netip.Addr
	// Sent counts packets, and Lost those that did not come back.
	Sent, Lost int
	// P50 and P99 are percentiles of the round trip through both allocations.
	P50, P99 time.Duration
}

// String returns the result in one line.
func (r Result) String() string {
	return fmt.Sprintf("relayed by %s, round trip %.1f ms (p50), %.1f ms (p99), %d of %d packets lost",
		r.Relay, float64(r.P50.Microseconds())/1000, float64(r.P99.Microseconds())/1000, r.Lost, r.Sent)
}

// Check checks one transport address of a server. Its errors say what is wrong and what to do; they contain no credentials.
func Check(ctx context.Context, t Target, o Options) (Result, error) {
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	var clients [2]*client
	for i := range clients {
		c, err := login(ctx, t, o)
		if err != nil {
			return Result{}, err
		}
		defer c.close()
		clients[i] = c
	}
	a, b := clients[0], clients[1]
	o.Progress("asking for permission to relay")
	for _, c := range []struct{ from, to *client }{{a, b}, {b, a}} {
		if err := c.from.turn.CreatePermission(c.to.relay.LocalAddr()); err != nil {
			return Result{}, explainPermission(err, c.to.relay.LocalAddr(), c.from)
		}
	}
	r, err := measure(ctx, a, b, o)
	r.Relay = addrOf(a.relay.LocalAddr())
	return r, err
}

// client is a TURN client with its allocation.
type client struct {
	conn  *faultConn
	turn  *turn.Client
	relay net.PacketConn
	ended sync.WaitGroup
	stop  func() bool
}

// login connects and makes an allocation.
func login(ctx context.Context, t Target, o Options) (*client, error) {
	o.Progress("connecting")
	conn, err := connect(ctx, t, o)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn}
	c.stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
	c.turn, err = turn.NewClient(&turn.ClientConfig{
		// pion needs an IPv4 address here. It is not used: the connection has one peer.
		TURNServerAddr: "192.0.2.1:3478", Conn: conn, Username: o.Username, Password: o.Password,
		LoggerFactory: &logging.DefaultLoggerFactory{Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled},
	})
	if err != nil {
		c.close()
		return nil, err
	}
	c.ended.Go(func() {
		buffer := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = c.turn.HandleInbound(buffer[:n], from) // its error says that the packet is none of TURN
		}
	})
	o.Progress("logging in")
	if c.relay, err = c.turn.Allocate(); err != nil {
		heard := conn.fault() // before close sets it
		c.close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, explainAllocate(err, t, heard)
	}
	return c, nil
}

func (c *client) close() {
	c.stop()
	if c.relay != nil {
		_ = c.relay.Close()
	}
	if c.turn != nil {
		c.turn.Close()
	}
	_ = c.conn.Close()
	c.ended.Wait()
}

// connect opens a socket or stream to the server.
func connect(ctx context.Context, t Target, o Options) (*faultConn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	network := "tcp"
	if t.Transport == "udp" {
		network = "udp"
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(t.Host, strconv.Itoa(t.Port)))
	if err != nil {
		return nil, explainDial(err, t)
	}
	switch t.Transport {
	case "udp":
		return &faultConn{PacketConn: connected{conn}}, nil
	case "tls":
		// It offers no protocol by ALPN, as browsers' TURN clients do.
		over := tls.Client(conn, &tls.Config{ServerName: t.Host, RootCAs: o.Roots, MinVersion: tls.VersionTLS12})
		if err := over.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, explainTLS(err, t)
		}
		conn = over
	}
	return &faultConn{PacketConn: turn.NewSTUNConn(conn)}, nil
}

// connected is a connected UDP socket. Unlike an unconnected one it gets an error when nobody listens on the other side.
type connected struct{ net.Conn }

// ReadFrom implements net.PacketConn.
func (c connected) ReadFrom(p []byte) (int, net.Addr, error) {
	n, err := c.Read(p)
	return n, c.RemoteAddr(), err
}

// WriteTo implements net.PacketConn.
func (c connected) WriteTo(p []byte, _ net.Addr) (int, error) { return c.Write(p) }

// faultConn remembers the error of the last read, and returns it for every write. Without that, pion would send its requests again until it
// gives up.
type faultConn struct {
	net.PacketConn
	mu  sync.Mutex // guards err
	err error
}

// ReadFrom implements net.PacketConn.
func (c *faultConn) ReadFrom(p []byte) (int, net.Addr, error) {
	n, from, err := c.PacketConn.ReadFrom(p)
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.err = err
	}
	return n, from, err
}

// WriteTo implements net.PacketConn.
func (c *faultConn) WriteTo(p []byte, to net.Addr) (int, error) {
	if err := c.fault(); err != nil {
		return 0, err
	}
	return c.PacketConn.WriteTo(p, to)
}

func (c *faultConn) fault() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// arrivals are the round trips of the packets that came back.
type arrivals struct {
	mu    sync.Mutex // guards what follows
	trips map[uint32]time.Duration
	come  chan struct{} // has a buffer of one: something has come
}

func (a *arrivals) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.trips)
}

// measure sends packets from one allocation to the other and back.
func measure(ctx context.Context, a, b *client, o Options) (Result, error) {
	var all sync.WaitGroup
	defer all.Wait()
	defer func() { // ends the two readers
		_ = a.relay.SetReadDeadline(time.Unix(1, 0))
		_ = b.relay.SetReadDeadline(time.Unix(1, 0))
	}()
	all.Go(func() {
		buffer := make([]byte, 2000)
		for {
			n, from, err := b.relay.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = b.relay.WriteTo(buffer[:n], from)
		}
	})
	begin := time.Now()
	var warm, real = &arrivals{trips: map[uint32]time.Duration{}, come: make(chan struct{}, 1)},
		&arrivals{trips: map[uint32]time.Duration{}, come: make(chan struct{}, 1)}
	all.Go(func() {
		buffer := make([]byte, 2000)
		for {
			n, _, err := a.relay.ReadFrom(buffer)
			if err != nil {
				return
			}
			if n != packetSize {
				continue
			}
			to, number := real, binary.BigEndian.Uint32(buffer)
			if number >= packets {
				to = warm
			}
			trip := time.Since(begin) - time.Duration(binary.BigEndian.Uint64(buffer[4:]))
			to.mu.Lock()
			if _, twice := to.trips[number]; !twice {
				to.trips[number] = trip
			}
			to.mu.Unlock()
			select {
			case to.come <- struct{}{}:
			default:
			}
		}
	})
	send := func(number uint32) error {
		packet := make([]byte, packetSize)
		binary.BigEndian.PutUint32(packet, number)
		binary.BigEndian.PutUint64(packet[4:], uint64(time.Since(begin)))
		_, err := a.relay.WriteTo(packet, b.relay.LocalAddr())
		return err
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()

	// The first packets only find out when the permissions work in both directions; they do not count.
	o.Progress("waiting for the first packet")
	first := time.After(firstTime)
	for number := uint32(packets); warm.count() == 0; number++ {
		if err := send(number); err != nil {
			return Result{}, explainSend(ctx, err, a)
		}
		select {
		case <-first:
			return Result{}, explainSilence(a, b)
		case <-ctx.Done():
			return Result{}, ctx.Err()
		case <-warm.come:
		case <-tick.C:
		}
	}
	for i := range packets {
		o.Progress(fmt.Sprintf("sending packets, %d of %d so far", i, packets))
		if err := send(uint32(i)); err != nil {
			return Result{}, explainSend(ctx, err, a)
		}
		select {
		case <-ctx.Done():
			return Result{}, ctx.Err()
		case <-tick.C:
		}
	}
	last := time.After(lastTime)
	for waiting := true; waiting && real.count() < packets; {
		select {
		case <-real.come:
		case <-last:
			waiting = false
		case <-ctx.Done():
			return Result{}, ctx.Err()
		}
	}
	real.mu.Lock()
	defer real.mu.Unlock()
	var trips []time.Duration
	for _, trip := range real.trips {
		trips = append(trips, trip)
	}
	if len(trips) == 0 {
		return Result{}, explainSilence(a, b)
	}
	slices.Sort(trips)
	return Result{
		Sent: packets, Lost: packets - len(trips), P50: trips[(len(trips)-1)*50/100], P99: trips[(len(trips)-1)*99/100],
	}, nil
}

func addrOf(a net.Addr) netip.Addr {
	if u, ok := a.(*net.UDPAddr); ok {
		return u.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// codeOf returns the code and reason of a TURN error response, 0 for any other error.
func codeOf(err error) (code stun.ErrorCode, reason string) {
	var refused *stun.TurnError
	if !errors.As(err, &refused) {
		return 0, ""
	}
	return refused.ErrorCodeAttr.Code, string(refused.ErrorCodeAttr.Reason)
}
