package config_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/ewindow/config"
)

// good returns a configuration that is right for every role.
func good() *config.Config {
	c := config.Default()
	c.Homeserver.URL = "https://matrix.example.org"
	c.Homeserver.Username = "window-dresden"
	c.Homeserver.Password = "secret"
	c.Network.Admins = []string{"@anna:example.org"}
	c.Window.Name = "Dresden"
	h := &c.Hub
	h.PublicURL = "https://hub.example.org"
	h.TLSCertificate, h.TLSKey = "/a.pem", "/b.pem"
	h.TurnServer.Enabled = true
	h.TurnServer.PublicIP = "192.0.2.7"
	h.TurnServer.Secret = "0123456789abcdef"
	h.Account.HomeserverURL, h.Account.Password = "https://matrix.example.org", "secret"
	h.Focus.Enabled = true
	h.Homeserver.Enabled = true
	h.Homeserver.ServerName = "example.org"
	h.Homeserver.RegistrationSecret = "secret"
	return c
}

func TestValidateGood(t *testing.T) {
	for _, role := range []config.Role{config.Kiosk, config.Hub, config.Turn} {
		if err := good().Validate(role); err != nil {
			t.Errorf("%s: %v", role, err)
		}
	}
	for name, change := range map[string]func(*config.Config){
		"plain http on loopback": func(c *config.Config) { c.Homeserver.URL = "http://127.0.0.1:8008" },
		"IPv6 loopback":          func(c *config.Config) { c.Kiosk.Listen = "[::1]:0" },
		"no certificate behind a proxy": func(c *config.Config) {
			c.Hub.Listen, c.Hub.TLSCertificate, c.Hub.TLSKey = "", "", ""
		},
		"LiveKit elsewhere": func(c *config.Config) {
			c.Hub.Focus.LiveKitURL, c.Hub.Focus.Key, c.Hub.Focus.Secret = "wss://a.example.org", "key", strings.Repeat("x", 32)
			c.Hub.TurnServer.AllowedPeers = []string{"198.51.100.1/32:7882"}
		},
		"an account that the hub makes": func(c *config.Config) { c.Hub.Account.HomeserverURL, c.Hub.Account.Password = "", "" },
		"open": func(c *config.Config) {
			c.Hub.Account, c.Hub.Focus.Open, c.Hub.Homeserver.Enabled = config.AccountConfig{}, true, false
			c.Hub.Focus.FullAccessHomeservers = []string{"example.org"}
		},
		"homeserver elsewhere": func(c *config.Config) {
			c.Hub.Homeserver.URL, c.Hub.Homeserver.RegistrationSecret = "http://127.0.0.1:8009", ""
		},
		"certificates from an authority": acme(func(c *config.Config) {
			c.Hub.ACME.Email, c.Hub.ACME.HTTPListen = "anna@example.org", ""
			c.Hub.TurnServer.Listen = []string{"tls://0.0.0.0:5349"}
		}),
		"metrics": func(c *config.Config) { c.Metrics.Listen = "127.0.0.1:9468" },
		"a name for the relay alone": acme(func(c *config.Config) {
			c.Hub.TurnServer.TLSHost, c.Hub.TurnServer.ShareHTTPSPort = "turn.example.org", true
			c.Hub.TurnServer.Listen = []string{"tls://0.0.0.0:5349"}
		}),
		"TLS with the hub's certificate": func(c *config.Config) { c.Hub.TurnServer.Listen = []string{"tls://0.0.0.0:5349"} },
	} {
		c := good()
		change(c)
		for _, role := range []config.Role{config.Kiosk, config.Hub, config.Turn} {
			if err := c.Validate(role); err != nil {
				t.Errorf("%s: %s: %v", name, role, err)
			}
		}
	}
}

// acme is a change to a configuration whose certificates come from an authority.
func acme(change func(*config.Config)) func(*config.Config) {
	return func(c *config.Config) {
		c.Hub.ACME.Enabled, c.Hub.TLSCertificate, c.Hub.TLSKey = true, "", ""
		change(c)
	}
}

