package focus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/rs/zerolog"
)

const (
	// minSecret is the shortest secret that LiveKit signs tokens with, in characters.
	minSecret = 32
	// pliThrottle is the least time between two key frame requests that LiveKit passes on. Its own half second to three seconds is
	// most of what somebody waits for a picture who joins or whose key comes late; more often than this publishers limit themselves.
	pliThrottle = "100ms"
	// turnLifetime is how long TURN credentials are valid, in seconds. They are only checked when an allocation is made, which a
	// client does when it joins or restarts ICE.
	turnLifetime = 4 * 60 * 60
	// maxIdentity takes every Matrix user id (255 bytes) with a device id.
	maxIdentity = 512

	// emptyTimeout and departureTimeout are how long a room without participants stays, in seconds: before the first one came, and
	// after the last one went.
	emptyTimeout, departureTimeout = 300, 20

	// discard is a port that is never sent to.
	discard = 9

	configName = "livekit.yaml"
)

// Turn is a TURN server that LiveKit hands out to clients, with credentials made from a shared secret (the scheme of coturn's
// REST API).
type Turn struct {
	// Host is a name or an IP address.
	Host string
	Port int
	// Protocol is "udp", "tcp" or "tls".
	Protocol string
	Secret   string
}

// LiveKitConfig is what a LiveKit server is run with. Dir, Key, Secret, Port, UDPPort and NodeIP are required.
type LiveKitConfig struct {
	// Dir is the folder for the server's configuration file; it is made when it isn't there.
	Dir string
	// Key and Secret sign tokens. The secret has 32 characters or more.
	Key, Secret string
	// Port is that of signalling and API, on 127.0.0.1 only.
	Port int
	// UDPPort is that of media, TCPPort the one for clients that can't send UDP; 0 means none.
	UDPPort, TCPPort int
	// NodeIP is the address under which clients reach this machine.
	NodeIP string
	// AllowLoopback also announces loopback candidates. With a loopback NodeIP it is the only interface used.
	AllowLoopback bool
	// Turn is handed out to clients. When there is none they get no STUN server of anybody else's either.
	Turn []Turn
	Log  zerolog.Logger
}

// LiveKit knows how to start a LiveKit server and how to find out that it works. It starts nothing by itself.
type LiveKit struct {
	cfg    LiveKitConfig
	client *http.Client
}

// NewLiveKit checks the configuration.
func NewLiveKit(cfg LiveKitConfig) (*LiveKit, error) {
	ip, err := netip.ParseAddr(cfg.NodeIP)
	switch {
	case cfg.Dir == "":
		return nil, errors.New("configure LiveKit: there is no folder for its configuration")
	case cfg.Key == "" || len(cfg.Secret) < minSecret:
		return nil, fmt.Errorf("configure LiveKit: a key and a secret of %d or more characters are needed", minSecret)
	case err != nil:
		return nil, fmt.Errorf("configure LiveKit: node address: %w", err)
	case ip.IsLoopback() && !cfg.AllowLoopback:
		return nil, errors.New("configure LiveKit: the node address is loopback, which is not allowed")
	}
	for name, port := range map[string]int{"port": cfg.Port, "UDP port": cfg.UDPPort} {
		if port <= 0 || port > 65535 {
			return nil, fmt.Errorf("configure LiveKit: %s %d is not between 1 and 65535", name, port)
		}
	}
	if cfg.TCPPort < 0 || cfg.TCPPort > 65535 || cfg.TCPPort == cfg.Port {
		return nil, fmt.Errorf("configure LiveKit: TCP port %d is not between 0 and 65535 or that of signalling", cfg.TCPPort)
	}
	for _, t := range cfg.Turn {
		if t.Host == "" || t.Port <= 0 || t.Port > 65535 || t.Secret == "" || t.Protocol != "udp" && t.Protocol != "tcp" && t.Protocol != "tls" {
			return nil, fmt.Errorf("configure LiveKit: the TURN server %q port %d protocol %q is not complete", t.Host, t.Port, t.Protocol)
		}
	}
	return &LiveKit{cfg: cfg, client: &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}, nil
}

// URL is where signalling and API are on this machine.
func (l *LiveKit) URL() string { return "http://127.0.0.1:" + strconv.Itoa(l.cfg.Port) }

// Command writes the server's configuration, secrets included, to a file that only we can read, and returns the command that
// starts program with it.
func (l *LiveKit) Command(program string) (*exec.Cmd, error) {
	path, err := l.write()
	if err != nil {
		return nil, fmt.Errorf("write LiveKit's configuration: %w", err)
	}
	cmd := exec.Command(program, "--config", path)
	cmd.Dir = l.cfg.Dir
	// The server takes settings from many variables too; ours are not for it.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + l.cfg.Dir}
	return cmd, nil
}

