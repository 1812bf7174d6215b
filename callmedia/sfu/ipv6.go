package sfu

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/livekit/protocol/livekit"
	"github.com/pion/stun/v4"
	"github.com/pion/transport/v5"

	"multifactorymodel.org/ewindow/turnserver/addrpolicy"
)

// dnsLimit is how long the questions may take by which a machine without IPv4 finds out how to reach IPv4 addresses.
const dnsLimit = 2 * time.Second

// ipv6Alone is what a machine without IPv4 does to reach SFUs and relays that have IPv4 alone. nil is a machine with IPv4.
//
// In a network with NAT64 (RFC 6146) names lead to addresses of the translator, but the addresses in candidates and in ICE servers are IPv4. So they
// are translated here. A relay that is reached over IPv6 is asked for an IPv4 address if it has one, since SFUs have IPv4 addresses. pion would ask
// for IPv6, and most relays have none.
type ipv6Alone struct {
	nat64 []nat64
	// relayIPv4 says whether the ICE servers have IPv4 addresses.
	relayIPv4 func() bool
}

// nat64 is a prefix of a NAT64 (RFC 6052, section 2.2).
type nat64 netip.Prefix

// ipv4Only are the addresses of ipv4only.arpa. From how they are translated, the prefix of the NAT64 is known (RFC 7050).
var ipv4Only = []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 0, 170}), netip.AddrFrom4([4]byte{192, 0, 0, 171})}

// lookAtIPv6 finds out whether this machine has IPv6 alone, and how it reaches IPv4 addresses then.
func lookAtIPv6(ctx context.Context) *ipv6Alone {
	// No packet is sent: the system says whether it has a way to a public IPv4 address, here that of a root server.
	if conn, err := net.Dial("udp4", "198.41.0.4:53"); err == nil {
		_ = conn.Close()
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, dnsLimit)
	defer cancel()
	translated, _ := net.DefaultResolver.LookupNetIP(ctx, "ip6", "ipv4only.arpa") // without NAT64 there is no answer
	return &ipv6Alone{nat64: findNAT64(translated)}
}

// findNAT64 finds the prefixes by which the addresses of ipv4only.arpa are translated.
func findNAT64(translated []netip.Addr) (found []nat64) {
	for _, a := range translated {
		for _, bits := range []int{32, 40, 48, 56, 64, 96} {
			prefix := netip.PrefixFrom(a, bits).Masked()
			if inner, ok := nat64(prefix).ipv4(a); ok && slices.Contains(ipv4Only, inner) && !slices.Contains(found, nat64(prefix)) {
				found = append(found, nat64(prefix))
				break
			}
		}
	}
	return found
}

// places are the places of the four bytes in an address. The ninth byte is skipped.
func (n nat64) places() (list [4]int) {
	at := netip.Prefix(n).Bits() / 8
	for i := range list {
		if at == 8 {
			at++
		}
		list[i] = at
		at++
	}
	return list
}

// ipv6 is the address under which an IPv4 address is reached.
func (n nat64) ipv6(a netip.Addr) netip.Addr {
	all, four := netip.Prefix(n).Addr().As16(), a.As4()
	for i, at := range n.places() {
		all[at] = four[i]
	}
	return netip.AddrFrom16(all)
}

// ipv4 is the IPv4 address that an address leads to.
func (n nat64) ipv4(a netip.Addr) (inner netip.Addr, ok bool) {
	if !netip.Prefix(n).Contains(a) {
		return netip.Addr{}, false
	}
	all, four := a.As16(), [4]byte{}
	for i, at := range n.places() {
		four[i] = all[at]
	}
	return netip.AddrFrom4(four), true
}

// useServers takes note of the ICE servers, before any connection is made.
func (v *ipv6Alone) useServers(servers []*livekit.ICEServer) {
	if v == nil {
		return
	}
	v.relayIPv4 = sync.OnceValue(func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), dnsLimit)
		defer cancel()
		for _, s := range servers {
			for _, text := range s.GetUrls() {
				u, err := stun.ParseURI(text)
				if err != nil || u.Scheme != stun.SchemeTypeTURN && u.Scheme != stun.SchemeTypeTURNS {
					continue
				}
				if found, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", u.Host); err == nil && len(found) > 0 {
					return true
				}
			}
		}
		return false
	})
}

// policy is a policy for addresses, which judges an address of the NAT64 as the IPv4 address that it leads to. nil allows every address.
func (v *ipv6Alone) policy(allowed func(netip.Addr) bool) func(netip.Addr) bool {
	if v == nil || allowed == nil {
		return allowed
	}
	return func(a netip.Addr) bool {
		for _, n := range v.nat64 {
			if inner, ok := n.ipv4(a); ok {
				return addrpolicy.Reachable(inner, allowed)
			}
		}
		return allowed(a)
	}
}

// translate writes an address and port of IPv4 as one of the NAT64, if it is wanted for a network of IPv6.
func (v *ipv6Alone) translate(network, address string) string {
	at, err := netip.ParseAddrPort(address)
	if v == nil || len(v.nat64) == 0 || err != nil || !at.Addr().Unmap().Is4() || !strings.HasSuffix(network, "6") {
		return address
	}
	return netip.AddrPortFrom(v.nat64[0].ipv6(at.Addr().Unmap()), at.Port()).String()
}

// Places of the fields of a candidate (RFC 8839, section 5.1).
const (
	candidateAddress = 4
	candidateFields  = 8
)

// candidates are the candidates by which a candidate with an IPv4 address is reached through the NAT64.
func (v *ipv6Alone) candidates(candidate string) (list []string) {
	fields := strings.Fields(candidate)
	if v == nil || len(fields) < candidateFields {
		return nil
	}
	a, err := netip.ParseAddr(fields[candidateAddress])
	if err != nil || !a.Is4() {
		return nil
	}
	for _, n := range v.nat64 {
		fields[candidateAddress] = n.ipv6(a).String()
		list = append(list, strings.Join(fields, " "))
	}
	return list
}

// asksIPv4 says whether relays that are reached over IPv6 are asked for an IPv4 address.
func (v *ipv6Alone) asksIPv4(network string) bool {
	return v != nil && strings.HasSuffix(network, "6") && v.relayIPv4 != nil && v.relayIPv4()
}

// ipv4Socket and ipv4Stream say that their own address is of IPv4, so that pion asks a relay for IPv4: it asks for the family of this address.
type (
	ipv4Socket struct{ net.PacketConn }
	ipv4Stream struct{ transport.TCPConn }
)

// LocalAddr implements net.PacketConn.
func (s ipv4Socket) LocalAddr() net.Addr {
	return &net.UDPAddr{IP: net.IPv4zero, Port: s.PacketConn.LocalAddr().(*net.UDPAddr).Port}
}

// LocalAddr implements net.Conn.
func (s ipv4Stream) LocalAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4zero, Port: s.TCPConn.LocalAddr().(*net.TCPAddr).Port}
}
