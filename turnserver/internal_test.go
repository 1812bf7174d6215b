package turnserver

import (
	"bufio"
	"bytes"
	"encoding/binary"
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
)

func TestParseListen(t *testing.T) {
	for _, text := range []string{"udp://0.0.0.0:3478", "tcp://[::]:3478", "tls://127.0.0.1:0"} {
		if l, err := ParseListen(text); err != nil || l.String() != text {
			t.Errorf("%s becomes %s, %v", text, l, err)
		}
	}
}

func TestLimiter(t *testing.T) {
	now := time.Unix(1000, 0)
	l := newLimiter(now)
	source := netip.MustParseAddr("2001:db8::1")
	take := func(addr netip.Addr) (n int) {
		for l.allow(now, addr) {
			n++
		}
		return n
	}
	if n := take(source); n != limiterBurst {
		t.Errorf("the first burst has %d messages", n)
	}
	// Another address of the same /64 is the same source; an IPv4 address and its mapped form are one.
	if n := take(netip.MustParseAddr("2001:db8::ffff")); n != 0 {
		t.Errorf("a neighbour in the same network has %d messages of its own", n)
	}
	now = now.Add(time.Second)
	if n := take(source); n != limiterRate {
		t.Errorf("a second later %d messages are let in", n)
	}
	now = now.Add(-time.Hour)
	if n := take(source); n != 0 {
		t.Errorf("a clock put back lets %d messages in", n)
	}
	now = now.Add(1000 * time.Hour)
	if n := take(source); n != limiterBurst {
		t.Errorf("a long rest saves up %d messages", n)
	}
	now = now.Add(time.Hour)
	if a, b := take(netip.MustParseAddr("192.0.2.1")), take(netip.MustParseAddr("::ffff:192.0.2.1")); a != limiterBurst || b != 0 {
		t.Errorf("an IPv4 address has %d messages, its mapped form %d more", a, b)
	}
}

func TestReplays(t *testing.T) {
	var r replays
	now := time.Unix(1000, 0)
	a, b := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.1:2")
	d := digest{1}
	if r.foreign(d, a) {
		t.Error("an unknown request is foreign")
	}
	r.add(now, d, a)
	if r.foreign(d, a) || !r.foreign(d, b) {
		t.Error("a request is not its sender's alone")
	}
	r.add(now.Add(nonceTime+1), digest{2}, a)
	if !r.foreign(d, b) {
		t.Error("a request is forgotten before its nonce has surely run out")
	}
	r.add(now.Add(2*nonceTime+2), digest{3}, a)
	if r.foreign(d, b) {
		t.Error("a request is kept for ever")
	}
	for i := range 3 * replaySize {
		var d digest
		binary.BigEndian.PutUint32(d[:], uint32(i))
		r.add(now.Add(3*nonceTime), d, a)
	}
	if n := len(r.young) + len(r.old); n > 2*replaySize {
		t.Errorf("%d requests are kept", n)
	}
}

