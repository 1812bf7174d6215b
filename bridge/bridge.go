package bridge

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bot/queue"
	"multifactorymodel.org/ewindow/bot/rtc"
	"multifactorymodel.org/ewindow/bridge/kiosk"
	"multifactorymodel.org/ewindow/callmedia"
	"multifactorymodel.org/ewindow/callmedia/page"
)

// Directory is what the bridge needs of the network's room: [multifactorymodel.org/ewindow/bot/network.Network] implements it.
type Directory interface {
	Own() (id.RoomID, bool)
	Windows() []directory.Window
	Name(user id.UserID) string
	SetState(directory.State)
}

// Call is one call this window is in: [rtc.Call] implements it.
type Call interface {
	Leave(ctx context.Context) error
	SendKeyAgain()
	Renew()
	Token(ctx context.Context, service string) (url, jwt string, err error)
}

// Session is the media of one call: [callmedia.Session] implements it.
type Session interface {
	Start(ctx context.Context) error
	SetRemotes([]callmedia.Remote)
	SetKey(identity string, index uint8, material []byte)
	UseKey(index uint8, material []byte)
	SetSending(on bool)
	SetCamera(on bool)
	RequestKeyFrame()
	Close() error
}

// Page is the media side of the kiosk's page: [page.Page] implements it.
type Page interface {
	Connect(ctx context.Context) (sdp string, err error)
	Answer(sdp string) error
	Disconnect()
	// Tiles is how many others can be shown at once.
	Tiles() int
}

// Screen is the page's server: [kiosk.Server] implements it.
type Screen interface {
	SetState(kiosk.State)
	SendOffer(id uint64, sdp string)
	SendBitrate(bps, small int)
}

// Config is what a Bridge is made of. Every field is required unless it is said to be optional.
type Config struct {
	// Name and City are shown to people, as is the time in Timezone (IANA name). Languages are the page's; the
	// first one leads, and is that of the notices in the window's room. All but Name are optional.
	Name, City, Timezone string
	Languages            []string
	// Countdown is how long "3, 2, 1" lasts; the connection is made meanwhile.
	Countdown time.Duration
	// TestPattern, which is optional, makes the page send a test card and a tone instead of camera and microphone.
	TestPattern bool

	// User tells who must be invited into a network, shown while nobody has done so. It may be nil.
	User func() id.UserID

	Directory Directory
	Screen    Screen
	Page      Page
	// Join enters the MatrixRTC call of a room, as [rtc.Manager.Join] does: it returns at once.
	Join func(room id.RoomID, opts rtc.JoinOptions) (Call, error)
	// Decline tells the caller whose call notification this is that nobody comes (MSC4310), as [rtc.Manager.Decline] does, and Notice
	// puts a text that needs no answer into the encrypted room. Both block until it is sent or has failed; either may be nil.
	Decline func(ctx context.Context, room id.RoomID, notification id.EventID) error
	Notice  func(ctx context.Context, room id.RoomID, text string) error
	// People are the users in the window's own room, and Ring rings some of them, as [rtc.Manager.Ring] does: it returns its notification.
	// Both may block. Either may be nil, and then the page does not offer it.
	People func() []id.UserID
	Ring   func(ctx context.Context, room id.RoomID, users []id.UserID) (id.EventID, error)
	// Remove takes somebody out of the call of a room of our own who is not there, as [rtc.Manager.Remove] does: it returns at once. It may be
	// nil.
	Remove func(room id.RoomID, member rtc.Member)
	// NewSession makes the media side of a call. Own tracks go to service; token fetches a fresh token for any service.
	NewSession func(service string, token TokenFunc, onEvent func(callmedia.SessionEvent)) (Session, error)

	Log zerolog.Logger
}

// maxOfferWait is the longest waiting between two offers of a connection that the page does not take.
const maxOfferWait = 10 * time.Second

// TokenFunc fetches the address and a fresh access token of the SFU behind a livekit_service_url.
type TokenFunc = func(ctx context.Context, service string) (url, jwt string, err error)

// Bridge is one window. Make it with [New], feed it by the Handle methods, and let [Bridge.Run] do the rest.
type Bridge struct {
	cfg     Config
	queue   *queue.Queue[func()]
	machine *machine
	now     func() time.Time

	// The rest belongs to Run's goroutine.
	ctx       context.Context
	tasks     sync.WaitGroup
	conn      *connection
	leaving   map[id.RoomID]chan struct{} // calls that are being left, until they are
	lastMedia chan struct{}               // closed when the session before is closed
	announced directory.State
	rung      uint64 // the ringing that was sent last
	shown     kiosk.State
	wasShown  bool

	page     uint64        // the page before the window, 0 for none
	pageWork chan struct{} // closed when the last thing that was begun with the page's connection is done
	offerAt  time.Time     // when to offer a new connection, zero for not at all
	offers   int           // that did not lead to a connection, in a row
}

