package turnserver_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v3"
	"github.com/pion/turn/v4"
	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/cmd/e2e/rig"
	"multifactorymodel.org/ewindow/turnserver"
)

const (
	secret  = "0123456789abcdef"
	realm   = "ewindow.test"
	patient = 10 * time.Second // a limit for what comes at once, on a busy machine too
)

// base is the configuration of a server that listens on all three transports and relays to 127.0.0.1.
func base(t testing.TB) turnserver.Config {
	return turnserver.Config{
		Listen: []turnserver.Listen{
			{Transport: turnserver.UDP, Addr: netip.MustParseAddrPort("127.0.0.1:0")},
			{Transport: turnserver.TCP, Addr: netip.MustParseAddrPort("127.0.0.1:0")},
			{Transport: turnserver.TLS, Addr: netip.MustParseAddrPort("127.0.0.1:0")},
		},
		Certificate: certificate(t),
		Relays:      []turnserver.Relay{{Public: netip.MustParseAddr("127.0.0.1"), Local: netip.MustParseAddr("127.0.0.1")}},
		Realm:       realm, Secret: secret,
		AllowedPeers:   peers(t, "127.0.0.1"),
		MaxAllocations: 20, MaxAllocationsPerUser: 10,
		Log: zerolog.Nop(),
	}
}

