package homeserver

import (
	"context"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"go.yaml.in/yaml/v3"

	"multifactorymodel.org/ewindow/bot/privatefile"
	"multifactorymodel.org/ewindow/turnserver/addrpolicy"
)

// defaultAllowNetworks are all addresses. Dendrite's own default has no IPv6.
var defaultAllowNetworks = []string{"0.0.0.0/0", "::/0"}

// systemRoots are the files in which distributions keep their certificate authorities.
var systemRoots = []string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
}

// serverNamePattern is the grammar of server names (Matrix specification, appendix "Server Name").
var serverNamePattern = regexp.MustCompile(`^(\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Za-z.-]{1,255})(:[0-9]{1,5})?$`)

// DendriteConfig is what a Dendrite needs. Dir, ServerName and ClientPort are required.
type DendriteConfig struct {
	// Dir holds everything of Dendrite: its configuration, signing key, databases and media. It is made if it is missing.
	Dir string
	// ServerName is the part of user ids after the colon. It can't be changed once there are accounts.
	ServerName string
	// ClientPort is the TCP port of 127.0.0.1 on which Dendrite serves plain HTTP: both APIs and its administration.
	ClientPort int
	// RegistrationSecret is the secret that [Register] needs. "": no accounts can be made.
	RegistrationSecret string
	// AllowNetworks and DenyNetworks are the networks, in CIDR notation, that Dendrite may and must not connect to for federation. DenyNetworks
	// comes first. nil for both: every public address and no other (package addrpolicy). An empty DenyNetworks that is not nil denies nothing.
	AllowNetworks, DenyNetworks []string
	// Outbound is the URL of the proxy that Dendrite connects through, see [Outbound]; nil: none. Then the proxy holds the policy, and
	// AllowNetworks and DenyNetworks only count for addresses of this machine, for which no proxy is used.
	Outbound *url.URL
	// BcryptCost is the cost of password hashes, 4 to 31. 0: 10. Tests use 4.
	BcryptCost int
	// NoRateLimits removes the limit of about 40 requests a second for each device. It is for tests.
	NoRateLimits bool
	// CAFile holds certificate authorities (PEM) that Dendrite trusts besides the system's. "": none.
	CAFile string
	Log    zerolog.Logger
}

// Dendrite is the configuration of one Dendrite. It runs nothing itself.
type Dendrite struct {
	cfg    DendriteConfig
	client *http.Client
}

// NewDendrite checks a configuration. It writes nothing yet.
func NewDendrite(cfg DendriteConfig) (*Dendrite, error) {
	switch {
	case cfg.Dir == "":
		return nil, errors.New("dendrite: a folder is needed")
	case len(cfg.ServerName) > 230 || !serverNamePattern.MatchString(cfg.ServerName):
		return nil, fmt.Errorf("dendrite: %q is no server name", cfg.ServerName)
	case cfg.ClientPort < 1 || cfg.ClientPort > 65535:
		return nil, fmt.Errorf("dendrite: %d is no port", cfg.ClientPort)
	case cfg.BcryptCost != 0 && (cfg.BcryptCost < 4 || cfg.BcryptCost > 31):
		return nil, fmt.Errorf("dendrite: bcrypt cost %d is not between 4 and 31", cfg.BcryptCost)
	}
	for _, list := range [][]string{cfg.AllowNetworks, cfg.DenyNetworks} {
		for _, network := range list {
			if _, _, err := net.ParseCIDR(network); err != nil {
				return nil, fmt.Errorf("dendrite: %w", err)
			}
		}
	}
	if cfg.BcryptCost == 0 {
		cfg.BcryptCost = 10
	}
	if cfg.AllowNetworks == nil {
		cfg.AllowNetworks = defaultAllowNetworks
	}
	if cfg.DenyNetworks == nil {
		cfg.DenyNetworks = addrpolicy.Denied()
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("dendrite: %w", err)
	}
	cfg.Dir = dir
	return &Dendrite{cfg: cfg, client: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}, nil
}

// URL is the address at which Dendrite serves plain HTTP, without a slash at the end.
func (d *Dendrite) URL() string {
	return "http://" + d.address()
}

func (d *Dendrite) address() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(d.cfg.ClientPort))
}