// Ready returns nil when the server answers.
func (l *LiveKit) Ready(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.URL()+"/", nil)
	if err != nil {
		return fmt.Errorf("ask LiveKit: %w", err)
	}
	answer, err := l.client.Do(request)
	if err != nil {
		return fmt.Errorf("ask LiveKit: %w", err)
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<10))
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("ask LiveKit: status %d", answer.StatusCode)
	}
	return nil
}

// write puts the configuration in place in one step.
func (l *LiveKit) write() (path string, err error) {
	if err := os.MkdirAll(l.cfg.Dir, 0o700); err != nil {
		return "", err
	}
	dir, err := filepath.Abs(l.cfg.Dir)
	if err != nil {
		return "", err
	}
	// JSON is YAML, and needs no care with quoting.
	text, err := json.MarshalIndent(l.settings(), "", "  ")
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, configName)
	file, err := os.CreateTemp(dir, configName+".*") // mode 0600
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	if _, err = file.Write(append(text, '\n')); err != nil {
		return "", errors.Join(err, file.Close())
	}
	if err = file.Close(); err != nil {
		return "", err
	}
	return path, os.Rename(file.Name(), path)
}

// ownAddress is the machine's address on the way to node: node itself, if that is one of the machine's own, else what a NAT at node most likely
// forwards to. It is the zero Addr where there is no way. Nothing is sent.
func ownAddress(node netip.Addr) netip.Addr {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(node, discard)))
	if err != nil {
		return netip.Addr{}
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}

// settings is LiveKit's configuration as its sample describes it.
func (l *LiveKit) settings() map[string]any {
	c := l.cfg
	rtc := map[string]any{
		"udp_port": c.UDPPort, "node_ip": c.NodeIP, "use_external_ip": false, "enable_loopback_candidate": c.AllowLoopback,
		"pli_throttle": map[string]any{"low_quality": pliThrottle, "mid_quality": pliThrottle, "high_quality": pliThrottle},
		"tcp_port":     c.TCPPort,
		// Clients alone choose the way. LiveKit, which is at an address that they can reach, would wait two seconds before it takes a relay.
		"use_ice_lite": true,
	}
	node := netip.MustParseAddr(c.NodeIP)
	if own := ownAddress(node); node.IsLoopback() {
		rtc["interfaces"] = map[string]any{"includes": []string{"lo"}}
	} else if own.IsValid() {
		// LiveKit tells clients NodeIP for each address that the machine has, and then listens to them at one of these.
		taken := []string{netip.PrefixFrom(own, own.BitLen()).String(), "::/0"}
		if node.Is6() {
			taken[1] = "0.0.0.0/0"
		}
		if c.AllowLoopback {
			taken = append(taken, "127.0.0.0/8", "::1/128")
		}
		rtc["ips"] = map[string]any{"includes": taken}
	}
	if len(c.Turn) == 0 {
		// An empty list would make LiveKit hand out the STUN servers of large companies. Its own media port stands in: clients send
		// there anyway, and it does not answer such requests.
		rtc["stun_servers"] = []string{netip.AddrPortFrom(node, uint16(c.UDPPort)).String()}
	} else {
		var list []map[string]any
		for _, t := range c.Turn {
			list = append(list, map[string]any{"host": t.Host, "port": t.Port, "protocol": t.Protocol, "secret": t.Secret, "ttl": turnLifetime})
		}
		rtc["turn_servers"] = list
	}
	var codecs []map[string]string
	// No RED, whose blocks of ciphertext nobody can take apart, and no AV1, which can't be encrypted frame by frame.
	for _, name := range []string{"audio/opus", "video/VP8", "video/H264", "video/VP9", "video/rtx"} {
		codecs = append(codecs, map[string]string{"mime": name})
	}
	return map[string]any{
		"port": c.Port, "bind_addresses": []string{"127.0.0.1"}, "keys": map[string]string{c.Key: c.Secret}, "rtc": rtc,
		"room": map[string]any{
			"auto_create": false, "enabled_codecs": codecs, "empty_timeout": emptyTimeout, "departure_timeout": departureTimeout,
		},
		"limit": map[string]any{"max_participant_identity_length": maxIdentity},
		// Its warnings hold every token that it refuses.
		"logging": map[string]any{"level": "error", "pion_level": "error", "json": true},
	}
}
