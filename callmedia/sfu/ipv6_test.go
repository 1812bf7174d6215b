package sfu

import (
	"net/netip"
	"slices"
	"testing"

	"multifactorymodel.org/ewindow/turnserver/addrpolicy"
)

// TestNAT64 translates with the prefixes of RFC 6052, section 2.4, and finds each of them by ipv4only.arpa (RFC 7050).
func TestNAT64(t *testing.T) {
	inner := netip.MustParseAddr("192.0.2.33")
	for prefix, want := range map[string]string{
		"2001:db8::/32":         "2001:db8:c000:221::",
		"2001:db8:100::/40":     "2001:db8:1c0:2:21::",
		"2001:db8:122::/48":     "2001:db8:122:c000:2:2100::",
		"2001:db8:122:300::/56": "2001:db8:122:3c0:0:221::",
		"2001:db8:122:344::/64": "2001:db8:122:344:c0:2:2100::",
		"2001:db8:122:344::/96": "2001:db8:122:344::192.0.2.33",
	} {
		n := nat64(netip.MustParsePrefix(prefix))
		outer := n.ipv6(inner)
		if outer != netip.MustParseAddr(want) {
			t.Errorf("%s in %s is %s, want %s", inner, prefix, outer, want)
		}
		if back, ok := n.ipv4(outer); !ok || back != inner {
			t.Errorf("%s leads to %s, %t", outer, back, ok)
		}
		if found := findNAT64([]netip.Addr{n.ipv6(ipv4Only[1]), n.ipv6(ipv4Only[0])}); !slices.Equal(found, []nat64{n}) {
			t.Errorf("the prefix %s is found as %v", prefix, found)
		}
	}
	if found := findNAT64([]netip.Addr{netip.MustParseAddr("2001:db8::1"), inner}); len(found) > 0 {
		t.Errorf("prefixes are found where there are none: %v", found)
	}
}

// TestTranslated checks what is translated, and that the policy for addresses then judges the IPv4 address.
func TestTranslated(t *testing.T) {
	v := &ipv6Alone{nat64: []nat64{nat64(netip.MustParsePrefix("64:ff9b:1::/96"))}}
	for _, c := range []struct{ network, address, want string }{
		{"udp6", "192.0.2.33:3478", "[64:ff9b:1::c000:221]:3478"},
		{"udp4", "192.0.2.33:3478", "192.0.2.33:3478"},
		{"tcp6", "[2001:db8::1]:3478", "[2001:db8::1]:3478"},
		{"tcp6", "turn.example.org:443", "turn.example.org:443"},
	} {
		if got := v.translate(c.network, c.address); got != c.want {
			t.Errorf("%s in %s is %s", c.address, c.network, got)
		}
		if got := (*ipv6Alone)(nil).translate(c.network, c.address); got != c.address {
			t.Errorf("a machine with IPv4 takes %s for %s", got, c.address)
		}
	}
	for from, want := range map[string][]string{
		"candidate:1 1 udp 2130706431 192.0.2.33 7882 typ host":  {"candidate:1 1 udp 2130706431 64:ff9b:1::c000:221 7882 typ host"},
		"candidate:1 1 udp 2130706431 2001:db8::1 7882 typ host": nil,
		"candidate:1 1 udp 2130706431 a.local 7882 typ host":     nil,
		"candidate:1": nil,
		"":            nil,
	} {
		if got := v.candidates(from); !slices.Equal(got, want) {
			t.Errorf("%q becomes %q", from, got)
		}
	}
	allowed := v.policy(addrpolicy.PublicOr(nil))
	for address, want := range map[string]bool{
		"64:ff9b:1::101:101": true, "64:ff9b:1::a00:1": false, "64:ff9b:1::7f00:1": false, "64:ff9b:1:1::101:101": false, "10.0.0.1": false, "1.1.1.1": true,
	} {
		if got := addrpolicy.Reachable(netip.MustParseAddr(address), allowed); got != want {
			t.Errorf("%s: %t", address, got)
		}
	}
	if v.policy(nil) != nil {
		t.Error("there is a policy where there was none")
	}
}
