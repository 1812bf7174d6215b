//go:build full

package turn_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	pion "github.com/pion/turn/v4"

	"multifactorymodel.org/ewindow/cmd/e2e/turn"
	"multifactorymodel.org/ewindow/cmd/e2e/turn/load"
)

// answerLimit is the time limit for answers, on a busy machine, too.
const answerLimit = 20 * time.Second

func TestMain(m *testing.M) { os.Exit(turn.Main(m)) }

// TestUclient lets coturn's test client send through our server in each of its modes. Every packet must come back. All packets of a client fit into a
// socket's buffer, because on a busy machine they may all come at once.
func TestUclient(t *testing.T) {
	turn.Need(t, "turnutils_uclient")
	peer, peers := turn.Echo(t), turn.CoturnPeer(t)
	var all sync.WaitGroup // the clients run in parallel, because they mostly sleep
	defer all.Wait()
	for name, test := range map[string]turn.Uclient{
		"udp":                 {},
		"udp, small":          {Bytes: 100},
		"udp, fast":           {Interval: 1},
		"udp, indications":    {Flags: []string{"-s"}},
		"udp, whole":          {Flags: []string{"-g"}},
		"udp, whole, ind.":    {Flags: []string{"-g", "-s"}},
		"udp, relay to relay": {Flags: []string{"-y"}},
		"udp, pairs":          {Pairs: true},
		"udp, pairs, ind.":    {Pairs: true, Flags: []string{"-s"}},
		"udp, extra requests": {Flags: []string{"-G"}},
		"udp, padded":         {Flags: []string{"-D"}},
		"udp, IPv4 by name":   {Flags: []string{"-X"}},
		"udp, bandwidth":      {Flags: []string{"-a", "100000"}},
		"udp, origin":         {Flags: []string{"-o", "https://window.example"}},
		"udp6":                {Address: "::1"},
		"udp6, indications":   {Address: "::1", Flags: []string{"-s"}},
		"udp6, local address": {Address: "::1", Flags: []string{"-L", "::1"}},
		"tcp":                 {Flags: []string{"-t"}},
		"tcp, indications":    {Flags: []string{"-t", "-s"}},
		"tcp, whole, ind.":    {Flags: []string{"-t", "-g", "-s"}},
		"tcp, odd sizes":      {Flags: []string{"-t"}, Bytes: 333},
		"tcp, relay to relay": {Flags: []string{"-t", "-y"}},
		"tcp, extra requests": {Flags: []string{"-t", "-G"}},
		"tcp, pairs":          {Pairs: true, Flags: []string{"-t"}},
		"tcp6":                {Address: "::1", Flags: []string{"-t"}},
		"tls":                 {Flags: []string{"-S", "-t"}},
		"tls, pairs":          {Pairs: true, Flags: []string{"-S", "-t"}},
		"tls, indications":    {Flags: []string{"-S", "-t", "-s"}},
		"tls, relay to relay": {Flags: []string{"-S", "-t", "-y"}},
	} {
		test.Clients, test.Packets = 2, 60
		if test.Interval == 0 {
			test.Interval = 5
		}
		if test.Bytes == 0 {
			test.Bytes = 1000
		}
		s := turn.StartOurs(t) // each client has its own server, because a server limits the rate of each source address
		all.Go(func() {
			peer := peer
			if test.Pairs {
				peer = peers
			}
			if sent, lost, err := test.Run(t.Context(), s, peer); err != nil || lost != 0 {
				t.Errorf("%s: of %d packets %d were lost; %v", name, sent, lost, err)
			}
		})
	}
}

// TestPionClient relays with pion's client, over each transport. That client supports IPv4 servers only.
func TestPionClient(t *testing.T) {
	for _, transport := range []string{"udp", "tcp", "tls"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			s, peer := turn.StartOurs(t), turn.Echo(t)
			address, conn := s.UDP().String(), dial(t, s, transport)
			username, password := s.Credentials("pion")
			client, err := pion.NewClient(&pion.ClientConfig{
				STUNServerAddr: address, TURNServerAddr: address, Conn: conn, Username: username, Password: password, Realm: turn.Realm,
			})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if err := client.Listen(); err != nil {
				t.Fatal(err)
			}
			if _, err := client.SendBindingRequest(); err != nil {
				t.Errorf("Binding: %v", err)
			}
			relay, err := client.Allocate()
			if err != nil {
				t.Fatalf("Allocate: %v", err)
			}
			// The first packets are Send indications. After the channel is bound, pion's client uses the channel.
			roundTrips(t, relay, net.UDPAddrFromAddrPort(peer), 200)
			if err := relay.Close(); err != nil {
				t.Errorf("end the allocation: %v", err)
			}
		})
	}
}

