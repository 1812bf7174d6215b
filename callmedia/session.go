package callmedia

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/callmedia/frames"
	"multifactorymodel.org/ewindow/callmedia/track"
	"multifactorymodel.org/ewindow/turnserver/addrpolicy"
)

// Remote is a participant that may be shown: its LiveKit identity and the livekit_service_url where it publishes (MSC4195).
type Remote struct {
	Identity, Service string
	// Hushed says that the participant is not heard.
	Hushed bool
	// Guest says that the participant is not a window. It may show us small, or have little bandwidth, so we also send the small picture.
	Guest bool
}

// TokenFunc fetches the address and a fresh access token of the SFU behind a livekit_service_url.
type TokenFunc = func(ctx context.Context, service string) (url, jwt string, err error)

// SessionConfig configures a Session. Local, Service, Token, PictureLimit, OnEvent and Counters are required.
type SessionConfig struct {
	Local Local
	// Service is the own livekit_service_url: where we publish.
	Service string
	Token   TokenFunc
	Log     zerolog.Logger
	// AllowLoopback also offers loopback candidates, ForceRelay only relayed ones.
	AllowLoopback, ForceRelay bool
	// Allowed says which addresses may be connected to for the services of others; nil means public ones only (package addrpolicy). The SFU behind
	// Service may have any address.
	Allowed func(netip.Addr) bool
	// PictureLimit is how long a picture may stand still before it counts as stopped, see [PictureOff]. It has no default: it is a rule of the
	// window, not of its media.
	PictureLimit time.Duration
	// Line is what is known of the line; nil means nothing. All sessions of a window share it.
	Line *Line
	// MaxBitrate limits the picture that we send, in bit/s; 0 means 1.7 Mbit/s.
	MaxBitrate int
	// OnEvent is called from one goroutine, in order, and must not block.
	OnEvent func(SessionEvent)
	// Counters count what the session does. All sessions of a window share them.
	Counters *Counters
}

// Session is the media of one call. Make it with [NewSession], then Start. All methods may be called from any goroutine. The package comment
// lists its goroutines.
type Session struct {
	cfg      SessionConfig
	counters *Counters
	start    Stats // what counters had when the session was made
	tasks    sync.WaitGroup
	ctx      context.Context // the session's life
	stop     context.CancelFunc
	queue    chan func() // work for run; see post
	done     chan struct{}

	life            sync.Mutex // held by Start and Close, and guards what follows
	started, closed bool
	unbind          func() bool // makes the end of Start's context not end the session any more

	sending       atomic.Bool
	sound         atomic.Bool  // sound goes out even if sending is off
	packetSize    atomic.Int32 // longest packet of a picture in bytes; 0: as long as they get through
	senders       [track.Kinds]*sender
	pictureWanted [track.MaxTiles]atomic.Pointer[receiver] // by tile: whom to ask for a key frame

	// What follows belongs to the goroutine of run.
	remotes      []Remote
	camera       bool
	participants map[string]*participant   // by identity
	connections  map[string]*sfuConnection // by livekit_service_url
	here         map[string]bool           // the identities that Arrived was emitted for, see emitArrivals

	estimate   int            // of the bandwidth to our own SFU, in bit/s; negative before the first
	highest    int            // estimate so far
	narrow     bool           // our line was full, and carries less than our largest picture
	asks       map[string]ask // by identity: what windows want of our picture
	told       map[string]ask // what they were told that we want of theirs
	smallOnly  bool           // nobody shows our picture large
	bitrate    int            // as Local was told last
	smallLimit int
	loss       float64 // of our sound, as Local was told last

	logged    Stats     // by logLine
	slow      Slow      // as emitted last
	slowSince time.Time // when that was last found to be so
}

// NewSession checks the configuration and opens nothing.
func NewSession(cfg SessionConfig) (*Session, error) {
	switch {
	case cfg.Local == nil, cfg.Token == nil, cfg.OnEvent == nil, cfg.Counters == nil:
		return nil, errors.New("call media: a part is missing")
	case cfg.Service == "":
		return nil, errors.New("call media: no livekit_service_url to publish at")
	case cfg.PictureLimit <= 0:
		return nil, errors.New("call media: no limit for a picture that stands still")
	case cfg.MaxBitrate < 0:
		return nil, errors.New("call media: the limit of the bitrate is negative")
	case cfg.Local.Tiles() > track.MaxTiles:
		return nil, fmt.Errorf("call media: more than %d tiles", track.MaxTiles)
	}
	if cfg.MaxBitrate == 0 {
		cfg.MaxBitrate = defaultBitrate
	}
	if cfg.Line == nil {
		cfg.Line = new(Line)
	}
	if cfg.Allowed == nil {
		cfg.Allowed = addrpolicy.Public
	}
	s := &Session{
		cfg: cfg, counters: cfg.Counters, start: cfg.Counters.Stats(), estimate: -1, queue: make(chan func(), 64), done: make(chan struct{}),
		participants: make(map[string]*participant), connections: make(map[string]*sfuConnection), here: make(map[string]bool),
		asks: make(map[string]ask), told: make(map[string]ask),
	}
	if up, _ := cfg.Line.known(time.Now()); up > 0 {
		s.estimate, s.highest = up, none // it fell before
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	for kind := range s.senders {
		var err error
		if s.senders[kind], err = newSender(s, track.Kind(kind)); err != nil {
			return nil, fmt.Errorf("call media: %w", err)
		}
	}
	return s, nil
}

// Start begins to connect, makes the session the uplink of Local and returns at once. The session also ends when ctx ends.
func (s *Session) Start(ctx context.Context) error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.started || s.ctx.Err() != nil {
		return errors.New("call media: started twice, or after its end")
	}
	s.started = true
	s.unbind = context.AfterFunc(ctx, s.stop)
	s.limitBitrate()
	s.cfg.Local.SetUplink(s)
	s.connect(s.cfg.Service)
	s.tasks.Go(s.run)
	return nil
}

