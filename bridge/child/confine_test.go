package child_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"

	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/bridge/child"
)

// TestConnectTCP: a program may connect to the ports that it has been given and to no others, on all addresses of this machine. We ourselves may
// connect everywhere, also afterwards.
func TestConnectTCP(t *testing.T) {
	listen := func() (port uint16) {
		l, err := net.Listen("tcp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return uint16(l.Addr().(*net.TCPAddr).Port)
	}
	open, closed := listen(), listen()
	// run starts this program as a child, see TestMain, and says whether it could connect.
	run := func(address string, ports []uint16) bool {
		t.Helper()
		c, err := child.New(child.Config{
			Name: "test", ConnectTCP: ports, Log: zerolog.Nop(),
			Command: func() (*exec.Cmd, error) {
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), "EWINDOW_TEST_CONNECT="+address)
				return cmd, nil
			},
			Ready: func(context.Context) error { return errors.New("it only tries to connect") },
		})
		if err != nil {
			t.Fatal(err)
		}
		err = c.Start(t.Context())
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 3 && exit.ExitCode() != 4 {
			t.Fatalf("the program ended with %v", err)
		}
		return exit.ExitCode() == 4
	}
	for _, host := range []string{"127.0.0.1", "[::1]", "localhost", "127.1.2.3"} {
		for _, c := range []struct {
			port uint16
			only []uint16
			want bool
		}{{open, []uint16{open}, true}, {closed, []uint16{open}, false}, {closed, []uint16{open, closed}, true}, {closed, nil, true}} {
			if got := run(fmt.Sprintf("%s:%d", host, c.port), c.only); got != c.want {
				t.Errorf("%s:%d, allowed are %v: connected %t", host, c.port, c.only, got)
			}
		}
	}
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", closed))
	if err != nil {
		t.Fatalf("this program itself is confined: %v", err)
	}
	_ = conn.Close()
}
