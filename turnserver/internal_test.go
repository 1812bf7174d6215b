package turnserver

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/stun/v3"
	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/turnserver/limit"
)

func TestParseListen(t *testing.T) {
	for _, text := range []string{"udp://0.0.0.0:3478", "tcp://[::]:3478", "tls://127.0.0.1:0"} {
		if l, err := ParseListen(text); err != nil || l.String() != text {
			t.Errorf("%s becomes %s, %v", text, l, err)
		}
	}
}

func TestParseRelay(t *testing.T) {
	for text, want := range map[string]string{
		"203.0.113.7": "203.0.113.7 0.0.0.0", "203.0.113.7/10.0.0.5": "203.0.113.7 10.0.0.5", "2001:db8::7": "2001:db8::7 ::",
		"::ffff:203.0.113.7": "203.0.113.7 0.0.0.0",
	} {
		if r, err := ParseRelay(text); err != nil || r.Public.String()+" "+r.Local.String() != want {
			t.Errorf("%s becomes %v, %v", text, r, err)
		}
	}
	for text, want := range map[string]string{
		"":                        `"" is not an address such as 203.0.113.7, or 203.0.113.7/10.0.0.5 behind a one-to-one NAT`,
		"203.0.113.7/":            `"203.0.113.7/" is not an address such as 203.0.113.7, or 203.0.113.7/10.0.0.5 behind a one-to-one NAT`,
		"203.0.113.7/24":          `"203.0.113.7/24" is not an address such as 203.0.113.7, or 203.0.113.7/10.0.0.5 behind a one-to-one NAT`,
		"0.0.0.0":                 `"0.0.0.0": a public address is needed`,
		"203.0.113.7/2001:db8::7": `"203.0.113.7/2001:db8::7": 203.0.113.7 and 2001:db8::7 are not of one family`,
	} {
		if r, err := ParseRelay(text); err == nil || err.Error() != want {
			t.Errorf("%q:\n got %v %v\nwant %s", text, r, err, want)
		}
	}
}

// TestLoginLimit demands that sources without an allocation have their limit, and that a /64 of IPv6 addresses is one source.
func TestLoginLimit(t *testing.T) {
	logins, now := bubble(t).logins.datagrams, time.Unix(1000, 0)
	take := func(text string) (n int) {
		for logins.Allow(now, limit.Source(netip.MustParseAddr(text))) {
			n++
		}
		return n
	}
	if n := take("2001:db8::1"); n != loginBurst {
		t.Errorf("the first burst has %d messages", n)
	}
	// Another address of the same /64 is the same source; an IPv4 address and its mapped form are one.
	if n := take("2001:db8::ffff"); n != 0 {
		t.Errorf("a neighbour in the same network has %d messages of its own", n)
	}
	now = now.Add(time.Second)
	if n := take("2001:db8::1"); n != loginRate {
		t.Errorf("a second later %d messages are let in", n)
	}
	now = now.Add(-time.Hour)
	if n := take("2001:db8::1"); n != 0 {
		t.Errorf("a clock put back lets %d messages in", n)
	}
	now = now.Add(1000 * time.Hour)
	if n := take("2001:db8::1"); n != loginBurst {
		t.Errorf("a long rest saves up %d messages", n)
	}
	now = now.Add(time.Hour)
	if a, b := take("192.0.2.1"), take("::ffff:192.0.2.1"); a != loginBurst || b != 0 {
		t.Errorf("an IPv4 address has %d messages, its mapped form %d more", a, b)
	}
}

// addressed is a connection whose client has a made-up address.
type addressed struct {
	net.Conn
	from netip.AddrPort
}

func (a addressed) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(a.from) }

// connections is a listener that hands out what is sent to it.
type connections chan net.Conn

func (c connections) Accept() (net.Conn, error) {
	if conn, ok := <-c; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}
