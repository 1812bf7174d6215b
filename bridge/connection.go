package bridge

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/rtc"
	"multifactorymodel.org/ewindow/callmedia"
)

const (
	// leaveLimit bounds the taking down of a call: the SFU's goodbye and the membership's removal.
	leaveLimit = 6 * time.Second
	// maxEarly is how many events are kept for a session that doesn't exist yet.
	maxEarly = 256
)

// connection is the running side of a visit: the MatrixRTC call, the media session, and what both were last told.
// It is owned by Run's goroutine, except for close, which runs beside it.
type connection struct {
	id      uint64
	room    id.RoomID
	log     zerolog.Logger
	call    Call
	session Session
	// early holds what the session is to be told as soon as it exists: keys overtake the transport.
	early []func(Session)

	remotes []callmedia.Remote
	sending bool
	camera  bool
	blind   int
}

// tell passes something on to the session, now or when there is one.
func (c *connection) tell(f func(Session)) {
	switch {
	case c.session != nil:
		f(c.session)
	case len(c.early) < maxEarly:
		c.early = append(c.early, f)
	}
}

// steer brings the session to what the plan says, sending last when it begins and first when it ends. Only differences are passed on.
func (c *connection) steer(p plan) {
	if c.session == nil {
		return
	}
	if c.sending && !p.send {
		c.sending = false
		c.session.SetSending(false)
	}
	if p.camera != c.camera {
		c.camera = p.camera
		c.session.SetCamera(p.camera)
	}
	remotes := make([]callmedia.Remote, 0, len(p.members))
	for _, m := range p.members {
		remotes = append(remotes, callmedia.Remote{Identity: m.Identity, Service: m.Service, Guest: m.User != p.kiosk})
	}
	if !slices.Equal(remotes, c.remotes) {
		c.remotes = remotes
		c.session.SetRemotes(remotes)
	}
	if p.send && !c.sending {
		c.sending = true
		c.session.SetSending(true)
	}
	if p.blind != c.blind {
		c.blind = p.blind
		// They stop when they do not see us, as we do: that we don't see them may be for want of our key.
		c.call.SendKeyAgain()
		if p.kiosk == "" {
			c.call.Renew() // windows give their keys again by themselves, guests don't
		}
	}
}

// close ends the visit: media and membership go at the same time. silent is called when the media is gone; close returns
// when both are, or the limit is over.
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

// handleCall takes an event of the MatrixRTC side.
func (b *Bridge) handleCall(visit uint64, e rtc.Event) {
	c := b.conn
	if c == nil || c.id != visit {
		return
	}
	switch e.Kind {
	case rtc.Transport:
		b.machine.noHubSince = time.Time{}
		b.connect(c, e.Service)
	case rtc.Key:
		c.tell(func(s Session) { s.SetKey(e.Identity, e.Index, e.Material) })
	case rtc.UseKey:
		c.tell(func(s Session) { s.UseKey(e.Index, e.Material) })
	case rtc.KeySent:
		c.tell(Session.RequestKeyFrame)
	case rtc.Withheld:
		c.log.Warn().Stringer("user_id", e.User).Msg("A guest's device is not confirmed by its owner, so it can neither see nor hear us")
		if v := b.machine.call; v != nil && v.id == visit {
			b.machine.withhold(b.now(), v, e.User)
		}
	case rtc.Failed:
		c.log.Error().Err(e.Err).Msg("The call can't be used, it is left alone for a while")
		if errors.Is(e.Err, rtc.ErrNoTransport) && b.machine.noHubSince.IsZero() {
			b.machine.noHubSince = b.now()
		}
		b.machine.fail(b.now(), c.room)
	}
}

// connect makes the media session as soon as it is known where to publish, while the membership is on its way.
func (b *Bridge) connect(c *connection, service string) {
	if c.session != nil {
		return
	}
	session, err := b.cfg.NewSession(service, c.call.Token, func(e callmedia.SessionEvent) {
		b.queue.Put(func() { b.handleSession(c.id, e) })
	})
	if err == nil {
		c.session = session // closed by hangUp, also when it can't be started
		err = session.Start(b.ctx)
	}
	if err != nil {
		c.log.Error().Err(err).Msg("The media could not be started")
		b.machine.fail(b.now(), c.room)
		return
	}
	for _, f := range c.early {
		f(session)
	}
	c.early = nil
}

// handleSession takes an event of the media side.
func (b *Bridge) handleSession(visit uint64, e callmedia.SessionEvent) {
	c, v := b.conn, b.machine.call
	if c == nil || v == nil || c.id != visit || v.id != visit {
		return
	}
	now := b.now()
	switch e.Kind {
	case callmedia.Connected:
		v.hubUp(now)
	case callmedia.Lost:
		if v.hubDown(now) {
			c.log.Warn().Err(e.Err).Msg("Connection to the focus lost, trying again")
		}
	case callmedia.RemoteUp, callmedia.RemoteMuted:
		v.remoteUp(now, e.Identity, e.Tile, true, e.Muted)
	case callmedia.RemoteGone:
		v.remoteUp(now, e.Identity, e.Tile, false, false)
	case callmedia.RemoteAway:
		b.machine.gone(now, v, e.Identity)
	case callmedia.RemoteBack:
		b.machine.back(v, e.Identity)
	case callmedia.PictureOn:
		v.remotePicture(e.Identity, e.Tile, true)
	case callmedia.PictureOff:
		v.remotePicture(e.Identity, e.Tile, false)
	case callmedia.ScreenOn, callmedia.ScreenOff:
		v.remoteScreen(e.Identity, e.Tile, e.Kind == callmedia.ScreenOn)
	}
}
