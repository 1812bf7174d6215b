// Package turn runs TURN servers as separate programs, ours and coturn. It tests our server with other clients and compares the two servers.
//
//	s := turn.StartOurs(t)      // "ewindow turn" on free ports of 127.0.0.1 and [::1], ready when it returns
//	c := turn.StartCoturn(t)    // Debian's coturn with the same secret and peers
//	s.UDP(), s.Credentials("anna")
//	s.CPU(t), s.Resident(t)     // CPU time that the process has used so far, and its resident memory
//
// The servers stop when the test ends. If a server ends earlier, the test fails. Package load puts servers under load. BenchmarkRelay prints the
// comparison:
//
//	go test -tags goolm,full -run '^$' -bench Relay -benchtime 1x ./cmd/e2e/turn          # two minutes
//	go test -tags goolm,full -short -run '^$' -bench Relay -benchtime 1x ./cmd/e2e/turn   # fewer rows
//
// Test helpers only. Linux.
package turn

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/stun/v3"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"multifactorymodel.org/ewindow/bridge/child"
	"multifactorymodel.org/ewindow/turnserver"
)

const (
	secret = "a secret that only tests share"
	// Realm is the TURN realm of both servers.
	Realm = "ewindow.test"

	startLimit    = 30 * time.Second
	startAttempts = 3 // another program may take a port before the server does
	answerLimit   = 200 * time.Millisecond
)

// Server is a TURN server's process. It relays UDP only from 127.0.0.1 to 127.0.0.1.
type Server struct {
	// Name is "ewindow" or "coturn".
	Name string
	// Port is the UDP and TCP port on 127.0.0.1. Our server uses it on [::1], too. TLSPort is the port for TLS, or 0 if there is none.
	Port, TLSPort int
	// CAFile is the path of the self-signed TLS certificate (PEM). It is "" if there is none.
	CAFile string

	ready   func(context.Context) error
	process *child.Child
	pid     int
	output  string // file of what it prints
	stop    sync.Once
}

// StartOurs starts "ewindow turn".
func StartOurs(t testing.TB) *Server {
	t.Helper()
	program, err := ours()
	if err != nil {
		t.Fatal(err)
	}
	return start(t, func(folder string, s *Server) ([]string, error) {
		ports, err := freePorts(2)
		if err != nil {
			return nil, err
		}
		s.Name, s.Port, s.TLSPort, s.CAFile = "ewindow", ports[0], ports[1], filepath.Join(folder, "certificate.pem")
		key := filepath.Join(folder, "key.pem")
		if err := writeCertificate(s.CAFile, key); err != nil {
			return nil, err
		}
		config := filepath.Join(folder, "config.yaml")
		text := fmt.Sprintf(ourConfig, filepath.Join(folder, "data"), s.Port, s.TLSPort, Realm, secret, s.CAFile, key)
		return []string{program, "turn", "-c", config}, os.WriteFile(config, []byte(text), 0o600)
	})
}

const ourConfig = `
data_dir: %q
hub:
  turnserver:
    enabled: true
    listen: ["udp://127.0.0.1:%[2]d", "tcp://127.0.0.1:%[2]d", "tls://127.0.0.1:%[3]d", "udp://[::1]:%[2]d", "tcp://[::1]:%[2]d"]
    public_ip: 127.0.0.1
    realm: %[4]q
    secret: %[5]q
    relay_ports: 15000-19999
    allowed_peers: ["127.0.0.1"]
    max_allocations: 5000
    max_allocations_per_user: 1000
    tls_certificate: %[6]q
    tls_key: %[7]q
`

// StartCoturn starts coturn. Without coturn the test is skipped. If EWINDOW_E2E is "require", it fails instead.
func StartCoturn(t testing.TB) *Server {
	t.Helper()
	program := Need(t, "turnserver")
	return start(t, func(folder string, s *Server) ([]string, error) {
		ports, err := freePorts(1)
		if err != nil {
			return nil, err
		}
		s.Name, s.Port = "coturn", ports[0]
		return []string{
			program, "-n", "--use-auth-secret", "--static-auth-secret=" + secret, "--realm=" + Realm, "--fingerprint",
			"--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", "--listening-port=" + strconv.Itoa(s.Port),
			"--min-port=10000", "--max-port=14999", "--allow-loopback-peers", "--no-tls", "--no-dtls", "--no-cli", "--no-rfc5780",
			"--log-file=stdout", "--simple-log", "--pidfile=" + filepath.Join(folder, "pid"),
		}, nil
	})
}

// Need returns the path of one of coturn's programs. Without it the test is skipped, with a line that says how to install it. If EWINDOW_E2E is
// "require", the test fails instead.
func Need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	err = fmt.Errorf("there is no %s on this machine: install it with: sudo apt-get install coturn", program)
	if os.Getenv("EWINDOW_E2E") == "require" {
		t.Fatal(err)
	}
	t.Skip(err)
	return ""
}

