package inbound_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/turn/v4"
	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/bridge/hub/inbound"
	"multifactorymodel.org/ewindow/turnserver"
)

const (
	secret   = "0123456789abcdef"
	webName  = "hub.example.org"
	turnName = "turn.example.org"
	check    = "acme-tls/1"
	patient  = 10 * time.Second // the limit for what must come at once, on a busy machine, too
)

// identity returns a self-signed certificate for both names, and a pool that trusts it.
var identity = sync.OnceValues(func() (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hub"}, DNSNames: []string{webName, turnName},
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC), // synctest begins in 2000
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
})

// serverTLS returns the TLS configuration of a hub.
func serverTLS() *tls.Config {
	pair, _ := identity()
	return &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1", check}}
}

// clientTLS returns the TLS configuration of a client that asks for name and offers protocols.
func clientTLS(name string, protocols ...string) *tls.Config {
	_, pool := identity()
	return &tls.Config{RootCAs: pool, ServerName: name, NextProtos: protocols}
}

// hub is a port with both servers behind it.
type hub struct {
	*inbound.Port
	relay *turnserver.Server
	addr  *net.TCPAddr
	end   func() // ends the port, and checks that it waits for all of its goroutines
}

func startHub(t *testing.T, change ...func(*inbound.Config)) *hub {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := inbound.Config{Listener: l, TLS: serverTLS(), TURNName: turnName, Log: zerolog.Nop()}
	for _, c := range change {
		c(&cfg)
	}
	h := &hub{addr: l.Addr().(*net.TCPAddr), Port: inbound.New(cfg)}
	h.end = run(t, h.Port)
	peer, err := turnserver.ParsePeer("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	h.relay, err = turnserver.New(turnserver.Config{
		Listen: []turnserver.Listen{{Transport: turnserver.UDP, Addr: netip.MustParseAddrPort("127.0.0.1:0")}},
		Relays: []turnserver.Relay{{Public: netip.MustParseAddr("127.0.0.1"), Local: netip.MustParseAddr("127.0.0.1")}}, Realm: "ewindow.test", Secret: secret,
		AllowedPeers: []turnserver.Peer{peer}, MaxAllocations: 20, MaxAllocationsPerUser: 20, Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.relay.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var servers sync.WaitGroup
	servers.Go(func() {
		if err := h.relay.Serve(h.TURN(), turnserver.TLS); err != nil && !errors.Is(err, net.ErrClosed) { // a short test may close the listener before Serve has begun
			t.Error(err)
		}
	})
	web := &http.Server{Handler: http.HandlerFunc(answer), TLSConfig: serverTLS()}
	servers.Go(func() {
		if err := web.Serve(h.HTTP()); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		_ = web.Close()
		_ = h.relay.Close()
		servers.Wait()
	})
	return h
}

// run lets a port run until the returned function is called, or the test ends.
func run(t *testing.T, p *inbound.Port) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	end = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run returned %v", err)
			}
		case <-time.After(patient):
			t.Error("Run does not end")
		}
	})
	t.Cleanup(end)
	return end
}

// answer is the handler of the HTTPS server: it says what it got, and echoes on a WebSocket.
func answer(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/socket" {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s from %s: %s", r.Proto, r.RemoteAddr, body)
		return
	}
	socket, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer socket.CloseNow()
	for {
		kind, message, err := socket.Read(r.Context())
		if err != nil || socket.Write(r.Context(), kind, message) != nil {
			return
		}
	}
}

// webClient makes an HTTP client of the hub with a TLS configuration.
func (h *hub) webClient(t *testing.T, cfg *tls.Config) *http.Client {
	transport := &http.Transport{
		TLSClientConfig: cfg, ForceAttemptHTTP2: len(cfg.NextProtos) > 0 && cfg.NextProtos[0] == "h2",
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", h.addr.String())
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patient}
}

