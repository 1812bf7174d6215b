package turnserver_test

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pion/turn/v4"
	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/turnserver"
)

// TestServe serves a client whose connection another listener has accepted. It demands that Serve ends when that listener is closed, and that
// the client stays until the server is closed.
func TestServe(t *testing.T) {
	cfg, log := base(t), new(bytes.Buffer)
	cfg.Log = zerolog.New(zerolog.SyncWriter(log)).Level(zerolog.InfoLevel)
	s := start(t, cfg)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l, turnserver.TCP) }()
	peer := socket(t)
	go echo(peer)
	relay := allocate(t, foreign(t, l.Addr().String()))
	roundTrips(t, relay, peer.LocalAddr(), 20)
	if c := s.Counters(); c.Streams != 1 || c.Allocations != 1 {
		t.Errorf("counted %+v", c)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ended(t, served, "after its listener was closed")
	roundTrips(t, relay, peer.LocalAddr(), 20)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(log.String(), `"transport":"tcp","relayed"`); n != 2 { // its start and its end
		t.Errorf("the log does not say how the client came:\n%s", log)
	}
}

// TestServeClose demands that closing the server ends Serve and closes its listener, and that a closed server takes no other listener.
func TestServeClose(t *testing.T) {
	s, err := turnserver.New(base(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l, turnserver.TCP) }()
	allocate(t, foreign(t, l.Addr().String()))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	ended(t, served, "after the server was closed")
	if c := s.Counters(); c.Streams != 0 || c.Allocations != 0 {
		t.Errorf("%d streams and %d allocations are left", c.Streams, c.Allocations)
	}
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(other, turnserver.TCP); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed server serves: %v", err)
	}
	if _, err := other.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener given to a closed server is open: %v", err)
	}
}

func ended(t *testing.T, served <-chan error, when string) {
	t.Helper()
	select {
	case err := <-served:
		if err != nil {
			t.Errorf("Serve returned %v %s", err, when)
		}
	case <-time.After(patient):
		t.Fatalf("Serve did not return %s", when)
	}
}

// foreign makes a client on a connection to an address on which the server itself does not listen.
func foreign(t *testing.T, address string) *turn.Client {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	username, password := turnserver.Credentials(secret, "anna", time.Hour)
	return clientOn(t, turn.NewSTUNConn(conn), address, username, password)
}
