// Package addrpolicy knows which IP addresses cannot be those of hosts on the internet.
//
// It is asked before anything connects to an address that a stranger has named: by the TURN relay about peers, by the MatrixRTC focus
// about homeservers, by a kiosk about other people's services, and by the configuration about the networks that Dendrite must not connect
// to. All of them read one table, which is written from the IANA registries of special-purpose addresses (RFC 6890). [Public] is the policy
// without any setting. [Reachable] asks an operator's policy. [Control] lets a net.Dialer ask. [Denied] is for programs that take a list of
// prefixes.
//
// Some IPv6 addresses contain an IPv4 address, and a gateway or the kernel may connect to that one instead. So an IPv4-mapped address is judged
// as the IPv4 address in it. A NAT64, 6to4 or IPv4-compatible address must be allowed itself, and the IPv4 address in it must be allowed, too.
// In the NAT64 prefix for local use, 64:ff9b:1::/48, the place of the IPv4 address is not known, so only the whole address is judged. A Teredo
// address contains two addresses and a port that anybody can choose. Nobody uses Teredo any more, so such addresses are always refused.
//
// The package has no state. All of it may be called from any goroutine. Only Denied allocates memory.
package addrpolicy

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"syscall"
)

// ErrDenied says that a policy does not allow a connection to an address.
var ErrDenied = errors.New("this address may not be connected to")

// Reach says from where the addresses of a range can be reached.
type Reach uint8

const (
	// Global addresses can be reached from the internet, or contain IPv4 addresses that can be.
	Global Reach = iota
	// Local addresses belong to one machine, link or site, or to no host at all. An operator may allow them.
	Local
	// Reserved addresses can't be those of a host. Nobody may allow them.
	Reserved
)

// Range is one row of the table.
type Range struct {
	Prefix netip.Prefix
	// Name is the registry's name for the range, RFC the document that sets it apart.
	Name, RFC string
	Reach     Reach
	// Embeds says that the addresses contain an IPv4 address.
	Embeds bool
}

// table has the rows of the IANA IPv4 and IPv6 Special-Purpose Address Registries that are not globally reachable, and those that embed
// an IPv4 address. It also has multicast and deprecated ranges, which are in other registries.
//
// A row of the registries is left out if it lies inside another row and would be treated in the same way. The registries say that some
// small ranges inside 192.0.0.0/24 and 2001::/23 are globally reachable, such as the anycast addresses of PCP and TURN (RFC 7723, RFC
// 8155). They are services of the nearest router and no hosts, so the table treats them like the range around them. IPv4-mapped
// addresses (RFC 4291, section 2.5.5.2) have no row, since they are judged as IPv4 addresses.
var table = []Range{
	row("0.0.0.0/8", "This network", "RFC 791", Reserved),
	row("10.0.0.0/8", "Private-Use", "RFC 1918", Local),
	row("100.64.0.0/10", "Shared Address Space", "RFC 6598", Local),
	row("127.0.0.0/8", "Loopback", "RFC 1122", Local),
	row("169.254.0.0/16", "Link Local", "RFC 3927", Local),
	row("172.16.0.0/12", "Private-Use", "RFC 1918", Local),
	row("192.0.0.0/24", "IETF Protocol Assignments", "RFC 6890", Local),
	row("192.0.2.0/24", "Documentation (TEST-NET-1)", "RFC 5737", Local),
	row("192.88.99.0/24", "Deprecated (6to4 Relay Anycast)", "RFC 7526", Local),
	row("192.168.0.0/16", "Private-Use", "RFC 1918", Local),
	row("198.18.0.0/15", "Benchmarking", "RFC 2544", Local),
	row("198.51.100.0/24", "Documentation (TEST-NET-2)", "RFC 5737", Local),
	row("203.0.113.0/24", "Documentation (TEST-NET-3)", "RFC 5737", Local),
	row("224.0.0.0/4", "Multicast", "RFC 5771", Reserved),
	row("240.0.0.0/4", "Reserved, with Limited Broadcast", "RFC 1112", Reserved),

	row("::/128", "Unspecified Address", "RFC 4291", Reserved),
	row("::1/128", "Loopback Address", "RFC 4291", Local),
	embedding("::/96", "Deprecated (IPv4-Compatible)", "RFC 4291", Local),
	embedding("64:ff9b::/96", "IPv4-IPv6 Translation (NAT64)", "RFC 6052", Global),
	embedding("64:ff9b:1::/48", "IPv4-IPv6 Translation, local use (NAT64)", "RFC 8215", Local),
	row("100::/64", "Discard-Only Address Block", "RFC 6666", Local),
	row("100:0:0:1::/64", "Dummy IPv6 Prefix", "RFC 9780", Local),
	embedding("2001::/32", "TEREDO", "RFC 4380", Reserved),
	row("2001::/23", "IETF Protocol Assignments", "RFC 2928", Local),
	row("2001:2::/48", "Benchmarking", "RFC 5180", Local),
	row("2001:db8::/32", "Documentation", "RFC 3849", Local),
	embedding("2002::/16", "6to4", "RFC 3056", Global),
	row("3fff::/20", "Documentation", "RFC 9637", Local),
	row("5f00::/16", "Segment Routing (SRv6) SIDs", "RFC 9602", Local),
	row("fc00::/7", "Unique-Local", "RFC 4193", Local),
	row("fe80::/10", "Link-Local Unicast", "RFC 4291", Local),
	row("fec0::/10", "Deprecated (Site-Local Unicast)", "RFC 3879", Reserved),
	row("ff00::/8", "Multicast", "RFC 4291", Reserved),
}

