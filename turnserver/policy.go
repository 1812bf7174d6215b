package turnserver

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"multifactorymodel.org/ewindow/turnserver/addrpolicy"
)

// Peer is one entry of what clients may be relayed to: the addresses of Prefix, on ports MinPort to MaxPort (0 and 0: any port).
type Peer struct {
	Prefix           netip.Prefix
	MinPort, MaxPort uint16
}

// ParsePeer reads an allowed peer as configuration files write it: an address or prefix, with or without a port or a range of ports:
// 203.0.113.7, 203.0.113.7:7882, 10.1.0.0/16:50000-50100, [2001:db8::7]:7882, 2001:db8::/32.
func ParsePeer(text string) (Peer, error) {
	address, ports, hasPorts := text, "", false
	switch {
	case strings.HasPrefix(text, "["):
		var closed bool
		if address, ports, closed = strings.Cut(text[1:], "]"); !closed || ports != "" && ports[0] != ':' {
			return Peer{}, fmt.Errorf("%q is not an address and port such as [2001:db8::7]:7882", text)
		}
		if hasPorts = ports != ""; hasPorts {
			ports = ports[1:]
		}
	case strings.Count(text, ":") < 2:
		address, ports, hasPorts = strings.Cut(text, ":")
	}
	var p Peer
	if strings.Contains(address, "/") {
		prefix, err := netip.ParsePrefix(address)
		if err != nil {
			return Peer{}, fmt.Errorf("%q is not a prefix such as 10.1.0.0/16", address)
		}
		if p.Prefix = prefix.Masked(); p.Prefix != prefix {
			return Peer{}, fmt.Errorf("%q has bits set after its length: write %s", address, p.Prefix)
		}
	} else {
		addr, err := netip.ParseAddr(address)
		if err != nil || addr.Zone() != "" {
			return Peer{}, fmt.Errorf("%q is not an address", address)
		}
		p.Prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	if hasPorts {
		var err error
		if p.MinPort, p.MaxPort, err = ParsePorts(ports); err != nil {
			return Peer{}, err
		}
		if p.MinPort == 0 {
			return Peer{}, errors.New("port 0 is no peer's port: leave the port out to allow all")
		}
	}
	if err := p.check(); err != nil {
		return Peer{}, err
	}
	return p, nil
}

// check refuses an entry that could not open anything.
func (p Peer) check() error {
	switch addr := p.Prefix.Addr(); {
	case !p.Prefix.IsValid():
		return errors.New("an address or prefix is needed")
	case addr.Is4In6():
		return fmt.Errorf("%s is an IPv4-mapped address: write the IPv4 address in it", p.Prefix)
	}
	if r, special := addrpolicy.FindPrefix(p.Prefix); special && neverPeer(r) {
		return fmt.Errorf("%s lies in %s, which no host can have", p.Prefix, r.Prefix)
	}
	if p.MinPort > p.MaxPort {
		return fmt.Errorf("the first port %d is above the last, %d", p.MinPort, p.MaxPort)
	}
	return nil
}

// ParsePorts reads a port or a range of ports, such as 49160-49200. "0" gives 0 and 0.
func ParsePorts(text string) (first, last uint16, err error) {
	from, to, isRange := strings.Cut(text, "-")
	if !isRange {
		to = from
	}
	a, errA := strconv.ParseUint(from, 10, 16)
	b, errB := strconv.ParseUint(to, 10, 16)
	if errA != nil || errB != nil || a > b || (a == 0 && b != 0) {
		return 0, 0, fmt.Errorf("%q is not a range of ports such as 49160-49200", text)
	}
	return uint16(a), uint16(b), nil
}

// inside tells whether all of p lies within outer.
func inside(p, outer netip.Prefix) bool {
	return p.Bits() >= outer.Bits() && outer.Contains(p.Addr())
}

// neverPeer says that no entry can open a range: no host can have its addresses, or they contain IPv4 addresses, which clients have to give in
// their IPv4 form.
func neverPeer(r addrpolicy.Range) bool { return r.Reach == addrpolicy.Reserved || r.Embeds }

// policy decides what may be relayed to. A peer in a special range (see package addrpolicy) is admitted only by an entry that lies
// wholly inside the range: 0.0.0.0/0 does not open a private network, 10.1.2.3/32 does.
type policy []Peer

// address tells whether some port of an address may be a peer's. An IPv4-mapped IPv6 address is judged as the IPv4 address in it. All other IPv6
// addresses that hold an IPv4 address are refused.
func (p policy) address(addr netip.Addr) bool { return p.allows(addr, 0) }

// peer tells whether a transport address may be a peer's.
func (p policy) peer(ap netip.AddrPort) bool { return ap.Port() != 0 && p.allows(ap.Addr(), ap.Port()) }

// allows judges an address with a port; port 0 asks for any.
func (p policy) allows(addr netip.Addr, port uint16) bool {
	addr = addr.Unmap()
	if !addr.IsValid() || addr.Zone() != "" {
		return false
	}
	within, special := addrpolicy.Find(addr)
	if special && neverPeer(within) {
		return false
	}
	for _, entry := range p {
		if !entry.Prefix.Contains(addr) || special && !inside(entry.Prefix, within.Prefix) {
			continue
		}
		if port == 0 || entry.MaxPort == 0 || (entry.MinPort <= port && port <= entry.MaxPort) {
			return true
		}
	}
	return false
}
