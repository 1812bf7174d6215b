package turnserver

import (
	"net/netip"
	"testing"

	"multifactorymodel.org/ewindow/turnserver/addrpolicy"
)

// everything is the list of a careless operator.
var everything = mustPeers("0.0.0.0/0", "::/0")

func mustPeers(texts ...string) policy {
	var p policy
	for _, text := range texts {
		peer, err := ParsePeer(text)
		if err != nil {
			panic(err)
		}
		p = append(p, peer)
	}
	return p
}

// abused are peers that relays have been abused to reach. No list of public peers may ever open one.
var abused = []string{
	"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.254", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1",
	"192.168.255.255", "100.64.0.1", "100.127.255.255", "169.254.0.1", "169.254.169.254", "192.0.0.1", "192.0.2.1", "192.88.99.1",
	"198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
	// IPv6
	"::", "::1", "fe80::1", "fc00::1", "fd00::1", "ff02::1", "fec0::1", "2001:db8::1", "100::1",
	// IPv4-mapped
	"::ffff:0.0.0.0", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:192.168.0.1", "::ffff:224.0.0.1",
	"::ffff:100.64.0.1", "::ffff:172.16.0.1", "::ffff:255.255.255.255",
	// IPv4-compatible
	"::127.0.0.1", "::10.0.0.1", "::192.168.0.1", "::8.8.8.8",
	// 6to4, NAT64, Teredo, each around a private or loopback address
	"2002:7f00:1::", "2002:a00:1::1", "2002:c0a8:1::1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1",
	"2001:0:4136:e378:8000:63bf:f5ff:fffe", "2001::1",
}

func TestPolicyAbuse(t *testing.T) {
	for _, text := range abused {
		addr := netip.MustParseAddr(text)
		for name, p := range map[string]policy{"nothing listed": nil, "all listed": everything,
			"halves listed": {{Prefix: netip.MustParsePrefix("0.0.0.0/1")}, {Prefix: netip.MustParsePrefix("128.0.0.0/1")},
				{Prefix: netip.MustParsePrefix("::/1")}, {Prefix: netip.MustParsePrefix("8000::/1")}, {Prefix: netip.MustParsePrefix("f000::/4")}}} {
			if p.address(addr) || p.peer(netip.AddrPortFrom(addr, 5000)) {
				t.Errorf("%s: %s is admitted", name, text)
			}
		}
	}
}

func TestIsPublic(t *testing.T) {
	for _, text := range abused {
		if addrpolicy.Public(netip.MustParseAddr(text)) {
			t.Errorf("%s is public", text)
		}
	}
	for _, text := range []string{"8.8.8.8", "::ffff:8.8.8.8", "2a00::1"} {
		if !addrpolicy.Public(netip.MustParseAddr(text)) {
			t.Errorf("%s is not public", text)
		}
	}
}

func TestPolicy(t *testing.T) {
	for _, test := range []struct {
		allowed []string
		peer    string
		want    bool
	}{
		{nil, "8.8.8.8:53", false},
		{[]string{"0.0.0.0/0"}, "8.8.8.8:53", true},
		{[]string{"8.8.8.8"}, "8.8.8.8:53", true},
		{[]string{"8.8.8.8"}, "8.8.8.8:0", false},
		{[]string{"8.8.8.8"}, "8.8.8.9:53", false},
		{[]string{"8.8.8.8"}, "[::ffff:8.8.8.8]:53", true},
		{[]string{"8.8.8.8:1000-2000"}, "8.8.8.8:999", false},
		{[]string{"8.8.8.8:1000-2000"}, "8.8.8.8:1000", true},
		{[]string{"8.8.8.8:1000-2000"}, "8.8.8.8:2000", true},
		{[]string{"8.8.8.8:1000-2000"}, "8.8.8.8:2001", false},
		{[]string{"8.8.8.8:1000", "8.8.8.0/24:2000"}, "8.8.8.8:2000", true},
		{[]string{"8.8.8.8:1000", "8.8.8.0/24:2000"}, "8.8.8.9:1000", false},
		{[]string{"10.0.0.0/8"}, "10.1.2.3:5000", true},
		{[]string{"10.1.2.3"}, "10.1.2.3:5000", true},
		{[]string{"10.1.2.3"}, "10.1.2.4:5000", false},
		{[]string{"8.0.0.0/6"}, "10.1.2.3:5000", false}, // covers 10/8, does not lie inside it
		{[]string{"127.0.0.1"}, "127.0.0.1:5000", true},
		{[]string{"127.0.0.1"}, "[::1]:5000", false},
		{[]string{"0.0.0.0/0"}, "[2a00::1]:5000", false},
		{[]string{"::/0"}, "[2a00::1]:5000", true},
		{[]string{"::/0"}, "8.8.8.8:53", false},
		{[]string{"::/0"}, "[::ffff:8.8.8.8]:53", false},
		{[]string{"2a00::1"}, "[2a00::1]:5000", true},
		{[]string{"2a00::1"}, "[2a00::2]:5000", false},
		{[]string{"[2a00::1]:1000-2000"}, "[2a00::1]:1500", true},
		{[]string{"[2a00::1]:1000-2000"}, "[2a00::1]:2001", false},
		{[]string{"2a00::/16"}, "[2a00:5::1]:5000", true},
		{[]string{"fd00::/8"}, "[fd00::1]:5000", true},
		{[]string{"::1"}, "[::1]:5000", true},
	} {
		if got := mustPeers(test.allowed...).peer(netip.MustParseAddrPort(test.peer)); got != test.want {
			t.Errorf("%v: %s is %v", test.allowed, test.peer, got)
		}
	}
	if !mustPeers("8.8.8.8:1000").address(netip.MustParseAddr("8.8.8.8")) {
		t.Error("a permission has no port, and was refused for an address that is open on one")
	}
}

func TestParsePeerErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                   `"" is not an address`,
		"example.org":        `"example.org" is not an address`,
		"[2001:db8::1":       `"[2001:db8::1" is not an address and port such as [2001:db8::7]:7882`,
		"[2001:db8::1]80":    `"[2001:db8::1]80" is not an address and port such as [2001:db8::7]:7882`,
		"[2001:db8::1]:0":    `port 0 is no peer's port: leave the port out to allow all`,
		"2001:db8::1/32":     `"2001:db8::1/32" has bits set after its length: write 2001:db8::/32`,
		"::":                 `::/128 lies in ::/128, which no host can have`,
		"ff02::1":            `ff02::1/128 lies in ff00::/8, which no host can have`,
		"64:ff9b::a00:1":     `64:ff9b::a00:1/128 lies in 64:ff9b::/96, which no host can have`,
		"::ffff:10.0.0.1":    `::ffff:10.0.0.1/128 is an IPv4-mapped address: write the IPv4 address in it`,
		"fe80::1%eth0":       `"fe80::1%eth0" is not an address`,
		"10.0.0.0/33":        `"10.0.0.0/33" is not a prefix such as 10.1.0.0/16`,
		"10.0.0.1/8":         `"10.0.0.1/8" has bits set after its length: write 10.0.0.0/8`,
		"10.0.0.1:0":         `port 0 is no peer's port: leave the port out to allow all`,
		"10.0.0.1:x":         `"x" is not a range of ports such as 49160-49200`,
		"10.0.0.1:2000-1000": `"2000-1000" is not a range of ports such as 49160-49200`,
		"10.0.0.1:1-65536":   `"1-65536" is not a range of ports such as 49160-49200`,
		"224.0.0.1":          `224.0.0.1/32 lies in 224.0.0.0/4, which no host can have`,
		"255.255.255.255":    `255.255.255.255/32 lies in 240.0.0.0/4, which no host can have`,
		"0.0.0.0":            `0.0.0.0/32 lies in 0.0.0.0/8, which no host can have`,
	} {
		if p, err := ParsePeer(text); err == nil || err.Error() != want {
			t.Errorf("%q:\n got %v %v\nwant %s", text, p, err, want)
		}
	}
}

// FuzzParsePeer demands that no entry opens more than it says: it opens a special address only if it lies inside the special range.
func FuzzParsePeer(f *testing.F) {
	for _, seed := range []string{"1.2.3.4", "1.2.3.4:5", "10.0.0.0/8:1-2", "0.0.0.0/0", "::1", "1.2.3.4/32:0-0", "a/b:c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePeer(text)
		if err != nil {
			if p != (Peer{}) {
				t.Fatalf("%q gives %+v and %v", text, p, err)
			}
			return
		}
		if p.Prefix != p.Prefix.Masked() || p.MinPort > p.MaxPort {
			t.Fatalf("%q gives %+v", text, p)
		}
		for _, text := range abused {
			addr := netip.MustParseAddr(text)
			if (policy{p}).address(addr) && p.Prefix.Bits() < 7 {
				t.Fatalf("%+v opens %s", p, addr)
			}
		}
	})
}
