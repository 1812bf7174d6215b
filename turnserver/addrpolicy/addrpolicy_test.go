package addrpolicy

import (
	"errors"
	"net/netip"
	"testing"
)

// rows has a first and a last address for each row of the table, and the expected answers. Both addresses lie in the row itself, and not in
// a smaller row inside it.
var rows = []struct {
	prefix, first, last string
	// public is the answer of Public, opened that of Reachable with a policy that allows everything.
	public, opened bool
}{
	{"0.0.0.0/8", "0.0.0.0", "0.255.255.255", false, false},
	{"10.0.0.0/8", "10.0.0.0", "10.255.255.255", false, true},
	{"100.64.0.0/10", "100.64.0.0", "100.127.255.255", false, true},
	{"127.0.0.0/8", "127.0.0.0", "127.255.255.255", false, true},
	{"169.254.0.0/16", "169.254.0.0", "169.254.255.255", false, true},
	{"172.16.0.0/12", "172.16.0.0", "172.31.255.255", false, true},
	{"192.0.0.0/24", "192.0.0.0", "192.0.0.255", false, true},
	{"192.0.2.0/24", "192.0.2.0", "192.0.2.255", false, true},
	{"192.88.99.0/24", "192.88.99.0", "192.88.99.255", false, true},
	{"192.168.0.0/16", "192.168.0.0", "192.168.255.255", false, true},
	{"198.18.0.0/15", "198.18.0.0", "198.19.255.255", false, true},
	{"198.51.100.0/24", "198.51.100.0", "198.51.100.255", false, true},
	{"203.0.113.0/24", "203.0.113.0", "203.0.113.255", false, true},
	{"224.0.0.0/4", "224.0.0.0", "239.255.255.255", false, false},
	{"240.0.0.0/4", "240.0.0.0", "255.255.255.255", false, false},
	{"::/128", "::", "::", false, false},
	{"::1/128", "::1", "::1", false, true},
	{"::/96", "::1.0.0.0", "::223.255.255.255", false, true},
	{"64:ff9b::/96", "64:ff9b::1.0.0.0", "64:ff9b::223.255.255.255", true, true},
	{"64:ff9b:1::/48", "64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", false, true},
	{"100::/64", "100::", "100::ffff:ffff:ffff:ffff", false, true},
	{"100:0:0:1::/64", "100:0:0:1::", "100::1:ffff:ffff:ffff:ffff", false, true},
	{"2001::/32", "2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", false, false},
	{"2001::/23", "2001:1::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", false, true},
	{"2001:2::/48", "2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff", false, true},
	{"2001:db8::/32", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", false, true},
	{"2002::/16", "2002:100::", "2002:dfff:ffff:ffff:ffff:ffff:ffff:ffff", true, true},
	{"3fff::/20", "3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", false, true},
	{"5f00::/16", "5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false, true},
	{"fc00::/7", "fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false, true},
	{"fe80::/10", "fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false, true},
	{"fec0::/10", "fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false, false},
	{"ff00::/8", "ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false, false},
}

func anything(netip.Addr) bool { return true }

// TestTable demands that rows tests each row of the table, and tests it.
func TestTable(t *testing.T) {
	denied := Denied()
	if len(rows) != len(table) || len(denied) != len(table) {
		t.Fatalf("the table has %d rows, and the test has %d", len(table), len(rows))
	}
	for i, want := range rows {
		r := table[i]
		if r.Prefix.String() != want.prefix || denied[i] != want.prefix || r.Prefix != r.Prefix.Masked() || r.Name == "" || r.RFC == "" {
			t.Errorf("row %d is %+v, want %s", i, r, want.prefix)
		}
		for _, text := range []string{want.first, want.last} {
			addr := netip.MustParseAddr(text)
			found, ok := Find(addr)
			if !ok || found != r {
				t.Errorf("%s is found in %s, want %s", text, found.Prefix, r.Prefix)
			}
			if got := Public(addr); got != want.public {
				t.Errorf("%s is public: %t", text, got)
			}
			if got := Reachable(addr, anything); got != want.opened {
				t.Errorf("%s is reachable where all are allowed: %t", text, got)
			}
			if Reachable(addr, func(netip.Addr) bool { return false }) {
				t.Errorf("%s is reachable where nothing is allowed", text)
			}
			if addr.Is4() {
				if mapped := netip.AddrFrom16(addr.As16()); Public(mapped) || Reachable(mapped, anything) != want.opened {
					t.Errorf("%s is judged otherwise than %s", mapped, addr)
				}
			}
		}
	}
}

// TestNeighbours demands that the addresses next to the ranges are public: the last one before a range, and the first one after it.
func TestNeighbours(t *testing.T) {
	for _, text := range []string{
		"1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "169.253.255.255",
		"169.255.0.0", "172.15.255.255", "172.32.0.0", "191.255.255.255", "192.0.1.0", "192.0.1.255", "192.0.3.0", "192.88.98.255",
		"192.88.100.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "198.51.99.255", "198.51.101.0",
		"203.0.112.255", "203.0.114.0", "223.255.255.255", "9.9.9.9",
		"64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff", "64:ff9b:2::", "2001:200::", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::",
		"2003::", "2620:fe::fe", "2a00::1",
	} {
		addr := netip.MustParseAddr(text)
		if r, special := Find(addr); special || !Public(addr) {
			t.Errorf("%s is in %s, %s", addr, r.Prefix, r.Name)
		}
	}
	if Public(netip.Addr{}) || Reachable(netip.Addr{}, anything) {
		t.Error("no address is reachable")
	}
	if _, special := Find(netip.Addr{}); special {
		t.Error("no address is in a range")
	}
}

// TestEmbedded demands that an IPv4 address is found and judged in each form in which an IPv6 address can contain it.
func TestEmbedded(t *testing.T) {
	for _, c := range []struct {
		address, inner string
		public, opened bool
	}{
		{"64:ff9b::9.9.9.9", "9.9.9.9", true, true},
		{"64:ff9b::127.0.0.1", "127.0.0.1", false, true},
		{"64:ff9b::169.254.169.254", "169.254.169.254", false, true},
		{"64:ff9b::10.0.0.1%eth0", "10.0.0.1", false, true},
		{"64:ff9b::0.0.0.0", "0.0.0.0", false, false},
		{"64:ff9b::224.0.0.1", "224.0.0.1", false, false},
		{"2002:909:909::1", "9.9.9.9", true, true},
		{"2002:7f00:1::1", "127.0.0.1", false, true},
		{"2002:c0a8:101::", "192.168.1.1", false, true},
		{"2002:e000:1::1", "224.0.0.1", false, false},
		{"::9.9.9.9", "9.9.9.9", false, true},
		{"::127.0.0.1", "127.0.0.1", false, true},
		{"::0.0.0.2", "0.0.0.2", false, false},
		{"::1", "", false, true},
		{"::", "", false, false},
		{"64:ff9b:1::9.9.9.9", "", false, true},
		{"2001:0:4136:e378:8000:63bf:f5ff:fffe", "", false, false}, // Teredo
		{"2001::9.9.9.9", "", false, false},
		{"9.9.9.9", "", true, true},
		{"::ffff:9.9.9.9", "", true, true}, // mapped, and judged as the one before
		{"::ffff:127.0.0.1", "", false, true},
		{"::ffff:0.0.0.0", "", false, false},
		{"fe80::1%eth0", "", false, true},
	} {
		addr := netip.MustParseAddr(c.address)
		inner, ok := embedded(addr)
		if ok != (c.inner != "") || ok && inner.String() != c.inner {
			t.Errorf("%s contains %s, want %q", addr, inner, c.inner)
		}
		if got := Public(addr); got != c.public {
			t.Errorf("%s is public: %t", addr, got)
		}
		if got := Reachable(addr, anything); got != c.opened {
			t.Errorf("%s is reachable where all are allowed: %t", addr, got)
		}
		if c.inner != "" && Reachable(addr, func(a netip.Addr) bool { return a.Is6() }) {
			t.Errorf("%s is reachable where IPv4 is not allowed", addr)
		}
	}
}

// TestFindPrefix demands the smallest range that contains a whole prefix.
func TestFindPrefix(t *testing.T) {
	for prefix, want := range map[string]string{
		"10.1.0.0/16": "10.0.0.0/8", "10.0.0.0/8": "10.0.0.0/8", "8.0.0.0/6": "", "0.0.0.0/0": "", "9.9.9.0/24": "",
		"::1/128": "::1/128", "::/127": "::/96", "::/96": "::/96", "::/0": "", "2001::/24": "2001::/23", "2001::/32": "2001::/32", "2000::/3": "",
		"64:ff9b::/100": "64:ff9b::/96",
	} {
		r, ok := FindPrefix(netip.MustParsePrefix(prefix))
		if ok != (want != "") || ok && r.Prefix.String() != want {
			t.Errorf("%s lies in %s, want %q", prefix, r.Prefix, want)
		}
	}
}

// TestPublicOr checks a policy with networks, and a dialer that asks it.
func TestPublicOr(t *testing.T) {
	allowed := PublicOr([]netip.Prefix{netip.MustParsePrefix("10.8.0.0/16"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("0.0.0.0/8")})
	control := Control(allowed)
	for address, want := range map[string]bool{
		"9.9.9.9": true, "2a00::1": true, "10.8.1.2": true, "::ffff:10.8.1.2": true, "64:ff9b::a08:102": true, "64:ff9b:1::1": true,
		"10.9.0.1": false, "127.0.0.1": false, "::1": false, "0.0.0.0": false, "::": false, "64:ff9b::a09:1": false, "fe80::1%lo": false, "169.254.169.254": false,
	} {
		a := netip.MustParseAddr(address)
		if got := allowed(a); got != want {
			t.Errorf("%s: %v", a, got)
		}
		if err := control("tcp", netip.AddrPortFrom(a, 443).String(), nil); (err == nil) != want || err != nil && !errors.Is(err, ErrDenied) {
			t.Errorf("a dialer at %s: %v", a, err)
		}
	}
	if control("tcp", "name.example:443", nil) == nil || PublicOr(nil)(netip.MustParseAddr("127.0.0.1")) {
		t.Error("what is unknown is allowed")
	}
}

// TestNoAllocation demands that an answer allocates no memory: the relay asks about single packets.
func TestNoAllocation(t *testing.T) {
	addrs := []netip.Addr{netip.MustParseAddr("9.9.9.9"), netip.MustParseAddr("::ffff:10.0.0.1"), netip.MustParseAddr("2a00::1")}
	if n := testing.AllocsPerRun(100, func() {
		for _, a := range addrs {
			Public(a)
		}
	}); n > 0 {
		t.Errorf("an answer allocates %v times", n)
	}
}

// FuzzPublic demands that the mapped form of an address gets the same answer, and that the IPv4 address in a public address is public.
func FuzzPublic(f *testing.F) {
	for _, r := range rows {
		first := netip.MustParseAddr(r.first).As16()
		f.Add(first[:])
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		addr, ok := netip.AddrFromSlice(raw)
		if !ok {
			return
		}
		if addr.Is4() && Public(addr) != Public(netip.AddrFrom16(addr.As16())) {
			t.Fatalf("%s is judged otherwise when it is mapped", addr)
		}
		if !Public(addr) {
			return
		}
		if !Reachable(addr, anything) || addr.IsPrivate() || addr.IsLoopback() || addr.IsMulticast() || addr.IsUnspecified() || addr.IsLinkLocalUnicast() {
			t.Fatalf("%s is public", addr)
		}
		if inner, ok := embedded(addr); ok && !Public(inner) {
			t.Fatalf("%s is public, and contains %s", addr, inner)
		}
	})
}
