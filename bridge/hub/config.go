package hub

import (
	"net/netip"
	"time"

	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/turnserver"
)

// Config is what a hub is made of. The values have been checked.
type Config struct {
	// DataDir is the folder for the database, certificates and the children's files. It exists.
	DataDir string
	// Listen is the address of the HTTPS port, LocalListen that of plain HTTP; "" is off. They are opened only when there is a focus or
	// a homeserver.
	Listen, LocalListen string
	// Proxies are load balancers before Listen. They say by the PROXY protocol who the client is.
	Proxies []netip.Prefix
	// PublicURL is where clients reach the hub, such as https://hub.example.org.
	PublicURL string
	// ServiceURL is the address of the authorisation service that clients are told. "" is the hub's own, below PublicURL.
	ServiceURL string
	// Certificate is the certificate of Listen, if it is in files.
	Certificate CertificateFiles
	// ACME is where certificates come from instead; nil is off.
	ACME *ACMEConfig

	// AllowNetworks and DenyNetworks are the addresses that the hub connects to on behalf of others, as it federates and asks
	// homeservers who a user is; deny wins.
	AllowNetworks, DenyNetworks []netip.Prefix

	// The parts; nil is off.
	Relay      *RelayConfig
	Focus      *FocusConfig
	Homeserver *HomeserverConfig

	// MetricsListen is where Prometheus finds the hub's figures; "" is off.
	MetricsListen string
	Log           zerolog.Logger
}

// CertificateFiles is a chain and its key, both in PEM. The zero value is none.
type CertificateFiles struct{ Chain, Key string }

// ACMEConfig is an authority that certifies the hub's names (RFC 8555).
type ACMEConfig struct {
	// Email is given to the authority for its notices; "" gives none.
	Email string
	// DirectoryURL is the authority's.
	DirectoryURL string
	// HTTPListen is where HTTP-01 checks are answered; "" leaves TLS-ALPN-01 on Config.Listen.
	HTTPListen string
}

// RelayConfig is the TURN relay.
type RelayConfig struct {
	// Listen holds the addresses of the relay's own ports.
	Listen []turnserver.Listen
	// Proxies are load balancers before the TCP and TLS ports of Listen.
	Proxies []netip.Prefix
	// PublicIP is the address that clients reach the relay at. The zero value is the machine's own, which must be public.
	PublicIP netip.Addr
	// MoreRelays are addresses to relay by besides PublicIP.
	MoreRelays []turnserver.Relay
	// MinPort and MaxPort are the relay ports; 0 and 0 let the system choose.
	MinPort, MaxPort uint16
	// AllowedPeers is what may be relayed to, besides the LiveKit that the hub runs.
	AllowedPeers []turnserver.Peer
	// TLSHost is the name that clients are told for TURN over TLS. "" is the host of Config.PublicURL, else PublicIP.
	TLSHost string
	// ShareHTTPSPort serves TURN over TLS on Config.Listen, too.
	ShareHTTPSPort bool
	// Certificate is that of TLS; none takes what Config.Listen uses.
	Certificate CertificateFiles
	// Drain is how long the relay still serves its clients after it is told to end.
	Drain time.Duration

	// The following fields are those of [turnserver.Config].
	Realm, Secret, OldSecret              string
	MaxAllocations, MaxAllocationsPerUser int
	MaxBitrate, MaxBitratePerUser         int
}

// FocusConfig is the SFU with its authorisation service.
type FocusConfig struct {
	// LiveKitURL is a LiveKit that runs elsewhere; "" runs one as a child, and the fields down to AllowLoopback are its.
	LiveKitURL string
	// Program is the path of livekit-server; "" looks for it.
	Program string
	// Port (HTTP, on loopback), UDPPort and TCPPort (media); 0 takes a free one.
	Port, UDPPort, TCPPort int
	// NodeIP is the address that clients reach LiveKit at; "" is RelayConfig.PublicIP.
	NodeIP        string
	AllowLoopback bool
	// Key and Secret are LiveKit's API key. For a child both may be empty: then they are made anew at each start.
	Key, Secret string
	// FullAccessHomeservers are the server names whose users may begin calls; empty: HomeserverConfig.ServerName alone.
	FullAccessHomeservers []string
	// PublicURL is where clients reach LiveKit; "" is below Config.PublicURL.
	PublicURL string
}

// HomeserverConfig is the homeserver behind the hub's front.
type HomeserverConfig struct {
	// ServerName is the part of user IDs after the colon.
	ServerName string
	// URL is a homeserver that runs elsewhere; "" runs Dendrite as a child, and the remaining fields are its.
	URL string
	// Program is the path of dendrite; "" looks for it.
	Program string
	// Port is Dendrite's own, on loopback; 0 takes a free one.
	Port int
	// RegistrationSecret lets accounts be made.
	RegistrationSecret string
	// BcryptCost is the work factor of password hashes.
	BcryptCost int
}
