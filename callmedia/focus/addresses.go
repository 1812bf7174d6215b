package focus

import (
	"encoding/hex"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// addresses is where a LiveKit is.
type addresses struct {
	node netip.Addr // announced
	// own is the address of this machine that node leads to: node itself if it belongs to this machine; otherwise a NAT at node most likely forwards to
	// this address. It is the zero Addr if there is no route.
	own netip.Addr
	// others are the machine's addresses of the other family, sorted.
	others []netip.Addr
}

func addressesFor(node netip.Addr) addresses {
	a := addresses{node: node, own: ownAddress(node)}
	switch {
	case node.IsLoopback():
	case node.Is4():
		a.others = machineIPv6()
	default:
		a.others = machineIPv4()
	}
	slices.SortFunc(a.others, netip.Addr.Compare)
	return a
}

func (a addresses) equal(b addresses) bool {
	return a.node == b.node && a.own == b.own && slices.Equal(a.others, b.others)
}

// ownAddress returns the address of this machine that packets to node would come from. Nothing is sent.
func ownAddress(node netip.Addr) netip.Addr {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(node, discard)))
	if err != nil {
		return netip.Addr{}
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}

// machineIPv4 lists the machine's IPv4 addresses that others may reach.
func machineIPv4() (list []netip.Addr) {
	all, _ := net.InterfaceAddrs() // without an answer there are none
	for _, a := range all {
		if prefix, ok := a.(*net.IPNet); ok && prefix.IP.To4() != nil && prefix.IP.IsGlobalUnicast() {
			list = append(list, netip.AddrFrom4([4]byte(prefix.IP.To4())))
		}
	}
	return list
}

// Flags of an address in /proc/net/if_inet6 (linux/if_addr.h): it is for connections that this machine begins (RFC 8981), it is used by something else,
// its time is over, it is not known yet whether something else uses it.
const (
	flagTemporary  = 0x01
	flagDuplicate  = 0x08
	flagDeprecated = 0x20
	flagTentative  = 0x40
)

// machineIPv6 lists the machine's IPv6 addresses that others may reach. Temporary ones are left out: they change every day.
func machineIPv6() []netip.Addr {
	table, _ := os.ReadFile("/proc/net/if_inet6") // a machine without IPv6 has no such file
	return parseIPv6(string(table))
}

// parseIPv6 reads /proc/net/if_inet6. A line is an address, and in hexadecimal digits the numbers of its interface, of its prefix's bits, of its scope,
// and its flags, and the interface's name.
func parseIPv6(table string) (list []netip.Addr) {
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) != 6 {
			continue
		}
		raw, err := hex.DecodeString(fields[0])
		flags, wrong := strconv.ParseUint(fields[4], 16, 32)
		if err != nil || wrong != nil || flags&(flagTemporary|flagDuplicate|flagDeprecated|flagTentative) != 0 {
			continue
		}
		if a, ok := netip.AddrFromSlice(raw); ok && a.Is6() && a.IsGlobalUnicast() {
			list = append(list, a)
		}
	}
	return list
}
