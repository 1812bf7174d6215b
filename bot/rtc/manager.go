package rtc

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
)

const (
	// staleGrace is how long an own membership that belongs to no call may stand before it is removed.
	staleGrace = 3 * time.Second
	staleRetry = time.Minute
	// longestWait caps the sleep of Run, so that a clock that was set does no lasting harm.
	longestWait = 10 * time.Minute
)

// Config is what a Manager is made of. Bot and OnMembers are required.
type Config struct {
	// Bot is the Matrix user. It must not have been started.
	Bot Bot
	// HTTPClient is for authorisation services and .well-known files; nil means one of our own.
	HTTPClient *http.Client
	// FallbackService is the livekit_service_url for a homeserver that names none; it may be empty.
	FallbackService string
	// OnMembers takes all valid foreign members of a room's call, oldest first, each time they change. It is called from Run's
	// goroutine and must not block.
	OnMembers func(room id.RoomID, members []Member)
	// OnRing, OnDecline and OnLegacyCall take calls of us, answers to [Manager.Ring], and calls of the old kind (m.call.invite), which were
	// answered with a reject. They are called as OnMembers is, and may be nil.
	OnRing       func(Ring)
	OnDecline    func(Decline)
	OnLegacyCall func(room id.RoomID, sender id.UserID)
	Log          zerolog.Logger
}

// Stats counts what was refused or left out since the start.
type Stats struct {
	InvalidMembers uint64 // memberships that could not be read
	DroppedMembers uint64 // memberships and rooms beyond a cap
	InvalidKeys    uint64 // media keys that could not be read, or came from another device than they claim
	DroppedKeys    uint64 // media keys beyond a cap
	DroppedEvents  uint64 // events that came while far too many waited
	InvalidRings   uint64 // rings, declines and legacy calls that could not be read
	RefusedRings   uint64 // those that came in the clear, too late, or from someone who isn't in the room
	DroppedRings   uint64 // rings and legacy calls beyond a cap
}

// Manager watches the calls of all joined rooms and enters them. Its methods may be called from any goroutine.
type Manager struct {
	cfg      Config
	hs       homeserver
	web      *web
	bot      Bot
	fallback string
	queue    *queue
	hinted   [hints]sync.Once
	done     chan struct{} // closed when Run has returned

	mu     sync.Mutex // guards what follows
	calls  map[id.RoomID]*Call
	ended  bool
	stats  Stats
	owners map[*Call]string // own transport of each call

	// What follows belongs to Run's goroutine; self is set before it is read elsewhere.
	ctx     context.Context
	tasks   sync.WaitGroup
	self    bot.Device
	roster  *roster
	keys    keyStore
	ringer  ringer
	askers  []*asker
	invalid uint64
	active  map[id.RoomID]*Call
	delayed knownFeature
	stale   map[place]time.Time // when a membership that nobody is in a call by is removed
}

// place is where a membership stands.
type place struct {
	room id.RoomID
	key  string
}

// knownFeature remembers /versions for some time.
type knownFeature struct {
	delayed bool
	until   time.Time
}

// featureLife is how long an answer of /versions is trusted.
const featureLife = 10 * time.Minute

// NewManager checks the configuration and registers its handlers with the bot. Nothing else happens before [Manager.Run].
func NewManager(cfg Config) (*Manager, error) {
	if cfg.Bot == nil {
		return nil, errors.New("calls: there is no bot")
	}
	web := newWeb(cfg.HTTPClient)
	m, err := newManager(cfg, &matrix{bot: cfg.Bot, web: web}, web)
	if err != nil {
		return nil, err
	}
	m.bot = cfg.Bot
	for _, t := range []event.Type{event.StateCreate, event.StateMember, event.StateEncryption, event.StateServerACL, typeMember, typeSlot, typeSticky, typeRing, typeDecline, event.CallInvite} {
		cfg.Bot.On(t, func(_ context.Context, e *event.Event) { m.handleEvent(e) })
	}
	cfg.Bot.OnToDevice(typeKeys, func(_ context.Context, e bot.ToDevice) { m.handleKey(e) })
	return m, nil
}

func newManager(cfg Config, hs homeserver, web *web) (*Manager, error) {
	if cfg.OnMembers == nil {
		return nil, errors.New("calls: there is no one to take the members")
	}
	m := &Manager{
		cfg: cfg, hs: hs, web: web, queue: newQueue(), done: make(chan struct{}), ringer: newRinger(),
		calls: make(map[id.RoomID]*Call), owners: make(map[*Call]string),
		active: make(map[id.RoomID]*Call), stale: make(map[place]time.Time),
	}
	if cfg.FallbackService != "" {
		var ok bool
		if m.fallback, ok = normalise(cfg.FallbackService); !ok {
			return nil, errors.New("calls: the fall-back livekit_service_url is neither https nor on this machine")
		}
	}
	return m, nil
}

