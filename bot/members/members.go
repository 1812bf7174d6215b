package members

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/backoff"
	"multifactorymodel.org/ewindow/bot/matrixerror"
	"multifactorymodel.org/ewindow/bot/privatefile"
	"multifactorymodel.org/ewindow/turnserver/limit"
)

const (
	// device is always the same, so that logging in again makes no second one.
	device = "EWINDOWHUB"
	// syncWait is how long the homeserver waits for something new.
	syncWait = 30 * time.Second
	// joinWait is how long Joined waits for somebody whose join is still under way to us. After rereadWait, all rooms are read anew.
	joinWait, rereadWait = 3 * time.Second, time.Second
	// refuseWait is how long an invitation by somebody who is no admin waits until it is refused: a window may announce its room a moment later.
	refuseWait = 10 * time.Second
	// maxRefusals is how often we try to refuse one.
	maxRefusals = 6
	// maxSyncFailures is how often in a row sync may fail until we log in again.
	maxSyncFailures = 5
	// keysWait is how long DeviceKey waits for another homeserver.
	keysWait = 5 * time.Second
	// inviteWait is how long an invitation by somebody of another homeserver waits. If ours is in the room already, it gets the invitation twice: by
	// itself, and as a part of the room. Dendrite rejects a join that comes before the second one, and may never see us in the room then.
	inviteWait = time.Second
	// joinLimit bounds joining a room. A room of another homeserver takes long.
	joinLimit = 2 * time.Minute
	// runningWait is how often it is looked whether a join has ended.
	runningWait = time.Second
	// maxIntroductions is how often our membership is sent again because a room can't be joined.
	maxIntroductions = 3
	// maxRooms is how many rooms are followed, maxJoining how many are joined at the same time, maxMembers how many members a room has for us.
	maxRooms   = 1024
	maxJoining = 4
	maxMembers = 10_000
	// rereadRate is how many times each second a refusal lets all rooms be read anew, after a burst of rereadBurst.
	rereadRate, rereadBurst = 0.1, 3
	// joinRate is how many rooms that one account announces are joined each second, after a burst of joinBurst.
	joinRate, joinBurst = 0.1, 6
)

// Config is what a Members needs. All but OnChange are required.
type Config struct {
	// HomeserverURL is the homeserver of the hub's account. Username and Password are the account's.
	HomeserverURL, Username, Password string
	// Admins are the users whose invitations are accepted.
	Admins []id.UserID
	// File keeps the rooms that admins have invited us to, and the windows that they have taken down.
	File string
	// OnChange is called from Run's goroutine after something has changed. It must not block.
	OnChange func()
	Log      zerolog.Logger
}

// Members knows who belongs to the network. Its methods may be called from any goroutine.
type Members struct {
	cfg    Config
	client atomic.Pointer[mautrix.Client] // of the present login, nil before the first one

	rereads   *rate.Limiter
	interrupt atomic.Pointer[context.CancelFunc] // ends the present sync request, so that all rooms are read anew; nil: they are being read

	mu      sync.RWMutex // guards what follows, which only Run's goroutine changes
	rooms   map[id.RoomID]*room
	kept    kept
	changed chan struct{}

	// What follows belongs to Run's goroutine.
	http   *http.Client
	joins  map[id.RoomID]*attempt
	leaves map[id.RoomID]*attempt
	// announcers limits how often rooms are joined, by who announces them, and joining how many joins are under way. The network's own rooms are
	// counted each by its name.
	announcers *limit.Rate[string]
	joining    *limit.Semaphore[string]
	// introductions are when to say again that we are a hub, by the network's room.
	introductions map[id.RoomID]*attempt
	// anewAt is when all rooms are to be read anew, zero for never.
	anew   backoff.Backoff
	anewAt time.Time
	// refusals are invitations that are to be refused, inviters those who sent them.
	refusals map[id.RoomID]*attempt
	inviters map[id.RoomID]id.UserID
	tasks    sync.WaitGroup
}

// kept is what is kept over a restart.
type kept struct {
	// Roots are the rooms that admins have invited us to.
	Roots []id.RoomID `json:"roots"`
	// Down are the windows that admins have taken out of the Space's list. Others may overwrite the entry later.
	Down []down `json:"down,omitempty"`
}

// down is a window that an admin has taken down: its room, and the account that announced this room then, "" for none.
type down struct {
	Room  id.RoomID `json:"room"`
	Kiosk id.UserID `json:"kiosk,omitempty"`
}

