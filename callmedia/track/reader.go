package track

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtp"

	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/frames"
)

// receiveSize is the size of a buffer for one RTP packet in bytes.
const receiveSize = 1600

// Remote is the part of pion's TrackRemote that a [Reader] uses.
type Remote interface {
	Read(b []byte) (int, interceptor.Attributes, error)
	SetReadDeadline(time.Time) error
}

// Reader reads one remote track until it ends, and hands on its frames. All its fields are required. Its functions are called by the
// goroutine of [Reader.Run].
type Reader struct {
	Track Remote
	Kind  Kind
	// Codec is the track's codec. A track in codec.None is read, but has no frames.
	Codec codec.Codec
	// Frame is called with each frame, whose data is valid until Frame returns. Frame returns false when the frame could not be used. Then the
	// frames that refer to it are withheld until a key frame comes.
	Frame func(frames.Frame) bool
	// NeedKeyFrame is called when nothing can go on without a key frame, and again with each packet until one comes.
	NeedKeyFrame func()
	// Malformed is called for a packet that is no RTP.
	Malformed func()
	// Counters gets the assembler's counters after each packet.
	Counters func(frames.Counters)
}

// Run returns when the track has ended.
func (r *Reader) Run() {
	assembler := frames.NewAssembler(r.Codec)
	buffer := make([]byte, receiveSize)
	var packet rtp.Packet
	var set time.Time
	for {
		// The zero time waits for ever.
		if deadline, _ := assembler.Next(time.Now()); !deadline.Equal(set) {
			set = deadline
			if r.Track.SetReadDeadline(deadline) != nil {
				return
			}
		}
		n, _, err := r.Track.Read(buffer)
		now := time.Now()
		switch {
		case os.IsTimeout(err):
		case errors.Is(err, io.ErrShortBuffer):
			r.Malformed()
			continue
		case err != nil:
			return
		case packet.Unmarshal(buffer[:n]) != nil:
			r.Malformed()
			continue
		default:
			assembler.Push(now, &packet)
		}
		for {
			f, ok := assembler.Pop(now)
			if !ok {
				break
			}
			if !r.Frame(f) {
				assembler.Drop()
			}
		}
		if r.Kind == Video && assembler.NeedKey() {
			r.NeedKeyFrame()
		}
		r.Counters(assembler.Counters())
	}
}