func peers(t testing.TB, texts ...string) (list []turnserver.Peer) {
	t.Helper()
	for _, text := range texts {
		p, err := turnserver.ParsePeer(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

func certificate(t testing.TB) func() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "turn"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	if c.Leaf, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return func() (*tls.Certificate, error) { return c, nil }
}

// start runs a server until the test ends.
func start(t testing.TB, cfg turnserver.Config) *turnserver.Server {
	t.Helper()
	s, err := turnserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// connect opens a socket or a stream to one of base's listeners. What it returns reads and writes whole messages.
func connect(t testing.TB, s *turnserver.Server, transport turnserver.Transport) net.PacketConn {
	t.Helper()
	var conn net.Conn
	var err error
	switch transport {
	case turnserver.UDP:
		socket, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = socket.Close() })
		return socket
	case turnserver.TCP:
		conn, err = net.Dial("tcp", s.Addrs()[1].String())
	case turnserver.TLS:
		conn, err = tls.Dial("tcp", s.Addrs()[2].String(), &tls.Config{InsecureSkipVerify: true}) // the certificate is made for this test
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return turn.NewSTUNConn(conn)
}

// client makes a TURN client with pion. It speaks to one of base's listeners.
func client(t testing.TB, s *turnserver.Server, transport turnserver.Transport, username, password string) *turn.Client {
	t.Helper()
	address := s.Addrs()[map[turnserver.Transport]int{turnserver.UDP: 0, turnserver.TCP: 1, turnserver.TLS: 2}[transport]].String()
	return clientOn(t, connect(t, s, transport), address, username, password)
}

// clientOn makes a TURN client with pion, on a connection to a server's address.
func clientOn(t testing.TB, conn net.PacketConn, address, username, password string) *turn.Client {
	t.Helper()
	c, err := turn.NewClient(&turn.ClientConfig{
		STUNServerAddr: address, TURNServerAddr: address, Conn: conn, Username: username, Password: password, RTO: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// login makes a client with good credentials.
func login(t testing.TB, s *turnserver.Server, transport turnserver.Transport, name string) *turn.Client {
	t.Helper()
	username, password := turnserver.Credentials(secret, name, time.Hour)
	return client(t, s, transport, username, password)
}

// allocate makes an allocation that ends with the test.
func allocate(t testing.TB, c *turn.Client) net.PacketConn {
	t.Helper()
	relay, err := c.Allocate()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = relay.Close() })
	return relay
}

// socket opens a peer's socket.
func socket(t testing.TB) net.PacketConn {
	t.Helper()
	p, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// echo sends everything back until the socket is closed. On a plain UDP socket it allocates no memory.
func echo(p net.PacketConn) {
	buffer := make([]byte, 2000)
	if plain, ok := p.(*net.UDPConn); ok {
		for {
			n, from, err := plain.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			_, _ = plain.WriteToUDPAddrPort(buffer[:n], from)
		}
	}
	for {
		n, from, err := p.ReadFrom(buffer)
		if err != nil {
			return
		}
		_, _ = p.WriteTo(buffer[:n], from)
	}
}

// roundTrips sends n numbered packets through a relay to an echo, each after the one before has come back. It demands all of them.
func roundTrips(t testing.TB, relay net.PacketConn, peer net.Addr, n int) {
	t.Helper()
	buffer := make([]byte, 2000)
	for i := range n {
		want := fmt.Sprintf("packet %d %s", i, strings.Repeat("x", 1000))
		if _, err := relay.WriteTo([]byte(want), peer); err != nil {
			t.Fatalf("packet %d: %v", i, err)
		}
		_ = relay.SetReadDeadline(time.Now().Add(patient))
		size, _, err := relay.ReadFrom(buffer)
		if err != nil || string(buffer[:size]) != want {
			t.Fatalf("packet %d came back as %q, %v", i, buffer[:size], err)
		}
	}
}

func TestRelay(t *testing.T) {
	for _, transport := range []turnserver.Transport{turnserver.UDP, turnserver.TCP, turnserver.TLS} {
		t.Run(string(transport), func(t *testing.T) {
			s := start(t, base(t))
			peer := socket(t)
			go echo(peer)
			relay := allocate(t, login(t, s, transport, "anna"))
			roundTrips(t, relay, peer.LocalAddr(), 50)
			rig.Eventually(t, patient, func() error { // a packet is counted when it has been sent
				c := s.Counters()
				if c.Allocations != 1 || c.Created != 1 || c.ToPeers != 50 || c.FromPeers != 50 || c.ToPeersBytes != c.FromPeersBytes {
					return fmt.Errorf("counted %+v", c)
				}
				return nil
			})
			if err := relay.Close(); err != nil {
				t.Fatal(err)
			}
			rig.Eventually(t, patient, func() error {
				if n := s.Counters().Allocations; n != 0 {
					return fmt.Errorf("%d allocations are left", n)
				}
				return nil
			})
		})
	}
}

// TestAbuse asks a server whose operator has allowed everything for each of the peers that relays are abused to reach.
func TestAbuse(t *testing.T) {
	cfg := base(t)
	cfg.AllowedPeers = peers(t, "0.0.0.0/0")
	s := start(t, cfg)
	c := login(t, s, turnserver.UDP, "anna")
	allocate(t, c)
	targets := []string{
		"127.0.0.1", "0.0.0.0", "169.254.169.254", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "224.0.0.1", "255.255.255.255",
		"::", "::1", "fe80::1", "fd00::1", "ff02::1", "::127.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "2001:0:4136:e378:8000:63bf:f5ff:fffe",
	}
	for _, target := range targets {
		if err := c.CreatePermission(&net.UDPAddr{IP: net.ParseIP(target), Port: 80}); err == nil {
			t.Errorf("%s was permitted", target)
		}
	}
	if n := s.Counters().RefusedPeers; n < uint64(len(targets)) {
		t.Errorf("%d refusals are counted of %d", n, len(targets))
	}
	if err := c.CreatePermission(&net.UDPAddr{IP: net.IPv4(8, 8, 8, 8), Port: 80}); err != nil {
		t.Errorf("a public peer was refused, so the test proves nothing: %v", err)
	}
}

// TestPeerPort allows one port of an address, and demands that the other ports are closed in both directions.
func TestPeerPort(t *testing.T) {
	open, shut := socket(t), socket(t)
	cfg := base(t)
	cfg.AllowedPeers = peers(t, open.LocalAddr().String())
	s := start(t, cfg)
	relay := allocate(t, login(t, s, turnserver.UDP, "anna"))
	if _, err := relay.WriteTo([]byte("to shut"), shut.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	rig.Eventually(t, patient, func() error {
		if n := s.Counters().DroppedPeer; n != 1 {
			return fmt.Errorf("%d packets to a closed port are counted as dropped", n)
		}
		return nil
	})
	if _, err := shut.WriteTo([]byte("from shut"), relay.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	go echo(open)
	roundTrips(t, relay, open.LocalAddr(), 3) // no packet of shut comes between
	rig.Eventually(t, patient, func() error {
		if c := s.Counters(); c.DroppedPeer != 2 || c.ToPeers != 3 || c.FromPeers != 3 {
			return fmt.Errorf("counted %+v", c)
		}
		return nil
	})
}

// TestExpiry demands that expired credentials make no allocation, and that an allocation outlives its credentials.
func TestExpiry(t *testing.T) {
	s := start(t, base(t))
	peer := socket(t)
	go echo(peer)
	username, password := turnserver.Credentials(secret, "anna", 2*time.Second)
	c := client(t, s, turnserver.UDP, username, password)
	relay := allocate(t, c)
	roundTrips(t, relay, peer.LocalAddr(), 1)
	rig.Eventually(t, patient, func() error {
		if late, err := client(t, s, turnserver.UDP, username, password).Allocate(); err == nil {
			_ = late.Close()
			return errors.New("expired credentials are good for a new allocation")
		}
		return nil
	})
	other := socket(t)
	go echo(other)
	if err := c.CreatePermission(other.LocalAddr()); err != nil {
		t.Errorf("an allocation died with its credentials: %v", err)
	}
	roundTrips(t, relay, other.LocalAddr(), 1)
}

func TestQuota(t *testing.T) {
	cfg := base(t)
	cfg.MaxAllocations, cfg.MaxAllocationsPerUser = 3, 2
	s := start(t, cfg)
	first := allocate(t, login(t, s, turnserver.UDP, "anna"))
	allocate(t, login(t, s, turnserver.TCP, "anna"))
	// Credentials made in another second belong to the same user.
	username, password := turnserver.Credentials(secret, "anna", 2*time.Hour)
	if _, err := client(t, s, turnserver.UDP, username, password).Allocate(); err == nil {
		t.Error("a user got more than their quota with fresh credentials")
	}
	allocate(t, login(t, s, turnserver.UDP, "ben"))
	if _, err := login(t, s, turnserver.TLS, "cleo").Allocate(); err == nil {
		t.Error("more allocations than allowed in all")
	}
	if n := s.Counters().RefusedQuota; n != 2 {
		t.Errorf("%d refusals are counted", n)
	}
	_ = first.Close()
	rig.Eventually(t, patient, func() error {
		relay, err := login(t, s, turnserver.UDP, "cleo").Allocate()
		if err != nil {
			return fmt.Errorf("a closed allocation still counts: %v", err)
		}
		t.Cleanup(func() { _ = relay.Close() })
		return nil
	})
}

// TestStreamEnd demands that an allocation ends with its connection.
func TestStreamEnd(t *testing.T) {
	s := start(t, base(t))
	conn := connect(t, s, turnserver.TCP)
	username, password := turnserver.Credentials(secret, "anna", time.Hour)
	address := s.Addrs()[1].String()
	c, err := turn.NewClient(&turn.ClientConfig{TURNServerAddr: address, Conn: conn, Username: username, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Listen(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Allocate(); err != nil {
		t.Fatal(err)
	}
	if c := s.Counters(); c.Allocations != 1 || c.Streams != 1 {
		t.Fatalf("counted %+v", c)
	}
	c.Close()
	_ = conn.Close()
	rig.Eventually(t, patient, func() error {
		if c := s.Counters(); c.Allocations != 0 || c.Streams != 0 {
			return fmt.Errorf("%d allocations and %d streams are left", c.Allocations, c.Streams)
		}
		return nil
	})
}

// TestRelayPorts demands that the range of relay ports is used to its last port and not beyond.
func TestRelayPorts(t *testing.T) {
	cfg := base(t)
	var free [2]int
	rig.Eventually(t, patient, func() error { // two neighbouring free ports
		a := socket(t)
		free[0] = a.LocalAddr().(*net.UDPAddr).Port
		free[1] = free[0] + 1
		b, err := net.ListenPacket("udp4", fmt.Sprintf("127.0.0.1:%d", free[1]))
		_ = a.Close()
		if err != nil {
			return err
		}
		_ = b.Close()
		return nil
	})
	cfg.MinPort, cfg.MaxPort = uint16(free[0]), uint16(free[1])
	s := start(t, cfg)
	got := map[int]bool{}
	for range 2 {
		got[allocate(t, login(t, s, turnserver.UDP, "anna")).LocalAddr().(*net.UDPAddr).Port] = true
	}
	if !got[free[0]] || !got[free[1]] {
		t.Errorf("ports %v were given of %v", got, free)
	}
	if _, err := login(t, s, turnserver.UDP, "anna").Allocate(); err == nil {
		t.Error("a third allocation of two ports")
	}
	rig.Eventually(t, patient, func() error { // the refusal is sent before the quota is released
		if n := s.Counters().Allocations; n != 2 {
			return fmt.Errorf("%d allocations are counted: the failed one still counts", n)
		}
		return nil
	})
}

// TestRelayToRelay lets two clients that both can use only the relay reach each other. No other peer is allowed.
func TestRelayToRelay(t *testing.T) {
	cfg := base(t)
	cfg.AllowedPeers, cfg.MinPort, cfg.MaxPort = nil, 20000, 29999
	s := start(t, cfg)
	client := login(t, s, turnserver.TLS, "ben")
	anna, ben := allocate(t, login(t, s, turnserver.UDP, "anna")), allocate(t, client)
	if err := client.CreatePermission(anna.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	go echo(ben)
	roundTrips(t, anna, ben.LocalAddr(), 20)
	w := newWire(t, s)
	username, password := turnserver.Credentials(secret, "cleo", time.Hour)
	w.allocate(username, password)
	w.request(bindType, []stun.Setter{numbered(0x4000), peerAt("127.0.0.1:80")}, w.sign(username, password, realm))
	if answer := w.receive(); code(answer) != stun.CodeForbidden {
		t.Errorf("a port of this machine that is no relay port: %v", answer)
	}
}

// TestClose demands that no goroutine and no port is left, and that Close may be called twice, before Start, and from two goroutines
// at the same time.
func TestClose(t *testing.T) {
	s, err := turnserver.New(base(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, transport := range []turnserver.Transport{turnserver.UDP, turnserver.TCP, turnserver.TLS} {
		c := login(t, s, transport, "anna")
		if _, err := c.Allocate(); err != nil {
			t.Fatal(err)
		}
	}
	silent, err := net.Dial("tcp", s.Addrs()[2].String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	addrs := s.Addrs()
	ended := make(chan error, 2)
	for range 2 {
		go func() { ended <- s.Close() }()
	}
	for range 2 {
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patient):
			t.Fatal("Close does not return")
		}
	}
	if c := s.Counters(); c.Allocations != 0 || c.Streams != 0 {
		t.Errorf("%d allocations and %d streams are left", c.Allocations, c.Streams)
	}
	if again, err := net.ListenPacket("udp4", addrs[0].String()); err != nil {
		t.Errorf("the port is still taken: %v", err)
	} else {
		_ = again.Close()
	}
	if err := s.Start(t.Context()); err == nil {
		t.Error("a closed server was started")
	}
	rig.Eventually(t, patient, func() error { // the last one may be about to return
		stacks := make([]byte, 1<<20)
		for _, stack := range strings.Split(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			for _, function := range []string{"turnserver.(*loop)", "turnserver.(*stream)", "turnserver.(*Server).accept"} {
				if strings.Contains(stack, function) {
					return errors.New("a goroutine is left:\n" + stack)
				}
			}
		}
		return nil
	})

	unstarted, err := turnserver.New(base(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := unstarted.Close(); err != nil {
		t.Error(err)
	}
}

// TestCloseWhileStarting closes a server while it starts, and demands that nothing is left open, however far it came.
func TestCloseWhileStarting(t *testing.T) {
	for range 20 {
		s, err := turnserver.New(base(t))
		if err != nil {
			t.Fatal(err)
		}
		started := make(chan error, 1)
		go func() { started <- s.Start(t.Context()) }()
		for len(s.Addrs()) == 0 { // until it has opened its first listener
			runtime.Gosched()
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		<-started // with or without an error
		for _, addr := range s.Addrs() {
			if addr.Network() != "udp" {
				continue
			}
			again, err := net.ListenPacket("udp4", addr.String())
			if err != nil {
				t.Fatalf("a listener is left: %v", err)
			}
			_ = again.Close()
		}
	}
}

// TestStartFails demands that Start leaves nothing open when it fails.
func TestStartFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free := socket(t)
	cfg := base(t)
	cfg.Listen = []turnserver.Listen{
		{Transport: turnserver.UDP, Addr: free.LocalAddr().(*net.UDPAddr).AddrPort()},
		{Transport: turnserver.TCP, Addr: taken.Addr().(*net.TCPAddr).AddrPort()},
	}
	_ = free.Close()
	s, err := turnserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Start(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), "start turn server: listen on tcp://"+taken.Addr().String()+": ") {
		t.Errorf("got %v", err)
	}
	again, err := net.ListenPacket("udp4", free.LocalAddr().String())
	if err != nil {
		t.Fatalf("the first listener was left open: %v", err)
	}
	_ = again.Close()
}

func TestNewErrors(t *testing.T) {
	for want, change := range map[string]func(*turnserver.Config){
		"turn server: no address to listen on":               func(c *turnserver.Config) { c.Listen = nil },
		"turn server: tls://127.0.0.1:0 needs a certificate": func(c *turnserver.Config) { c.Certificate = nil },
		"turn server: no address to relay by":                func(c *turnserver.Config) { c.Relays = nil },
		"turn server: relay: a public address is needed":     func(c *turnserver.Config) { c.Relays[0].Public = netip.IPv6Unspecified() },
		"turn server: relay: 127.0.0.1 and ::1 are not of one family": func(c *turnserver.Config) {
			c.Relays[0].Local = netip.IPv6Loopback()
		},
		"turn server: relay ports 2 to 1 are no range":           func(c *turnserver.Config) { c.MinPort, c.MaxPort = 2, 1 },
		"turn server: the realm must have 1 to 128 bytes":        func(c *turnserver.Config) { c.Realm = "" },
		"turn server: the secret must have 16 bytes or more":     func(c *turnserver.Config) { c.Secret = "short" },
		"turn server: the limits of allocations must be above 0": func(c *turnserver.Config) { c.MaxAllocations = 0 },
		`turn server: "quic://127.0.0.1:0" must begin with udp://, tcp:// or tls://`: func(c *turnserver.Config) {
			c.Listen[0].Transport = "quic"
		},
		"turn server: allowed peer: 2002::/16 lies in 2002::/16, which no host can have": func(c *turnserver.Config) {
			c.AllowedPeers = []turnserver.Peer{{Prefix: netip.MustParsePrefix("2002::/16")}}
		},
	} {
		cfg := base(t)
		change(&cfg)
		if s, err := turnserver.New(cfg); s != nil || err == nil || err.Error() != want {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
}