// bubble is a server without sockets, for tests on a made-up clock.
func bubble(t *testing.T) *Server {
	s, err := New(Config{
		Listen: []Listen{{TCP, netip.MustParseAddrPort("127.0.0.1:0")}}, PublicIP: netip.MustParseAddr("127.0.0.1"),
		Realm: "test", Secret: strings.Repeat("x", minSecret), MaxAllocations: 1, MaxAllocationsPerUser: 1, Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tcpPipe is a stream in memory that comes from an IP address, which pion wants to put into its answers.
type tcpPipe struct{ net.Conn }

func (tcpPipe) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:1000"))
}

// pipe serves one stream in memory and returns the client's end.
func pipe(t *testing.T, s *Server) net.Conn {
	theirs, ours := net.Pipe()
	if err := s.serve(newEndpoint(s, newStream(tcpPipe{ours}, func() {}), s.limiters.streams)); err != nil {
		t.Fatal(err)
	}
	return theirs
}

// TestStreamLoginTime demands that neither silence nor a trickle holds a stream open without a login.
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
				c := pipe(t, s)
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

// TestStreamNotReading demands that a client that takes no answers is cut off.
func TestStreamNotReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := bubble(t)
		c := pipe(t, s)
		begin := time.Now()
		request := stun.MustBuild(stun.TransactionID, stun.BindingRequest)
		var err error
		for err == nil {
			_, err = c.Write(request.Raw)
		}
		if lasted := time.Since(begin); lasted != writeTime {
			t.Errorf("the stream was open for %v", lasted)
		}
		_ = c.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// FuzzMessage compares our look at a message with pion's reading of all of it.
func FuzzMessage(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0}, 24))
	for _, setters := range [][]stun.Setter{
		{stun.BindingRequest},
		{stun.NewType(stun.MethodAllocate, stun.ClassRequest), stun.NewUsername("1:a"), stun.NewShortTermIntegrity("x"), stun.Fingerprint},
		{stun.NewType(stun.MethodAllocate, stun.ClassErrorResponse), stun.CodeUnauthorized},
	} {
		f.Add(stun.MustBuild(append([]stun.Setter{stun.TransactionID}, setters...)...).Raw)
	}
	transport := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest))
	transport.Add(stun.AttrRequestedTransport, []byte{6, 0, 0, 0})
	f.Add(transport.Raw)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, ok := parseRequest(data)
		if !ok && r != (request{}) {
			t.Fatalf("%+v comes with a refusal", r)
		}
		m := &stun.Message{Raw: bytes.Clone(data)}
		if m.Decode() != nil {
			return
		}
		if !ok {
			// We are stricter about lengths and MESSAGE-INTEGRITY only; such messages are dropped.
			return
		}
		if r.isRequest != (m.Type.Class == stun.ClassRequest) ||
			r.allocate != (m.Type == stun.NewType(stun.MethodAllocate, stun.ClassRequest)) {
			t.Fatalf("%+v is read as %+v", m, r)
		}
		if integrity, err := m.Get(stun.AttrMessageIntegrity); (err == nil) != r.signed ||
			(r.signed && !bytes.Equal(integrity, r.integrity[:])) {
			t.Fatalf("MESSAGE-INTEGRITY %x is read as %+v", integrity, r)
		}
		if r.allocate {
			answer := &stun.Message{Raw: unsupportedTransport(data)}
			var code stun.ErrorCodeAttribute
			if err := answer.Decode(); err != nil || code.GetFrom(answer) != nil || code.Code != stun.CodeUnsupportedTransProto ||
				answer.TransactionID != m.TransactionID {
				t.Fatalf("the answer is %v, %v", answer, err)
			}
		}
	})
}

// FuzzStream demands that framing never reads past what came and gives only whole messages, the same however they are cut.
func FuzzStream(f *testing.F) {
	f.Add([]byte{0x40, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0})
	f.Add(stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw)
	f.Add([]byte{0x40, 0, 0xff, 0xff})
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		read := func(r io.Reader) (all []string) {
			s := &stream{Conn: fakeConn{}, reader: bufio.NewReaderSize(r, inboundSize)}
			buffer := make([]byte, inboundSize)
			for {
				n, _, err := s.ReadFrom(buffer)
				if err != nil {
					return all
				}
				all = append(all, string(buffer[:n]))
			}
		}
		whole := read(bytes.NewReader(data))
		total := 0
		for _, m := range whole {
			total += len(m)
			if len(m) >= inboundSize || len(m) < 4 {
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

type fakeConn struct{ net.Conn }

func (fakeConn) RemoteAddr() net.Addr { return &net.TCPAddr{} }

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

// BenchmarkAdmit is what this package adds to each message of a client that is logged in.
func BenchmarkAdmit(b *testing.B) {
	s := &Server{}
	source := netip.MustParseAddrPort("192.0.2.1:1000")
	e := newEndpoint(s, nil, newLimiter(time.Now()))
	e.owner[source] = owner{}
	p := append([]byte{0x40, 0, 0x03, 0xe8}, make([]byte, 1000)...)
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		if !e.admit(now, p, source) {
			b.Fatal("dropped")
		}
	}
}