// handleEvent takes an event of the bot. It runs in the bot's goroutine and only copies what is needed.
func (m *Manager) handleEvent(e *event.Event) {
	if e.RoomID == "" || e.Mautrix.EventSource&event.SourceInvite != 0 {
		return
	}
	if e.StateKey != nil && e.Mautrix.IgnoreState {
		return // the state after the time line comes by itself (MSC4222)
	}
	head := header{id: e.ID, sender: e.Sender, ts: e.Timestamp}
	room, content := e.RoomID, rawContent(e)
	gone := e.Mautrix.EventSource&event.SourceLeave != 0
	if e.Type.Type == typeSticky.Type {
		if left := bot.StickyLeft(time.Now(), e); left > 0 && !gone {
			m.queue.offer(func() { m.roster.setSticky(time.Now(), room, head, left, content) })
		}
		return
	}
	if e.StateKey == nil {
		if !gone {
			m.handleMessage(e, head, content)
		}
		return
	}
	key := *e.StateKey
	switch e.Type.Type {
	case event.StateMember.Type:
		o, _ := parseObject(content)
		membership, _ := o.text("membership", maxName)
		m.queue.offer(func() { m.setMember(room, id.UserID(key), event.Membership(membership), gone) })
	case event.StateCreate.Type:
		if !gone && key == "" {
			m.queue.offer(func() { m.roster.setCreator(room, head.sender) })
		}
	case event.StateEncryption.Type:
		if !gone && key == "" {
			m.queue.offer(func() { m.roster.setEncrypted(room) })
		}
	case event.StateServerACL.Type:
		if !gone && key == "" {
			m.queue.offer(func() { m.roster.setACL(room, content) })
		}
	case typeSlot.Type:
		if !gone && key == slotID {
			m.queue.offer(func() { m.roster.setSlot(room, content) })
		}
	case typeMember.Type:
		if !gone {
			m.queue.offer(func() { m.setState(room, key, head, content) })
		}
	}
}

// rawContent is an event's content as it came.
func rawContent(e *event.Event) []byte {
	if len(e.Content.VeryRaw) > 0 || e.Content.Raw == nil {
		return e.Content.VeryRaw
	}
	data, err := json.Marshal(e.Content.Raw)
	if err != nil {
		return nil
	}
	return data
}

// handleKey takes an Olm-encrypted media key. It runs in the bot's goroutine.
func (m *Manager) handleKey(e bot.ToDevice) {
	m.queue.offer(func() {
		key, err := parseKey(e.From, e.Content)
		if err != nil {
			m.invalid++
			m.cfg.Log.Debug().Err(err).Stringer("user_id", e.From.User).Stringer("device_id", e.From.ID).Msg("Media key dropped")
			return
		}
		// It may overtake everything that sync tells of its room, so that the room need not be known.
		m.keys.add(time.Now(), e.From, key, m.present, m.joined)
	})
}

// present says whether a device is in a room's call, joined whether its user is in the room.
func (m *Manager) present(name id.RoomID, device bot.Device) bool {
	rm := m.roster.rooms[name]
	return rm != nil && slices.ContainsFunc(rm.members, func(other Member) bool { return other.device() == device })
}

func (m *Manager) joined(name id.RoomID, device bot.Device) bool {
	rm := m.roster.rooms[name]
	if rm == nil {
		return false
	}
	return rm.has(device.User)
}

func (m *Manager) setMember(room id.RoomID, user id.UserID, membership event.Membership, gone bool) {
	// Of the rooms that we are in sync tells our leaving only when we have come back since: what it has said of the room holds. Of a room
	// that we aren't in any more nobody else matters.
	if own := user == m.self.User; own && !gone && membership != event.MembershipJoin || !own && gone {
		return
	}
	m.roster.setMember(room, user, membership)
}

// setState takes a membership, and lets a call know what became of its own.
func (m *Manager) setState(room id.RoomID, key string, head header, content []byte) {
	member := m.roster.setState(time.Now(), room, key, head, content)
	if call := m.active[room]; call != nil && key == stateKey(m.self) {
		present := member != nil && member.id() == m.self
		call.inbox.put(func() { call.announcer.seen(head.id, head.ts, present) })
	}
}

// Join enters the call of a room. It returns at once; what follows is told to opts.OnEvent. An error means that the room's call was
// entered before and not left yet ([ErrInCall]), or that the manager has ended ([ErrClosed]).
func (m *Manager) Join(room id.RoomID, opts JoinOptions) (*Call, error) {
	if opts.OnEvent == nil {
		return nil, errors.New("join call: there is no one to take its events")
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
		m: m, room: room, opts: opts, log: m.cfg.Log.With().Stringer("room_id", room).Logger(),
		inbox: newQueue(), left: make(chan struct{}),
	}
	call.leaving, call.leave = context.WithCancel(context.Background())
	m.calls[room] = call
	m.queue.put(func() { m.startCall(call) })
	return call, nil
}

