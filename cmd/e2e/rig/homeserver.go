package rig

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/homeserver"
	"multifactorymodel.org/ewindow/bridge/child"
	"multifactorymodel.org/ewindow/migrations"
)

// Homeserver is one Dendrite with the hub's front before it. While Dendrite is down, the front keeps its ports open and answers with status 502.
type Homeserver struct {
	process

	// URL is the address for clients, through the front: plain HTTP, without a slash at the end.
	URL string
	// ServerName is "localhost:PORT". The front serves TLS there, for other homeservers.
	ServerName string
	// Direct is the address of Dendrite itself, without the front: plain HTTP, with the admin API.
	Direct string
	// Secret is the shared secret for registration.
	Secret string
	// CAFile is the path of the root certificate (PEM) that signs the server's TLS certificate.
	CAFile string
	// HTTPClient trusts that root certificate.
	HTTPClient *http.Client

	// Media limits the files of other homeservers, if that was asked for.
	Media *homeserver.RemoteMedia

	dendrite *homeserver.Dendrite

	accounts  sync.Mutex // guards passwords
	passwords map[id.UserID]string
}

// Options change what StartHomeserverWith starts.
type Options struct {
	// Transports are the URLs of the MatrixRTC authorisation services that the front announces (MSC4143).
	Transports []string
	// SFUToken gives devices access to the SFU of the first transport.
	SFUToken func(ctx context.Context, user id.UserID, device id.DeviceID, room id.RoomID) (url, jwt string, err error)
	// TURN gives users access to a TURN server in place of the homeserver.
	TURN func(user id.UserID) (access homeserver.TURNAccess, ok bool)
	// RemoteMedia limits the files of other homeservers; nil: no limit. Folder and server name are set.
	RemoteMedia *homeserver.RemoteMediaConfig
	// Outbound is the proxy that the homeserver connects through.
	Outbound *url.URL
	// AllowNetworks and DenyNetworks are the networks that it may connect to; nil for both: this machine.
	AllowNetworks, DenyNetworks []string
}

// StartHomeserver starts a homeserver. It stops when the test ends.
func StartHomeserver(t testing.TB) *Homeserver {
	t.Helper()
	return StartHomeserverWith(t, Options{})
}

// StartFederation starts two homeservers that federate with each other. They validate each other's certificates.
func StartFederation(t testing.TB) [2]*Homeserver {
	t.Helper()
	return [2]*Homeserver{StartHomeserver(t), StartHomeserver(t)}
}