// nat64, compatible and sixToFour are the ranges in which the position of the IPv4 address is known. In the local range of NAT64 it
// depends on the prefix that the operator has chosen (RFC 6052, section 2.2).
var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	compatible = netip.MustParsePrefix("::/96")
	sixToFour  = netip.MustParsePrefix("2002::/16")
)

// byLength4 and byLength6 are the table by family, the longest prefixes first.
var byLength4, byLength6 = byLength(true), byLength(false)

func row(prefix, name, rfc string, reach Reach) Range {
	return Range{Prefix: netip.MustParsePrefix(prefix), Name: name, RFC: rfc, Reach: reach}
}

func embedding(prefix, name, rfc string, reach Reach) Range {
	r := row(prefix, name, rfc, reach)
	r.Embeds = true
	return r
}

func byLength(four bool) (list []Range) {
	for _, r := range table {
		if r.Prefix.Addr().Is4() == four {
			list = append(list, r)
		}
	}
	slices.SortStableFunc(list, func(a, b Range) int { return cmp.Compare(b.Prefix.Bits(), a.Prefix.Bits()) })
	return list
}

// Denied returns all prefixes of the table, IPv4 before IPv6. It is for a program that takes a list of prefixes to deny. Such a program
// does not look into addresses, so NAT64 and 6to4 are in the list, too.
func Denied() []string {
	list := make([]string, len(table))
	for i, r := range table {
		list[i] = r.Prefix.String()
	}
	return list
}

// Find returns the smallest range of the table that an address lies in. ok is false for ordinary public addresses and for the zero Addr.
func Find(addr netip.Addr) (r Range, ok bool) {
	addr = addr.Unmap().WithZone("")
	return FindPrefix(netip.PrefixFrom(addr, addr.BitLen()))
}

// FindPrefix returns the smallest range of the table that contains all of a prefix. ok is false if there is none, as for an IPv4-mapped
// prefix.
func FindPrefix(prefix netip.Prefix) (r Range, ok bool) {
	list := byLength6
	if prefix.Addr().Is4() {
		list = byLength4
	}
	for i := range list {
		if list[i].Prefix.Bits() <= prefix.Bits() && list[i].Prefix.Contains(prefix.Addr()) {
			return list[i], true
		}
	}
	return Range{}, false
}

// embedded returns the IPv4 address that an IPv6 address of NAT64 (RFC 6052), 6to4 (RFC 3056) or the IPv4-compatible form (RFC
// 4291, section 2.5.5.1) contains. ok is false for all others, also for ::1 and ::, which only look IPv4-compatible.
func embedded(addr netip.Addr) (inner netip.Addr, ok bool) {
	if !addr.Is6() || addr == netip.IPv6Loopback() || addr == netip.IPv6Unspecified() {
		return netip.Addr{}, false
	}
	b := addr.As16()
	switch addr = addr.WithZone(""); {
	case nat64.Contains(addr), compatible.Contains(addr):
		return netip.AddrFrom4([4]byte(b[12:])), true
	case sixToFour.Contains(addr):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return netip.Addr{}, false
}

// Public says whether an address may be that of a host on the internet. If it contains an IPv4 address, that must be public, too.
func Public(addr netip.Addr) bool { return Reachable(addr, global) }

func global(addr netip.Addr) bool {
	r, special := Find(addr)
	return !special || r.Reach == Global
}

// Reachable says whether an operator's policy allows an address, and the IPv4 address in it if it contains one. It returns false for
// reserved addresses and for the zero Addr, whatever the policy says. The policy never sees an IPv4-mapped address or a zone.
func Reachable(addr netip.Addr, allowed func(netip.Addr) bool) bool {
	addr = addr.Unmap().WithZone("")
	if !addr.IsValid() || reserved(addr) || !allowed(addr) {
		return false
	}
	inner, embeds := embedded(addr)
	return !embeds || !reserved(inner) && allowed(inner)
}

// PublicOr returns the policy that allows public addresses and those in the given networks.
func PublicOr(networks []netip.Prefix) func(netip.Addr) bool {
	networks = slices.Clone(networks)
	return func(addr netip.Addr) bool {
		return Reachable(addr, func(a netip.Addr) bool {
			return global(a) || slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
		})
	}
}

// Control returns a function for the field Control of a net.Dialer. It refuses connections that the policy does not allow with ErrDenied. It
// sees the very address that the socket connects to, so a name can't get another address between check and connection.
func Control(allowed func(netip.Addr) bool) func(network, address string, conn syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil || !Reachable(to.Addr(), allowed) {
			return ErrDenied
		}
		return nil
	}
}

func reserved(addr netip.Addr) bool {
	r, special := Find(addr)
	return special && r.Reach == Reserved
}