// TestHTTPS reaches the HTTPS server as browsers do, and as tools without ALPN do.
func TestHTTPS(t *testing.T) {
	h := startHub(t)
	for name, test := range map[string]struct {
		protocols []string
		want      string
	}{
		"HTTP/2": {[]string{"h2", "http/1.1"}, "HTTP/2.0"}, "HTTP/1.1": {[]string{"http/1.1"}, "HTTP/1.1"}, "no ALPN": {nil, "HTTP/1.1"},
	} {
		client := h.webClient(t, clientTLS(webName, test.protocols...))
		body := strings.Repeat("x", 100_000)
		for range 3 { // on one connection
			answer, err := client.Post("https://"+webName+"/", "text/plain", strings.NewReader(body))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got, err := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if err != nil || !strings.HasPrefix(string(got), test.want+" from 127.0.0.1:") || !strings.HasSuffix(string(got), body) {
				t.Errorf("%s: %v, %.60s", name, err, got)
			}
		}
	}
	if c := h.relay.Counters(); c.Streams != 0 {
		t.Errorf("%d connections came to the relay", c.Streams)
	}
}

// TestWebSocket sends on a WebSocket, as LiveKit's clients do for signalling.
func TestWebSocket(t *testing.T) {
	h := startHub(t)
	for _, protocols := range [][]string{{"http/1.1"}, nil} {
		socket, _, err := websocket.Dial(t.Context(), "wss://"+webName+"/socket", &websocket.DialOptions{
			HTTPClient: h.webClient(t, clientTLS(webName, protocols...)),
		})
		if err != nil {
			t.Fatalf("ALPN %v: %v", protocols, err)
		}
		for i := range 100 {
			want := fmt.Sprintf("message %d", i)
			if err := socket.Write(t.Context(), websocket.MessageText, []byte(want)); err != nil {
				t.Fatal(err)
			}
			if _, got, err := socket.Read(t.Context()); err != nil || string(got) != want {
				t.Fatalf("%q came back as %q, %v", want, got, err)
			}
		}
		_ = socket.CloseNow()
	}
}

// echo opens a peer's socket that sends everything back, and returns its address.
func echo(t *testing.T) net.Addr {
	t.Helper()
	peer, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = peer.Close() })
	go func() {
		buffer := make([]byte, 2000)
		for {
			n, from, err := peer.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = peer.WriteTo(buffer[:n], from)
		}
	}()
	return peer.LocalAddr()
}

// relayed sends packets through the relay on a connection, and checks that all of them come back.
func relayed(t *testing.T, conn net.Conn, peer net.Addr) {
	t.Helper()
	username, password := turnserver.Credentials(secret, "anna", time.Hour)
	server := conn.RemoteAddr().String()
	c, err := turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: server, Conn: turn.NewSTUNConn(conn), Username: username, Password: password, RTO: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Listen(); err != nil {
		t.Fatal(err)
	}
	relay, err := c.Allocate()
	if err != nil {
		t.Fatal(err)
	}
	defer relay.Close()
	buffer := make([]byte, 2000)
	for i := range 20 {
		want := fmt.Sprintf("packet %d", i)
		if _, err := relay.WriteTo([]byte(want), peer); err != nil {
			t.Fatal(err)
		}
		_ = relay.SetReadDeadline(time.Now().Add(patient))
		if n, _, err := relay.ReadFrom(buffer); err != nil || string(buffer[:n]) != want {
			t.Fatalf("%q came back as %q, %v", want, buffer[:n], err)
		}
	}
}

// TestTURN reaches the relay in each way in which a client can show that it wants TURN.
func TestTURN(t *testing.T) {
	h := startHub(t)
	peer := echo(t)
	for name, cfg := range map[string]*tls.Config{
		"first byte":              clientTLS(webName),
		"ALPN":                    clientTLS(webName, "stun.turn"),
		"ALPN of STUN":            clientTLS(webName, "stun.nat-discovery"),
		"ALPN of coturn's client": clientTLS(webName, "http/1.1", "stun.turn", "stun.nat-discovery"),
		"name":                    clientTLS(turnName),
		"name in capitals":        clientTLS("TURN.example.org"),
		"name and ALPN":           clientTLS(turnName, "stun.turn"),
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := tls.Dial("tcp", h.addr.String(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			relayed(t, conn, peer)
		})
	}
}

