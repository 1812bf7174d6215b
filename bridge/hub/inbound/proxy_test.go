package inbound_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v3"
	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/bridge/hub/inbound"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// fromClient is the header that a proxy sends for a client at 203.0.113.7, port 40000.
const fromClient = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x07\x7f\x00\x00\x01\x9c\x40\x01\xbb"

// proxies trusts 127.0.0.1.
func proxies(cfg *inbound.Config) { cfg.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }

// dialAs connects as a proxy, which sends header first.
func dialAs(ctx context.Context, addr net.Addr, header string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr.String())
	if err == nil {
		_, err = conn.Write([]byte(header))
	}
	return conn, err
}

// mapped asks the STUN server at the other end of a connection for our address.
func mapped(t *testing.T, conn net.Conn) string {
	t.Helper()
	_ = conn.SetDeadline(time.Now().Add(patient))
	if _, err := conn.Write(stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 1500)
	n, err := conn.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	m := &stun.Message{Raw: buffer[:n]}
	var addr stun.XORMappedAddress
	if err := errors.Join(m.Decode(), addr.GetFrom(m)); err != nil {
		t.Fatal(err)
	}
	return addr.String()
}

// TestProxy reaches both servers through a proxy, and checks that they see the client.
func TestProxy(t *testing.T) {
	h := startHub(t, proxies)
	for _, protocols := range [][]string{{"h2"}, {"http/1.1"}, nil} {
		client := h.webClient(t, clientTLS(webName, protocols...))
		client.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialAs(ctx, h.addr, fromClient)
		}
		answer, err := client.Get("https://" + webName)
		if err != nil {
			t.Fatalf("%v: %v", protocols, err)
		}
		said, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if !strings.Contains(string(said), " from 203.0.113.7:40000") {
			t.Errorf("%v: the HTTPS server sees %s", protocols, said)
		}
	}
	conn, err := dialAs(t.Context(), h.addr, fromClient)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := mapped(t, tls.Client(conn, clientTLS(webName))); got != "203.0.113.7:40000" {
		t.Errorf("the relay sees %s", got)
	}
	again, err := dialAs(t.Context(), h.addr, fromClient)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	relayed(t, tls.Client(again, clientTLS(webName)), echo(t))
}

// TestProxyOfRelay reaches a port that has the relay alone, with TLS and without.
func TestProxyOfRelay(t *testing.T) {
	for name, cfg := range map[string]*tls.Config{"tcp": nil, "tls": serverTLS()} {
		h := startHub(t, proxies, func(c *inbound.Config) { c.Purpose, c.TLS, c.TURNName = inbound.TURNOnly, cfg, "" })
		conn, err := dialAs(t.Context(), h.addr, fromClient)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if cfg != nil {
			conn = tls.Client(conn, clientTLS(webName))
		}
		if got := mapped(t, conn); got != "203.0.113.7:40000" {
			t.Errorf("%s: the relay sees %s", name, got)
		}
		relayed(t, conn, echo(t))
	}
}

// TestProxyRefused checks that only a proxy's header is believed, that a proxy must send one, and that one warning is logged if it does
// not.
func TestProxyRefused(t *testing.T) {
	refused := func(name string, addr net.Addr, header string) {
		t.Helper()
		conn, err := dialAs(t.Context(), addr, header)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		over := tls.Client(conn, clientTLS(webName))
		_ = over.SetDeadline(time.Now().Add(patient / 2))
		if err := over.Handshake(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
	stranger := startHub(t, func(c *inbound.Config) { c.Proxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	refused("a stranger with a header", stranger.addr, fromClient)

	var log rig.Output
	h := startHub(t, proxies, func(c *inbound.Config) { c.Log = zerolog.New(&log) })
	refused("a proxy without a header", h.addr, "")
	refused("a proxy with a broken one", h.addr, strings.Replace(fromClient, "QUIT", "STAY", 1))
	h.end()
	if n := strings.Count(log.String(), "without a header of the PROXY protocol"); n != 1 {
		t.Errorf("%d warnings are logged:\n%s", n, &log)
	}
}

// TestProxyCount checks that the clients of a proxy are counted apart from each other, and that one of them has no more connections than
// without a proxy.
func TestProxyCount(t *testing.T) {
	h := startHub(t, proxies)
	header := func(client byte) string {
		return strings.Replace(fromClient, "\xcb\x00\x71\x07", "\xcb\x00\x71"+string([]byte{client}), 1)
	}
	for range 64 {
		conn, err := dialAs(t.Context(), h.addr, header(1))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	// A later connection may be counted before an earlier one, so one of the first 64 may be refused. Then try again.
	deadline := time.After(patient / 2)
	for {
		conn, err := dialAs(t.Context(), h.addr, header(1))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		select {
		case <-deadline:
			t.Fatal("the 65th silent connection of one client stays open")
		default:
		}
	}
	conn, err := dialAs(t.Context(), h.addr, header(2))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	over := tls.Client(conn, clientTLS(webName))
	_ = over.SetDeadline(time.Now().Add(patient / 2))
	if err := over.Handshake(); err != nil {
		t.Errorf("another client of the same proxy: %v", err)
	}
}
