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
	// Clients is the number of clients. Each sends Packets packets of Bytes bytes, one every Interval milliseconds.
	Clients, Packets, Bytes, Interval int
	// Flags are the first command-line flags, such as -t for TCP. With -S the client uses the server's TLS port.
	Flags []string
	// Pairs makes each second client use the port that the first one reserved (EVEN-PORT, RESERVATION-TOKEN), as for RTCP. It sends to the
	// peer's next port. Clients must be even.
	Pairs bool
	// Address is the server's address. "" means 127.0.0.1.
	Address string
}

var uclientFigures = regexp.MustCompile(`tot_send_msgs=(\d+), tot_recv_msgs=(\d+)\n(?:.*\n)*?.*Total lost packets (\d+) `)

// Run sends packets through a server to an echo peer. It returns how many were sent and how many did not come back. It returns an error if the program
// fails or sends a wrong number of packets. Several runs may run at the same time.
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

// parseUclient parses the figures that turnutils_uclient prints at its end.
func parseUclient(output []byte) (sent, received, lost int, err error) {
	all := uclientFigures.FindAllSubmatch(output, -1)
	if len(all) == 0 {
		return 0, 0, 0, errors.New("its output has no figures")
	}
	var figures [3]int
	for i := range figures {
		if figures[i], err = strconv.Atoi(string(all[len(all)-1][i+1])); err != nil {
			return 0, 0, 0, err
		}
	}
	return figures[0], figures[1], figures[2], nil
}

// Echo sends back each packet that comes to a UDP port of 127.0.0.1, until the test ends. It returns the port's address.
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

// CoturnPeer runs turnutils_peer, coturn's echo peer, until the test ends. It also answers on the next port.
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

// CoturnVersion returns the version that coturn prints.
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
