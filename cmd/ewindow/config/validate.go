package config

import (
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // the page and the messages need time zones, which a kiosk's system may lack
	"unicode/utf8"

	"multifactorymodel.org/ewindow/bridge/hub/certificate"
	"multifactorymodel.org/ewindow/bridge/window"
	"multifactorymodel.org/ewindow/turnserver"
)

// Role is what the program runs as. It decides which sections must be filled in.
type Role string

// The roles: a window, a hub, and a hub's TURN relay alone.
const (
	Kiosk Role = "kiosk"
	Hub   Role = "hub"
	Turn  Role = "turn"
)

// Limits of values: bit/s of the relay, and lengths of secrets in bytes.
const (
	minTurnBitrate   = 100_000
	minTurnSecret    = 16 // 128 bits, because everybody who has credentials can try to guess the secret offline
	minLiveKitSecret = 32 // what livekit-server asks for
)

var (
	userID     = regexp.MustCompile(`^@[\x21-\x39\x3b-\x7e]{1,200}:[A-Za-z0-9.\-\[\]:]{1,230}$`)
	serverName = regexp.MustCompile(`^([A-Za-z0-9.\-]{1,200}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?$`)
)

// Validate checks the values that a role needs. The error has one line for each problem, which names the key as it is written in the file
// and says what to do.
func (c *Config) Validate(role Role) error {
	var v checker
	v.require(c.DataDir != "", "data_dir is empty: name the folder for the database and keys")
	switch role {
	case Kiosk:
		v.kiosk(c)
	case Hub:
		v.hub(&c.Hub)
	case Turn:
		v.require(c.Hub.TurnServer.Enabled, "hub.turnserver.enabled is false: set it to true, or do not start the TURN server")
		if c.Hub.TurnServer.Enabled {
			v.turnserver(&c.Hub)
			v.acme(&c.Hub, c.Hub.wantsTLS())
		}
	default:
		v.require(false, "there is no role %q", string(role))
	}
	if c.Metrics.Listen != "" {
		listen, err := netip.ParseAddrPort(c.Metrics.Listen)
		v.require(err == nil, "metrics.listen: %q is not an address and port such as 127.0.0.1:9468", c.Metrics.Listen)
		v.require(err != nil || listen.Addr().IsLoopback(),
			"metrics.listen: %s can be reached from outside: use 127.0.0.1, and let a reverse proxy ask for a login if Prometheus is elsewhere", c.Metrics.Listen)
	}
	v.oneOf("logging.level", c.Logging.Level, "trace", "debug", "info", "warn", "error")
	v.oneOf("logging.format", c.Logging.Format, "plain", "json")
	return errors.Join(v.errs...)
}

// checker collects problems.
type checker struct{ errs []error }

// require notes a problem unless ok.
func (v *checker) require(ok bool, format string, args ...any) {
	if !ok {
		v.errs = append(v.errs, fmt.Errorf(format, args...))
	}
}

