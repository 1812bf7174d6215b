package focus_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/livekit/protocol/livekit"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"

	"multifactorymodel.org/ewindow/callmedia/focus"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

func TestLiveKitConfig(t *testing.T) {
	good := focus.LiveKitConfig{
		Dir: filepath.Join(t.TempDir(), "deep", "er"), Key: "key", Secret: strings.Repeat("s", 32), Port: 7880, UDPPort: 7882, NodeIP: "192.0.2.1",
	}
	for name, change := range map[string]func(*focus.LiveKitConfig){
		"no folder":       func(c *focus.LiveKitConfig) { c.Dir = "" },
		"short secret":    func(c *focus.LiveKitConfig) { c.Secret = "short" },
		"no key":          func(c *focus.LiveKitConfig) { c.Key = "" },
		"no node address": func(c *focus.LiveKitConfig) { c.NodeIP = "" },
		"loopback":        func(c *focus.LiveKitConfig) { c.NodeIP = "127.0.0.1" },
		"no port":         func(c *focus.LiveKitConfig) { c.Port = 0 },
		"no UDP port":     func(c *focus.LiveKitConfig) { c.UDPPort = 70000 },
		"TCP port twice":  func(c *focus.LiveKitConfig) { c.TCPPort = 7880 },
	} {
		bad := good
		change(&bad)
		if _, err := focus.NewLiveKit(bad); err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	server, err := focus.NewLiveKit(good)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time, the file exists
		cmd, err := server.Command("/bin/livekit-server")
		if err != nil {
			t.Fatal(err)
		}
		if line := strings.Join(append(cmd.Args, cmd.Env...), " "); strings.Contains(line, good.Secret) {
			t.Errorf("secrets can be seen in %s", line)
		}
		path := cmd.Args[len(cmd.Args)-1]
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("the configuration has mode %v, %v", info.Mode(), err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var settings struct {
			Bind []string `yaml:"bind_addresses"`
			Room struct {
				AutoCreate bool                    `yaml:"auto_create"`
				Codecs     []struct{ Mime string } `yaml:"enabled_codecs"`
			} `yaml:"room"`
			RTC map[string]any `yaml:"rtc"`
		}
		if err := yaml.Unmarshal(text, &settings); err != nil {
			t.Fatal(err)
		}
		if len(settings.Bind) != 1 || settings.Bind[0] != "127.0.0.1" || settings.Room.AutoCreate || settings.RTC["use_external_ip"] != false {
			t.Errorf("the configuration is not closed: %s", text)
		}
		for _, c := range settings.Room.Codecs {
			if name := strings.ToLower(c.Mime); strings.Contains(name, "red") || strings.Contains(name, "av1") {
				t.Errorf("the codec %s is on", c.Mime)
			}
		}
		if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
			t.Errorf("%d files are left", len(entries))
		}
	}
	if err := server.Ready(t.Context()); err == nil {
		t.Error("a server that does not run is ready")
	}
}

// iceServers joins a room and returns the ICE servers that LiveKit tells clients.
func iceServers(t *testing.T, l *rig.LiveKit) []*livekit.ICEServer {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), l.URL+"/rtc?protocol=17", &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + l.Token(t, "someone", "room")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	_, data, err := conn.Read(t.Context())
	var m livekit.SignalResponse
	if err != nil || proto.Unmarshal(data, &m) != nil || m.GetJoin() == nil {
		t.Fatalf("no join message came, %v", err)
	}
	return m.GetJoin().GetIceServers()
}

// TestICEServers demands that clients are told no ICE servers but ours.
func TestICEServers(t *testing.T) {
	for _, s := range iceServers(t, rig.StartLiveKit(t)) {
		for _, u := range s.GetUrls() {
			if !strings.HasPrefix(u, "stun:127.0.0.1:") {
				t.Errorf("without TURN clients are sent to %s", u)
			}
		}
	}
	l := rig.StartLiveKitWith(t, rig.LiveKitOptions{Turn: []rig.Turn{
		{Host: "127.0.0.1", Port: 3478, Protocol: "udp", Secret: "one"}, {Host: "turn.example", Port: 5349, Protocol: "tls", Secret: "two"},
	}})
	servers := iceServers(t, l)
	want := []struct{ url, secret string }{
		{"turn:127.0.0.1:3478?transport=udp", "one"}, {"turns:turn.example:5349?transport=tcp", "two"},
	}
	if len(servers) != len(want) {
		t.Fatalf("%d servers: %v", len(servers), servers)
	}
	for i, w := range want {
		mac := hmac.New(sha1.New, []byte(w.secret))
		mac.Write([]byte(servers[i].GetUsername()))
		if u := servers[i].GetUrls(); len(u) != 1 || u[0] != w.url {
			t.Errorf("server %d is %v, want %s", i, u, w.url)
		}
		if servers[i].GetCredential() != base64.StdEncoding.EncodeToString(mac.Sum(nil)) {
			t.Errorf("the password for %s is not made from its secret", w.url)
		}
	}
}
