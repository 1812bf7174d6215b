//go:build full

package paths_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/homeserver"
	"multifactorymodel.org/ewindow/bot/newnetwork"
	"multifactorymodel.org/ewindow/bridge/child"
	"multifactorymodel.org/ewindow/bridge/kiosk"
	"multifactorymodel.org/ewindow/cmd/e2e/page"
	"multifactorymodel.org/ewindow/cmd/e2e/paths"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

func TestMain(m *testing.M) {
	page.Main()
	os.Exit(m.Run())
}

const (
	serverName   = paths.HubName + ":443"
	publicURL    = "https://" + paths.HubName
	localHub     = "http://127.0.0.1:8008" // in the hub's namespace
	dendrite     = "http://127.0.0.1:8009" // in the hub's namespace
	registration = "registration-of-the-test"
	turnSecret   = "turn-secret-of-the-test"
	pageAddress  = "127.0.0.1:8470" // in each kiosk's namespace
)

// windows are the names of both windows. The names in lower case are their accounts.
var windows = [2]string{"Munich", "Dresden"}

// network is a network in which a hub and two kiosks run, without pages. The windows know each other.
type network struct {
	*paths.Network
	folder, program string
	authority       string // path of the root certificate that all programs trust
	admin           *mautrix.Client
}

// pageURL returns the address of a kiosk's page, in the kiosk's namespace.
func (v *network) pageURL(t testing.TB, i int) string {
	t.Helper()
	key, err := kiosk.ReadKey(filepath.Join(v.folder, strings.ToLower(windows[i]), "data"))
	if err != nil {
		t.Fatal(err)
	}
	return kiosk.Address(pageAddress, key)
}

// visit is a network with pages that are no browsers.
type visit struct {
	*network
	pages [2]*page.Page
}

// world is what is different about a network. The zero value is a network of IPv4 with a hub at a fixed address.
type world struct {
	prepare     func(*paths.Network) // before anything is started
	listen      string               // where the hub listens; "" is its address
	publicIP    string               // its setting; "" is its address, "-" is nothing
	morePublics string               // its setting
	serverName  string               // of its homeserver; "" is its name and port
}

// startVisit starts a network and its pages.
func startVisit(t testing.TB, w world) *visit {
	t.Helper()
	v := &visit{network: startNetwork(t, w)}
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range v.Sides {
		v.pages[i] = page.StartCommand(t, windows[i], v.pageURL(t, i), s.Kiosk.Command(own))
	}
	for _, p := range v.pages {
		p.Await(t, time.Minute, "the other window", func(r page.Report) bool { return r.Media && len(r.Joined) == 1 })
	}
	return v
}

// startNetwork starts all programs and makes the network's Space and accounts.
func startNetwork(t testing.TB, w world) *network {
	t.Helper()
	v := &network{Network: paths.NewNetwork(t), folder: t.TempDir(), authority: rig.CAFile(t)}
	rig.Program(t, child.Dendrite)
	rig.Program(t, child.LiveKit)
	v.program = filepath.Join(v.folder, "ewindow")
	build := exec.Command("go", "build", "-tags", "goolm", "-o", v.program, "multifactorymodel.org/ewindow/cmd/ewindow")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build ewindow: %v\n%s", err, out)
	}
	t.Cleanup(func() { rig.KeepLogs(t, v.folder, 40) })

	if w.prepare != nil {
		w.prepare(v.Network)
	}
	name := cmp.Or(w.serverName, serverName)
	local := &http.Client{Transport: &http.Transport{DialContext: v.Hub.DialContext}, Timeout: 20 * time.Second}
	certificate, key := rig.CertificateFiles(t, paths.HubIP, paths.HubName)
	v.start(t, "hub", v.Hub, fmt.Sprintf(hubConfig, cmp.Or(w.listen, paths.HubIP), certificate, key, turnSecret, name, registration, publicURL,
		strings.TrimPrefix(cmp.Or(w.publicIP, paths.HubIP), "-"), w.morePublics),
		answers(local, localHub+"/_matrix/client/versions"))
	passwords := make(map[string]string)
	for _, name := range []string{"anna", "munich", "dresden"} {
		passwords[name] = rand.Text()
		if _, err := homeserver.Register(t.Context(), local, dendrite, registration, name, passwords[name], name == "anna"); err != nil {
			t.Fatal(err)
		}
	}
	anna, err := mautrix.NewClient(localHub, "", "")
	if err != nil {
		t.Fatal(err)
	}
	anna.Client = local
	if _, err := anna.Login(t.Context(), &mautrix.ReqLogin{
		Type: mautrix.AuthTypePassword, Identifier: mautrix.UserIdentifier{Type: mautrix.IdentifierTypeUser, User: "anna"},
		Password: passwords["anna"], StoreCredentials: true,
	}); err != nil {
		t.Fatal(err)
	}
	v.admin = anna
	space, err := newnetwork.Create(t.Context(), anna, newnetwork.Options{Name: "Behind walls"})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range v.Sides {
		account := strings.ToLower(windows[i])
		client := &http.Client{Transport: &http.Transport{DialContext: s.Kiosk.DialContext}, Timeout: 5 * time.Second}
		v.start(t, account, s.Kiosk, fmt.Sprintf(kioskConfig, publicURL, account, passwords[account], name, windows[i], pageAddress),
			answers(client, "http://"+pageAddress+"/"))
	}
	for i := range v.Sides {
		user := id.NewUserID(strings.ToLower(windows[i]), name)
		if _, err := anna.InviteUser(t.Context(), space, &mautrix.ReqInviteUser{UserID: user}); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

const hubConfig = `
data_dir: data
hub:
  listen: "%[1]s:443"
  local_listen: 127.0.0.1:8008
  public_url: %[7]s
  tls_certificate: %[2]q
  tls_key: %[3]q
  turnserver:
    enabled: true
    share_https_port: true
    listen: ["udp://%[1]s:3478", "tcp://%[1]s:3478"]
    public_ip: "%[8]s"
    more_public_ips: [%[9]s]
    secret: %[4]s
  focus:
    enabled: true
    open: true # these tests are about networks
  homeserver:
    enabled: true
    server_name: %[5]s
    registration_secret: %[6]s
    bcrypt_cost: 4
    # The hub has an address for documentation (RFC 5737), which the default list denies.
    deny_networks: []
`

const kioskConfig = `
data_dir: data
homeserver:
  url: %[1]s
  username: %[2]s
  password: %[3]s
network:
  admins: ["@anna:%[4]s"]
window:
  name: %[5]s
kiosk:
  listen: %[6]s
logging:
  level: debug
`

// start runs ewindow in a namespace until the test ends. It has its own folder.
func (v *network) start(t testing.TB, name string, n *paths.Namespace, config string, ready func(context.Context) error) {
	t.Helper()
	folder := filepath.Join(v.folder, name)
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder, "config.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	command := "kiosk"
	if name == "hub" {
		command = name
	}
	c, err := child.New(child.Config{
		Name: name, Ready: ready, Output: filepath.Join(folder, name+".log"), Log: zerolog.Nop(),
		Command: func() (*exec.Cmd, error) {
			cmd := n.Command(v.program, command, "-c", file)
			cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+v.authority, "SSL_CERT_DIR="+os.DevNull)
			return cmd, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// answers returns a readiness check: it succeeds when the address answers with status 200.
func answers(client *http.Client, address string) func(context.Context) error {
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return err
		}
		answer, err := client.Do(request)
		if err != nil {
			return err
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("it answers %s", answer.Status)
		}
		return nil
	}
}