// Command writes the configuration, and the signing key if there is none, and returns the command that runs Dendrite. program is the path of its
// executable. The command is not started.
func (d *Dendrite) Command(program string) (*exec.Cmd, error) {
	if err := os.MkdirAll(d.cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make Dendrite's folder: %w", err)
	}
	if err := d.ensureKey(); err != nil {
		return nil, fmt.Errorf("make Dendrite's signing key: %w", err)
	}
	text, err := yaml.Marshal(d.settings())
	if err != nil {
		return nil, fmt.Errorf("write Dendrite's configuration: %w", err)
	}
	path := d.path("dendrite.yaml")
	if err := d.checkName(path); err != nil {
		return nil, err
	}
	if err := privatefile.Write(path, text); err != nil {
		return nil, fmt.Errorf("write Dendrite's configuration: %w", err)
	}
	cmd := exec.Command(program, "-config", path, "-http-bind-address", d.address())
	cmd.Dir = d.cfg.Dir
	cmd.Env = d.environment()
	if d.cfg.CAFile != "" {
		bundle, err := d.writeRoots()
		if err != nil {
			return nil, fmt.Errorf("gather the certificates that Dendrite trusts: %w", err)
		}
		cmd.Env = append(cmd.Env, "SSL_CERT_FILE="+bundle)
	}
	return cmd, nil
}

// checkName refuses a server name that is not the one of the data. All accounts, rooms and keys belong to that one, for good.
func (d *Dendrite) checkName(path string) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read Dendrite's configuration: %w", err)
	}
	var written struct {
		Global struct {
			ServerName string `yaml:"server_name"`
		} `yaml:"global"`
	}
	// A file that can't be read was cut off when it was written. It says nothing.
	if yaml.Unmarshal(text, &written) == nil && written.Global.ServerName != "" && written.Global.ServerName != d.cfg.ServerName {
		return fmt.Errorf("the data in %s are those of the homeserver %s, and the configuration says %s: set hub.homeserver.server_name back, "+
			"or take another data folder for a new homeserver", d.cfg.Dir, written.Global.ServerName, d.cfg.ServerName)
	}
	return nil
}

// environment is that of Dendrite: ours, but for proxies, and with the proxy that it has to use. Go reads these variables in upper case first, unless
// they are empty.
func (d *Dendrite) environment() []string {
	if d.cfg.Outbound == nil {
		return os.Environ()
	}
	env := slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return slices.Contains([]string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "REQUEST_METHOD"}, strings.ToUpper(name))
	})
	proxy := d.cfg.Outbound.String()
	return append(env, "HTTP_PROXY="+proxy, "HTTPS_PROXY="+proxy)
}

// networks are Dendrite's own lists of networks. With a proxy they only say which addresses of this machine Dendrite connects to by itself: the
// proxy, and what the configuration explicitly allows.
func (d *Dendrite) networks() (allowed, denied []string) {
	if d.cfg.Outbound == nil {
		return d.cfg.AllowNetworks, d.cfg.DenyNetworks
	}
	proxy, _ := netip.ParseAddr(d.cfg.Outbound.Hostname())
	allowed = []string{netip.PrefixFrom(proxy, proxy.BitLen()).String()}
	var dropped []netip.Prefix // a denied network wins, so one with the proxy in it can't stay in the list
	for _, text := range d.cfg.DenyNetworks {
		if p, err := netip.ParsePrefix(text); err == nil && p.Contains(proxy) {
			dropped = append(dropped, p)
		} else {
			denied = append(denied, text)
		}
	}
	for _, text := range d.cfg.AllowNetworks {
		p, err := netip.ParsePrefix(text)
		if err == nil && p.Addr().IsLoopback() && p.Bits() >= 8 && !slices.ContainsFunc(dropped, p.Overlaps) {
			allowed = append(allowed, text)
		}
	}
	return allowed, denied
}

// dnsPort is for names whose records do not fit into UDP.
const dnsPort = 53

// ConnectTCP are the ports that Dendrite may connect to: the proxy's, so that nothing goes past it. It is nil if there is no proxy, or if Dendrite may
// connect to addresses of this machine by itself.
func (d *Dendrite) ConnectTCP() []uint16 {
	if d.cfg.Outbound == nil {
		return nil
	}
	if allowed, _ := d.networks(); len(allowed) > 1 {
		return nil
	}
	port, err := strconv.ParseUint(d.cfg.Outbound.Port(), 10, 16)
	if err != nil {
		return nil
	}
	return []uint16{uint16(port), dnsPort}
}

