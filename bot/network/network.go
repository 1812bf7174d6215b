package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"go.mau.fi/util/dbutil"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/alive"
	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bot/networkstate"
	"multifactorymodel.org/ewindow/bot/plain"
	"multifactorymodel.org/ewindow/bot/queue"
	"multifactorymodel.org/ewindow/bot/reminders"
	"multifactorymodel.org/ewindow/bot/tasks"
)

// Bot is what the package needs of the Matrix user. [multifactorymodel.org/ewindow/bot.Bot] implements it.
type Bot interface {
	UserID() id.UserID
	ServerName() string
	Client() *mautrix.Client
	On(t event.Type, f func(ctx context.Context, e *event.Event))
	OnSynced(f func(ctx context.Context))
}

// Config is what a Network needs. Bot, DB and Name are required.
type Config struct {
	// Bot must not have been started yet.
	Bot Bot
	// DB was opened by migrations.OpenKiosk. The Network keeps there which network it was admitted to.
	DB *dbutil.Database
	// Admins are the users whose invitation into a network is accepted. If there are none, no invitation is accepted.
	Admins []id.UserID
	// Name and City of this window are shown to people. Languages are those of its page. Timezone is an IANA name.
	Name, City, Timezone string
	Languages            []string
	// OnChange is called after [Network.Own], [Network.Removed], [Network.Windows], [Network.Kiosks] or [Network.Name] changed, by one
	// goroutine and with no lock held. It must not block. It may be nil.
	OnChange func()
	Log      zerolog.Logger
}

// Stats counts since the start.
type Stats struct {
	// RefusedInvitations are the invitations that were not accepted: a high number means that strangers invite the window.
	RefusedInvitations uint64
}

// Network is this window's part in its network. Own, Windows, Removed, Kiosks, Name, SetState and Stats may be called from any goroutine.
type Network struct {
	cfg     Config
	queue   *queue.Queue[func()] // for Run's goroutine
	refused atomic.Uint64

	collected []*event.Event // of the sync response that the bot is handing over; belongs to the bot's goroutine

	// What follows belongs to Run's goroutine.
	model           *model
	store           store
	saved           admission           // as the database has it
	savedWindows    map[id.UserID]known // so, too; it is never changed
	invites         map[id.RoomID]*invite
	runner          *tasks.Runner
	desired         directory.State // what SetState said last; no Shutter: it has not been called
	sent            sentWindow
	unaware         *reminders.List // of kiosks that our announcement may not have reached
	outside         *reminders.List // of kiosks that may be unable to join our room by themselves
	outsideHubs     *reminders.List // of hubs that are not in our room
	listing         listing
	sign            *alive.Sign
	started         bool            // the state from before the start was applied
	searchedInvites bool            // for invitations that came before the start
	warned          map[string]bool // what was logged already

	mu        sync.RWMutex // guards published
	published snapshot
}

// snapshot is what other goroutines see.
type snapshot struct {
	own     id.RoomID
	listed  bool
	removed bool
	windows []directory.Window
	kiosks  []id.UserID
	names   map[id.UserID]string
}

// sentWindow is the window event that we have sent and that sync has not shown yet.
type sentWindow struct {
	room    id.RoomID
	event   id.EventID
	content *networkstate.Window
}

// New checks the configuration and registers the handlers on the bot. It starts nothing.
func New(cfg Config) (*Network, error) {
	cfg.Name, cfg.City = plain.Name(cfg.Name), plain.Clean(cfg.City, networkstate.MaxCity)
	switch {
	case cfg.Bot == nil:
		return nil, errors.New("network: the bot is missing")
	case cfg.DB == nil:
		return nil, errors.New("network: no database was given")
	case cfg.Name == "":
		return nil, errors.New("network: the window's name needs a letter or a digit")
	case len(cfg.Languages) > networkstate.MaxLanguages:
		return nil, fmt.Errorf("network: more than %d languages", networkstate.MaxLanguages)
	}
	for _, admin := range cfg.Admins {
		if !plain.ValidUser(admin) {
			return nil, fmt.Errorf("network: %q is not a Matrix user id", admin)
		}
	}
	if cfg.OnChange == nil {
		cfg.OnChange = func() {}
	}
	n := &Network{
		cfg: cfg, queue: queue.New[func()](), invites: make(map[id.RoomID]*invite), unaware: reminders.New(firstReminder),
		outside: reminders.New(firstInvitation), outsideHubs: reminders.New(0), warned: make(map[string]bool), store: store{cfg.DB}, listing: newListing(),
	}
	n.published.names = make(map[id.UserID]string)
	for _, t := range []event.Type{
		event.StateCreate, event.StateMember, event.StateRoomName, event.StatePowerLevels, event.StateJoinRules,
		event.StateSpaceChild, event.StateSpaceParent, event.StateTombstone, networkstate.TypeWindow, networkstate.TypeNetwork, networkstate.TypeRoom, networkstate.TypeGone,
	} {
		cfg.Bot.On(t, func(_ context.Context, e *event.Event) { n.collect(e) })
	}
	cfg.Bot.OnSynced(func(context.Context) { n.commit() })
	return n, nil
}

