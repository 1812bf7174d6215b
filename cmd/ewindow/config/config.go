// Package config reads ewindow's one YAML file.
//
// [Load] reads a file over the values of [Default], refuses unknown keys, and reads secrets from the files that ..._file keys name.
// [Config.Validate] then checks the values that one role of the program needs. Errors name the key as it is written in the
// file, with its line, and say what to do.
//
// To add a setting:
//
//   - a field with a yaml tag here, and its value in [Default]
//   - a check in validate.go, if some values are wrong
//   - the key at its default, with an explanation, in example-config.yaml at the top of the repository; a test compares file and [Default]
//   - a path, or a secret with a ..._file key, also goes into the lists in load.go
//   - the command passes the value to the package that uses it: kiosk.go, or hub_config.go for the hub
//
// The package opens no socket and has no state. A Config is plain data.
package config

import (
	"fmt"
	"net/netip"
	"time"

	"multifactorymodel.org/ewindow/bridge/window"
	"multifactorymodel.org/ewindow/turnserver/addrpolicy"
)

// Config is the whole file. One file may serve a kiosk and a hub at once; each looks only at its own sections.
type Config struct {
	// DataDir is the folder for databases, keys, and the files of Dendrite and LiveKit. Load makes it absolute.
	DataDir    string           `yaml:"data_dir"`
	Homeserver HomeserverConfig `yaml:"homeserver"`
	Network    NetworkConfig    `yaml:"network"`
	Window     WindowConfig     `yaml:"window"`
	Kiosk      KioskConfig      `yaml:"kiosk"`
	Media      MediaConfig      `yaml:"media"`
	Hub        HubConfig        `yaml:"hub"`
	Logging    LoggingConfig    `yaml:"logging"`
	Metrics    MetricsConfig    `yaml:"metrics"`
}

// HomeserverConfig is the kiosk's account on a Matrix homeserver.
type HomeserverConfig struct {
	// URL is the homeserver's client-server address: https, or http on loopback.
	URL string `yaml:"url"`
	// Username is the local part of a user ID, or all of it.
	Username string `yaml:"username"`
	// Password is the account's password. Load reads it from PasswordFile if that is set.
	Password     string `yaml:"password"`
	PasswordFile string `yaml:"password_file"`
	// DeviceName is what other people see in the bot's list of sessions.
	DeviceName string `yaml:"device_name"`
	// AcceptUnsignedDevices exchanges media keys also with devices that their owner has not cross-signed.
	AcceptUnsignedDevices bool `yaml:"accept_unsigned_devices"`
}

// NetworkConfig is the closed group of windows.
type NetworkConfig struct {
	// Admins are the Matrix user IDs whose invitations into a network are accepted.
	Admins []string `yaml:"admins"`
}

// WindowConfig describes this window to people.
type WindowConfig struct {
	Name string `yaml:"name"`
	City string `yaml:"city"`
	// Languages are the page's languages (de, en, it), the most important one first.
	Languages []string `yaml:"languages"`
	// Timezone is an IANA name.
	Timezone string `yaml:"timezone"`
	// GuestsUnseen lets guests see and hear the window with their cameras off, while somebody else is seen.
	GuestsUnseen bool `yaml:"guests_unseen"`
}

// KioskConfig is the page on the kiosk's own screen.
type KioskConfig struct {
	// Listen is a loopback address and port; port 0 takes a free one.
	Listen    string        `yaml:"listen"`
	Countdown time.Duration `yaml:"countdown"`
	// TestPattern sends a test card and a tone if there is no camera or no microphone.
	TestPattern bool `yaml:"test_pattern"`
}

// MediaConfig is how the kiosk's media travels.
type MediaConfig struct {
	// LiveKitServiceURL is the authorisation service that is used when the homeserver announces none (MSC4143, MSC4195).
	LiveKitServiceURL string `yaml:"livekit_service_url"`
	// KnownServices are authorisation services of others that may be used though no homeserver announces them.
	KnownServices []string `yaml:"known_services"`
	// AllowNetworks are networks besides the public internet in which others' services may be, in the form that Prefixes reads.
	AllowNetworks []string `yaml:"allow_networks"`
	// MaxVideoBitrateKbit limits the picture that we send, in kbit/s (1000 bit/s).
	MaxVideoBitrateKbit int `yaml:"max_video_bitrate_kbit"`
	// AllowLoopback offers 127.0.0.1 as an ICE candidate.
	AllowLoopback bool `yaml:"allow_loopback"`
	// ForceRelay sends media through TURN only.
	ForceRelay bool `yaml:"force_relay"`
}