func (v *checker) kiosk(c *Config) {
	v.url("homeserver.url", c.Homeserver.URL, "https://matrix.example.org")
	v.require(c.Homeserver.Username != "", "homeserver.username is empty: give the name of this window's Matrix account")
	v.require(c.Homeserver.Password != "",
		"homeserver.password is empty: give the account's password, or a file that holds it in homeserver.password_file")
	v.require(c.Homeserver.DeviceName != "", "homeserver.device_name is empty: give a name, such as e-window")
	for _, admin := range c.Network.Admins {
		v.require(userID.MatchString(admin), "network.admins: %q is not a Matrix user ID such as @anna:example.org", admin)
	}
	v.displayName("window.name", c.Window.Name)
	if c.Window.City != "" {
		v.displayName("window.city", c.Window.City)
	}
	v.require(len(c.Window.Languages) > 0, "window.languages is empty: list one or more of de, en, it")
	for i, language := range c.Window.Languages {
		v.oneOf("window.languages", language, "de", "en", "it")
		v.require(!slices.Contains(c.Window.Languages[:i], language), "window.languages lists %s twice: remove one", language)
	}
	_, err := time.LoadLocation(c.Window.Timezone)
	v.require(err == nil && c.Window.Timezone != "" && c.Window.Timezone != "Local",
		"window.timezone: %q is not a time zone such as Europe/Berlin", c.Window.Timezone)
	if listen, err := netip.ParseAddrPort(c.Kiosk.Listen); err != nil {
		v.require(false, "kiosk.listen: %q is not an address and port such as 127.0.0.1:8470", c.Kiosk.Listen)
	} else {
		v.require(listen.Addr().IsLoopback(),
			"kiosk.listen: %s can be reached from outside, and whoever reaches the page can open the window: use 127.0.0.1", listen)
	}
	v.require(c.Kiosk.Countdown >= 0 && c.Kiosk.Countdown <= window.MaxCountdown,
		"kiosk.countdown: %s is not between 0s and %s", c.Kiosk.Countdown, window.MaxCountdown)
	if c.Media.LiveKitServiceURL != "" {
		v.url("media.livekit_service_url", c.Media.LiveKitServiceURL, "https://hub.example.org/livekit/jwt")
	}
	for _, service := range c.Media.KnownServices {
		v.url("media.known_services", service, "https://rtc.example.net/jwt")
	}
	_, err = Prefixes(c.Media.AllowNetworks)
	v.require(err == nil, "media.allow_networks: %v", err)
	v.between("media.max_video_bitrate_kbit", c.Media.MaxVideoBitrateKbit, 100, 20000)
}

func (v *checker) hub(h *HubConfig) {
	v.require(h.TurnServer.Enabled || h.Focus.Enabled || h.Homeserver.Enabled,
		"hub: every part is off: set enabled to true in hub.turnserver, hub.focus or hub.homeserver")
	if h.Focus.Enabled || h.Homeserver.Enabled {
		v.front(h)
		v.prefixes("hub.homeserver.allow_networks", h.Homeserver.AllowNetworks)
		v.prefixes("hub.homeserver.deny_networks", h.Homeserver.DenyNetworks)
		v.require(len(h.Homeserver.AllowNetworks) > 0, "hub.homeserver.allow_networks is empty, so the hub could ask no homeserver: list 0.0.0.0/0 for all")
	}
	if h.NeedsAccount() {
		v.account(h)
	}
	if h.TurnServer.Enabled {
		v.turnserver(h)
	}
	v.require(!h.TurnServer.Enabled || !h.TurnServer.ShareHTTPSPort || h.Listen != "" && (h.Focus.Enabled || h.Homeserver.Enabled),
		"hub.turnserver.share_https_port needs hub.listen, and hub.focus or hub.homeserver: without them list tls://0.0.0.0:443 in hub.turnserver.listen")
	v.acme(h, h.wantsTLS() || h.Listen != "" && (h.Focus.Enabled || h.Homeserver.Enabled))
	if h.Focus.Enabled {
		v.focus(h)
	}
	if h.Focus.LiveKitServiceURL != "" {
		v.url("hub.focus.livekit_service_url", h.Focus.LiveKitServiceURL, "https://hub.example.org/livekit/jwt")
	}
	if h.Homeserver.Enabled {
		v.homeserver(&h.Homeserver)
	}
}

// account checks the hub's own account.
func (v *checker) account(h *HubConfig) {
	a := &h.Account
	v.require(a.Username != "", "hub.account.username is empty: give the name of the hub's Matrix account")
	own := h.Homeserver.Enabled && h.Homeserver.URL == ""
	if a.HomeserverURL != "" {
		v.url("hub.account.homeserver_url", a.HomeserverURL, "https://matrix.example.org")
		v.require(a.Password != "", "hub.account.password is empty: give the password of the hub's Matrix account")
		return
	}
	v.require(own, "hub.account.homeserver_url is empty, and this hub runs no homeserver of its own: give the homeserver of the hub's Matrix account, "+
		"or set hub.focus.open to give access to everybody")
}

