package paths

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// HubIP6 is the hub's IPv6 address, after [Network.AddIPv6].
const HubIP6 = "2001:db8:ffff::1"

// NAT64 is the prefix of NAT64 in the networks that have it (RFC 6052). As many providers do, it is one of the provider's own.
var NAT64 = netip.MustParsePrefix("2001:db8:64::/96")

// AddIPv6 gives the hub an IPv6 address. It has to be called before the hub starts.
func (n *Network) AddIPv6(t testing.TB) {
	t.Helper()
	n.Hub.enableIPv6(t)
	n.Hub.ip(t, "addr add "+HubIP6+"/128 dev public nodad")
	for i, s := range n.Sides {
		n.Hub.ip(t, fmt.Sprintf("route add %s dev line%d", s.lan6(), i))
	}
}

// lan6 is the prefix of the network of a kiosk that has IPv6 alone.
func (s *Side) lan6() string { return fmt.Sprintf("2001:db8:%d::/64", s.number+1) }

// UseIPv6Alone takes IPv4 from a kiosk and gives it IPv6, which is routed without any translation. It has to be called before the kiosk starts.
func (s *Side) UseIPv6Alone(t testing.TB) {
	t.Helper()
	s.Kiosk.enableIPv6(t)
	s.Router.enableIPv6(t)
	host := func(last int) string { return fmt.Sprintf("2001:db8:%d::%d", s.number+1, last) }
	s.Router.ip(t, "addr add "+host(1)+"/64 dev lan nodad", "route add ::/0 dev wan")
	s.Kiosk.ip(t, "addr del "+s.lan()+" dev eth0", "addr add "+host(2)+"/64 dev eth0 nodad", "route add default via "+host(1))
}

// StartNAT64 lets a kiosk that has IPv6 alone reach IPv4 addresses by the prefix [NAT64], until the test ends. The router runs TAYGA for
// that, and the kiosk's DNS is a DNS64.
func (s *Side) StartNAT64(t testing.TB) {
	t.Helper()
	const pool = "192.168.255.0/24"
	folder := t.TempDir()
	file := filepath.Join(folder, "tayga.conf")
	config := fmt.Sprintf("tun-device nat64\nipv4-addr 192.168.255.1\nipv6-addr 2001:db8:ff64::1\nprefix %s\ndynamic-pool %s\ndata-dir %s\n", NAT64, pool, folder)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(nil, "ip", "netns", "exec", s.Router.Name, "tayga", "--config", file, "--mktun"); err != nil {
		t.Fatal(err)
	}
	s.nat64.Store(&NAT64)
	s.Router.ip(t, "link set nat64 up", "route add "+pool+" dev nat64", "route add "+NAT64.String()+" dev nat64")
	translator := s.Router.Command("tayga", "--config", file, "--nodetach")
	if err := translator.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = translator.Process.Kill()
		var killed *exec.ExitError
		if err := translator.Wait(); !errors.As(err, &killed) {
			t.Errorf("the NAT64 has ended: %v", err)
		}
	})
}

// enableIPv6 undoes what newNamespace does.
func (n *Namespace) enableIPv6(t testing.TB) {
	t.Helper()
	if err := n.Do(func() error {
		return errors.Join(set("ipv6/conf/all/disable_ipv6", "0"), set("ipv6/conf/all/forwarding", "1"))
	}); err != nil {
		t.Fatal(err)
	}
}