func (c connections) Close() error   { return nil }
func (c connections) Addr() net.Addr { return &net.TCPAddr{} }

// TestStreamLimitIPv6 demands that streams from one /64 are counted together, whatever their addresses are.
func TestStreamLimitIPv6(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := bubble(t)
		listener := make(connections)
		if !s.track(listener) {
			t.Fatal("the server is closed")
		}
		accepted := make(chan error)
		go func() { accepted <- s.accept(listener, TCP, func(conn net.Conn) net.Conn { return conn }) }()
		connect := func(network uint16, host byte) {
			var ip [16]byte
			copy(ip[:], []byte{0x20, 0x01, 0x0d, 0xb8, 0, 0, byte(network >> 8), byte(network)})
			ip[15] = host
			theirs, ours := net.Pipe()
			t.Cleanup(func() { _ = theirs.Close() })
			listener <- addressed{ours, netip.AddrPortFrom(netip.AddrFrom16(ip), 1000)}
			synctest.Wait()
		}
		for i := range maxSourceStreams {
			connect(1, byte(i))
		}
		if c := s.Counters(); c.Streams != maxSourceStreams || c.RefusedStreams != 0 {
			t.Errorf("%d streams are open, %d were refused", c.Streams, c.RefusedStreams)
		}
		connect(1, 255)
		if c := s.Counters(); c.Streams != maxSourceStreams || c.RefusedStreams != 1 {
			t.Errorf("with one more from the same /64 %d streams are open, %d were refused", c.Streams, c.RefusedStreams)
		}
		connect(2, 255)
		if c := s.Counters(); c.Streams != maxSourceStreams+1 || c.RefusedStreams != 1 {
			t.Errorf("with one from another /64 %d streams are open, %d were refused", c.Streams, c.RefusedStreams)
		}
		close(listener)
		if err := <-accepted; err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if c := s.Counters(); c.Streams != 0 {
			t.Errorf("%d streams are left", c.Streams)
		}
	})
}

func TestNonces(t *testing.T) {
	n, now := newNonces(), time.Unix(1_800_000_000, 0)
	a, b := addrOf(netip.MustParseAddrPort("192.0.2.1:1")), addrOf(netip.MustParseAddrPort("192.0.2.1:2"))
	nonce := n.add(nil, now, a, 0)
	if len(nonce) != nonceSize || !n.valid(nonce, now, a, 0) || !n.valid(nonce, now.Add(nonceLifetime-time.Second), a, 0) {
		t.Errorf("%q is not good for an hour", nonce)
	}
	for what, ok := range map[string]bool{
		"after its time":       n.valid(nonce, now.Add(nonceLifetime), a, 0),
		"long before its time": n.valid(nonce, now.Add(-time.Second), a, 0),
		"from another port":    n.valid(nonce, now, b, 0),
		"from a stream":        n.valid(nonce, now, a, 1),
		"at another server":    newNonces().valid(nonce, now, a, 0),
		"when empty":           n.valid(nil, now, a, 0),
		"when longer":          n.valid(append(bytes.Clone(nonce), 'A'), now, a, 0),
	} {
		if ok {
			t.Errorf("a nonce is good %s", what)
		}
	}
	for i := range nonce {
		forged := bytes.Clone(nonce)
		if forged[i]++; n.valid(forged, now, a, 0) {
			t.Errorf("%q is taken for %q", forged, nonce)
		}
	}
}

