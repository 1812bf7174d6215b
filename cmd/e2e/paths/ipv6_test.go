//go:build full

package paths_test

import (
	"testing"

	"multifactorymodel.org/ewindow/cmd/e2e/paths"
)

// TestNAT64 visits from a network that has IPv6 alone, with NAT64 and DNS64, while the hub has IPv4 alone.
func TestNAT64(t *testing.T) {
	v := startVisit(t, world{prepare: func(n *paths.Network) {
		n.Sides[0].UseIPv6Alone(t)
		n.Sides[0].StartNAT64(t)
	}})
	for _, s := range []struct {
		name   string
		rules  string
		routes []paths.Route
	}{
		{name: "all open", routes: []paths.Route{paths.Direct}},
		{name: "LiveKit is blocked", rules: paths.NoSFU, routes: []paths.Route{paths.TurnUDP}},
		{name: "no UDP", rules: paths.NoUDP, routes: []paths.Route{paths.TurnTCP, paths.TurnTLS, paths.ICETCP}},
		{name: "TCP 443 alone", rules: only443NAT64, routes: []paths.Route{paths.TurnTLS}},
	} {
		t.Run(s.name, func(t *testing.T) {
			defer v.repair(t)
			v.Sides[0].SetFirewall(t, s.rules)
			defer v.shut(t)
			v.open(t)
			v.staysConnected(t, stay, 0, s.routes)
		})
	}
}

// only443NAT64 is paths.Only443 in a network with NAT64: what is translated passes the firewall twice.
const only443NAT64 = "tcp dport 443 accept; tcp sport 443 accept; drop"
