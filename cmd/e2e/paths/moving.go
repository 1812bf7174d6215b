package paths

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
)

// HideHub puts the hub behind a NAT, which passes everything on that comes to the hub's public addresses, from inside as well. It has to be called before
// the hub starts.
func (n *Network) HideHub(t testing.TB) {
	t.Helper()
	const hub, router, public = "10.0.0.2", "10.0.0.1", "198.51.100.0/24"
	n.Hub = newNamespace(t, "hidden")
	n.Names.serve(t, n.Hub, new(atomic.Pointer[netip.Prefix]))
	n.public.ip(t, "link add lan type veth peer name eth0 netns "+n.Hub.Name, "link set lan up", "addr add "+router+"/24 dev lan")
	n.Hub.ip(t, "link set eth0 up", "addr add "+hub+"/24 dev eth0", "route add default via "+router)
	if err := n.public.Do(func() error { return set("ipv4/ip_forward", "1") }); err != nil {
		t.Fatal(err)
	}
	if err := n.public.nft(fmt.Sprintf(`table ip nat {
chain in { type nat hook prerouting priority dstnat; ip daddr %s dnat to %s; }
chain out { type nat hook postrouting priority srcnat; iifname "lan" masquerade; }
}
`, public, hub)); err != nil {
		t.Fatal(err)
	}
}

// MoveHub gives the hub, or the NAT before it, another public address in place of one that it has. The name follows at once. Nothing comes to the address
// before any more, or from it, those connections included that the NAT knows.
func (n *Network) MoveHub(t testing.TB, from, to string) {
	t.Helper()
	n.public.ip(t, "addr add "+to+"/32 dev public", "addr del "+from+"/32 dev public")
	if err := run([]byte(fmt.Sprintf(`table ip gone {
chain in { type filter hook prerouting priority raw; ip daddr %[1]s drop; }
chain out { type filter hook postrouting priority srcnat + 10; ip saddr %[1]s drop; }
}
`, from)), "ip", "netns", "exec", n.public.Name, "nft", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	n.Names.Set(HubName, to)
}
