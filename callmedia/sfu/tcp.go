package sfu

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/pion/transport/v5"
	"github.com/pion/transport/v5/stdnet"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"multifactorymodel.org/ewindow/turnserver/addrpolicy"
)

// dialLimit is how long a TURN server may take to accept a connection over TCP.
const dialLimit = 3 * time.Second

// network is the machine's network with a limit for the time that a TCP connection takes. pion sets none, and closing a peer connection waits
// for the connections that are being made. That was measured as 132 s where a firewall drops the packets. pion's SetICEProxyDialer takes a dialer
// with a limit, but then makes no TLS for turns: addresses.
//
// It marks what is sent, see mark.
//
// It also holds the policy for the addresses of ICE servers. Their names are looked up once, by ResolveUDPAddr or ResolveTCPAddr, and pion then
// sends to the address that was found.
//
// Without UDP it opens no UDP socket. pion then uses TCP: to the SFU, and to TURN servers. Relayed candidates are UDP at the relay's end only.
type network struct {
	transport.Net
	allowed func(netip.Addr) bool // nil: every address
	noUDP   bool
	ipv6    *ipv6Alone
}

func newNetwork(allowed func(netip.Addr) bool, noUDP bool, ipv6 *ipv6Alone) (transport.Net, error) {
	std, err := stdnet.NewNet()
	return network{std, allowed, noUDP, ipv6}, err
}

// errNoUDP is why no UDP socket is opened.
var errNoUDP = errors.New("UDP is not used in this network")

// media is the mark of the packets that we send, for routers and for Wi-Fi, which sends such packets before others (DSCP AF41: interactive picture with
// its sound; RFC 8837, section 5). Sound alone would be EF. But both go through one socket, and the bandwidth is estimated for both together: packets
// with different marks may take different queues, which would spoil the estimate.
const media = 34 << 2

// mark marks what is sent on a connection. Some systems do not let us, and nothing depends on it.
func mark(conn any) {
	switch c := conn.(type) {
	case net.PacketConn:
		_ = ipv4.NewPacketConn(c).SetTOS(media)
		_ = ipv6.NewPacketConn(c).SetTrafficClass(media)
	case net.Conn:
		_ = ipv4.NewConn(c).SetTOS(media)
		_ = ipv6.NewConn(c).SetTrafficClass(media)
	}
}

// ListenUDP implements transport.Net.
func (n network) ListenUDP(name string, laddr *net.UDPAddr) (transport.UDPConn, error) {
	if n.noUDP {
		return nil, errNoUDP
	}
	conn, err := n.Net.ListenUDP(name, laddr)
	if err == nil {
		mark(conn)
	}
	return conn, err
}

// ListenPacket implements transport.Net. pion calls it for relays alone.
func (n network) ListenPacket(name, address string) (net.PacketConn, error) {
	if n.noUDP {
		return nil, errNoUDP
	}
	conn, err := n.Net.ListenPacket(name, address)
	if err != nil {
		return nil, err
	}
	mark(conn)
	if n.ipv6.asksIPv4(name) {
		conn = ipv4Socket{conn}
	}
	return conn, nil
}

// reachable says whether a policy allows an address. nil allows every address.
func reachable(ip net.IP, allowed func(netip.Addr) bool) bool {
	if allowed == nil {
		return true
	}
	addr, ok := netip.AddrFromSlice(ip)
	return ok && addrpolicy.Reachable(addr, allowed)
}

// ResolveUDPAddr implements transport.Net.
func (n network) ResolveUDPAddr(name, address string) (*net.UDPAddr, error) {
	addr, err := n.Net.ResolveUDPAddr(name, n.ipv6.translate(name, address))
	if err == nil && !reachable(addr.IP, n.allowed) {
		return nil, addrpolicy.ErrDenied
	}
	return addr, err
}

// ResolveTCPAddr implements transport.Net.
func (n network) ResolveTCPAddr(name, address string) (*net.TCPAddr, error) {
	addr, err := n.Net.ResolveTCPAddr(name, n.ipv6.translate(name, address))
	if err == nil && !reachable(addr.IP, n.allowed) {
		return nil, addrpolicy.ErrDenied
	}
	return addr, err
}

// DialTCP implements transport.Net. pion calls it for relays alone.
func (n network) DialTCP(name string, laddr, raddr *net.TCPAddr) (transport.TCPConn, error) {
	dialer := net.Dialer{Timeout: dialLimit}
	if n.allowed != nil {
		dialer.Control = addrpolicy.Control(n.allowed)
	}
	if laddr != nil {
		dialer.LocalAddr = laddr
	}
	conn, err := dialer.Dial(name, raddr.String())
	if err != nil {
		return nil, err
	}
	mark(conn)
	if n.ipv6.asksIPv4(name) {
		return ipv4Stream{conn.(*net.TCPConn)}, nil
	}
	return conn.(*net.TCPConn), nil
}