// start runs a server until the end of the test. prepare chooses its ports and returns its command line.
func start(t testing.TB, prepare func(folder string, s *Server) ([]string, error)) *Server {
	t.Helper()
	var errs []error
	for range startAttempts {
		s, folder := new(Server), t.TempDir()
		s.ready = s.answers
		line, err := prepare(folder, s)
		if err != nil {
			t.Fatal(err)
		}
		s.output = filepath.Join(folder, "log")
		s.process, err = child.New(child.Config{
			Name: s.Name, Log: zerolog.Nop(), Output: s.output, Ready: s.ready,
			Command: func() (*exec.Cmd, error) { return exec.Command(line[0], line[1:]...), nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), startLimit)
		err = s.process.Start(ctx)
		cancel()
		if err == nil {
			s.pid = s.process.Pid()
			t.Cleanup(func() { s.Stop(t) })
			return s
		}
		errs = append(errs, err, errors.New(tail(s.output)))
	}
	t.Fatal(errors.Join(errs...))
	return nil
}

// Stop stops the server before the test ends. It fails the test if the server ended by itself before. Stop may be called more than once.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.stop.Do(func() {
		if pid := s.process.Pid(); pid != s.pid {
			t.Errorf("%s ended by itself: its process was %d and is now %d", s.Name, s.pid, pid)
		}
		_ = s.process.Close()
		if t.Failed() {
			t.Logf("the end of %s's output:\n%s", s.Name, tail(s.output))
		}
	})
}

func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

// freePorts returns different ports.
func freePorts(n int) (ports []int, err error) {
	for len(ports) < n {
		port, err := child.FreePort()
		if err != nil {
			return nil, err
		}
		if len(ports) == 0 || ports[0] != port {
			ports = append(ports, port)
		}
	}
	return ports, nil
}

// answers returns nil when the server answers on all its ports.
func (s *Server) answers(ctx context.Context) error {
	addresses := []string{s.UDP().String()}
	if s.TLSPort != 0 {
		addresses = append(addresses, fmt.Sprintf("127.0.0.1:%d", s.TLSPort), fmt.Sprintf("[::1]:%d", s.Port))
	}
	for _, address := range addresses {
		d := net.Dialer{Timeout: answerLimit}
		conn, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		_ = conn.Close()
	}
	request, err := stun.Build(stun.TransactionID, stun.BindingRequest)
	if err != nil {
		return err
	}
	answer := new(stun.Message)
	if answer.Raw, err = s.exchange(request.Raw); err != nil {
		return err
	}
	if err := answer.Decode(); err != nil {
		return err
	}
	if answer.Type != stun.BindingSuccess || answer.TransactionID != request.TransactionID {
		return fmt.Errorf("the answer to a Binding request is %s", answer)
	}
	return nil
}

// exchange sends one packet and returns the next one that comes.
func (s *Server) exchange(request []byte) ([]byte, error) {
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(s.UDP()))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(answerLimit))
	if _, err := conn.Write(request); err != nil {
		return nil, err
	}
	answer := make([]byte, 1500)
	n, err := conn.Read(answer)
	return answer[:n], err
}

// UDP returns the server's UDP and TCP address on 127.0.0.1.
func (s *Server) UDP() netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(s.Port))
}

// Credentials returns a user name and a password that are valid for an hour.
func (s *Server) Credentials(name string) (username, password string) {
	return turnserver.Credentials(secret, name, time.Hour)
}

// writeCertificate makes a self-signed certificate for 127.0.0.1 and ::1.
func writeCertificate(certificate, key string) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600))
}

// CPU returns the CPU time of all threads of the process so far, in user and kernel mode. It reads the kernel's clock in nanoseconds, because /proc
// has a resolution of a hundredth of a second.
func (s *Server) CPU(t testing.TB) time.Duration {
	t.Helper()
	used, err := cpuTime(s.pid)
	if err != nil {
		t.Fatalf("CPU time of %s: %v", s.Name, err)
	}
	return used
}

// cpuTime reads the clock that clock_getcpuclockid(3) names.
func cpuTime(pid int) (time.Duration, error) {
	var ts unix.Timespec
	err := unix.ClockGettime(int32(^pid<<3|2), &ts) // CPUCLOCK_SCHED is 2
	return time.Duration(ts.Nano()), err
}

// Resident returns the process's resident memory in bytes.
func (s *Server) Resident(t testing.TB) int64 {
	t.Helper()
	bytes, err := resident(s.pid)
	if err != nil {
		t.Fatalf("memory of %s: %v", s.Name, err)
	}
	return bytes
}

func resident(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0, fmt.Errorf("process %d has no memory", pid)
	}
	kilobytes, err := strconv.ParseInt(fields[0], 10, 64)
	return kilobytes << 10, err
}

// ours builds ewindow at its first call, and returns its path.
var ours = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "ewindow-turn-")
	if err != nil {
		return "", err
	}
	built = append(built, folder)
	path := filepath.Join(folder, "ewindow")
	cmd := exec.Command("go", "build", "-tags", "goolm", "-o", path, "multifactorymodel.org/ewindow/cmd/ewindow")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build ewindow: %w\n%s", err, out)
	}
	return path, nil
})

var built []string // folders of programs that were built

// Main runs the tests of a package that starts servers. Then it removes the program that was built for them. It returns the exit code.
func Main(m *testing.M) int {
	code := m.Run()
	for _, folder := range built {
		_ = os.RemoveAll(folder)
	}
	return code
}
