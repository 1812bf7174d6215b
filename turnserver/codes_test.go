package turnserver_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/stun/v3"

	"multifactorymodel.org/ewindow/cmd/e2e/rig"
	"multifactorymodel.org/ewindow/turnserver"
)

var (
	refreshType = stun.NewType(stun.MethodRefresh, stun.ClassRequest)
	permitType  = stun.NewType(stun.MethodCreatePermission, stun.ClassRequest)
	bindType    = stun.NewType(stun.MethodChannelBind, stun.ClassRequest)
)

// toward adds XOR-PEER-ADDRESS.
type toward netip.AddrPort

func (p toward) AddTo(m *stun.Message) error {
	ap := netip.AddrPort(p)
	return stun.XORMappedAddress{IP: ap.Addr().AsSlice(), Port: int(ap.Port())}.AddToAs(m, stun.AttrXORPeerAddress)
}

func peerAt(text string) stun.Setter { return toward(netip.MustParseAddrPort(text)) }

func raw(kind stun.AttrType, value ...byte) stun.Setter {
	return attribute(stun.RawAttribute{Type: kind, Value: value})
}

func numbered(n uint16) stun.Setter { return raw(stun.AttrChannelNumber, byte(n>>8), byte(n), 0, 0) }

// TestErrorCodes provokes every error of RFC 8656, section 19, and of the authentication in RFC 8489. Each request is right but for one
// thing.
func TestErrorCodes(t *testing.T) {
	const (
		v4     = 1
		v6     = 2
		family = stun.AttrRequestedAddressFamily
	)
	username, password := turnserver.Credentials(secret, "anna", time.Hour)
	udp := attribute(transportUDP)
	for name, test := range map[string]struct {
		login bool // whether an allocation is made first
		kind  stun.MessageType
		extra []stun.Setter
		want  stun.ErrorCode
	}{
		"no transport":                 {false, allocateType, nil, 400},
		"a transport of two bytes":     {false, allocateType, []stun.Setter{raw(stun.AttrRequestedTransport, 17, 0)}, 400},
		"token and family":             {false, allocateType, []stun.Setter{udp, raw(stun.AttrReservationToken, 1, 2, 3, 4, 5, 6, 7, 8), raw(family, v4, 0, 0, 0)}, 400},
		"TCP":                          {false, allocateType, []stun.Setter{attribute(transportTCP)}, 442},
		"an unknown protocol":          {false, allocateType, []stun.Setter{raw(stun.AttrRequestedTransport, 99, 0, 0, 0)}, 442},
		"an IPv6 relay":                {false, allocateType, []stun.Setter{udp, raw(family, v6, 0, 0, 0)}, 440},
		"token and even port":          {false, allocateType, []stun.Setter{udp, raw(stun.AttrReservationToken, 1, 2, 3, 4, 5, 6, 7, 8), raw(stun.AttrEvenPort, 0)}, 400},
		"a token of four bytes":        {false, allocateType, []stun.Setter{udp, raw(stun.AttrReservationToken, 1, 2, 3, 4)}, 400},
		"a pair of ports":              {false, allocateType, []stun.Setter{udp, raw(stun.AttrEvenPort, 0x80)}, 0},
		"a token of nobody":            {false, allocateType, []stun.Setter{udp, raw(stun.AttrReservationToken, 1, 2, 3, 4, 5, 6, 7, 8)}, 508},
		"an unknown attribute":         {false, allocateType, []stun.Setter{udp, raw(0x7fff, 1)}, 420},
		"fragments":                    {false, allocateType, []stun.Setter{udp, raw(stun.AttrDontFragment)}, 0},
		"an Allocate":                  {false, allocateType, []stun.Setter{udp, raw(0x8fff, 1)}, 0},
		"an even port":                 {false, allocateType, []stun.Setter{udp, raw(stun.AttrEvenPort, 0)}, 0},
		"a second Allocate":            {true, allocateType, []stun.Setter{udp}, 437},
		"Refresh of nothing":           {false, refreshType, nil, 437},
		"permission of nothing":        {false, permitType, []stun.Setter{peerAt("127.0.0.1:9")}, 437},
		"channel of nothing":           {false, bindType, []stun.Setter{numbered(0x4000), peerAt("127.0.0.1:9")}, 437},
		"Refresh":                      {true, refreshType, nil, 0},
		"Refresh of another family":    {true, refreshType, []stun.Setter{raw(family, v6, 0, 0, 0)}, 443},
		"Refresh with a bad lifetime":  {true, refreshType, []stun.Setter{raw(stun.AttrLifetime, 1)}, 400},
		"permission":                   {true, permitType, []stun.Setter{peerAt("127.0.0.1:9")}, 0},
		"permission for nobody":        {true, permitType, nil, 400},
		"permission for a forbidden":   {true, permitType, []stun.Setter{peerAt("127.0.0.1:9"), peerAt("10.0.0.1:9")}, 403},
		"permission for a broken peer": {true, permitType, []stun.Setter{raw(stun.AttrXORPeerAddress, 0, 1, 2)}, 400},
		"channel":                      {true, bindType, []stun.Setter{numbered(0x4000), peerAt("127.0.0.1:9")}, 0},
		"channel to nobody":            {true, bindType, []stun.Setter{numbered(0x4000)}, 400},
		"channel without number":       {true, bindType, []stun.Setter{peerAt("127.0.0.1:9")}, 400},
		"channel below the numbers":    {true, bindType, []stun.Setter{numbered(0x3fff), peerAt("127.0.0.1:9")}, 400},
		"channel above the numbers":    {true, bindType, []stun.Setter{numbered(0x8000), peerAt("127.0.0.1:9")}, 400},
		"channel to a forbidden":       {true, bindType, []stun.Setter{numbered(0x4000), peerAt("169.254.169.254:80")}, 403},
		"channel to port 0":            {true, bindType, []stun.Setter{numbered(0x4000), peerAt("127.0.0.1:0")}, 403},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, start(t, base(t)))
			if test.login {
				w.allocate(username, password)
			} else {
				w.getNonce()
			}
			m := w.request(test.kind, test.extra, w.sign(username, password, realm))
			answer := w.receive()
			if code(answer) != test.want || answer.TransactionID != m.TransactionID {
				t.Errorf("answered %v, want %d", answer, test.want)
			}
			if err := stun.NewLongTermIntegrity(username, realm, password).Check(answer); err != nil {
				t.Errorf("the answer is not signed: %v", err)
			}
		})
	}

	t.Run("users who have gone", func(t *testing.T) {
		var gone atomic.Bool
		cfg := base(t)
		cfg.Allowed = func(user string) bool { return user == "anna" && !gone.Load() }
		s := start(t, cfg)
		w := newWire(t, s)
		other, otherPassword := turnserver.Credentials(secret, "ben", time.Hour)
		w.getNonce()
		w.request(allocateType, []stun.Setter{udp}, w.sign(other, otherPassword, realm))
		if answer := w.receive(); code(answer) != 403 {
			t.Errorf("somebody who does not belong is answered %v", answer)
		}
		anna, annaPassword := turnserver.Credentials(secret, "anna", time.Hour)
		w.allocate(anna, annaPassword)
		gone.Store(true)
		for kind, extra := range map[stun.MessageType][]stun.Setter{refreshType: nil, permitType: {peerAt("127.0.0.1:9")}, bindType: {numbered(0x4000), peerAt("127.0.0.1:9")}} {
			w.request(kind, extra, w.sign(anna, annaPassword, realm))
			if answer := w.receive(); code(answer) != 403 {
				t.Errorf("%s of somebody who has gone is answered %v", kind, answer)
			}
		}
	})

	t.Run("allocations of users who have gone", func(t *testing.T) {
		var gone atomic.Bool
		cfg := base(t)
		cfg.Allowed = func(user string) bool { return user != "anna" || !gone.Load() }
		s := start(t, cfg)
		transports := []turnserver.Transport{turnserver.UDP, turnserver.TCP, turnserver.TLS}
		for _, transport := range transports {
			allocate(t, login(t, s, transport, "anna"))
			allocate(t, login(t, s, transport, "ben"))
		}
		gone.Store(true)
		rig.Eventually(t, 20*time.Second, func() error {
			open := s.Counters().Allocations
			return rig.Check(open == len(transports), "the end of anna's allocations", open)
		})
	})

	t.Run("401, 438, 441", func(t *testing.T) {
		w := newWire(t, start(t, base(t)))
		w.allocate(username, password)
		w.send(refreshType)
		if answer := w.receive(); code(answer) != 401 {
			t.Errorf("an unsigned Refresh is answered %v", answer)
		}
		other, otherPassword := turnserver.Credentials(secret, "ben", time.Hour)
		w.request(refreshType, nil, w.sign(other, otherPassword, realm))
		if answer := w.receive(); code(answer) != 441 {
			t.Errorf("another user's Refresh is answered %v", answer)
		}
		w.request(refreshType, nil, w.sign(username, "wrong", realm))
		if answer := w.receive(); code(answer) != 401 {
			t.Errorf("a forged Refresh is answered %v", answer)
		}
		w.send(refreshType, stun.NewUsername(username), stun.NewLongTermIntegrity(username, realm, password))
		if answer := w.receive(); code(answer) != 400 {
			t.Errorf("a Refresh without realm and nonce is answered %v", answer)
		}
		w.nonce = stun.NewNonce("AAAAAAAAAAAAAAAA")
		w.request(refreshType, nil, w.sign(username, password, realm))
		if answer := w.receive(); code(answer) != 438 {
			t.Errorf("a stale nonce is answered %v", answer)
		}
	})
	t.Run("486", func(t *testing.T) {
		cfg := base(t)
		cfg.MaxAllocationsPerUser = 1
		s := start(t, cfg)
		newWire(t, s).allocate(username, password)
		w := newWire(t, s)
		w.getNonce()
		w.request(allocateType, []stun.Setter{udp}, w.sign(username, password, realm))
		if answer := w.receive(); code(answer) != 486 {
			t.Errorf("answered %v", answer)
		}
	})
	t.Run("508", func(t *testing.T) {
		taken := socket(t)
		cfg := base(t)
		cfg.MinPort = uint16(taken.LocalAddr().(*net.UDPAddr).Port)
		cfg.MaxPort = cfg.MinPort
		w := newWire(t, start(t, cfg))
		w.getNonce()
		w.request(allocateType, []stun.Setter{udp}, w.sign(username, password, realm))
		if answer := w.receive(); code(answer) != 508 {
			t.Errorf("answered %v", answer)
		}
	})
	t.Run("a channel is one peer's", func(t *testing.T) {
		w := newWire(t, start(t, base(t)))
		w.allocate(username, password)
		for i, step := range []struct {
			number uint16
			peer   string
			want   stun.ErrorCode
		}{
			{0x4000, "127.0.0.1:9", 0}, {0x4000, "127.0.0.1:9", 0}, {0x4000, "127.0.0.1:10", 400}, {0x4001, "127.0.0.1:9", 400}, {0x4001, "127.0.0.1:10", 0},
		} {
			w.request(bindType, []stun.Setter{numbered(step.number), peerAt(step.peer)}, w.sign(username, password, realm))
			if answer := w.receive(); code(answer) != step.want {
				t.Errorf("step %d is answered %v", i, answer)
			}
		}
	})
	t.Run("more than there is room for", func(t *testing.T) {
		w := newWire(t, start(t, base(t)))
		w.allocate(username, password)
		for i := range 129 {
			w.request(bindType, []stun.Setter{numbered(0x4000 + uint16(i)), peerAt(fmt.Sprintf("127.0.0.1:%d", 1000+i))}, w.sign(username, password, realm))
			if answer := w.receive(); code(answer) != 0 != (i == 128) {
				t.Fatalf("channel %d is answered %v", i, answer)
			}
		}
	})
}

