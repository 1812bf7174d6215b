package focus

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"multifactorymodel.org/ewindow/turnserver/addrpolicy"
)

func TestHashVectors(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "e2ee", "testdata", "e2ee-vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	type vector struct {
		Input  []string `json:"input"`
		Output string   `json:"output"`
	}
	var file struct {
		Hashes struct {
			Rooms      []vector `json:"livekit_room_name"`
			Identities []vector `json:"livekit_identity_hashed"`
		} `json:"hash_vectors"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Hashes.Rooms) < 2 || len(file.Hashes.Identities) < 3 {
		t.Fatal("vectors are missing")
	}
	for _, v := range file.Hashes.Rooms {
		if got := roomName(v.Input[0], v.Input[1]); got != v.Output {
			t.Errorf("the room of %q is %s, want %s", v.Input, got, v.Output)
		}
	}
	for _, v := range file.Hashes.Identities {
		if got := hashedIdentity(v.Input[0], v.Input[1], v.Input[2]); got != v.Output {
			t.Errorf("the identity of %q is %s, want %s", v.Input, got, v.Output)
		}
	}
}

func TestReachable(t *testing.T) {
	private := func(netip.Addr) bool { return true }
	for _, c := range []struct {
		address        string
		public, opened bool
	}{
		{"9.9.9.9", true, true}, {"2620:fe::fe", true, true}, {"::ffff:9.9.9.9", true, true}, {"64:ff9b::909:909", true, true},
		{"2002:909:909::1", true, true},
		{"127.0.0.1", false, true}, {"127.9.9.9", false, true}, {"10.1.2.3", false, true}, {"172.31.0.1", false, true},
		{"192.168.1.1", false, true}, {"169.254.169.254", false, true}, {"100.64.0.1", false, true}, {"198.18.0.1", false, true},
		{"::1", false, true}, {"fe80::1", false, true}, {"fe80::1%eth0", false, true}, {"fd00::1", false, true},
		{"::ffff:127.0.0.1", false, true}, {"::ffff:10.0.0.1", false, true}, {"::127.0.0.1", false, true}, {"64:ff9b::7f00:1", false, true},
		{"64:ff9b::a9fe:a9fe", false, true}, {"2002:7f00:1::1", false, true}, {"2002:c0a8:101::", false, true},
		{"0.0.0.0", false, false}, {"0.1.2.3", false, false}, {"::", false, false}, {"224.0.0.1", false, false}, {"255.255.255.255", false, false},
		{"ff02::1", false, false}, {"240.0.0.1", false, false}, {"2001::1", false, false}, {"::ffff:0.0.0.0", false, false},
		{"64:ff9b::", false, false}, {"2002:e000:1::1", false, false},
	} {
		a := netip.MustParseAddr(c.address)
		if got := addrpolicy.Public(a); got != c.public {
			t.Errorf("%s is reachable by default: %t", c.address, got)
		}
		if got := addrpolicy.Reachable(a, private); got != c.opened {
			t.Errorf("%s is reachable where all are allowed: %t", c.address, got)
		}
	}
	if addrpolicy.Reachable(netip.Addr{}, private) {
		t.Error("no address is reachable")
	}
}

func TestSource(t *testing.T) {
	for _, c := range []struct{ remote, forwarded, want string }{
		{"192.0.2.7:1234", "", "192.0.2.7"},
		{"192.0.2.7:1234", "198.51.100.1", "192.0.2.7"}, // a stranger's word
		{"127.0.0.1:1234", "198.51.100.1", "198.51.100.1"},
		{"127.0.0.1:1234", "203.0.113.9, 198.51.100.1", "198.51.100.1"}, // what the proxy itself saw comes last
		{"127.0.0.1:1234", "rubbish", "127.0.0.1"},
		{"[2001:db8:1:2:3::4]:1", "", "2001:db8:1:2::/64"},
		{"[::ffff:192.0.2.7]:1", "", "192.0.2.7"},
		{"[::1]:1", "2001:db8::5", "2001:db8::/64"},
		{"rubbish", "", ""},
	} {
		r := httptest.NewRequest(http.MethodPost, "/sfu/get", nil)
		r.RemoteAddr = c.remote
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		if got := source(r); got != c.want {
			t.Errorf("%s (forwarded %q) counts as %q, want %q", c.remote, c.forwarded, got, c.want)
		}
	}
}
