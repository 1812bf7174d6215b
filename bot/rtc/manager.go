package rtc

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"go.mau.fi/util/dbutil"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/backoff"
	"multifactorymodel.org/ewindow/bot/queue"
	"multifactorymodel.org/ewindow/bot/request"
	"multifactorymodel.org/ewindow/bot/rtc/mediakeys"
	"multifactorymodel.org/ewindow/bot/rtc/membership"
	"multifactorymodel.org/ewindow/bot/rtc/ring"
	"multifactorymodel.org/ewindow/bot/rtc/transport"
	"multifactorymodel.org/ewindow/turnserver/addrpolicy"
)

const (
	// longestWait limits the sleep of Run, so that it recovers when the system's clock is changed.
	longestWait = 10 * time.Minute
	// versionsLife is how long an answer of /versions is trusted.
	versionsLife = 10 * time.Minute
	// maxQueue is how many of the bot's events may wait for Run. The initial state of large rooms fits.
	maxQueue = 1 << 17
)

// Member is one device in a call.
type Member = membership.Member

// Ring is a notification that somebody calls a room (MSC4075).
type Ring = ring.Ring

// Decline says that somebody declined our ring (MSC4310).
type Decline = ring.Decline

// Config is what a Manager needs. Bot, DB and OnMembers are required.
type Config struct {
	// Bot is the Matrix user. It must not have been started.
	Bot Bot
	// DB was opened by migrations.OpenKiosk. The Manager keeps its delayed leaves there.
	DB *dbutil.Database
	// FallbackService is the livekit_service_url for a homeserver that names none. It may be empty.
	FallbackService string
	// KnownServices are further livekit_service_urls that may be used when a member names them. All others must be announced by the homeserver of
	// a member who names them.
	KnownServices []string
	// Allowed says which addresses may be connected to when others name them; nil means public ones only (package addrpolicy). Our own
	// homeserver's service may have any address.
	Allowed func(netip.Addr) bool
	// OnMembers is called with all valid foreign members of a room's call, windows first and then the oldest first, each time they change. It
	// is called from Run's goroutine and must not block. ended are the windows' devices in the room that were in the call and are not any more, see
	// [membership.Change].
	OnMembers func(room id.RoomID, members []Member, ended []bot.Device)
	// OnRing is called with rings for us, OnDecline with declines of [Manager.Ring], and OnLegacyCall after a legacy call (m.call.invite) was
	// rejected. They are called in the same way as OnMembers, and may be nil.
	OnRing       func(Ring)
	OnDecline    func(Decline)
	OnLegacyCall func(room id.RoomID, sender id.UserID)
	Log          zerolog.Logger
}

// Stats counts what was refused or left out since the start. It shows operators whether somebody floods the window, or whether a client sends
// what we cannot read.
type Stats struct {
	InvalidMembers uint64 // memberships that could not be read
	DroppedMembers uint64 // memberships and rooms over a limit
	InvalidKeys    uint64 // media keys that could not be read, or came from another device than they claim
	DroppedKeys    uint64 // media keys over a limit
	DroppedEvents  uint64 // events that came while too many were waiting
	InvalidRings   uint64 // rings, declines and legacy calls that could not be read
	RefusedRings   uint64 // rings, declines and legacy calls that came in the clear, too late, or from somebody who is not in the room
	DroppedRings   uint64 // rings and legacy calls over a limit
}

// Manager watches the calls of all joined rooms and enters them. Its methods may be called from any goroutine.
type Manager struct {
	cfg      Config
	hs       homeserver
	leaves   membership.LeaveStore
	client   *transport.Client
	fallback string          // the normalised FallbackService
	known    map[string]bool // FallbackService and KnownServices, normalised
	queue    *queue.Queue[func()]
	dropped  atomic.Uint64 // events that did not fit into the queue
	// deviceTokens: the homeserver has given us access to its SFU. noDeviceTokens: until then it is not asked for that, in milliseconds since 1970.
	deviceTokens   atomic.Bool
	noDeviceTokens atomic.Int64
	advised        [advices]sync.Once
	done           chan struct{} // closed when Run has returned

	mu    sync.Mutex // guards what follows
	calls map[id.RoomID]*Call
	ended bool
	stats Stats

	// What follows belongs to Run's goroutine. ctx and self are set before other goroutines read them.
	ctx            context.Context
	tasks          sync.WaitGroup
	self           bot.Device
	roster         *membership.Roster
	keys           mediakeys.Received
	rings          *ring.Tracker
	invalidRings   uint64
	refusedRings   uint64
	waitingToRing  []*ringRequest
	active         map[id.RoomID]*Call
	versions       knownVersions
	staleRemovalAt map[stateKey]time.Time // when a membership that belongs to no call is removed
}