// TestShortAnswers demands that the answers to requests with a forged source are small.
func TestShortAnswers(t *testing.T) {
	s := start(t, base(t))
	for _, kind := range []stun.MessageType{stun.BindingRequest, allocateType, refreshType, permitType, bindType, stun.NewType(stun.MethodSend, stun.ClassRequest)} {
		w := newWire(t, s)
		w.send(kind)
		if answer := w.receive(); len(answer.Raw) > 80 {
			t.Errorf("%v is answered by %d bytes", kind, len(answer.Raw))
		}
	}
}

// TestOldSecret demands that credentials of the new and of the old secret are good, and no others.
func TestOldSecret(t *testing.T) {
	cfg := base(t)
	cfg.OldSecret = "fedcba9876543210"
	s := start(t, cfg)
	for other, good := range map[string]bool{secret: true, cfg.OldSecret: true, "another secret of 16": false} {
		username, password := turnserver.Credentials(other, "anna", time.Hour)
		relay, err := client(t, s, turnserver.UDP, username, password).Allocate()
		if (err == nil) != good {
			t.Errorf("the secret %q: %v", other, err)
		}
		if err == nil {
			_ = relay.Close()
		}
	}
}

// TestPortIsTaken demands that a second server cannot listen on the same port and take half of the first one's clients.
func TestPortIsTaken(t *testing.T) {
	first := start(t, base(t))
	cfg := base(t)
	cfg.Listen = []turnserver.Listen{{Transport: turnserver.UDP, Addr: first.Addrs()[0].(*net.UDPAddr).AddrPort()}}
	second, err := turnserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Start(t.Context()); err == nil {
		_ = second.Close()
		t.Error("two servers listen on one port")
	}
}

