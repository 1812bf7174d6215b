//go:build full

package load

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/stun/v3"
	"golang.org/x/sys/unix"
)

// scriptedServer is a TURN server whose answers a test defines. It serves one client.
type scriptedServer struct {
	net.PacketConn
	t       *testing.T
	ended   sync.WaitGroup
	relay   func(number int, p []byte) [][]byte           // the packets to relay for the ChannelData message with this number
	answer  func(method stun.Method, n int) []stun.Setter // the answer to request n (from 0) of a method; nil for success
	methods map[stun.Method]int                           // requests by method; read it only after end
}

func start(t *testing.T, s *scriptedServer) *scriptedServer {
	var err error
	if s.PacketConn, err = net.ListenPacket("udp4", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	s.t, s.methods = t, make(map[stun.Method]int)
	s.ended.Go(s.serve)
	t.Cleanup(s.end)
	return s
}

func (s *scriptedServer) end() {
	_ = s.Close()
	s.ended.Wait()
}

func (s *scriptedServer) config() Config {
	return Config{
		Server: s.LocalAddr().(*net.UDPAddr).AddrPort(), Allocations: 1,
		Credentials: func(int) (string, string) { return "user", "password" },
	}
}

var integrity = stun.NewLongTermIntegrity("user", "script", "password")

func (s *scriptedServer) serve() {
	buffer := make([]byte, 2048)
	relay, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		s.t.Error(err)
		return
	}
	var back sync.WaitGroup
	defer func() { _ = relay.Close(); back.Wait() }()
	var peer net.Addr
	var messages int
	for {
		n, client, err := s.ReadFrom(buffer)
		if err != nil {
			return
		}
		if buffer[0]&0xc0 == 0x40 {
			for _, p := range s.relay(messages, buffer[4:n]) {
				_, _ = relay.WriteTo(p, peer)
			}
			messages++
			continue
		}
		m := &stun.Message{Raw: append([]byte(nil), buffer[:n]...)}
		if err := m.Decode(); err != nil {
			s.t.Error(err)
			continue
		}
		count := s.methods[m.Type.Method]
		s.methods[m.Type.Method]++
		setters := []stun.Setter{stun.NewTransactionIDSetter(m.TransactionID), stun.NewType(m.Type.Method, stun.ClassErrorResponse)}
		var scripted []stun.Setter
		if s.answer != nil {
			scripted = s.answer(m.Type.Method, count)
		}
		switch {
		case scripted != nil:
			setters = append(setters, scripted...)
		case !m.Contains(stun.AttrMessageIntegrity):
			setters = append(setters, stun.CodeUnauthorized, stun.NewRealm("script"), stun.NewNonce("first"))
		default:
			if err := integrity.Check(m); err != nil {
				s.t.Error(err)
			}
			setters[1] = stun.NewType(m.Type.Method, stun.ClassSuccessResponse)
			if m.Type.Method == stun.MethodAllocate {
				setters = append(setters, relayed{Port: 1000, IP: net.IPv4(127, 0, 0, 1)})
			}
			if m.Type.Method == stun.MethodChannelBind && peer == nil {
				var a stun.XORMappedAddress
				if err := a.GetFromAs(m, stun.AttrXORPeerAddress); err != nil {
					s.t.Error(err)
				}
				peer = &net.UDPAddr{IP: a.IP, Port: a.Port}
				back.Go(func() { s.relayBack(relay, client) })
			}
			setters = append(setters, integrity)
		}
		_, _ = s.WriteTo(stun.MustBuild(setters...).Raw, client)
	}
}

// relayBack relays the peer's packets to the client.
func (s *scriptedServer) relayBack(relay net.PacketConn, client net.Addr) {
	buffer := make([]byte, 2048)
	for {
		n, _, err := relay.ReadFrom(buffer[4:])
		if err != nil {
			return
		}
		binary.BigEndian.PutUint16(buffer, channelNumber)
		binary.BigEndian.PutUint16(buffer[2:], uint16(n))
		_, _ = s.WriteTo(buffer[:4+n], client)
	}
}

type relayed stun.XORMappedAddress

func (r relayed) AddTo(m *stun.Message) error {
	return stun.XORMappedAddress(r).AddToAs(m, stun.AttrXORRelayedAddress)
}

