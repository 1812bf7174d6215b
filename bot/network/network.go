package network

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
)

// Bot is what the package needs of the Matrix user: [multifactorymodel.org/ewindow/bot.Bot] implements it.
type Bot interface {
	UserID() id.UserID
	ServerName() string
	Client() *mautrix.Client
	On(t event.Type, f func(ctx context.Context, e *event.Event))
	OnSynced(f func(ctx context.Context))
}

// Config is what a Network is made of. Bot and Name are required.
type Config struct {
	// Bot must not have been started yet.
	Bot Bot
	// Admins are those whose invitation into a network is accepted. None: no invitation is.
	Admins []id.UserID
	// Name and City are this window's, for people. Languages are those of its page, Timezone is an IANA name.
	Name, City, Timezone string
	Languages            []string
	// OnChange is called after [Network.Own], [Network.Windows] or [Network.Name] changed, by one goroutine and with no lock
	// held. It must not block. It may be nil.
	OnChange func()
	Log      zerolog.Logger
}

// Network is this window's place in its network. Own, Windows, Name, SetState and Refused may be called from any goroutine.
type Network struct {
	cfg     Config
	queue   queue
	refused atomic.Int64

	// The rest belongs to Run's goroutine.
	model     *model
	invites   map[id.RoomID]*invite
	runner    *runner
	desired   directory.State // as SetState said last; no Shutter means that it has not been called
	sent      sentWindow
	reminders map[id.UserID]*reminder
	looked    bool // invitations that came while we were off were looked for
	said      map[string]bool

	mu        sync.RWMutex // guards published
	published snapshot
}

// snapshot is what other goroutines see.
type snapshot struct {
	own     id.RoomID
	hung    bool
	windows []directory.Window
	names   map[id.UserID]string
}

// sentWindow is the state event that we have sent and not yet seen come back.
type sentWindow struct {
	room    id.RoomID
	event   id.EventID
	content *windowContent
}

// New checks the configuration and registers the handlers on the bot. It starts nothing.
func New(cfg Config) (*Network, error) {
	switch {
	case cfg.Bot == nil:
		return nil, errors.New("network: the bot is missing")
	case clean(cfg.Name, maxName) == "":
		return nil, errors.New("network: the window has no name")
	case len(cfg.Languages) > maxLanguages:
		return nil, fmt.Errorf("network: more than %d languages", maxLanguages)
	}
	for _, admin := range cfg.Admins {
		if !validUser(admin) {
			return nil, fmt.Errorf("network: %q is not a Matrix user id", admin)
		}
	}
	if cfg.OnChange == nil {
		cfg.OnChange = func() {}
	}
	n := &Network{
		cfg: cfg, queue: newQueue(), invites: make(map[id.RoomID]*invite), reminders: make(map[id.UserID]*reminder),
		said: make(map[string]bool),
	}
	n.published.names = make(map[id.UserID]string)
	for _, t := range []event.Type{
		event.StateCreate, event.StateMember, event.StateRoomName, event.StatePowerLevels, event.StateJoinRules,
		event.StateSpaceChild, event.StateSpaceParent, event.StateTombstone, StateWindow, StateNetwork,
	} {
		cfg.Bot.On(t, func(_ context.Context, e *event.Event) { n.queue.collect(e) })
	}
	cfg.Bot.OnSynced(func(context.Context) { n.queue.commit() })
	return n, nil
}

// Own returns this window's room, and whether it hangs in the network's Space by now.
func (n *Network) Own() (id.RoomID, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.published.own, n.published.hung
}

// Windows returns the other windows of the network, in a stable order. The caller may keep the result.
func (n *Network) Windows() []directory.Window {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return slices.Clone(n.published.windows)
}

// Name is what to call a user: the display name in a room that we share, else the first part of the user id.
func (n *Network) Name(user id.UserID) string {
	n.mu.RLock()
	name := n.published.names[user]
	n.mu.RUnlock()
	if name != "" {
		return name
	}
	return clean(user.Localpart(), maxName)
}

// SetState tells the network how this window stands. It returns at once; the last state wins, and is sent until the homeserver has
// it. An unknown Shutter counts as shut.
func (n *Network) SetState(s directory.State) {
	n.queue.put(func() { n.desired = sane(s) })
}

// Refused counts the invitations that were not accepted since the start.
func (n *Network) Refused() int { return int(n.refused.Load()) }

func sane(s directory.State) directory.State {
	s.Shutter = directory.ParseShutter(string(s.Shutter))
	if !validRoom(s.Facing) {
		s.Facing = ""
	}
	return s
}

// Run does the work until ctx ends; it then returns nil when all its requests have ended, which takes up to three seconds. The bot
// must have been started.
func (n *Network) Run(ctx context.Context) error {
	self := n.cfg.Bot.UserID()
	if self == "" {
		return errors.New("network: run before the bot was started")
	}
	n.model = newModel(self, n.cfg.Admins)
	n.runner = newRunner(ctx, n.queue.put, n.cfg.Log)
	if len(n.cfg.Admins) == 0 {
		n.cfg.Log.Warn().Msg("No network admins are configured, so no invitation into a network will be accepted")
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	n.queue.commit() // what the bot's Start has found
	for ctx.Err() == nil {
		events, calls, synced := n.queue.take()
		if synced {
			n.runner.hurry()
		}
		for _, e := range events {
			n.apply(e)
		}
		for _, f := range calls {
			f()
		}
		wake := n.reconcile(time.Now())
		n.publish()
		timer.Stop()
		if !wake.IsZero() {
			timer.Reset(max(time.Until(wake), 0))
		}
		select {
		case <-ctx.Done():
		case <-n.queue.signal:
		case <-timer.C:
		}
	}
	n.runner.end()
	return nil
}

// publish shows others what has changed, and tells them.
func (n *Network) publish() {
	own, hung := n.model.own()
	windows := n.model.directory()
	n.mu.Lock()
	changed := n.published.own != own || n.published.hung != hung || len(n.model.newNames) > 0 ||
		!slices.EqualFunc(n.published.windows, windows, directory.Window.Equal)
	n.published.own, n.published.hung, n.published.windows = own, hung, windows
	for user, name := range n.model.newNames {
		if len(n.published.names) < maxNames || n.published.names[user] != "" {
			n.published.names[user] = name
		}
	}
	n.mu.Unlock()
	clear(n.model.newNames)
	if changed {
		n.cfg.OnChange()
	}
}
