package hub

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/livekit/protocol/livekit"
	"github.com/pion/turn/v4"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/proto"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/callmedia/focus"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
	"multifactorymodel.org/ewindow/turnserver"
)

// TestOneQuota lets one user join with one device after the other. Each of them makes an allocation with what it is told, and all count for the
// user. LiveKit by itself calls each participant by another name.
func TestOneQuota(t *testing.T) {
	const most = 16
	relay, err := turnserver.New(turnserver.Config{
		Listen: []turnserver.Listen{{Transport: turnserver.UDP, Addr: netip.MustParseAddrPort("127.0.0.1:0")}},
		Relays: []turnserver.Relay{{Public: netip.MustParseAddr("127.0.0.1"), Local: netip.MustParseAddr("127.0.0.1")}}, Realm: "ewindow.test", Secret: turnSecret,
		MaxAllocations: 100, MaxAllocationsPerUser: most, Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := relay.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = relay.Close() })
	address := relay.Addrs()[0].String()
	cfg := &Config{Relay: &RelayConfig{PublicIP: netip.MustParseAddr("127.0.0.1"), Secret: turnSecret, Listen: listeners("udp://" + address)}}

	l := rig.StartLiveKitWith(t, rig.LiveKitOptions{NoAutoCreate: true})
	proxy, err := focus.NewProxy(focus.ProxyConfig{
		LiveKitURL: l.HTTPURL, Key: l.Key, Secret: l.Secret, Log: zerolog.Nop(),
		ICEServers: func(user id.UserID) []*livekit.ICEServer { return iceServers(cfg, user) },
	})
	if err != nil {
		t.Fatal(err)
	}
	signalling := strings.Replace(rig.Serve(t, rig.Listen(t), proxy), "http", "ws", 1)
	service, err := focus.NewService(focus.ServiceConfig{
		LiveKitURL: l.HTTPURL, PublicURL: signalling, Key: l.Key, Secret: l.Secret, FullAccess: []string{"a.example"}, Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	// join joins with a device and returns what it is told.
	join := func(user id.UserID, device string) *livekit.ICEServer {
		t.Helper()
		_, jwt, err := service.DeviceToken(t.Context(), user, id.DeviceID(device), "!room:a.example")
		if err != nil {
			t.Fatal(err)
		}
		conn, _, err := websocket.Dial(t.Context(), signalling+"/rtc?protocol=17", &websocket.DialOptions{
			HTTPHeader: http.Header{"Authorization": {"Bearer " + jwt}}, CompressionMode: websocket.CompressionContextTakeover, // as browsers do
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.CloseNow() })
		_, data, err := conn.Read(t.Context())
		m := new(livekit.SignalResponse)
		if err != nil || proto.Unmarshal(data, m) != nil || len(m.GetJoin().GetIceServers()) != 1 {
			t.Fatalf("told %v, %v", m.GetJoin().GetIceServers(), err)
		}
		if m.GetJoin().GetParticipant().GetIdentity() != user.String()+":"+device || m.GetJoin().GetRoom().GetName() == "" {
			t.Errorf("the rest of the message is %v", m)
		}
		return m.GetJoin().GetIceServers()[0]
	}
	allocate := func(username, password string) error {
		socket, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = socket.Close() })
		client, err := turn.NewClient(&turn.ClientConfig{
			STUNServerAddr: address, TURNServerAddr: address, Conn: socket, Username: username, Password: password, RTO: time.Second,
		})
		if err == nil {
			err = client.Listen()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		_, err = client.Allocate()
		return err
	}
	const anna, bert = "@anna:a.example", "@bert:a.example"
	for i := range most + 1 {
		told := join(anna, fmt.Sprintf("DEVICE%d", i))
		if err := allocate(told.GetUsername(), told.GetCredential()); (err == nil) != (i < most) || err != nil && !strings.Contains(err.Error(), "486") {
			t.Fatalf("allocation %d: %v", i+1, err)
		}
	}
	access := turnAccess(cfg, anna)
	if err := allocate(access.Username, access.Password); err == nil || !strings.Contains(err.Error(), "486") {
		t.Errorf("with the homeserver's credentials: %v", err)
	}
	told := join(bert, "DEVICE")
	if err := allocate(told.GetUsername(), told.GetCredential()); err != nil {
		t.Errorf("another user: %v", err)
	}
}
