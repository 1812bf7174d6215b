package hub

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/turnserver"
)

const turnSecret = "0123456789abcdef"

// wholeHub is a hub with each of its parts.
func wholeHub() *Config {
	return &Config{
		Listen: "0.0.0.0:8448", PublicURL: "https://hub.example.org", Certificate: CertificateFiles{Chain: "a.pem", Key: "b.pem"},
		Relay: &RelayConfig{
			PublicIP: netip.MustParseAddr("192.0.2.7"), Secret: turnSecret, Listen: listeners("udp://0.0.0.0:3478", "tcp://0.0.0.0:3478"),
		},
		Focus:      &FocusConfig{},
		Homeserver: &HomeserverConfig{ServerName: "example.org"},
	}
}

func listeners(texts ...string) (list []turnserver.Listen) {
	for _, text := range texts {
		l, err := turnserver.ParseListen(text)
		if err != nil {
			panic(err)
		}
		list = append(list, l)
	}
	return list
}

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

// TestTURNServers checks that clients of LiveKit and of the homeserver are told the same TURN servers, with credentials that belong to the user.
func TestTURNServers(t *testing.T) {
	c := wholeHub()
	c.Relay.Listen, c.Relay.ShareHTTPSPort = append(c.Relay.Listen, listeners("tls://0.0.0.0:5349")...), true
	const want = "turn:192.0.2.7:3478?transport=udp turn:192.0.2.7:3478?transport=tcp " +
		"turns:hub.example.org:5349?transport=tcp turns:hub.example.org:443?transport=tcp"
	const user, other = "@anna:example.org", "@bert:example.org"
	access, servers := turnAccess(c, user), iceServers(c, user)
	if text := strings.Join(access.URIs, " "); text != want || access.TTL != 4*60*60 || access.Password == "" {
		t.Errorf("clients of the homeserver are told %+v", access)
	}
	var uris []string
	_, name, _ := strings.Cut(access.Username, ":")
	for _, s := range servers {
		uris = append(uris, s.GetUrls()...)
		if _, same, _ := strings.Cut(s.GetUsername(), ":"); same != name || s.GetCredential() == "" {
			t.Errorf("the user is called %q, and %q", same, name)
		}
	}
	if text := strings.Join(uris, " "); text != want {
		t.Errorf("clients of LiveKit are told %s", text)
	}
	c.Relay.PublicIP = netip.Addr{}
	if text := strings.Join(TURNURIs(c), " "); text != strings.ReplaceAll(want, "192.0.2.7", "hub.example.org") {
		t.Errorf("before the address is known, clients are told %s", text)
	}
	if name == "" || strings.Contains(name, "anna") || name == turnName(c, other) {
		t.Errorf("the user is called %q at the relay", name)
	}
}

// TestPublicAddresses checks what clients are told about TURN over TLS, and which names need a certificate.
func TestPublicAddresses(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Config)
		host   string
		port   int
		names  []string
	}{
		"not shared": {func(c *Config) { c.Relay.ShareHTTPSPort = false }, "hub.example.org", 0, []string{"hub.example.org"}},
		"shared":     {func(*Config) {}, "hub.example.org", 443, []string{"hub.example.org"}},
		"other port": {func(c *Config) { c.PublicURL += ":8448" }, "hub.example.org", 8448, []string{"hub.example.org"}},
		"own name": {func(c *Config) { c.Relay.TLSHost = "turn.example.org" }, "turn.example.org", 443,
			[]string{"hub.example.org", "turn.example.org"}},
		"own certificate": {func(c *Config) { c.Relay.TLSHost, c.Relay.Certificate.Chain = "turn.example.org", "x" },
			"turn.example.org", 443, []string{"hub.example.org"}},
		"the same name": {func(c *Config) { c.Relay.TLSHost = "Hub.example.org" }, "Hub.example.org", 443, []string{"hub.example.org"}},
		"relay alone":   {func(c *Config) { c.PublicURL, c.Listen = "", "" }, "192.0.2.7", 0, nil},
	} {
		c := wholeHub()
		c.Relay.ShareHTTPSPort = true
		test.change(c)
		if host, port, names := relayTLSHost(c), sharedPort(c), certificateNames(c); host != test.host || port != test.port || !slices.Equal(names, test.names) {
			t.Errorf("%s: %s, %d, %v", name, host, port, names)
		}
	}
}