// TestRefused checks that connections for neither server are closed at once, and that the port goes on.
func TestRefused(t *testing.T) {
	h := startHub(t)
	for name, say := range map[string]func(net.Conn) error{
		"no TLS": func(c net.Conn) error { _, err := c.Write([]byte("GET / HTTP/1.1\r\n\r\n")); return err },
		"garbage": func(c net.Conn) error {
			_, err := c.Write(bytes.Repeat([]byte{0xff}, 2000))
			return err
		},
		"garbage within TLS": func(c net.Conn) error {
			over := tls.Client(c, clientTLS(webName))
			_, err := over.Write([]byte{0xff, 0, 0, 0})
			return err
		},
		"channel data before anything": func(c net.Conn) error {
			over := tls.Client(c, clientTLS(webName))
			_, err := over.Write([]byte{0x40, 0, 0, 4, 1, 2, 3, 4})
			return err
		},
		"an authority's check": func(c net.Conn) error { return tls.Client(c, clientTLS(webName, check)).Handshake() },
		"an authority's check of the relay's name": func(c net.Conn) error {
			return tls.Client(c, clientTLS(turnName, check)).Handshake()
		},
	} {
		conn, err := net.Dial("tcp", h.addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := say(conn); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(patient / 2)) // far less than a silent client has
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection stays open", name)
		}
	}
	if conn, err := tls.Dial("tcp", h.addr.String(), clientTLS(turnName, "h2", "http/1.1")); err == nil {
		_ = conn.Close()
		t.Error("a browser that asks for the relay's name is let in")
	}
	if answer, err := h.webClient(t, clientTLS(webName)).Get("https://" + webName); err != nil {
		t.Error(err)
	} else {
		_ = answer.Body.Close()
	}
}

// TestOneSide closes one server's listener, and checks that the other server goes on.
func TestOneSide(t *testing.T) {
	h := startHub(t)
	if err := h.TURN().Close(); err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", h.addr.String(), clientTLS(turnName))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(patient / 2))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a client of a relay that has ended gets %v", err)
	}
	answer, err := h.webClient(t, clientTLS(webName)).Get("https://" + webName)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
}

// TestEnd checks that Run ends even if clients are silent at each step, and even if no server accepts.
func TestEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	end := run(t, inbound.New(inbound.Config{Listener: l, TLS: serverTLS(), Log: zerolog.Nop()}))
	for _, cfg := range []*tls.Config{nil, clientTLS(webName), clientTLS(webName, "h2")} {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if cfg != nil {
			if err := tls.Client(conn, cfg).Handshake(); err != nil {
				t.Fatal(err)
			}
		}
	}
	end()
	if conn, err := net.Dial("tcp", l.Addr().String()); err == nil {
		_ = conn.Close()
		t.Error("the port is still open")
	}
}

// pipes is a listener in memory, for tests inside a synctest bubble.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.conns <- theirs
	return ours
}