// StartHomeserverWith starts a homeserver with options.
func StartHomeserverWith(t testing.TB, o Options) *Homeserver {
	t.Helper()
	program := Program(t, child.Dendrite)
	dir := t.TempDir()
	log := zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)

	if o.AllowNetworks == nil && o.DenyNetworks == nil {
		o.AllowNetworks, o.DenyNetworks = []string{"127.0.0.0/8", "::1/128"}, []string{}
	}
	public := Listen(t)
	client := Listen(t)
	hs := &Homeserver{
		URL:        "http://" + client.Addr().String(),
		ServerName: "localhost:" + strconv.Itoa(public.Addr().(*net.TCPAddr).Port),
		Secret:     rand.Text(),
		CAFile:     CAFile(t),
		HTTPClient: HTTPClient(t),
		passwords:  make(map[id.UserID]string),
	}
	hs.name, hs.output = "Dendrite at "+hs.ServerName, filepath.Join(dir, "dendrite.log")
	hs.command = func() (*exec.Cmd, error) { return hs.dendrite.Command(program) }
	hs.ready = func(ctx context.Context) error { return hs.dendrite.Ready(ctx) }
	hs.connect = func() []uint16 { return hs.dendrite.ConnectTCP() }
	hs.stopAtCleanup(t)
	for attempt := 1; ; attempt++ {
		port, err := child.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		hs.dendrite, err = homeserver.NewDendrite(homeserver.DendriteConfig{
			Dir: filepath.Join(dir, "dendrite"), ServerName: hs.ServerName, ClientPort: port, RegistrationSecret: hs.Secret,
			AllowNetworks: o.AllowNetworks, DenyNetworks: o.DenyNetworks, Outbound: o.Outbound,
			BcryptCost: 4, NoRateLimits: true, CAFile: hs.CAFile, Log: log,
		})
		if err != nil {
			t.Fatal(err)
		}
		if err = hs.start(t.Context()); err == nil {
			break
		}
		hs.logTail(t)
		if attempt == startAttempts {
			t.Fatal(err)
		}
	}
	hs.Direct = hs.dendrite.URL()
	upstream, err := url.Parse(hs.Direct)
	if err != nil {
		t.Fatal(err)
	}
	db, err := migrations.OpenHub(t.Context(), filepath.Join(dir, "hub.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	var media *homeserver.RemoteMedia
	if o.RemoteMedia != nil {
		o.RemoteMedia.Dir, o.RemoteMedia.ServerName = filepath.Join(dir, "dendrite"), hs.ServerName
		if media, err = homeserver.OpenRemoteMedia(*o.RemoteMedia); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = media.Close() })
		hs.Media = media
	}
	front, err := homeserver.NewFront(homeserver.FrontConfig{
		Upstream: upstream, ServerName: hs.ServerName, PublicURL: "https://" + hs.ServerName, Transports: o.Transports, SFUToken: o.SFUToken, RemoteMedia: media, TURN: o.TURN, DB: db,
		Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	Run(t, front.Run)
	Serve(t, tls.NewListener(public, &tls.Config{Certificates: []tls.Certificate{Certificate(t)}, NextProtos: []string{"http/1.1"}}), front)
	Serve(t, client, front)
	// Kill Dendrite before the front closes. The front finishes requests even if their client is gone, and a /sync takes half a minute.
	t.Cleanup(func() { _ = hs.stop(syscall.SIGKILL) })
	return hs
}

// Register makes an account and returns its user ID and password.
func (hs *Homeserver) Register(t testing.TB, name string) (user id.UserID, password string) {
	t.Helper()
	return hs.register(t, name, false)
}

// RegisterAdmin makes an account of a homeserver administrator. Dendrite has no rate limits for it.
func (hs *Homeserver) RegisterAdmin(t testing.TB, name string) (user id.UserID, password string) {
	t.Helper()
	return hs.register(t, name, true)
}

func (hs *Homeserver) register(t testing.TB, name string, admin bool) (id.UserID, string) {
	t.Helper()
	password := rand.Text()
	user, err := homeserver.Register(t.Context(), nil, hs.Direct, hs.Secret, name, password, admin)
	if err != nil {
		t.Fatal(err)
	}
	hs.accounts.Lock()
	hs.passwords[user] = password
	hs.accounts.Unlock()
	return user, password
}

// Client logs in a user that Register has made, with a new device, and returns the client. The client has no encryption and does not sync.
func (hs *Homeserver) Client(t testing.TB, user id.UserID) *mautrix.Client {
	t.Helper()
	hs.accounts.Lock()
	password := hs.passwords[user]
	hs.accounts.Unlock()
	if password == "" {
		t.Fatal("the user was not made by Register: ", user)
	}
	client, err := mautrix.NewClient(hs.URL, "", "")
	if err != nil {
		t.Fatal(err)
	}
	client.DefaultHTTPRetries = 4
	client.Log = zerolog.Nop()
	_, err = client.Login(t.Context(), &mautrix.ReqLogin{
		Type:             mautrix.AuthTypePassword,
		Identifier:       mautrix.UserIdentifier{Type: mautrix.IdentifierTypeUser, User: user.String()},
		Password:         password,
		StoreCredentials: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// Listen opens a free TCP port of 127.0.0.1.
func Listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Run runs f in a goroutine until the test ends. Then it cancels f's context and waits for f. If f returns an error, the test fails.
func Run(t testing.TB, f func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
