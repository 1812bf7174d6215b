package paths

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
)

// Address (RFC 5737) and ports of the hub. Its HTTPS and TURN over TLS share one.
const (
	HubIP    = "198.51.100.1"
	TLSPort  = 443
	TurnPort = 3478
	SFUUDP   = 7882
	SFUTCP   = 7881
)

// OtherIP is an address that the hub has beside, as machines do in data centres; nobody is told of it.
const OtherIP = "198.51.100.2"

// Kiosks' side of a router: both have the same, as behind routers from a shop.
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
}

// Side is one kiosk with the router that it is behind.
type Side struct {
	Kiosk, Router *Namespace
	// Link is the line between router and hub.
	Link *Link

	number int
	host   int        // last byte of the kiosk's address
	public netip.Addr // the router's outer address
}

// NewNetwork builds one that ends with the test.
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	Need(t)
	if err := RemoveLeftovers(); err != nil {
		t.Fatal(err)
	}
	n := &Network{Hub: newNamespace(t, "hub")}
	n.Hub.ip(t, "link add public type bridge", "link set public up", // without ports: it only holds addresses
		"addr add "+HubIP+"/32 dev public", "addr add "+OtherIP+"/32 dev public")
	for i := range n.Sides {
		n.Sides[i] = n.newSide(t, i)
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

// Rules of firewalls, for [Side.SetFirewall]. They drop without a word, as most do.
const (
	// NoUDP lets no UDP through.
	NoUDP = "meta l4proto udp drop"
	// NoSFU lets nothing through to LiveKit.
	NoSFU = "udp dport 7882 drop; tcp dport 7881 drop"
	// Only443 lets nothing through but TCP to port 443.
	Only443 = `iifname "lan" tcp dport 443 accept; iifname "wan" tcp sport 443 accept; drop`
)

// SetFirewall gives the router a firewall with these rules of nftables, for connections that exist as well; "" lets everything through.
func (s *Side) SetFirewall(t testing.TB, rules string) {
	t.Helper()
	var counters, counts strings.Builder
	for _, r := range routes {
		fmt.Fprintf(&counters, "counter %s_up {}\ncounter %s_down {}\n", r.name, r.name)
		fmt.Fprintf(&counts, "ip daddr %s %s dport %d counter name %s_up\n", HubIP, r.protocol, r.port, r.name)
		fmt.Fprintf(&counts, "ip saddr %s %s sport %d counter name %s_down\n", HubIP, r.protocol, r.port, r.name)
	}
	// Fully random ports make the NAT a symmetric one (RFC 4787: address and port-dependent mapping): each destination sees another port.
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

// SetMTU changes the kiosk's link, at both ends.
func (s *Side) SetMTU(t testing.TB, mtu int) {
	t.Helper()
	s.Kiosk.ip(t, fmt.Sprintf("link set eth0 mtu %d", mtu))
	s.Router.ip(t, fmt.Sprintf("link set lan mtu %d", mtu))
}

// ChangeAddress takes the kiosk's address away and gives it another, as a router does that was started anew.
func (s *Side) ChangeAddress(t testing.TB) {
	t.Helper()
	before := s.lan()
	s.host++
	s.Kiosk.ip(t, "addr del "+before+" dev eth0", "addr add "+s.lan()+" dev eth0", "route replace default via "+lanRouter)
}

// ChangeUplink gives the router another outer address: the network's lease has ended, or another line has taken over. The kiosk's own
// address stays, and nobody tells it.
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

// The routes that are told apart.
const (
	Direct  Route = "direct UDP to the SFU"
	ICETCP  Route = "ICE/TCP to the SFU"
	TurnUDP Route = "TURN over UDP"
	TurnTCP Route = "TURN over TCP"
	TurnTLS Route = "TURN over TLS" // signalling and Matrix, which are little, count as well: they have the same port
)

// routes are told apart by the hub's end.
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

// Traffic is what went over each route, in bytes of IP packets, that the router has let through.
type Traffic struct{ Up, Down map[Route]uint64 }

// Traffic counts since the last [Side.SetFirewall].
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

// Since is what has been added since an earlier count.
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

// busiest is the route of most bytes.
func busiest(bytes map[Route]uint64) (best Route) {
	for _, r := range routes {
		if bytes[r.route] > bytes[best] {
			best = r.route
		}
	}
	return best
}

// Media is the route that carried most each way: our picture and sound up, the other's down. Empty: none did.
func (t Traffic) Media() (up, down Route) { return busiest(t.Up), busiest(t.Down) }

// String names the routes of media.
func (t Traffic) String() string {
	up, down := t.Media()
	if up == down {
		return string(up)
	}
	return fmt.Sprintf("%s up, %s down", up, down)
}
