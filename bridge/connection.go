package bridge

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/rtc"
	"multifactorymodel.org/ewindow/bridge/window"
	"multifactorymodel.org/ewindow/callmedia"
)

const (
	// leaveLimit bounds leaving a call: leaving the SFU, and removing the membership.
	leaveLimit = 6 * time.Second
	// maxEarly is how many events are kept for a session that doesn't exist yet.
	maxEarly = 256
)

// connection is a visit's MatrixRTC call and media session, and what both were last told. It belongs to Run's goroutine. Only close runs in
// another one.
type connection struct {
	visit   uint64 // its number
	room    id.RoomID
	log     zerolog.Logger
	call    Call
	session Session
	// early is what the session is to be told as soon as it exists. Keys may come before the transport is known.
	early []func(Session)

	named   []window.Member
	strange bool // there are strangers
	remotes []callmedia.Remote
	sending bool
	sound   bool
	camera  bool
	unseen  int
	slow    callmedia.Slow
}

// tell calls f with the session, now or as soon as there is one.
func (c *connection) tell(f func(Session)) {
	switch {
	case c.session != nil:
		f(c.session)
	case len(c.early) < maxEarly:
		c.early = append(c.early, f)
	}
}

// follow tells the call and the session what has changed in the plan. Sending is stopped before anything else changes, and started after that.
func (c *connection) follow(p window.Plan) {
	if !slices.Equal(p.Named, c.named) {
		c.named = p.Named
		devices := make([]bot.Device, 0, len(p.Named))
		for _, m := range p.Named {
			devices = append(devices, bot.Device{User: m.User, ID: m.Device})
		}
		c.call.SetRecipients(devices)
	}
	if strange := len(p.Strangers) > 0; strange != c.strange {
		c.strange = strange
		if strange {
			c.log.Warn().Strs("identities", p.Strangers).Msg("Somebody is at the SFU whom no membership explains; they get no key")
		}
	}
	if c.session == nil {
		return
	}
	if c.sending && !p.Send {
		c.sending = false
		c.session.SetSending(false)
	}
	if c.sound && !p.Sound {
		c.sound = false
		c.session.SetSound(false)
	}
	if p.Camera != c.camera {
		c.camera = p.Camera
		c.session.SetCamera(p.Camera)
	}
	remotes := make([]callmedia.Remote, 0, len(p.Members))
	for _, m := range p.Members {
		remotes = append(remotes, callmedia.Remote{Identity: m.Identity, Service: m.Service, Guest: m.User != p.Kiosk, Hushed: slices.Contains(p.Hushed, m.User)})
	}
	if !slices.Equal(remotes, c.remotes) {
		c.remotes = remotes
		c.session.SetRemotes(remotes)
	}
	if p.Send && !c.sending {
		c.sending = true
		c.session.SetSending(true)
	}
	if p.Sound && !c.sound {
		c.sound = true
		c.session.SetSound(true)
	}
	if p.Unseen != c.unseen {
		c.unseen = p.Unseen
		// Others stop sending when they do not see us. Perhaps they lack our media key.
		c.call.SendKeyAgain()
		if p.Kiosk == "" {
			c.call.Renew() // Element sends its key again only to a new membership; windows do it by themselves
		}
	}
}

// close ends the visit: it closes the media and leaves the call at the same time. It calls silent when the media are closed. It returns
// when both are done, or after leaveLimit.
func (c *connection) close(ctx context.Context, silent func()) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveLimit)
	defer cancel()
	var leaving sync.WaitGroup
	leaving.Go(func() {
		if err := c.call.Leave(ctx); err != nil {
			c.log.Warn().Err(err).Msg("The call could not be left in order; the server removes us by itself")
		}
	})
	if c.session != nil {
		if err := c.session.Close(); err != nil && !errors.Is(err, context.Canceled) {
			c.log.Debug().Err(err).Msg("Closing the media")
		}
	}
	silent()
	leaving.Wait()
}

// call enters the call of a visit, unless an earlier call there is still being left.
func (b *Bridge) call(p window.Plan) {
	if b.busy(p.Room) {
		return
	}
	c := &connection{visit: p.Visit, room: p.Room, log: b.cfg.Log.With().Stringer("room_id", p.Room).Uint64("visit", p.Visit).Logger()}
	call, err := b.cfg.Calls.Join(p.Room, rtc.JoinOptions{Intent: "video", OnEvent: func(e rtc.Event) {
		b.queue.Put(func() { b.handleCall(c.visit, e) })
	}})
	if err != nil {
		c.log.Error().Err(err).Msg("The call could not be entered, it will be tried again")
		b.rules.CallFailed(b.now(), p.Room)
		b.lookAgain()
		return
	}
	c.log.Info().Msg("A visit begins")
	c.call = call
	b.conn = c
}

// lookAgain lets Run reconcile once more.
func (b *Bridge) lookAgain() { b.queue.Put(func() {}) }

