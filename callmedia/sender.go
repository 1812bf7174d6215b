package callmedia

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"

	"multifactorymodel.org/ewindow/callmedia/e2ee"
	"multifactorymodel.org/ewindow/callmedia/frames"
)

// maxGreetings is how many packets without a frame are sent on a new track: the first ones may be lost.
const maxGreetings = 4

// publication is the part of an SFU's local track that a sender writes to; [sfu.LocalTrack] has it.
type publication interface {
	WriteRTP(*rtp.Packet) error
	SetClock(ntp time.Time, timestamp uint32)
}

// sender encrypts the frames of one own track and sends them to the SFU, if there is one and the gate is open.
type sender struct {
	session   *Session
	kind      Kind
	encryptor *e2ee.Encryptor
	out       atomic.Pointer[output]
	waitKey   atomic.Bool // pictures only: nothing was sent that the next frame could build on
	sent      atomic.Bool // a frame went into out

	// These belong to the goroutine that sends. first is the key frame that a publication began with, until it was sent again; nothing
	// when it is empty.
	buffer  []byte
	first   []byte
	firstAt uint32

	mu    sync.Mutex // guards what follows
	line  timeline
	clock clock
}

// clock says that a source's RTP clock stood at timestamp when its own clock showed ntp, which was at by ours.
type clock struct {
	source    Source
	ntp, at   time.Time
	timestamp uint32
}

// output is one publication with its own sequence numbers.
type output struct {
	track      publication
	write      func(*rtp.Packet) error // the track's, made once since a method value is allocated
	greetings  int                     // belongs to the owner
	mu         sync.Mutex              // guards packetizer
	packetizer *frames.Packetizer
}

func newSender(s *Session, kind Kind) (*sender, error) {
	encryptor, err := e2ee.NewEncryptor(kind.codec())
	if err != nil {
		return nil, err
	}
	return &sender{session: s, kind: kind, encryptor: encryptor, line: timeline{rate: kind.codec().Parameters().ClockRate}}, nil
}

// publish makes the following frames go to track, or nowhere when it is nil.
func (s *sender) publish(track publication, ssrc uint32, payloadType uint8) {
	if track == nil {
		s.out.Store(nil)
		return
	}
	s.waitKey.Store(true)
	s.sent.Store(false)
	s.out.Store(&output{
		track: track, write: track.WriteRTP,
		packetizer: frames.NewPacketizer(s.kind.codec(), 0, ssrc, payloadType, frames.RandomSeed()),
	})
	s.greet()
	if s.kind != Audio {
		s.session.requestKeyFrame(s.kind)
	}
}

// greet sends a packet without a frame, a few times while none has been sent. The SFU tells the others of a track, and they
// prepare for it, only when its first packet has come; and the gate may be shut for long.
func (s *sender) greet() {
	out := s.out.Load()
	if out == nil || out.greetings >= maxGreetings || s.sent.Load() {
		return
	}
	out.greetings++
	s.mu.Lock()
	timestamp := s.line.last
	s.mu.Unlock()
	out.mu.Lock()
	defer out.mu.Unlock()
	_ = out.packetizer.Empty(timestamp, out.write)
}

// send passes one frame on, encrypted, or drops it.
func (s *sender) send(now time.Time, source Source, f frames.Frame) {
	c := &s.session.stats
	if !s.session.sending.Load() {
		c.gated.Add(1)
		return
	}
	out := s.out.Load()
	if out == nil {
		s.waitKey.Store(true)
		c.unpublished.Add(1)
		return
	}
	if s.kind != Audio && s.waitKey.Load() && !f.Key {
		s.session.cfg.Local.RequestKeyFrame(s.kind)
		c.withoutKeyFrame.Add(1)
		return
	}
	s.mu.Lock()
	timestamp := s.line.shift(now, source, f.Timestamp)
	s.mu.Unlock()
	if s.kind != Audio {
		s.repeat(out, f, timestamp)
	}
	begins := !s.sent.Load()
	if !s.seal(out, f.Data, timestamp) {
		return
	}
	s.waitKey.Store(false)
	if begins {
		// A browser first tells its clock a second after it has begun to send: until then the frame's own coming stands for it.
		s.mu.Lock()
		if s.clock.source != source || s.clock.at.IsZero() {
			s.clock = clock{source, now, now, f.Timestamp}
		}
		s.mu.Unlock()
		s.passClock(now)
	}
}

// repeat sends the key frame that a publication began with once more, right before the frame after it. An SFU knows of a picture only when
// its first frame has come, and forwards that one to nobody: they all would have to wait for another, which a browser makes no sooner than
// 300 ms later.
func (s *sender) repeat(out *output, f frames.Frame, timestamp uint32) {
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

// seal encrypts a frame and hands it to the SFU. False means that nothing may build on it.
func (s *sender) seal(out *output, data []byte, timestamp uint32) bool {
	c := &s.session.stats
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
	err = out.packetizer.Packetize(sealed, timestamp, out.write)
	out.mu.Unlock()
	if err != nil {
		c.unsent.Add(1)
		return true // as a packet that got lost
	}
	c.framesSent.Add(1)
	c.bytesSent.Add(uint64(len(sealed)))
	return true
}

// setClock takes the source's clock. It counts from the first frame on: without one, an SFU changes from the small picture to the large one
// only after the next report, which is a second later.
func (s *sender) setClock(now time.Time, source Source, ntp time.Time, timestamp uint32) {
	s.mu.Lock()
	s.clock = clock{source, ntp, now, timestamp}
	s.mu.Unlock()
	if s.sent.Load() {
		s.passClock(now)
	}
}

// passClock tells those who receive the track how the source's clock stands.
func (s *sender) passClock(now time.Time) {
	s.mu.Lock()
	c := s.clock
	age := now.Sub(c.at)
	shifted, ok := s.line.shifted(c.source, c.timestamp+uint32(age.Seconds()*float64(s.line.rate)))
	s.mu.Unlock()
	if out := s.out.Load(); ok && out != nil {
		out.track.SetClock(c.ntp.Add(age), shifted)
	}
}