// New checks the configuration. It starts nothing.
func New(cfg Config) (*Members, error) {
	switch {
	case cfg.HomeserverURL == "" || cfg.Username == "" || cfg.Password == "" || cfg.File == "":
		return nil, errors.New("members: the account of the hub is not complete")
	case cfg.OnChange == nil:
		cfg.OnChange = func() {}
	}
	if _, err := mautrix.NewClient(cfg.HomeserverURL, "", ""); err != nil {
		return nil, fmt.Errorf("members: %w", err)
	}
	return &Members{
		cfg: cfg, http: &http.Client{Timeout: syncWait + joinLimit}, rooms: make(map[id.RoomID]*room), changed: make(chan struct{}),
		joins: make(map[id.RoomID]*attempt), leaves: make(map[id.RoomID]*attempt), refusals: make(map[id.RoomID]*attempt), inviters: make(map[id.RoomID]id.UserID),
		rereads: rate.NewLimiter(rereadRate, rereadBurst), anew: backoff.Backoff{Min: time.Second, Max: time.Hour}, introductions: make(map[id.RoomID]*attempt),
		announcers: limit.NewRate[string](joinRate, joinBurst), joining: limit.NewSemaphore[string](maxJoining, 1),
	}, nil
}

// Joined says whether a user is in a window's room. Somebody who has just joined may be known here a moment later, so it waits for up to four seconds. After
// the first one, all rooms are read anew, since a sync of Dendrite may have left something out. Nobody can cause that again and again.
func (m *Members) Joined(ctx context.Context, user id.UserID, room id.RoomID) bool {
	if m.awaitJoined(ctx, user, room, rereadWait) {
		return true
	}
	if interrupt := m.interrupt.Load(); interrupt != nil && m.rereads.Allow() {
		(*interrupt)()
	}
	return m.awaitJoined(ctx, user, room, joinWait)
}

func (m *Members) awaitJoined(ctx context.Context, user id.UserID, room id.RoomID, limit time.Duration) bool {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	for {
		m.mu.RLock()
		joined, changed := m.joinedLocked(user, room), m.changed
		m.mu.RUnlock()
		if joined {
			return true
		}
		select {
		case <-changed:
		case <-deadline.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// IsJoined says whether a user is in a window's room, as far as is known now.
func (m *Members) IsJoined(user id.UserID, room id.RoomID) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.joinedLocked(user, room)
}

// IsKiosk says whether a user announces a room of theirs as a window of the network, as far as is known now. We need not be in that room.
func (m *Members) IsKiosk(user id.UserID) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return slices.ContainsFunc(m.kept.Roots, func(root id.RoomID) bool {
		r := m.rooms[root]
		return r != nil && r.window(user).Room != ""
	})
}

// Belongs says whether a user is in any window's room, or a window.
func (m *Members) Belongs(user id.UserID) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for name, r := range m.rooms {
		if r.joined[user] && m.isWindowLocked(name) {
			return true
		}
	}
	return false
}

// Users lists all users who are in a window's room.
func (m *Members) Users() []id.UserID {
	m.mu.RLock()
	defer m.mu.RUnlock()
	users := make(map[id.UserID]bool)
	for name, r := range m.rooms {
		if m.isWindowLocked(name) {
			for user := range r.joined {
				users[user] = true
			}
		}
	}
	return slices.Collect(maps.Keys(users))
}

func (m *Members) joinedLocked(user id.UserID, room id.RoomID) bool {
	r := m.rooms[room]
	return r != nil && r.joined[user] && m.isWindowLocked(room)
}

// DeviceKey returns the Ed25519 key of a user's device, "" if their homeserver knows no such device. It waits for that homeserver.
func (m *Members) DeviceKey(ctx context.Context, user id.UserID, device id.DeviceID) (id.Ed25519, error) {
	client := m.client.Load()
	if client == nil {
		return "", errors.New("look up the key of a device: the hub's account has not logged in yet")
	}
	answer, err := client.QueryKeys(mautrix.WithMaxRetries(ctx, 0), &mautrix.ReqQueryKeys{
		DeviceKeys: mautrix.DeviceKeysRequest{user: {device}}, Timeout: keysWait.Milliseconds(),
	})
	if err != nil {
		return "", fmt.Errorf("look up the key of a device: %w", matrixerror.FromMautrix(err))
	}
	keys := answer.DeviceKeys[user][device]
	if keys.UserID != user || keys.DeviceID != device {
		return "", nil
	}
	return keys.Keys.GetEd25519(device), nil
}

