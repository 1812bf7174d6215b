//go:build full

package paths_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"multifactorymodel.org/ewindow/cmd/e2e/paths"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// echo answers each datagram to an address of the hub with its source address.
func echo(t *testing.T, n *paths.Network, address string) {
	t.Helper()
	conn, err := n.Hub.ListenPacket(address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = conn.Close(); <-done })
	go func() {
		defer close(done)
		buffer := make([]byte, 2000)
		for {
			_, from, err := conn.ReadFromUDP(buffer)
			if err != nil {
				return
			}
			_, _ = conn.WriteToUDP([]byte(from.String()), from)
		}
	}()
}

// socket opens a UDP socket at a kiosk.
func socket(t *testing.T, s *paths.Side) *net.UDPConn {
	t.Helper()
	conn, err := s.Kiosk.ListenPacket("0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// exchange sends a datagram and returns the answer, or "" if none comes within limit.
func exchange(t *testing.T, conn *net.UDPConn, address string, limit time.Duration) string {
	t.Helper()
	to, err := net.ResolveUDPAddr("udp4", address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.WriteToUDP([]byte("where am I?"), to); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(limit))
	buffer := make([]byte, 2000)
	n, _, err := conn.ReadFromUDP(buffer)
	if err != nil {
		return ""
	}
	return string(buffer[:n])
}

const (
	answerLimit   = 10 * time.Second       // for answers that must come
	noAnswerLimit = 300 * time.Millisecond // how long to wait for answers that must not come
)

var (
	sfuAddress  = fmt.Sprintf("%s:%d", paths.HubIP, paths.SFUUDP)
	turnAddress = fmt.Sprintf("%s:%d", paths.HubIP, paths.TurnPort)
	hubAddress  = fmt.Sprintf("%s:%d", paths.HubIP, paths.TLSPort)
)

// TestNAT checks the routers: their NAT is symmetric, their counters count each route, and their firewalls drop what they must.
func TestNAT(t *testing.T) {
	n := paths.NewNetwork(t)
	echo(t, n, sfuAddress)
	echo(t, n, turnAddress)
	for _, s := range n.Sides {
		conn := socket(t, s)
		one, other := exchange(t, conn, sfuAddress, answerLimit), exchange(t, conn, turnAddress, answerLimit)
		if !strings.HasPrefix(one, "203.0.113.") || !strings.HasPrefix(other, "203.0.113.") {
			t.Fatalf("the hub sees the source addresses %q and %q, not the router's", one, other)
		}
		if one == other {
			t.Errorf("both destinations see %s: that NAT is not symmetric", one)
		}
		traffic := s.Traffic(t)
		for _, route := range []paths.Route{paths.Direct, paths.TurnUDP} {
			if traffic.Up[route] == 0 || traffic.Down[route] == 0 {
				t.Errorf("%s has %d bytes up and %d down after it was used", route, traffic.Up[route], traffic.Down[route])
			}
		}
		if n := traffic.Up[paths.TurnTLS]; n != 0 {
			t.Errorf("%s has %d bytes though nobody used it", paths.TurnTLS, n)
		}
	}

	s, conn := n.Sides[0], socket(t, n.Sides[0])
	if exchange(t, conn, sfuAddress, answerLimit) == "" {
		t.Fatal("no answer before the firewall is there")
	}
	for _, rules := range []string{paths.NoUDP, paths.Only443} {
		s.SetFirewall(t, rules)
		if from := exchange(t, conn, sfuAddress, noAnswerLimit); from != "" {
			t.Errorf("UDP gets through %q, from %s", rules, from)
		}
	}
	s.SetFirewall(t, "")
	if exchange(t, conn, sfuAddress, answerLimit) == "" {
		t.Error("no answer after the firewall is gone")
	}
	before := exchange(t, conn, sfuAddress, answerLimit)
	s.ChangeUplink(t)
	after := exchange(t, conn, sfuAddress, answerLimit)
	if host := func(a string) string { h, _, _ := net.SplitHostPort(a); return h }; after == "" || host(before) == host(after) {
		t.Errorf("the router is %s before and %s after its address has changed", before, after)
	}
	s.ChangeAddress(t)
	if exchange(t, socket(t, s), sfuAddress, answerLimit) == "" {
		t.Error("no answer after the kiosk's address has changed")
	}
}

// sendMegabyte connects to the hub and sends a megabyte. If it returns nil, the hub has received all of it.
func sendMegabyte(t *testing.T, s *paths.Side, address string, limit time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	conn, err := s.Kiosk.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(limit))
	if _, err := conn.Write(make([]byte, 1<<20)); err != nil {
		return err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) { // the other end closes after it has read everything
		return err
	}
	return nil
}

// TestTCP checks that TCP gets through where the firewall allows it, also on a link that drops every UDP packet, and nowhere else.
func TestTCP(t *testing.T) {
	n := paths.NewNetwork(t)
	s := n.Sides[1]
	for _, address := range []string{hubAddress, turnAddress} {
		discardTCP(t, n, address)
	}
	s.Link.Set(1, time.Second)
	s.SetMTU(t, 1280)
	for _, address := range []string{hubAddress, turnAddress} {
		if err := sendMegabyte(t, s, address, answerLimit); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	s.SetFirewall(t, paths.NoUDP)
	if err := sendMegabyte(t, s, turnAddress, answerLimit); err != nil {
		t.Errorf("without UDP: %v", err)
	}
	s.SetFirewall(t, paths.Only443)
	if err := sendMegabyte(t, s, hubAddress, answerLimit); err != nil {
		t.Errorf("port 443 where it alone is open: %v", err)
	}
	if err := sendMegabyte(t, s, turnAddress, noAnswerLimit); err == nil {
		t.Error("port 3478 is reached where 443 alone is open")
	}
}

// discardTCP accepts TCP connections at an address of the hub, and reads and discards what comes.
func discardTCP(t *testing.T, n *paths.Network, address string) {
	t.Helper()
	var l net.Listener
	err := n.Hub.Do(func() (err error) {
		l, err = net.Listen("tcp4", address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(answerLimit))
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}
	})
}

// TestLink checks that a link has the delay and the loss that was set.
func TestLink(t *testing.T) {
	n := paths.NewNetwork(t)
	echo(t, n, sfuAddress)
	s := n.Sides[0]
	conn := socket(t, s)
	const delay = 80 * time.Millisecond
	s.Link.Set(0, delay)
	begun := time.Now()
	if exchange(t, conn, sfuAddress, answerLimit) == "" {
		t.Fatal("no answer")
	}
	if took := time.Since(begun); took < 2*delay {
		t.Errorf("a round trip takes %v on a link with a delay of %v each way", took, delay)
	}

	s.Link.Set(0.5, 0)
	to, err := net.ResolveUDPAddr("udp4", sfuAddress)
	if err != nil {
		t.Fatal(err)
	}
	lostBefore, passedBefore := s.Link.Up()
	up := func() (lost, passed uint64) {
		lost, passed = s.Link.Up()
		return lost - lostBefore, passed - passedBefore
	}
	// The test waits until the link has counted each burst before it sends the next. Otherwise, on a busy machine, the kernel drops packets in its
	// queue of 500 packets before the link.
	const bursts, burst = 20, 50
	for n := range bursts {
		for range burst {
			if _, err := conn.WriteToUDP([]byte{1}, to); err != nil {
				t.Fatal(err)
			}
		}
		rig.Eventually(t, answerLimit, func() error {
			lost, passed := up()
			sent := uint64(n+1) * burst
			return rig.Check(lost+passed == sent, "every datagram at the link", fmt.Sprintf("%d lost and %d passed of %d", lost, passed, sent))
		})
	}
	if lost, passed := up(); lost < passed*2/3 || lost > passed*3/2 {
		t.Errorf("a link with a loss of one half dropped %d packets and forwarded %d", lost, passed)
	}
	s.Link.Set(1, 0)
	if from := exchange(t, socket(t, s), sfuAddress, noAnswerLimit); from != "" {
		t.Error("a link with a loss of 1 forwarded a datagram")
	}
	s.Link.Set(0, 0)
	if exchange(t, socket(t, s), sfuAddress, answerLimit) == "" {
		t.Error("a link without loss forwarded no datagram")
	}
}

// TestMTU checks that the kiosk can't send packets that are larger than the MTU of its link.
func TestMTU(t *testing.T) {
	n := paths.NewNetwork(t)
	s := n.Sides[0]
	conn := socket(t, s)
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var refused error
	if err := raw.Control(func(fd uintptr) {
		refused = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
	}); err != nil || refused != nil {
		t.Fatal(err, refused)
	}
	to, err := net.ResolveUDPAddr("udp4", sfuAddress)
	if err != nil {
		t.Fatal(err)
	}
	const large = 1300
	if _, err := conn.WriteToUDP(make([]byte, large), to); err != nil {
		t.Fatal(err)
	}
	s.SetMTU(t, 1280)
	if _, err := conn.WriteToUDP(make([]byte, large), to); !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("a datagram of %d bytes leaves a link for 1280: %v", large, err)
	}
	s.SetMTU(t, 1500)
	if _, err := conn.WriteToUDP(make([]byte, large), to); err != nil {
		t.Errorf("the link is not as before: %v", err)
	}
}

// TestRemoveLeftovers removes the namespaces of a process that has ended, and none of a process that runs.
func TestRemoveLeftovers(t *testing.T) {
	n := paths.NewNetwork(t)
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	// The second name has this process's ID but another start time: it belongs to an earlier process with the same ID.
	names := []string{fmt.Sprintf("ewindow-paths-%d-1-hub", gone.Process.Pid), fmt.Sprintf("ewindow-paths-%d-1-hub", os.Getpid())}
	for _, name := range names {
		if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if err := paths.RemoveLeftovers(); err != nil {
		t.Error(err)
	}
	for _, name := range names {
		if _, err := os.Stat("/run/netns/" + name); err == nil {
			t.Errorf("%s is still there", name)
			_ = exec.Command("ip", "netns", "del", name).Run()
		}
	}
	if _, err := os.Stat("/run/netns/" + n.Hub.Name); err != nil {
		t.Errorf("our own is gone: %v", err)
	}
}
