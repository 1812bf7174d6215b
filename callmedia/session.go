package callmedia

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/callmedia/e2ee"
	"multifactorymodel.org/ewindow/callmedia/frames"
)

const (
	// defaultBitrate is enough for 720p30 of people in a room, in bit/s.
	defaultBitrate = 1_700_000
	// smallBitrate is for the small picture, in bit/s. A line that carries less than smallUntil has no room for both, nor has it again
	// below smallFrom.
	smallBitrate = 150_000
	smallFrom    = 600_000
	smallUntil   = 450_000
	// audioBitrate is what the estimate of the line leaves to sound, in bit/s.
	audioBitrate = 48_000
	// minBitrate is the least that is asked of the page's encoder, in bit/s.
	minBitrate = 100_000
	// maxPeers limits whom keys are kept for.
	maxPeers = 64
)

// Remote is a participant that may be shown: its LiveKit identity and the livekit_service_url where it publishes (MSC4195).
type Remote struct {
	Identity, Service string
	// Guest says that it is no window: it may show us small, or have a bad line, and so gets the choice of a small picture.
	Guest bool
}

// TokenFunc fetches the address and a fresh access token of the SFU behind a livekit_service_url.
type TokenFunc = func(ctx context.Context, service string) (url, jwt string, err error)

// EventKind says what happened in a call's media.
type EventKind uint8

const (
	// Connected: the own SFU was joined and both tracks are published.
	Connected EventKind = iota
	// Lost: the own SFU was lost, or can't be reached; Err says why. The session tries again by itself.
	Lost
	// RemoteUp: a participant publishes a picture; Muted says whether it is held back.
	RemoteUp
	// RemoteMuted: a participant's picture was muted or unmuted.
	RemoteMuted
	// RemoteGone: a participant publishes no picture any more.
	RemoteGone
	// RemoteAway: a participant that is to be shown is not in the room of its SFU, which we are in.
	RemoteAway
	// RemoteBack: it is there again, or it can't be told any more.
	RemoteBack
	// PictureOn: the first decrypted picture was handed to the page after none.
	PictureOn
	// PictureOff: no picture came for [SessionConfig.PictureLimit], or the participant is gone.
	PictureOff
	// ScreenOn: the first picture of a participant's shared screen was handed to the page. Slot is the screen's, which is another one
	// than the participant's. At most one screen is shown at a time.
	ScreenOn
	// ScreenOff: that screen is not shared any more.
	ScreenOff
)

// SessionEvent is one event of a [Session]. Identity and Slot name the participant.
type SessionEvent struct {
	Kind     EventKind
	Identity string
	Slot     int
	Muted    bool
	Err      error
}

// SessionConfig is what a Session is made of. Local, Service, Token and PictureLimit are required.
type SessionConfig struct {
	Local Local
	// Service is the own livekit_service_url: where we publish.
	Service    string
	Token      TokenFunc
	HTTPClient *http.Client
	Log        zerolog.Logger
	// AllowLoopback also offers loopback candidates, ForceRelay only relayed ones.
	AllowLoopback, ForceRelay bool
	// PictureLimit is how long a picture may stand still before it counts as stopped, see [PictureOff]. It is required: how long that may
	// be is a rule of the window and not of its media.
	PictureLimit time.Duration
	// MaxBitrate limits the picture that we send, in bit/s; 0 means 1.7 Mbit/s.
	MaxBitrate int
	// OnEvent is called from one goroutine, in order, and must not block. It may be nil.
	OnEvent func(SessionEvent)
}

// Session is the media of one call. Make it with [NewSession], then Start; all methods may be called from any goroutine.
//
// One goroutine owns who is shown where and which SFUs are connected. Each SFU has a goroutine that joins it again and again, each
// received track one that turns its packets into frames. Sent frames are encrypted by the goroutines of [Local].
type Session struct {
	cfg   SessionConfig
	stats counters
	tasks sync.WaitGroup
	ctx   context.Context // the session's life
	stop  context.CancelFunc
	queue chan func() // for the owner; see post
	done  chan struct{}

	life            sync.Mutex // held by Start and Close, and guards what follows
	started, closed bool
	unbind          func() bool // takes back what Start asked of its context

	sending       atomic.Bool
	senders       [kinds]*sender
	pictureWanted [16]atomic.Pointer[receiver] // by slot: whom to ask for a key frame

	// What follows belongs to the goroutine of run.
	remotes []Remote
	camera  bool
	peers   map[string]*peer
	links   map[string]*link

	estimate   int  // of the own line, in bit/s; negative before the first
	smallOnly  bool // nobody shows our picture large
	bitrate    int  // as Local was told last
	smallLimit int

	lastSource Source
}