// Own returns this window's room, and whether the network's Space lists it by now.
func (n *Network) Own() (id.RoomID, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.published.own, n.published.listed
}

// Windows returns the other windows of the network, in a stable order. The caller may keep the result.
func (n *Network) Windows() []directory.Window {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return slices.Clone(n.published.windows)
}

// Removed says that this window was in a network and is not any more: an admin removed it, or took its room out of the Space.
func (n *Network) Removed() bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.published.removed
}

// Kiosks returns the accounts that are no people, in a stable order: those that are windows or were, which is remembered, and the hubs. Whoever is among
// them and not in [Network.Windows] must not be answered, not even as a guest. The caller may keep the result.
func (n *Network) Kiosks() []id.UserID {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return slices.Clone(n.published.kiosks)
}

// Name is how a user is shown to people: the display name in a room that we share, else the first part of the user id.
func (n *Network) Name(user id.UserID) string {
	n.mu.RLock()
	name := n.published.names[user]
	n.mu.RUnlock()
	if name != "" {
		return name
	}
	return plain.Clean(user.Localpart(), plain.MaxName)
}

// SetState tells the network the state of this window. It returns at once. Only the last state is sent, again and again until the homeserver has
// accepted it. An unknown Shutter counts as shut.
func (n *Network) SetState(s directory.State) {
	n.queue.Put(func() { n.desired = sane(s) })
}

// Stats returns the counters.
func (n *Network) Stats() Stats { return Stats{RefusedInvitations: n.refused.Load()} }

// sane replaces the values of a state that are not valid.
func sane(s directory.State) directory.State {
	s.Shutter = directory.ParseShutter(string(s.Shutter))
	if !plain.ValidRoom(s.Facing) {
		s.Facing = ""
	}
	return s
}

// Run does the work until ctx ends. It then waits for its requests, which takes up to three seconds, and returns nil. The bot must have
// been started.
func (n *Network) Run(ctx context.Context) error {
	self := n.cfg.Bot.UserID()
	if self == "" {
		return errors.New("network: run before the bot was started")
	}
	n.model = newModel(self, n.cfg.Admins)
	n.model.name = n.cfg.Name
	saved, known, err := n.store.admission(ctx, self)
	if err != nil {
		return err
	}
	n.saved, n.model.admission, n.model.adopting = saved, saved, !known
	if n.savedWindows, err = n.store.windows(ctx, self); err != nil {
		return err
	}
	n.model.known = maps.Clone(n.savedWindows)
	n.runner = tasks.NewRunner(ctx, func(f func()) { n.queue.Put(f) }, n.cfg.Log)
	if len(n.cfg.Admins) == 0 {
		n.cfg.Log.Warn().Msg("No network admins are configured, so no invitation into a network will be accepted")
	}
	n.sign = alive.New(n.cfg.Bot.Client, networkstate.TypeGone, networkstate.Gone{Gone: true}, n.cfg.Log)
	var signs sync.WaitGroup
	signs.Go(func() { n.sign.Run(ctx) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		for _, f := range n.queue.Take() {
			f()
		}
		wake := n.reconcile(time.Now())
		n.publish()
		n.sign.SetRoom(n.published.own)
		timer.Stop()
		if !wake.IsZero() {
			timer.Reset(max(time.Until(wake), 0))
		}
		select {
		case <-ctx.Done():
		case <-n.queue.Ready():
		case <-timer.C:
		}
	}
	n.runner.End()
	signs.Wait()
	return nil
}

// publish makes the results visible to other goroutines, and calls OnChange when they have changed.
func (n *Network) publish() {
	own, listed := n.model.own()
	windows, kiosks, removed := n.model.directory(), n.model.kiosks(), n.model.removed()
	n.mu.Lock()
	changed := n.published.own != own || n.published.listed != listed || len(n.model.newNames) > 0 ||
		n.published.removed != removed || !slices.Equal(n.published.kiosks, kiosks) ||
		!slices.EqualFunc(n.published.windows, windows, directory.Window.Equal)
	n.published.own, n.published.listed, n.published.windows = own, listed, windows
	n.published.kiosks, n.published.removed = kiosks, removed
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
