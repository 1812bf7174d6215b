package turncheck

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v4"
)

// connectTime is how long a connection and its TLS handshake may take.
const connectTime = 5 * time.Second

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
			_, _ = c.turn.HandleInbound(buffer[:n], from) // an error says that the packet is not TURN
		}
	})
	o.Progress("logging in")
	if c.relay, err = c.turn.Allocate(); err != nil {
		heard := conn.fault() // now, because close causes an error, too
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

// connected is a connected UDP socket. Unlike an unconnected socket, it gets an error when nobody listens on the other side.
type connected struct{ net.Conn }

// ReadFrom implements net.PacketConn.
func (c connected) ReadFrom(p []byte) (int, net.Addr, error) {
	n, err := c.Read(p)
	return n, c.RemoteAddr(), err
}

// WriteTo implements net.PacketConn.
func (c connected) WriteTo(p []byte, _ net.Addr) (int, error) { return c.Write(p) }

// faultConn remembers the error of the last read, and returns it for every write. Otherwise pion would repeat its requests until it gives up.
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

func addrOf(a net.Addr) netip.Addr {
	if u, ok := a.(*net.UDPAddr); ok {
		return u.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