// Why says in plain words why a user gets no access to a room's call, for the log. It is empty if they do.
func (m *Members) Why(user id.UserID, room id.RoomID) string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	r := m.rooms[room]
	announced := slices.ContainsFunc(m.kept.Roots, func(root id.RoomID) bool { return m.rooms[root] != nil && m.rooms[root].announcer(room) != "" })
	switch {
	case m.joinedLocked(user, room):
		return ""
	case len(m.kept.Roots) == 0:
		return "no admin has invited the hub's account into the network"
	case r == nil && announced:
		return "the hub's account is not in this window's room yet"
	case r == nil:
		return "no window of the network has this room"
	case r.kiosk == "" || !r.joined[r.kiosk]:
		return "the hub's account does not see the window of this room"
	case !m.isWindowLocked(room):
		return "the account of this room's window is not in the network, announces another room, or was taken down by an admin"
	}
	return "the user is not in this room"
}

// isWindowLocked says whether a room is a window's: one of the network announces it, or the room that it was upgraded to, and that is its kiosk.
func (m *Members) isWindowLocked(name id.RoomID) bool {
	r := m.rooms[name]
	if r == nil || r.kiosk == "" || !r.joined[r.kiosk] {
		return false
	}
	return slices.ContainsFunc(m.kept.Roots, func(root id.RoomID) bool {
		return m.hasWindowLocked(root, r.kiosk, name) || r.replacement != "" && m.hasWindowLocked(root, r.kiosk, r.replacement)
	})
}

// hasWindowLocked says whether a kiosk announces a room, and no admin took that out of the Space's list, or the kiosk out of the Space. Only the Space shows
// the latter, so it is not seen as long as we can't join the Space.
func (m *Members) hasWindowLocked(root id.RoomID, kiosk id.UserID, name id.RoomID) bool {
	r := m.rooms[root]
	if r == nil || r.window(kiosk).Room != name || slices.ContainsFunc(m.kept.Down, func(d down) bool { return d.Room == name || d.Kiosk == kiosk }) {
		return false
	}
	if next := m.rooms[r.replacement]; next != nil && next.network { // the network has moved
		return false
	}
	space := m.rooms[r.space]
	return space == nil || space.joined[kiosk]
}

// Run logs in and follows the rooms until ctx ends. It returns nil then.
func (m *Members) Run(ctx context.Context) error {
	defer m.tasks.Wait()
	if err := m.load(); err != nil {
		return err
	}
	pause := backoff.Backoff{Min: 250 * time.Millisecond, Max: 10 * time.Second}
	for ctx.Err() == nil {
		err := m.follow(ctx, pause.Reset)
		if ctx.Err() != nil {
			return nil
		}
		m.cfg.Log.Warn().Err(err).Msg("The hub's account can't see who belongs to the network, trying again")
		select {
		case <-time.After(pause.Next()):
		case <-ctx.Done():
		}
	}
	return nil
}

// invitations returns the rooms that an admin invites us to, and notes those that are to be refused. The caller holds the lock.
func (m *Members) invitations(response *mautrix.RespSync) (rooms []id.RoomID) {
	wanted := m.wanted()
	for name, invited := range response.Rooms.Invite {
		for _, e := range invited.State.Events {
			if e.Type.Type != event.StateMember.Type || e.GetStateKey() != m.self().String() {
				continue
			}
			if _, window := wanted[name]; window { // a window's kiosk invites us, since we may be unable to join otherwise
				if a := m.joins[name]; a != nil {
					a.next = m.afterInvite(e.Sender)
				}
				continue
			}
			if !slices.Contains(m.cfg.Admins, e.Sender) {
				if m.refusals[name] == nil && len(m.refusals) < maxRooms {
					m.cfg.Log.Info().Stringer("user_id", e.Sender).Stringer("room_id", name).
						Msg("Somebody who is not in network.admins invites the hub's account, which does not accept")
					m.refusals[name] = newAttempt()
					m.refusals[name].next, m.inviters[name] = time.Now().Add(refuseWait), e.Sender
				}
				continue
			}
			rooms = append(rooms, name)
			if m.joins[name] == nil {
				m.joins[name] = newAttempt()
				m.joins[name].next = m.afterInvite(e.Sender)
			}
		}
	}
	return rooms
}

// afterInvite is when to join a room that a user has just invited us to.
func (m *Members) afterInvite(by id.UserID) time.Time {
	if by.Homeserver() == m.self().Homeserver() {
		return time.Time{}
	}
	return time.Now().Add(inviteWait)
}

// load reads what was kept.
func (m *Members) load() error {
	text, err := privatefile.Read(m.cfg.File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var k kept
	if err == nil {
		err = json.Unmarshal([]byte(text), &k)
	}
	if err != nil {
		return fmt.Errorf("read which rooms are the network's: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept = k
	return nil
}

func (m *Members) save(k kept) error {
	text, err := json.Marshal(k)
	if err == nil {
		err = privatefile.Write(m.cfg.File, text)
	}
	if err != nil {
		return fmt.Errorf("keep which rooms are the network's: %w", err)
	}
	return nil
}