// dial opens a connection for pion's client.
func dial(t *testing.T, s *turn.Server, transport string) net.PacketConn {
	t.Helper()
	var conn net.Conn
	var err error
	switch transport {
	case "udp":
		packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = packets.Close() })
		return packets
	case "tls":
		pool, text := x509.NewCertPool(), []byte(nil)
		if text, err = os.ReadFile(s.CAFile); err != nil {
			t.Fatal(err)
		}
		if !pool.AppendCertsFromPEM(text) {
			t.Fatal("the certificate can't be read")
		}
		conn, err = tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.TLSPort), &tls.Config{RootCAs: pool})
	default:
		conn, err = net.Dial("tcp", s.UDP().String())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return pion.NewSTUNConn(conn)
}

// roundTrips sends packets of many sizes, one after another. Each must come back unchanged. They have at least 8 bytes: over TCP and TLS, pion's client
// waits for more data if a ChannelData message has 4 bytes or less.
func roundTrips(t *testing.T, conn net.PacketConn, peer net.Addr, n int) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(answerLimit))
	buffer := make([]byte, 2048)
	for i := range n {
		p := bytes.Repeat([]byte{byte(i)}, 8+i*1192/n)
		binary.BigEndian.PutUint32(p, uint32(i))
		if _, err := conn.WriteTo(p, peer); err != nil {
			t.Fatalf("packet %d: %v", i, err)
		}
		size, from, err := conn.ReadFrom(buffer)
		if err != nil {
			t.Fatalf("packet %d: %v", i, err)
		}
		if !bytes.Equal(buffer[:size], p) || from.String() != peer.String() {
			t.Fatalf("packet %d came back from %s with %d bytes", i, from, size)
		}
	}
}

// TestLoadClient lets our load client send through both servers. coturn confirms that the client's TURN is correct.
func TestLoadClient(t *testing.T) {
	for name, start := range map[string]func(testing.TB) *turn.Server{"coturn": turn.StartCoturn, "ours": turn.StartOurs} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			c := open(t, s, 100)
			r, err := c.Run(load.Traffic{Payload: 700, Rate: 2000, Burst: 4, Packets: 1000})
			if err != nil {
				t.Fatal(err)
			}
			if r.Sent != 1000 || r.Received != r.Sent || r.Echoed != r.Sent || r.Unexpected != 0 || !slices.IsSorted(r.RoundTrips) {
				t.Errorf("%d packets were sent, %d reached the peer, %d came back, %d were unexpected, the client dropped %d",
					r.Sent, r.Echoed, r.Received, r.Unexpected, r.Dropped)
			}
			if used := s.CPU(t); used <= 0 || used > time.Minute {
				t.Errorf("the server used %v of CPU time", used)
			}
			if bytes := s.Resident(t); bytes < 1<<20 || bytes > 1<<30 {
				t.Errorf("the server uses %d bytes of memory", bytes)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// open makes allocations in a server.
func open(t testing.TB, s *turn.Server, allocations int) *load.Client {
	t.Helper()
	c, err := load.Open(load.Config{
		Server: s.UDP(), Allocations: allocations,
		Credentials: func(i int) (string, string) { return s.Credentials(fmt.Sprint("load-", i/8)) },
	})
	if err != nil {
		t.Fatalf("%s: %v", s.Name, err)
	}
	return c
}

// TestCoturnPeer checks the echo of coturn's peer program, which the benchmark uses.
func TestCoturnPeer(t *testing.T) {
	s, peer := turn.StartOurs(t), turn.CoturnPeer(t)
	u := turn.Uclient{Clients: 1, Packets: 50, Bytes: 1000, Interval: 5}
	if sent, lost, err := u.Run(t.Context(), s, peer); err != nil || lost != 0 {
		t.Errorf("of %d packets %d were lost; %v", sent, lost, err)
	}
	if version := turn.CoturnVersion(t); version == "" {
		t.Error("coturn has no version")
	}
}
