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
	"multifactorymodel.org/ewindow/bot/backoff"
	"multifactorymodel.org/ewindow/bot/commands"
	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bot/queue"
	"multifactorymodel.org/ewindow/bot/rtc"
	"multifactorymodel.org/ewindow/bot/verification"
	"multifactorymodel.org/ewindow/bridge/kiosk"
	"multifactorymodel.org/ewindow/bridge/window"
	"multifactorymodel.org/ewindow/callmedia"
	"multifactorymodel.org/ewindow/callmedia/page"
)

// Directory is what the bridge needs of the network: [multifactorymodel.org/ewindow/bot/network.Network] implements it.
type Directory interface {
	Own() (id.RoomID, bool)
	Removed() bool
	Windows() []directory.Window
	Kiosks() []id.UserID
	Name(user id.UserID) string
	SetState(directory.State)
}

// Calls is the Matrix side of calls. [rtc.Manager] implements most of it, and command ewindow adds the bot's part. Join, Remove and SetWindows
// return at once. All others but UserID block until their request has ended, so the bridge calls them in goroutines of their own.
type Calls interface {
	// UserID is the bot's user ID, "" before it is known. The screen shows it until the bot has been invited into a network.
	UserID() id.UserID
	// Join enters the MatrixRTC call of a room.
	Join(room id.RoomID, opts rtc.JoinOptions) (Call, error)
	// Decline declines a call notification (MSC4310): it tells the caller that nobody comes.
	Decline(ctx context.Context, room id.RoomID, notification id.EventID) error
	// Notice puts a text that needs no answer (m.notice) into the encrypted room.
	Notice(ctx context.Context, room id.RoomID, text string) error
	// People are the users in a room, ours and kiosks included.
	People(ctx context.Context, room id.RoomID) ([]id.UserID, error)
	// Ring sends a call notification (MSC4075) that rings users, and returns its id.
	Ring(ctx context.Context, room id.RoomID, users []id.UserID) (id.EventID, error)
	// Remove removes a stale member from the call of a room of our own.
	Remove(room id.RoomID, member rtc.Member)
	// SetWindows says which users are the network's windows.
	SetWindows(users []id.UserID)
	// KnowIdentities asks for the identities of users of whom none is known.
	KnowIdentities(ctx context.Context, users []id.UserID) error
	// ConfirmIdentity makes a user's new identity the trusted one.
	ConfirmIdentity(ctx context.Context, user id.UserID, key id.Ed25519) error
	// AnswerEmoji says whether people see the same emoji as the other side of a comparison.
	AnswerEmoji(ctx context.Context, same bool) error
}

