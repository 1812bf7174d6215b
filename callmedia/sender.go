package callmedia

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"

	"multifactorymodel.org/ewindow/callmedia/e2ee"
	"multifactorymodel.org/ewindow/callmedia/frames"
	"multifactorymodel.org/ewindow/callmedia/sfu"
	"multifactorymodel.org/ewindow/callmedia/track"
)

// maxEmptyPackets is how many packets without a frame are sent on a new track: the first ones may be lost.
const maxEmptyPackets = 4

// publication is the part of a published layer that a sender writes to.
type publication interface {
	WriteRTP(*rtp.Packet) error
	SetClock(ntp time.Time, timestamp uint32)
}

var _ publication = (*sfu.LocalLayer)(nil)

// sender encrypts the frames of one kind and sends them to the SFU, if one is joined and the gate is open.
type sender struct {
	session   *Session
	kind      track.Kind
	encryptor *e2ee.Encryptor
	out       atomic.Pointer[output] // nil while no SFU is joined
	waitKey   atomic.Bool            // pictures only: no key frame was sent that the next frame could refer to
	sent      atomic.Bool            // a frame went into out

	// These belong to the goroutine that sends. first is the key frame that a publication began with. It is empty once that frame was sent
	// again.
	buffer  []byte
	first   []byte
	firstAt uint32

	mu    sync.Mutex // guards what follows
	line  track.Timeline
	clock clock
}

// clock says that a source's RTP clock stood at timestamp when its wall clock showed ntp, and our own showed at.
type clock struct {
	source    track.Source
	ntp, at   time.Time
	timestamp uint32
}

// output is one publication with its own sequence numbers.
type output struct {
	track      publication
	write      func(*rtp.Packet) error // the track's, kept since each method value is an allocation
	empty      int                     // packets without a frame so far; belongs to the goroutine of Session.run
	mu         sync.Mutex              // guards packetizer
	packetizer *frames.Packetizer
}

func newSender(s *Session, kind track.Kind) (*sender, error) {
	encryptor, err := e2ee.NewEncryptor(kind.Codec())
	if err != nil {
		return nil, err
	}
	return &sender{session: s, kind: kind, encryptor: encryptor, line: track.NewTimeline(kind.ClockRate())}, nil
}

// publish sends the frames that follow to a published layer.
func (s *sender) publish(to publication, ssrc uint32, payloadType uint8) {
	s.waitKey.Store(true)
	s.sent.Store(false)
	s.out.Store(&output{
		track: to, write: to.WriteRTP,
		packetizer: frames.NewPacketizer(s.kind.Codec(), 0, ssrc, payloadType, frames.RandomSeed()),
	})
	s.sendEmpty()
	if s.kind != track.Audio {
		s.session.requestKeyFrame(s.kind)
	}
}

// unpublish drops the frames that follow.
func (s *sender) unpublish() { s.out.Store(nil) }

// sendEmpty sends a packet without a frame, a few times while no frame has been sent. The SFU tells the others of a track only when its first
// packet has come, and they need time to prepare for the track. The gate may stay shut for long.
func (s *sender) sendEmpty() {
	out := s.out.Load()
	if out == nil || out.empty >= maxEmptyPackets || s.sent.Load() {
		return
	}
	out.empty++
	s.mu.Lock()
	timestamp := s.line.Last()
	s.mu.Unlock()
	out.mu.Lock()
	defer out.mu.Unlock()
	_ = out.packetizer.Empty(timestamp, out.write)
}

// send passes one frame on, encrypted, or drops it.
func (s *sender) send(now time.Time, source track.Source, f frames.Frame) {
	c := s.session.counters
	if !s.session.sending.Load() && (s.kind != track.Audio || !s.session.sound.Load()) {
		c.gated.Add(1)
		return
	}
	out := s.out.Load()
	if out == nil {
		s.waitKey.Store(true)
		c.unpublished.Add(1)
		return
	}
	if s.kind != track.Audio && s.waitKey.Load() && !f.Key {
		s.session.cfg.Local.RequestKeyFrame(s.kind)
		c.withoutKeyFrame.Add(1)
		return
	}
	s.mu.Lock()
	timestamp := s.line.Shift(now, source, f.Timestamp)
	s.mu.Unlock()
	if s.kind != track.Audio {
		s.repeatFirst(out, f, timestamp)
	}
	begins := !s.sent.Load()
	if !s.seal(out, f.Data, timestamp) {
		return
	}
	s.waitKey.Store(false)
	if begins {
		// A browser sends its first sender report a second after it has begun to send. Until then the clock is taken from the moment when
		// the frame came.
		s.mu.Lock()
		if s.clock.source != source || s.clock.at.IsZero() {
			s.clock = clock{source, now, now, f.Timestamp}
		}
		s.mu.Unlock()
		s.passClock(now)
	}
}

// repeatFirst sends the key frame that a publication began with once more, right before the frame after it. An SFU learns of a picture from
// its first frame, and forwards that frame to nobody. Without this, all participants would have to wait for another key frame, which a
// browser makes no sooner than 300 ms later.
func (s *sender) repeatFirst(out *output, f frames.Frame, timestamp uint32) {
	switch {
	case !s.sent.Load():
		s.first, s.firstAt = append(s.first[:0], f.Data...), timestamp
	case len(s.first) > 0:
		if !f.Key {
			s.seal(out, s.first, s.firstAt+(timestamp-s.firstAt)/2)
		}
		s.first = s.first[:0]
	}
}

// seal encrypts a frame and hands it to the SFU. It returns false when later frames must not refer to this one.
func (s *sender) seal(out *output, data []byte, timestamp uint32) bool {
	c := s.session.counters
	sealed, err := s.encryptor.Encrypt(s.buffer[:0], data)
	if err != nil {
		s.waitKey.Store(true)
		if errors.Is(err, e2ee.ErrNoKey) {
			c.noOwnKey.Add(1)
		} else {
			c.unencryptable.Add(1)
		}
		return false
	}
	s.buffer = sealed
	s.sent.Store(true)
	out.mu.Lock()
	out.packetizer.SetSize(int(s.session.packetSize.Load()))
	err = out.packetizer.Packetize(sealed, timestamp, out.write)
	out.mu.Unlock()
	if errors.Is(err, sfu.ErrBacklog) {
		c.unsent.Add(1)
		s.waitKey.Store(true) // the frames that follow ask for it
		return false
	}
	if err != nil {
		c.unsent.Add(1)
		return true // as if a packet had got lost on the way
	}
	c.framesSent.Add(1)
	c.bytesSent.Add(uint64(len(sealed)))
	return true
}

// setClock sets the source's clock. The clock is passed on at once, but not before the first frame. Without a clock an SFU changes from the small
// picture to the large one only after the next sender report, a second later.
func (s *sender) setClock(now time.Time, source track.Source, ntp time.Time, timestamp uint32) {
	s.mu.Lock()
	s.clock = clock{source, ntp, now, timestamp}
	s.mu.Unlock()
	if s.sent.Load() {
		s.passClock(now)
	}
}

// passClock tells the track's receivers what the source's clock says at now.
func (s *sender) passClock(now time.Time) {
	s.mu.Lock()
	c := s.clock
	age := now.Sub(c.at)
	shifted, ok := s.line.Shifted(c.source, c.timestamp+uint32(age.Seconds()*float64(s.line.Rate())))
	s.mu.Unlock()
	if out := s.out.Load(); ok && out != nil {
		out.track.SetClock(c.ntp.Add(age), shifted)
	}
}
