package callmedia

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/livekit/protocol/livekit"

	"multifactorymodel.org/ewindow/callmedia/e2ee"
	"multifactorymodel.org/ewindow/callmedia/frames"
)

// keylessInterval is the least time between two requests for a key frame while there is no key to decrypt one with.
const keylessInterval = 3 * time.Second

// receiver takes one remote track. It is always read, since the SFU judges the line by what we acknowledge, but only decrypted
// when its participant is shown.
type receiver struct {
	session  *Session
	identity string
	trackSID string
	kind     Kind
	from     livekit.TrackSource
	source   Source
	playable bool // announced as encrypted, and a camera, microphone or screen
	trailer  []byte
	clock    func() (ntp time.Time, timestamp uint32, ok bool)
	keys     asker

	target  atomic.Pointer[target]
	keyless atomic.Int64 // since when the key has been missing, Unix nanoseconds: a key frame would not help; 0 for not
	seenAt  atomic.Int64 // last picture handed on, Unix nanoseconds
	packets atomic.Uint64

	// resize tells the SFU how large the picture is shown; nothing is sent of what has no size. size is what it was told last, idleSince
	// since when the track is not shown. The last two belong to the owner.
	resize    func(size)
	size      size
	idleSince time.Time

	buffer []byte // belongs to the pump's goroutine, as does the decryptor
	last   frames.Counters
}

// target is where a receiver's frames go, until it is shown elsewhere or not at all.
type target struct {
	slot      int
	decryptor *e2ee.Decryptor
	// pictured: the owner knows, or will soon, that there is a picture. It belongs to this showing and not to the receiver, since a
	// frame may be on its way to the page while the receiver is taken off it and put back.
	pictured atomic.Bool
}

// askKeyFrame asks the sender for a key frame.
func (r *receiver) askKeyFrame() {
	r.keyless.Store(0)
	r.keys.request()
}

// needKey is called by the pump.
func (r *receiver) needKey() {
	if r.target.Load() == nil {
		return
	}
	if since := r.keyless.Load(); since != 0 {
		if time.Since(time.Unix(0, since)) < keylessInterval {
			return
		}
		r.keyless.CompareAndSwap(since, 0) // perhaps the sender has gone back to a key that we have
	}
	r.keys.request()
}

// frame decrypts one frame and shows it. False means that those which build on it are useless.
func (r *receiver) frame(f frames.Frame) bool {
	c := &r.session.stats
	t := r.target.Load()
	if t == nil {
		c.unwanted.Add(1)
		return true
	}
	data, err := t.decryptor.Decrypt(r.buffer[:0], f.Data)
	switch {
	case err == nil:
	case errors.Is(err, e2ee.ErrInjected):
		// It looked like a key frame, and was none of the sender's.
		c.injected.Add(1)
		return false
	case errors.Is(err, e2ee.ErrNoKey):
		r.keyless.Store(time.Now().UnixNano())
		c.noKey.Add(1)
		return false
	case errors.Is(err, e2ee.ErrInvalidKey):
		r.keyless.Store(time.Now().UnixNano())
		c.undecryptable.Add(1)
		return false
	default:
		c.undecryptable.Add(1)
		return false
	}
	r.buffer = data
	r.session.cfg.Local.WriteFrame(t.slot, r.kind, r.source, f.Timestamp, data)
	c.framesReceived.Add(1)
	c.bytesReceived.Add(uint64(len(f.Data)))
	if r.kind == Video {
		r.seenAt.Store(time.Now().UnixNano())
		if !t.pictured.Swap(true) {
			r.session.post(func() { r.session.pictureSeen(r, t) })
		}
	}
	return true
}

// count adds what the assembler counted since the last time.
func (r *receiver) count(now frames.Counters) {
	c := &r.session.stats
	r.packets.Store(now.Packets)
	c.packetsLost.Add(now.Lost - r.last.Lost)
	c.malformed.Add(now.Malformed - r.last.Malformed)
	r.last = now
}