// New checks the configuration. Nothing happens before [Bridge.Run].
func New(cfg Config) (*Bridge, error) {
	switch {
	case cfg.Directory == nil, cfg.Screen == nil, cfg.Page == nil, cfg.Join == nil, cfg.NewSession == nil:
		return nil, errors.New("bridge: a part of the window is missing")
	case cfg.Name == "":
		return nil, errors.New("bridge: the window has no name")
	case cfg.Countdown < 0:
		return nil, errors.New("bridge: the countdown is negative")
	}
	b := &Bridge{
		cfg:     cfg,
		queue:   queue.New[func()](),
		machine: newMachine(cfg.Countdown),
		now:     time.Now,
		leaving: make(map[id.RoomID]chan struct{}),
	}
	b.machine.slots = min(cfg.Page.Tiles(), maxPictures)
	return b, nil
}

// HandlePage takes a message of the page. It never blocks and may be called from any goroutine, as all Handle methods.
func (b *Bridge) HandlePage(m kiosk.Message) {
	b.queue.Put(func() { b.handlePage(m) })
}

// HandleMedia takes an event of the page's peer connection.
func (b *Bridge) HandleMedia(e page.Event) {
	b.queue.Put(func() { b.handleMedia(e) })
}

// HandleMembers takes the foreign members of the call in a room, all of them, each time they change.
func (b *Bridge) HandleMembers(room id.RoomID, members []rtc.Member) {
	b.queue.Put(func() { b.machine.setMembers(room, members) })
}

// HandleRing takes the notification that sender calls a room (MSC4075), which counts until expires.
func (b *Bridge) HandleRing(room id.RoomID, sender id.UserID, notification id.EventID, expires time.Time) {
	b.queue.Put(func() { b.machine.ring(b.now(), room, sender, notification, expires) })
}

// HandleDecline takes the answer of somebody who was rung by our notification and does not come (MSC4310).
func (b *Bridge) HandleDecline(room id.RoomID, sender id.UserID, notification id.EventID) {
	b.queue.Put(func() { b.machine.ringDecline(b.now(), room, sender, notification) })
}

// HandleLegacyCall says that sender called a room in the way that Matrix had before MatrixRTC, and was rejected.
func (b *Bridge) HandleLegacyCall(room id.RoomID, sender id.UserID) {
	b.queue.Put(func() { b.machine.legacyCall(b.now(), room, sender) })
}

// HandleDirectory says that the directory of windows, or our own place in it, has changed.
func (b *Bridge) HandleDirectory() {
	b.queue.Put(b.readDirectory)
}

// HandleHomeserver says whether the homeserver answers, and since when.
func (b *Bridge) HandleHomeserver(online bool, since time.Time) {
	b.queue.Put(func() {
		if online {
			since = time.Time{}
		}
		b.machine.setHomeserver(since)
	})
}

// Run owns the window until ctx ends. It then leaves the call, which takes up to six seconds, and returns nil.
func (b *Bridge) Run(ctx context.Context) error {
	b.ctx = ctx
	b.machine.openedAt = b.now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	b.readDirectory()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-b.queue.Ready():
		case <-timer.C:
		}
		for _, f := range b.queue.Take() {
			f()
		}
		if wake := b.reconcile(); wake.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(max(wake.Sub(b.now()), 0))
		}
	}
	b.hangUp()
	b.onPage(b.cfg.Page.Disconnect)
	b.tasks.Wait()
	return nil
}

func (b *Bridge) readDirectory() {
	own, joined := b.cfg.Directory.Own()
	b.machine.setDirectory(own, joined, b.cfg.Directory.Windows())
}

func (b *Bridge) handlePage(msg kiosk.Message) {
	now := b.now()
	switch msg := msg.(type) {
	case kiosk.PageUp:
		b.page = msg.ID
		b.machine.setPage(now, true)
		// A page that stands open while its kiosk was started anew goes on; one that was shut stays shut.
		if !b.machine.decided {
			b.machine.setShutter(now, msg.Shutter)
		}
		b.machine.decided = true
		b.offers, b.offerAt = 0, now
	case kiosk.PageDown:
		if msg.ID == b.page {
			b.page = 0
			b.machine.setPage(now, false)
			b.onPage(b.cfg.Page.Disconnect)
		}
	case kiosk.Answer:
		if msg.ID != b.page {
			return
		}
		b.onPage(func() {
			if err := b.cfg.Page.Answer(msg.SDP); err != nil {
				b.cfg.Log.Warn().Err(err).Msg("The page's answer could not be used")
			}
		})
	case kiosk.Shutter:
		b.machine.setShutter(now, msg.To)
		if msg.To == directory.Open && msg.Room != "" {
			b.machine.choose(id.RoomID(msg.Room))
		}
	case kiosk.RingPeople:
		switch {
		case !msg.Start:
			b.machine.endRing(now, "")
		case b.cfg.Ring != nil && b.cfg.People != nil:
			b.machine.startRing(now)
		}
	case kiosk.KnockAnswer:
		b.machine.answerKnock(now, msg.ID, msg.LetIn)
	case kiosk.Camera:
		b.machine.setCamera(msg.State, msg.Code)
	case kiosk.Picture:
		b.cfg.Log.Debug().Int("slot", msg.Slot).Bool("playing", msg.Playing).Uint64("frames", msg.Frames).Msg("Picture on the page")
	}
}