// TestSilent checks that a silent connection is closed after ten seconds, and that one address has at most 64 of them.
func TestSilent(t *testing.T) {
	identity() // making its keys must not happen inside the bubble
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		end := run(t, inbound.New(inbound.Config{Listener: l, TLS: serverTLS(), Log: zerolog.Nop()}))
		defer end()
		closed := func(conn net.Conn) time.Duration {
			begin := time.Now()
			_, _ = io.Copy(io.Discard, conn)
			return time.Since(begin)
		}
		if after := closed(l.dial()); after != 10*time.Second {
			t.Errorf("a client that says nothing is closed after %s", after)
		}
		conn := l.dial()
		over := tls.Client(conn, clientTLS(webName))
		if err := over.Handshake(); err != nil {
			t.Fatal(err)
		}
		if after := closed(over); after != 10*time.Second {
			t.Errorf("a client that says nothing within TLS is closed after %s", after)
		}
		over = tls.Client(l.dial(), clientTLS(webName, "h2"))
		if err := over.Handshake(); err != nil {
			t.Fatal(err)
		}
		if after := closed(over); after > 10*time.Second {
			t.Errorf("a client whose server does not take it is closed after %s", after)
		}
		for range 64 {
			defer l.dial().Close()
		}
		synctest.Wait()
		if after := closed(l.dial()); after != 0 {
			t.Errorf("the 65th silent client is closed after %s", after)
		}
		<-time.After(11 * time.Second)
		if after := closed(l.dial()); after != 10*time.Second {
			t.Errorf("when the others are gone, a client is closed after %s", after)
		}
	})
}

// TestRelayClose checks that the relay can close the connection of a client that does not read, without waiting for it.
func TestRelayClose(t *testing.T) {
	identity() // making its keys must not happen inside the bubble
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		p := inbound.New(inbound.Config{Listener: l, TLS: serverTLS(), Log: zerolog.Nop()})
		defer run(t, p)()
		raw := l.dial()
		defer raw.Close()
		over := tls.Client(raw, clientTLS(webName, "stun.turn"))
		if err := over.Handshake(); err != nil {
			t.Fatal(err)
		}
		conn, err := p.TURN().Accept()
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		_ = conn.Close()
		if passed := time.Since(begin); passed > 0 {
			t.Errorf("Close waited %s", passed)
		}
	})
}

// TestHandedOver checks that a connection has no deadline any more when it is handed over, and that none of its bytes are lost.
func TestHandedOver(t *testing.T) {
	identity() // making its keys must not happen inside the bubble
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		p := inbound.New(inbound.Config{Listener: l, TLS: serverTLS(), Log: zerolog.Nop()})
		defer run(t, p)()
		for first, server := range map[string]net.Listener{"\x00\x01": p.TURN(), "GET": p.HTTP()} {
			raw := l.dial()
			defer raw.Close()
			go func() {
				over := tls.Client(raw, clientTLS(webName))
				_, _ = over.Write([]byte(first))
				<-time.After(time.Minute)
				_, _ = over.Write([]byte(" and late"))
			}()
			conn, err := server.Accept()
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(first)+len(" and late"))
			if n, err := io.ReadFull(conn, got); err != nil || string(got) != first+" and late" {
				t.Errorf("%q: got %q, %v", first, got[:n], err)
			}
		}
	})
}

// TestOpenConnections demands that one address has a limited number of open connections, and that others still get in.
func TestOpenConnections(t *testing.T) {
	const most = 200
	h := startHub(t)
	dial := func(from string) (net.Conn, error) {
		dialer := &tls.Dialer{Config: clientTLS(webName, "http/1.1"), NetDialer: &net.Dialer{Timeout: patient, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}}
		conn, err := dialer.Dial("tcp", h.addr.String())
		if err != nil {
			return nil, err
		}
		_ = conn.SetDeadline(time.Now().Add(patient))
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: "+webName+"\r\n\r\n"); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
			return nil, err
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn, nil
	}
	var open []net.Conn
	for n := range most {
		conn, err := dial("127.0.0.1")
		if err != nil {
			t.Fatalf("connection %d: %v", n+1, err)
		}
		open = append(open, conn)
	}
	if _, err := dial("127.0.0.1"); err == nil {
		t.Errorf("one address has more than %d connections", most)
	}
	if _, err := dial("127.0.0.2"); err != nil {
		t.Errorf("another address: %v", err)
	}
	_ = open[0].Close()
	for end := time.Now().Add(patient); ; {
		if _, err := dial("127.0.0.1"); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatalf("after one was closed: %v", err)
		}
	}
}
