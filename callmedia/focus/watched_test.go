package focus

import (
	"bytes"
	"math/rand/v2"
	"net"
	"strings"
	"testing"

	"github.com/livekit/protocol/livekit"
	"google.golang.org/protobuf/proto"
)

// sink is a connection that keeps what is written.
type sink struct {
	net.Conn
	bytes.Buffer
}

func (s *sink) Read(b []byte) (int, error)  { return s.Buffer.Read(b) }
func (s *sink) Write(b []byte) (int, error) { return s.Buffer.Write(b) }

func signal(t testing.TB, m *livekit.SignalResponse) []byte {
	t.Helper()
	text, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return append(binaryHead(len(text)), text...)
}

// TestWatchedConn demands that ICE servers are replaced in the messages that have them, that everything else passes unchanged, and that it does not
// matter how the bytes are cut.
func TestWatchedConn(t *testing.T) {
	old, ours := []*livekit.ICEServer{{Urls: []string{"turn:livekit.example"}, Username: "1:PA_x"}}, []*livekit.ICEServer{{Urls: []string{"turn:hub.example"}, Username: "1:anna"}}
	join := func(servers []*livekit.ICEServer) []byte {
		return signal(t, &livekit.SignalResponse{Message: &livekit.SignalResponse_Join{Join: &livekit.JoinResponse{
			IceServers: servers, Participant: &livekit.ParticipantInfo{Sid: "PA_x", Metadata: strings.Repeat("m", 70_000)},
		}}})
	}
	again := func(servers []*livekit.ICEServer) []byte {
		return signal(t, &livekit.SignalResponse{Message: &livekit.SignalResponse_Reconnect{Reconnect: &livekit.ReconnectResponse{IceServers: servers}}})
	}
	others := [][]byte{
		{0x89, 0}, {0x88, 2, 3, 232}, {0x81, 2, '{', '}'}, {0x02, 1, 'x'}, {0x80, 1, 'y'},
		signal(t, &livekit.SignalResponse{Message: &livekit.SignalResponse_RefreshToken{RefreshToken: strings.Repeat("t", 300)}}), {0x82, 1, 0xff},
	}
	sent := bytes.Join(append(others, join(old), again(old), others[5]), nil)
	want := bytes.Join(append(others, join(ours), again(ours), others[5]), nil)
	for range 100 {
		to := &sink{}
		conn := &watchedConn{Conn: to, servers: ours}
		for rest := sent; len(rest) > 0; {
			n := min(1+rand.IntN(40_000), len(rest))
			if rand.IntN(2) == 0 {
				n = min(1+rand.IntN(12), len(rest))
			}
			if wrote, err := conn.Write(rest[:n]); wrote != n || err != nil {
				t.Fatalf("%d of %d bytes were written, %v", wrote, n, err)
			}
			rest = rest[n:]
		}
		if !bytes.Equal(to.Bytes(), want) {
			t.Fatalf("%d bytes came, not %d", to.Len(), len(want))
		}
	}
	for name, bad := range map[string][]byte{"masked": {0x82, 0x81, 1, 2, 3, 4, 'x'}, "too long": {0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0}} {
		if _, err := (&watchedConn{Conn: &sink{}, servers: ours}).Write(bad); err == nil {
			t.Errorf("a frame that is %s passes", name)
		}
	}
}

func FuzzWatchedConn(f *testing.F) {
	f.Add(signal(f, &livekit.SignalResponse{Message: &livekit.SignalResponse_Join{Join: &livekit.JoinResponse{}}}), uint8(3))
	f.Add([]byte{0x82, 126, 0, 1, 0, 0x89, 0}, uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, cut uint8) {
		whole, parts := &sink{}, &sink{}
		ours := []*livekit.ICEServer{{Urls: []string{"turn:hub.example"}}}
		_, err := (&watchedConn{Conn: whole, servers: ours}).Write(data)
		conn := &watchedConn{Conn: parts, servers: ours}
		var err2 error
		for rest := data; len(rest) > 0 && err2 == nil; {
			n := min(int(cut)+1, len(rest))
			_, err2 = conn.Write(rest[:n])
			rest = rest[n:]
		}
		if (err == nil) != (err2 == nil) || !bytes.Equal(whole.Bytes(), parts.Bytes()) {
			t.Fatalf("%d bytes and %v, in parts %d bytes and %v", whole.Len(), err, parts.Len(), err2)
		}
	})
}
