package focus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"go.yaml.in/yaml/v3"

	"multifactorymodel.org/ewindow/bot/privatefile"
)

const (
	// minSecret is the shortest secret that LiveKit signs tokens with, in characters.
	minSecret = 32
	// pliThrottle is the shortest time between two key frame requests that LiveKit passes on. LiveKit's default, half a second to
	// three seconds, is most of the time that people wait for a picture when they join or when a media key comes late. Publishers
	// limit key frames themselves.
	pliThrottle = "100ms"
	// maxIdentity has room for every Matrix user id (255 bytes) with a device id.
	maxIdentity = 512
	// maxMetadata is the size, in bytes, of the metadata that a participant may set, and of its attributes. MatrixRTC's clients set none. Each
	// participant is told about the metadata of all others in one message.
	maxMetadata = 4 << 10

	// discard is a port that nothing is ever sent to.
	discard = 9

	configName = "livekit.yaml"
)

// LiveKitConfig is what a LiveKit server runs with. Dir, Key, Secret, Port, UDPPort and NodeIP are required.
type LiveKitConfig struct {
	// Dir is the folder for the server's configuration file. It is made if it does not exist.
	Dir string
	// Key and Secret sign tokens. The secret has 32 characters or more.
	Key, Secret string
	// Port is that of signalling and API, on 127.0.0.1 only.
	Port int
	// UDPPort is that of media, TCPPort the one for clients that can't send UDP; 0 means none.
	UDPPort, TCPPort int
	// NodeIP is the address under which clients reach this machine.
	NodeIP string
	// AllowLoopback announces loopback candidates, too. If NodeIP is a loopback address, no other interface is used.
	AllowLoopback bool
	Log           zerolog.Logger
}

// LiveKit knows how to start a LiveKit server and how to find out whether it works. It starts nothing by itself. Its methods may be
// called from any goroutine.
type LiveKit struct {
	cfg    LiveKitConfig
	client *http.Client

	mu    sync.Mutex // guards what follows
	where addresses
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
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	return &LiveKit{cfg: cfg, client: client, where: addressesFor(ip)}, nil
}

func (l *LiveKit) at() addresses {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.where
}

// Addresses are where clients reach the server: the node address first, then the machine's addresses of the other family. They stay the same until Move.
func (l *LiveKit) Addresses() []netip.Addr {
	at := l.at()
	return append([]netip.Addr{at.node}, at.others...)
}

// Move looks at the machine's addresses again, and takes another node address. If it returns true they have changed: only a server that is started
// now uses them. While the machine has no way to the node address, they stay what they were.
func (l *LiveKit) Move(node netip.Addr) (changed bool) {
	now := addressesFor(node)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !now.own.IsValid() && l.where.own.IsValid() || now.equal(l.where) {
		return false
	}
	l.where = now
	return true
}

// URL is the address of signalling and API on this machine.
func (l *LiveKit) URL() string { return "http://127.0.0.1:" + strconv.Itoa(l.cfg.Port) }

// Command writes the server's configuration, secrets included, to a file that only this user can read. It returns the command that
// starts program with this configuration.
func (l *LiveKit) Command(program string) (*exec.Cmd, error) {
	path, err := l.write()
	if err != nil {
		return nil, fmt.Errorf("write LiveKit's configuration: %w", err)
	}
	cmd := exec.Command(program, "--config", path)
	cmd.Dir = l.cfg.Dir
	// The server reads settings from environment variables, too. It must not see ours.
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

// write writes the configuration. The file is complete at any time: it is renamed into place.
func (l *LiveKit) write() (path string, err error) {
	if err := os.MkdirAll(l.cfg.Dir, 0o700); err != nil {
		return "", err
	}
	dir, err := filepath.Abs(l.cfg.Dir)
	if err != nil {
		return "", err
	}
	text, err := yaml.Marshal(l.settings())
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, configName)
	return path, privatefile.Write(path, text)
}