// Stats returns the counters as they were a moment ago.
func (m *Manager) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stats
}

// Run watches and keeps calls until ctx ends; it then leaves them, which takes up to five seconds, and returns nil. It may be called
// once, when the bot has been started; before that it returns an error.
func (m *Manager) Run(ctx context.Context) error {
	defer close(m.done)
	m.ctx = ctx
	if m.bot != nil {
		m.self = bot.Device{User: m.bot.UserID(), ID: m.bot.DeviceID()}
		if m.self.User == "" || m.self.ID == "" {
			return errors.New("watch calls: the bot was not started before")
		}
	}
	m.roster = newRoster(m.self)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-m.queue.signal:
		case <-timer.C:
		}
		for _, f := range m.queue.take() {
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
	for _, f := range m.queue.take() {
		f() // a call that was joined just now has to end in order
	}
	for _, call := range m.active {
		call.begin()
	}
	m.tasks.Wait()
	return nil
}

// advance does what the time and the events so far ask for, and returns when to look again.
func (m *Manager) advance(now time.Time) time.Time {
	for _, change := range m.roster.changes(now) {
		m.cfg.Log.Debug().Stringer("room_id", change.room).Int("members", len(change.members)).Msg("Members of the call have changed")
		m.cfg.OnMembers(change.room, change.members)
		if call := m.active[change.room]; call != nil && !call.over {
			call.rollout.setMembers(now, change.members)
		}
	}
	wake := m.roster.wake()
	for _, call := range m.active {
		inside := m.roster.inside(call.room)
		if call.inside && !inside {
			call.inbox.put(func() { call.announcer.err = ErrNotJoined })
			m.failCall(call, ErrNotJoined)
		}
		call.inside = inside
		if !call.over {
			wake = earlier(wake, m.advanceKeys(now, call))
		}
	}
	m.answerAskers()
	wake = earlier(wake, m.removeStale(now))
	m.mu.Lock()
	m.stats = Stats{
		InvalidMembers: m.roster.invalid, DroppedMembers: m.roster.dropped,
		InvalidKeys: m.invalid, DroppedKeys: m.keys.drops, DroppedEvents: m.queue.drops(),
		InvalidRings: m.ringer.invalid, RefusedRings: m.ringer.refused, DroppedRings: m.ringer.heard.drops + m.ringer.legacy.drops,
	}
	m.mu.Unlock()
	return wake
}

// advanceKeys installs keys, sends own ones and switches to new ones.
func (m *Manager) advanceKeys(now time.Time, call *Call) time.Time {
	for _, e := range m.keys.installable(now, call.room, m.members(call.room)) {
		call.opts.OnEvent(e)
	}
	if key, ok := call.rollout.use(now); ok {
		call.opts.OnEvent(Event{Kind: UseKey, Index: key.index, Material: slices.Clone(key.material)})
	}
	// Each homeserver for itself: one that doesn't answer must not keep the others waiting.
	servers := make(map[string][]*target)
	for _, t := range call.rollout.due(now) {
		server := t.device.User.Homeserver()
		servers[server] = append(servers[server], t)
	}
	key := call.rollout.current
	for _, targets := range servers {
		m.tasks.Go(func() { call.sendKey(m.ctx, key, targets) })
	}
	return call.rollout.wake()
}

func (m *Manager) members(room id.RoomID) []Member {
	if rm := m.roster.rooms[room]; rm != nil {
		return rm.members
	}
	return nil
}

// keySent takes the result of sendKey.
func (m *Manager) keySent(call *Call, key ownKey, targets []*target, failed map[bot.Device]error) {
	now, delivered := time.Now(), 0
	for _, t := range targets {
		err := failed[t.device]
		ok, withheld := call.rollout.sent(now, t, err)
		if call.over {
			continue
		}
		log := call.log.With().Stringer("user_id", t.device.User).Stringer("device_id", t.device.ID).Logger()
		switch {
		case ok:
			delivered++
		case withheld:
			log.Warn().Err(err).Msg("A device that its owner has not verified gets no media key")
			call.opts.OnEvent(Event{Kind: Withheld, User: t.device.User, Device: t.device.ID})
		case err != nil && !errors.Is(err, bot.ErrUntrusted):
			log.Warn().Err(err).Msg("A media key was not delivered, trying again")
		}
	}
	if delivered > 0 && !call.over {
		call.log.Debug().Int("devices", delivered).Uint8("index", key.index).Msg("Media key sent")
		call.opts.OnEvent(Event{Kind: KeySent, Index: key.index})
	}
}

