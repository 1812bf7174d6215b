package rtc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/backoff"
	"multifactorymodel.org/ewindow/bot/matrixerror"
	"multifactorymodel.org/ewindow/bot/rtc/mediakeys"
	"multifactorymodel.org/ewindow/bot/rtc/membership"
	"multifactorymodel.org/ewindow/bot/rtc/transport"
)

const (
	// requestLimit bounds one request to the homeserver.
	requestLimit = 10 * time.Second
	// firstRetry is the shortest wait before the search for our focus is repeated.
	firstRetry = 250 * time.Millisecond
)

// Kind says what an Event is about.
type Kind uint8

const (
	// Transport: Service is the livekit_service_url where we publish. The event comes once, as soon as the URL is known.
	Transport Kind = iota
	// Key: Material is key number Index of the participant Identity, which is User's device Device.
	Key
	// UseKey: from now on encrypt with Material, our own key number Index. The first such event comes at once.
	UseKey
	// KeySent: our own key number Index was sent to further members. With a key frame now they need not wait for a picture.
	KeySent
	// Withheld: User's Device gets no keys, since User has not cross-signed it. The event comes once for each device.
	Withheld
	// Keyless: User's Device could not be given our key for a while, since its homeserver does not know it or has no one-time key of it. We go on
	// trying. The event comes once for each key.
	Keyless
	// Failed: the call can't be entered or kept; Err says why. Nothing more happens until Leave.
	Failed
)

// Event is something that a call tells its owner.
type Event struct {
	Kind     Kind
	Service  string
	User     id.UserID
	Device   id.DeviceID
	Identity string
	Index    uint8
	Material []byte
	// Err is, for Failed, a [PowerLevelError], [ErrUnencrypted], [ErrNoTransport], [ErrNotJoined] or what a server refused.
	Err error
}

// JoinOptions says how a call is entered.
type JoinOptions struct {
	// Intent is what others are told: "video", "audio" or nothing.
	Intent string
	// OnEvent is called for each event, in order and from one goroutine. It must not block. An event that was on its way when
	// Leave began may still come.
	OnEvent func(Event)
}

// Call is one call that the device is in, or enters. Its methods may be called from any goroutine.
type Call struct {
	m    *Manager
	room id.RoomID
	opts JoinOptions
	log  zerolog.Logger

	leaving context.Context
	leave   context.CancelFunc // begins leaving
	once    sync.Once
	left    chan struct{} // closed when the call is left
	err     error         // of leaving; may be read once left is closed

	service atomic.Pointer[string] // our own transport; nil while it is not known

	// What follows belongs to the manager's goroutine. publisher and keys are set when the call starts.
	publisher  *membership.Publisher
	keys       *mediakeys.Distribution
	recipients map[bot.Device]bool // see SetRecipients
	membership id.EventID          // of our own membership that was sent last
	inside     bool                // we were seen in the room
	over       bool                // failed or leaving
}

// Leave leaves the call: the others see us go. It returns nil when that is done, and ctx's error when ctx ends first. Any other error means that
// the membership could not be removed. Then the membership ends by itself, mostly after 18 s. Leave may be called again.
func (c *Call) Leave(ctx context.Context) error {
	c.begin()
	select {
	case <-c.left:
		return c.err
	case <-c.m.done:
		return c.err
	case <-ctx.Done():
		return fmt.Errorf("leave call in %s: %w", c.room, ctx.Err())
	}
}

// begin begins leaving.
func (c *Call) begin() {
	c.once.Do(func() {
		c.leave()
		c.m.queue.Put(func() { c.m.endCall(c) })
	})
}

// SetRecipients says which devices get our media keys while they are in the call. At first there are none. A device that is taken off gets
// nothing more, and a new key comes into use at once: the device may still receive what we send.
func (c *Call) SetRecipients(devices []bot.Device) {
	recipients := make(map[bot.Device]bool, len(devices))
	for _, device := range devices {
		recipients[device] = true
	}
	c.m.queue.Put(func() {
		if !c.over {
			c.recipients = recipients
			c.shareKeys(time.Now(), c.m.roster.Members(c.room), true)
		}
	})
}

