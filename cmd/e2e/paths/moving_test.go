//go:build full

package paths_test

import (
	"testing"

	"multifactorymodel.org/ewindow/cmd/e2e/paths"
)

// TestHubMoves gives the hub another public address during a visit, or the NAT before it. The visit comes back, and new ones are possible at once,
// also by the relay.
func TestHubMoves(t *testing.T) {
	for name, prepare := range map[string]func(*paths.Network){
		"its own address": nil,
		"behind a NAT":    func(n *paths.Network) { n.HideHub(t) },
	} {
		t.Run(name, func(t *testing.T) {
			v := startVisit(t, world{listen: "0.0.0.0", publicIP: "-", prepare: prepare})
			v.open(t)
			v.staysConnected(t, stay/2, 0, nil)
			v.recovers(t, func(t testing.TB) { v.MoveHub(t, paths.HubIP, "198.51.100.3") })
			v.staysConnected(t, stay, 0, nil)
			for _, rules := range []string{"", paths.NoSFU} {
				v.shut(t)
				v.Sides[0].SetFirewall(t, rules)
				v.open(t)
				v.staysConnected(t, stay/2, 0, nil)
			}
		})
	}
}
