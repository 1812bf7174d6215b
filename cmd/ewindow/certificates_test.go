//go:build full

package main

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/acmetest"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// program does what background does, but in a process of its own, whose environment can differ from the test's.
func program(t *testing.T, environment []string, args ...string) (printed *rig.Output, stop func() int) {
	t.Helper()
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	printed = new(rig.Output)
	cmd := exec.Command(own, args...)
	cmd.Env = append(append(os.Environ(), "EWINDOW_TEST_MAIN=1"), environment...)
	cmd.Stdout, cmd.Stderr = printed, printed
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceValue(func() int {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		limit := time.AfterFunc(20*time.Second, func() {
			t.Error("the program does not end")
			_ = cmd.Process.Kill()
		})
		defer limit.Stop()
		_ = cmd.Wait()
		return cmd.ProcessState.ExitCode()
	})
	t.Cleanup(func() { stop() })
	return printed, stop
}

// trusting returns the environment of a program that trusts the server of an authority.
func trusting(t *testing.T, ca *acmetest.Authority) []string {
	t.Helper()
	answer, err := ca.Client.Get(ca.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: answer.TLS.PeerCertificates[0].Raw}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"SSL_CERT_FILE=" + file, "SSL_CERT_DIR=" + os.DevNull}
}

// TestHubACME starts a hub without certificates. It gets them from an authority, which checks the port that HTTPS and TURN share, and uses
// them for both.
func TestHubACME(t *testing.T) {
	https, turns, plain := freePort(t), freePort(t), freePort(t)
	ca := acmetest.Start(t, acmetest.Options{TLSPort: https})
	path := write(t, strings.Replace(fmt.Sprintf(externalFocus, `""`), `listen: ""`, fmt.Sprintf(`listen: 127.0.0.1:%d
  acme: {enabled: true, email: anna@example.org, directory_url: %q, http_listen: "127.0.0.1:%d"}
  turnserver: {enabled: true, listen: ["tls://127.0.0.1:%d"], public_ip: 127.0.0.1, secret: 0123456789abcdef, allowed_peers: [127.0.0.1],
    share_https_port: true, tls_host: turn.example.org}`,
		https, ca.URL, plain, turns), 1))
	printed, stop := program(t, trusting(t, ca), "hub", "-c", path)
	printed.Await(t, patient, "The certificate is in use authority="+ca.URL+" name=hub.example.org")
	printed.Await(t, patient, "The certificate is in use authority="+ca.URL+" name=turn.example.org")
	client := &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Roots, ServerName: "hub.example.org"}}, Timeout: 10 * time.Second,
	}
	defer client.CloseIdleConnections()
	answer, err := client.Get(fmt.Sprintf("https://127.0.0.1:%d/livekit/jwt/nothing", https))
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	named := &tls.Config{RootCAs: ca.Roots, ServerName: "turn.example.org"}
	for _, port := range []int{turns, https} {
		conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), named)
		if err != nil {
			t.Fatalf("the relay's certificate: %v", err)
		}
		if err := allocate(t, conn); err != nil {
			t.Error(err)
		}
		_ = conn.Close()
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	answer, err = client.Get(fmt.Sprintf("http://127.0.0.1:%d/path", plain))
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if to := answer.Header.Get("Location"); to != "https://hub.example.org/path" {
		t.Errorf("plain HTTP leads to %q", to)
	}
	kept, err := filepath.Glob(filepath.Join(filepath.Dir(path), "data", "acme", "*.example.org"))
	if err != nil || len(kept) != 2 {
		t.Fatalf("kept in the data folder: %v, %v", kept, err)
	}
	if info, err := os.Stat(kept[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file is %v, %v", info.Mode(), err)
	}
	if code := stop(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, printed)
	}
}
