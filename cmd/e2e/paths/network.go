package paths

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
)

// Address (RFC 5737) and ports of the hub. HTTPS and TURN over TLS share a port.
const (
	HubIP    = "198.51.100.1"
	TLSPort  = 443
	TurnPort = 3478
	SFUUDP   = 7882
	SFUTCP   = 7881
)

// OtherIP is a second address of the hub, as machines in data centres often have. The hub announces it to nobody.
const OtherIP = "198.51.100.2"

// Addresses on the kiosk's side of a router. Both sides have the same, as behind ordinary home routers.
const (
	lanRouter = "192.168.1.1"
	lanPrefix = "192.168.1."
	firstHost = 2
)

// Network is a hub and two kiosks, each in a namespace of its own:
//
//	kiosk ── veth ── router (masquerade, fully random) ── TUN, this process, TUN ── hub
type Network struct {
	Hub   *Namespace
	Sides [2]*Side
	Names *Names // of all three

	public *Namespace // has the hub's public addresses: it is Hub or the NAT before it
}

// Side is one kiosk with the router that it is behind.
type Side struct {
	Kiosk, Router *Namespace
	// Link is the link between router and hub.
	Link *Link

	number int
	host   int        // last byte of the kiosk's address
	public netip.Addr // the router's outer address
	nat64  atomic.Pointer[netip.Prefix]
}

// NewNetwork builds a network that is removed when the test ends.
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	Need(t)
	if err := RemoveLeftovers(); err != nil {
		t.Fatal(err)
	}
	n := &Network{Hub: newNamespace(t, "hub"), Names: newNames()}
	n.public = n.Hub
	n.Hub.ip(t, "link add public type bridge", "link set public up", // without ports: it only holds addresses
		"addr add "+HubIP+"/32 dev public", "addr add "+OtherIP+"/32 dev public")
	n.Names.serve(t, n.Hub, new(atomic.Pointer[netip.Prefix]))
	for i := range n.Sides {
		n.Sides[i] = n.newSide(t, i)
		n.Names.serve(t, n.Sides[i].Kiosk, &n.Sides[i].nat64)
	}
	return n
}

func (n *Network) newSide(t testing.TB, i int) *Side {
	t.Helper()
	s := &Side{
		Kiosk: newNamespace(t, fmt.Sprintf("kiosk%d", i)), Router: newNamespace(t, fmt.Sprintf("router%d", i)),
		number: i, host: firstHost, public: netip.AddrFrom4([4]byte{203, 0, 113, byte(16*i + 1)}),
	}
	s.Link = newLink(t, s.Router, "wan", n.Hub, fmt.Sprintf("line%d", i))
	n.Hub.ip(t, fmt.Sprintf("route add 203.0.113.%d/28 dev line%d", 16*i, i))
	s.Router.ip(t,
		"link add lan type veth peer name eth0 netns "+s.Kiosk.Name,
		"link set lan up", "addr add "+lanRouter+"/24 dev lan",
		"addr add "+s.public.String()+"/32 dev wan", "route add default dev wan",
	)
	if err := s.Router.Do(func() error { return set("ipv4/ip_forward", "1") }); err != nil {
		t.Fatal(err)
	}
	s.Kiosk.ip(t, "link set eth0 up", "addr add "+s.lan()+" dev eth0", "route add default via "+lanRouter)
	s.SetFirewall(t, "")
	return s
}

func (s *Side) lan() string { return fmt.Sprintf("%s%d/24", lanPrefix, s.host) }

// Rules of firewalls, for [Side.SetFirewall]. They drop packets without an ICMP message, as most firewalls do.
const (
	// NoUDP blocks all UDP.
	NoUDP = "meta l4proto udp drop"
	// NoSFU blocks everything to LiveKit.
	NoSFU = "udp dport 7882 drop; tcp dport 7881 drop"
	// Only443 blocks everything but TCP to port 443.
	Only443 = `iifname "lan" tcp dport 443 accept; iifname "wan" tcp sport 443 accept; drop`
)

// SetFirewall replaces the router's firewall rules (nftables). They also apply to connections that exist already. "" allows everything. It also
// resets the counters of [Side.Traffic].
func (s *Side) SetFirewall(t testing.TB, rules string) {
	t.Helper()
	var counters, counts strings.Builder
	for _, r := range routes {
		fmt.Fprintf(&counters, "counter %s_up {}\ncounter %s_down {}\n", r.name, r.name)
		for family, hub := range map[string]string{"ip": HubIP, "ip6": HubIP6} {
			fmt.Fprintf(&counts, "%s daddr %s %s dport %d counter name %s_up\n", family, hub, r.protocol, r.port, r.name)
			fmt.Fprintf(&counts, "%s saddr %s %s sport %d counter name %s_down\n", family, hub, r.protocol, r.port, r.name)
		}
	}
	// Fully random ports make the NAT symmetric (RFC 4787: address and port-dependent mapping): each destination sees another port.
	err := s.Router.nft(fmt.Sprintf(`table inet ewindow {
%s
chain nat { type nat hook postrouting priority srcnat; oifname "wan" masquerade random,fully-random; }
chain firewall { type filter hook forward priority filter; policy accept; %s
}
chain count { type filter hook forward priority filter + 10; policy accept; %s }
}
`, counters.String(), rules, counts.String()))
	if err != nil {
		t.Fatal(err)
	}
}

