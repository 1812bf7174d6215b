package inbound

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
	"strings"
)

// stunProtocols are the protocols that STUN and TURN clients offer by ALPN (RFC 7443).
var stunProtocols = []string{"stun.turn", "stun.nat-discovery"}

// sharedTLS makes a TLS configuration that also accepts the protocols of TURN clients. name is the relay's.
func sharedTLS(cfg *tls.Config, name string) *tls.Config {
	shared, relay := cfg.Clone(), cfg.Clone()
	// The server's order decides. TURN comes first, because coturn's client offers http/1.1, too.
	shared.NextProtos, relay.NextProtos = slices.Concat(stunProtocols, cfg.NextProtos), slices.Clone(stunProtocols)
	for _, p := range cfg.NextProtos {
		if p != "h2" && p != "http/1.1" {
			relay.NextProtos = append(relay.NextProtos, p)
		}
	}
	// There is no web page at the relay's name. A browser that asks for this name fails in the handshake, so that it does not reach the
	// TURN server, which can't understand HTTP.
	shared.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if name != "" && strings.EqualFold(hello.ServerName, name) {
			return relay, nil
		}
		return nil, nil
	}
	return shared
}

// classify finds the server that a connection is for, and returns the connection in the form that this server reads. It returns nil if the
// connection is for neither server.
func (p *Port) classify(ctx context.Context, client net.Conn) (*handover, net.Conn) {
	if p.cfg.TLS == nil {
		return p.turn, client
	}
	conn := tls.Server(client, p.cfg.TLS)
	switch p.cfg.Purpose {
	case HTTPOnly:
		return p.http, conn
	case TURNOnly:
		return p.turn, &turnConn{Conn: conn}
	}
	if conn.HandshakeContext(ctx) != nil {
		return nil, nil
	}
	state := conn.ConnectionState()
	switch protocol := state.NegotiatedProtocol; {
	case slices.Contains(stunProtocols, protocol):
		return p.turn, &turnConn{Conn: conn}
	case protocol == "h2" || protocol == "http/1.1":
		return p.http, conn // net/http wants a *tls.Conn
	case protocol != "":
		return nil, nil // ACME's check, which ends with the handshake
	case p.cfg.TURNName != "" && strings.EqualFold(state.ServerName, p.cfg.TURNName):
		return p.turn, &turnConn{Conn: conn}
	}
	var first [1]byte
	if n, err := conn.Read(first[:]); n == 0 || err != nil {
		return nil, nil
	}
	switch b := first[0]; {
	case b <= 1:
		return p.turn, &turnConn{Conn: conn, first: first[:]}
	case 'A' <= b && b <= 'Z' || 'a' <= b && b <= 'z':
		return p.http, &httpConn{Conn: conn, first: first[:]}
	}
	return nil, nil
}

// httpConn is a connection whose first byte was read already. Like any connection, it is read by one goroutine at a time.
type httpConn struct {
	*tls.Conn
	first []byte
}

// Read implements net.Conn.
func (c *httpConn) Read(b []byte) (int, error) { return readFirst(c.Conn, &c.first, b) }

// turnConn is a connection for the relay; its first byte may have been read already.
type turnConn struct {
	*tls.Conn
	first []byte
}

// Read implements net.Conn.
func (c *turnConn) Read(b []byte) (int, error) { return readFirst(c.Conn, &c.first, b) }

// Close closes the TCP connection without TLS's close_notify. Sending close_notify could block on a client that does not read, and the relay
// must not block while it closes a connection.
func (c *turnConn) Close() error { return c.NetConn().Close() }

func readFirst(conn *tls.Conn, first *[]byte, b []byte) (int, error) {
	if len(*first) == 0 || len(b) == 0 {
		return conn.Read(b)
	}
	n := copy(b, *first)
	*first = (*first)[n:]
	return n, nil
}