// shareKeys gives our keys to those members of the call who are recipients. See [mediakeys.Distribution.SetMembers] for atOnce.
func (c *Call) shareKeys(now time.Time, members []Member, atOnce bool) {
	members = slices.DeleteFunc(slices.Clone(members), func(m Member) bool { return !c.recipients[m.BotDevice()] })
	c.keys.SetMembers(now, members, atOnce)
}

// SendKeyAgain sends our present key to all recipients in the call once more. A homeserver that crashes may have accepted a key and lost it, and
// MatrixRTC has no way to say that a key is missing. So a window that others do not see should call this now and then.
func (c *Call) SendKeyAgain() {
	c.m.queue.Put(func() {
		if !c.over {
			c.keys.SendAgain()
		}
	})
}

// Renew sends a new membership, so that everybody sends us their key once more. It does nothing if it did so within the last half minute.
// Clients send their key again only when a membership has a new time. Renew is for a window that does not see others it should see.
func (c *Call) Renew() {
	c.m.queue.Put(func() {
		if !c.over {
			c.publisher.Renew()
		}
	})
}

// Token fetches the address and a fresh token of the SFU behind a livekit_service_url. If a service knows only the newer endpoint, that is used.
// Our own service is an exception: where we publish, the identity must be the one of our membership. Refusals are
// [multifactorymodel.org/ewindow/bot/matrixerror.Error]s. If it is not our own service, and not announced by the homeserver of a member who
// uses it, the error is [transport.ErrNotAnnounced].
func (c *Call) Token(ctx context.Context, service string) (url, jwt string, err error) {
	self, own := c.m.hs.Self(), c.service.Load()
	normal, ok := transport.ServiceURL(service)
	if !ok {
		return "", "", errors.New("get token: the service's address is neither https nor on this machine")
	}
	request := transport.TokenRequest{
		Service: normal, Room: c.room, User: self.User, Device: self.ID, Own: own != nil && *own == normal, OpenID: c.m.hs.OpenID,
		Sign: c.m.hs.SignJSON,
	}
	if request.Own {
		url, jwt, err = c.deviceToken(ctx, normal)
		if !errors.Is(err, errNoDeviceToken) {
			return url, jwt, err
		}
		url, jwt, err = c.m.client.Token(ctx, request)
		if refused := matrixerror.Of(err); refused != nil && refused.Status == http.StatusForbidden {
			c.m.noDeviceTokens.Store(0) // perhaps the homeserver has learned it, or had not the time before
		}
		return url, jwt, err
	}
	if !c.m.known[normal] {
		// The homeserver makes the OpenID token while we find out whether it may be sent.
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		first := c.prefetch(ctx, &request)
		defer first.Wait()
		if err := c.demandAnnounced(ctx, normal); err != nil {
			cancel()
			return "", "", fmt.Errorf("get token of %s: %w", normal, err)
		}
		first.Wait()
	}
	return c.m.client.Token(ctx, request)
}

// errNoDeviceToken says that the homeserver gives devices no access to our own SFU.
var errNoDeviceToken = errors.New("the homeserver gives no access to its SFU")

// deviceToken asks our homeserver for access to our own SFU. Our access token proves who we are there. An OpenID token would do, too, but the
// services of others get such tokens from us, and could use them as we do.
func (c *Call) deviceToken(ctx context.Context, service string) (url, jwt string, err error) {
	if time.Now().UnixMilli() < c.m.noDeviceTokens.Load() {
		return "", "", errNoDeviceToken
	}
	given, url, jwt, err := c.m.hs.SFUToken(ctx, c.room)
	switch {
	case err == nil && given == service:
		c.m.deviceTokens.Store(true)
		return url, jwt, nil
	case err == nil || matrixerror.IsUnsupported(err) && !c.m.deviceTokens.Load():
		c.m.noDeviceTokens.Store(time.Now().Add(versionsLife).UnixMilli())
		return "", "", errNoDeviceToken
	}
	return "", "", err
}

// prefetch begins to fetch the first OpenID token of a request. The request waits for it.
func (c *Call) prefetch(ctx context.Context, request *transport.TokenRequest) *sync.WaitGroup {
	var (
		fetching sync.WaitGroup
		token    json.RawMessage
		err      error
		used     bool
	)
	fetching.Go(func() { token, err = c.m.hs.OpenID(ctx) })
	request.OpenID = func(ctx context.Context) (json.RawMessage, error) {
		fetching.Wait()
		if !used {
			used = true
			return token, err
		}
		return c.m.hs.OpenID(ctx)
	}
	return &fetching
}

