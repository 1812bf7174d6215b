//go:build full

package load_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/cmd/e2e/turn/load"
	"multifactorymodel.org/ewindow/turnserver"
)

const secret = "a secret of sixteen bytes"

// server starts our TURN server in this process.
func server(t testing.TB) *turnserver.Server {
	t.Helper()
	loopback := netip.MustParseAddr("127.0.0.1")
	s, err := turnserver.New(turnserver.Config{
		Listen: []turnserver.Listen{{Transport: turnserver.UDP, Addr: netip.AddrPortFrom(loopback, 0)}}, Relays: []turnserver.Relay{{Public: loopback, Local: loopback}},
		Realm: "load", Secret: secret, MaxAllocations: 1000, MaxAllocationsPerUser: 1000, Log: zerolog.Nop(),
		AllowedPeers: []turnserver.Peer{{Prefix: netip.PrefixFrom(loopback, 32)}},
	})
	if err == nil {
		err = s.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func credentials(i int) (username, password string) {
	return turnserver.Credentials(secret, fmt.Sprint("load-", i), time.Hour)
}

func addrPort(s *turnserver.Server) netip.AddrPort { return s.Addrs()[0].(*net.UDPAddr).AddrPort() }

func open(t testing.TB, cfg load.Config) *load.Client {
	t.Helper()
	c, err := load.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// check checks that all packets came back, unchanged and with plausible times.
func check(t testing.TB, r load.Result, packets int) {
	t.Helper()
	if r.Sent != packets || r.Echoed != packets || r.Received != packets || r.Unexpected != 0 || len(r.RoundTrips) != packets {
		t.Errorf("%d packets: %d sent, %d echoed, %d received, %d strange, %d dropped here, %d times",
			packets, r.Sent, r.Echoed, r.Received, r.Unexpected, r.Dropped, len(r.RoundTrips))
	}
	if r.Lost() != 0 || r.Relayed() != 2*packets {
		t.Errorf("%d are lost, %d relayed", r.Lost(), r.Relayed())
	}
	if p50, p99 := r.Quantile(0.5), r.Quantile(0.99); p50 <= 0 || p99 < p50 {
		t.Errorf("half of the round trips take %v, 99 %% take %v", p50, p99)
	}
}

// TestRelay sends through a server, twice through the same allocations, and checks that Close ends them.
func TestRelay(t *testing.T) {
	s := server(t)
	c := open(t, load.Config{Server: addrPort(s), Credentials: credentials, Allocations: 25})
	if n := s.Counters().Allocations; n != 25 {
		t.Errorf("%d allocations are open", n)
	}
	for _, traffic := range []load.Traffic{
		{Payload: load.MinPayload, Rate: 2000, Burst: 1, Packets: 100},
		{Payload: load.MaxPayload, Rate: 2000, Burst: 7, Packets: 200},
	} {
		r, err := c.Run(traffic)
		if err != nil {
			t.Fatal(err)
		}
		check(t, r, traffic.Packets)
	}
	if c := s.Counters(); c.ToPeers != 300 || c.FromPeers != 300 || c.ToPeersBytes != 100*load.MinPayload+200*load.MaxPayload {
		t.Errorf("the server counted %+v", c)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if n := s.Counters().Allocations; n != 0 {
		t.Errorf("%d allocations outlive the client", n)
	}
}

// TestSourceAddresses makes more allocations than a server allows one source address in a short time.
func TestSourceAddresses(t *testing.T) {
	s := server(t)
	begun := time.Now()
	for range 2 {
		c := open(t, load.Config{Server: addrPort(s), Credentials: credentials, Allocations: 200})
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if n := s.Counters().Limited; n > 0 {
		t.Errorf("%d requests were refused for coming too fast, which took %v", n, time.Since(begun))
	}
}

// TestDirect sends without a server.
func TestDirect(t *testing.T) {
	c := open(t, load.Config{Allocations: 3})
	begun := time.Now()
	r, err := c.Run(load.Traffic{Payload: 500, Rate: 1000, Burst: 5, Packets: 200})
	if err != nil {
		t.Fatal(err)
	}
	check(t, r, 200)
	if took := time.Since(begun); took < 190*time.Millisecond {
		t.Errorf("200 packets at 1000 a second took %v", took)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestWrongPassword(t *testing.T) {
	s := server(t)
	c, err := load.Open(load.Config{Server: addrPort(s), Allocations: 1, Credentials: func(i int) (string, string) {
		username, _ := credentials(i)
		return username, "wrong"
	}})
	if err == nil || c != nil || !strings.Contains(err.Error(), "Allocate is refused: 4") {
		t.Errorf("a wrong password gives %v, %v", c, err)
	}
}

func TestInvalidArguments(t *testing.T) {
	for _, n := range []int{0, -1, 1 << 20} {
		if c, err := load.Open(load.Config{Allocations: n}); err == nil {
			t.Errorf("%d allocations give %v", n, c)
		}
	}
	c := open(t, load.Config{Allocations: 1})
	for _, traffic := range []load.Traffic{
		{}, {Payload: 10, Rate: 1, Burst: 1, Packets: 1}, {Payload: 2000, Rate: 1, Burst: 1, Packets: 1}, {Payload: 100, Rate: 0, Burst: 1, Packets: 1},
		{Payload: 100, Rate: 1, Burst: 2, Packets: 1}, {Payload: 100, Rate: 1, Burst: 1, Packets: 1000},
	} {
		if r, err := c.Run(traffic); err == nil {
			t.Errorf("%+v gives %+v", traffic, r)
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// TestNoAllocationPerPacket checks that a packet needs no memory allocation in this client. The delay of a garbage collection would look like the
// server's.
func TestNoAllocationPerPacket(t *testing.T) {
	c := open(t, load.Config{Allocations: 1})
	run := func(packets int) float64 {
		return testing.AllocsPerRun(3, func() {
			if _, err := c.Run(load.Traffic{Payload: 100, Rate: 20000, Burst: 5, Packets: packets}); err != nil {
				t.Fatal(err)
			}
		})
	}
	if few, many := run(100), run(1000); many > few+100 {
		t.Errorf("100 packets cost %v allocations, 1000 cost %v", few, many)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
