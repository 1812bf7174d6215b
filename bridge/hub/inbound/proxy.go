package inbound

import (
	"bufio"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"
)

// proxyBuffer is the size of the buffer for a header, in bytes. It is far more than a header with an IPv6 address and the usual extensions
// needs. Longer headers are read in parts.
const proxyBuffer = 256

// fixedSize is the size of the header's fixed part in bytes: the signature, the command, the address family and the length.
const fixedSize = 16

var errNoProxyHeader = errors.New("the connection does not begin with a header of the PROXY protocol, version 2")

// readProxyHeader reads a header of the PROXY protocol, version 2 (haproxy.org/download/3.0/doc/proxy-protocol.txt, section 2.2). The library
// limits the header to 4,096 bytes. source is invalid if the header names no TCP client; then the proxy's own address counts. An error other
// than errNoProxyHeader says that the connection ended before the header's fixed part, or that the header did not come in time. That happens, for
// example, when a load balancer only checks whether the port is open. Version 1 is refused, because every proxy that speaks version 1 also
// speaks version 2.
func readProxyHeader(r *bufio.Reader) (source netip.AddrPort, err error) {
	fixed, err := r.Peek(fixedSize)
	if err != nil {
		return source, err
	}
	if size, ok := unspecified(fixed); ok {
		if _, err := r.Discard(size); err != nil {
			return source, errNoProxyHeader
		}
		return source, nil
	}
	header, err := proxyproto.Read(r)
	var broken net.Error
	switch {
	case errors.As(err, &broken):
		return source, err
	case err != nil || header.Version != 2:
		return source, errNoProxyHeader
	case header.Command.IsLocal(): // the connection is the proxy's own
		return source, nil
	}
	if client, ok := header.SourceAddr.(*net.TCPAddr); ok {
		from := client.AddrPort()
		source = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	}
	return source, nil
}

// unspecified says whether a header with this fixed part has an unspecified address family, and how long it is. The library refuses such a header.
// The specification says that the proxy's own address counts then.
func unspecified(fixed []byte) (size int, ok bool) {
	const signature, maxRest = "\r\n\r\n\x00\r\nQUIT\n\x21\x00", 4096
	if string(fixed[:len(signature)]) != signature {
		return 0, false
	}
	rest := int(binary.BigEndian.Uint16(fixed[len(signature):]))
	return fixedSize + rest, rest <= maxRest
}

// proxied is a connection that a proxy has passed on. Like any connection, it is read by one goroutine at a time.
type proxied struct {
	net.Conn
	buffered *bufio.Reader // what came with the header
	client   net.Addr
}

// Read implements net.Conn.
func (p *proxied) Read(b []byte) (int, error) {
	if p.buffered.Buffered() > 0 {
		return p.buffered.Read(b)
	}
	return p.Conn.Read(b)
}

// RemoteAddr returns the client's address, and not the proxy's.
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

// clientOf reads a proxy's header, and returns the connection with the client's address, or nil if there is no header.
func (p *Port) clientOf(conn net.Conn) net.Conn {
	buffered := bufio.NewReaderSize(conn, proxyBuffer)
	source, err := readProxyHeader(buffered)
	switch {
	case errors.Is(err, errNoProxyHeader):
		p.warnOnce.Do(func() {
			p.cfg.Log.Warn().Stringer("proxy", conn.RemoteAddr()).Stringer("address", p.cfg.Listener.Addr()).
				Msg("A proxy sent a connection without a header of the PROXY protocol, version 2: switch it on there, or remove the proxy from proxy_protocol_from")
		})
		return nil
	case err != nil:
		return nil
	}
	client := conn.RemoteAddr()
	if source.IsValid() {
		client = net.TCPAddrFromAddrPort(source)
	}
	return &proxied{conn, buffered, client}
}