// TestValidateErrors compares each message word for word. Each change causes exactly this message.
func TestValidateErrors(t *testing.T) {
	type change = func(*config.Config)
	long := strings.Repeat("x", 65)
	for _, test := range []struct {
		role   config.Role
		change change
		want   string
	}{
		{config.Kiosk, func(c *config.Config) { c.DataDir = "" }, `data_dir is empty: name the folder for the database and keys`},
		{config.Kiosk, func(c *config.Config) { c.Homeserver.URL = "" },
			`homeserver.url: "" is not an address such as https://matrix.example.org`},
		{config.Kiosk, func(c *config.Config) { c.Homeserver.URL = "https://a:b@c" },
			`homeserver.url must not hold a user name or password: remove them`},
		{config.Kiosk, func(c *config.Config) { c.Homeserver.URL = "http://example.org" },
			`homeserver.url: "http://example.org" is not encrypted: use https:// (plain http:// is for this machine only)`},
		{config.Kiosk, func(c *config.Config) { c.Homeserver.URL = "wss://example.org" },
			`homeserver.url: "wss://example.org" is not an address such as https://matrix.example.org`},
		{config.Kiosk, func(c *config.Config) { c.Homeserver.Username = "" },
			`homeserver.username is empty: give the name of this window's Matrix account`},
		{config.Kiosk, func(c *config.Config) { c.Homeserver.Password = "" },
			`homeserver.password is empty: give the account's password, or a file that holds it in homeserver.password_file`},
		{config.Kiosk, func(c *config.Config) { c.Homeserver.DeviceName = "" },
			`homeserver.device_name is empty: give a name, such as e-window`},
		{config.Kiosk, func(c *config.Config) { c.Network.Admins = []string{"anna"} },
			`network.admins: "anna" is not a Matrix user ID such as @anna:example.org`},
		{config.Kiosk, func(c *config.Config) { c.Window.Name = " " },
			`window.name must have 1 to 64 characters: it is shown on the screens of the other windows`},
		{config.Kiosk, func(c *config.Config) { c.Window.Name = "a\nb" },
			`window.name must have 1 to 64 characters: it is shown on the screens of the other windows`},
		{config.Kiosk, func(c *config.Config) { c.Window.City = long },
			`window.city must have 1 to 64 characters: it is shown on the screens of the other windows`},
		{config.Kiosk, func(c *config.Config) { c.Window.Languages = nil },
			`window.languages is empty: list one or more of de, en, it`},
		{config.Kiosk, func(c *config.Config) { c.Window.Languages = []string{"fr"} }, `window.languages: "fr" is not one of de, en, it`},
		{config.Kiosk, func(c *config.Config) { c.Window.Languages = []string{"de", "de"} }, `window.languages lists de twice: remove one`},
		{config.Kiosk, func(c *config.Config) { c.Window.Timezone = "Saxony" },
			`window.timezone: "Saxony" is not a time zone such as Europe/Berlin`},
		{config.Kiosk, func(c *config.Config) { c.Window.Timezone = "" },
			`window.timezone: "" is not a time zone such as Europe/Berlin`},
		{config.Kiosk, func(c *config.Config) { c.Kiosk.Listen = "8470" },
			`kiosk.listen: "8470" is not an address and port such as 127.0.0.1:8470`},
		{config.Kiosk, func(c *config.Config) { c.Kiosk.Listen = "0.0.0.0:8470" },
			`kiosk.listen: 0.0.0.0:8470 can be reached from outside, and whoever reaches the page can open the window: use 127.0.0.1`},
		{config.Kiosk, func(c *config.Config) { c.Kiosk.Countdown = 11 * time.Second }, `kiosk.countdown: 11s is not between 0s and 10s`},
		{config.Kiosk, func(c *config.Config) { c.Media.LiveKitServiceURL = "hub" },
			`media.livekit_service_url: "hub" is not an address such as https://hub.example.org/livekit/jwt`},
		{config.Kiosk, func(c *config.Config) { c.Media.KnownServices = []string{"rtc"} },
			`media.known_services: "rtc" is not an address such as https://rtc.example.net/jwt`},
		{config.Kiosk, func(c *config.Config) { c.Media.AllowNetworks = []string{"vpn"} },
			`media.allow_networks: "vpn" is neither an address such as 192.0.2.7 nor a prefix such as 10.0.0.0/8`},
		{config.Kiosk, func(c *config.Config) { c.Media.MaxVideoBitrateKbit = 99 },
			`media.max_video_bitrate_kbit: 99 is not between 100 and 20000`},
		{config.Kiosk, func(c *config.Config) { c.Logging.Level = "loud" },
			`logging.level: "loud" is not one of trace, debug, info, warn, error`},
		{config.Kiosk, func(c *config.Config) { c.Logging.Format = "xml" }, `logging.format: "xml" is not one of plain, json`},

		{config.Hub, func(c *config.Config) {
			c.Hub.TurnServer.Enabled, c.Hub.Focus.Enabled, c.Hub.Homeserver.Enabled = false, false, false
		}, `hub: every part is off: set enabled to true in hub.turnserver, hub.focus or hub.homeserver`},
		{config.Hub, func(c *config.Config) { c.Hub.PublicURL = "" },
			`hub.public_url: "" is not an address such as https://hub.example.org`},
		{config.Hub, func(c *config.Config) { c.Hub.Listen, c.Hub.LocalListen = "", "" },
			`hub.listen and hub.local_listen are both empty: set one of them`},
		{config.Hub, func(c *config.Config) { c.Hub.Account.Username = "" }, `hub.account.username is empty: give the name of the hub's Matrix account`},
		{config.Hub, func(c *config.Config) { c.Hub.Account.Password = "" }, `hub.account.password is empty: give the password of the hub's Matrix account`},
		{config.Hub, func(c *config.Config) { c.Hub.Account.HomeserverURL = "matrix" },
			`hub.account.homeserver_url: "matrix" is not an address such as https://matrix.example.org`},
		{config.Hub, func(c *config.Config) {
			c.Hub.Account.HomeserverURL, c.Hub.Homeserver.URL = "", "http://127.0.0.1:8108"
		}, `hub.account.homeserver_url is empty, and this hub runs no homeserver of its own: give the homeserver of the hub's Matrix account, or set hub.focus.open to give access to everybody`},
		{config.Hub, func(c *config.Config) { c.Hub.Listen = "8448" },
			`hub.listen: "8448" is not an address and port such as 0.0.0.0:8448`},
		{config.Hub, func(c *config.Config) { c.Hub.LocalListen = "here" },
			`hub.local_listen: "here" is not an address and port such as 127.0.0.1:8008`},
		{config.Hub, func(c *config.Config) { c.Hub.TLSKey = "" },
			`hub.tls_certificate and hub.tls_key must both be set, or hub.acme.enabled, or hub.listen emptied to leave TLS to a reverse proxy`},
		{config.Hub, func(c *config.Config) { c.Hub.Listen, c.Hub.TLSKey = "", "" },
			`hub.tls_certificate and hub.tls_key belong together: set both or none`},
		{config.Hub, func(c *config.Config) { c.Hub.ACME.Enabled = true },
			`hub.acme.enabled and hub.tls_certificate are both set: keep only one of these ways to a certificate`},
		{config.Hub, acme(func(c *config.Config) { c.Hub.Listen = "" }),
			`hub.acme.enabled is true, but nothing needs a certificate: set hub.listen or a tls:// address in hub.turnserver.listen, or set it to false`},
		{config.Hub, acme(func(c *config.Config) { c.Hub.PublicURL = "https://192.0.2.7:8448" }),
			`hub.acme: "192.0.2.7" is not a name of the DNS such as hub.example.org, and authorities give certificates for such names only: correct hub.public_url`},
		{config.Hub, acme(func(c *config.Config) { c.Hub.ACME.Email = "Anna" }), `hub.acme.email: "Anna" is not an address such as anna@example.org`},
		{config.Hub, acme(func(c *config.Config) { c.Hub.ACME.DirectoryURL = "http://acme.example.org" }),
			`hub.acme.directory_url: "http://acme.example.org" is not encrypted: use https:// (plain http:// is for this machine only)`},
		{config.Hub, acme(func(c *config.Config) { c.Hub.ACME.HTTPListen = "80" }),
			`hub.acme.http_listen: "80" is not an address and port such as 0.0.0.0:80`},
		{config.Turn, acme(func(c *config.Config) {
			c.Hub.TurnServer.Listen, c.Hub.PublicURL = []string{"tls://0.0.0.0:443"}, ""
		}), `hub.acme needs the name that the certificate is for: set hub.public_url or hub.turnserver.tls_host`},

		{config.Hub, func(c *config.Config) { c.Hub.TurnServer.ShareHTTPSPort, c.Hub.Listen = true, "" },
			`hub.turnserver.share_https_port needs hub.listen, and hub.focus or hub.homeserver: without them list tls://0.0.0.0:443 in hub.turnserver.listen`},
		{config.Hub, func(c *config.Config) { c.Hub.ProxyProtocolFrom = []string{"192.0.2.7", "proxy"} },
			`hub.proxy_protocol_from: "proxy" is neither an address such as 192.0.2.7 nor a prefix such as 10.0.0.0/8`},
		{config.Hub, func(c *config.Config) { c.Hub.TurnServer.ProxyProtocolFrom = []string{"10.0.0.0/33"} },
			`hub.turnserver.proxy_protocol_from: "10.0.0.0/33" is neither an address such as 192.0.2.7 nor a prefix such as 10.0.0.0/8`},
		{config.Turn, func(c *config.Config) {
			c.Hub.TurnServer.ProxyProtocolFrom, c.Hub.TurnServer.Listen = []string{"10.0.0.0/8"}, []string{"tcp://0.0.0.0:3478"}
		}, `hub.turnserver.proxy_protocol_from: hub.turnserver.listen also needs a udp:// address, because the proxy passes on TCP only`},
		{config.Hub, func(c *config.Config) { c.Hub.TurnServer.TLSHost = "192.0.2.7" },
			`hub.turnserver.tls_host: "192.0.2.7" is not a name of the DNS such as hub.example.org`},

		{config.Hub, func(c *config.Config) { c.Hub.Focus.LiveKitURL = "tcp://a" },
			"hub.turnserver.allowed_peers is empty, so nothing could be relayed: list the address of your SFU\n" +
				`hub.focus.livekit_url: "tcp://a" is not an address such as wss://livekit.example.org` + "\n" +
				`hub.focus.key and hub.focus.secret must be those of the server in hub.focus.livekit_url`},
		{config.Hub, func(c *config.Config) { c.Hub.Focus.Key = "k" },
			`hub.focus.key and hub.focus.secret belong together: set both or none`},
		{config.Hub, func(c *config.Config) { c.Hub.Focus.Key, c.Hub.Focus.Secret = "k", "short" },
			`hub.focus.secret must have 32 characters or more: make one with openssl rand -hex 32`},
		{config.Hub, func(c *config.Config) { c.Hub.Focus.Port = -1 }, `hub.focus.port: -1 is not between 0 and 65535`},
		{config.Hub, func(c *config.Config) { c.Hub.Focus.UDPPort = 70000 }, `hub.focus.udp_port: 70000 is not between 0 and 65535`},
		{config.Hub, func(c *config.Config) { c.Hub.Focus.TCPPort = 70000 }, `hub.focus.tcp_port: 70000 is not between 0 and 65535`},
		{config.Hub, func(c *config.Config) { c.Hub.Focus.NodeIP = "::1" },
			`hub.focus.node_ip: "::1" is not an IPv4 address: give the one under which clients reach this machine`},
		{config.Hub, func(c *config.Config) { c.Hub.TurnServer.Enabled = false },
			`hub.focus.node_ip: "" is not an IPv4 address: give the one under which clients reach this machine`},
		{config.Hub, func(c *config.Config) { c.Hub.Focus.FullAccessHomeservers = []string{"https://a"} },
			`hub.focus.full_access_homeservers: "https://a" is not a server name such as example.org`},
		{config.Hub, func(c *config.Config) { c.Hub.Homeserver.Enabled = false },
			`hub.focus.full_access_homeservers is empty, so nobody could begin a call: list your homeserver's name, such as example.org`},
		{config.Hub, func(c *config.Config) { c.Hub.Focus.PublicURL = "ws://a.example.org" },
			`hub.focus.public_url: "ws://a.example.org" is not encrypted: use wss:// (plain ws:// is for this machine only)`},
		{config.Hub, func(c *config.Config) { c.Hub.Focus.LiveKitServiceURL = "a" },
			`hub.focus.livekit_service_url: "a" is not an address such as https://hub.example.org/livekit/jwt`},
		{config.Hub, func(c *config.Config) { c.Hub.Homeserver.ServerName = "https://example.org" },
			`hub.homeserver.server_name: "https://example.org" is not a server name such as example.org`},
		{config.Hub, func(c *config.Config) { c.Hub.Homeserver.URL = "a" },
			`hub.homeserver.url: "a" is not an address such as http://127.0.0.1:8108`},
		{config.Hub, func(c *config.Config) { c.Hub.Homeserver.RegistrationSecret = "" },
			`hub.homeserver.registration_secret is empty, so no account could be made: make one with openssl rand -hex 32`},
		{config.Hub, func(c *config.Config) { c.Hub.Homeserver.AllowNetworks = nil },
			`hub.homeserver.allow_networks is empty, so the hub could ask no homeserver: list 0.0.0.0/0 for all`},
		{config.Hub, func(c *config.Config) {
			c.Hub.Homeserver.URL, c.Hub.Homeserver.AllowNetworks = "http://127.0.0.1:8108", nil
		},
			`hub.homeserver.allow_networks is empty, so the hub could ask no homeserver: list 0.0.0.0/0 for all`},
		{config.Hub, func(c *config.Config) { c.Hub.Homeserver.AllowNetworks = []string{"all"} },
			`hub.homeserver.allow_networks: "all" is not a prefix such as 10.0.0.0/8`},
		{config.Hub, func(c *config.Config) { c.Hub.Homeserver.DenyNetworks = []string{"10.0.0.1"} },
			`hub.homeserver.deny_networks: "10.0.0.1" is not a prefix such as 10.0.0.0/8`},
		{config.Hub, func(c *config.Config) { c.Hub.Homeserver.BcryptCost = 3 }, `hub.homeserver.bcrypt_cost: 3 is not between 4 and 15`},

		{config.Turn, func(c *config.Config) { c.Hub.TurnServer.Enabled = false },
			`hub.turnserver.enabled is false: set it to true, or do not start the TURN server`},
		{config.Turn, func(c *config.Config) { c.Hub.TurnServer.Listen = nil },
			`hub.turnserver.listen is empty: list an address such as udp://0.0.0.0:3478`},
		{config.Turn, func(c *config.Config) { c.Hub.TurnServer.Listen = []string{"0.0.0.0:3478"} },
			`hub.turnserver.listen: "0.0.0.0:3478" must begin with udp://, tcp:// or tls://`},
		{config.Turn, func(c *config.Config) { c.Hub.TurnServer.Listen = []string{"udp://example.org:3478"} },
			`hub.turnserver.listen: "udp://example.org:3478" must end with an address and a port such as 0.0.0.0:3478`},
		{config.Turn, func(c *config.Config) {
			c.Hub.TurnServer.Listen, c.Hub.TLSCertificate = []string{"tls://0.0.0.0:5349"}, ""
		}, `hub.turnserver.listen: tls://0.0.0.0:5349 needs hub.turnserver.tls_certificate and hub.turnserver.tls_key`},
		{config.Turn, func(c *config.Config) { c.Hub.TurnServer.TLSKey = "x" },
			`hub.turnserver.tls_certificate and hub.turnserver.tls_key belong together: set both or none`},
		{config.Turn, func(c *config.Config) { c.Hub.TurnServer.PublicIP = "0.0.0.0" },
			`hub.turnserver.public_ip: "0.0.0.0" is not an IPv4 address: give the one under which clients reach this machine`},
		{config.Turn, func(c *config.Config) { c.Hub.TurnServer.MorePublicIPs = []string{"203.0.113.0/24"} },
			`hub.turnserver.more_public_ips: "203.0.113.0/24" is not an address such as 203.0.113.7, or 203.0.113.7/10.0.0.5 behind a one-to-one NAT`},
		{config.Turn, func(c *config.Config) { c.Hub.TurnServer.OldSecret = "short" },
			`hub.turnserver.old_secret must have 16 characters or more, or be emptied when nobody uses it any more`},
		{config.Turn, func(c *config.Config) { c.Hub.TurnServer.MaxBitratePerUser = 64 },
			`hub.turnserver.max_bitrate_per_user: 64 bit/s is too little for a picture: set 100000 or more, or 0 for no limit`},
		{config.Turn, func(c *config.Config) { c.Hub.TurnServer.Drain = 2 * time.Hour },
			`hub.turnserver.drain: 2h0m0s is not between 0s and 1h`},
		{config.Turn, func(c *config.Config) { c.Hub.TurnServer.Realm = "" }, `hub.turnserver.realm must have 1 to 128 characters`},
		{config.Turn, func(c *config.Config) { c.Hub.TurnServer.Secret = "short" },
			`hub.turnserver.secret must have 16 characters or more: make one with openssl rand -hex 32`},
		{config.Turn, func(c *config.Config) { c.Hub.TurnServer.RelayPorts = "9-1" },
			`hub.turnserver.relay_ports: "9-1" is not a range of ports such as 49160-49200`},
		{config.Turn, func(c *config.Config) { c.Hub.TurnServer.AllowedPeers = []string{"sfu.example.org"} },
			`hub.turnserver.allowed_peers: "sfu.example.org" is not an address`},
		{config.Turn, func(c *config.Config) { c.Hub.Focus.Enabled = false },
			`hub.turnserver.allowed_peers is empty, so nothing could be relayed: list the address of your SFU`},
		{config.Turn, func(c *config.Config) { c.Hub.TurnServer.MaxAllocations = 0 },
			`hub.turnserver.max_allocations: 0 is not between 1 and 60000`},
		{config.Turn, func(c *config.Config) { c.Hub.TurnServer.MaxAllocationsPerUser = 0 },
			`hub.turnserver.max_allocations_per_user: 0 is not between 1 and 1000`},
		{config.Turn, func(c *config.Config) { c.Metrics.Listen = "9468" },
			`metrics.listen: "9468" is not an address and port such as 127.0.0.1:9468`},
		{config.Hub, func(c *config.Config) { c.Metrics.Listen = "0.0.0.0:9468" },
			`metrics.listen: 0.0.0.0:9468 can be reached from outside: use 127.0.0.1, and let a reverse proxy ask for a login if Prometheus is elsewhere`},
		{config.Kiosk, func(c *config.Config) { c.Metrics.Listen = "[::]:9468" },
			`metrics.listen: [::]:9468 can be reached from outside: use 127.0.0.1, and let a reverse proxy ask for a login if Prometheus is elsewhere`},
		{"cook", func(*config.Config) {}, `there is no role "cook"`},
	} {
		c := good()
		test.change(c)
		if err := c.Validate(test.role); err == nil || err.Error() != test.want {
			t.Errorf("%s:\n got %v\nwant %s", test.role, err, test.want)
		}
	}
}

