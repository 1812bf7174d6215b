package turnserver

import (
	"fmt"
	"net/netip"
	"strings"
)

// Transport is how clients reach a listener: UDP, TCP or TLS over TCP.
type Transport string

// The transports that a listener can have (RFC 8656, section 3.1).
const (
	UDP Transport = "udp"
	TCP Transport = "tcp"
	TLS Transport = "tls"
)

// Listen is one address to listen on.
type Listen struct {
	Transport Transport
	Addr      netip.AddrPort
}

// ParseListen reads a listener as configuration files write it: udp://0.0.0.0:3478, tcp://[::]:3478, tls://0.0.0.0:5349.
// The host must be an address. Port 0 takes a free port.
func ParseListen(text string) (Listen, error) {
	scheme, address, found := strings.Cut(text, "://")
	l := Listen{Transport: Transport(scheme)}
	if !found || (l.Transport != UDP && l.Transport != TCP && l.Transport != TLS) {
		return Listen{}, fmt.Errorf("%q must begin with udp://, tcp:// or tls://", text)
	}
	var err error
	if l.Addr, err = netip.ParseAddrPort(address); err != nil {
		return Listen{}, fmt.Errorf("%q must end with an address and a port such as 0.0.0.0:3478", text)
	}
	return l, nil
}

// String gives the form that ParseListen reads.
func (l Listen) String() string { return string(l.Transport) + "://" + l.Addr.String() }
