package inbound

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
)

// The PROXY protocol, version 2, as haproxy.org/download/3.0/doc/proxy-protocol.txt has it in section 2.2. Version 1 is not read: it is text of
// unknown length, and every proxy that speaks it speaks 2.
const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyHeader    = 16   // bytes before the addresses
	maxProxyBody   = 4096 // bytes of addresses and extensions: far above what any proxy sends

	proxyLocal = 0x20 // version 2, the proxy speaks for itself: a check whether we are there
	proxyProxy = 0x21 // version 2, the addresses follow
	proxyTCP4  = 0x11
	proxyTCP6  = 0x21
	sizeTCP4   = 12
	sizeTCP6   = 36
)

var errNoProxyHeader = errors.New("the connection does not begin with a header of the PROXY protocol, version 2")

// readProxyHeader reads a header and not a byte more. source is invalid when the header says nothing of a TCP client; the proxy's
// own address counts then. An io.EOF says that nothing at all came.
func readProxyHeader(r io.Reader) (source netip.AddrPort, err error) {
	var head [proxyHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return source, err
	}
	size := int(binary.BigEndian.Uint16(head[14:]))
	if string(head[:12]) != proxySignature || (head[12] != proxyLocal && head[12] != proxyProxy) || size > maxProxyBody {
		return source, errNoProxyHeader
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return source, errNoProxyHeader
	}
	if head[12] == proxyLocal {
		return source, nil
	}
	switch {
	case head[13] == proxyTCP4 && size >= sizeTCP4:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(body)), binary.BigEndian.Uint16(body[8:])), nil
	case head[13] == proxyTCP6 && size >= sizeTCP6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(body)).Unmap(), binary.BigEndian.Uint16(body[32:])), nil
	case head[13] == proxyTCP4 || head[13] == proxyTCP6:
		return source, errNoProxyHeader // too short for what it says
	}
	return source, nil // UDP, a Unix socket, or unknown: to be accepted, by rule
}

// proxied is a connection that a proxy has passed on.
type proxied struct {
	net.Conn
	client *net.TCPAddr
}

// RemoteAddr is the client's address, and not the proxy's.
func (p *proxied) RemoteAddr() net.Addr { return p.client }

// fromProxy tells whether a connection comes from a configured proxy.
func (p *Port) fromProxy(conn net.Conn) bool {
	a, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return false
	}
	for _, prefix := range p.cfg.Proxies {
		if prefix.Contains(a.AddrPort().Addr().Unmap()) {
			return true
		}
	}
	return false
}

// unproxied reads a proxy's header, and returns the connection as the client's, or nil if there is no header.
func (p *Port) unproxied(conn net.Conn) net.Conn {
	source, err := readProxyHeader(conn)
	switch {
	case errors.Is(err, errNoProxyHeader):
		p.complain.Do(func() {
			p.cfg.Log.Warn().Stringer("proxy", conn.RemoteAddr()).Stringer("address", p.cfg.Listener.Addr()).
				Msg("A proxy sent a connection without a header of the PROXY protocol, version 2: switch it on there, or remove the proxy from proxy_protocol_from")
		})
		return nil
	case err != nil:
		return nil
	case !source.IsValid():
		return conn
	}
	return &proxied{conn, net.TCPAddrFromAddrPort(source)}
}
