package paths

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	// prefix begins the name of each namespace of this package. The ID and the start time of the process that made it follow.
	prefix = "ewindow-paths-"
	// netnsFolder is the folder where ip keeps named namespaces.
	netnsFolder = "/run/netns"
	tunDevice   = "/dev/net/tun"
)

// Need skips the test if this machine can't make namespaces, nftables rules or TUN devices. If EWINDOW_E2E is "require", the test fails instead.
func Need(t testing.TB) {
	t.Helper()
	err := available()
	if err != nil && os.Getenv("EWINDOW_E2E") == "require" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}
}

func available() error {
	if os.Geteuid() != 0 {
		return errors.New("tests that build networks need root")
	}
	for program, debian := range map[string]string{"ip": "iproute2", "nft": "nftables", "tayga": "tayga"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s was not found: install it, as with apt-get install %s", program, debian)
		}
	}
	if _, err := os.Stat(tunDevice); err != nil {
		return fmt.Errorf("links with loss and delay need a TUN device: %w", err)
	}
	return nil
}

// Namespace is a network namespace with a name that ip knows.
type Namespace struct {
	// Name is what "ip netns" calls it.
	Name string
}

// newNamespace makes a namespace that is removed when the test ends. Its name contains the process that made it, for [RemoveLeftovers].
func newNamespace(t testing.TB, name string) *Namespace {
	t.Helper()
	begun, err := processStart(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	n := &Namespace{Name: fmt.Sprintf("%s%d-%s-%s", prefix, os.Getpid(), begun, name)}
	if err := run(nil, "ip", "netns", "add", n.Name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := run(nil, "ip", "netns", "del", n.Name); err != nil {
			t.Error(err)
		}
	})
	if err := n.Do(func() error { return set("ipv6/conf/all/disable_ipv6", "1") }); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err) // the tests need no IPv6, whose link-local addresses appear only after some time
	}
	n.ip(t, "link set lo up")
	return n
}

// RemoveLeftovers removes the namespaces of test processes that were killed. Their programs have ended with them. It recognises a process by its ID
// and its start time, because process IDs are used again.
func RemoveLeftovers() error {
	entries, err := os.ReadDir(netnsFolder)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list namespaces: %w", err)
	}
	var errs []error
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), prefix)
		if !ours {
			continue
		}
		parts := strings.SplitN(rest, "-", 3)
		pid, err := strconv.Atoi(parts[0])
		if err != nil || len(parts) < 3 {
			continue
		}
		if begun, err := processStart(pid); err == nil && begun == parts[1] {
			continue
		}
		errs = append(errs, run(nil, "ip", "netns", "del", e.Name()), os.RemoveAll(filepath.Join(netnsEtc, e.Name())))
	}
	return errors.Join(errs...)
}

// processStart returns when a process was started, in clock ticks since the machine's start (proc_pid_stat(5), field 22).
func processStart(pid int) (string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// The second field is a name in parentheses, which may contain any character.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	const begun = 22 - 3
	if len(fields) <= begun {
		return "", fmt.Errorf("parse /proc/%d/stat: too few fields", pid)
	}
	return fields[begun], nil
}

// Do calls f on a thread in the namespace. Sockets that f opens belong to the namespace and stay there. f must not start goroutines that open
// sockets, because they run on other threads.
func (n *Namespace) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked. The thread ends with the goroutine, so no other goroutine runs in the namespace.
		runtime.LockOSThread()
		done <- n.enter(f)
	}()
	return <-done
}

func (n *Namespace) enter(f func() error) error {
	file, err := os.Open(filepath.Join(netnsFolder, n.Name))
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter %s: %w", n.Name, err)
	}
	return f()
}

// DialContext connects to an IP address (not to a host name) from within the namespace. http.Transport can use it.
func (n *Namespace) DialContext(ctx context.Context, network, address string) (conn net.Conn, err error) {
	var dialer net.Dialer
	err = n.Do(func() error {
		conn, err = dialer.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// ListenPacket opens a UDP socket in the namespace.
func (n *Namespace) ListenPacket(address string) (conn *net.UDPConn, err error) {
	err = n.Do(func() error {
		at, err := net.ResolveUDPAddr("udp4", address)
		if err != nil {
			return err
		}
		conn, err = net.ListenUDP("udp4", at)
		return err
	})
	return conn, err
}

// Listen listens on an address of the namespace.
func (n *Namespace) Listen(network, address string) (listener net.Listener, err error) {
	err = n.Do(func() error {
		listener, err = net.Listen(network, address)
		return err
	})
	return listener, err
}

// Command returns a command that runs a program in the namespace. Its process ID is the program's, because ip executes the program in its own place.
func (n *Namespace) Command(program string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", n.Name, program}, args...)...)
}

// ip runs commands of the program ip in the namespace, one for each line.
func (n *Namespace) ip(t testing.TB, lines ...string) {
	t.Helper()
	if err := run([]byte(strings.Join(lines, "\n")+"\n"), "ip", "-n", n.Name, "-batch", "-"); err != nil {
		t.Fatal(err)
	}
}

// nft replaces all nftables rules of the namespace, in one transaction.
func (n *Namespace) nft(rules string) error {
	return run([]byte("flush ruleset\n"+rules), "ip", "netns", "exec", n.Name, "nft", "-f", "-")
}

// set writes a network setting (sysctl) in the namespace of the current thread.
func set(name, value string) error {
	return os.WriteFile("/proc/sys/net/"+name, []byte(value), 0o644)
}

// run runs a program and waits for its end.
func run(input []byte, program string, args ...string) error {
	cmd := exec.Command(program, args...)
	cmd.Stdin = bytes.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
