// Package acmetest runs a real certificate authority for tests: Let's Encrypt's Pebble, built from the nested module in the folder pebble.
//
//	ca := acmetest.Start(t, acmetest.Options{TLSPort: port})
//	... ca.URL is the directory, ca.Roots holds the authority's root
//
// The authority sends its challenges (HTTP-01, TLS-ALPN-01) to ports of 127.0.0.1, for every name. It stops when the test ends. Go's build cache
// keeps the program.
package acmetest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/net/dns/dnsmessage"

	"multifactorymodel.org/ewindow/bridge/child"
)

// Options are the ports of 127.0.0.1 for the authority's challenges. With port 0, challenges of that kind fail.
type Options struct{ HTTPPort, TLSPort int }

// Authority is a running certificate authority.
type Authority struct {
	// URL is the address of its ACME directory (RFC 8555).
	URL string
	// Client trusts the server at URL.
	Client *http.Client
	// Roots contains the root of the certificates that the authority issues.
	Roots *x509.CertPool

	requests atomic.Int64
}

// Requests returns how many requests have come so far.
func (a *Authority) Requests() int64 { return a.requests.Load() }

// program builds Pebble, unless Go's cache has it, and returns its path.
var program = sync.OnceValues(func() (string, error) {
	_, file, _, _ := runtime.Caller(0)
	cmd := exec.Command("go", "tool", "-n", "pebble")
	cmd.Dir = filepath.Join(filepath.Dir(file), "pebble")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	path, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("build pebble: %w\n%s", err, &stderr)
	}
	return strings.TrimSpace(string(path)), nil
})

// Start runs an authority until the test ends.
func Start(t testing.TB, o Options) *Authority {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	var ports [2]int
	for i := range ports {
		if ports[i], err = child.FreePort(); err != nil {
			t.Fatal(err)
		}
	}
	// Clients connect to the front. Pebble, behind it, uses the same certificate.
	a := &Authority{Roots: x509.NewCertPool()}
	inner := &url.URL{Scheme: "https", Host: "127.0.0.1:" + strconv.Itoa(ports[0])}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // on this machine
	t.Cleanup(transport.CloseIdleConnections)
	front := httptest.NewTLSServer(a.front(inner, transport))
	t.Cleanup(front.Close)
	a.URL, a.Client = front.URL+"/dir", front.Client()

	dir := t.TempDir()
	settings := map[string]any{"pebble": map[string]any{
		"listenAddress": inner.Host, "managementListenAddress": "127.0.0.1:" + strconv.Itoa(ports[1]), "httpPort": o.HTTPPort, "tlsPort": o.TLSPort,
		"certificate": filepath.Join(dir, "cert.pem"), "privateKey": filepath.Join(dir, "key.pem"), "keyAlgorithm": "ecdsa",
		"retryAfter": map[string]int{"authz": 1, "order": 1},
	}}
	pair := front.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"config.json": text,
		"cert.pem":    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}),
		"key.pem":     pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	names := nameServer(t)
	client := &http.Client{Transport: transport}
	c, err := child.New(child.Config{
		Name: "pebble", Output: filepath.Join(dir, "log"), Log: zerolog.Nop(),
		Command: func() (*exec.Cmd, error) {
			cmd := exec.Command(path, "-config", filepath.Join(dir, "config.json"), "-dnsserver", names)
			cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1")
			return cmd, nil
		},
		Ready: func(ctx context.Context) error {
			root, err := get(ctx, client, fmt.Sprintf("https://127.0.0.1:%d/roots/0", ports[1]))
			if err == nil && !a.Roots.AppendCertsFromPEM(root) {
				err = errors.New("the root is no certificate")
			}
			if err == nil {
				_, err = get(ctx, client, inner.String()+"/dir")
			}
			return err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return a
}

// front passes requests on to Pebble. It adds a Location header with the order's address to the response that finalises an order.
// golang.org/x/crypto/acme needs this header, and Let's Encrypt sends it (as the example in RFC 8555 does), but Pebble does not.
func (a *Authority) front(inner *url.URL, transport http.RoundTripper) http.Handler {
	return &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			a.requests.Add(1)
			r.Out.URL.Scheme, r.Out.URL.Host = inner.Scheme, inner.Host
			r.Out.Host = r.In.Host // part of what clients sign
		},
		ModifyResponse: func(answer *http.Response) error {
			if order, ok := strings.CutPrefix(answer.Request.URL.Path, "/finalize-order/"); ok {
				answer.Header.Set("Location", "https://"+answer.Request.Host+"/my-order/"+order)
			}
			return nil
		},
	}
}

func get(ctx context.Context, client *http.Client, address string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	return io.ReadAll(answer.Body)
}

// nameServer runs a DNS server over TCP that answers 127.0.0.1 for every name. It returns the server's address.
func nameServer(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
				for answerName(conn) == nil {
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	return l.Addr().String()
}

// answerName answers one DNS message (RFC 1035, section 4.2.2).
func answerName(conn net.Conn) error {
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return err
	}
	packed := make([]byte, int(size[0])<<8|int(size[1]))
	if _, err := io.ReadFull(conn, packed); err != nil {
		return err
	}
	var m dnsmessage.Message
	if err := m.Unpack(packed); err != nil {
		return err
	}
	m.Response, m.Additionals = true, nil
	for _, q := range m.Questions {
		if q.Type == dnsmessage.TypeA {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}, Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
			})
		}
	}
	packed, err := m.Pack()
	if err != nil {
		return err
	}
	_, err = conn.Write(append([]byte{byte(len(packed) >> 8), byte(len(packed))}, packed...))
	return err
}
