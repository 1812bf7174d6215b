package rtc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/unstable"
)

const (
	// requestLimit bounds one request to the homeserver.
	requestLimit = 10 * time.Second
	// leaveLimit bounds leaving, requests on their way included.
	leaveLimit = 4500 * time.Millisecond
	// leaveGrace is how long leaving waits for a request on its way: what it did to the server should be known.
	leaveGrace = time.Second
	// fireLimit bounds the sending of the delayed leave, so that time is left for emptying the membership.
	fireLimit = 2 * time.Second
	leavePoll = 300 * time.Millisecond
	// sendLimit bounds the sending of keys to the devices of one homeserver.
	sendLimit = 30 * time.Second
)

// Kind says what an Event is about.
type Kind uint8

const (
	// Transport: Service is the livekit_service_url where to publish. It comes once, as soon as it is known.
	Transport Kind = iota
	// Key: Material is the key number Index of the participant Identity (device Device of User).
	Key
	// UseKey: from now on encrypt with Material, the own key number Index. The first comes at once.
	UseKey
	// KeySent: the own key number Index has reached further members. A key frame now saves them waiting.
	KeySent
	// Withheld: User's Device gets no keys, since its owner hasn't cross-signed it. It comes once a device.
	Withheld
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

// JoinOptions is how a call is entered.
type JoinOptions struct {
	// Intent is what others are told: "video", "audio" or nothing.
	Intent string
	// OnEvent takes what happens, from one goroutine and in order. It must not block, and is not called any more once Leave has begun.
	OnEvent func(Event)
}

// Call is one call that the device is in, or enters. Its methods may be called from any goroutine.
type Call struct {
	m    *Manager
	room id.RoomID
	opts JoinOptions
	log  zerolog.Logger

	inbox     *queue     // for the goroutine of publish, which owns the announcer
	announcer *announcer // is set before that goroutine starts
	leaving   context.Context
	leave     context.CancelFunc // begins leaving
	once      sync.Once
	left      chan struct{} // closed when the call is left
	err       error         // of leaving; may be read once left is closed

	// What follows belongs to the manager's goroutine.
	rollout    *rollout
	membership id.EventID // of the own membership that was sent last
	inside     bool       // we were seen in the room
	over       bool       // failed or leaving
}

// Leave leaves the call: the others see us go. It returns nil when that is done, an error when the membership could not be removed (then
// it ends by itself, after 18 s as a rule), and ctx's error when ctx ends first. It may be called again.
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

// SendKeyAgain sends the present own key to everybody in the call once more. A homeserver that dies may have taken a key and lost it, and
// nobody can say that one is missing (protocol sheet, 4.4), so that whoever is not seen by others should do this now and then.
func (c *Call) SendKeyAgain() {
	c.m.queue.put(func() {
		if !c.over {
			c.rollout.again()
		}
	})
}

// Renew makes our membership a new one, if that was not done within the last half minute, so that everybody sends us their key once more:
// clients do that for a membership of another time only. It is for whoever does not see others who should be seen.
func (c *Call) Renew() {
	c.m.queue.put(func() {
		if !c.over {
			c.inbox.put(func() { c.announcer.renew(time.Now()) })
		}
	})
}

// begin begins leaving.
func (c *Call) begin() {
	c.once.Do(func() {
		c.leave()
		c.m.queue.put(func() { c.m.endCall(c) })
	})
}

// Token fetches the address and a fresh token of the SFU behind a livekit_service_url. A service that knows only the newer
// endpoint is asked there, unless it is our own: the identity must fit the membership where we publish. Refusals are [ReplyError]s.
func (c *Call) Token(ctx context.Context, service string) (url, jwt string, err error) {
	service, ok := normalise(service)
	if !ok {
		return "", "", errors.New("get token: the service's address is neither https nor on this machine")
	}
	token, err := c.m.hs.OpenID(ctx)
	if err != nil {
		return "", "", err
	}
	self := c.m.self
	url, jwt, err = c.m.web.Token(ctx, service, unstable.TokenPath, tokenRequest{c.room, token, self.ID})
	if r := reply(err); r == nil || r.Status != http.StatusNotFound || c.m.ownService(c) == service {
		return url, jwt, err
	}
	if token, err = c.m.hs.OpenID(ctx); err != nil {
		return "", "", err
	}
	return c.m.web.Token(ctx, service, unstable.HashedTokenPath, hashedRequest{
		c.room, slotID, token, hashedMember{plainIdentity(self.User, self.ID), self.User, self.ID},
	})
}

// publish keeps the membership until the call is left. It owns the announcer.
func (c *Call) publish(ctx context.Context, encrypted bool) error {
	a := c.announcer
	if !encrypted {
		c.demandEncryption(ctx, a)
	}
	var err error
	if a.before, err = c.m.hs.KeptDelayed(ctx, c.room); err != nil {
		c.log.Warn().Err(err).Msg("Delayed leaves of an earlier run can't be cancelled")
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	reported := false
	for {
		for _, f := range c.inbox.take() {
			f()
		}
		select {
		case <-c.leaving.Done():
			return c.unpublish(ctx, a)
		default:
		}
		if a.err != nil && !reported {
			reported = true
			err := a.err
			c.m.queue.put(func() { c.m.failCall(c, err) })
		}
		s, wake := a.next(time.Now())
		if s != stepWait {
			o := c.perform(ctx, a, s)
			a.done(time.Now(), s, o)
			if a.known && a.delay == 0 {
				c.m.hint(hintDelayed)
			}
			if r := reply(o.err); r != nil && r.Status == http.StatusTooManyRequests {
				c.m.hint(hintRate)
			}
			if o.err != nil && a.err == nil {
				level := zerolog.DebugLevel
				if a.retries[s].failures == 1 {
					level = zerolog.WarnLevel // the first of a series
				}
				c.log.WithLevel(level).Err(o.err).Msg("The call membership needs another try")
			}
			continue
		}
		timer.Stop()
		if !wake.IsZero() {
			timer.Reset(time.Until(wake))
		}
		select {
		case <-c.leaving.Done():
		case <-c.inbox.signal:
		case <-timer.C:
		}
	}
}

// demandEncryption asks the bot whether the room is encrypted, as long as sync has not shown it.
func (c *Call) demandEncryption(ctx context.Context, a *announcer) {
	ctx, cancel := c.limit(ctx, requestLimit)
	defer cancel()
	encrypted, err := c.m.hs.Encrypted(ctx, c.room)
	switch {
	case err != nil:
		a.err = fmt.Errorf("look whether %s is encrypted: %w", c.room, err)
	case !encrypted:
		a.err = ErrUnencrypted
	}
}

// limit bounds a request: in time, and soon after leaving has begun.
func (c *Call) limit(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, d)
	stop := context.AfterFunc(c.leaving, func() { time.AfterFunc(leaveGrace, cancel) })
	return ctx, func() {
		stop()
		cancel()
	}
}

// perform does one step.
func (c *Call) perform(ctx context.Context, a *announcer, s step) (o outcome) {
	limit := requestLimit
	if s == stepCancel {
		limit = fireLimit // entering the call waits for it, but need not
	}
	if a.delayID != "" {
		limit = min(limit, a.delay/2) // the delayed leave has to be restarted meanwhile
	}
	ctx, cancel := c.limit(ctx, limit)
	defer cancel()
	hs, key := c.m.hs, stateKey(a.self)
	switch s {
	case stepCancel:
		o.err = hs.UpdateDelayed(ctx, a.before[0], unstable.DelayCancel)
		if o.err == nil {
			c.log.Info().Msg("The delayed leave of an earlier run was cancelled")
		}
		if o.err == nil || notFound(o.err) {
			c.drop(ctx, a.before[0])
		}
	case stepVersions:
		if o.delayed, o.err = hs.Delayed(ctx); o.err == nil {
			known := knownFeature{delayed: o.delayed, until: time.Now().Add(featureLife)}
			c.m.queue.put(func() { c.m.delayed = known })
		}
	case stepSchedule:
		if o.delayID, o.err = hs.Schedule(ctx, c.room, key, a.delay); o.err == nil {
			if err := hs.KeepDelayed(ctx, c.room, o.delayID); err != nil {
				c.log.Warn().Err(err).Msg("A delayed leave can't be noted")
			}
		}
	case stepClear:
		o.event, o.err = hs.SendState(ctx, c.room, key, struct{}{})
	case stepSend:
		o.event, o.err = hs.SendState(ctx, c.room, key, a.content(time.Now()))
		if o.err == nil {
			event := o.event
			c.m.queue.put(func() { c.membership = event })
			c.log.Info().Stringer("event_id", o.event).Bool("delayed_leave", a.delayID != "").Msg("Call membership sent")
			if a.again {
				c.SendKeyAgain() // who saw us go may have dropped our key
			}
		}
	case stepRestart:
		if o.err = hs.UpdateDelayed(ctx, a.delayID, unstable.DelayRestart); notFound(o.err) {
			c.drop(ctx, a.delayID)
		}
	case stepCheck:
		var content []byte
		content, o.err = hs.State(ctx, c.room, key)
		if o.err == nil {
			m, err := parseState(a.self.User, 0, content)
			o.present = err == nil && m != nil
		}
	}
	return o
}

// drop forgets a delayed leave that waits no more.
func (c *Call) drop(ctx context.Context, delayID string) {
	if err := c.m.hs.DropDelayed(ctx, delayID); err != nil {
		c.log.Warn().Err(err).Msg("A delayed leave can't be forgotten")
	}
}

// unpublish removes the membership: by the delayed leave, else by an empty one.
func (c *Call) unpublish(ctx context.Context, a *announcer) error {
	if a.delayID == "" && !a.attempted {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, leaveLimit-leaveGrace)
	defer cancel()
	if errors.Is(a.err, ErrNotJoined) {
		return c.forsake(ctx, a)
	}
	if a.delayID != "" {
		firing, stop := context.WithTimeout(ctx, fireLimit)
		err := c.m.hs.UpdateDelayed(firing, a.delayID, unstable.DelaySend)
		stop()
		if err == nil || notFound(err) {
			c.drop(ctx, a.delayID)
		}
		if err == nil || !a.attempted {
			return nil
		}
		c.log.Debug().Err(err).Msg("The delayed leave can't be sent, emptying the membership instead")
	}
	for {
		_, err := c.m.hs.SendState(ctx, c.room, stateKey(a.self), struct{}{})
		if err == nil {
			return nil
		}
		wait := leavePoll
		if r := reply(err); r != nil {
			wait = max(wait, r.RetryAfter)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		if hopeless(err) || ctx.Err() != nil {
			return fmt.Errorf("leave call in %s: %w", c.room, err)
		}
	}
}

// forsake is for leaving when we aren't in the room any more: we could not change anything there, and nobody counts us. Only the delayed
// leave must not wait for the day on which we may have come again.
func (c *Call) forsake(ctx context.Context, a *announcer) error {
	if a.delayID == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, fireLimit)
	defer cancel()
	err := c.m.hs.UpdateDelayed(ctx, a.delayID, unstable.DelayCancel)
	if err == nil || notFound(err) {
		c.drop(ctx, a.delayID)
	}
	return nil
}

// discover finds the own transport, and keeps trying while the homeserver does not answer.
func (c *Call) discover(ctx context.Context) {
	a := c.announcer // touched by what is put into the inbox only
	backoff := firstRetry
	for {
		service, err := c.findTransport(ctx)
		if err == nil {
			c.inbox.put(func() { a.service = service })
			c.m.queue.put(func() { c.m.setService(c, service) })
			return
		}
		if errors.Is(err, ErrNoTransport) {
			c.inbox.put(func() { a.err = err })
			return
		}
		c.log.Warn().Err(err).Msg("The own focus can't be found, trying again")
		select {
		case <-time.After(backoff/2 + rand.N(backoff/2)):
		case <-c.leaving.Done():
			return
		}
		backoff = min(2*backoff, retryLimit(err))
	}
}

// findTransport asks the homeserver, the file beside it, and the configuration, in this order.
func (c *Call) findTransport(ctx context.Context) (string, error) {
	ctx, cancel := c.limit(ctx, requestLimit)
	defer cancel()
	service, err := c.m.hs.Transport(ctx)
	if service != "" {
		return service, nil
	}
	if r := reply(err); err != nil && (r == nil || r.Status != http.StatusNotFound && !unsupported(err)) {
		return "", err
	}
	if service, err = c.m.hs.WellKnown(ctx); service == "" {
		service = c.m.fallback
	}
	switch {
	case service != "":
		c.m.hint(hintTransport)
		return service, nil
	case err != nil && reply(err) == nil:
		return "", err
	}
	return "", ErrNoTransport
}

// sendKey sends the present key to the targets of one homeserver and reports what became of it.
func (c *Call) sendKey(ctx context.Context, key ownKey, targets []*target) {
	ctx, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	content := make(map[bot.Device]any, len(targets))
	item := newKeyContent(c.room, c.m.self, key, time.Now())
	for _, t := range targets {
		content[t.device] = item
	}
	failed := c.m.hs.SendKeys(ctx, content)
	c.m.queue.put(func() { c.m.keySent(c, key, targets, failed) })
}