// Call is one call this window is in: [rtc.Call] implements it.
type Call interface {
	Leave(ctx context.Context) error
	SetRecipients([]bot.Device)
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
	SetSound(on bool)
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

// TokenFunc fetches the address and a fresh access token of the SFU behind a livekit_service_url.
type TokenFunc = func(ctx context.Context, service string) (url, jwt string, err error)

// Config is what a Bridge is made of. Every field is required unless it is said to be optional.
type Config struct {
	// The screen shows Name and the time in Timezone (IANA name). City is not used. Languages are the page's languages, the most important
	// one first. The notices in the window's room are in the first one. All but Name are optional.
	Name, City, Timezone string
	Languages            []string
	// Countdown is how long "3, 2, 1" lasts; the connection is made meanwhile.
	Countdown time.Duration
	// TestPattern makes the page send a test card and a tone instead of camera and microphone.
	TestPattern bool
	// GuestsUnseen lets guests see and hear the window with their cameras off, while somebody else is seen.
	GuestsUnseen bool

	Directory Directory
	Screen    Screen
	Page      Page
	Calls     Calls
	// NewSession makes the media session of a call. Our own tracks are published to service. token fetches a fresh access token for any
	// service.
	NewSession func(service string, token TokenFunc, onEvent func(callmedia.SessionEvent)) (Session, error)

	Log zerolog.Logger
}

// Bridge is one window. Make it with [New], feed it by the Handle methods, and let [Bridge.Run] do the rest.
type Bridge struct {
	cfg   Config
	queue *queue.Queue[func()]
	rules *window.Rules
	now   func() time.Time

	// The rest belongs to Run's goroutine.
	ctx       context.Context
	tasks     sync.WaitGroup
	conn      *connection
	leaving   map[id.RoomID]chan struct{} // calls that are being left; each channel is closed when its call has been left
	lastMedia chan struct{}               // closed when the last session is closed
	announced directory.State
	rung      uint64      // the ring that was sent last
	kiosks    []id.UserID // of the windows whose identities were asked for

	page         uint64        // the page on the screen, 0 for none
	pageWork     chan struct{} // closed when the last function given to onPage has returned
	offerAt      time.Time     // when to offer a new connection, zero for not at all
	offerFailed  bool          // the last offer did not lead to a connection
	offerBackoff backoff.Backoff
}

// New checks the configuration. Nothing happens before [Bridge.Run].
func New(cfg Config) (*Bridge, error) {
	switch {
	case cfg.Directory == nil, cfg.Screen == nil, cfg.Page == nil, cfg.Calls == nil, cfg.NewSession == nil:
		return nil, errors.New("bridge: a part of the window is missing")
	case cfg.Name == "":
		return nil, errors.New("bridge: the window has no name")
	case cfg.Countdown < 0:
		return nil, errors.New("bridge: the countdown is negative")
	}
	rules := window.New(cfg.Countdown, cfg.Page.Tiles())
	if cfg.GuestsUnseen {
		rules.AllowUnseenGuests()
	}
	return &Bridge{
		cfg:          cfg,
		queue:        queue.New[func()](),
		rules:        rules,
		now:          time.Now,
		leaving:      make(map[id.RoomID]chan struct{}),
		offerBackoff: backoff.Backoff{Min: minOfferWait, Max: maxOfferWait},
	}, nil
}

// HandlePage handles a message of the page. Like all Handle methods, it never blocks and may be called from any goroutine.
func (b *Bridge) HandlePage(m kiosk.Message) {
	b.queue.Put(func() { b.handlePage(m) })
}

// HandleMedia handles an event of the page's peer connection.
func (b *Bridge) HandleMedia(e page.Event) {
	b.queue.Put(func() { b.handleMedia(e) })
}

// HandleMembers says who the foreign members of the call in a room are. The list is complete. It is called each time they change. ended are devices of
// windows that were in the call, see [rtc.Config].
func (b *Bridge) HandleMembers(room id.RoomID, members []rtc.Member, ended ...bot.Device) {
	list := make([]window.Member, 0, len(members))
	for _, m := range members {
		list = append(list, window.Member{
			User: m.User, Device: m.Device, Identity: m.Identity, Alias: m.Alias, Service: m.Service, Created: m.Created,
		})
	}
	gone := make([]window.Device, 0, len(ended))
	for _, device := range ended {
		gone = append(gone, window.Device(device))
	}
	b.queue.Put(func() { b.rules.SetMembers(room, list, gone...) })
}

// HandleRing reports that sender sent a call notification (MSC4075) in a room. It counts until expires.
func (b *Bridge) HandleRing(room id.RoomID, sender id.UserID, notification id.EventID, expires time.Time) {
	b.queue.Put(func() { b.rules.CallNotification(b.now(), room, sender, notification, expires) })
}

// HandleDecline reports that somebody declined our notification (MSC4310) and does not come.
func (b *Bridge) HandleDecline(room id.RoomID, sender id.UserID, notification id.EventID) {
	b.queue.Put(func() { b.rules.RingDecline(room, sender, notification) })
}

// HandleIdentity reports that a user's identity is new, with their present key. An empty key says that it is confirmed, or the first one again.
func (b *Bridge) HandleIdentity(user id.UserID, key id.Ed25519) {
	b.queue.Put(func() { b.rules.SetIdentity(user, key) })
}

// HandleCommand reports what an admin wrote to the window in a room.
func (b *Bridge) HandleCommand(c commands.Command) {
	b.cfg.Log.Info().Stringer("user_id", c.Sender).Stringer("room_id", c.Room).Strs("words", c.Words).Msg("An admin wrote to the window")
	b.queue.Put(func() { b.rules.Command(c.Room, c.Sender, c.Words) })
}

// HandleEmoji reports emoji that are to be compared with an admin's, nil for none any more.
func (b *Bridge) HandleEmoji(e *verification.Emoji) {
	b.queue.Put(func() {
		if e == nil {
			b.rules.EndComparison()
			return
		}
		symbols := make([]string, len(e.Symbols))
		for i, symbol := range e.Symbols {
			symbols[i] = string(symbol)
		}
		b.rules.SetComparison(e.User, symbols, e.Names)
	})
}

// HandleLegacyCall reports that sender called a room in the way that Matrix had before MatrixRTC, and was rejected.
func (b *Bridge) HandleLegacyCall(room id.RoomID, sender id.UserID) {
	b.queue.Put(func() { b.rules.LegacyCall(b.now(), room, sender) })
}

// HandleDirectory reports that the directory of windows, or our own entry in it, has changed.
func (b *Bridge) HandleDirectory() {
	b.queue.Put(b.readDirectory)
}

// HandleHomeserver says whether the homeserver answers, and since when.
func (b *Bridge) HandleHomeserver(online bool, since time.Time) {
	if online {
		since = time.Time{}
	}
	b.queue.Put(func() { b.rules.SetHomeserver(since) })
}

// Run owns the window until ctx ends. It then leaves the call, which takes up to six seconds, and returns nil.
func (b *Bridge) Run(ctx context.Context) error {
	b.ctx = ctx
	b.rules.Start(b.now())
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
	windows := b.cfg.Directory.Windows()
	b.rules.SetDirectory(own, joined, windows)
	b.rules.SetKnown(b.cfg.Directory.Removed(), b.cfg.Directory.Kiosks())
	kiosks := make([]id.UserID, 0, len(windows))
	for _, w := range windows {
		kiosks = append(kiosks, w.Kiosk)
	}
	b.cfg.Calls.SetWindows(kiosks)
	if slices.Equal(kiosks, b.kiosks) {
		return
	}
	// A window's first identity is kept from the moment when we hear of the window, and not only from the first visit.
	b.kiosks = kiosks
	b.tasks.Go(func() {
		if err := b.cfg.Calls.KnowIdentities(b.ctx, kiosks); err != nil && b.ctx.Err() == nil {
			b.cfg.Log.Warn().Err(err).Msg("The identities of the network's windows can't be asked for, it will be tried again")
			b.queue.Put(func() { b.kiosks = nil }) // when the directory changes again
		}
	})
}

// reconcile does what the plan says, and returns when it is to be called again.
func (b *Bridge) reconcile() time.Time {
	now := b.now()
	b.rules.Advance(now)
	p := b.rules.Plan(now)
	if b.conn != nil && b.conn.visit != p.Visit {
		b.hangUp()
	}
	if b.conn == nil && p.Visit != 0 {
		b.call(p)
	}
	if b.conn != nil {
		b.conn.follow(p)
		b.ringPeople(p)
	}
	wake := p.Wake
	if !b.offerAt.IsZero() && b.page != 0 {
		if now.Before(b.offerAt) {
			if wake.IsZero() || b.offerAt.Before(wake) {
				wake = b.offerAt
			}
		} else {
			b.offer()
		}
	}
	b.announce(p)
	b.show(p.View)
	for _, m := range b.rules.TakeMessages() {
		b.send(p.Own, m)
	}
	return wake
}

// announce tells the network this window's state, if it has changed.
func (b *Bridge) announce(p window.Plan) {
	if !p.Settled || p.Announce == b.announced {
		return
	}
	b.announced = p.Announce
	b.cfg.Directory.SetState(p.Announce)
}
