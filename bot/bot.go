package bot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"go.mau.fi/util/dbutil"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/budget"
	"multifactorymodel.org/ewindow/bot/identity"
	"multifactorymodel.org/ewindow/bot/keystore"
	"multifactorymodel.org/ewindow/bot/verification"
	"multifactorymodel.org/ewindow/turnserver/limit"
)

// Config is what a Bot needs. HomeserverURL, Username, Password, DB and DataDir are required.
type Config struct {
	// HomeserverURL is where the client API is, such as https://matrix.example.org.
	HomeserverURL string
	// Username is the local part or the whole user id.
	Username, Password string
	// DeviceName is what other people see in the list of the user's devices. Empty: "ewindow".
	DeviceName string
	// AcceptUnsignedDevices accepts messages from devices that their owner has not cross-signed, and gives them keys.
	// DANGER: the operator of a homeserver can then add a device to one of its users and listen.
	AcceptUnsignedDevices bool
	// DB was opened by migrations.OpenKiosk. The bot does not close it.
	DB *dbutil.Database
	// DataDir is the folder for the files with the recovery key and with the key of the database.
	DataDir string
	// HTTPClient is for requests to the homeserver. nil: one of its own.
	HTTPClient *http.Client
	// OnHomeserver is called when the homeserver becomes reachable or unreachable, with the time of that change. The goroutine of Start and Run
	// calls it, and it must not block. It may be nil.
	OnHomeserver func(online bool, since time.Time)
	// OnNewIdentity is called when a user's identity (master key) turns out not to be the one that was first seen, with the present one. It is
	// called with an empty key when the identity is confirmed, or is the first one again. It must not block, and may be nil.
	OnNewIdentity func(user id.UserID, key id.Ed25519)
	// Verifiers are the users who may compare emoji with us, and OnEmoji is called with the emoji to be compared, and with nil when there are none
	// any more. It must not block, and may be nil.
	Verifiers []id.UserID
	OnEmoji   func(*verification.Emoji)
	Log       zerolog.Logger
}

// Device is one device of a user.
type Device struct {
	User id.UserID
	ID   id.DeviceID
}

// ToDevice is a message from one device to ours.
type ToDevice struct {
	// From is the device that encrypted the message. If Content names a device, the handler has to compare the two.
	From Device
	Type event.Type
	// Content is a JSON object of at most 64 KiB.
	Content json.RawMessage
}

// Bot is a Matrix user. Its methods may be called from any goroutine, with these exceptions: On, OnToDevice and OnSynced are called before
// Start, and Start and Run are called once each, in this order.
type Bot struct {
	cfg         Config
	log         zerolog.Logger
	strangerLog zerolog.Logger // for lines that other users can cause; at most five in ten minutes
	client      *mautrix.Client
	session     sessionStore
	state       *stateStore
	stats       counters

	// Written before Start, read-only afterwards.
	handlers   map[string][]handler
	toDevice   map[string][]func(context.Context, ToDevice)
	syncedFuns []func(context.Context)

	// Set by Start, read-only once ready is true.
	ready      atomic.Bool
	crypto     *crypto.SQLCryptoStore
	olm        *keystore.Store // crypto, as mautrix uses it
	identities *identity.Tracker
	verifier   *verification.Verifier
	mach       *crypto.OlmMachine
	fetcher    *crypto.OlmMachine // asks for keys, see openCrypto
	knownRuns  []string           // numbers of our own runs, see copy_check.go

	background sync.WaitGroup            // requests that sync does not wait for; Run waits for them at its end
	work       *budget.Budget            // what others' messages make us do
	messages   *budget.Budget            // others' to-device messages
	renewals   *limit.Rate[id.SenderKey] // of Olm sessions
	repairing  atomic.Bool               // the one-time keys are being renewed
	waiting    waiting                   // events whose keys have not come yet

	// These belong to the goroutine of Start and Run.
	connection   connection
	fallbackMade time.Time // in this run
	held         held
	pruned       time.Time // when old keys were last deleted

	mu   sync.RWMutex // guards self
	self Device
}

type handler struct {
	class event.TypeClass
	f     func(context.Context, *event.Event)
}

