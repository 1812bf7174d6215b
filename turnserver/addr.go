package turnserver

import "net/netip"

// addr is a transport address in a form that is fast to compare and to hash: without pointers, IPv4 as IPv4-mapped IPv6.
type addr struct {
	ip   [16]byte
	port uint16
}

func addrOf(ap netip.AddrPort) addr { return addr{ap.Addr().As16(), ap.Port()} }

func (a addr) addrPort() netip.AddrPort { return netip.AddrPortFrom(a.host(), a.port) }

func (a addr) host() netip.Addr { return netip.AddrFrom16(a.ip).Unmap() }
