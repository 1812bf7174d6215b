package focus

import (
	"fmt"
	"net/netip"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestParseIPv6 reads a table as Linux writes it: only addresses that last, and that others can reach, are LiveKit's.
func TestParseIPv6(t *testing.T) {
	const table = `00000000000000000000000000000001 01 80 10 80       lo
fe8000000000000000fc00fffe000001 02 40 20 80     eth0
20010db8000000000000000000000001 02 40 00 80     eth0
20010db80000000000000000000000aa 02 40 00 01     eth0
20010db80000000000000000000000bb 02 40 00 60     eth0
20010db80000000000000000000000cc 02 40 00 48     eth0
fd000000000000000000000000000002 02 40 00 00     eth0
nonsense
20010db8 02 40 00 00 eth0
20010db80000000000000000000000dd 02 40 00 xx     eth0
`
	if got := fmt.Sprint(parseIPv6(table)); got != "[2001:db8::1 fd00::2]" {
		t.Errorf("the addresses are %s", got)
	}
}

// TestMove demands that a LiveKit uses exactly the addresses that it says, and that it notices when these change.
func TestMove(t *testing.T) {
	l, err := NewLiveKit(LiveKitConfig{
		Dir: t.TempDir(), Key: "key", Secret: "0123456789abcdef0123456789abcdef", Port: 7880, UDPPort: 7882, NodeIP: "192.0.2.1",
	})
	if err != nil {
		t.Fatal(err)
	}
	l.where = addresses{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.0.0.2"), []netip.Addr{netip.MustParseAddr("2001:db8::1")}}
	text, err := yaml.Marshal(l.settings()["rtc"])
	if err != nil {
		t.Fatal(err)
	}
	var rtc struct {
		Node string `yaml:"node_ip"`
		IPs  struct {
			Includes []string `yaml:"includes"`
		} `yaml:"ips"`
	}
	if err := yaml.Unmarshal(text, &rtc); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(rtc); got != "{192.0.2.1 {[10.0.0.2/32 2001:db8::1/128]}}" {
		t.Errorf("it uses %s", got)
	}
	if got := fmt.Sprint(l.Addresses()); got != "[192.0.2.1 2001:db8::1]" {
		t.Errorf("clients reach it at %s", got)
	}
	home := netip.MustParseAddr("127.0.0.1")
	if !l.Move(home) || l.Move(home) {
		t.Error("another address is noticed never, or twice")
	}
	if got := fmt.Sprint(l.Addresses()); got != "[127.0.0.1]" {
		t.Errorf("after the move clients reach it at %s", got)
	}
}
