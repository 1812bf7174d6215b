package hub

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/livekit/protocol/livekit"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/homeserver"
	"multifactorymodel.org/ewindow/turnserver"
)

// Paths below Config.PublicURL.
const (
	servicePath = "/livekit/jwt" // the authorisation service
	sfuPath     = "/livekit/sfu" // LiveKit's signalling
)

// ServiceURL is the livekit_service_url (MSC4195) that a hub announces: the configured one, else the address of its own authorisation service.
// It is empty when neither a service URL nor a public URL is configured.
func ServiceURL(cfg *Config) string {
	switch {
	case cfg.ServiceURL != "":
		return cfg.ServiceURL
	case cfg.PublicURL == "":
		return ""
	}
	return strings.TrimSuffix(cfg.PublicURL, "/") + servicePath
}

// transports lists the authorisation services that the homeserver announces. It is empty when there is no focus at all.
func transports(cfg *Config) []string {
	if cfg.Focus == nil && cfg.ServiceURL == "" {
		return nil
	}
	return []string{ServiceURL(cfg)}
}

// sfuURL is where clients reach LiveKit's WebSocket.
func sfuURL(cfg *Config) string {
	if cfg.Focus.PublicURL != "" {
		return cfg.Focus.PublicURL
	}
	return strings.Replace(strings.TrimSuffix(cfg.PublicURL, "/"), "http", "ws", 1) + sfuPath
}

// publicHost is the host of Config.PublicURL, "" if there is none.
func publicHost(cfg *Config) string {
	u, err := url.Parse(cfg.PublicURL)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// nodeIP is the address that clients reach LiveKit at.
func nodeIP(cfg *Config) string {
	switch {
	case cfg.Focus.NodeIP != "":
		return cfg.Focus.NodeIP
	case cfg.Relay != nil:
		return addressText(cfg.Relay.PublicIP)
	}
	return ""
}

// addressText is an address as text, "" if there is none.
func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// relayTLSHost is the host that clients are told for TURN over TLS: the relay's own name, else the host of Config.PublicURL, else the relay's
// address. It is a name if possible, because clients compare it with the certificate.
func relayTLSHost(cfg *Config) string {
	if cfg.Relay.TLSHost != "" {
		return cfg.Relay.TLSHost
	}
	if host := publicHost(cfg); host != "" {
		return host
	}
	return addressText(cfg.Relay.PublicIP)
}

// sharedPort is the port that clients are told for TURN on the HTTPS port, 0 when that port is not shared. It is the port of Config.PublicURL,
// which leads to Config.Listen.
func sharedPort(cfg *Config) int {
	if cfg.Relay == nil || !cfg.Relay.ShareHTTPSPort || cfg.Listen == "" {
		return 0
	}
	if u, err := url.Parse(cfg.PublicURL); err == nil && u.Port() != "" {
		port, _ := strconv.Atoi(u.Port())
		return port
	}
	return 443
}

// certificateNames are the names for which an authority is asked for certificates. The last one is the relay's.
func certificateNames(cfg *Config) (names []string) {
	host := publicHost(cfg)
	if host != "" {
		names = append(names, host)
	}
	if r := cfg.Relay; r != nil && r.TLSHost != "" && r.Certificate == (CertificateFiles{}) && !strings.EqualFold(r.TLSHost, host) {
		names = append(names, r.TLSHost)
	}
	return names
}

// turnServer is one way to reach the relay.
type turnServer struct {
	transport turnserver.Transport
	host      string
	port      int
}

// turnServers lists the ways to reach the relay. LiveKit and the homeserver announce the same list to their clients.
func turnServers(cfg *Config) (list []turnServer) {
	if cfg.Relay == nil {
		return nil
	}
	for _, l := range cfg.Relay.Listen {
		host := cmp.Or(addressText(cfg.Relay.PublicIP), publicHost(cfg)) // an address that is not known yet is one that the name leads to
		if l.Transport == turnserver.TLS {
			host = relayTLSHost(cfg)
		}
		list = append(list, turnServer{l.Transport, host, int(l.Addr.Port())})
	}
	if port := sharedPort(cfg); port != 0 {
		list = append(list, turnServer{turnserver.TLS, relayTLSHost(cfg), port})
	}
	return list
}

// TURNURIs lists the URIs (RFC 7065) at which clients reach the hub's relay. It is empty when there is none.
func TURNURIs(cfg *Config) (uris []string) {
	for _, s := range turnServers(cfg) {
		scheme, transport := "turn", s.transport
		if transport == turnserver.TLS {
			scheme, transport = "turns", turnserver.TCP
		}
		uris = append(uris, fmt.Sprintf("%s:%s:%d?transport=%s", scheme, s.host, s.port, transport))
	}
	return uris
}

// turnLifetime is how long TURN credentials are valid. The relay checks that only when a client makes an allocation: when it joins, and when
// it restarts ICE.
const turnLifetime = 4 * time.Hour

// turnName is a user's name at the relay. Whatever a user has credentials from, and for which device, the relay counts their allocations together.
// Anybody on the wire can read the name, so it is no user id.
func turnName(cfg *Config, user id.UserID) string {
	mac := hmac.New(sha256.New, []byte(cfg.Relay.Secret))
	_, _ = mac.Write([]byte(user)) // never fails
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))[:22]
}

// turnAccess is what a homeserver's client is told about the relay (Matrix client-server API, VoIP).
func turnAccess(cfg *Config, user id.UserID) homeserver.TURNAccess {
	name, password := turnserver.Credentials(cfg.Relay.Secret, turnName(cfg, user), turnLifetime)
	return homeserver.TURNAccess{Username: name, Password: password, URIs: TURNURIs(cfg), TTL: int(turnLifetime.Seconds())}
}

// iceServers is the same in LiveKit's form.
func iceServers(cfg *Config, user id.UserID) []*livekit.ICEServer {
	access := turnAccess(cfg, user)
	list := make([]*livekit.ICEServer, len(access.URIs))
	for i, uri := range access.URIs {
		list[i] = &livekit.ICEServer{Urls: []string{uri}, Username: access.Username, Credential: access.Password}
	}
	return list
}