// TestStaleNonce checks that the client replaces a stale nonce, and gives up if the nonce is always stale.
func TestStaleNonce(t *testing.T) {
	stale := []stun.Setter{stun.CodeStaleNonce, stun.NewRealm("script"), stun.NewNonce("second")}
	s := start(t, &scriptedServer{answer: func(m stun.Method, n int) []stun.Setter {
		if m == stun.MethodChannelBind && n == 0 || m == stun.MethodRefresh {
			return stale
		}
		return nil
	}})
	c, err := Open(s.config())
	if err != nil {
		t.Fatal(err)
	}
	if nonce := c.allocations[0].nonce.String(); nonce != "second" {
		t.Errorf("the nonce is %q", nonce)
	}
	if err := c.Close(); err == nil || !strings.Contains(err.Error(), "stale again and again") {
		t.Errorf("a nonce that is always stale gives %v", err)
	}
}

// TestBadResponses checks that the client rejects a response without a valid MESSAGE-INTEGRITY, and reports error responses.
func TestBadResponses(t *testing.T) {
	for want, answer := range map[string][]stun.Setter{
		"Allocate is refused: 486 Allocation Quota Reached": {stun.CodeAllocQuotaReached},
		"signature":               {stun.NewType(stun.MethodAllocate, stun.ClassSuccessResponse)},
		"without what to sign":    {stun.CodeUnauthorized},
		"an error without a code": {stun.NewRealm("script")},
	} {
		s := start(t, &scriptedServer{answer: func(stun.Method, int) []stun.Setter { return answer }})
		if c, err := Open(s.config()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", want, c, err)
		}
		s.end()
	}
}

