package bot

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.mau.fi/util/dbutil"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/identity"
	"multifactorymodel.org/ewindow/bot/keystore"
	"multifactorymodel.org/ewindow/bot/verification"
)

// openCrypto loads the Olm account, or makes one, and makes sure that the homeserver has the same device keys.
func (b *Bot) openCrypto(ctx context.Context, a *session) error {
	log := libraryLog(b.log)
	b.crypto = crypto.NewSQLCryptoStore(b.cfg.DB, dbutil.ZeroLogger(log), "", a.Device, nil)
	if err := upgradeSQL(ctx, "encryption", b.crypto.DB.Upgrade, log); err != nil {
		return err
	}
	var err error
	if b.crypto.PickleKey, err = b.pickleKey(ctx); err != nil {
		return err
	}
	b.olm = keystore.New(b.crypto)
	b.identities = identity.New(b.crypto, b.onNewIdentity)
	if err := b.olm.EndRoomSessions(ctx); err != nil {
		return err
	}
	if err := b.prune(ctx, time.Now()); err != nil {
		return err
	}
	mach := crypto.NewOlmMachine(b.client, &log, b.olm, b.state)
	trust := b.minTrust()
	mach.SendKeysMinTrust, mach.ShareKeysMinTrust = trust, trust
	mach.DisableDecryptKeyFetching = true // it has no time limit; senderDevice and decrypt fetch keys instead
	mach.SessionReceived = func(_ context.Context, _ id.RoomID, session id.SessionID, _ uint32) { b.waiting.arrived(session) }
	mach.NeedsUnwedgeCallback = b.wedged
	if err := mach.Load(ctx); err != nil {
		return fmt.Errorf("load the encryption keys: %w", err)
	}
	b.mach = mach
	if b.verifier, err = verification.New(ctx, verification.Config{
		Client: b.client, Machine: mach, Identities: b.identities, Users: b.cfg.Verifiers, Show: b.cfg.OnEmoji, Log: b.log,
	}); err != nil {
		return err
	}
	// mautrix keeps our own identity's public keys in a field without a lock, and clears the field whenever our own user's keys are fetched.
	// Another goroutine may read it then, find nothing, and send a message without our signature. So another OlmMachine fetches the keys.
	b.fetcher = crypto.NewOlmMachine(b.client, &log, b.crypto, b.state)
	b.state.rotate = b.crypto.RemoveOutboundGroupSession
	return b.shareKeys(ctx)
}

// pruneEvery is the time after which old keys are deleted again.
const pruneEvery = time.Hour

// prune deletes old keys.
func (b *Bot) prune(ctx context.Context, now time.Time) error {
	b.pruned = now
	return b.olm.Prune(ctx, now)
}

// minTrust is the trust that a device needs to get a key from us, and to have its messages accepted.
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
	olm := b.mach.GetAccount()
	if keys != nil {
		if keys.Keys.GetEd25519(self.ID) != olm.SigningKey() || keys.Keys.GetCurve25519(self.ID) != olm.IdentityKey() {
			return fmt.Errorf("the homeserver knows device %s of %s with other keys than those in the data folder: the two don't belong "+
				"together any more. Empty the data folder, but for the file %s, so that the window gets a new device", self.ID, self.User, recoveryFile)
		}
		olm.Shared = true
		return nil
	}
	// This is the first start, or the device was logged out meanwhile. It keeps its keys.
	olm.Shared = false
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
		return nil, fmt.Errorf("ask for our own device keys: %w", err)
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

// Encrypt implements mautrix.CryptoHelper. If the room has no session that can be used, it makes one and shares it with the joined members'
// devices first.
func (r *roomCrypto) Encrypt(ctx context.Context, room id.RoomID, t event.Type, content any) (*event.EncryptedEventContent, error) {
	if !r.b.ready.Load() {
		return nil, errNotStarted
	}
	mach := r.b.mach
	encrypted, err := mach.EncryptMegolmEvent(ctx, room, t, content)
	// Sync may end the session between sharing and encrypting.
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

// share begins a session of a room and gives its key to the members' devices. If the members change meanwhile, the session is ended.
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