// front checks the addresses of the hub's HTTP side.
func (v *checker) front(h *HubConfig) {
	v.url("hub.public_url", h.PublicURL, "https://hub.example.org")
	v.require(h.Listen != "" || h.LocalListen != "", "hub.listen and hub.local_listen are both empty: set one of them")
	for _, l := range []struct{ key, value, example string }{
		{"hub.listen", h.Listen, "0.0.0.0:8448"}, {"hub.local_listen", h.LocalListen, "127.0.0.1:8008"},
	} {
		if _, err := netip.ParseAddrPort(l.value); l.value != "" {
			v.require(err == nil, "%s: %q is not an address and port such as %s", l.key, l.value, l.example)
		}
	}
	_, err := Prefixes(h.ProxyProtocolFrom)
	v.require(err == nil, "hub.proxy_protocol_from: %v", err)
	if h.Listen != "" {
		v.require(h.ACME.Enabled || h.TLSCertificate != "" && h.TLSKey != "",
			"hub.tls_certificate and hub.tls_key must both be set, or hub.acme.enabled, or hub.listen emptied to leave TLS to a reverse proxy")
	} else {
		v.require((h.TLSCertificate == "") == (h.TLSKey == ""), "hub.tls_certificate and hub.tls_key belong together: set both or none")
	}
}

// acme checks the section hub.acme. used says that a listener needs a certificate.
func (v *checker) acme(h *HubConfig, used bool) {
	a := &h.ACME
	if !a.Enabled {
		return
	}
	v.require(h.TLSCertificate == "" && h.TLSKey == "",
		"hub.acme.enabled and hub.tls_certificate are both set: keep only one of these ways to a certificate")
	v.require(used, "hub.acme.enabled is true, but nothing needs a certificate: set hub.listen or a tls:// address in hub.turnserver.listen, or set it to false")
	host := publicHost(h.PublicURL)
	v.require(host != "" || h.TurnServer.TLSHost != "", "hub.acme needs the name that the certificate is for: set hub.public_url or hub.turnserver.tls_host")
	if host != "" {
		err := certificate.CheckName(host)
		v.require(err == nil, "hub.acme: %v, and authorities give certificates for such names only: correct hub.public_url", err)
	}
	if a.Email != "" {
		address, err := mail.ParseAddress(a.Email)
		v.require(err == nil && address.Address == a.Email, "hub.acme.email: %q is not an address such as anna@example.org", a.Email)
	}
	v.url("hub.acme.directory_url", a.DirectoryURL, "https://acme-v02.api.letsencrypt.org/directory")
	if a.HTTPListen != "" {
		_, err := netip.ParseAddrPort(a.HTTPListen)
		v.require(err == nil, "hub.acme.http_listen: %q is not an address and port such as 0.0.0.0:80", a.HTTPListen)
	}
}