// demandAnnounced returns nil if the homeserver of a member who publishes at a service announces it. Otherwise any member could have our OpenID
// token sent to any address.
func (c *Call) demandAnnounced(ctx context.Context, service string) error {
	asked, err := c.serversAt(ctx, service)
	if err != nil {
		return err
	}
	var errs []error
	for _, server := range asked {
		announced, err := c.m.client.Announces(ctx, server, service)
		if announced {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, transport.ErrNotAnnounced)...)
}

// maxServers is how many homeservers are asked whether they announce one service.
const maxServers = 4

// serversAt returns the homeservers of the members who publish at a service. Members come in order, windows first, so nobody's place among the
// first can be taken.
func (c *Call) serversAt(ctx context.Context, service string) (servers []string, err error) {
	answered := make(chan struct{})
	c.m.queue.Put(func() {
		for _, m := range c.m.roster.Members(c.room) {
			if server := m.User.Homeserver(); m.Service == service && !slices.Contains(servers, server) && len(servers) < maxServers {
				servers = append(servers, server)
			}
		}
		close(answered)
	})
	select {
	case <-answered:
		return servers, nil
	case <-c.m.done:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// use tells the owner which key to encrypt with.
func (c *Call) use(key mediakeys.Key) {
	c.opts.OnEvent(Event{Kind: UseKey, Index: key.Index, Material: slices.Clone(key.Material)})
}

// demandEncryption asks the bot whether the room is encrypted, and lets the call fail if it is not. It is used when sync has not shown the
// encryption.
func (c *Call) demandEncryption(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	defer context.AfterFunc(c.leaving, cancel)()
	encrypted, err := c.m.hs.Encrypted(ctx, c.room)
	switch {
	case err != nil:
		c.publisher.Fail(fmt.Errorf("look whether %s is encrypted: %w", c.room, err))
	case !encrypted:
		c.publisher.Fail(ErrUnencrypted)
	}
}

// discover finds our own transport. It tries again while the homeserver does not answer, until the call is left.
func (c *Call) discover() {
	pause := backoff.Backoff{Min: firstRetry}
	for {
		service, err := c.findTransport()
		if err == nil {
			c.publisher.SetService(service)
			c.service.Store(&service)
			c.m.queue.Put(func() {
				if !c.over {
					c.opts.OnEvent(Event{Kind: Transport, Service: service})
				}
			})
			return
		}
		if errors.Is(err, ErrNoTransport) {
			c.publisher.Fail(err)
			return
		}
		if c.leaving.Err() != nil {
			return
		}
		c.log.Warn().Err(err).Msg("Our own focus can't be found, trying again")
		pause.Max = membership.RetryLimit(err)
		select {
		case <-time.After(pause.Next()):
		case <-c.leaving.Done():
			return
		}
	}
}

func (c *Call) findTransport() (string, error) {
	ctx, cancel := context.WithTimeout(c.leaving, requestLimit)
	defer cancel()
	service, announced, err := transport.Find(ctx, c.m.hs, c.m.fallback)
	if err == nil && !announced {
		c.m.advise(adviceTransport)
	}
	return service, err
}

// observer is told what happens to our membership of a call. It implements membership.Observer.
type observer struct{ *Call }

func (o observer) Sent(event id.EventID, rejoined bool) {
	o.m.queue.Put(func() { o.membership = event })
	if rejoined {
		o.SendKeyAgain() // clients that saw us go may have dropped our key
	}
}

func (o observer) Failed(err error) {
	o.m.queue.Put(func() { o.m.failCall(o.Call, err) })
}

func (o observer) Versions(delayed bool) {
	known := knownVersions{delayed: delayed, until: time.Now().Add(versionsLife)}
	o.m.queue.Put(func() { o.m.versions = known })
}

func (o observer) Unprotected() { o.m.advise(adviceDelayedEvents) }

func (o observer) RateLimited() { o.m.advise(adviceRateLimit) }