// knownVersions is the homeserver's answer to /versions, for some time.
type knownVersions struct {
	delayed bool // it has delayed events
	until   time.Time
}

// NewManager checks the configuration and registers its handlers with the bot. Nothing else happens before [Manager.Run].
func NewManager(cfg Config) (*Manager, error) {
	switch {
	case cfg.Bot == nil:
		return nil, errors.New("calls: there is no bot")
	case cfg.DB == nil:
		return nil, errors.New("calls: there is no database")
	}
	if cfg.Allowed == nil {
		cfg.Allowed = addrpolicy.Public
	}
	client := transport.NewClient(bot.NewHTTPClient(), bot.NewGuardedHTTPClient(cfg.Allowed))
	m, err := newManager(cfg, &matrix{bot: cfg.Bot, client: client, requests: request.New(cfg.Bot.Client)}, membership.DelayedLeaves{DB: cfg.DB}, client)
	if err != nil {
		return nil, err
	}
	for _, t := range []event.Type{
		event.StateCreate, event.StateMember, event.StateEncryption, event.StateServerACL, typeMember, typeSlot, typeSticky, typeRing,
		typeDecline, event.CallInvite,
	} {
		cfg.Bot.On(t, func(_ context.Context, e *event.Event) { m.handleEvent(e) })
	}
	cfg.Bot.OnToDevice(typeKeys, func(_ context.Context, e bot.ToDevice) { m.handleKey(e) })
	return m, nil
}

func newManager(cfg Config, hs homeserver, leaves membership.LeaveStore, client *transport.Client) (*Manager, error) {
	if cfg.OnMembers == nil {
		return nil, errors.New("calls: OnMembers is missing")
	}
	if cfg.OnRing == nil {
		cfg.OnRing = func(Ring) {}
	}
	if cfg.OnDecline == nil {
		cfg.OnDecline = func(Decline) {}
	}
	if cfg.OnLegacyCall == nil {
		cfg.OnLegacyCall = func(id.RoomID, id.UserID) {}
	}
	m := &Manager{
		cfg: cfg, hs: hs, leaves: leaves, client: client, queue: queue.New[func()](), done: make(chan struct{}), rings: ring.NewTracker(),
		calls: make(map[id.RoomID]*Call), active: make(map[id.RoomID]*Call), staleRemovalAt: make(map[stateKey]time.Time),
		known: make(map[string]bool),
	}
	if cfg.FallbackService != "" {
		var ok bool
		if m.fallback, ok = transport.ServiceURL(cfg.FallbackService); !ok {
			return nil, errors.New("calls: the fall-back livekit_service_url is neither https nor on this machine")
		}
		m.known[m.fallback] = true
	}
	for _, service := range cfg.KnownServices {
		normal, ok := transport.ServiceURL(service)
		if !ok {
			return nil, errors.New("calls: a known livekit_service_url is neither https nor on this machine")
		}
		m.known[normal] = true
	}
	return m, nil
}

// Join enters the call of a room. It returns at once. What happens next is told to opts.OnEvent. An error means that the room's call was entered
// before and not left yet ([ErrInCall]), or that the manager has ended ([ErrClosed]).
func (m *Manager) Join(room id.RoomID, opts JoinOptions) (*Call, error) {
	if opts.OnEvent == nil {
		return nil, errors.New("join call: OnEvent is missing")
	}
	if opts.Intent != "" && opts.Intent != "video" && opts.Intent != "audio" {
		return nil, fmt.Errorf("join call: unknown intent %q", opts.Intent)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.ended:
		return nil, fmt.Errorf("join call in %s: %w", room, ErrClosed)
	case m.calls[room] != nil:
		return nil, fmt.Errorf("join call in %s: %w", room, ErrInCall)
	}
	call := &Call{
		m: m, room: room, opts: opts, log: m.cfg.Log.With().Stringer("room_id", room).Logger(), left: make(chan struct{}),
	}
	call.leaving, call.leave = context.WithCancel(context.Background())
	m.calls[room] = call
	m.queue.Put(func() { m.startCall(call) })
	return call, nil
}

// SetWindows says which users are the network's windows. They come first in every call, and nothing that others write takes their places.
func (m *Manager) SetWindows(users []id.UserID) {
	users = slices.Clone(users)
	m.queue.Put(func() { m.roster.SetWindows(users) })
}

// Stats returns the counters as they were a moment ago.
func (m *Manager) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stats
}