// Ready returns nil once Dendrite answers under its own name. It is an error if another program uses the port.
func (d *Dendrite) Ready(ctx context.Context) error {
	var server struct {
		Name string `json:"server_name"`
	}
	if err := exchange(ctx, d.client, http.MethodGet, d.URL()+"/_matrix/key/v2/server", "", nil, &server); err != nil {
		return fmt.Errorf("ask Dendrite: %w", err)
	}
	if server.Name != d.cfg.ServerName {
		return fmt.Errorf("ask Dendrite: port %d belongs to another homeserver", d.cfg.ClientPort)
	}
	return nil
}

func (d *Dendrite) path(name string) string { return filepath.Join(d.cfg.Dir, name) }

// tree is a part of Dendrite's YAML.
type tree = map[string]any

func (d *Dendrite) settings() tree {
	allowed, denied := d.networks()
	database := func(name string) tree {
		return tree{"connection_string": "file:" + d.path(name+".db"), "max_open_conns": 10, "max_idle_conns": 2, "conn_max_lifetime": -1}
	}
	client := tree{
		"registration_disabled":      true,
		"guests_disabled":            true,
		"registration_shared_secret": d.cfg.RegistrationSecret,
		"rate_limiting":              tree{"enabled": !d.cfg.NoRateLimits, "threshold": 20, "cooloff_ms": 500},
	}
	return tree{
		"version": 2,
		"global": tree{
			"server_name":                    d.cfg.ServerName,
			"private_key":                    d.path("matrix_key.pem"),
			"trusted_third_party_id_servers": []string{},
			"presence":                       tree{"enable_inbound": false, "enable_outbound": false},
			"report_stats":                   tree{"enabled": false},
			"server_notices":                 tree{"enabled": false},
			"metrics":                        tree{"enabled": false},
			"cache":                          tree{"max_size_estimated": "64mb", "max_age": "1h"},
			// Only with this cache does Dendrite's media client ask allow_networks and deny_networks.
			"dns_cache":              tree{"enabled": true, "cache_size": 256, "cache_lifetime": "1m"},
			"jetstream":              tree{"storage_path": d.path("jetstream"), "topic_prefix": "Dendrite"},
			"well_known_server_name": "",
			"well_known_client_name": "",
			"disable_federation":     false,
		},
		"client_api": client,
		"federation_api": tree{
			"database":               database("federationapi"),
			"disable_tls_validation": false,
			"send_max_retries":       16,
			"prefer_direct_fetch":    true,
			"key_perspectives":       []any{}, // the default asks matrix.org
			"deny_networks":          denied,
			"allow_networks":         allowed,
		},
		"media_api": tree{
			"database": database("mediaapi"), "base_path": d.path("media"), "max_file_size_bytes": maxMedia,
			"dynamic_thumbnails": false, "max_thumbnail_generators": 2,
		},
		"sync_api": tree{
			"database": database("syncapi"), "real_ip_header": "X-Forwarded-For", // the front sets it
			"search": tree{"enabled": false},
		},
		"user_api":    tree{"account_database": database("userapi"), "bcrypt_cost": d.cfg.BcryptCost, "worker_count": 4},
		"room_server": tree{"database": database("roomserver")},
		"key_server":  tree{"database": database("keyserver")},
		"relay_api":   tree{"database": database("relayapi")},
		"mscs":        tree{"mscs": []string{}, "database": database("mscs")},
		"logging":     []tree{{"type": "std", "level": "warn"}},
	}
}

// ensureKey makes the key that signs this homeserver's events. Other homeservers remember it, so it must never be lost.
func (d *Dendrite) ensureKey() error {
	path := d.path("matrix_key.pem")
	if _, err := os.Stat(path); err == nil || !errors.Is(err, os.ErrNotExist) {
		return err
	}
	seed := make([]byte, 32)
	_, _ = rand.Read(seed) // never fails
	return privatefile.Write(path, pem.EncodeToMemory(&pem.Block{
		Type: "MATRIX PRIVATE KEY", Headers: map[string]string{"Key-ID": "ed25519:" + rand.Text()[:6]}, Bytes: seed,
	}))
}

// writeRoots writes a file with the system's certificate authorities and ours. When the environment variable SSL_CERT_FILE names a file, Go
// reads only that file.
func (d *Dendrite) writeRoots() (string, error) {
	bundle, err := os.ReadFile(d.cfg.CAFile)
	if err != nil {
		return "", err
	}
	files := systemRoots
	if configured := os.Getenv("SSL_CERT_FILE"); configured != "" {
		files = []string{configured}
	}
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil {
			bundle = append(append(bundle, '\n'), text...)
			break
		}
	}
	path := d.path("roots.pem")
	return path, privatefile.Write(path, bundle)
}