// newMediaKey makes a key of the length that everybody uses today.
func newMediaKey() []byte {
	key := make([]byte, minKey)
	_, _ = rand.Read(key) // it never fails
	return key
}

// startCall makes key 0, gives it to the present members, and begins to enter the call.
func (m *Manager) startCall(call *Call) {
	now := time.Now()
	m.active[call.room] = call
	maps.DeleteFunc(m.stale, func(p place, _ time.Time) bool { return p.room == call.room })
	call.rollout = newRollout(now, newMediaKey)
	call.rollout.setMembers(now, m.members(call.room))
	m.keys.uninstall(call.room)
	call.opts.OnEvent(Event{Kind: UseKey, Index: call.rollout.current.index, Material: slices.Clone(call.rollout.current.material)})
	rm := m.roster.rooms[call.room]
	encrypted := rm != nil && rm.encrypted
	a := newAnnouncer(call.room, m.self, call.opts.Intent, slices.Contains(m.roster.own(now, call.room), stateKey(m.self)))
	if now.Before(m.delayed.until) {
		a.done(now, stepVersions, outcome{delayed: m.delayed.delayed})
	}
	call.announcer = a
	// The requests end when the call has been left, which is soon after Run's context has ended.
	ctx := context.WithoutCancel(m.ctx)
	m.tasks.Go(func() {
		call.err = call.publish(ctx, encrypted)
		m.mu.Lock()
		delete(m.calls, call.room)
		delete(m.owners, call)
		m.mu.Unlock()
		close(call.left)
	})
	m.tasks.Go(func() { call.discover(ctx) })
	call.log.Info().Msg("Entering the call")
}

// endCall is the manager's part of leaving: no further events, and the keys are forgotten.
func (m *Manager) endCall(call *Call) {
	if m.active[call.room] != call {
		return
	}
	call.over = true
	m.keys.forget(call.room)
	m.tasks.Go(func() {
		<-call.left
		m.queue.put(func() {
			if m.active[call.room] == call {
				delete(m.active, call.room)
			}
			call.log.Info().AnErr("leave_error", call.err).Msg("Left the call")
		})
	})
}

// failCall reports why a call can't go on.
func (m *Manager) failCall(call *Call, err error) {
	if call.over {
		return
	}
	call.over = true
	call.opts.OnEvent(Event{Kind: Failed, Err: err})
}

func (m *Manager) setService(call *Call, service string) {
	m.mu.Lock()
	m.owners[call] = service
	m.mu.Unlock()
	if !call.over {
		call.opts.OnEvent(Event{Kind: Transport, Service: service})
	}
}

// ownService is a call's own transport, "" while it isn't known.
func (m *Manager) ownService(call *Call) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.owners[call]
}

// removeStale empties memberships that stand though nobody is in a call by them: what this device has left behind in rooms where it is in no
// call, since others would take it for present for hours; and, in rooms of ours, what users have who have left the room, since they may not do
// so themselves any more and would be in the call again as soon as they were back. It returns when to look again.
func (m *Manager) removeStale(now time.Time) time.Time {
	var wake time.Time
	still := make(map[place]time.Time)
	for name := range m.roster.rooms {
		keys := m.roster.leftBehind(now, name)
		if m.active[name] == nil {
			keys = append(keys, m.roster.own(now, name)...)
		}
		var due []string
		for _, key := range keys {
			at, known := m.stale[place{name, key}]
			if !known {
				at = now.Add(staleGrace)
			}
			if !now.Before(at) {
				due = append(due, key)
				at = now.Add(staleRetry)
			}
			still[place{name, key}] = at
			wake = earlier(wake, at)
		}
		if len(due) > 0 {
			m.tasks.Go(func() { m.empty(name, due) })
		}
	}
	m.stale = still
	return wake
}

// Remove empties the membership of a device that is not there, in a room that our account made, so that nobody sees it any more. A client that
// is there after all sees that, and comes again. It returns at once.
func (m *Manager) Remove(room id.RoomID, member Member) {
	m.queue.put(func() {
		if keys := m.roster.keysOf(room, member.device()); len(keys) > 0 {
			m.tasks.Go(func() { m.empty(room, keys) })
		}
	})
}

// empty sends empty memberships.
func (m *Manager) empty(room id.RoomID, keys []string) {
	for _, key := range keys {
		ctx, cancel := context.WithTimeout(m.ctx, requestLimit)
		_, err := m.hs.SendState(ctx, room, key, struct{}{})
		cancel()
		if err != nil {
			m.cfg.Log.Warn().Err(err).Stringer("room_id", room).Msg("An old call membership can't be removed yet")
			return
		}
		m.cfg.Log.Info().Stringer("room_id", room).Msg("An old call membership was removed")
	}
}
