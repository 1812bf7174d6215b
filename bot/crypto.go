package bot

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.mau.fi/util/dbutil"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// openCrypto loads the Olm account, or makes it, and sees to it that the homeserver has the same device keys.
func (b *Bot) openCrypto(ctx context.Context, a *account) error {
	log := libraryLog(b.log)
	b.crypto = crypto.NewSQLCryptoStore(b.cfg.DB, dbutil.ZeroLogger(log), "", a.Device, a.PickleKey)
	if err := upgradeSQL(ctx, "encryption", b.crypto.DB.Upgrade, log); err != nil {
		return err
	}
	mach := crypto.NewOlmMachine(b.client, &log, b.crypto, b.state)
	trust := b.minTrust()
	mach.SendKeysMinTrust, mach.ShareKeysMinTrust = trust, trust
	mach.DisableDecryptKeyFetching = true // it has no time limit; senderDevice and decrypt see to that
	mach.SessionReceived = func(_ context.Context, _ id.RoomID, session id.SessionID, _ uint32) { b.waiting.arrived(session) }
	if err := mach.Load(ctx); err != nil {
		return fmt.Errorf("load the encryption keys: %w", err)
	}
	b.mach = mach
	// mautrix keeps the own identity's public keys in a field without a lock, and clears it whenever the own user's keys are fetched: while
	// others read it, or find nothing and send messages without our signature. In a machine of its own nobody else reads it.
	b.fetcher = crypto.NewOlmMachine(b.client, &log, b.crypto, b.state)
	b.state.rotate = b.crypto.RemoveOutboundGroupSession
	return b.shareKeys(ctx)
}

// minTrust is what a device needs before it gets a key from us, or we take a message from it.
func (b *Bot) minTrust() id.TrustState {
	if b.cfg.AcceptUnsignedDevices {
		return id.TrustStateUnset
	}
	return id.TrustStateCrossSignedTOFU
}

// shareKeys uploads our device keys, unless the homeserver has them.
func (b *Bot) shareKeys(ctx context.Context) error {
	self := b.device()
	keys, err := b.queryDevice(ctx, self)
	if err != nil {
		return err
	}
	account := b.mach.GetAccount()
	if keys != nil {
		if keys.Keys.GetEd25519(self.ID) != account.SigningKey() || keys.Keys.GetCurve25519(self.ID) != account.IdentityKey() {
			return fmt.Errorf("the homeserver knows device %s of %s with other keys than those in the data folder: the two don't belong "+
				"together any more. Empty the data folder, but for the file %s, so that the window gets a new device", self.ID, self.User, recoveryFile)
		}
		account.Shared = true
		return nil
	}
	// The first time, or the device was logged out meanwhile. What others know of it stays true.
	account.Shared = false
	if err := b.mach.ShareKeys(ctx, 0); err != nil {
		return fmt.Errorf("upload the device keys: %w", err)
	}
	return nil
}

// queryDevice asks the homeserver for one of our own devices. It returns nil when there are no keys.
func (b *Bot) queryDevice(ctx context.Context, device Device) (*mautrix.DeviceKeys, error) {
	answer, err := b.client.QueryKeys(ctx, &mautrix.ReqQueryKeys{
		DeviceKeys: mautrix.DeviceKeysRequest{device.User: mautrix.DeviceIDList{device.ID}},
	})
	if err != nil {
		return nil, fmt.Errorf("ask for the own device keys: %w", err)
	}
	keys, ok := answer.DeviceKeys[device.User][device.ID]
	if !ok || len(keys.Keys) == 0 {
		return nil, nil
	}
	return &keys, nil
}

// roomCrypto encrypts what goes to rooms. It implements mautrix.CryptoHelper, so that Client encrypts too.
type roomCrypto struct{ b *Bot }

var _ mautrix.CryptoHelper = (*roomCrypto)(nil)

// Init implements mautrix.CryptoHelper.
func (r *roomCrypto) Init(context.Context) error { return nil }

// Encrypt implements mautrix.CryptoHelper. It shares the room's session with the joined members' devices first, when that is due.
func (r *roomCrypto) Encrypt(ctx context.Context, room id.RoomID, t event.Type, content any) (*event.EncryptedEventContent, error) {
	if !r.b.ready.Load() {
		return nil, errNotStarted
	}
	mach := r.b.mach
	encrypted, err := mach.EncryptMegolmEvent(ctx, room, t, content)
	// Between sharing and encrypting, sync may end the session again.
	for attempt := 0; attempt < 3 && crypto.IsShareError(err); attempt++ {
		if err = r.share(ctx, room); err != nil {
			return nil, err
		}
		encrypted, err = mach.EncryptMegolmEvent(ctx, room, t, content)
	}
	if err != nil {
		return nil, fmt.Errorf("encrypt for room %s: %w", room, err)
	}
	return encrypted, nil
}