// NewSession checks the configuration and opens nothing.
func NewSession(cfg SessionConfig) (*Session, error) {
	switch {
	case cfg.Local == nil, cfg.Token == nil:
		return nil, errors.New("call media: a part is missing")
	case cfg.Service == "":
		return nil, errors.New("call media: no livekit_service_url to publish at")
	case cfg.PictureLimit <= 0:
		return nil, errors.New("call media: no limit for a picture that stands still")
	case cfg.MaxBitrate < 0:
		return nil, errors.New("call media: the limit of the bitrate is negative")
	case cfg.Local.Slots() > 16:
		return nil, errors.New("call media: more than 16 slots")
	}
	if cfg.MaxBitrate == 0 {
		cfg.MaxBitrate = defaultBitrate
	}
	if cfg.OnEvent == nil {
		cfg.OnEvent = func(SessionEvent) {}
	}
	s := &Session{
		cfg: cfg, estimate: -1, queue: make(chan func(), 64), done: make(chan struct{}),
		peers: make(map[string]*peer), links: make(map[string]*link),
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	for kind := range s.senders {
		var err error
		if s.senders[kind], err = newSender(s, Kind(kind)); err != nil {
			return nil, fmt.Errorf("call media: %w", err)
		}
	}
	return s, nil
}

// Start begins to connect, takes the uplink of Local and returns at once. ctx bounds the whole session, as Close does.
func (s *Session) Start(ctx context.Context) error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.started || s.ctx.Err() != nil {
		return errors.New("call media: started twice, or after its end")
	}
	s.started = true
	s.unbind = context.AfterFunc(ctx, s.stop)
	s.limit()
	s.cfg.Local.SetUplink(s)
	s.addLink(s.cfg.Service)
	s.tasks.Go(s.run)
	return nil
}

// Close leaves all SFUs and waits until everything has ended. It may be called twice, but not from OnEvent.
func (s *Session) Close() error {
	s.life.Lock()
	defer s.life.Unlock()
	s.sending.Store(false)
	if s.started && !s.closed {
		s.cfg.Local.SetUplink(nil)
		s.unbind()
	}
	s.closed = true
	s.stop()
	s.tasks.Wait()
	return nil
}

// run is the owner.
func (s *Session) run() {
	defer close(s.done)
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for beat := 0; ; {
		select {
		case <-s.ctx.Done():
			for _, l := range s.links {
				l.stopAsking()
			}
			return
		case f := <-s.queue:
			f()
		case now := <-tick.C:
			s.checkPictures(now)
			s.resize(now)
			for _, sender := range s.senders {
				sender.greet()
			}
			if beat++; beat%4 == 0 {
				s.passClocks()
			}
		}
	}
}

// post gives the owner something to do. It waits when the owner is busy, and drops f when the session has ended.
func (s *Session) post(f func()) {
	select {
	case s.queue <- f:
	case <-s.done:
	case <-s.ctx.Done():
	}
}

// SetRemotes says who may be shown, the most important first, and on which service each publishes. Everybody else is ignored.
func (s *Session) SetRemotes(remotes []Remote) {
	remotes = append([]Remote(nil), remotes...)
	s.post(func() {
		s.remotes = remotes
		s.place()
		s.limit()
	})
}

// SetKey takes a participant's key. Keys may come before the participant. material is copied.
func (s *Session) SetKey(identity string, index uint8, material []byte) {
	material = append([]byte(nil), material...)
	s.post(func() {
		p := s.peer(identity)
		if p == nil {
			s.stats.keysRefused.Add(1)
			return
		}
		if err := p.keys.Set(index, material); err != nil {
			s.stats.keysRefused.Add(1)
			s.cfg.Log.Warn().Err(err).Msg("A participant's key can't be used")
			return
		}
		if p.video != nil {
			p.video.askKeyFrame()
		}
	})
}

// UseKey makes the next frames be encrypted with this key.
func (s *Session) UseKey(index uint8, material []byte) {
	for _, sender := range s.senders {
		if err := sender.encryptor.SetKey(index, material); err != nil {
			s.cfg.Log.Error().Err(err).Msg("The own key can't be used")
		}
	}
	s.RequestKeyFrame()
}