// HubConfig is the network's small server. Each part can be switched off.
type HubConfig struct {
	// Listen is the public HTTPS address of the hub; "" is off.
	Listen string `yaml:"listen"`
	// LocalListen is a plain HTTP address for a reverse proxy and tools; "" is off.
	LocalListen string `yaml:"local_listen"`
	// PublicURL is the hub's address as others reach it.
	PublicURL      string `yaml:"public_url"`
	TLSCertificate string `yaml:"tls_certificate"`
	TLSKey         string `yaml:"tls_key"`
	// ACME obtains the certificate by itself, in place of the two files.
	ACME ACMEConfig `yaml:"acme"`
	// ProxyProtocolFrom are the addresses of proxies before Listen, in the form that Prefixes reads; empty: none.
	ProxyProtocolFrom []string `yaml:"proxy_protocol_from"`

	Account    AccountConfig       `yaml:"account"`
	TurnServer TurnServerConfig    `yaml:"turnserver"`
	Focus      FocusConfig         `yaml:"focus"`
	Homeserver HubHomeserverConfig `yaml:"homeserver"`
}

// AccountConfig is the hub's own Matrix account, which sees who belongs to the network.
type AccountConfig struct {
	// HomeserverURL is the account's homeserver; "" is the hub's own, where the hub makes the account.
	HomeserverURL string `yaml:"homeserver_url"`
	Username      string `yaml:"username"`
	Password      string `yaml:"password"`
	PasswordFile  string `yaml:"password_file"`
}

// ACMEConfig is where the hub gets its certificates from (RFC 8555). They are kept in the folder acme of the data folder.
type ACMEConfig struct {
	Enabled bool `yaml:"enabled"`
	// Email is the address for the authority's notices; "" for none.
	Email string `yaml:"email"`
	// DirectoryURL is the address of the authority's ACME directory.
	DirectoryURL string `yaml:"directory_url"`
	// HTTPListen is the address that answers HTTP-01 checks. With "" there are only TLS-ALPN-01 checks, on hub.listen.
	HTTPListen string `yaml:"http_listen"`
}

// TurnServerConfig is the hub's TURN relay.
type TurnServerConfig struct {
	Enabled bool `yaml:"enabled"`
	// Listen holds addresses such as udp://0.0.0.0:3478, tcp://… and tls://….
	Listen []string `yaml:"listen"`
	// PublicIP is the relay's IPv4 address as clients are told; "" takes the machine's own address if it is public, else that of the name in
	// HubConfig.PublicURL, and follows when it changes.
	PublicIP string `yaml:"public_ip"`
	// MorePublicIPs are more addresses for relayed media, in the form that turnserver.ParseRelay reads.
	MorePublicIPs []string `yaml:"more_public_ips"`
	Realm         string   `yaml:"realm"`
	// Secret is shared with the programs that make TURN credentials. Load reads it from SecretFile when that is set.
	Secret     string `yaml:"secret"`
	SecretFile string `yaml:"secret_file"`
	// OldSecret is the previous secret, which is accepted as well. Load reads it from OldSecretFile if that is set.
	OldSecret     string `yaml:"old_secret"`
	OldSecretFile string `yaml:"old_secret_file"`
	// RelayPorts is "first-last", or "0" for any free port.
	RelayPorts string `yaml:"relay_ports"`
	// AllowedPeers are the peers that the relay may send to, in the form that turnserver.ParsePeer reads.
	AllowedPeers          []string `yaml:"allowed_peers"`
	MaxAllocations        int      `yaml:"max_allocations"`
	MaxAllocationsPerUser int      `yaml:"max_allocations_per_user"`
	// MaxBitrate and MaxBitratePerUser are in bit/s; 0 for no limit.
	MaxBitrate        int `yaml:"max_bitrate"`
	MaxBitratePerUser int `yaml:"max_bitrate_per_user"`
	// Drain is how long the relay still serves its clients after it was told to end.
	Drain time.Duration `yaml:"drain"`
	// TLSCertificate and TLSKey serve tls:// listeners; both empty: the hub's own are used.
	TLSCertificate string `yaml:"tls_certificate"`
	TLSKey         string `yaml:"tls_key"`
	// TLSHost is the name at which clients reach the relay over TLS; "" is the host of hub.public_url.
	TLSHost string `yaml:"tls_host"`
	// ShareHTTPSPort lets clients reach the relay on hub.listen, too.
	ShareHTTPSPort bool `yaml:"share_https_port"`
	// ProxyProtocolFrom are the addresses of proxies before tcp:// and tls:// listeners, in the form that Prefixes reads; empty: none.
	ProxyProtocolFrom []string `yaml:"proxy_protocol_from"`
}

// FocusConfig is the hub's SFU with its authorisation service.
type FocusConfig struct {
	Enabled bool `yaml:"enabled"`
	// Open gives access to focus and relay to everybody, not only to the network's members.
	Open bool `yaml:"open"`
	// LiveKitProgram is the path of livekit-server; "" looks for it.
	LiveKitProgram string `yaml:"livekit_program"`
	// LiveKitURL is the address of a LiveKit server that runs elsewhere; "" runs one as a child.
	LiveKitURL string `yaml:"livekit_url"`
	// Key and Secret are LiveKit's API key. For a child both may be empty: then the hub makes new ones at each start.
	Key        string `yaml:"key"`
	Secret     string `yaml:"secret"`
	SecretFile string `yaml:"secret_file"`
	// Port (HTTP, on loopback), UDPPort and TCPPort (media) are the child's ports; 0 takes a free one.
	Port    int `yaml:"port"`
	UDPPort int `yaml:"udp_port"`
	TCPPort int `yaml:"tcp_port"`
	// NodeIP is the child's address as clients reach it; "" uses turnserver.public_ip.
	NodeIP        string `yaml:"node_ip"`
	AllowLoopback bool   `yaml:"allow_loopback"`
	// FullAccessHomeservers are the server names whose users may begin calls; empty: hub.homeserver.server_name alone.
	FullAccessHomeservers []string `yaml:"full_access_homeservers"`
	// PublicURL is where clients reach LiveKit's WebSocket; "" is made from hub.public_url (wss://…/livekit/sfu).
	PublicURL string `yaml:"public_url"`
	// LiveKitServiceURL is announced to Matrix clients, also when the focus is not enabled here; "" is made from hub.public_url
	// (…/livekit/jwt).
	LiveKitServiceURL string `yaml:"livekit_service_url"`
}