// onPage does something with the page's connection beside Run, which must not wait for it: one thing after the other.
func (b *Bridge) onPage(f func()) {
	before, done := b.pageWork, make(chan struct{})
	b.pageWork = done
	b.tasks.Go(func() {
		defer close(done)
		if before != nil {
			<-before
		}
		f()
	})
}

// offer makes a new peer connection for a page that has come, or whose connection broke.
func (b *Bridge) offer() {
	page := b.page
	b.offerAt = time.Time{}
	b.onPage(func() {
		sdp, err := b.cfg.Page.Connect(b.ctx)
		b.queue.Put(func() {
			if page != b.page {
				return
			}
			if err != nil {
				b.cfg.Log.Error().Err(err).Msg("No media connection to the page can be offered, it will be tried again")
				b.offerLater()
				return
			}
			b.cfg.Screen.SendOffer(page, sdp)
		})
	})
}

// offerLater offers again: at once the first time, then after longer and longer.
func (b *Bridge) offerLater() {
	wait := time.Duration(0)
	if b.offers > 0 {
		wait = min(time.Second<<min(b.offers-1, 8), maxOfferWait)
	}
	b.offers++
	b.offerAt = b.now().Add(wait)
}

func (b *Bridge) handleMedia(e page.Event) {
	switch e.Kind {
	case page.Connected:
		b.offers = 0
	case page.Disconnected:
		// The page still stands, so only its connection broke (the PC slept, a network interface went).
		if b.page != 0 {
			b.offerLater()
		}
	case page.Bitrate:
		b.cfg.Screen.SendBitrate(e.BPS, e.Small)
	}
}

// reconcile compares what should be with what is, and returns when to look again.
func (b *Bridge) reconcile() time.Time {
	now := b.now()
	p := b.machine.decide(now)
	if b.conn != nil && b.conn.id != p.visit {
		b.hangUp()
	}
	if b.conn == nil && p.visit != 0 {
		b.call(p)
	}
	if b.conn != nil {
		b.conn.steer(p)
		if b.conn.room == b.machine.own {
			b.ringPeople()
		}
	}
	wake := p.wake
	soonest := func(t time.Time) {
		if wake.IsZero() || t.Before(wake) {
			wake = t
		}
	}
	if !b.offerAt.IsZero() && b.page != 0 {
		if now.Before(b.offerAt) {
			soonest(b.offerAt)
		} else {
			b.offer()
		}
	}
	b.announce(now, p.announce)
	b.show(p.screen)
	for _, e := range b.machine.takeErrands() {
		b.send(e)
	}
	return wake
}

// call enters the call of a visit, unless an earlier call there is still being left.
func (b *Bridge) call(p plan) {
	if b.busy(p.room) {
		return
	}
	c := &connection{id: p.visit, room: p.room, log: b.cfg.Log.With().Stringer("room_id", p.room).Uint64("visit", p.visit).Logger()}
	call, err := b.cfg.Join(p.room, rtc.JoinOptions{Intent: "video", OnEvent: func(e rtc.Event) {
		b.queue.Put(func() { b.handleCall(c.id, e) })
	}})
	if err != nil {
		c.log.Error().Err(err).Msg("The call could not be entered, it is left alone for a while")
		b.machine.fail(b.now(), p.room)
		b.queue.Put(func() {}) // decide again
		return
	}
	c.log.Info().Msg("A visit begins")
	c.call = call
	b.conn = c
}

// busy says whether the last session still holds the page or the room's last call is still being left. What ends it
// puts an empty event into the queue, so that reconcile looks again.
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
	}
	c.log.Info().Msg("A visit ends")
	left, silent := make(chan struct{}), make(chan struct{})
	b.leaving[c.room], b.lastMedia = left, silent
	b.tasks.Go(func() {
		c.close(b.ctx, func() {
			close(silent)
			b.queue.Put(func() {})
		})
		close(left)
		b.queue.Put(func() {})
	})
}

// announce tells the network, once it is known whether the window is open: right after a start the page is asked
// first, so that a restart does not shut a window for a moment.
func (b *Bridge) announce(now time.Time, s directory.State) {
	if b.machine.settling(now) || !b.machine.joined || s == b.announced {
		return
	}
	b.announced = s
	b.cfg.Directory.SetState(s)
}
