package turnserver_test

import (
	"bytes"
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/pion/stun/v3"
	"github.com/pion/turn/v4"

	"multifactorymodel.org/ewindow/cmd/e2e/rig"
	"multifactorymodel.org/ewindow/turnserver"
)

// The tests in this file send bytes that no honest client sends.

// wire is a socket that talks STUN to a server.
type wire struct {
	net.PacketConn
	t      testing.TB
	server net.Addr
	nonce  stun.Nonce
}

func newWire(t testing.TB, s *turnserver.Server) *wire {
	return &wire{PacketConn: socket(t), t: t, server: s.Addrs()[0]}
}

// send builds a message and sends it.
func (w *wire) send(setters ...stun.Setter) *stun.Message {
	w.t.Helper()
	m, err := stun.Build(append([]stun.Setter{stun.TransactionID}, setters...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.raw(m.Raw)
	return m
}

func (w *wire) raw(p []byte) {
	w.t.Helper()
	if _, err := w.WriteTo(p, w.server); err != nil {
		w.t.Fatal(err)
	}
}

// receive returns the next message.
func (w *wire) receive() *stun.Message {
	w.t.Helper()
	buffer := make([]byte, 2000)
	_ = w.SetReadDeadline(time.Now().Add(patient))
	n, _, err := w.ReadFrom(buffer)
	if err != nil {
		w.t.Fatal(err)
	}
	m := &stun.Message{Raw: buffer[:n]}
	if err := m.Decode(); err != nil {
		w.t.Fatal(err)
	}
	return m
}

// comesBack sends channel data to an echo, and demands that the same data comes back.
func (w *wire) comesBack(want []byte) {
	w.t.Helper()
	w.raw(want)
	buffer := make([]byte, 2000)
	_ = w.SetReadDeadline(time.Now().Add(patient))
	if n, from, err := w.ReadFrom(buffer); err != nil || !bytes.Equal(buffer[:n], want) {
		w.t.Errorf("%q came back from %v, %v", buffer[:n], from, err)
	}
}

// code is an answer's error code, 0 for success.
func code(m *stun.Message) stun.ErrorCode {
	var e stun.ErrorCodeAttribute
	if m.Type.Class == stun.ClassSuccessResponse || e.GetFrom(m) != nil {
		return 0
	}
	return e.Code
}

var (
	transportUDP = stun.RawAttribute{Type: stun.AttrRequestedTransport, Value: []byte{17, 0, 0, 0}}
	transportTCP = stun.RawAttribute{Type: stun.AttrRequestedTransport, Value: []byte{6, 0, 0, 0}}
	endNow       = stun.RawAttribute{Type: stun.AttrLifetime, Value: []byte{0, 0, 0, 0}}
	allocateType = stun.NewType(stun.MethodAllocate, stun.ClassRequest)
)

// attribute adds a raw attribute.
type attribute stun.RawAttribute

func (a attribute) AddTo(m *stun.Message) error { m.Add(a.Type, a.Value); return nil }

// getNonce asks for a nonce with an unsigned Allocate, as every client begins.
func (w *wire) getNonce() {
	w.t.Helper()
	w.send(allocateType, attribute(transportUDP))
	m := w.receive()
	if code(m) != stun.CodeUnauthorized {
		w.t.Fatalf("an unsigned Allocate is answered %v", m)
	}
	if err := w.nonce.GetFrom(m); err != nil {
		w.t.Fatal(err)
	}
}

// sign makes the attributes that authenticate a request.
func (w *wire) sign(username, password, realm string) []stun.Setter {
	return []stun.Setter{
		stun.NewUsername(username), stun.NewRealm(realm), &w.nonce, stun.NewLongTermIntegrity(username, realm, password),
	}
}

func (w *wire) request(kind stun.MessageType, extra []stun.Setter, signed []stun.Setter) *stun.Message {
	w.t.Helper()
	return w.send(append(append([]stun.Setter{kind}, extra...), signed...)...)
}

// allocate makes an allocation, and returns the request that made it.
func (w *wire) allocate(username, password string) *stun.Message {
	w.t.Helper()
	w.getNonce()
	m := w.request(allocateType, []stun.Setter{attribute(transportUDP)}, w.sign(username, password, realm))
	if answer := w.receive(); code(answer) != 0 {
		w.t.Fatalf("Allocate is answered %v", answer)
	}
	return m
}

// passwordOf returns the right password for any user name, so that only the name can be wrong.
func passwordOf(t testing.TB, username string) string {
	t.Helper()
	return turnserver.PasswordFor(secret, username)
}

func TestForgedLogins(t *testing.T) {
	s := start(t, base(t))
	good, goodPassword := turnserver.Credentials(secret, "anna", time.Hour)
	_, foreign := turnserver.Credentials("another secret of 16", "anna", time.Hour)
	past := strconv.FormatInt(time.Now().Add(-time.Second).Unix(), 10)
	for name, test := range map[string]struct{ username, password, realm string }{
		"wrong password":       {good, "x", realm},
		"another secret":       {good, foreign, realm},
		"another's name":       {good + "x", goodPassword, realm},
		"another realm":        {good, goodPassword, "elsewhere"},
		"expired":              {past + ":anna", passwordOf(t, past+":anna"), realm},
		"expired long ago":     {"0:anna", passwordOf(t, "0:anna"), realm},
		"no time":              {"anna", passwordOf(t, "anna"), realm},
		"empty":                {"", passwordOf(t, ""), realm},
		"only a colon":         {":", passwordOf(t, ":"), realm},
		"signed time":          {"+99999999999:anna", passwordOf(t, "+99999999999:anna"), realm},
		"negative time":        {"-99999999999:anna", passwordOf(t, "-99999999999:anna"), realm},
		"time beyond all size": {"99999999999999999999:anna", passwordOf(t, "99999999999999999999:anna"), realm},
		"space before":         {" " + good, passwordOf(t, " "+good), realm},
		"hexadecimal":          {"0xfffffffff:anna", passwordOf(t, "0xfffffffff:anna"), realm},
	} {
		before := s.Counters().RefusedLogins
		w := newWire(t, s)
		w.getNonce()
		w.request(allocateType, []stun.Setter{attribute(transportUDP)}, w.sign(test.username, test.password, test.realm))
		if answer := w.receive(); code(answer) == 0 {
			t.Errorf("%s: accepted", name)
		}
		if c := s.Counters(); c.RefusedLogins != before+1 || c.Created != 0 {
			t.Errorf("%s: counted %+v", name, c)
		}
	}
	newWire(t, s).allocate(good, goodPassword) // right credentials work in the same way
}

// TestForgedNonce demands that a server takes no nonces but its own.
func TestForgedNonce(t *testing.T) {
	s, other := start(t, base(t)), start(t, base(t))
	username, password := turnserver.Credentials(secret, "anna", time.Hour)
	elsewhere := newWire(t, other)
	elsewhere.getNonce()
	for name, nonce := range map[string]stun.Nonce{"made up": stun.NewNonce("abc"), "of another server": elsewhere.nonce} {
		w := newWire(t, s)
		w.nonce = nonce
		w.request(allocateType, []stun.Setter{attribute(transportUDP)}, w.sign(username, password, realm))
		if answer := w.receive(); code(answer) != stun.CodeStaleNonce {
			t.Errorf("%s: answered %v", name, answer)
		}
	}
}

// TestReplay sends a request that was heard on the wire again, from another address: while the allocation lives, and afterwards.
func TestReplay(t *testing.T) {
	s := start(t, base(t))
	username, password := turnserver.Credentials(secret, "anna", time.Hour)
	honest, thief := newWire(t, s), newWire(t, s)
	heard := honest.allocate(username, password)
	check := func(when string, want uint64) {
		thief.raw(heard.Raw)
		if answer := thief.receive(); code(answer) != stun.CodeStaleNonce {
			t.Errorf("%s: a replayed request is answered %v", when, answer)
		}
		if c := s.Counters(); c.StaleNonces != want || c.Created != 1 {
			t.Errorf("%s: counted %+v", when, c)
		}
	}
	check("while served", 1)
	honest.raw(heard.Raw) // sent again by its sender, because the answer was lost
	if answer := honest.receive(); code(answer) != 0 {
		t.Errorf("a request that its sender repeats is answered %v", answer)
	}
	honest.request(stun.NewType(stun.MethodRefresh, stun.ClassRequest), []stun.Setter{attribute(endNow)},
		honest.sign(username, password, realm))
	if answer := honest.receive(); code(answer) != 0 {
		t.Fatalf("Refresh is answered %v", answer)
	}
	check("afterwards", 2)
}

// TestHijack forges a client's address, and demands that another user's good credentials neither end nor use its allocation.
func TestHijack(t *testing.T) {
	s := start(t, base(t))
	username, password := turnserver.Credentials(secret, "anna", time.Hour)
	thief, thiefPassword := turnserver.Credentials(secret, "ben", time.Hour)
	w := newWire(t, s)
	w.allocate(username, password)
	w.request(stun.NewType(stun.MethodRefresh, stun.ClassRequest), []stun.Setter{attribute(endNow)}, w.sign(thief, thiefPassword, realm))
	if answer := w.receive(); code(answer) == 0 {
		t.Error("another user ended an allocation")
	}
	if n := s.Counters().Allocations; n != 1 {
		t.Errorf("%d allocations are left", n)
	}
}

// TestTCPAllocation demands that TCP relaying (RFC 6062) is refused with the answer that its clients expect.
func TestTCPAllocation(t *testing.T) {
	s := start(t, base(t))
	username, password := turnserver.Credentials(secret, "anna", time.Hour)
	w := newWire(t, s)
	w.getNonce()
	request := w.request(allocateType, []stun.Setter{attribute(transportTCP)}, w.sign(username, password, realm))
	answer := w.receive()
	if code(answer) != stun.CodeUnsupportedTransProto || answer.TransactionID != request.TransactionID ||
		answer.Type != stun.NewType(stun.MethodAllocate, stun.ClassErrorResponse) {
		t.Errorf("answered %v", answer)
	}
	if c := s.Counters(); c.Created != 0 || c.RefusedTransports != 1 {
		t.Errorf("counted %+v", c)
	}
}

// TestFlood demands that a flood of unsigned requests gets few answers, and that clients with an allocation do not notice it.
func TestFlood(t *testing.T) {
	s := start(t, base(t))
	peer := socket(t)
	go echo(peer)
	relay := allocate(t, login(t, s, turnserver.UDP, "anna"))
	flood := newWire(t, s)
	const sent = 2000
	begin := time.Now()
	for i := range sent {
		flood.send(allocateType, attribute(transportUDP))
		if i%100 == 0 { // wait for the server, so that the system's buffer drops nothing
			roundTrips(t, relay, peer.LocalAddr(), 1)
		}
	}
	roundTrips(t, relay, peer.LocalAddr(), 20)
	// The flood may come to another of the server's sockets than the relayed packets, and be handled later.
	answered, buffer := 0, make([]byte, 2000)
	rig.Eventually(t, patient, func() error {
		_ = flood.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		for {
			if _, _, err := flood.ReadFrom(buffer); err != nil {
				break
			}
			answered++
		}
		c := s.Counters()
		return rig.Check(answered+int(c.Limited) == sent, "every request being answered or refused", fmt.Sprint(answered, " answered, ", c))
	})
	c := s.Counters()
	allowed := 100 + int(time.Since(begin).Seconds()*20) + 1
	if answered > allowed || c.Limited == 0 || c.Created != 1 {
		t.Errorf("%d of %d were answered, %d are allowed; counted %+v", answered, sent, allowed, c)
	}
}

// TestGarbage sends bytes that are no message, and demands that the server goes on.
func TestGarbage(t *testing.T) {
	s := start(t, base(t))
	w := newWire(t, s)
	garbage := [][]byte{
		{}, {0}, {0x40, 0, 0, 0}, {0x40, 1, 0xff, 0xff}, bytes.Repeat([]byte{0xff}, 100), bytes.Repeat([]byte{0}, 2000),
		{0, 3, 0, 8, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},             // shorter than its length says
		{0, 3, 0, 4, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 9}, // the attribute is shorter than its length says
	}
	for _, p := range garbage {
		w.raw(p)
	}
	binding := w.send(stun.BindingRequest)
	if answer := w.receive(); answer.TransactionID != binding.TransactionID {
		t.Errorf("garbage is answered: %v", answer)
	}
	if n := s.Counters().Malformed; n != uint64(len(garbage)) {
		t.Errorf("%d of %d are counted", n, len(garbage))
	}
	for _, p := range garbage {
		conn, err := net.Dial("tcp", s.Addrs()[1].String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write(p)
		_ = conn.Close()
	}
	allocate(t, login(t, s, turnserver.TCP, "anna"))
}

// TestStreamLimit demands that one address cannot take up all connections.
func TestStreamLimit(t *testing.T) {
	s := start(t, base(t))
	for range 64 {
		conn, err := net.Dial("tcp", s.Addrs()[1].String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	conn, err := net.Dial("tcp", s.Addrs()[1].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(patient))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil || isTimeout(err) {
		t.Errorf("the 65th connection was not closed: %v", err)
	}
	if c := s.Counters(); c.Streams != 64 || c.RefusedStreams != 1 {
		t.Errorf("counted %+v", c)
	}
}

func isTimeout(err error) bool {
	n, ok := err.(net.Error)
	return ok && n.Timeout()
}

func netPort(addr net.Addr) int {
	switch a := addr.(type) {
	case *net.UDPAddr:
		return a.Port
	case *net.TCPAddr:
		return a.Port
	}
	panic(fmt.Sprintf("address of type %T", addr))
}

// ExampleCredentials hands out credentials for a day.
func ExampleCredentials() {
	username, password := turnserver.Credentials("a secret of sixteen bytes", "anna", 24*time.Hour)
	client, err := turn.NewClient(&turn.ClientConfig{Username: username, Password: password})
	fmt.Println(client == nil, err != nil)
}
