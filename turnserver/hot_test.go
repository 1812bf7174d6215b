package turnserver_test

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/pion/stun/v3"

	"multifactorymodel.org/ewindow/cmd/e2e/rig"
	"multifactorymodel.org/ewindow/turnserver"
)

// channelTo makes an allocation with a channel to an echo. It returns a function that sends a packet through the channel and waits for
// it to come back; the function returns false if the packet is lost. Neither client nor echo allocates memory.
func channelTo(t testing.TB, s *turnserver.Server, size int) (roundTrip func() bool) {
	t.Helper()
	peer := socket(t)
	go echo(peer)
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
	return func() bool {
		_ = conn.SetReadDeadline(time.Now().Add(patient))
		_, err := conn.WriteToUDPAddrPort(packet, server)
		if err != nil {
			t.Fatal(err)
		}
		n, _, err := conn.ReadFromUDPAddrPort(buffer)
		if err == nil && n != len(packet) {
			t.Fatalf("%d bytes came back of %d", n, len(packet))
		}
		return err == nil
	}
}

// TestNoAllocation demands that relaying a packet allocates no memory.
func TestNoAllocation(t *testing.T) {
	roundTrip := channelTo(t, start(t, base(t)), 1200)
	roundTrip()
	if n := testing.AllocsPerRun(2000, func() { roundTrip() }); n > 0 {
		t.Errorf("a round trip allocates %v times", n)
	}
}

// BenchmarkRoundTrip sends one packet through the relay to an echo and back. cmd/e2e/turn compares the relay with coturn.
func BenchmarkRoundTrip(b *testing.B) {
	s := start(b, base(b))
	roundTrip := channelTo(b, s, 1000)
	b.ReportAllocs()
	for b.Loop() {
		roundTrip()
	}
}

// floodTime is how long TestSpoofedFlood lasts.
func floodTime(t *testing.T) time.Duration {
	d, err := time.ParseDuration(cmp.Or(os.Getenv("EWINDOW_FLOOD"), "5s"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestSpoofedFlood sends a thousand Allocate requests from one address, and then as many as the server takes from hundreds of addresses. It
// demands that a client's packets come back meanwhile, and that the server keeps no memory for the flood. EWINDOW_FLOOD=1m makes it last
// a minute.
func TestSpoofedFlood(t *testing.T) {
	s := start(t, base(t))
	roundTrip := channelTo(t, s, 1000)
	request := stun.MustBuild(stun.TransactionID, allocateType, attribute(transportUDP)).Raw
	server := s.Addrs()[0].(*net.UDPAddr).AddrPort()
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var sources []*net.UDPConn
	for i := range 400 {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 1, byte(i>>8), byte(i))})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		sources = append(sources, conn)
	}
	before, end := heap(), time.Now().Add(floodTime(t))
	var slowest time.Duration
	sent, trips, lost := 0, 0, 0
	// Each of the client's packets comes behind a hundred requests. A slow machine can't fall behind, so that a lost packet is the server's fault
	// and not the machine's.
	behind := func(burst []*net.UDPConn) {
		for _, conn := range burst {
			if _, err := conn.WriteToUDPAddrPort(request, server); err == nil {
				sent++
			}
		}
		begun := time.Now()
		if trips++; !roundTrip() {
			lost++
		}
		slowest = max(slowest, time.Since(begun))
	}
	// A slow machine can't exceed the limits of hundreds of addresses. This exceeds the limit of one.
	for range 10 {
		behind(slices.Repeat(sources[:1], 100))
	}
	for trips < 200 || time.Now().Before(end) {
		for burst := range slices.Chunk(sources, 100) {
			behind(burst)
		}
	}
	var after uint64
	rig.Eventually(t, patient, func() error { // answers that are being made use memory, too
		if after = heap(); after > before+256<<10 {
			return fmt.Errorf("%d kB are kept of the flood", (after-before)>>10)
		}
		return nil
	})
	c := s.Counters()
	t.Logf("%d requests from %d addresses: %d got no answer; %d of %d packets beside them were lost, the slowest took %v; heap %d kB, then %d kB",
		sent, len(sources), c.Limited, lost, trips, slowest, before>>10, after>>10)
	if lost > trips/100 {
		t.Errorf("%d packets of %d were lost", lost, trips)
	}
	if c.Created != 1 || c.Limited == 0 { // TestFlood counts the answers: it loses no request on the way
		t.Errorf("counted %+v", c)
	}
}