// Run watches and keeps calls until ctx ends. It then leaves them, which takes up to five seconds, and returns nil. It may be called
// once, when the bot has been started; before that it returns an error.
func (m *Manager) Run(ctx context.Context) error {
	defer close(m.done)
	m.ctx, m.self = ctx, m.hs.Self()
	if m.self.User == "" || m.self.ID == "" {
		return errors.New("watch calls: the bot was not started before")
	}
	m.roster = membership.NewRoster(m.self)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-m.queue.Ready():
		case <-timer.C:
		}
		for _, f := range m.queue.Take() {
			f()
		}
		wake := m.advance(time.Now())
		timer.Stop()
		wait := longestWait
		if !wake.IsZero() {
			wait = min(wait, time.Until(wake))
		}
		timer.Reset(max(wait, 0))
	}
	m.mu.Lock()
	m.ended = true
	m.mu.Unlock()
	for _, f := range m.queue.Take() {
		f() // a call that was joined a moment ago is started, so that it is left like the others
	}
	for _, call := range m.active {
		call.begin()
	}
	m.tasks.Wait()
	return nil
}

// advance does what the time and the events so far ask for, and returns when to look again.
func (m *Manager) advance(now time.Time) time.Time {
	for _, change := range m.roster.Changes(now) {
		m.cfg.Log.Debug().Stringer("room_id", change.Room).Int("members", len(change.Members)).Msg("Members of the call have changed")
		m.cfg.OnMembers(change.Room, change.Members, change.Ended)
		if call := m.active[change.Room]; call != nil && !call.over {
			call.shareKeys(now, change.Members, false)
		}
	}
	wake := m.roster.Wake()
	for _, call := range m.active {
		inside := m.roster.Inside(call.room)
		if call.inside && !inside {
			call.publisher.Fail(ErrNotJoined)
			m.failCall(call, ErrNotJoined)
		}
		call.inside = inside
		if !call.over {
			wake = backoff.Earlier(wake, m.advanceKeys(now, call))
		}
	}
	m.answerRingRequests()
	wake = backoff.Earlier(wake, m.removeStale(now))
	m.updateStats()
	return wake
}

func (m *Manager) updateStats() {
	s := Stats{
		DroppedEvents: m.dropped.Load(), InvalidRings: m.invalidRings, RefusedRings: m.refusedRings, DroppedRings: m.rings.Dropped(),
	}
	s.InvalidMembers, s.DroppedMembers = m.roster.Counts()
	s.InvalidKeys, s.DroppedKeys = m.keys.Counts()
	m.mu.Lock()
	m.stats = s
	m.mu.Unlock()
}

// startCall makes the first media key, and begins to enter the call.
func (m *Manager) startCall(call *Call) {
	now := time.Now()
	m.active[call.room] = call
	m.forgetStale(call.room)
	call.keys = mediakeys.NewDistribution(now)
	m.keys.Uninstall(call.room)
	call.use(call.keys.Current())
	cfg := membership.PublisherConfig{
		Room: call.room, Self: m.self, Intent: call.opts.Intent,
		Stale:      slices.Contains(m.roster.Own(now, call.room), membership.StateKey(m.self)),
		Homeserver: m.hs, Leaves: m.leaves, Observer: observer{call}, Log: call.log,
	}
	if now.Before(m.versions.until) {
		cfg.Delayed = &m.versions.delayed
	}
	call.publisher = membership.NewPublisher(cfg)
	encrypted := m.roster.Encrypted(call.room)
	// Requests end when the call has been left, which is soon after Run's context has ended.
	ctx := context.WithoutCancel(m.ctx)
	m.tasks.Go(func() {
		if !encrypted {
			call.demandEncryption(ctx)
		}
		call.err = call.publisher.Run(ctx, call.leaving)
		m.mu.Lock()
		delete(m.calls, call.room)
		m.mu.Unlock()
		close(call.left)
	})
	m.tasks.Go(call.discover)
	call.log.Info().Msg("Entering the call")
}

// endCall is the manager's part of leaving: no further events, and the keys are forgotten.
func (m *Manager) endCall(call *Call) {
	if m.active[call.room] != call {
		return
	}
	call.over = true
	m.keys.Forget(call.room)
	m.tasks.Go(func() {
		<-call.left
		m.queue.Put(func() {
			if m.active[call.room] == call {
				delete(m.active, call.room)
			}
			call.log.Info().AnErr("leave_error", call.err).Msg("Left the call")
		})
	})
}

// failCall reports why a call cannot go on.
func (m *Manager) failCall(call *Call, err error) {
	if call.over {
		return
	}
	call.over = true
	call.opts.OnEvent(Event{Kind: Failed, Err: err})
}