// TestLoss checks that the client distinguishes lost, duplicated and corrupted packets.
func TestLoss(t *testing.T) {
	s := start(t, &scriptedServer{relay: func(n int, p []byte) [][]byte {
		switch n % 5 {
		case 0:
			return nil
		case 1:
			return [][]byte{p[:len(p)-1]}
		case 2:
			return [][]byte{p, p}
		}
		return [][]byte{p}
	}})
	c, err := Open(s.config())
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Run(Traffic{Payload: 100, Rate: 1000, Burst: 2, Packets: 100})
	if err != nil {
		t.Fatal(err)
	}
	// 20 packets are lost, 20 are corrupted, 20 come twice. The duplicates that come back are unexpected, and do not count in Received.
	if r.Sent != 100 || r.Lost() != 40 || r.Received != 60 || len(r.RoundTrips) != 60 || r.Echoed != 80 || r.Unexpected != 40 || r.Dropped != 0 {
		r.RoundTrips = nil
		t.Errorf("%+v, %d lost", r, r.Lost())
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// TestRenew checks that a run refreshes allocations and channels that are too old.
func TestRenew(t *testing.T) {
	s := start(t, &scriptedServer{relay: func(_ int, p []byte) [][]byte { return [][]byte{p} }})
	c, err := Open(s.config())
	if err != nil {
		t.Fatal(err)
	}
	for _, age := range []time.Duration{0, renewAfter} {
		c.renewed = c.renewed.Add(-age)
		if _, err := c.Run(Traffic{Payload: 100, Rate: 1000, Burst: 1, Packets: 10}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	s.end()
	if s.methods[stun.MethodChannelBind] != 2 || s.methods[stun.MethodRefresh] != 2 {
		t.Errorf("the server was asked %v", s.methods)
	}
}

// TestRetransmission checks that the client sends a request again when no answer comes, and ignores packets that are no answer.
func TestRetransmission(t *testing.T) {
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	fd, err := socket(netip.MustParseAddr("127.0.0.1"), clientBuffer)
	if err != nil {
		t.Fatal(err)
	}
	from, err := localAddr(fd)
	if err != nil {
		t.Fatal(err)
	}
	c := &Client{cfg: Config{}, allocations: []*allocation{{fd: fd}}, peer: -1, timer: -1, poll: -1}
	if err := connect(fd, silent.LocalAddr().(*net.UDPAddr).AddrPort()); err != nil {
		t.Fatal(err)
	}
	_ = silent.SetReadDeadline(time.Now().Add(20 * time.Second))
	var answered sync.WaitGroup
	answered.Go(func() {
		buffer := make([]byte, 2048)
		for i := range 2 {
			n, _, err := silent.ReadFrom(buffer)
			if err != nil {
				t.Error(err)
				return
			}
			if i == 1 {
				_, _ = silent.WriteTo([]byte("noise"), net.UDPAddrFromAddrPort(from))
				_, _ = silent.WriteTo(buffer[:n], net.UDPAddrFromAddrPort(from))
			}
		}
	})
	request := stun.MustBuild(stun.TransactionID, stun.BindingRequest)
	begun := time.Now()
	m, err := c.allocations[0].exchange(request)
	if err != nil || m.TransactionID != request.TransactionID || time.Since(begun) < firstTimeout {
		t.Errorf("answered %v, %v after %v", m, err, time.Since(begun))
	}
	answered.Wait()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// toPeer makes a client that has only the peer's socket, and a connection to it.
func toPeer(t *testing.T, buffer int) (*Client, *net.UDPConn) {
	t.Helper()
	fd, err := socket(netip.MustParseAddr("127.0.0.1"), buffer)
	if err != nil {
		t.Fatal(err)
	}
	to, err := localAddr(fd)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &Client{peer: fd, timer: -1, poll: -1}, conn
}

// TestDropped checks that drops counts the packets for which a receive buffer had no space.
func TestDropped(t *testing.T) {
	c, conn := toPeer(t, 1)
	fd := c.peer
	const sent = 100
	for range sent {
		if _, err := conn.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	n, err := c.drops()
	if err != nil {
		t.Fatal(err)
	}
	came := 0
	for b := newBatch(batchSize, 2048); ; {
		n, err := b.receive(fd)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		came += n
	}
	if n == 0 || int(n)+came != sent {
		t.Errorf("of %d packets %d were dropped and %d came", sent, n, came)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// TestKernelTimestamps checks that a packet's time stamp is the time of its arrival, not the time when it is read.
func TestKernelTimestamps(t *testing.T) {
	c, conn := toPeer(t, clientBuffer)
	fd := c.peer
	before := time.Now()
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	sent := time.Now()
	<-time.After(30 * time.Millisecond)
	b := newBatch(2, 100)
	n, err := b.receive(fd)
	if err != nil || n != 1 || string(b.packet(0)) != "x" {
		t.Fatalf("%d packets, %v", n, err)
	}
	came := time.Unix(0, b.arrived(0, time.Now().UnixNano()))
	if came.Before(before.Add(-time.Millisecond)) || came.After(sent.Add(10*time.Millisecond)) {
		t.Errorf("sent between %v and %v, it came at %v", before, sent, came)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// TestPacer checks the rate, and that no large burst follows a pause.
func TestPacer(t *testing.T) {
	begun := time.Unix(1000, 0)
	p := pacer{begun, Traffic{Rate: 1000, Burst: 5, Packets: 10000}}
	sent := 0
	step := func(d time.Duration) (n int) {
		begun = begun.Add(d)
		n = p.due(begun, sent) - sent
		sent += n
		return n
	}
	for range 100 {
		if n := step(time.Millisecond); n != 1 {
			t.Fatalf("%d packets are due in a millisecond", n)
		}
	}
	if n := step(3 * time.Millisecond); n != 3 {
		t.Errorf("%d packets are due after 3 ms", n)
	}
	if n, most := step(time.Second), int(maxLate/time.Millisecond)+5; n != most {
		t.Errorf("%d packets are due at once after a second's pause, not %d", n, most)
	}
	if n := step(8 * time.Millisecond); n != 8 {
		t.Errorf("%d packets are due in the 8 ms after that", n)
	}
	for range 2000 {
		step(10 * time.Millisecond)
	}
	if sent != 10000 {
		t.Errorf("%d packets were due in the end", sent)
	}
}

// TestClientDelay checks that a round-trip time does not include the time in which this client notices and answers a packet.
func TestClientDelay(t *testing.T) {
	c, err := Open(Config{Allocations: 1})
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.newRun(Traffic{Payload: 100, Rate: 1, Burst: 1, Packets: 1})
	if err != nil {
		t.Fatal(err)
	}
	begun, waited := time.Now(), time.Duration(0)
	for _, step := range []func() error{
		func() error { return r.send(1) }, r.echo, func() error { return r.receive(c.allocations[0].fd) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		waiting := time.Now()
		<-time.After(200 * time.Millisecond)
		waited += time.Since(waiting)
	}
	if all := time.Since(begun); r.Received != 1 || r.Quantile(0.5) > all-waited {
		t.Errorf("%d packets came back, after %v, %v of %v were spent waiting", r.Received, r.RoundTrips, waited, all)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// TestClientLoss checks that Dropped counts the packets for which the client's receive buffers had no space.
func TestClientLoss(t *testing.T) {
	c, err := Open(Config{Allocations: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptInt(c.peer, unix.SOL_SOCKET, unix.SO_RCVBUF, 1); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second run must not count the drops of the first
		r, err := c.Run(Traffic{Payload: 1000, Rate: 1000, Burst: 50, Packets: 50})
		if err != nil {
			t.Fatal(err)
		}
		if r.Lost() == 0 || r.Dropped != r.Lost() {
			t.Errorf("%d packets are lost, %d of them here", r.Lost(), r.Dropped)
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
