package bot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// maxContent is how long a to-device message may be, in bytes. Homeservers take no longer ones.
const maxContent = 64 << 10

// fetchTime is how long sync waits for other homeservers' device lists. Those that take longer are asked again.
const fetchTime = 8 * time.Second

// poll asks for news.
func (b *Bot) poll(ctx context.Context, since string, quick bool) (*syncResponse, error) {
	wait, limit := pollTime, pollLimit
	if quick {
		wait = 0
	}
	if since == "" {
		limit = firstLimit
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	request := mautrix.ReqSync{Timeout: int(wait.Milliseconds()), Since: since, FilterID: syncFilter, SetPresence: event.PresenceOffline}
	var response *syncResponse
	_, err := b.client.MakeFullRequest(ctx, mautrix.FullRequest{
		Method: http.MethodGet, URL: b.client.BuildURLWithQuery(mautrix.ClientURLPath{"v3", "sync"}, request.BuildQuery()),
		ResponseJSON: &response, MaxAttempts: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("sync: %w", err)
	}
	if response == nil || response.NextBatch == "" {
		return nil, mautrix.HTTPError{Message: "the homeserver's answer to sync has no next_batch"}
	}
	return response, nil
}

// syncFilter leaves out what nobody here looks at. Presence, typing and receipts come often.
const syncFilter = `{"presence":{"not_types":["*"]},"account_data":{"types":["` + runType + `"]},` +
	`"room":{"timeline":{"limit":50},"ephemeral":{"not_types":["*"]},"account_data":{"not_types":["*"]}}}`

// deviceLists fetches the devices of those users whose devices have changed. Who can't be fetched now is asked for again.
func (b *Bot) deviceLists(ctx context.Context, changed []id.UserID) {
	tracked, err := b.crypto.FilterTrackedUsers(ctx, changed)
	if err != nil && ctx.Err() == nil {
		b.log.Warn().Err(err).Msg("The list of known users can't be read")
		tracked = changed
	}
	if len(tracked) == 0 {
		return
	}
	for _, user := range tracked {
		// A device that its owner has signed only now was left out of the running sessions: end them.
		b.mach.OnDevicesChanged(ctx, user)
	}
	got, err := b.fetchKeys(ctx, tracked)
	if missed := without(tracked, got); len(missed) > 0 && ctx.Err() == nil {
		b.log.Warn().AnErr("error", short(err)).Int("users", len(missed)).Msg("Changed device lists can't be fetched: trying again")
		b.background.Go(func() { b.fetchLater(ctx, missed) })
	}
}

// fetchLater goes on asking for the devices of users whose homeserver can't be reached. It gives up after a day: who comes back then is
// asked for when a message of theirs comes, or one goes to them.
func (b *Bot) fetchLater(ctx context.Context, users []id.UserID) {
	begun := time.Now()
	for n := 2; len(users) > 0 && time.Since(begun) < 24*time.Hour; n++ {
		timer := time.NewTimer(pause(n, 10*time.Minute, rand.Float64()))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		got, _ := b.fetchKeys(ctx, users)
		users = without(users, got)
	}
}

// without lists the users who have no entry in a map.
func without[T any](users []id.UserID, got map[id.UserID]T) (missed []id.UserID) {
	for _, user := range users {
		if _, ok := got[user]; !ok {
			missed = append(missed, user)
		}
	}
	return missed
}

// fetchKeys asks for the devices and identities of users, for a limited time.
func (b *Bot) fetchKeys(ctx context.Context, users []id.UserID) (map[id.UserID]map[id.DeviceID]*id.Device, error) {
	ctx, cancel := context.WithTimeout(quietly(ctx), fetchTime)
	defer cancel()
	return b.fetcher.FetchKeys(mautrix.WithMaxRetries(ctx, 0), users, true)
}

// refetch asks for a user's devices once more, unless that user has caused it too often. It says whether an answer came.
func (b *Bot) refetch(ctx context.Context, user id.UserID) bool {
	if !b.fetches.allow(user, time.Now()) {
		return false
	}
	_, err := b.fetchKeys(ctx, []id.UserID{user})
	return err == nil
}

// oneTimeKeys uploads new one-time keys when few are left.
func (b *Bot) oneTimeKeys(ctx context.Context, count *mautrix.OTKCount) {
	if count == nil || count.SignedCurve25519 >= int(b.mach.GetAccount().Internal.MaxNumberOfOneTimeKeys()/2) {
		return
	}
	ctx, cancel := context.WithTimeout(quietly(ctx), fetchTime)
	defer cancel()
	if err := b.mach.ShareKeys(mautrix.WithMaxRetries(ctx, 0), count.SignedCurve25519); err != nil && ctx.Err() == nil {
		b.log.Warn().Err(short(err)).Msg("One-time keys can't be uploaded: trying again")
	}
}

// handleToDevice decrypts, checks and dispatches a to-device event.
func (b *Bot) handleToDevice(ctx context.Context, e *event.Event) {
	e.Type.Class = event.ToDeviceEventType
	if err := e.Content.ParseRaw(e.Type); err != nil && !errors.Is(err, event.ErrUnsupportedContentType) {
		b.stats.drop(DropMalformed, 1)
		return
	}
	if e.Type != event.ToDeviceEncrypted {
		if _, ours := b.toDevice[e.Type.Type]; ours {
			b.stats.drop(DropCleartext, 1)
			return
		}
		b.handlePlain(ctx, e)
		return
	}
	// mautrix handles room keys and the like itself, hands over the rest, and says in its log alone that it could not decrypt.
	var (
		failed atomic.Bool
		plain  *crypto.DecryptedOlmEvent
	)
	b.guard(e.Type.Type, func() { plain = b.mach.HandleEncryptedEvent(noting(ctx, &failed), e) })
	switch {
	case plain == nil && failed.Load():
		b.stats.drop(DropUndecryptable, 1)
	case plain == nil:
	case b.toDevice[plain.Type.Type] == nil:
		b.stats.drop(DropUnhandled, 1)
	default:
		b.checkToDevice(ctx, plain)
	}
}

// handlePlain has mautrix handle a message of a kind that is never encrypted. Requests for keys and secrets are answered in the background.
func (b *Bot) handlePlain(ctx context.Context, e *event.Event) {
	var from id.DeviceID
	answer := func(ctx context.Context) { b.mach.HandleToDeviceEvent(ctx, e) }
	switch content := e.Content.Parsed.(type) {
	case *event.RoomKeyRequestEventContent:
		if content.Action != event.KeyRequestActionRequest {
			return
		}
		// Not by HandleToDeviceEvent, which begins a goroutine that nobody waits for.
		from, answer = content.RequestingDeviceID, func(ctx context.Context) { b.mach.HandleRoomKeyRequest(ctx, e.Sender, content) }
	case *event.SecretRequestEventContent:
		if content.Action != event.SecretRequestRequest {
			return
		}
		if e.Sender != b.UserID() {
			b.stats.drop(DropUnhandled, 1)
			return
		}
		from = content.RequestingDeviceID
	default:
		b.guard(e.Type.Type, func() { answer(quietly(ctx)) })
		return
	}
	if e.Sender != b.UserID() && !b.requests.allow(e.Sender, time.Now()) {
		b.stats.drop(DropTooMany, 1)
		return
	}
	b.background.Go(func() {
		// mautrix itself would ask for each unknown device, as often as somebody wants.
		if !b.known(ctx, Device{e.Sender, from}) {
			b.stats.drop(DropUnknownDevice, 1)
			return
		}
		ctx, cancel := context.WithTimeout(quietly(ctx), sendTime)
		defer cancel()
		b.guard(e.Type.Type, func() { answer(ctx) })
	})
}

// known says whether there is a device, and asks for its user's devices if it is new.
func (b *Bot) known(ctx context.Context, d Device) bool {
	device, err := b.crypto.GetDevice(ctx, d.User, d.ID)
	if err == nil && device == nil && b.refetch(ctx, d.User) {
		device, err = b.crypto.GetDevice(ctx, d.User, d.ID)
	}
	return err == nil && device != nil
}

// checkToDevice dispatches a decrypted to-device event, if it comes from a device that is known and trusted.
func (b *Bot) checkToDevice(ctx context.Context, e *crypto.DecryptedOlmEvent) {
	content, ok := objectContent(e.Content.VeryRaw)
	if !ok {
		b.stats.drop(DropMalformed, 1)
		return
	}
	device, trusted := b.senderDevice(ctx, e)
	// The owner may have signed the device a moment ago, or we have never asked for the owner's identity.
	if !trusted && b.refetch(ctx, e.Sender) {
		device, trusted = b.senderDevice(ctx, e)
	}
	switch {
	case device == nil:
		b.stats.drop(DropUnknownDevice, 1)
		return
	case !trusted:
		b.stats.drop(DropUntrusted, 1)
		b.outside.Warn().Stringer("user_id", e.Sender).Stringer("device_id", device.DeviceID).
			Msg("A message was dropped, since its sender's device is not verified by its owner, or the owner's identity has changed")
		return
	}
	message := ToDevice{From: Device{e.Sender, device.DeviceID}, Type: e.Type, Content: content}
	for _, f := range b.toDevice[e.Type.Type] {
		b.guard(e.Type.Type, func() { f(ctx, message) })
	}
}

// senderDevice finds the device that encrypted an event, as its user's homeserver lists it, and says whether it is trusted.
func (b *Bot) senderDevice(ctx context.Context, e *crypto.DecryptedOlmEvent) (*id.Device, bool) {
	device, err := b.crypto.FindDeviceByKey(ctx, e.Sender, e.SenderKey)
	if err != nil || device == nil || device.SigningKey != e.Keys.Ed25519 {
		return nil, false
	}
	return device, b.trusted(ctx, device)
}

// trusted says whether a device may have keys of ours, and its messages are heard.
func (b *Bot) trusted(ctx context.Context, device *id.Device) bool {
	if device.Trust == id.TrustStateBlacklisted || device.Trust == id.TrustStateDeviceKeyMismatch || device.Deleted {
		return false
	}
	if b.cfg.AcceptUnsignedDevices {
		return true
	}
	trust, err := b.mach.ResolveTrustContext(quietly(ctx), device)
	return err == nil && trust >= b.minTrust()
}

// objectContent returns a copy of a content that is a JSON object of a length that is taken.
func objectContent(raw json.RawMessage) (json.RawMessage, bool) {
	if len(raw) > maxContent || !json.Valid(raw) || !bytes.HasPrefix(bytes.TrimLeft(raw, " \t\r\n"), []byte("{")) {
		return nil, false
	}
	return bytes.Clone(raw), true
}

// userLimit keeps strangers from making us ask for their keys, or send them some, over and over: every message from an unknown device would.
type userLimit struct {
	mu     sync.Mutex // guards what follows
	window time.Time  // when the counts began
	counts map[string]int
}

// How often keys may be asked for in one window, beyond what changed device lists call for, and how often others may ask for ours.
const (
	limitWindow = time.Minute
	perUser     = 6
	perServer   = 60
	inAll       = 200
)

// allow says whether a user may cause that now, and counts it.
func (l *userLimit) allow(user id.UserID, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counts == nil || now.Sub(l.window) >= limitWindow {
		l.window, l.counts = now, make(map[string]int)
	}
	name, server := user.String(), ":"+user.Homeserver()
	if l.counts[name] >= perUser || l.counts[server] >= perServer || l.counts[""] >= inAll {
		return false
	}
	l.counts[name]++
	l.counts[server]++
	l.counts[""]++
	return true
}

var silent = zerolog.New(io.Discard).Level(zerolog.ErrorLevel)

// quietly keeps mautrix from logging what other people's messages are like: they are counted.
func quietly(ctx context.Context) context.Context { return silent.WithContext(ctx) }

// noting does the same, and notes whether there was an error.
func noting(ctx context.Context, failed *atomic.Bool) context.Context {
	log := silent.Hook(zerolog.HookFunc(func(_ *zerolog.Event, level zerolog.Level, _ string) {
		if level >= zerolog.ErrorLevel {
			failed.Store(true)
		}
	}))
	return log.WithContext(ctx)
}

// stack is where the caller's goroutine panicked, without what the panic said: that may hold what a message said.
func stack() string {
	text := string(debug.Stack())
	if _, rest, ok := strings.Cut(text, "panic("); ok {
		if _, rest, ok = strings.Cut(rest, "\n"); ok {
			text = rest
		}
	}
	return clip(text, 4<<10)
}
