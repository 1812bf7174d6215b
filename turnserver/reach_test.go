package turnserver_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/pion/stun/v3"

	"multifactorymodel.org/ewindow/cmd/e2e/rig"
	"multifactorymodel.org/ewindow/turnserver"
)

// TestSetReach gives a server that runs another address and another peer. What was made under the old ones ends, and the old peer is shut.
func TestSetReach(t *testing.T) {
	before, after := socket(t), socket(t)
	go echo(before)
	go echo(after)
	cfg := base(t)
	cfg.AllowedPeers = peers(t, before.LocalAddr().String())
	s := start(t, cfg)
	for _, transport := range []turnserver.Transport{turnserver.UDP, turnserver.TLS} {
		roundTrips(t, allocate(t, login(t, s, transport, "anna")), before.LocalAddr(), 1)
	}
	_, _, _, token := ask(t, s, "ben", portPair)
	if c := s.Counters(); c.Allocations != 3 || len(token) == 0 {
		t.Fatalf("%d allocations are counted", c.Allocations)
	}

	if err := s.SetReach(nil, cfg.AllowedPeers); err == nil {
		t.Error("a server without an address is accepted")
	}
	other := netip.MustParseAddr("127.0.0.2")
	if err := s.SetReach([]turnserver.Relay{{Public: other, Local: other}}, peers(t, after.LocalAddr().String())); err != nil {
		t.Fatal(err)
	}
	if _, answer, _, _ := ask(t, s, "ben", withToken(token)); code(answer) != stun.CodeInsufficientCapacity {
		t.Errorf("a port of the old address is given: %v", answer)
	}
	rig.Eventually(t, patient, func() error {
		return rig.Check(s.Counters().Allocations == 0, "no allocation", fmt.Sprint(s.Counters().Allocations))
	})
	relay := allocate(t, login(t, s, turnserver.UDP, "anna"))
	if host := relay.LocalAddr().(*net.UDPAddr).IP.String(); host != other.String() {
		t.Errorf("the relay is at %s", host)
	}
	roundTrips(t, relay, after.LocalAddr(), 1)
	dropped := s.Counters().DroppedPeer
	if _, err := relay.WriteTo([]byte("to the old peer"), before.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	rig.Eventually(t, patient, func() error {
		return rig.Check(s.Counters().DroppedPeer == dropped+1, "a packet to the old peer dropped", fmt.Sprint(s.Counters().DroppedPeer-dropped))
	})
}