// share begins a session of a room and gives its key to the members' devices. A member who leaves while that goes on ends it.
func (r *roomCrypto) share(ctx context.Context, room id.RoomID) error {
	members, err := r.b.Members(ctx, room)
	if err != nil {
		return err
	}
	if err := r.b.mach.ShareGroupSession(ctx, room, members); err != nil {
		return fmt.Errorf("share the session of room %s: %w", room, err)
	}
	after, err := r.b.Members(ctx, room)
	if err != nil {
		return err
	}
	if !slices.Equal(members, after) {
		return r.b.crypto.RemoveOutboundGroupSession(ctx, room)
	}
	return nil
}

// Decrypt implements mautrix.CryptoHelper.
func (r *roomCrypto) Decrypt(ctx context.Context, e *event.Event) (*event.Event, error) {
	if !r.b.ready.Load() {
		return nil, errNotStarted
	}
	return r.b.mach.DecryptMegolmEvent(ctx, e)
}

// WaitForSession implements mautrix.CryptoHelper.
func (r *roomCrypto) WaitForSession(ctx context.Context, room id.RoomID, key id.SenderKey, session id.SessionID, limit time.Duration) bool {
	return r.b.ready.Load() && r.b.mach.WaitForSession(ctx, room, key, session, limit)
}

// RequestSession implements mautrix.CryptoHelper. It asks the sender's device, and our own, for a session's key.
func (r *roomCrypto) RequestSession(
	ctx context.Context, room id.RoomID, key id.SenderKey, session id.SessionID, user id.UserID, device id.DeviceID,
) {
	if !r.b.ready.Load() {
		return
	}
	if device == "" {
		device = "*"
	}
	err := r.b.mach.SendRoomKeyRequest(ctx, room, key, session, "", map[id.UserID][]id.DeviceID{user: {device}})
	if err != nil && ctx.Err() == nil {
		r.b.log.Debug().Err(short(err)).Stringer("room_id", room).Msg("A key could not be asked for")
	}
}

// Send sends an event to a room, encrypted when the room is encrypted.
func (b *Bot) Send(ctx context.Context, room id.RoomID, t event.Type, content any) (id.EventID, error) {
	if !b.ready.Load() {
		return "", errNotStarted
	}
	answer, err := b.client.SendMessageEvent(ctx, room, t, content)
	if err != nil {
		return "", fmt.Errorf("send %s to room %s: %w", t.Type, room, err)
	}
	return answer.EventID, nil
}

// Encrypted says whether a room is encrypted. Of a room that the bot has just joined it fetches the state first.
func (b *Bot) Encrypted(ctx context.Context, room id.RoomID) (bool, error) {
	if !b.ready.Load() {
		return false, errNotStarted
	}
	return b.state.IsEncrypted(ctx, room)
}

// Members lists the joined members of a room, in a stable order. Of a room that the bot has just joined it fetches the state first.
func (b *Bot) Members(ctx context.Context, room id.RoomID) ([]id.UserID, error) {
	if !b.ready.Load() {
		return nil, errNotStarted
	}
	if err := b.state.know(ctx, room); err != nil {
		return nil, err
	}
	return b.state.joined(ctx, room)
}

// waiting holds encrypted events whose session's key has not come yet. Keys of a session come by to-device messages, which may be late,
// above all from other homeservers.
type waiting struct {
	mu    sync.Mutex // guards what follows
	list  []waitingEvent
	ready map[id.SessionID]bool // sessions that came since the last take
}

type waitingEvent struct {
	event   *event.Event
	session id.SessionID
	since   time.Time
	rounds  int // sync responses since it came
}

// How many events wait at most, and how long.
const (
	maxWaiting   = 200
	waitingLimit = 10 * time.Minute
	askAfter     = 1 // sync responses, until the sender's device is asked for the key
)

// add puts an event on the list. It returns how many older ones had to go for it.
func (w *waiting) add(e *event.Event, session id.SessionID, now time.Time) (dropped int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.list) >= maxWaiting {
		w.list, dropped = w.list[1:], 1
	}
	w.list = append(w.list, waitingEvent{event: e, session: session, since: now})
	return dropped
}

// arrived notes that the key of a session has come.
func (w *waiting) arrived(session id.SessionID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ready == nil {
		w.ready = make(map[id.SessionID]bool)
	}
	w.ready[session] = true
}

// take returns the events that can be decrypted now, and one event for each session that should be asked for.
func (w *waiting) take(now time.Time) (ready, ask []*event.Event, expired int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked := make(map[id.SessionID]*event.Event)
	kept := w.list[:0]
	for _, e := range w.list {
		switch {
		case w.ready[e.session]:
			ready = append(ready, e.event)
			continue
		case now.Sub(e.since) > waitingLimit:
			expired++
			continue
		}
		if e.rounds == askAfter {
			asked[e.session] = e.event
		}
		e.rounds++
		kept = append(kept, e)
	}
	clear(w.list[len(kept):])
	w.list = kept
	clear(w.ready)
	for e := range maps.Values(asked) {
		ask = append(ask, e)
	}
	return ready, ask, expired
}
