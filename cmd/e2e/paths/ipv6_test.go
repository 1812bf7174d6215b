//go:build full

package paths_test

import (
	"fmt"
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v3"

	"multifactorymodel.org/ewindow/cmd/e2e/paths"
	"multifactorymodel.org/ewindow/turnserver"
)

// TestNAT64 visits from a network that has IPv6 alone, with NAT64 and DNS64, while the hub has IPv4 alone.
func TestNAT64(t *testing.T) {
	v := startVisit(t, world{prepare: func(n *paths.Network) {
		n.Sides[0].UseIPv6Alone(t)
		n.Sides[0].StartNAT64(t)
	}})
	for _, s := range []struct {
		name   string
		rules  string
		routes []paths.Route
	}{
		{name: "all open", routes: []paths.Route{paths.Direct}},
		{name: "LiveKit is blocked", rules: paths.NoSFU, routes: []paths.Route{paths.TurnUDP}},
		{name: "no UDP", rules: paths.NoUDP, routes: []paths.Route{paths.TurnTCP, paths.TurnTLS, paths.ICETCP}},
		{name: "TCP 443 alone", rules: only443NAT64, routes: []paths.Route{paths.TurnTLS}},
	} {
		t.Run(s.name, func(t *testing.T) {
			defer v.repair(t)
			v.Sides[0].SetFirewall(t, s.rules)
			defer v.shut(t)
			v.open(t)
			v.staysConnected(t, stay, 0, s.routes)
		})
	}
}

// only443NAT64 is paths.Only443 in a network with NAT64: what is translated passes the firewall twice.
const only443NAT64 = "tcp dport 443 accept; tcp sport 443 accept; drop"

// TestIPv6Alone visits from a network that has IPv6 alone, without NAT64. The hub has both. Its relay has an IPv6 address in one case.
func TestIPv6Alone(t *testing.T) {
	for name, more := range map[string]string{"relay with IPv4 alone": "", "relay with IPv6": fmt.Sprintf("%q", paths.HubIP6)} {
		t.Run(name, func(t *testing.T) {
			v := startVisit(t, world{listen: "[::]", morePublics: more, prepare: func(n *paths.Network) {
				n.AddIPv6(t)
				n.Sides[0].UseIPv6Alone(t)
				n.Names.Set(paths.HubName, paths.HubIP, paths.HubIP6)
			}})
			v.checkPeers(t, more != "")
			v.open(t)
			v.staysConnected(t, stay, 0, []paths.Route{paths.Direct})
			v.shut(t)
			v.Sides[0].SetFirewall(t, paths.Only443)
			v.open(t)
			v.staysConnected(t, stay, 0, []paths.Route{paths.TurnTLS})
		})
	}
}

// checkPeers checks that the relay relays to LiveKit at the hub's addresses of both families, and to nothing else of the hub.
func (v *visit) checkPeers(t *testing.T, ipv6 bool) {
	t.Helper()
	const forbidden = 403 // RFC 8656, section 18.9
	four, six := paths.HubIP, "["+paths.HubIP6+"]"
	peers := map[string]stun.ErrorCode{
		four + ":7882": 0, four + ":443": forbidden, four + ":8008": forbidden, paths.OtherIP + ":7882": forbidden, "127.0.0.1:7882": forbidden,
	}
	if ipv6 {
		maps.Copy(peers, map[string]stun.ErrorCode{
			six + ":7882": 0, six + ":443": forbidden, six + ":8008": forbidden, "[2001:db8:ffff::2]:7882": forbidden, "[2001:db8:1::2]:7882": forbidden,
			"[::1]:7882": forbidden, "[fe80::1]:7882": forbidden,
		})
	}
	for peer, want := range peers {
		if got := v.bindChannel(t, netip.MustParseAddrPort(peer)); got != want {
			t.Errorf("a channel to %s: %d, want %d", peer, got, want)
		}
	}
}

// bindChannel makes an allocation of the family of a peer and binds a channel to the peer. It returns 0 or the code of the relay's error.
func (v *visit) bindChannel(t *testing.T, peer netip.AddrPort) (code stun.ErrorCode) {
	t.Helper()
	conn, err := v.Sides[0].Kiosk.DialContext(t.Context(), "tcp", fmt.Sprintf("[%s]:%d", paths.HubIP6, paths.TurnPort))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(answerLimit))
	username, password := turnserver.Credentials(turnSecret, "somebody", time.Hour)
	var nonce stun.Nonce
	ask := func(method stun.Method, signed bool, setters ...stun.Setter) (code stun.ErrorCode) {
		t.Helper()
		setters = append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, setters...)
		if signed {
			setters = append(setters, stun.NewUsername(username), stun.NewRealm("ewindow"), nonce, stun.NewLongTermIntegrity(username, "ewindow", password))
		}
		if _, err := conn.Write(stun.MustBuild(setters...).Raw); err != nil {
			t.Fatal(err)
		}
		answer := stun.Message{Raw: make([]byte, 0, 1500)}
		if _, err := answer.ReadFrom(conn); err != nil {
			t.Fatal(err)
		}
		_ = nonce.GetFrom(&answer)
		var failed stun.ErrorCodeAttribute
		if failed.GetFrom(&answer) == nil {
			return failed.Code
		}
		return 0
	}
	family := byte(1)
	if peer.Addr().Is6() {
		family = 2
	}
	allocate := []stun.Setter{
		stun.RawAttribute{Type: stun.AttrRequestedTransport, Value: []byte{17, 0, 0, 0}},
		stun.RawAttribute{Type: stun.AttrRequestedAddressFamily, Value: []byte{family, 0, 0, 0}},
	}
	if code := ask(stun.MethodAllocate, false, allocate...); code != stun.CodeUnauthorized {
		t.Fatalf("an allocation without credentials: %d", code)
	}
	if code := ask(stun.MethodAllocate, true, allocate...); code != 0 {
		t.Fatalf("an allocation for %s: %d", peer, code)
	}
	return ask(stun.MethodChannelBind, true, stun.RawAttribute{Type: stun.AttrChannelNumber, Value: []byte{0x40, 0, 0, 0}}, peerAddress(peer))
}

// peerAddress is the attribute XOR-PEER-ADDRESS.
type peerAddress netip.AddrPort

// AddTo implements stun.Setter.
func (p peerAddress) AddTo(m *stun.Message) error {
	at := netip.AddrPort(p)
	return stun.XORMappedAddress{IP: at.Addr().AsSlice(), Port: int(at.Port())}.AddToAs(m, stun.AttrXORPeerAddress)
}
