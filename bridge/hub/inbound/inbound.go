// Package inbound stands between a TCP port and its servers: it decrypts, and hands each connection to HTTPS or to TURN, so that both
// can share one port. Port 443 is the one that the strictest firewalls let out.
//
// Before that it takes the client's address from the PROXY protocol, if the connection comes from a configured proxy.
//
// [New] makes a [Port], [Port.Run] accepts until its context ends; [Port.HTTP] and [Port.TURN] are the listeners of the two servers. A
// connection is TURN's when the client says so by ALPN (stun.turn, RFC 7443) or asks for the relay's name (SNI). It is HTTP's when the client says
// so by ALPN, as browsers do. Who says nothing, as browsers' TURN clients do, is known by the first byte: a STUN request begins with
// 0x00 or 0x01 (RFC 8489, section 5), an HTTP/1.1 request with a letter.
//
// Until that is known a connection is held in a goroutine of its own, for ten seconds at most. There are at most 1,024 of them, 64 from
// one address (IPv4) or /64 (IPv6); more are closed at once. Run waits for them all. Connections that were handed over are
// their server's.
package inbound

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/turnserver/limit"
)

const (
	undecidedTime  = 10 * time.Second
	maxUndecided   = 1024
	maxUndecidedIP = 64
)

// The names by which STUN and TURN clients greet (RFC 7443).
var stunProtocols = []string{"stun.turn", "stun.nat-discovery"}

// Purpose is which servers a Port has.
type Purpose int

// The purposes of a Port. One that is not shared hands connections over before their TLS handshake, which is then under the limits of
// its one server.
const (
	Shared Purpose = iota
	HTTPOnly
	TURNOnly
)

// Config is what a Port is made of.
type Config struct {
	// Listener accepts TCP connections. Run closes it.
	Listener net.Listener
	// Purpose is which servers there are.
	Purpose Purpose
	// TLS decrypts; nil is for a TURNOnly port without encryption. Its NextProtos are those of HTTP, and others that need no server, such as
	// the one of ACME's check.
	TLS *tls.Config
	// Proxies are the addresses whose connections begin with a header of the PROXY protocol, version 2, which says who the client is. One
	// without it is closed. All others' connections are taken as they are, so that nobody else can say to be somebody else.
	Proxies []netip.Prefix
	// TURNName is a server name whose clients are TURN's, whatever else they say; "" is none. It must not be a name of the HTTPS server.
	TURNName string
	// Log gets what stops the port from accepting.
	Log zerolog.Logger
}

// Port is one that two servers share. Make one with New.
type Port struct {
	cfg        Config
	http, turn *side
	over       chan struct{} // closed when Run ends
	all        sync.WaitGroup
	warnOnce   sync.Once // about a proxy without a header

	mu    sync.Mutex              // guards what follows
	open  map[net.Conn]netip.Addr // connections that are not handed over, by whom they are counted
	perIP map[netip.Addr]int
}

// New makes a Port. It starts nothing.
func New(cfg Config) *Port {
	cfg.TURNName = strings.ToLower(cfg.TURNName)
	if cfg.Purpose == Shared {
		cfg.TLS = sharedTLS(cfg.TLS, cfg.TURNName)
	}
	return &Port{
		cfg: cfg, http: newSide(cfg.Listener.Addr()), turn: newSide(cfg.Listener.Addr()),
		over: make(chan struct{}), open: make(map[net.Conn]netip.Addr), perIP: make(map[netip.Addr]int),
	}
}

// sharedTLS lets TURN clients greet, too.
func sharedTLS(cfg *tls.Config, name string) *tls.Config {
	shared, relay := cfg.Clone(), cfg.Clone()
	// Ours come first, since the server's order counts and coturn's client offers http/1.1 besides.
	shared.NextProtos, relay.NextProtos = slices.Concat(stunProtocols, cfg.NextProtos), slices.Clone(stunProtocols)
	for _, p := range cfg.NextProtos {
		if p != "h2" && p != "http/1.1" {
			relay.NextProtos = append(relay.NextProtos, p)
		}
	}
	// A browser that asks for the relay's name is told by TLS that there is no web page, and not sent to a server that can't read it.
	shared.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if name != "" && strings.EqualFold(hello.ServerName, name) {
			return relay, nil
		}
		return nil, nil
	}
	return shared
}

// HTTP is the listener of the HTTPS server: HTTP/1.1 and HTTP/2, decrypted. Its connections are *tls.Conn, as net/http wants for HTTP/2, but for
// clients that sent no ALPN: their requests have no Request.TLS. Closing it leaves the port open, and refuses HTTP.
func (p *Port) HTTP() net.Listener { return p.http }

// TURN is the listener of the TURN server, decrypted. Closing it leaves the port open, and refuses TURN.
func (p *Port) TURN() net.Listener { return p.turn }

