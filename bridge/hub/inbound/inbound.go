package inbound

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/turnserver/limit"
)

// Limits of connections that are not handed over yet.
const (
	pendingTime      = 10 * time.Second
	maxPending       = 1024
	maxSourcePending = 64 // from one IPv4 address or IPv6 /64
)

// Limits of all connections, handed over or not. A workshop behind one address needs a few for each device.
const (
	maxOpen       = 4096
	maxSourceOpen = 200
)

// Purpose says which servers a Port has.
type Purpose int

// The purposes of a Port. A Port with one server hands connections over before their TLS handshake, so that the server's own limits apply to
// the handshake.
const (
	Shared Purpose = iota
	HTTPOnly
	TURNOnly
)

// Config is what a Port is made of.
type Config struct {
	// Listener accepts TCP connections. Run closes it.
	Listener net.Listener
	// Purpose says which servers there are.
	Purpose Purpose
	// TLS is the TLS configuration; nil is for a TURNOnly port without encryption. Its NextProtos are the protocols of HTTP, and protocols that
	// need no server, such as that of ACME's TLS-ALPN-01 check.
	TLS *tls.Config
	// Proxies are the addresses of load balancers. Their connections must begin with a header of the PROXY protocol, version 2, which says who
	// the client is; otherwise they are closed. No header is read from other addresses, so that nobody else can claim to be another client.
	Proxies []netip.Prefix
	// TURNName is a server name whose clients always want TURN; "" is none. It must not be a name of the HTTPS server.
	TURNName string
	// Log gets the errors that keep the port from accepting.
	Log zerolog.Logger
}

// Port is a TCP port with one server or two behind it. Make one with New.
type Port struct {
	cfg        Config
	http, turn *handover
	over       chan struct{} // closed when Run ends
	all        sync.WaitGroup
	warnOnce   sync.Once // about a proxy without a header
	open       *limit.Semaphore[netip.Addr]

	mu       sync.Mutex              // guards what follows
	pending  map[net.Conn]netip.Addr // connections that are not handed over, with the source that they count for
	bySource map[netip.Addr]int      // how many of pending each source has
}

// New makes a Port. It starts nothing.
func New(cfg Config) *Port {
	cfg.TURNName = strings.ToLower(cfg.TURNName)
	if cfg.Purpose == Shared {
		cfg.TLS = sharedTLS(cfg.TLS, cfg.TURNName)
	}
	return &Port{
		cfg: cfg, http: newHandover(cfg.Listener.Addr()), turn: newHandover(cfg.Listener.Addr()),
		open: limit.NewSemaphore[netip.Addr](maxOpen, maxSourceOpen),
		over: make(chan struct{}), pending: make(map[net.Conn]netip.Addr), bySource: make(map[netip.Addr]int),
	}
}

// HTTP is the listener of the HTTPS server: HTTP/1.1 and HTTP/2, decrypted. Its connections are *tls.Conn, because net/http needs that for
// HTTP/2. Connections of clients without ALPN have another type, and their requests have no Request.TLS. Closing the listener leaves the port
// open, and refuses HTTP.
func (p *Port) HTTP() net.Listener { return p.http }

// TURN is the listener of the TURN server, decrypted. Closing the listener leaves the port open, and refuses TURN.
func (p *Port) TURN() net.Listener { return p.turn }

// Run accepts connections until ctx ends, and then returns nil. If the listener is closed before, it returns the error. Run can be called once.
func (p *Port) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = p.cfg.Listener.Close() })
	err := p.accept(ctx)
	stop()
	_ = p.cfg.Listener.Close()
	close(p.over)
	p.mu.Lock()
	for conn := range p.pending {
		_ = conn.Close()
	}
	p.mu.Unlock()
	p.all.Wait()
	_ = p.http.Close()
	_ = p.turn.Close()
	return err
}

func (p *Port) accept(ctx context.Context) error {
	for {
		conn, err := p.cfg.Listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			// Most likely there are no more file descriptors. Open connections go on. New ones can be accepted when some have ended.
			p.cfg.Log.Warn().Err(err).Stringer("address", p.cfg.Listener.Addr()).Msg("Failed to accept a connection")
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		if !p.add(conn) {
			_ = conn.Close()
			continue
		}
		p.all.Go(func() {
			defer p.remove(conn)
			p.dispatch(ctx, conn)
		})
	}
}

// sourceOf is the source that a connection counts for, an IPv4 address or IPv6 /64.
func sourceOf(conn net.Conn) netip.Addr {
	a, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return limit.Source(a.AddrPort().Addr())
}

// add counts a pending connection, or returns false if there are too many. A proxy's connection counts for no source until recount.
func (p *Port) add(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.pending) >= maxPending {
		return false
	}
	if p.fromProxy(conn) {
		p.pending[conn] = netip.Addr{}
		return true
	}
	return p.countLocked(conn, sourceOf(conn))
}

// recount counts a proxy's connection as its client's, or returns false if the client has too many.
func (p *Port) recount(conn, client net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.countLocked(conn, sourceOf(client))
}

func (p *Port) countLocked(conn net.Conn, source netip.Addr) bool {
	if p.bySource[source] >= maxSourcePending {
		return false
	}
	p.pending[conn] = source
	p.bySource[source]++
	return true
}

func (p *Port) remove(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	source := p.pending[conn]
	delete(p.pending, conn)
	if p.bySource[source] > 1 {
		p.bySource[source]--
	} else {
		delete(p.bySource, source)
	}
}

// dispatch finds out which server a connection is for, and hands it over or closes it.
func (p *Port) dispatch(ctx context.Context, raw net.Conn) {
	timer := time.NewTimer(pendingTime)
	defer timer.Stop()
	_ = raw.SetDeadline(time.Now().Add(pendingTime))
	client := raw
	if p.fromProxy(raw) {
		if client = p.clientOf(raw); client == nil || !p.recount(raw, client) {
			_ = raw.Close()
			return
		}
	}
	source := sourceOf(client)
	if !p.open.TryAcquire(source) {
		_ = raw.Close()
		return
	}
	counted := &countedConn{Conn: client, release: sync.OnceFunc(func() { p.open.Release(source) })}
	to, ready := p.classify(ctx, counted)
	if to == nil {
		_ = counted.Close()
		return
	}
	_ = raw.SetDeadline(time.Time{})
	select {
	case to.conns <- ready:
		return
	case <-to.closed:
	case <-p.over:
	case <-timer.C:
	}
	_ = counted.Close()
}

// countedConn is a connection that counts as open until it is closed.
type countedConn struct {
	net.Conn
	release func()
}

// Close implements net.Conn.
func (c *countedConn) Close() error {
	c.release()
	return c.Conn.Close()
}
