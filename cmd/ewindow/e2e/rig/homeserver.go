package rig

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/homeserver"
	"multifactorymodel.org/ewindow/cmd/ewindow/child"
	"multifactorymodel.org/ewindow/migrations"
)

// startLimit is how long a server may take to get ready, on a machine that is busy with other tests.
const startLimit = time.Minute

const startAttempts = 3

// Homeserver is one Dendrite with the hub's front before it.
type Homeserver struct {
	// URL is where clients talk to, through the front: plain HTTP, without a slash at the end.
	URL string
	// ServerName is "localhost:PORT"; the front serves TLS there, for other homeservers.
	ServerName string
	// Direct is Dendrite itself, without the front: plain HTTP, administration included.
	Direct string
	// Secret is the shared secret for registration.
	Secret string
	// CAFile is the certificate that the server's TLS certificate is signed with.
	CAFile string
	// HTTPClient trusts that certificate.
	HTTPClient *http.Client

	dendrite *homeserver.Dendrite
	program  string
	output   string

	mu        sync.Mutex // guards what follows
	process   *child.Child
	passwords map[id.UserID]string
}

// Options change what StartHomeserverWith starts.
type Options struct {
	// Transports are the authorisation services that the front announces.
	Transports []string
	// TurnURIs and TurnSecret are what clients are told about TURN.
	TurnURIs   []string
	TurnSecret string
}

// StartHomeserver starts a homeserver that ends with the test.
func StartHomeserver(t testing.TB) *Homeserver {
	t.Helper()
	return StartHomeserverWith(t, Options{})
}

// StartFederation starts two homeservers that talk to each other. They validate each other's certificates.
func StartFederation(t testing.TB) [2]*Homeserver {
	t.Helper()
	return [2]*Homeserver{StartHomeserver(t), StartHomeserver(t)}
}

// StartHomeserverWith starts a homeserver with options.
func StartHomeserverWith(t testing.TB, o Options) *Homeserver {
	t.Helper()
	program := child.Need(t, child.Dendrite)
	dir := t.TempDir()
	log := zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)

	public := Listen(t)
	client := Listen(t)
	hs := &Homeserver{
		URL:        "http://" + client.Addr().String(),
		ServerName: "localhost:" + strconv.Itoa(public.Addr().(*net.TCPAddr).Port),
		Secret:     rand.Text(),
		CAFile:     CAFile(t),
		HTTPClient: HTTPClient(t),
		program:    program,
		output:     filepath.Join(dir, "dendrite.log"),
		passwords:  make(map[id.UserID]string),
	}
	t.Cleanup(func() {
		_ = hs.stop(syscall.SIGKILL) // nobody looks at the data any more
		if t.Failed() {
			hs.logTail(t)
		}
	})
	for attempt := 1; ; attempt++ { // another program may take the port before Dendrite does
		port, err := child.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		hs.dendrite, err = homeserver.NewDendrite(homeserver.DendriteConfig{
			Dir: filepath.Join(dir, "dendrite"), ServerName: hs.ServerName, ClientPort: port, RegistrationSecret: hs.Secret,
			TurnURIs: o.TurnURIs, TurnSecret: o.TurnSecret,
			AllowNetworks: []string{"127.0.0.0/8", "::1/128"}, DenyNetworks: []string{},
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
	front, err := homeserver.NewFront(homeserver.FrontConfig{
		Upstream: upstream, ServerName: hs.ServerName, PublicURL: "https://" + hs.ServerName, Transports: o.Transports, DB: db, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	Run(t, front.Run)
	Serve(t, tls.NewListener(public, &tls.Config{Certificates: []tls.Certificate{Certificate(t)}, NextProtos: []string{"http/1.1"}}), front)
	Serve(t, client, front)
	// First of all at the end: a front lets requests go on whose client is gone, and a /sync waits for half a minute.
	t.Cleanup(func() { _ = hs.stop(syscall.SIGKILL) })
	return hs
}

// Register makes an account and returns its user id and password.
func (hs *Homeserver) Register(t testing.TB, name string) (user id.UserID, password string) {
	t.Helper()
	return hs.register(t, name, false)
}

// RegisterAdmin makes an account that administers the homeserver, which Dendrite lifts limits for.
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
	hs.mu.Lock()
	hs.passwords[user] = password
	hs.mu.Unlock()
	return user, password
}

// Client logs a user in who was made by Register, with a new device, and returns the client. It has no encryption and does not sync.
func (hs *Homeserver) Client(t testing.TB, user id.UserID) *mautrix.Client {
	t.Helper()
	hs.mu.Lock()
	password := hs.passwords[user]
	hs.mu.Unlock()
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

// Kill ends Dendrite as a power cut would. The front keeps its ports and answers with status 502.
func (hs *Homeserver) Kill(t testing.TB) {
	t.Helper()
	if err := hs.stop(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// Restart starts Dendrite again after Kill, or ends it in order and starts it again, and waits until it is ready.
func (hs *Homeserver) Restart(t testing.TB) {
	t.Helper()
	if err := hs.stop(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := hs.start(t.Context()); err != nil {
		hs.logTail(t)
		t.Fatal(err)
	}
}

func (hs *Homeserver) start(ctx context.Context) error {
	process, err := child.New(child.Config{
		Name: "dendrite", Command: func() (*exec.Cmd, error) { return hs.dendrite.Command(hs.program) }, Ready: hs.dendrite.Ready,
		Output: hs.output, Log: zerolog.Nop(),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := process.Start(ctx); err != nil {
		return err
	}
	hs.mu.Lock()
	hs.process = process
	hs.mu.Unlock()
	return nil
}

func (hs *Homeserver) stop(signal syscall.Signal) error {
	hs.mu.Lock()
	process := hs.process
	hs.process = nil
	hs.mu.Unlock()
	if process == nil {
		return nil
	}
	if pid := process.Pid(); pid != 0 {
		_ = syscall.Kill(pid, signal)
	}
	return process.Close()
}

func (hs *Homeserver) logTail(t testing.TB) {
	t.Helper()
	text, err := os.ReadFile(hs.output)
	if err != nil {
		return
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	t.Logf("the last of what Dendrite at %s printed:\n%s", hs.ServerName, bytes.Join(lines[max(0, len(lines)-15):], []byte("\n")))
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

// Run runs f beside the test and ends it by its context when the test ends; an error fails the test.
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