// SetSending is the gate: while it is off no frame leaves, and the SFU is told nothing of it.
func (s *Session) SetSending(on bool) {
	if on && !s.sending.Load() {
		for _, kind := range []Kind{Video, SmallVideo} {
			s.senders[kind].waitKey.Store(true)
		}
		s.sending.Store(true)
		s.RequestKeyFrame()
		return
	}
	s.sending.Store(on)
}

// SetCamera tells the SFU, and with it the others, whether camera and microphone are on at all (mute).
func (s *Session) SetCamera(on bool) {
	s.post(func() {
		s.camera = on
		if l := s.links[s.cfg.Service]; l != nil {
			l.mute(!on)
		}
	})
}

// RequestKeyFrame asks our page for a key frame, for somebody who has just got our key.
func (s *Session) RequestKeyFrame() {
	s.requestKeyFrame(Video)
	s.requestKeyFrame(SmallVideo)
}

// requestKeyFrame asks for one only while the gate is open: an encoder makes the next no sooner than 300 ms after the last, and it is the
// one at the gate's opening that everybody waits for.
func (s *Session) requestKeyFrame(kind Kind) {
	if s.sending.Load() {
		s.cfg.Local.RequestKeyFrame(kind)
	}
}

// HandleFrame implements [Uplink].
func (s *Session) HandleFrame(kind Kind, source Source, f frames.Frame) {
	s.senders[kind].send(time.Now(), source, f)
}

// HandleClock implements [Uplink].
func (s *Session) HandleClock(kind Kind, source Source, ntp time.Time, timestamp uint32) {
	s.senders[kind].setClock(time.Now(), source, ntp, timestamp)
}

// HandleKeyFrameRequest implements [Uplink].
func (s *Session) HandleKeyFrameRequest(slot int) {
	if slot < 0 || slot >= len(s.pictureWanted) {
		return
	}
	if r := s.pictureWanted[slot].Load(); r != nil {
		r.askKeyFrame()
	}
}

// setEstimate takes the send-side estimate of the line in bit/s.
func (s *Session) setEstimate(bps int) {
	s.post(func() {
		s.estimate = bps
		s.limit()
	})
}

// limit caps the page's encoders by what the line carries, and lets them rest when nobody wants what they make. The owner calls it, and
// Start before there is one.
func (s *Session) limit() {
	small := 0
	room := s.estimate < 0 || s.estimate >= smallFrom || s.smallLimit > 0 && s.estimate >= smallUntil
	if (room || s.smallOnly) && slices.ContainsFunc(s.remotes, func(r Remote) bool { return r.Guest }) {
		small = smallBitrate
	}
	bps := s.cfg.MaxBitrate
	if s.estimate >= 0 {
		bps = max(min(s.estimate-audioBitrate-small, s.cfg.MaxBitrate), minBitrate)
	}
	if s.smallOnly && small > 0 {
		bps = 0
	}
	// Small changes are not worth a message.
	diff := bps - s.bitrate
	slight := diff*20 < s.bitrate && -diff*20 < s.bitrate && bps != s.cfg.MaxBitrate && bps > 0
	if small == s.smallLimit && (slight || diff == 0) {
		return
	}
	s.bitrate, s.smallLimit = bps, small
	s.cfg.Local.SetBitrate(bps, small)
}

// peer is what is known of one other participant. It belongs to the owner.
type peer struct {
	identity  string
	keys      *e2ee.KeyRing
	service   string // where it publishes; empty when it must not be shown
	slot      int    // -1 when it is not shown
	audio     *receiver
	video     *receiver
	announced bool      // RemoteUp was sent
	muted     bool      // as last announced
	away      bool      // RemoteAway was sent
	picture   bool      // PictureOn was sent
	missed    time.Time // since when its announced picture has not come, zero while it does or is held back
	missLog   bool      // the log tells of it

	screen     *receiver
	screenSlot int  // -1 when its screen is not shown
	sharing    bool // ScreenOn was sent
}

// peer finds or makes the record of an identity; nil when there are too many.
func (s *Session) peer(identity string) *peer {
	p := s.peers[identity]
	if p != nil {
		return p
	}
	if len(s.peers) >= maxPeers {
		for name, old := range s.peers { // those who only once sent a key give way
			if old.service == "" && old.audio == nil && old.video == nil {
				delete(s.peers, name)
				break
			}
		}
		if len(s.peers) >= maxPeers {
			return nil
		}
	}
	p = &peer{identity: identity, keys: e2ee.NewKeyRing(), slot: -1, screenSlot: -1}
	s.peers[identity] = p
	return p
}