// New checks a configuration. It starts nothing.
func New(cfg Config) (*Bot, error) {
	home, err := url.Parse(strings.TrimSuffix(cfg.HomeserverURL, "/"))
	switch {
	case err != nil, home.Host == "", home.RawQuery != "", home.User != nil, home.Scheme != "http" && home.Scheme != "https":
		return nil, errors.New("homeserver.url must be a URL such as https://matrix.example.org")
	case strings.Trim(cfg.Username, "@:") == "":
		return nil, errors.New("homeserver.username is missing")
	case cfg.Password == "":
		return nil, errors.New("homeserver.password is missing")
	case cfg.DB == nil:
		return nil, errors.New("bot: no database was given")
	case cfg.DataDir == "":
		return nil, errors.New("bot: no data folder was given")
	}
	cfg.HomeserverURL = home.String()
	if cfg.DeviceName == "" {
		cfg.DeviceName = "ewindow"
	}
	if cfg.OnHomeserver == nil {
		cfg.OnHomeserver = func(bool, time.Time) {}
	}
	if cfg.OnNewIdentity == nil {
		cfg.OnNewIdentity = func(id.UserID, id.Ed25519) {}
	}
	if cfg.HTTPClient == nil {
		cfg.HTTPClient = NewHTTPClient()
	}
	client, err := mautrix.NewClient(cfg.HomeserverURL, "", "")
	if err != nil {
		return nil, fmt.Errorf("homeserver.url: %w", err)
	}
	b := &Bot{
		cfg: cfg, log: cfg.Log, client: client, session: sessionStore{cfg.DB},
		strangerLog: cfg.Log.Sample(&zerolog.BurstSampler{Burst: 5, Period: 10 * time.Minute}),
		handlers:    make(map[string][]handler), work: budget.NewWork(), messages: budget.NewMessages(),
		renewals: limit.NewRate[id.SenderKey](1/renewPause.Seconds(), 1),
		toDevice: make(map[string][]func(context.Context, ToDevice)),
	}
	client.Client = cfg.HTTPClient
	client.Log = libraryLog(cfg.Log)
	client.UserAgent = "ewindow " + mautrix.DefaultUserAgent
	client.DefaultHTTPRetries = retries
	client.DefaultHTTPBackoff = retryPause
	client.MaxHTTPBackoff = maxRetryPause
	client.ResponseSizeLimit = maxResponse
	b.state = newStateStore(cfg.DB, client)
	client.StateStore = b.state
	client.Crypto = &roomCrypto{b}
	return b, nil
}

// On registers a handler for events of rooms: state, timeline events, sticky events, and the state of invitations. An encrypted event is
// decrypted before it is handed over. Mautrix.WasEncrypted and Mautrix.TrustState tell how it came: a handler that accepts only encrypted events
// has to check them. An event whose key comes late is handed over late. The class of t need not be set. If it is, only events of that class
// match.
func (b *Bot) On(t event.Type, f func(ctx context.Context, e *event.Event)) {
	b.handlers[t.Type] = append(b.handlers[t.Type], handler{t.Class, f})
}

// OnToDevice registers a handler for messages to this device. It sees only those that were Olm-encrypted by a known and trusted device.
func (b *Bot) OnToDevice(t event.Type, f func(ctx context.Context, e ToDevice)) {
	b.toDevice[t.Type] = append(b.toDevice[t.Type], f)
}

// OnSynced registers a function that is called after each sync response was processed. It is also called once when Start has dispatched the
// rooms' state.
func (b *Bot) OnSynced(f func(ctx context.Context)) {
	b.syncedFuns = append(b.syncedFuns, f)
}

// UserID is the bot's user. It is empty until Start has logged in.
func (b *Bot) UserID() id.UserID { return b.device().User }

// DeviceID is the bot's device. It is empty until Start has logged in.
func (b *Bot) DeviceID() id.DeviceID { return b.device().ID }

// ServerName is the name of the bot's homeserver. It is empty until Start has logged in.
func (b *Bot) ServerName() string { return b.UserID().Homeserver() }

func (b *Bot) device() Device {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.self
}

// Client is for requests to the homeserver, once Start has returned or a handler was called. It repeats requests after a rate limit
// (429) or a gateway's error. What it sends to encrypted rooms is encrypted. Its fields must not be changed.
func (b *Bot) Client() *mautrix.Client { return b.client }
