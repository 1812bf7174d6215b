package turnserver_test

import (
	"bytes"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/pion/stun/v3"

	"multifactorymodel.org/ewindow/cmd/e2e/rig"
	"multifactorymodel.org/ewindow/turnserver"
)

// ask sends an Allocate request of a new client. It returns the client, the answer, and the port and the token in it.
func ask(t *testing.T, s *turnserver.Server, name string, extra ...stun.Setter) (w *wire, answer *stun.Message, port int, token []byte) {
	t.Helper()
	w = newWire(t, s)
	w.getNonce()
	username, password := turnserver.Credentials(secret, name, time.Hour)
	request := w.request(allocateType, append(extra, attribute(transportUDP)), w.sign(username, password, realm))
	answer = w.receive()
	var relayed stun.XORMappedAddress
	if code(answer) == 0 {
		if err := relayed.GetFromAs(answer, stun.AttrXORRelayedAddress); err != nil {
			t.Fatal(err)
		}
		w.raw(request.Raw) // as if the answer were lost
		if again := w.receive(); !bytes.Equal(again.Raw, answer.Raw) {
			t.Errorf("answered %v, then %v", answer, again)
		}
	}
	token, _ = answer.Get(stun.AttrReservationToken)
	return w, answer, relayed.Port, token
}

var (
	evenPort = raw(stun.AttrEvenPort, 0)
	portPair = raw(stun.AttrEvenPort, 0x80)
)

func withToken(token []byte) stun.Setter { return raw(stun.AttrReservationToken, token...) }

// TestReservation demands that the port after an even one is kept for the user with the token: once, and for nobody else.
func TestReservation(t *testing.T) {
	s := start(t, base(t))
	for range 5 {
		if _, answer, port, token := ask(t, s, "anna", evenPort); code(answer) != 0 || port%2 != 0 || token != nil {
			t.Fatalf("an even port: %v", answer)
		}
	}
	first, answer, port, token := ask(t, s, "ben", portPair)
	if code(answer) != 0 || port%2 != 0 || len(token) != 8 {
		t.Fatalf("a pair of ports: %v", answer)
	}
	if c := s.Counters(); c.Allocations != 6 {
		t.Errorf("%d allocations are counted", c.Allocations)
	}
	if _, answer, _, _ := ask(t, s, "anna", withToken(token)); code(answer) != stun.CodeInsufficientCapacity {
		t.Errorf("another user's token: %v", answer)
	}
	username, password := turnserver.Credentials(secret, "ben", time.Hour)
	first.request(refreshType, []stun.Setter{attribute(endNow)}, first.sign(username, password, realm))
	if answer := first.receive(); code(answer) != 0 {
		t.Fatalf("Refresh is answered %v", answer)
	}
	w, answer, next, none := ask(t, s, "ben", withToken(token))
	if code(answer) != 0 || next != port+1 || none != nil {
		t.Fatalf("the token of port %d: %v", port+1, answer)
	}
	if _, answer, _, _ := ask(t, s, "ben", withToken(token)); code(answer) != stun.CodeInsufficientCapacity {
		t.Errorf("the token once more: %v", answer)
	}
	peer := socket(t)
	go echo(peer)
	w.request(bindType, []stun.Setter{numbered(0x4000), toward(peer.LocalAddr().(*net.UDPAddr).AddrPort())}, w.sign(username, password, realm))
	if answer := w.receive(); code(answer) != 0 {
		t.Fatalf("ChannelBind is answered %v", answer)
	}
	w.comesBack([]byte{0x40, 0, 0, 5, 'h', 'e', 'l', 'l', 'o'})
	if c := s.Counters(); c.Allocations != 6 || c.RefusedQuota != 0 {
		t.Errorf("counted %+v", c)
	}
}

// TestReservationQuota demands that reserved ports count for the limits, and that a refused pair of ports takes nothing.
func TestReservationQuota(t *testing.T) {
	cfg := base(t)
	cfg.MaxAllocations, cfg.MaxAllocationsPerUser = 4, 3
	s := start(t, cfg)
	for i, step := range []struct {
		user  string
		extra []stun.Setter
		want  stun.ErrorCode
	}{
		{"anna", []stun.Setter{portPair}, 0}, {"anna", []stun.Setter{portPair}, 486}, {"anna", nil, 0}, {"anna", nil, 486},
		{"ben", []stun.Setter{portPair}, 486}, {"ben", nil, 0}, {"ben", nil, 486},
	} {
		if _, answer, _, _ := ask(t, s, step.user, step.extra...); code(answer) != step.want {
			t.Errorf("step %d is answered %v", i, answer)
		}
	}
	if c := s.Counters(); c.Allocations != 3 || c.RefusedQuota != 4 {
		t.Errorf("counted %+v", c)
	}
}

// TestReservationPorts demands that both ports of a pair lie in the range, and that Close closes both.
func TestReservationPorts(t *testing.T) {
	var even int
	rig.Eventually(t, patient, func() error { // three neighbouring free ports
		a := socket(t)
		even = a.LocalAddr().(*net.UDPAddr).Port &^ 1
		_ = a.Close()
		return free(even-1, even, even+1)
	})
	cfg := base(t)
	cfg.MinPort, cfg.MaxPort = uint16(even-1), uint16(even)
	s := start(t, cfg)
	if _, answer, _, _ := ask(t, s, "anna", portPair); code(answer) != stun.CodeInsufficientCapacity {
		t.Errorf("a pair beyond the range: %v", answer)
	}
	if _, answer, port, _ := ask(t, s, "anna", evenPort); code(answer) != 0 || port != even {
		t.Errorf("an even port: %v", answer)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	cfg.MaxPort = uint16(even + 1)
	s = start(t, cfg)
	if _, answer, port, _ := ask(t, s, "anna", portPair); code(answer) != 0 || port != even {
		t.Errorf("a pair: %v", answer)
	}
	if free(even+1) == nil {
		t.Error("the port is not kept")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := free(even, even+1); err != nil {
		t.Errorf("after Close: %v", err)
	}
}

// free returns an error for the first port of 127.0.0.1 that is taken, nil if none is.
func free(ports ...int) error {
	for _, port := range ports {
		p, err := net.ListenPacket("udp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return err
		}
		_ = p.Close()
	}
	return nil
}
