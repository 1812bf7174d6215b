package callmedia

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/livekit/protocol/livekit"

	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/e2ee"
	"multifactorymodel.org/ewindow/callmedia/frames"
	"multifactorymodel.org/ewindow/callmedia/track"
)

// noKeyInterval is the least time between two requests for a key frame while there is no key to decrypt it with.
const noKeyInterval = 3 * time.Second

// receiver handles the frames of one remote track, in the goroutine of its track.Reader.
type receiver struct {
	session  *Session
	identity string
	trackSID string
	kind     track.Kind
	codec    codec.Codec
	from     livekit.TrackSource
	source   track.Source
	playable bool   // see the method of that name
	trailer  []byte // at the end of frames that the SFU makes itself
	clock    func() (ntp time.Time, timestamp uint32, ok bool)
	keys     track.KeyFrameRequester

	showing atomic.Pointer[showing] // nil while it is not shown
	noKey   atomic.Int64            // when a frame last lacked a usable key, Unix nanoseconds: a key frame would not help then; 0: none did
	seenAt  atomic.Int64            // last picture handed on, Unix nanoseconds
	packets atomic.Uint64
	lost    atomic.Uint64 // packets that did not come in time

	// setSize tells the SFU how large the picture is shown. The SFU sends nothing of a track without size. size is what the SFU was told
	// last. idleSince is since when the track is not shown. size and idleSince belong to the goroutine of Session.run.
	setSize   func(size)
	size      size
	idleSince time.Time

	buffer []byte // belongs to the reader's goroutine, as the decryptor does
	last   frames.Counters
}

// showing is where a receiver's frames go. Each time a receiver is shown again, it gets a new showing.
type showing struct {
	tile      int
	decryptor *e2ee.Decryptor
	// pictured says that Session.run knows of a picture, or will soon. A frame may be on its way to the page while its receiver is taken off
	// the page and put back. That is why this is no field of the receiver.
	pictured atomic.Bool
}

// decrypt appends the decrypted frame to dst. Layers are decrypted one by one, and are joined as a browser joins them before it decodes them.
func (w *showing) decrypt(dst []byte, f frames.Frame) ([]byte, error) {
	if len(f.Layers) == 0 {
		return w.decryptor.Decrypt(dst, f.Data)
	}
	begin := 0
	for _, end := range f.Layers {
		var err error
		if dst, err = w.decryptor.Decrypt(dst, f.Data[begin:end]); err != nil {
			return nil, err
		}
		begin = end
	}
	return dst, nil
}

// askKeyFrame asks the sender for a key frame.
func (r *receiver) askKeyFrame() {
	r.noKey.Store(0)
	r.keys.Request()
}

// needKeyFrame asks the sender for a key frame if that may help. The reader calls it.
func (r *receiver) needKeyFrame() {
	if r.showing.Load() == nil {
		return
	}
	if since := r.noKey.Load(); since != 0 {
		if time.Since(time.Unix(0, since)) < noKeyInterval {
			return
		}
		r.noKey.CompareAndSwap(since, 0) // the sender may have gone back to a key that we have
	}
	r.keys.Request()
}

// frame decrypts one frame and shows it. It returns false when the frames that refer to this one are useless.
func (r *receiver) frame(f frames.Frame) bool {
	c := r.session.counters
	w := r.showing.Load()
	if w == nil {
		c.unwanted.Add(1)
		return true
	}
	data, err := w.decrypt(r.buffer[:0], f)
	switch {
	case err == nil:
	case errors.Is(err, e2ee.ErrInjected):
		// The SFU made the frame. Its RTP packets look like the sender's.
		c.injected.Add(1)
		return false
	case errors.Is(err, e2ee.ErrNoKey):
		r.noKey.Store(time.Now().UnixNano())
		c.noKey.Add(1)
		return false
	case errors.Is(err, e2ee.ErrInvalidKey):
		r.noKey.Store(time.Now().UnixNano())
		c.undecryptable.Add(1)
		return false
	default:
		c.undecryptable.Add(1)
		return false
	}
	r.buffer = data
	r.session.cfg.Local.WriteFrame(w.tile, r.kind, r.codec, r.source, f.Timestamp, data)
	c.framesReceived.Add(1)
	c.bytesReceived.Add(uint64(len(f.Data)))
	if r.kind == track.Video {
		r.seenAt.Store(time.Now().UnixNano())
		if !w.pictured.Swap(true) {
			r.session.post(func() { r.session.pictureSeen(r, w) })
		}
	}
	return true
}

// count adds what the assembler counted since the last time.
func (r *receiver) count(now frames.Counters) {
	c := r.session.counters
	r.packets.Store(now.Packets)
	r.lost.Store(now.Lost)
	c.packetsLost.Add(now.Lost - r.last.Lost)
	c.packetsLate.Add(now.Late - r.last.Late)
	c.packetsDuplicate.Add(now.Duplicates - r.last.Duplicates)
	c.packetsOrphaned.Add(now.Orphans - r.last.Orphans)
	c.withheld.Add(now.Withheld - r.last.Withheld)
	c.malformed.Add(now.Malformed - r.last.Malformed)
	r.last = now
}
