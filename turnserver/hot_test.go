package turnserver_test

import (
	"net"
	"testing"
	"time"

	"github.com/pion/stun/v3"

	"multifactorymodel.org/ewindow/turnserver"
)

// channelTo makes an allocation with a channel to an echo, and returns what sends a packet through it and waits until it is back. Neither client
// nor echo allocates memory.
func channelTo(t testing.TB, s *turnserver.Server, size int) (roundTrip func()) {
	t.Helper()
	peer := socket(t).(*net.UDPConn)
	go func() {
		buffer := make([]byte, 2000)
		for {
			n, from, err := peer.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			_, _ = peer.WriteToUDPAddrPort(buffer[:n], from)
		}
	}()
	username, password := turnserver.Credentials(secret, "anna", time.Hour)
	w := newWire(t, s)
	w.allocate(username, password)
	w.request(bindType, []stun.Setter{numbered(0x4000), toward(peer.LocalAddr().(*net.UDPAddr).AddrPort())}, w.sign(username, password, realm))
	if answer := w.receive(); code(answer) != 0 {
		t.Fatalf("ChannelBind is answered %v", answer)
	}
	conn, server := w.PacketConn.(*net.UDPConn), w.server.(*net.UDPAddr).AddrPort()
	packet := append([]byte{0x40, 0, byte(size >> 8), byte(size)}, make([]byte, size)...)
	buffer := make([]byte, 2000)
	_ = conn.SetReadDeadline(time.Time{})
	return func() {
		_, err := conn.WriteToUDPAddrPort(packet, server)
		if err != nil {
			t.Fatal(err)
		}
		if n, _, err := conn.ReadFromUDPAddrPort(buffer); err != nil || n != len(packet) {
			t.Fatalf("%d bytes came back of %d, %v", n, len(packet), err)
		}
	}
}

// TestNoAllocation demands that relaying a packet needs no memory of its own.
func TestNoAllocation(t *testing.T) {
	roundTrip := channelTo(t, start(t, base(t)), 1200)
	roundTrip()
	if n := testing.AllocsPerRun(2000, roundTrip); n > 0 {
		t.Errorf("a round trip allocates %v times", n)
	}
}

// BenchmarkRoundTrip sends one packet through the relay to an echo and back. cmd/ewindow/e2e/turn compares the relay with coturn.
func BenchmarkRoundTrip(b *testing.B) {
	s := start(b, base(b))
	roundTrip := channelTo(b, s, 1000)
	b.ReportAllocs()
	for b.Loop() {
		roundTrip()
	}
}
