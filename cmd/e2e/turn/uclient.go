package turn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
)

// Uclient is a run of turnutils_uclient, coturn's test client.
type Uclient struct {
	// Clients send Packets each, of Bytes bytes, one in Interval milliseconds.
	Clients, Packets, Bytes, Interval int
	// Flags are put before everything else, such as -t for TCP; with -S the server's TLS port is taken.
	Flags []string
	// Pairs has every other client take the port that was reserved for it, as for RTCP, and send to the peer's next port; Clients must be even.
	Pairs bool
	// Address of the server; "" is 127.0.0.1.
	Address string
}

var uclientFigures = regexp.MustCompile(`tot_send_msgs=(\d+), tot_recv_msgs=(\d+)\n(?:.*\n)*?.*Total lost packets (\d+) `)

// Run sends through a server to an echo peer and returns how many packets were sent and how many of them did not come back. That the
// program fails, or sends another number of packets than it should, is an error. Several runs may be made at once.
func (u Uclient) Run(ctx context.Context, s *Server, peer netip.AddrPort) (sent, lost int, err error) {
	username, password := s.Credentials("uclient")
	args, port := append([]string(nil), u.Flags...), s.Port
	if slices.Contains(u.Flags, "-S") {
		args, port = append(args, "-E", s.CAFile), s.TLSPort
	}
	address := u.Address
	if address == "" {
		address = "127.0.0.1"
	}
	if !u.Pairs {
		args = append(args, "-c")
	}
	args = append(args, "-u", username, "-w", password, "-p", strconv.Itoa(port), "-e", peer.Addr().String(), "-r", strconv.Itoa(int(peer.Port())),
		"-m", strconv.Itoa(u.Clients), "-n", strconv.Itoa(u.Packets), "-l", strconv.Itoa(u.Bytes), "-z", strconv.Itoa(u.Interval), address)
	output, err := exec.CommandContext(ctx, "turnutils_uclient", args...).CombinedOutput()
	if err != nil {
		return 0, 0, fmt.Errorf("turnutils_uclient %v: %w\n%s", u.Flags, err, output)
	}
	sent, received, lost, err := parseUclient(output)
	if err == nil && (sent != u.Clients*u.Packets || received+lost != sent) {
		err = fmt.Errorf("%d packets were sent, %d received and %d lost", sent, received, lost)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("turnutils_uclient %v: %w\n%s", u.Flags, err, output)
	}
	return sent, lost, nil
}

// parseUclient finds the figures that turnutils_uclient prints in the end.
func parseUclient(output []byte) (sent, received, lost int, err error) {
	all := uclientFigures.FindAllSubmatch(output, -1)
	if len(all) == 0 {
		return 0, 0, 0, errors.New("there are no figures in what it printed")
	}
	var figures [3]int
	for i := range figures {
		if figures[i], err = strconv.Atoi(string(all[len(all)-1][i+1])); err != nil {
			return 0, 0, 0, err
		}
	}
	return figures[0], figures[1], figures[2], nil
}

// Echo answers on a UDP port of 127.0.0.1 what it gets, until the end of the test.
func Echo(t testing.TB) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadBuffer(4 << 20)
	var done sync.WaitGroup
	done.Go(func() {
		buffer := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			_, _ = conn.WriteToUDPAddrPort(buffer[:n], from)
		}
	})
	t.Cleanup(func() {
		_ = conn.Close()
		done.Wait()
	})
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// CoturnPeer runs turnutils_peer, coturn's echo peer, until the end of the test. It answers on the next port, too.
func CoturnPeer(t testing.TB) netip.AddrPort {
	t.Helper()
	program := Need(t, "turnutils_peer")
	return start(t, func(_ string, s *Server) ([]string, error) {
		ports, err := freePorts(1)
		if err != nil {
			return nil, err
		}
		s.Name, s.Port = "turnutils_peer", ports[0]
		s.ready = func(context.Context) error { _, err := s.exchange([]byte("anybody there?")); return err }
		return []string{program, "-L", "127.0.0.1", "-p", strconv.Itoa(s.Port)}, nil
	}).UDP()
}

// CoturnVersion is what coturn says of itself.
func CoturnVersion(t testing.TB) string {
	t.Helper()
	cmd := exec.Command(Need(t, "turnserver"), "--version")
	cmd.Dir = t.TempDir()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("turnserver --version: %v", err)
	}
	return regexp.MustCompile(`(?m)^[0-9][0-9.a-z-]*$`).FindString(string(out))
}