// TestBitrate demands that a user gets the bitrate that is allowed and not much more, and that another user does not notice.
func TestBitrate(t *testing.T) {
	cfg := base(t)
	cfg.MaxBitratePerUser = 800_000 // 100 packets of 1,000 bytes a second, both directions together
	s := start(t, cfg)
	peer := socket(t)
	go echo(peer)
	relay := allocate(t, login(t, s, turnserver.UDP, "anna"))
	roundTrips(t, relay, peer.LocalAddr(), 10)
	begun := time.Now()
	for range 500 {
		if _, err := relay.WriteTo(make([]byte, 1000), peer.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	rig.Eventually(t, patient, func() error {
		c := s.Counters()
		if n := c.Throttled + c.ToPeers - 10; n < 500 {
			return fmt.Errorf("%d packets came", n)
		}
		return nil
	})
	c := s.Counters()
	allowed := 60 + uint64(100*time.Since(begun).Seconds())
	if n := c.ToPeers + c.FromPeers - 20; n > allowed || c.Throttled == 0 {
		t.Errorf("%d packets were relayed of 500, %d are allowed; counted %+v", n, allowed, c)
	}
	roundTrips(t, allocate(t, login(t, s, turnserver.UDP, "ben")), peer.LocalAddr(), 10)
}

// TestDrain demands that Drain refuses new allocations, and waits for the last one to end.
func TestDrain(t *testing.T) {
	s := start(t, base(t))
	peer := socket(t)
	go echo(peer)
	relay := allocate(t, login(t, s, turnserver.UDP, "anna"))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Drain(t.Context())
	}()
	rig.Eventually(t, patient, func() error {
		late, err := login(t, s, turnserver.UDP, "ben").Allocate()
		if err == nil {
			_ = late.Close()
			return errors.New("a new allocation was made while the server drains")
		}
		return nil
	})
	roundTrips(t, relay, peer.LocalAddr(), 10)
	select {
	case <-ended:
		t.Fatal("Drain did not wait for an allocation")
	default:
	}
	_ = relay.Close()
	select {
	case <-ended:
	case <-time.After(patient):
		t.Fatal("Drain does not return")
	}
}

// TestIPv6Listener lets clients come by IPv6, also to a socket that takes both families. Their relay addresses are IPv4.
func TestIPv6Listener(t *testing.T) {
	for _, listen := range []string{"[::1]:0", "[::]:0"} {
		cfg := base(t)
		cfg.Listen = []turnserver.Listen{{Transport: turnserver.UDP, Addr: netip.MustParseAddrPort(listen)}}
		s := start(t, cfg)
		peer := socket(t)
		go echo(peer)
		port := s.Addrs()[0].(*net.UDPAddr).Port
		for _, host := range []string{"::1", "127.0.0.1"} {
			if listen == "[::1]:0" && host != "::1" {
				continue
			}
			conn, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			username, password := turnserver.Credentials(secret, "anna", time.Hour)
			w := &wire{PacketConn: conn, t: t, server: &net.UDPAddr{IP: net.ParseIP(host), Port: port}}
			w.allocate(username, password)
			w.request(bindType, []stun.Setter{numbered(0x4000), toward(peer.LocalAddr().(*net.UDPAddr).AddrPort())}, w.sign(username, password, realm))
			if answer := w.receive(); code(answer) != 0 {
				t.Fatalf("ChannelBind is answered %v", answer)
			}
			w.comesBack([]byte{0x40, 0, 0, 5, 'h', 'e', 'l', 'l', 'o'})
		}
	}
}

// TestIPv6Relay relays by IPv6 for clients that ask for it, and demands that nothing is relayed from one family to the other.
func TestIPv6Relay(t *testing.T) {
	cfg := base(t)
	cfg.Relays = append(cfg.Relays, turnserver.Relay{Public: netip.IPv6Loopback(), Local: netip.IPv6Loopback()})
	cfg.AllowedPeers = append(cfg.AllowedPeers, peers(t, "::1")...)
	s := start(t, cfg)
	username, password := turnserver.Credentials(secret, "anna", time.Hour)
	const family = stun.AttrRequestedAddressFamily
	for name, test := range map[string]struct {
		family      byte
		host, other string
	}{"IPv4": {1, "127.0.0.1", "::1"}, "IPv6": {2, "::1", "127.0.0.1"}} {
		t.Run(name, func(t *testing.T) {
			peer, err := net.ListenPacket("udp", net.JoinHostPort(test.host, "0"))
			if err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			go echo(peer)
			at := peer.LocalAddr().(*net.UDPAddr).AddrPort()
			other := netip.AddrPortFrom(netip.MustParseAddr(test.other), 9)
			w := newWire(t, s)
			w.getNonce()
			w.request(allocateType, []stun.Setter{attribute(transportUDP), raw(family, test.family, 0, 0, 0)}, w.sign(username, password, realm))
			answer := w.receive()
			var relayed stun.XORMappedAddress
			if err := relayed.GetFromAs(answer, stun.AttrXORRelayedAddress); err != nil || relayed.IP.String() != test.host {
				t.Fatalf("answered %v, %v", answer, err)
			}
			for _, step := range []struct {
				kind  stun.MessageType
				extra []stun.Setter
				want  stun.ErrorCode
			}{
				{permitType, []stun.Setter{toward(other)}, 443},
				{bindType, []stun.Setter{numbered(0x4001), toward(other)}, 443},
				{refreshType, []stun.Setter{raw(family, 3-test.family, 0, 0, 0)}, 443},
				{refreshType, []stun.Setter{raw(family, test.family, 0, 0, 0)}, 0},
				{permitType, []stun.Setter{toward(at)}, 0},
			} {
				w.request(step.kind, step.extra, w.sign(username, password, realm))
				if answer := w.receive(); code(answer) != step.want {
					t.Errorf("%v is answered %v, want %d", step.kind, answer, step.want)
				}
			}
			// First by indications: the one with an unknown comprehension-required attribute is dropped. Then by a channel.
			w.send(stun.NewType(stun.MethodSend, stun.ClassIndication), toward(at), raw(stun.AttrData, []byte("lost")...), raw(0x7fff, 1))
			w.send(stun.NewType(stun.MethodSend, stun.ClassIndication), toward(at), raw(stun.AttrData, []byte("hello")...))
			indication := w.receive()
			data, _ := indication.Get(stun.AttrData)
			var from stun.XORMappedAddress
			if err := from.GetFromAs(indication, stun.AttrXORPeerAddress); err != nil || string(data) != "hello" || from.String() != at.String() {
				t.Errorf("%q came back from %v, %v", data, from, err)
			}
			w.request(bindType, []stun.Setter{numbered(0x4000), toward(at)}, w.sign(username, password, realm))
			if answer := w.receive(); code(answer) != 0 {
				t.Fatalf("ChannelBind is answered %v", answer)
			}
			w.comesBack([]byte{0x40, 0, 0, 5, 'w', 'o', 'r', 'l', 'd'})
		})
	}
}