// busy says whether the last session is still being closed, or the room's last call is still being left. When that is done, Run
// reconciles again.
func (b *Bridge) busy(room id.RoomID) bool {
	for _, done := range []chan struct{}{b.lastMedia, b.leaving[room]} {
		if done == nil {
			continue
		}
		select {
		case <-done:
		default:
			return true
		}
	}
	delete(b.leaving, room)
	return false
}

// hangUp leaves the present call in the background. The camera's frames stop before it returns.
func (b *Bridge) hangUp() {
	c := b.conn
	if c == nil {
		return
	}
	b.conn = nil
	if c.session != nil {
		c.session.SetSending(false)
		if c.sound {
			c.session.SetSound(false)
		}
	}
	c.log.Info().Msg("A visit ends")
	left, silent := make(chan struct{}), make(chan struct{})
	b.leaving[c.room], b.lastMedia = left, silent
	b.tasks.Go(func() {
		c.close(b.ctx, func() {
			close(silent)
			b.lookAgain()
		})
		close(left)
		b.lookAgain()
	})
}

// handleCall handles an event of the MatrixRTC call.
func (b *Bridge) handleCall(visit uint64, e rtc.Event) {
	c := b.conn
	if c == nil || c.visit != visit {
		return
	}
	switch e.Kind {
	case rtc.Transport:
		b.rules.FocusFound()
		b.connect(c, e.Service)
	case rtc.Key:
		c.tell(func(s Session) { s.SetKey(e.Identity, e.Index, e.Material) })
	case rtc.UseKey:
		c.tell(func(s Session) { s.UseKey(e.Index, e.Material) })
	case rtc.KeySent:
		c.tell(Session.RequestKeyFrame)
	case rtc.Withheld:
		c.log.Warn().Stringer("user_id", e.User).Msg("A guest's device is not verified by its owner, so it can neither see nor hear us")
		b.rules.Withheld(b.now(), visit, e.User)
	case rtc.Keyless:
		b.rules.Keyless(b.now(), visit, e.User)
	case rtc.Failed:
		c.log.Error().Err(e.Err).Msg("The call can't be used, it will be tried again")
		if errors.Is(e.Err, rtc.ErrNoTransport) {
			b.rules.FocusMissing(b.now())
		}
		b.rules.CallFailed(b.now(), c.room)
	}
}

// connect makes and starts the media session. It is called as soon as the transport is known, and does not wait for our membership.
func (b *Bridge) connect(c *connection, service string) {
	if c.session != nil {
		return
	}
	session, err := b.cfg.NewSession(service, c.call.Token, func(e callmedia.SessionEvent) {
		b.queue.Put(func() { b.handleSession(c.visit, e) })
	})
	if err == nil {
		c.session = session // closed by hangUp, also when it can't be started
		err = session.Start(b.ctx)
	}
	if err != nil {
		c.log.Error().Err(err).Msg("The media could not be started")
		b.rules.CallFailed(b.now(), c.room)
		return
	}
	for _, f := range c.early {
		f(session)
	}
	c.early = nil
}

// handleSession handles an event of the media session.
func (b *Bridge) handleSession(visit uint64, e callmedia.SessionEvent) {
	c := b.conn
	if c == nil || c.visit != visit {
		return
	}
	now := b.now()
	switch e.Kind {
	case callmedia.Connected:
		b.rules.FocusConnected(now, visit)
	case callmedia.Lost:
		if b.rules.FocusLost(now, visit) {
			c.log.Warn().Err(e.Err).Msg("Connection to the focus lost, trying again")
		}
	case callmedia.RemoteUp, callmedia.RemoteMuted:
		b.rules.RemoteCamera(now, visit, e.Identity, e.Tile, true, e.Muted)
	case callmedia.RemoteGone:
		b.rules.RemoteCamera(now, visit, e.Identity, e.Tile, false, false)
	case callmedia.CodecUnknown, callmedia.CodecKnown:
		b.rules.RemoteUnshown(visit, e.Identity, e.Kind == callmedia.CodecUnknown)
	case callmedia.RemoteAway:
		b.rules.RemoteAbsent(now, visit, e.Identity)
	case callmedia.RemoteBack:
		b.rules.RemoteBack(visit, e.Identity)
	case callmedia.Arrived:
		b.rules.ParticipantArrived(now, visit, e.Identity)
	case callmedia.Departed:
		b.rules.ParticipantDeparted(now, visit, e.Identity)
	case callmedia.PictureOn, callmedia.PictureOff:
		b.rules.RemotePicture(visit, e.Identity, e.Tile, e.Kind == callmedia.PictureOn)
	case callmedia.ScreenOn, callmedia.ScreenOff:
		b.rules.RemoteScreen(visit, e.Identity, e.Tile, e.Kind == callmedia.ScreenOn)
	case callmedia.LineChanged:
		c.slow = e.Slow
	}
}