// bubble makes a server without sockets, for tests inside a synctest bubble.
func bubble(t *testing.T) *Server {
	s, err := New(Config{
		Listen: []Listen{{TCP, netip.MustParseAddrPort("127.0.0.1:0")}}, Relays: []Relay{{Public: netip.MustParseAddr("127.0.0.1")}},
		Realm: "test", Secret: strings.Repeat("x", minSecret), MaxAllocations: 1, MaxAllocationsPerUser: 1, Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// pipe serves one stream in memory and returns the client's end.
func pipe(s *Server) net.Conn {
	theirs, ours := net.Pipe()
	s.serve(addressed{ours, netip.MustParseAddrPort("192.0.2.1:1000")}, TCP, func() {})
	return theirs
}

// TestStreamLoginTime demands that neither silence nor a trickle of bytes keeps a stream open that does not log in.
func TestStreamLoginTime(t *testing.T) {
	for name, send := range map[string]func(net.Conn){
		"silence": func(net.Conn) {},
		"a trickle": func(c net.Conn) {
			// An Allocate request, a byte a second.
			request := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest))
			for _, b := range request.Raw {
				<-time.After(time.Second) // on the bubble's clock
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
			}
		},
		"requests for ever": func(c net.Conn) {
			for {
				request := stun.MustBuild(stun.TransactionID, stun.BindingRequest)
				if _, err := c.Write(request.Raw); err != nil {
					return
				}
				<-time.After(time.Second)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := bubble(t)
				c := pipe(s)
				begin := time.Now()
				var sending sync.WaitGroup
				sending.Go(func() { send(c) })
				_, _ = io.Copy(io.Discard, c) // until the server hangs up
				if lasted := time.Since(begin); lasted != loginTime {
					t.Errorf("the stream was open for %v", lasted)
				}
				_ = c.Close()
				sending.Wait()
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestStreamNotReading demands that the stream of a client that reads no answers is closed.
func TestStreamNotReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := bubble(t)
		c := pipe(s)
		begin := time.Now()
		request := stun.MustBuild(stun.TransactionID, stun.BindingRequest)
		var err error
		for err == nil {
			<-time.After(100 * time.Millisecond) // on the bubble's clock, which moves only while everybody waits
			_, err = c.Write(request.Raw)
		}
		if lasted := time.Since(begin).Round(time.Second); lasted != writeTime {
			t.Errorf("the stream was open for %v", lasted)
		}
		_ = c.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestReservationTime demands that a reserved port is kept for 30 seconds, and that its socket and its quota are free afterwards.
func TestReservationTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := bubble(t)
		s.cfg.MaxAllocations, s.cfg.MaxAllocationsPerUser = 4, 4
		go s.sweep()
		reserve := func() (own *reservation, token [tokenSize]byte) {
			own, text, code := s.socketFor(time.Now(), &message{evenPort: true, reserve: true}, familyIPv4, "anna")
			if code != 0 {
				t.Fatal(code)
			}
			return own, [tokenSize]byte(text)
		}
		own, token := reserve()
		<-time.After(reservationLifetime - time.Second)
		if r := s.redeem(time.Now(), token, "anna"); r == nil {
			t.Error("it is gone before its time")
		} else {
			closeSocket(r.fd)
		}
		closeSocket(own.fd)
		s.releaseQuota(own.quota, 2)
		own, token = reserve()
		if r := s.redeem(time.Now().Add(reservationLifetime), token, "anna"); r != nil {
			t.Error("it is handed out after its time")
		}
		<-time.After(reservationLifetime + time.Second)
		fd, err := newSocket(netip.AddrPortFrom(netip.IPv4Unspecified(), own.relayed.Port()+1), forRelay)
		if err != nil {
			t.Errorf("its port is taken for ever: %v", err)
		}
		closeSocket(fd)
		closeSocket(own.fd)
		s.releaseQuota(own.quota, 1)
		if len(s.quotas) != 0 || s.total != 0 {
			t.Errorf("%d allocations are still counted", s.total)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestIdle demands that a user with many allocations loses those through which nothing goes to a peer, and no others: a client whose address changes
// can't close what it had. A user with few loses none.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := bubble(t)
		s.cfg.MaxAllocations, s.cfg.MaxAllocationsPerUser = 16, 4
		l, err := s.newLoop()
		if err != nil {
			t.Fatal(err)
		}
		defer l.close()
		u := &udpSocket{fd: -1, clients: make(map[addr]*client)}
		l.sockets = append(l.sockets, u)
		port := uint16(0)
		adopt := func(user string) *allocation {
			port++
			c := &client{source: addrOf(netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port)), loop: l, socket: u}
			if code := s.handleAllocate(time.Now(), c, &message{transport: protocolUDP, transaction: make([]byte, 16)}, nil, user); code != 0 {
				t.Fatalf("an allocation for %s: %d", user, code)
			}
			return c.alloc
		}
		few := []*allocation{adopt("ben"), adopt("ben")}
		adopt("anna")
		adopt("anna")
		used := adopt("anna")
		for range 2 * idleTime / sweepEvery {
			<-time.After(sweepEvery)
			used.toPeers.Add(20)
			l.sweep()
		}
		if held := s.quotas["anna"].allocations; held != 2 || l.relays[used.fd] != used {
			t.Errorf("of two idle allocations and one in use, %d are left", held)
		}
		for range 2 { // at once: the place is there without waiting
			adopt("anna")
		}
		for range idleTime/sweepEvery - 1 {
			<-time.After(sweepEvery)
			l.sweep()
		}
		if held := s.quotas["anna"].allocations; held < 3 {
			t.Errorf("a new allocation ended before it was idle: %d are left", held)
		}
		for _, a := range few {
			if l.relays[a.fd] != a {
				t.Error("a user with few allocations lost one")
			}
		}
	})
}

// FuzzMessage compares our reading of a message with pion's.
func FuzzMessage(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0}, 24))
	for _, setters := range [][]stun.Setter{
		{stun.BindingRequest},
		{stun.NewType(stun.MethodAllocate, stun.ClassRequest), stun.NewUsername("1:a"), stun.NewShortTermIntegrity("x"), stun.Fingerprint},
		{stun.NewType(stun.MethodAllocate, stun.ClassErrorResponse), stun.CodeUnauthorized},
		{stun.NewType(stun.MethodSend, stun.ClassIndication), stun.XORMappedAddress{IP: net.IPv6loopback, Port: 9}},
	} {
		f.Add(stun.MustBuild(append([]stun.Setter{stun.TransactionID}, setters...)...).Raw)
	}
	for kind, value := range map[stun.AttrType][]byte{
		stun.AttrRequestedTransport: {6, 0, 0, 0}, stun.AttrLifetime: {0, 0, 2, 88}, stun.AttrChannelNumber: {0x40, 1, 0, 0},
		stun.AttrXORPeerAddress: {0, 1, 0x12, 0x34, 1, 2, 3, 4}, stun.AttrEvenPort: {0x80}, stun.AttrData: []byte("data"),
	} {
		m := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodChannelBind, stun.ClassRequest))
		m.Add(kind, value)
		f.Add(m.Raw)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var ours message
		ok := ours.parse(data)
		m := &stun.Message{Raw: bytes.Clone(data)}
		if m.Decode() != nil {
			return
		}
		if !ok {
			// We are stricter than pion about lengths and MESSAGE-INTEGRITY, and drop such messages.
			return
		}
		if want := stun.NewType(stun.Method(ours.method), map[uint16]stun.MessageClass{
			classRequest: stun.ClassRequest, classIndication: stun.ClassIndication, classSuccess: stun.ClassSuccessResponse,
			classError: stun.ClassErrorResponse,
		}[ours.class]); m.Type != want {
			t.Fatalf("%v is read as %v", m.Type, want)
		}
		integrity, err := m.Get(stun.AttrMessageIntegrity)
		if (err == nil) != ours.signed || ours.signed && !bytes.Equal(integrity, ours.integrity) {
			t.Fatalf("MESSAGE-INTEGRITY %x is read as %x", integrity, ours.integrity)
		}
		before := bytes.Clone(data)
		key := stun.NewShortTermIntegrity("x")
		if ours.signed && ours.verify(key) != (key.Check(m) == nil) {
			t.Fatal("the signature is judged otherwise")
		}
		if !bytes.Equal(before, data) {
			t.Fatal("reading changed the message")
		}
		if !ours.signed { // in a signed message only what comes before the signature counts
			if username, err := m.Get(stun.AttrUsername); (err == nil) != (ours.username != nil) || !bytes.Equal(username, ours.username) {
				t.Fatalf("USERNAME %q is read as %q", username, ours.username)
			}
			var peer stun.XORMappedAddress
			// The first byte is to be ignored (RFC 8489, section 14.2); pion takes it for part of the family.
			if value, _ := m.Get(stun.AttrXORPeerAddress); ours.peerCount == 1 && !ours.malformed && value[0] == 0 {
				if err := peer.GetFromAs(m, stun.AttrXORPeerAddress); err != nil || peer.Port != int(ours.peers[0].Port()) ||
					!peer.IP.Equal(ours.peers[0].Addr().AsSlice()) {
					t.Fatalf("XOR-PEER-ADDRESS %v, %v is read as %v", peer, err, ours.peers[0])
				}
			}
		}
		// pion can read our answer.
		reply := ours.refuse(nil, codeUnsupportedTransport)
		reply.addXOR(attrXORMappedAddress, netip.MustParseAddrPort("192.0.2.1:1000"))
		answer := &stun.Message{Raw: reply.done(key)}
		var code stun.ErrorCodeAttribute
		var mapped stun.XORMappedAddress
		if err := answer.Decode(); err != nil || code.GetFrom(answer) != nil || code.Code != stun.CodeUnsupportedTransProto ||
			answer.TransactionID != m.TransactionID || mapped.GetFrom(answer) != nil || mapped.String() != "192.0.2.1:1000" ||
			key.Check(answer) != nil {
			t.Fatalf("the answer is %v, %v", answer, err)
		}
	})
}

