//go:build full

package certificate_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/bridge/hub/certificate"
	"multifactorymodel.org/ewindow/cmd/e2e/acmetest"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

const (
	host    = "hub.example.org"
	patient = 30 * time.Second // the limit for an authority's answer, on a busy machine
)

// tlsServer answers TLS handshakes with a source's certificates until the test ends, and returns its address.
func tlsServer(t *testing.T, source certificate.Source) *net.TCPAddr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := &tls.Config{GetCertificate: source, NextProtos: []string{"http/1.1", certificate.ALPN}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(patient))
				_ = tls.Server(conn, cfg).Handshake()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	return l.Addr().(*net.TCPAddr)
}

// handshake asks a server for a name as a browser does, and returns the serial number of the certificate.
func handshake(addr net.Addr, ca *acmetest.Authority, name string) (string, error) {
	dialer := &net.Dialer{Timeout: patient}
	cfg := &tls.Config{RootCAs: ca.Roots, ServerName: name}
	if name == "" { // no name is sent; the certificate must be for host
		cfg.InsecureSkipVerify = true
		cfg.VerifyConnection = func(s tls.ConnectionState) error { return s.PeerCertificates[0].VerifyHostname(host) }
	}
	conn, err := tls.DialWithDialer(dialer, "tcp", addr.String(), cfg)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

// newACME makes an ACME for host, and returns what it logs.
func newACME(t *testing.T, url string, client *http.Client, cache string) (*certificate.ACME, *rig.Output) {
	t.Helper()
	log := new(rig.Output)
	a, err := certificate.NewACME(certificate.ACMEConfig{
		Names: []string{host}, Email: "anna@example.org", DirectoryURL: url, Cache: cache, Log: zerolog.New(log),
	})
	if err != nil {
		t.Fatal(err)
	}
	if client != nil {
		certificate.SpeakBy(a, client.Transport)
	}
	return a, log
}

// start lets an ACME run until stop is called, or the test ends.
func start(t *testing.T, a *certificate.ACME) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patient):
			t.Error("Run does not end")
		}
	})
	t.Cleanup(stop)
	return stop
}

// late is a source that can be set after its listener was made.
type late struct {
	atomic.Pointer[certificate.ACME]
}

func (l *late) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if a := l.Load(); a != nil {
		return a.Certificate(hello)
	}
	return nil, errors.New("not yet")
}

// TestTLSALPN gets a certificate by a check on the listener that the certificate is for (RFC 8737).
func TestTLSALPN(t *testing.T) {
	var source late
	addr := tlsServer(t, source.certificate)
	ca := acmetest.Start(t, acmetest.Options{TLSPort: addr.Port})
	cache := t.TempDir()
	a, log := newACME(t, ca.URL, ca.Client, cache)
	source.Store(a)
	if _, err := handshake(addr, ca, host); err == nil {
		t.Error("there is a certificate before Run")
	}
	if n := ca.Requests(); n != 0 {
		t.Errorf("a stranger's handshake made %d requests to the authority", n)
	}
	stop := start(t, a)
	log.Await(t, patient, "The certificate is in use")
	first, err := handshake(addr, ca, host)
	if err != nil {
		t.Fatal(err)
	}
	for name, asked := range map[string]string{"no name": "", "capitals": "HUB.example.org"} {
		if got, err := handshake(addr, ca, asked); err != nil || got != first {
			t.Errorf("%s: certificate %s, %v", name, got, err)
		}
	}
	before := ca.Requests()
	for _, foreign := range []string{"other.example.org", "127.0.0.1.example.org"} {
		if _, err := handshake(addr, ca, foreign); err == nil {
			t.Errorf("%s: a certificate was given", foreign)
		}
	}
	if n := ca.Requests(); n != before {
		t.Errorf("foreign names made %d requests to the authority", n-before)
	}
	got, err := certificate.Source(a.Certificate).Of(host)()
	if err != nil || got.Leaf.SerialNumber.String() != first {
		t.Errorf("a server that knows no names gets %v, %v", got, err)
	}
	stop()

	// After a restart the certificate comes from the folder, without the authority.
	again, log := newACME(t, "http://127.0.0.1:1/dir", nil, cache)
	source.Store(again)
	start(t, again)
	log.Await(t, patient, "The certificate is in use")
	if second, err := handshake(addr, ca, host); err != nil || second != first {
		t.Errorf("after a restart: certificate %s, %v; it was %s", second, err, first)
	}
}

// TestHTTP gets a certificate by an HTTP-01 check when TLS-ALPN-01 fails, and tests what else that port answers.
func TestHTTP(t *testing.T) {
	mux := http.NewServeMux()
	web := httptest.NewServer(mux)
	t.Cleanup(web.Close)
	ca := acmetest.Start(t, acmetest.Options{HTTPPort: web.Listener.Addr().(*net.TCPAddr).Port})
	a, log := newACME(t, ca.URL, ca.Client, t.TempDir())
	mux.Handle("/", a.Handler("https://hub.example.org:8448/"))
	start(t, a)
	log.Await(t, patient, "The certificate is in use")
	if c, err := certificate.Source(a.Certificate).Of("")(); err != nil || c.Leaf.VerifyHostname(host) != nil {
		t.Errorf("got %v, %v", c, err)
	}

	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, test := range []struct {
		method, path, location string
		code                   int
	}{
		{http.MethodGet, "/livekit/jwt?a=b", "https://hub.example.org:8448/livekit/jwt?a=b", http.StatusFound},
		{http.MethodPost, "/", "", http.StatusBadRequest},
		{http.MethodGet, "/.well-known/acme-challenge/guess", "", http.StatusForbidden}, // for another host
	} {
		request, err := http.NewRequestWithContext(t.Context(), test.method, web.URL+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != test.code || answer.Header.Get("Location") != test.location {
			t.Errorf("%s %s: %s, to %q", test.method, test.path, answer.Status, answer.Header.Get("Location"))
		}
	}
}

// TestNoAuthority has an authority that can't be reached, and then one that never answers. It checks that there is a warning, that clients get
// an error at once, and that Run cancels its request when it ends.
func TestNoAuthority(t *testing.T) {
	a, log := newACME(t, "http://127.0.0.1:1/dir", nil, t.TempDir())
	stop := start(t, a)
	log.Await(t, patient, "No certificate could be obtained")
	if _, err := certificate.Source(a.Certificate).Of(host)(); err == nil {
		t.Error("there is a certificate")
	}
	stop()

	asked, cancelled := make(chan struct{}), make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done() // nothing else ends it
		close(cancelled)
	}))
	defer silent.Close()
	a, _ = newACME(t, silent.URL, nil, t.TempDir())
	stop = start(t, a)
	<-asked
	stop()
	select {
	case <-cancelled:
	case <-time.After(patient):
		t.Fatal("the request to the authority goes on when Run has ended")
	}
}

func TestNewACMERefused(t *testing.T) {
	for name, names := range map[string][]string{
		"no name": nil, "an address": {"192.0.2.7"}, "one label": {"localhost"}, "an empty label": {"hub..org"}, "a port": {"hub.example.org:443"},
		"a path": {"hub.example.org/.."}, "umlaut": {"hüb.example.org"}, "IPv6": {"2001:db8::1"}, "a wildcard": {"*.example.org"},
	} {
		if a, err := certificate.NewACME(certificate.ACMEConfig{Names: names, Cache: t.TempDir()}); a != nil || err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
