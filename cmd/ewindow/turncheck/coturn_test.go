//go:build full

package turncheck_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/pion/stun/v3"
	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/bridge/child"
	"multifactorymodel.org/ewindow/cmd/e2e/turn"
	"multifactorymodel.org/ewindow/cmd/ewindow/turncheck"
)

// coturn starts Debian's TURN server until the test ends.
func coturn(t *testing.T, more ...string) (targets []turncheck.Target, pool *x509.CertPool) {
	t.Helper()
	program := turn.Need(t, "turnserver")
	dir := t.TempDir()
	certificate, pool := pair(t, time.Now().AddDate(0, 1, 0))
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}, "key.pem": {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var ports [2]int
	for i := range ports {
		if ports[i], err = child.FreePort(); err != nil {
			t.Fatal(err)
		}
	}
	c, err := child.New(child.Config{
		Name: "coturn", Output: filepath.Join(dir, "log"), Log: zerolog.Nop(),
		Command: func() (*exec.Cmd, error) {
			return exec.Command(program, append([]string{
				"-n", "--use-auth-secret", "--static-auth-secret=" + secret, "--realm=test", "--cert=" + filepath.Join(dir, "cert.pem"),
				"--pkey=" + filepath.Join(dir, "key.pem"), "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", fmt.Sprintf("--listening-port=%d", ports[0]),
				fmt.Sprintf("--tls-listening-port=%d", ports[1]), "--no-cli", "--no-dtls", "--log-file=stdout", "--pidfile=" + filepath.Join(dir, "pid"),
				"--userdb=" + filepath.Join(dir, "db"),
			}, more...)...), nil
		},
		Ready: func(ctx context.Context) error {
			for _, port := range ports {
				conn, err := new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
				if err != nil {
					return err
				}
				_ = conn.Close()
			}
			// Its UDP side may come up later than the other one.
			conn, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", ports[0]))
			if err != nil {
				return err
			}
			defer conn.Close()
			if _, err := conn.Write(stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw); err != nil {
				return err
			}
			_ = conn.SetReadDeadline(time.Now().Add(time.Second))
			_, err = conn.Read(make([]byte, 500))
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
	return []turncheck.Target{
		{Host: "127.0.0.1", Port: ports[0], Transport: "udp"}, {Host: "127.0.0.1", Port: ports[0], Transport: "tcp"},
		{Host: "127.0.0.1", Port: ports[1], Transport: "tls"},
	}, pool
}

func TestCoturn(t *testing.T) {
	targets, pool := coturn(t, "--allow-loopback-peers")
	for _, target := range targets {
		works(t, target, options(pool))
	}
}

// TestCoturnRefuses keeps coturn's default, which refuses peers on loopback.
func TestCoturnRefuses(t *testing.T) {
	targets, pool := coturn(t)
	for _, target := range targets[:2] {
		fails(t, target, options(pool), "the login works", "refuses to relay to its own relay address 127.0.0.1", "allowed-peer-ip=127.0.0.1")
	}
	wrong := options(pool)
	wrong.Password = "not it"
	fails(t, targets[0], wrong, "refuses the credentials")
}