// Run accepts connections until ctx ends, and returns nil then, or the error that ended it before. It can be called once.
func (p *Port) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = p.cfg.Listener.Close() })
	err := p.accept(ctx)
	stop()
	_ = p.cfg.Listener.Close()
	close(p.over)
	p.mu.Lock()
	for conn := range p.open {
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
			// Out of file descriptors, most likely: existing connections go on, and new ones may when some have ended.
			p.cfg.Log.Warn().Err(err).Stringer("address", p.cfg.Listener.Addr()).Msg("Failed to accept a connection")
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		if !p.enter(conn) {
			_ = conn.Close()
			continue
		}
		p.all.Go(func() {
			defer p.leave(conn)
			p.decide(ctx, conn)
		})
	}
}

// sourceOf is what connections are counted by: a client's IPv4 address, or its /64.
func sourceOf(conn net.Conn) netip.Addr {
	a, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return limit.Source(a.AddrPort().Addr())
}

// enter counts a connection, unless there are too many. A proxy's is counted as one of its client's once that is known.
func (p *Port) enter(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.open) >= maxUndecided {
		return false
	}
	if p.fromProxy(conn) {
		p.open[conn] = netip.Addr{}
		return true
	}
	return p.countLocked(conn, sourceOf(conn))
}

// recount counts a proxy's connection as one of its client's.
func (p *Port) recount(conn, client net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.countLocked(conn, sourceOf(client))
}

func (p *Port) countLocked(conn net.Conn, source netip.Addr) bool {
	if p.perIP[source] >= maxUndecidedIP {
		return false
	}
	p.open[conn] = source
	p.perIP[source]++
	return true
}

func (p *Port) leave(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	source := p.open[conn]
	delete(p.open, conn)
	if p.perIP[source] > 1 {
		p.perIP[source]--
	} else {
		delete(p.perIP, source)
	}
}

// decide finds out whose a connection is, and hands it over or closes it.
func (p *Port) decide(ctx context.Context, raw net.Conn) {
	limit := time.NewTimer(undecidedTime)
	defer limit.Stop()
	_ = raw.SetDeadline(time.Now().Add(undecidedTime))
	client := raw
	if p.fromProxy(raw) {
		if client = p.unproxied(raw); client == nil || !p.recount(raw, client) {
			_ = raw.Close()
			return
		}
	}
	to, ready := p.sort(ctx, client)
	if to == nil {
		_ = raw.Close()
		return
	}
	_ = raw.SetDeadline(time.Time{})
	select {
	case to.conns <- ready:
		return
	case <-to.closed:
	case <-p.over:
	case <-limit.C:
	}
	_ = raw.Close()
}

// sort finds a connection's side, nil if it has none.
func (p *Port) sort(ctx context.Context, client net.Conn) (*side, net.Conn) {
	if p.cfg.TLS == nil {
		return p.turn, client
	}
	conn := tls.Server(client, p.cfg.TLS)
	switch p.cfg.Purpose {
	case HTTPOnly:
		return p.http, conn
	case TURNOnly:
		return p.turn, &relayed{Conn: conn}
	}
	if conn.HandshakeContext(ctx) != nil {
		return nil, nil
	}
	state := conn.ConnectionState()
	switch protocol := state.NegotiatedProtocol; {
	case slices.Contains(stunProtocols, protocol):
		return p.turn, &relayed{Conn: conn}
	case protocol == "h2" || protocol == "http/1.1":
		return p.http, conn // net/http asks for the type
	case protocol != "":
		return nil, nil // a check, which ends with the handshake
	case p.cfg.TURNName != "" && strings.EqualFold(state.ServerName, p.cfg.TURNName):
		return p.turn, &relayed{Conn: conn}
	}
	var first [1]byte
	if n, err := conn.Read(first[:]); n == 0 || err != nil {
		return nil, nil
	}
	switch b := first[0]; {
	case b <= 1:
		return p.turn, &relayed{Conn: conn, first: first[:]}
	case 'A' <= b && b <= 'Z' || 'a' <= b && b <= 'z':
		return p.http, &peeked{Conn: conn, first: first[:]}
	}
	return nil, nil
}

// side is the listener of one server.
type side struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newSide(addr net.Addr) *side {
	return &side{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Accept implements net.Listener.
func (s *side) Accept() (net.Conn, error) {
	select {
	case <-s.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case conn := <-s.conns:
		return conn, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (s *side) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// Addr implements net.Listener.
func (s *side) Addr() net.Addr { return s.addr }

// peeked is a connection whose first byte was read already. As any, it is read by one goroutine at a time.
type peeked struct {
	*tls.Conn
	first []byte
}

// Read implements net.Conn.
func (p *peeked) Read(b []byte) (int, error) { return readFirst(p.Conn, &p.first, b) }

// relayed is peeked, for the relay.
type relayed struct {
	*tls.Conn
	first []byte
}

// Read implements net.Conn.
func (r *relayed) Read(b []byte) (int, error) { return readFirst(r.Conn, &r.first, b) }

// Close says no goodbye: TLS's would wait for a client that does not read, and the relay closes while others wait.
func (r *relayed) Close() error { return r.NetConn().Close() }

func readFirst(conn *tls.Conn, first *[]byte, b []byte) (int, error) {
	if len(*first) == 0 || len(b) == 0 {
		return conn.Read(b)
	}
	n := copy(b, *first)
	*first = (*first)[n:]
	return n, nil
}
