package turncheck_test

import (
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
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/bridge/child"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
	"multifactorymodel.org/ewindow/cmd/ewindow/turncheck"
	"multifactorymodel.org/ewindow/turnserver"
)

const secret = "0123456789abcdef"

// pair makes a self-signed certificate that is valid until a time: for names, or for 127.0.0.1.
func pair(t *testing.T, until time.Time, names ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "turn"}, NotBefore: until.AddDate(0, -3, 0), NotAfter: until, DNSNames: names,
		IsCA: true, BasicConstraintsValid: true,
	}
	if len(names) == 0 {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	if c.Leaf, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(c.Leaf)
	return c, pool
}

// server is a TURN server of ours, with a target for each transport.
type server struct {
	*turnserver.Server
	targets map[string]turncheck.Target
	pool    *x509.CertPool
}

func start(t *testing.T, change ...func(*turnserver.Config)) *server {
	t.Helper()
	certificate, pool := pair(t, time.Now().AddDate(0, 1, 0))
	peer, err := turnserver.ParsePeer("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	cfg := turnserver.Config{
		Certificate: func() (*tls.Certificate, error) { return &certificate, nil },
		Relays:      []turnserver.Relay{{Public: netip.MustParseAddr("127.0.0.1"), Local: netip.MustParseAddr("127.0.0.1")}}, Realm: "ewindow.test", Secret: secret,
		AllowedPeers: []turnserver.Peer{peer}, MaxAllocations: 10, MaxAllocationsPerUser: 10, Log: zerolog.Nop(),
	}
	transports := []turnserver.Transport{turnserver.UDP, turnserver.TCP, turnserver.TLS}
	for _, transport := range transports {
		cfg.Listen = append(cfg.Listen, turnserver.Listen{Transport: transport, Addr: netip.MustParseAddrPort("127.0.0.1:0")})
	}
	for _, c := range change {
		c(&cfg)
	}
	s, err := turnserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	r := &server{s, map[string]turncheck.Target{}, pool}
	for i, addr := range s.Addrs() {
		port := netip.MustParseAddrPort(addr.String()).Port()
		r.targets[string(transports[i])] = turncheck.Target{Host: "127.0.0.1", Port: int(port), Transport: string(transports[i])}
	}
	return r
}

func options(pool *x509.CertPool) turncheck.Options {
	o := turncheck.Options{Roots: pool}
	o.Username, o.Password = turnserver.Credentials(secret, "check", time.Hour)
	return o
}

// works checks that the result is plausible: nearly all packets come back, the round trip is above zero, and a stream loses nothing.
func works(t *testing.T, target turncheck.Target, o turncheck.Options) {
	t.Helper()
	r, err := turncheck.Check(t.Context(), target, o)
	if err != nil {
		t.Errorf("%s: %v", target, err)
		return
	}
	if r.Relay.String() != "127.0.0.1" || r.Sent != 200 || r.Lost > 20 || r.P50 <= 0 || r.P99 < r.P50 || r.P50 > 5*time.Second {
		t.Errorf("%s: %+v", target, r)
	}
	if target.Transport != "udp" && r.Lost > 0 {
		t.Errorf("%s: %d packets were lost in a stream", target, r.Lost)
	}
}

func TestOurs(t *testing.T) {
	s := start(t)
	var said []string
	o := options(s.pool)
	o.Progress = func(text string) { said = append(said, text) }
	for _, target := range s.targets {
		works(t, target, o)
	}
	if all := strings.Join(said, "; "); !strings.Contains(all, "logging in") || !strings.Contains(all, "150 of 200") {
		t.Errorf("progress: %s", all)
	}
	rig.Eventually(t, 10*time.Second, func() error {
		if n := s.Counters().Allocations; n > 0 {
			return fmt.Errorf("%d allocations are left", n)
		}
		return nil
	})
}