func TestPrefixes(t *testing.T) {
	got, err := config.Prefixes([]string{"192.0.2.7", "10.1.2.3/8", "2001:db8::1", "::ffff:192.0.2.8"})
	if want := "[192.0.2.7/32 10.0.0.0/8 2001:db8::1/128 192.0.2.8/32]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("got %v, %v, want %s", got, err, want)
	}
}

// TestValidateNoSecret checks that no message shows a secret, even a wrong one.
func TestValidateNoSecret(t *testing.T) {
	c := good()
	secrets := []string{"pw-Aq1", "turn-Aq1", "lk-Aq1", "reg-Aq1"}
	c.Homeserver.Password, c.Hub.TurnServer.Secret, c.Hub.Focus.Secret, c.Hub.Homeserver.RegistrationSecret =
		secrets[0], secrets[1], secrets[2], secrets[3]
	c.Homeserver.URL, c.Hub.PublicURL, c.Hub.Homeserver.ServerName = "x", "x", "/"
	for _, role := range []config.Role{config.Kiosk, config.Hub} {
		err := c.Validate(role)
		if err == nil {
			t.Fatalf("%s: accepted", role)
		}
		if slices.ContainsFunc(secrets, func(s string) bool { return strings.Contains(err.Error(), s) }) {
			t.Errorf("%s: a message shows a secret: %v", role, err)
		}
	}
}
