package hub

import (
	"net/netip"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/turnserver"
)

// Config is what a hub is made of. The values have been checked.
type Config struct {
	// DataDir is the folder for the database, certificates and the children's files. It exists.
	DataDir string
	// Listen is the address of the HTTPS port, LocalListen that of plain HTTP; "" is off. They are opened only when there is a focus or
	// a homeserver.
	Listen, LocalListen string
	// Proxies are load balancers before Listen, which pass on the client's address by the PROXY protocol.
	Proxies []netip.Prefix
	// PublicURL is where clients reach the hub, such as https://hub.example.org.
	PublicURL string
	// ServiceURL is the address of the authorisation service that clients are told. "" means the hub's own service, below PublicURL.
	ServiceURL string
	// Certificate is the certificate of Listen, if it is in files.
	Certificate CertificateFiles
	// ACME is the authority that certificates come from instead of files; nil is off.
	ACME *ACMEConfig

	// AllowNetworks and DenyNetworks are the addresses that the hub may connect to on behalf of others: for federation, and when the
	// authorisation service asks a homeserver who a user is. DenyNetworks wins.
	AllowNetworks, DenyNetworks []netip.Prefix

	// Account is the hub's Matrix account, which sees who belongs to the network. It is not used if Open is set, or if there is neither a focus nor a
	// relay whose credentials a homeserver gives. nil without focus and homeserver.
	Account *AccountConfig
	// Open gives access to focus and relay to everybody. It is for hubs that serve other calls as well.
	Open bool

	// The parts; nil is off.
	Relay      *RelayConfig
	Focus      *FocusConfig
	Homeserver *HomeserverConfig

	// MetricsListen is where Prometheus finds the hub's figures; "" is off.
	MetricsListen string
	Log           zerolog.Logger
}

// AccountConfig is the hub's own account.
type AccountConfig struct {
	// HomeserverURL is the homeserver of the account; "" is the hub's own Dendrite, where the hub makes the account by itself.
	HomeserverURL string
	// Username is the account's name. Password may be empty for an account that the hub makes.
	Username, Password string
	// Admins are the users whose invitations the account accepts.
	Admins []id.UserID
}

// CertificateFiles is a chain and its key, both in PEM. The zero value is none.
type CertificateFiles struct{ Chain, Key string }

// ACMEConfig is an authority that certifies the hub's names (RFC 8555).
type ACMEConfig struct {
	// Email is the address for the authority's notices; "" for none.
	Email string
	// DirectoryURL is the address of the authority's ACME directory.
	DirectoryURL string
	// HTTPListen is the address that answers HTTP-01 checks. With "" there are only TLS-ALPN-01 checks, on Config.Listen.
	HTTPListen string
}

// RelayConfig is the TURN relay.
type RelayConfig struct {
	// Listen holds the addresses of the relay's own ports.
	Listen []turnserver.Listen
	// Proxies are load balancers before the TCP and TLS ports of Listen.
	Proxies []netip.Prefix
	// PublicIP is the address at which clients reach the relay. The zero value means the machine's own address if it is public, else the one that the name
	// in Config.PublicURL leads to. The hub follows when that changes.
	PublicIP netip.Addr
	// MoreRelays are more addresses for relayed media, besides PublicIP.
	MoreRelays []turnserver.Relay
	// MinPort and MaxPort are the relay ports; 0 and 0 let the system choose.
	MinPort, MaxPort uint16
	// AllowedPeers are the peers that the relay may send to, besides the LiveKit that the hub runs.
	AllowedPeers []turnserver.Peer
	// TLSHost is the name that clients are told for TURN over TLS. "" means the host of Config.PublicURL, else PublicIP.
	TLSHost string
	// ShareHTTPSPort serves TURN over TLS on Config.Listen, too.
	ShareHTTPSPort bool
	// Certificate is the certificate of the relay's TLS ports. The zero value means the certificate of Config.Listen.
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
	// LiveKitURL is the address of a LiveKit that runs elsewhere. With "" the hub runs one as a child, and the fields from Program to
	// AllowLoopback are the child's settings.
	LiveKitURL string
	// Program is the path of livekit-server; "" looks for it.
	Program string
	// Port (HTTP, on loopback), UDPPort and TCPPort (media); 0 takes a free one.
	Port, UDPPort, TCPPort int
	// NodeIP is the address at which clients reach LiveKit; "" means RelayConfig.PublicIP.
	NodeIP        string
	AllowLoopback bool
	// Key and Secret are LiveKit's API key. For a child both may be empty: then the hub makes new ones at each start.
	Key, Secret string
	// FullAccessHomeservers are the server names whose users may begin calls; empty: HomeserverConfig.ServerName alone.
	FullAccessHomeservers []string
	// PublicURL is where clients reach LiveKit; "" means a path below Config.PublicURL.
	PublicURL string
}

// HomeserverConfig is the homeserver behind the hub's reverse proxy.
type HomeserverConfig struct {
	// ServerName is the part of user IDs after the colon.
	ServerName string
	// URL is the address of a homeserver that already runs. With "" the hub runs Dendrite as a child, and the remaining fields are the
	// child's settings.
	URL string
	// Program is the path of dendrite; "" looks for it.
	Program string
	// Port is Dendrite's own port, on loopback; 0 takes a free one.
	Port int
	// RegistrationSecret is the shared secret with which accounts are made.
	RegistrationSecret string
	// BcryptCost is the work factor of password hashes.
	BcryptCost int
}
