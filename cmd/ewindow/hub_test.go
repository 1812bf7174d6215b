package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pion/turn/v4"

	"multifactorymodel.org/ewindow/bridge/child"
	"multifactorymodel.org/ewindow/turnserver"
)

const turnSecret = "0123456789abcdef"

// demoCertificate makes a certificate for localhost in a folder, and returns a pool that trusts it.
func demoCertificate(t *testing.T, folder string) *x509.CertPool {
	t.Helper()
	if err := makeCertificates(folder); err != nil {
		t.Fatal(err)
	}
	authority, err := os.ReadFile(caFile(folder))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		t.Fatal("no certificate authority")
	}
	return pool
}

// allocate logs in at a relay over a connection, and makes an allocation.
func allocate(t *testing.T, conn net.Conn) error {
	t.Helper()
	username, password := turnserver.Credentials(turnSecret, "anna", time.Hour)
	c, err := turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: conn.RemoteAddr().String(), Conn: turn.NewSTUNConn(conn), Username: username, Password: password, RTO: time.Second,
	})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Listen(); err != nil {
		return err
	}
	relay, err := c.Allocate()
	if err != nil {
		return err
	}
	return relay.Close()
}

// TestHubSharedPort reaches the HTTPS server and the relay of a running hub on one port. Each has a certificate of its own.
func TestHubSharedPort(t *testing.T) {
	https, relay := t.TempDir(), t.TempDir()
	httpsPool, relayPool := demoCertificate(t, https), demoCertificate(t, relay)
	port := freePort(t)
	path := write(t, strings.Replace(fmt.Sprintf(externalFocus, `""`), `listen: ""`, fmt.Sprintf(`listen: 127.0.0.1:%d
  tls_certificate: %[2]s/hub.pem
  tls_key: %[2]s/hub-key.pem
  turnserver: {enabled: true, listen: ["udp://127.0.0.1:%[4]d"], public_ip: 127.0.0.1, secret: %[5]s, allowed_peers: [127.0.0.1], relay_ports: "0",
    share_https_port: true, tls_host: turn.example.org, tls_certificate: %[3]s/hub.pem, tls_key: %[3]s/hub-key.pem}`,
		port, https, relay, freePort(t), turnSecret), 1))
	printed, stop := background(t, "hub", "-c", path)
	printed.Await(t, patient, "The hub is up")
	address := fmt.Sprintf("127.0.0.1:%d", port)

	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: httpsPool}}, Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	answer, err := client.Get(fmt.Sprintf("https://localhost:%d/livekit/jwt/nothing", port))
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()

	conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: httpsPool, ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := allocate(t, conn); err != nil {
		t.Errorf("by the name of the HTTPS server: %v", err)
	}
	// The certificate is for localhost, so the name is compared here and not by TLS.
	named, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, ServerName: "turn.example.org",
		VerifyConnection: func(s tls.ConnectionState) error {
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: relayPool, DNSName: "localhost"})
			return err
		}})
	if err != nil {
		t.Fatalf("the relay's own certificate: %v", err)
	}
	defer named.Close()
	if err := allocate(t, named); err != nil {
		t.Errorf("by the relay's name: %v", err)
	}
	if code := stop(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, printed)
	}
	if strings.Contains(printed.String(), "did not end in order") {
		t.Errorf("printed:\n%s", printed)
	}
}

// TestTurnBehindProxy reaches a relay over TCP and TLS, with the header of a proxy that says who the client is.
func TestTurnBehindProxy(t *testing.T) {
	folder := t.TempDir()
	pool := demoCertificate(t, folder)
	plain, secure, udp := freePort(t), freePort(t), freePort(t)
	path := write(t, fmt.Sprintf(`hub:
  turnserver: {enabled: true, listen: ["tcp://127.0.0.1:%d", "tls://127.0.0.1:%d", "udp://127.0.0.1:%d"], proxy_protocol_from: [127.0.0.1],
    tls_certificate: %[4]s/hub.pem, tls_key: %[4]s/hub-key.pem, public_ip: 127.0.0.1, secret: %[5]s, allowed_peers: [127.0.0.1], relay_ports: "0"}
`, plain, secure, udp, folder, turnSecret))
	printed, stop := background(t, "turn", "-c", path)
	printed.Await(t, patient, fmt.Sprintf("127.0.0.1:%d", secure))
	for _, port := range []int{plain, secure} {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x07\x7f\x00\x00\x01\x9c\x40\x01\xbb")); err != nil {
			t.Fatal(err)
		}
		if port == secure {
			conn = tls.Client(conn, &tls.Config{RootCAs: pool, ServerName: "localhost"})
		}
		if err := allocate(t, conn); err != nil {
			t.Errorf("port %d: %v", port, err)
		}
	}
	if code := stop(); code != 0 || strings.Contains(printed.String(), "did not end in order") {
		t.Errorf("exit code %d:\n%s", code, printed)
	}
}

// freePort is a port that a program of the test may take.
func freePort(t *testing.T) int {
	t.Helper()
	port, err := child.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}
