package focus

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestSource demands that callers are counted by IPv4 address or IPv6 /64, and that only a proxy on this machine names another caller.
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
