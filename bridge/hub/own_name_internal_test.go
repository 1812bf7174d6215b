package hub

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestFindName looks for a homeserver by names that lead to it, to another one and to nothing.
func TestFindName(t *testing.T) {
	keys := func(key string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/_matrix/key/v2/server" {
				http.NotFound(w, r)
				return
			}
			fmt.Fprintf(w, `{"server_name":"workshop.example","verify_keys":{"ed25519:1":{"key":%q}}}`, key)
		})
	}
	own := httptest.NewServer(keys("ours"))
	t.Cleanup(own.Close)
	roots := x509.NewCertPool()
	public := func(key string) *httptest.Server {
		s := httptest.NewTLSServer(keys(key))
		t.Cleanup(s.Close)
		roots.AddCert(s.Certificate())
		return s
	}
	right, wrong, gone := public("ours"), public("another"), public("ours")
	gone.Close()
	name := func(s *httptest.Server) string { return s.Listener.Addr().String() }
	for _, test := range []struct{ name, public, err string }{
		{name(right), "https://" + name(right), ""},
		{name(right), "https://hub.example.org", ""}, // however it leads here
		{name(wrong), "https://hub.example.org:8448", `the name leads to another homeserver: https://` + name(wrong) +
			`/.well-known/matrix/server has to answer {"m.server": "hub.example.org:8448"}`},
		{name(gone), "https://hub.example.org", `has to answer {"m.server": "hub.example.org:443"}, or hub.homeserver.server_name has to be "hub.example.org:443"`},
		{name(gone), "https://" + name(gone), "let this port through firewalls and routers, also from the hub itself, and check its certificate"},
	} {
		err := findName(t.Context(), test.name, test.public, own.URL, roots)
		if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%s at %s: %v", test.name, test.public, err)
		}
	}
}