// fails checks that the error contains each of the texts, and no secret.
func fails(t *testing.T, target turncheck.Target, o turncheck.Options, want ...string) {
	t.Helper()
	r, err := turncheck.Check(t.Context(), target, o)
	if err == nil {
		t.Errorf("%s works: %+v", target, r)
		return
	}
	for _, text := range want {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %q is not in %q", target, text, err)
		}
	}
	if strings.Contains(err.Error(), o.Password) || strings.Contains(err.Error(), secret) {
		t.Errorf("%s: a secret is in %q", target, err)
	}
}

// TestRefusals makes a server refuse each step.
func TestRefusals(t *testing.T) {
	s := start(t)
	wrong := options(s.pool)
	wrong.Username, wrong.Password = turnserver.Credentials("another secret of 16", "check", time.Hour)
	for _, target := range s.targets {
		fails(t, target, wrong, "refuses the credentials", "clocks")
	}
	past := options(s.pool)
	past.Username, past.Password = turnserver.Credentials(secret, "check", -time.Hour)
	fails(t, s.targets["tcp"], past, "refuses the credentials")

	few := start(t, func(c *turnserver.Config) { c.MaxAllocationsPerUser = 1 })
	fails(t, few.targets["tcp"], options(few.pool), "no more allocations", "max_allocations_per_user")

	elsewhere, err := turnserver.ParsePeer("192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	strict := start(t, func(c *turnserver.Config) { c.AllowedPeers = []turnserver.Peer{elsewhere} })
	fails(t, strict.targets["tls"], options(strict.pool), "the login works", "refuses to relay to its own relay address 127.0.0.1", "hub.turnserver.allowed_peers")

	port, err := turnserver.ParsePeer("127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	narrow := start(t, func(c *turnserver.Config) { c.AllowedPeers = []turnserver.Peer{port} })
	fails(t, narrow.targets["udp"], options(narrow.pool), "the login works", "no packet comes through", "hub.turnserver.allowed_peers")
}

// TestNoServer checks addresses where nobody listens, or another kind of server.
func TestNoServer(t *testing.T) {
	port, err := child.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	at := func(addr net.Addr, transport string) turncheck.Target {
		return turncheck.Target{Host: "127.0.0.1", Port: int(netip.MustParseAddrPort(addr.String()).Port()), Transport: transport}
	}
	o := options(nil)
	nobody := turncheck.Target{Host: "127.0.0.1", Port: port, Transport: "tcp"}
	fails(t, nobody, o, "nobody listens on TCP port", "look whether the server runs")
	nobody.Transport = "tls"
	fails(t, nobody, o, "nobody listens on TCP port")
	nobody.Transport = "udp"
	fails(t, nobody, o, "nobody listens on UDP port") // and not "there is no answer", as when pion gives up

	deaf, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	fails(t, at(deaf.LocalAddr(), "udp"), o, "there is no answer on UDP port", "firewalls")

	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	fails(t, at(web.Listener.Addr(), "tcp"), o, "no TURN server") // it may answer before it closes the connection, or not
	rude := httptest.NewUnstartedServer(nil)
	rude.Config.ReadHeaderTimeout = time.Millisecond
	rude.Start()
	defer rude.Close()
	fails(t, at(rude.Listener.Addr(), "tcp"), o, "is no TURN server, or wants no connection from here")
	fails(t, at(web.Listener.Addr(), "tls"), o, "does not speak TLS", "turn:127.0.0.1:")
}

// TestCertificates checks servers whose certificate no client accepts.
func TestCertificates(t *testing.T) {
	for name, test := range map[string]struct {
		until   time.Time
		names   []string
		trusted bool
		want    []string
	}{
		"unknown":  {time.Now().AddDate(0, 1, 0), nil, false, []string{"signed by nobody whom this machine trusts", "--ca"}},
		"run out":  {time.Now().Add(-time.Hour), nil, true, []string{"good from", "renew it"}},
		"not ours": {time.Now().AddDate(0, 1, 0), []string{"turn.example.org"}, true, []string{"for turn.example.org and not for 127.0.0.1"}},
	} {
		certificate, pool := pair(t, test.until, test.names...)
		s := start(t, func(c *turnserver.Config) {
			c.Certificate = func() (*tls.Certificate, error) { return &certificate, nil }
		})
		if !test.trusted {
			pool = x509.NewCertPool()
		}
		t.Log(name)
		fails(t, s.targets["tls"], options(pool), test.want...)
	}
	none := start(t, func(c *turnserver.Config) {
		c.Certificate = func() (*tls.Certificate, error) { return nil, errors.New("none") }
	})
	fails(t, none.targets["tls"], options(none.pool), "refuses the TLS handshake")
}

// TestCancel cancels a check that waits for an answer. It checks that the check ends at once, and not only when pion gives up after nine
// requests.
func TestCancel(t *testing.T) {
	deaf, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	requests := make(chan int, 1)
	go func() {
		n := 0
		defer func() { requests <- n }()
		conn, err := deaf.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		for buffer := make([]byte, 28); ; n++ { // an Allocate without credentials
			if _, err := io.ReadFull(conn, buffer); err != nil {
				return
			}
			cancel()
		}
	}()
	_, err = turncheck.Check(ctx, turncheck.Target{Host: "127.0.0.1", Port: deaf.Addr().(*net.TCPAddr).Port, Transport: "tcp"}, options(nil))
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if n := <-requests; n < 1 || n > 8 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"turn:a.example.org":                    "turn:a.example.org:3478?transport=udp",
		"turn:a.example.org?transport=tcp":      "turn:a.example.org:3478?transport=tcp",
		"turn:192.0.2.7:80?transport=udp":       "turn:192.0.2.7:80?transport=udp",
		"turns:a.example.org":                   "turns:a.example.org:5349?transport=tcp",
		"turns:a.example.org:443?transport=tcp": "turns:a.example.org:443?transport=tcp",
		"turn:[2001:db8::1]:3478?transport=tcp": "turn:[2001:db8::1]:3478?transport=tcp",
		"turn:[2001:db8::1]":                    "turn:[2001:db8::1]:3478?transport=udp",
		"2001:db8::1":                           "turn:[2001:db8::1]:3478?transport=udp turn:[2001:db8::1]:3478?transport=tcp turns:[2001:db8::1]:5349?transport=tcp turns:[2001:db8::1]:443?transport=tcp",
		"a.example.org":                         "turn:a.example.org:3478?transport=udp turn:a.example.org:3478?transport=tcp turns:a.example.org:5349?transport=tcp turns:a.example.org:443?transport=tcp",
		"a.example.org:80":                      "turn:a.example.org:80?transport=udp turn:a.example.org:80?transport=tcp turns:a.example.org:80?transport=tcp",
		"stun:a.example.org":                    "",
		"https://a.example.org":                 "",
		"turn:a.example.org?transport=sctp":     "",
		"turn:a.example.org?colour=red":         "",
		"turns:a.example.org?transport=udp":     "",
		"turn:a.example.org:0":                  "",
		"turn:a.example.org:65536":              "",
		"turn:user:password@a.example.org:3478": "",
		"turn:":                                 "",
		"":                                      "",
		"a example":                             "",
	} {
		targets, err := turncheck.Parse(text)
		var got []string
		for _, target := range targets {
			got = append(got, target.String())
		}
		if strings.Join(got, " ") != want || (err != nil) != (want == "") {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
}

// FuzzParse checks that a target that was read can be written and read again.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"turn:a:1?transport=tcp", "turns:[::1]", "a.example.org", "::1", "turn:a?transport=udp", "[::1]:3"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		targets, err := turncheck.Parse(text)
		if (err == nil) != (len(targets) > 0) {
			t.Fatalf("%d targets, %v", len(targets), err)
		}
		for _, target := range targets {
			again, err := turncheck.Parse(target.String())
			if err != nil || len(again) != 1 || again[0] != target {
				t.Fatalf("%q was read as %+v, written as %s, and read as %+v, %v", text, target, target, again, err)
			}
		}
	})
}
