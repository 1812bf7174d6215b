package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTurnCheck checks a running relay as its operator does, with the configuration alone, and as somebody else does.
func TestTurnCheck(t *testing.T) {
	folder := t.TempDir()
	demoCertificate(t, folder)
	udp, tcp, secure := freePort(t), freePort(t), freePort(t)
	path := write(t, fmt.Sprintf(`hub:
  turnserver: {enabled: true, listen: ["udp://127.0.0.1:%d", "tcp://127.0.0.1:%d", "tls://127.0.0.1:%d"], tls_certificate: %[4]s/hub.pem, tls_key: %[4]s/hub-key.pem,
    public_ip: 127.0.0.1, secret: %[5]s, allowed_peers: [127.0.0.1], relay_ports: "0"}
`, udp, tcp, secure, folder, turnSecret))
	printed, stop := background(t, "turn", "-c", path)
	printed.Await(t, patient, fmt.Sprintf("127.0.0.1:%d", secure))

	code, out, errs := command(t, "turn", "check", "-c", path, "--ca", caFile(folder))
	progress := errs
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 0 || len(lines) != 3 {
		t.Fatalf("exit code %d:\n%s%s", code, out, errs)
	}
	for i, uri := range []string{
		fmt.Sprintf("turn:127.0.0.1:%d?transport=udp", udp), fmt.Sprintf("turn:127.0.0.1:%d?transport=tcp", tcp),
		fmt.Sprintf("turns:127.0.0.1:%d?transport=tcp", secure),
	} {
		if !strings.HasPrefix(lines[i], uri+"  works") || !strings.Contains(lines[i], "relayed by 127.0.0.1, round trip ") {
			t.Errorf("%s: %s", uri, lines[i])
		}
	}

	file := filepath.Join(folder, "secret")
	if err := os.WriteFile(file, []byte(turnSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", tcp)
	code, out, errs = command(t, "turn", "check", "--secret-file", file, address)
	if code != 1 || !strings.Contains(out, "turn:"+address+"?transport=tcp  works: ") || strings.Count(out, "  fails: nobody listens on UDP port") != 1 ||
		!strings.Contains(out, "is closed in the TLS handshake") || !strings.Contains(errs, "2 of 3 ways to the relay fail") {
		t.Errorf("a bare address: exit code %d:\n%s%s", code, out, errs)
	}
	if progress += errs; !strings.Contains(progress, "?transport=tcp: sending packets, ") { // a check takes a little more than progressEvery
		t.Errorf("no progress of a check that takes more than two seconds:\n%s", progress)
	}
	code, out, errs = command(t, "turn", "check", "--username", "anna", "--password", "very secret", "turn:"+address+"?transport=tcp")
	if code != 1 || !strings.Contains(out, "refuses the credentials") || strings.Contains(out+errs, "very secret") {
		t.Errorf("a wrong password: exit code %d:\n%s%s", code, out, errs)
	}
	if code := stop(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, printed)
	}
}

func TestTurnCheckFaults(t *testing.T) {
	off := write(t, "hub: {turnserver: {secret: 0123456789abcdef}}\n")
	empty := write(t, "")
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-c", off}, 2, "has no relay switched on"},
		{[]string{"-c", empty, "turn:127.0.0.1"}, 2, "nothing to log in with"},
		{[]string{"-c", "/nothing/here.yaml"}, 1, "/nothing/here.yaml"},
		{[]string{"127.0.0.1", "--secret", "very secret", "--username", "anna", "--password", "very secret"}, 2, "say only one"},
		{[]string{"--secret", "very secret", "https://127.0.0.1"}, 2, "no TURN address"},
		{[]string{"--secret", "very secret", "--secret-file", off, "127.0.0.1"}, 2, "both given"},
		{[]string{"--username", "anna", "127.0.0.1"}, 2, "belong together"},
		{[]string{"--username", "anna", "--password", "very secret", "--secret", "very secret", "127.0.0.1"}, 2, "say only one"},
		{[]string{"--secret-file", empty, "127.0.0.1"}, 1, "is empty"},
		{[]string{"--secret", "very secret", "--ca", off, "127.0.0.1"}, 1, "holds no certificate"},
	} {
		code, out, errs := command(t, append([]string{"turn", "check"}, test.args...)...)
		if code != test.code || !strings.Contains(errs, test.want) || strings.Contains(out+errs, "very secret") {
			t.Errorf("%v: exit code %d, %q is not in, or a secret is:\n%s%s", test.args, code, test.want, out, errs)
		}
	}
}