// FuzzStream demands that framing returns only whole messages of what came, and the same messages however the bytes are cut.
func FuzzStream(f *testing.F) {
	f.Add([]byte{0x40, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0})
	f.Add(stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw)
	f.Add([]byte{0x40, 0, 0xff, 0xff})
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		read := func(r io.Reader) (all []string) {
			s := &stream{reader: bufio.NewReaderSize(r, inboundSize)}
			buffer := make([]byte, inboundSize)
			for {
				p, err := s.next(buffer)
				if err != nil {
					return all
				}
				all = append(all, string(p))
			}
		}
		whole := read(bytes.NewReader(data))
		total := 0
		for _, m := range whole {
			total += len(m)
			if len(m) > inboundSize || len(m) < 4 {
				t.Fatalf("a message of %d bytes", len(m))
			}
		}
		if total > len(data) {
			t.Fatalf("%d bytes came of %d", total, len(data))
		}
		if cut := read(oneByte{bytes.NewReader(data)}); strings.Join(cut, "|") != strings.Join(whole, "|") {
			t.Fatal("the messages depend on how the stream is cut")
		}
	})
}

// oneByte reads a byte at a time.
type oneByte struct{ io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.Reader.Read(p[:min(1, len(p))]) }

// FuzzUsername demands that a user name means one time and one name.
func FuzzUsername(f *testing.F) {
	for _, seed := range []string{"1700000000:anna", "1:a:b", "1", ":", "", "+1:a", "99999999999999999999:a", strings.Repeat("1", 600)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, username string) {
		expiry, name, err := parseUsername(username)
		if err != nil {
			if !expiry.IsZero() || name != "" {
				t.Fatalf("%q gives %v, %q and %v", username, expiry, name, err)
			}
			return
		}
		if name == "" || !strings.HasSuffix(username, name) || expiry.Unix() < 0 || len(username) > maxUsername {
			t.Fatalf("%q gives %v, %q", username, expiry, name)
		}
	})
}