// publicHost is the host of a URL, "" if there is none.
func publicHost(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// wantsTLS says whether the relay has a TLS listener that uses the hub's certificate.
func (h *HubConfig) wantsTLS() bool {
	t := &h.TurnServer
	return t.Enabled && t.TLSCertificate == "" && slices.ContainsFunc(t.Listen, func(text string) bool {
		l, err := turnserver.ParseListen(text)
		return err == nil && l.Transport == turnserver.TLS
	})
}

func (v *checker) turnserver(h *HubConfig) {
	t := &h.TurnServer
	v.require(len(t.Listen) > 0, "hub.turnserver.listen is empty: list an address such as udp://0.0.0.0:3478")
	for _, text := range t.Listen {
		l, err := turnserver.ParseListen(text)
		v.require(err == nil, "hub.turnserver.listen: %v", err)
		v.require(err != nil || l.Addr.Port() != 0 || !h.Focus.Enabled && !h.Homeserver.Enabled,
			"hub.turnserver.listen: %s must name a port, since LiveKit and the homeserver are told of it", text)
		if err == nil && l.Transport == turnserver.TLS {
			v.require(t.TLSCertificate != "" || h.TLSCertificate != "" || h.ACME.Enabled,
				"hub.turnserver.listen: %s needs hub.turnserver.tls_certificate and hub.turnserver.tls_key", text)
		}
	}
	v.require((t.TLSCertificate == "") == (t.TLSKey == ""),
		"hub.turnserver.tls_certificate and hub.turnserver.tls_key belong together: set both or none")
	if t.PublicIP != "" {
		v.ip("hub.turnserver.public_ip", t.PublicIP)
	}
	for _, text := range t.MorePublicIPs {
		_, err := turnserver.ParseRelay(text)
		v.require(err == nil, "hub.turnserver.more_public_ips: %v", err)
	}
	_, err := Prefixes(t.ProxyProtocolFrom)
	v.require(err == nil, "hub.turnserver.proxy_protocol_from: %v", err)
	v.require(len(t.ProxyProtocolFrom) == 0 || slices.ContainsFunc(t.Listen, func(text string) bool { return strings.HasPrefix(text, "udp://") }),
		"hub.turnserver.proxy_protocol_from: hub.turnserver.listen also needs a udp:// address, because the proxy passes on TCP only")
	if t.TLSHost != "" {
		err := certificate.CheckName(t.TLSHost)
		v.require(err == nil, "hub.turnserver.tls_host: %v", err)
	}
	v.require(t.Realm != "" && len(t.Realm) <= 128, "hub.turnserver.realm must have 1 to 128 characters")
	v.require(len(t.Secret) >= minTurnSecret,
		"hub.turnserver.secret must have %d characters or more: make one with openssl rand -hex 32", minTurnSecret)
	v.require(t.OldSecret == "" || len(t.OldSecret) >= minTurnSecret,
		"hub.turnserver.old_secret must have %d characters or more, or be emptied when nobody uses it any more", minTurnSecret)
	_, _, err = turnserver.ParsePorts(t.RelayPorts)
	v.require(err == nil, "hub.turnserver.relay_ports: %v", err)
	for _, text := range t.AllowedPeers {
		_, err := turnserver.ParsePeer(text)
		v.require(err == nil, "hub.turnserver.allowed_peers: %v", err)
	}
	v.require(len(t.AllowedPeers) > 0 || (h.Focus.Enabled && h.Focus.LiveKitURL == ""),
		"hub.turnserver.allowed_peers is empty, so nothing could be relayed: list the address of your SFU")
	v.between("hub.turnserver.max_allocations", t.MaxAllocations, 1, 60000)
	v.between("hub.turnserver.max_allocations_per_user", t.MaxAllocationsPerUser, 1, 1000)
	for key, value := range map[string]int{"max_bitrate": t.MaxBitrate, "max_bitrate_per_user": t.MaxBitratePerUser} {
		v.require(value == 0 || value >= minTurnBitrate, "hub.turnserver.%s: %d bit/s is too little for a picture: set %d or more, or 0 for no limit",
			key, value, minTurnBitrate)
	}
	v.require(t.Drain >= 0 && t.Drain <= time.Hour, "hub.turnserver.drain: %v is not between 0s and 1h", t.Drain)
}

func (v *checker) focus(h *HubConfig) {
	f := &h.Focus
	if f.LiveKitURL != "" {
		v.url("hub.focus.livekit_url", f.LiveKitURL, "wss://livekit.example.org")
		v.require(f.Key != "" && f.Secret != "", "hub.focus.key and hub.focus.secret must be those of the server in hub.focus.livekit_url")
	} else {
		v.require((f.Key == "") == (f.Secret == ""), "hub.focus.key and hub.focus.secret belong together: set both or none")
		v.port("hub.focus.port", f.Port)
		v.port("hub.focus.udp_port", f.UDPPort)
		v.port("hub.focus.tcp_port", f.TCPPort)
		if f.NodeIP != "" || !h.TurnServer.Enabled {
			v.ip("hub.focus.node_ip", f.NodeIP)
		}
	}
	v.require(f.Secret == "" || len(f.Secret) >= minLiveKitSecret,
		"hub.focus.secret must have %d characters or more: make one with openssl rand -hex 32", minLiveKitSecret)
	for _, name := range f.FullAccessHomeservers {
		v.require(serverName.MatchString(name), "hub.focus.full_access_homeservers: %q is not a server name such as example.org", name)
	}
	v.require(len(f.FullAccessHomeservers) > 0 || h.Homeserver.Enabled,
		"hub.focus.full_access_homeservers is empty, so nobody could begin a call: list your homeserver's name, such as example.org")
	if f.PublicURL != "" {
		v.url("hub.focus.public_url", f.PublicURL, "wss://hub.example.org/livekit/sfu")
	}
}

func (v *checker) homeserver(s *HubHomeserverConfig) {
	v.require(serverName.MatchString(s.ServerName),
		"hub.homeserver.server_name: %q is not a server name such as example.org", s.ServerName)
	if s.URL != "" {
		v.url("hub.homeserver.url", s.URL, "http://127.0.0.1:8108")
		return
	}
	v.port("hub.homeserver.port", s.Port)
	v.require(s.RegistrationSecret != "",
		"hub.homeserver.registration_secret is empty, so no account could be made: make one with openssl rand -hex 32")
	v.between("hub.homeserver.bcrypt_cost", s.BcryptCost, 4, 15)
}

// url checks an absolute URL. The scheme must be https, because passwords and tokens are sent there. Plain http is allowed if the host is this
// machine. If the example begins with wss, wss is allowed, too, and so is ws on this machine.
func (v *checker) url(key, text, example string) {
	u, err := url.Parse(text)
	if err == nil && u.User != nil {
		v.require(false, "%s must not hold a user name or password: remove them", key)
		return
	}
	known := err == nil && (u.Scheme == "https" || u.Scheme == "http" ||
		(strings.HasPrefix(example, "wss:") && (u.Scheme == "wss" || u.Scheme == "ws")))
	if !known || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" {
		v.require(false, "%s: %q is not an address such as %s", key, text, example)
		return
	}
	v.require(u.Scheme == "https" || u.Scheme == "wss" || isLoopback(u.Hostname()),
		"%s: %q is not encrypted: use %ss:// (plain %s:// is for this machine only)", key, text, u.Scheme, u.Scheme)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

func (v *checker) ip(key, text string) {
	addr, err := netip.ParseAddr(text)
	v.require(err == nil && addr.Is4() && !addr.IsUnspecified() && !addr.IsMulticast(),
		"%s: %q is not an IPv4 address: give the one under which clients reach this machine", key, text)
}

func (v *checker) prefixes(key string, list []string) {
	for _, text := range list {
		_, err := netip.ParsePrefix(text)
		v.require(err == nil, "%s: %q is not a prefix such as 10.0.0.0/8", key, text)
	}
}

func (v *checker) oneOf(key, value string, allowed ...string) {
	v.require(slices.Contains(allowed, value), "%s: %q is not one of %s", key, value, strings.Join(allowed, ", "))
}

func (v *checker) between(key string, value, low, high int) {
	v.require(low <= value && value <= high, "%s: %d is not between %d and %d", key, value, low, high)
}

func (v *checker) port(key string, port int) { v.between(key, port, 0, 65535) }

// displayName checks a name that the screens of other windows show.
func (v *checker) displayName(key, text string) {
	clean := utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f })
	v.require(clean && strings.TrimSpace(text) != "" && utf8.RuneCountInString(text) <= 64,
		"%s must have 1 to 64 characters: it is shown on the screens of the other windows", key)
}
