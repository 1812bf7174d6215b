package callmedia

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtp"

	"multifactorymodel.org/ewindow/callmedia/frames"
)

// receiveSize is the size of a buffer for one RTP packet.
const receiveSize = 1600

// track is the part of pion's TrackRemote that a pump reads.
type track interface {
	Read(b []byte) (int, interceptor.Attributes, error)
	SetReadDeadline(time.Time) error
}

// pump reads one remote track until it ends, and hands on its frames. It is run by one goroutine.
type pump struct {
	track track
	kind  Kind
	// frame takes each frame; its data is valid until it returns. False means that it could not be used: the frames that
	// build on it are withheld until a key frame comes.
	frame func(frames.Frame) bool
	// needKey is called when nothing can go on without a key frame, again with each packet until one has come.
	needKey func()
	// malformed is called for a packet that is no RTP.
	malformed func()
	// counters are the assembler's, kept up to date for others at each frame.
	counters func(frames.Counters)
}

// run returns when the track has ended.
func (p *pump) run() {
	assembler := frames.NewAssembler(p.kind.codec(), frames.AssemblerOptions{})
	buffer := make([]byte, receiveSize)
	var packet rtp.Packet
	var set time.Time
	for {
		// The zero time waits for ever.
		if deadline, _ := assembler.Next(time.Now()); !deadline.Equal(set) {
			set = deadline
			if p.track.SetReadDeadline(deadline) != nil {
				return
			}
		}
		n, _, err := p.track.Read(buffer)
		now := time.Now()
		switch {
		case os.IsTimeout(err):
		case errors.Is(err, io.ErrShortBuffer):
			p.malformed()
			continue
		case err != nil:
			return
		case packet.Unmarshal(buffer[:n]) != nil:
			p.malformed()
			continue
		default:
			assembler.Push(now, &packet)
		}
		for {
			f, ok := assembler.Pop(now)
			if !ok {
				break
			}
			if !p.frame(f) {
				assembler.Drop()
			}
		}
		if p.kind == Video && assembler.NeedKey() {
			p.needKey()
		}
		p.counters(assembler.Counters())
	}
}
