//go:build full

package turnserver_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/pion/stun/v3"
	"golang.org/x/sys/unix"

	"multifactorymodel.org/ewindow/cmd/e2e/rig"
	"multifactorymodel.org/ewindow/turnserver"
)

const (
	smallest = 1280 // MTU in the network of TestDontFragment, in bytes; the smallest that IPv6 allows
	inside   = "EWINDOW_TEST_INSIDE"
)

// TestDontFragment runs itself in a network namespace with a small MTU. It demands that a packet with DONT-FRAGMENT is sent whole or not
// at all, and that every other packet is sent in fragments.
func TestDontFragment(t *testing.T) {
	if os.Getenv(inside) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), inside+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		if os.Geteuid() != 0 {
			cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		}
		output, err := cmd.CombinedOutput()
		if errors.Is(err, syscall.EPERM) && os.Getenv("EWINDOW_E2E") != "require" {
			t.Skipf("%v: run this test as root", err)
		}
		if err != nil {
			t.Fatalf("in a network namespace: %v\n%s", err, output)
		}
		return
	}
	shrinkLoopback(t)
	cfg := base(t)
	cfg.Relays = append(cfg.Relays, turnserver.Relay{Public: netip.IPv6Loopback(), Local: netip.IPv6Loopback()})
	cfg.AllowedPeers = append(cfg.AllowedPeers, peers(t, "::1")...)
	username, password := turnserver.Credentials(secret, "anna", time.Hour)
	for listener, transport := range []turnserver.Transport{turnserver.UDP, turnserver.TCP} {
		for family, host := range map[byte]string{1: "127.0.0.1", 2: "::1"} {
			t.Run(string(transport)+" "+host, func(t *testing.T) {
				s := start(t, cfg)
				peer, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
				if err != nil {
					t.Fatal(err)
				}
				defer peer.Close()
				at := toward(peer.LocalAddr().(*net.UDPAddr).AddrPort())
				w := &wire{PacketConn: connect(t, s, transport), t: t, server: s.Addrs()[listener]}
				w.getNonce()
				for _, extra := range [][]stun.Setter{
					{allocateType, attribute(transportUDP), raw(stun.AttrDontFragment), raw(stun.AttrRequestedAddressFamily, family, 0, 0, 0)},
					{bindType, numbered(0x4000), at},
				} {
					w.request(extra[0].(stun.MessageType), extra[1:], w.sign(username, password, realm))
					if answer := w.receive(); code(answer) != 0 {
						t.Fatalf("%v is answered %v", extra[0], answer)
					}
				}
				indicate := func(size int, extra ...stun.Setter) {
					w.send(append(extra, stun.NewType(stun.MethodSend, stun.ClassIndication), at, raw(stun.AttrData, make([]byte, size)...))...)
				}
				arrives := func(size int) {
					t.Helper()
					_ = peer.SetReadDeadline(time.Now().Add(patient))
					if n, _, err := peer.ReadFrom(make([]byte, 2000)); err != nil || n != size {
						t.Fatalf("%d bytes come instead of %d, %v", n, size, err)
					}
				}
				indicate(1400)
				arrives(1400)
				indicate(1400, raw(stun.AttrDontFragment))
				indicate(1200, raw(stun.AttrDontFragment))
				arrives(1200)
				indicate(1401)
				arrives(1401)
				w.raw(append([]byte{0x40, 0, 0x05, 0x78}, make([]byte, 1400)...))
				arrives(1400)
				rig.Eventually(t, patient, func() error {
					if c := s.Counters(); c.ToPeers != 4 || c.Unsent != 1 {
						return fmt.Errorf("counted %+v", c)
					}
					return nil
				})
			})
		}
	}
}

// shrinkLoopback brings up the loopback interface of a new network namespace, with a small MTU.
func shrinkLoopback(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	for _, step := range []struct {
		request uint
		set     func(*unix.Ifreq)
	}{
		{unix.SIOCSIFMTU, func(r *unix.Ifreq) { r.SetUint32(smallest) }},
		{unix.SIOCSIFFLAGS, func(r *unix.Ifreq) { r.SetUint16(unix.IFF_UP) }},
	} {
		lo, err := unix.NewIfreq("lo")
		if err != nil {
			t.Fatal(err)
		}
		step.set(lo)
		if err := unix.IoctlIfreq(fd, step.request, lo); err != nil {
			t.Fatal(err)
		}
	}
}
