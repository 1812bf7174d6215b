package child_test

import (
	"fmt"
	"net"
	"testing"

	"multifactorymodel.org/ewindow/bridge/child"
)

// TestFreePort: this process has a hundred ports for itself, and takes another one each time.
func TestFreePort(t *testing.T) {
	seen := make(map[int]bool)
	first := 0
	for range 50 {
		port, err := child.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		if seen[port] {
			t.Errorf("the port %d was given twice", port)
		}
		seen[port] = true
		if block := port - port%100; first == 0 {
			first = block
		} else if block != first {
			t.Errorf("the port %d is not one of the hundred from %d on", port, first)
		}
	}
	if l, err := net.Listen("unix", fmt.Sprintf("@ewindow-ports-%d", first)); err == nil {
		_ = l.Close()
		t.Error("another process could take these ports, too")
	}
	taken, err := child.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	for network, listen := range map[string]func(string) (func() error, error){
		"tcp": func(address string) (func() error, error) {
			l, err := net.Listen("tcp", address)
			if err != nil {
				return nil, err
			}
			return l.Close, nil
		},
		"udp": func(address string) (func() error, error) {
			l, err := net.ListenPacket("udp", address)
			if err != nil {
				return nil, err
			}
			return l.Close, nil
		},
	} {
		closed, err := listen(fmt.Sprintf("127.0.0.1:%d", taken))
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if port, err := child.FreePort(); err != nil || port == taken {
				t.Errorf("a port where somebody listens (%s) is free: %v", network, err)
			}
		}
		_ = closed()
	}
}