// HubHomeserverConfig is the Matrix homeserver behind the hub's reverse proxy.
type HubHomeserverConfig struct {
	Enabled bool `yaml:"enabled"`
	// ServerName is the part of user IDs after the colon. It can never be changed.
	ServerName string `yaml:"server_name"`
	// DendriteProgram is the path of dendrite; "" looks for it.
	DendriteProgram string `yaml:"dendrite_program"`
	// Port is Dendrite's own port, on loopback; 0 takes a free one.
	Port int `yaml:"port"`
	// URL is the address of a homeserver that already runs; "" runs Dendrite as a child.
	URL                    string `yaml:"url"`
	RegistrationSecret     string `yaml:"registration_secret"`
	RegistrationSecretFile string `yaml:"registration_secret_file"`
	// AllowNetworks and DenyNetworks are the addresses, as prefixes, that Dendrite may federate with and that the authorisation service may
	// ask who a user is. DenyNetworks wins.
	AllowNetworks []string `yaml:"allow_networks"`
	DenyNetworks  []string `yaml:"deny_networks"`
	// BcryptCost is the work factor of password hashes.
	BcryptCost int `yaml:"bcrypt_cost"`
}

// LoggingConfig is how much is logged, and how.
type LoggingConfig struct {
	// Level is trace, debug, info, warn or error.
	Level string `yaml:"level"`
	// Format is plain (for people) or json (one object a line).
	Format string `yaml:"format"`
}

// MetricsConfig is where Prometheus finds what kiosk, hub or relay count.
type MetricsConfig struct {
	// Listen is a loopback address and port; "" is off.
	Listen string `yaml:"listen"`
}

// Default returns a new Config with every key at the value that example-config.yaml shows.
func Default() *Config {
	return &Config{
		DataDir:    "data",
		Homeserver: HomeserverConfig{DeviceName: "e-window"},
		Network:    NetworkConfig{Admins: []string{}},
		Window:     WindowConfig{Languages: []string{"de", "en", "it"}, Timezone: "Europe/Berlin"},
		Kiosk:      KioskConfig{Listen: "127.0.0.1:8470", Countdown: window.DefaultCountdown},
		Media:      MediaConfig{MaxVideoBitrateKbit: 1700, KnownServices: []string{}, AllowNetworks: []string{}},
		Hub: HubConfig{
			Listen:      "0.0.0.0:8448",
			LocalListen: "127.0.0.1:8008",
			ACME: ACMEConfig{
				DirectoryURL: "https://acme-v02.api.letsencrypt.org/directory",
				HTTPListen:   "0.0.0.0:80",
			},
			ProxyProtocolFrom: []string{},
			Account:           AccountConfig{Username: "ewindow-hub"},
			TurnServer: TurnServerConfig{
				Listen:                []string{"udp://0.0.0.0:3478", "tcp://0.0.0.0:3478"},
				Realm:                 "ewindow",
				RelayPorts:            "49160-49459",
				AllowedPeers:          []string{},
				MorePublicIPs:         []string{},
				ProxyProtocolFrom:     []string{},
				MaxAllocations:        300,
				MaxAllocationsPerUser: 16,
			},
			Focus: FocusConfig{
				Port: 7880, UDPPort: 7882, TCPPort: 7881,
				FullAccessHomeservers: []string{},
			},
			Homeserver: HubHomeserverConfig{
				AllowNetworks: []string{"0.0.0.0/0", "::/0"},
				DenyNetworks:  addrpolicy.Denied(),
				Port:          8009,
				BcryptCost:    10,
			},
		},
		Logging: LoggingConfig{Level: "info", Format: "plain"},
	}
}

// Prefixes reads a list of addresses and prefixes, such as 192.0.2.7 and 10.0.0.0/8. An error names the text that is neither of them.
func Prefixes(list []string) (prefixes []netip.Prefix, err error) {
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if addr, addrErr := netip.ParseAddr(text); addrErr == nil {
			p, err = addr.Unmap().Prefix(addr.Unmap().BitLen())
		}
		if err != nil {
			return nil, fmt.Errorf("%q is neither an address such as 192.0.2.7 nor a prefix such as 10.0.0.0/8", text)
		}
		prefixes = append(prefixes, p.Masked())
	}
	return prefixes, nil
}