// SetMTU sets the MTU of the link between kiosk and router, at both ends.
func (s *Side) SetMTU(t testing.TB, mtu int) {
	t.Helper()
	s.Kiosk.ip(t, fmt.Sprintf("link set eth0 mtu %d", mtu))
	s.Router.ip(t, fmt.Sprintf("link set lan mtu %d", mtu))
}

// ChangeAddress gives the kiosk another address, as a router may do after a restart.
func (s *Side) ChangeAddress(t testing.TB) {
	t.Helper()
	before := s.lan()
	s.host++
	s.Kiosk.ip(t, "addr del "+before+" dev eth0", "addr add "+s.lan()+" dev eth0", "route replace default via "+lanRouter)
}

// ChangeUplink gives the router another public address, as when a provider changes it or another uplink takes over. The kiosk's own address stays,
// and the kiosk gets no notification.
func (s *Side) ChangeUplink(t testing.TB) {
	t.Helper()
	before := s.public
	s.public = s.public.Next()
	s.Router.ip(t,
		"addr add "+s.public.String()+"/32 dev wan", "addr del "+before.String()+"/32 dev wan", "route replace default dev wan",
	)
}

// Route is a way that media can take between a kiosk and the hub.
type Route string

// The routes that Traffic distinguishes.
const (
	Direct  Route = "direct UDP to the SFU"
	ICETCP  Route = "ICE/TCP to the SFU"
	TurnUDP Route = "TURN over UDP"
	TurnTCP Route = "TURN over TCP"
	TurnTLS Route = "TURN over TLS" // includes signalling and Matrix, which use the same port but are little traffic
)

// routes lists protocol and hub port of each route.
var routes = []struct {
	route          Route
	name, protocol string
	port           int
}{
	{Direct, "direct", "udp", SFUUDP},
	{ICETCP, "ice_tcp", "tcp", SFUTCP},
	{TurnUDP, "turn_udp", "udp", TurnPort},
	{TurnTCP, "turn_tcp", "tcp", TurnPort},
	{TurnTLS, "turn_tls", "tcp", TLSPort},
}

// Traffic is how many bytes of IP packets the router has forwarded on each route.
type Traffic struct{ Up, Down map[Route]uint64 }

// Traffic returns the traffic since the last [Side.SetFirewall].
func (s *Side) Traffic(t testing.TB) Traffic {
	t.Helper()
	out, err := exec.Command("ip", "netns", "exec", s.Router.Name, "nft", "-j", "list", "counters").Output()
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		NFTables []struct {
			Counter struct {
				Name  string
				Bytes uint64
			}
		}
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		t.Fatal(err)
	}
	traffic := Traffic{make(map[Route]uint64), make(map[Route]uint64)}
	for _, entry := range answer.NFTables {
		for _, r := range routes {
			switch entry.Counter.Name {
			case r.name + "_up":
				traffic.Up[r.route] = entry.Counter.Bytes
			case r.name + "_down":
				traffic.Down[r.route] = entry.Counter.Bytes
			}
		}
	}
	return traffic
}

// Since returns the difference to an earlier count.
func (t Traffic) Since(before Traffic) Traffic {
	subtract := func(a, b map[Route]uint64) map[Route]uint64 {
		out := make(map[Route]uint64)
		for route, n := range a {
			out[route] = n - b[route]
		}
		return out
	}
	return Traffic{subtract(t.Up, before.Up), subtract(t.Down, before.Down)}
}

// busiest returns the route with most bytes.
func busiest(bytes map[Route]uint64) (best Route) {
	for _, r := range routes {
		if bytes[r.route] > bytes[best] {
			best = r.route
		}
	}
	return best
}

// Media returns the route that carried most bytes in each direction: the kiosk's own media up, the other's media down. It is empty if there was no
// traffic.
func (t Traffic) Media() (up, down Route) { return busiest(t.Up), busiest(t.Down) }

// String names the routes of media.
func (t Traffic) String() string {
	up, down := t.Media()
	if up == down {
		return string(up)
	}
	return fmt.Sprintf("%s up, %s down", up, down)
}