// Close leaves all SFUs and waits until everything has ended. It may be called twice, but not from OnEvent.
func (s *Session) Close() error {
	s.life.Lock()
	defer s.life.Unlock()
	s.sending.Store(false)
	s.sound.Store(false)
	if s.started && !s.closed {
		s.cfg.Local.SetUplink(nil)
		s.unbind()
	}
	s.closed = true
	s.stop()
	s.tasks.Wait()
	return nil
}

// run is the goroutine that owns the session's state.
func (s *Session) run() {
	defer close(s.done)
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	asking := time.NewTicker(100 * time.Millisecond)
	defer asking.Stop()
	reporting := time.NewTicker(lineReport)
	defer reporting.Stop()
	for beat := 0; ; {
		select {
		case <-s.ctx.Done():
			for _, c := range s.connections {
				c.stopKeyFrameRequests()
			}
			return
		case f := <-s.queue:
			f()
		case <-reporting.C:
			s.logLine(lineReport)
		case now := <-asking.C:
			s.askOthers(now)
			s.reportLoss(now)
		case now := <-tick.C:
			s.checkPictures(now)
			s.checkSlow(now)
			s.requestSizes(now)
			for _, sender := range s.senders {
				sender.sendEmpty()
			}
			if beat++; beat%4 == 0 {
				s.passClocks()
			}
		}
	}
}

// post hands f to run, which calls it. It waits while run is busy, and drops f when the session has ended.
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
		s.assignTiles()
		s.limitBitrate()
	})
}

// SetKey sets a participant's media key. Keys may come before the participant. material is copied.
func (s *Session) SetKey(identity string, index uint8, material []byte) {
	material = append([]byte(nil), material...)
	s.post(func() {
		p := s.participant(identity)
		if p == nil {
			s.counters.keysRefused.Add(1)
			return
		}
		if err := p.keys.Set(index, material); err != nil {
			s.counters.keysRefused.Add(1)
			s.cfg.Log.Warn().Err(err).Msg("A participant's key can't be used")
			return
		}
		if p.video != nil {
			p.video.askKeyFrame()
		}
	})
}

// UseKey sets the media key with which the next frames are encrypted.
func (s *Session) UseKey(index uint8, material []byte) {
	for _, sender := range s.senders {
		if err := sender.encryptor.SetKey(index, material); err != nil {
			s.cfg.Log.Error().Err(err).Msg("Our own key can't be used")
		}
	}
	s.RequestKeyFrame()
}

// SetSending opens and shuts the gate. While it is shut no frame leaves, and the SFU is told nothing of that.
func (s *Session) SetSending(on bool) {
	if on && !s.sending.Load() {
		for _, kind := range []track.Kind{track.Video, track.SmallVideo} {
			s.senders[kind].waitKey.Store(true)
		}
		s.sending.Store(true)
		s.RequestKeyFrame()
		return
	}
	s.sending.Store(on)
}

// SetSound lets the sound go out while the gate is shut for the picture, and tells the SFU that the microphone is on, even if the camera is not.
func (s *Session) SetSound(on bool) {
	s.sound.Store(on)
	s.post(s.tellMuted)
}

// SetCamera tells the SFU, and so the others, whether camera and microphone are on at all (mute).
func (s *Session) SetCamera(on bool) {
	s.post(func() {
		s.camera = on
		s.tellMuted()
	})
}

func (s *Session) tellMuted() {
	if c := s.connections[s.cfg.Service]; c != nil {
		c.tellMuted()
	}
}

// RequestKeyFrame asks our page for a key frame, for somebody who has just got our key.
func (s *Session) RequestKeyFrame() {
	s.requestKeyFrame(track.Video)
	s.requestKeyFrame(track.SmallVideo)
}

// requestKeyFrame asks only while the gate is open. An encoder makes the next key frame no sooner than 300 ms after the last one, and everybody
// waits for the key frame when the gate opens.
func (s *Session) requestKeyFrame(kind track.Kind) {
	if s.sending.Load() {
		s.cfg.Local.RequestKeyFrame(kind)
	}
}

// HandleFrame implements [track.Uplink].
func (s *Session) HandleFrame(kind track.Kind, source track.Source, f frames.Frame) {
	s.senders[kind].send(time.Now(), source, f)
}

// HandleClock implements [track.Uplink].
func (s *Session) HandleClock(kind track.Kind, source track.Source, ntp time.Time, timestamp uint32) {
	s.senders[kind].setClock(time.Now(), source, ntp, timestamp)
}

// HandleKeyFrameRequest implements [track.Uplink].
func (s *Session) HandleKeyFrameRequest(tile int) {
	if tile < 0 || tile >= len(s.pictureWanted) {
		return
	}
	if r := s.pictureWanted[tile].Load(); r != nil {
		r.askKeyFrame()
	}
}

// sources is how many clocks were numbered, in all sessions: the same page shows one session after the other.
var sources atomic.Uint64

// newSource returns a number for a new clock.
func newSource() track.Source { return track.Source(sources.Add(1)) }