// TestFocusAddresses checks the addresses of the authorisation service and of LiveKit that clients are told.
func TestFocusAddresses(t *testing.T) {
	for name, test := range map[string]struct {
		change     func(*Config)
		transports []string
		sfu, node  string
	}{
		"own": {func(*Config) {}, []string{"https://hub.example.org/livekit/jwt"}, "wss://hub.example.org/livekit/sfu", "192.0.2.7"},
		"a slash at the end": {func(c *Config) { c.PublicURL += "/" }, []string{"https://hub.example.org/livekit/jwt"},
			"wss://hub.example.org/livekit/sfu", "192.0.2.7"},
		"plain HTTP on this machine": {func(c *Config) { c.PublicURL = "http://127.0.0.1:8008" }, []string{"http://127.0.0.1:8008/livekit/jwt"},
			"ws://127.0.0.1:8008/livekit/sfu", "192.0.2.7"},
		"all said": {func(c *Config) {
			c.ServiceURL, c.Focus.PublicURL, c.Focus.NodeIP = "https://other.example.org/jwt", "wss://sfu.example.org", "192.0.2.8"
		}, []string{"https://other.example.org/jwt"}, "wss://sfu.example.org", "192.0.2.8"},
		"no relay": {func(c *Config) { c.Relay = nil }, []string{"https://hub.example.org/livekit/jwt"}, "wss://hub.example.org/livekit/sfu", ""},
	} {
		c := wholeHub()
		test.change(c)
		if got, sfu, node := transports(c), sfuURL(c), nodeIP(c); !slices.Equal(got, test.transports) || sfu != test.sfu || node != test.node {
			t.Errorf("%s: %v, %s, %s", name, got, sfu, node)
		}
	}
	c := wholeHub()
	c.Focus = nil
	if got := transports(c); got != nil {
		t.Errorf("without a focus clients are told %v", got)
	}
	c.ServiceURL = "https://other.example.org/jwt"
	if got := transports(c); !slices.Equal(got, []string{"https://other.example.org/jwt"}) {
		t.Errorf("of another hub's focus clients are told %v", got)
	}
}

func TestFullAccess(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Config)
		want   []string
	}{
		"the own homeserver": {func(*Config) {}, []string{"example.org"}},
		"a list":             {func(c *Config) { c.Focus.FullAccessHomeservers = []string{"a.org", "b.org"} }, []string{"a.org", "b.org"}},
		"nobody":             {func(c *Config) { c.Homeserver = nil }, nil},
	} {
		c := wholeHub()
		test.change(c)
		if got := fullAccess(c); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestMayConnect checks that deny wins, and that an IPv4 address is the same in its IPv6 form.
func TestMayConnect(t *testing.T) {
	c := &Config{AllowNetworks: prefixes("10.0.0.0/8", "2001:db8::/32"), DenyNetworks: prefixes("10.1.0.0/16", "2001:db8:1::/48")}
	for address, want := range map[string]bool{
		"10.0.0.1": true, "10.1.0.1": false, "192.0.2.1": false, "::ffff:10.0.0.1": true, "::ffff:10.1.0.1": false,
		"2001:db8::1": true, "2001:db8:1::1": false, "2001:db9::1": false,
	} {
		if got := mayConnect(c, netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}

func TestSplitListen(t *testing.T) {
	r := &RelayConfig{Listen: listeners("udp://0.0.0.0:3478", "tcp://0.0.0.0:3478", "tls://0.0.0.0:5349")}
	if own, proxied := splitListen(r); !slices.Equal(own, r.Listen) || proxied != nil {
		t.Errorf("without a proxy: %v and %v", own, proxied)
	}
	r.Proxies = prefixes("10.0.0.5/32")
	if own, proxied := splitListen(r); !slices.Equal(own, r.Listen[:1]) || !slices.Equal(proxied, r.Listen[1:]) {
		t.Errorf("behind a proxy: %v and %v", own, proxied)
	}
}

// TestSameFiles checks that HTTPS and relay always have the same certificate if both use the same files.
func TestSameFiles(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	server.Close()
	pair := server.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	c := wholeHub()
	c.Log = zerolog.Nop()
	c.Certificate = CertificateFiles{Chain: filepath.Join(folder, "hub.pem"), Key: filepath.Join(folder, "hub-key.pem")}
	for path, block := range map[string]*pem.Block{
		c.Certificate.Chain: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, c.Certificate.Key: {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	certificates := newCertificates(c)
	https, err := certificates.https()
	if err != nil {
		t.Fatal(err)
	}
	relay, err := certificates.relay()
	if err != nil {
		t.Fatal(err)
	}
	one, _ := https(&tls.ClientHelloInfo{})
	other, _ := relay()
	if one == nil || one != other {
		t.Error("HTTPS and relay have the same files, and not the same certificate")
	}
}

// TestFailsClosed demands that a hub which does not know the network gives nothing to anybody, unless it is open.
func TestFailsClosed(t *testing.T) {
	const user, room = "@anna:example.org", "!room:example.org"
	for name, c := range map[string]struct {
		change func(*Config)
		want   bool
	}{
		"closed":               {func(*Config) {}, false},
		"closed without relay": {func(c *Config) { c.Relay = nil }, false},
		"open":                 {func(c *Config) { c.Open = true }, true},
	} {
		cfg := wholeHub()
		cfg.Account = &AccountConfig{Username: "hub"}
		c.change(cfg)
		h := &hub{cfg: *cfg}
		if got := []bool{h.joined(t.Context(), user, room), h.isJoined(user, room), h.belongs(user), h.mayAllocate("name")}; slices.Contains(got, !c.want) {
			t.Errorf("%s: %v", name, got)
		}
		if !h.mayAllocate(CheckName) {
			t.Errorf("%s: ewindow turn check is refused", name)
		}
	}
	relay := wholeHub()
	relay.Focus, relay.Homeserver = nil, nil
	if h := (&hub{cfg: *relay}); !h.mayAllocate("name") {
		t.Error("a relay alone serves nobody: others make credentials for it")
	}
}
