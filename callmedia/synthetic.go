package callmedia

import (
	"bytes"
	"context"
	_ "embed" // the recordings
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/webrtc/v4/pkg/media/ivfreader"
	"github.com/pion/webrtc/v4/pkg/media/oggreader"

	"multifactorymodel.org/ewindow/callmedia/frames"
)

// Two seconds each of a test card (VP8, 1280×720, 30 frames a second) and of a swelling tone (Opus, 20 ms).
var (
	//go:embed synthetic/camera.ivf
	cameraFile []byte
	//go:embed synthetic/microphone.ogg
	microphoneFile []byte
)

const (
	cameraInterval     = time.Second / 30
	microphoneInterval = 20 * time.Millisecond
)

// Synthetic is a [Local] without a browser: it loops two small recordings instead of camera and microphone, and counts what it
// is sent. It is for tests, benchmarks and load.
type Synthetic struct {
	camera, microphone [][]byte
	sources            atomic.Uint64

	mu     sync.RWMutex // held while the uplink is called
	uplink Uplink

	rewind  [kinds]atomic.Bool
	bitrate [kinds]atomic.Int64
	shown   [syntheticSlots]struct{ audio, video, broken atomic.Uint64 }
}

const syntheticSlots = 4

// NewSynthetic reads the recordings. Nothing is sent before [Synthetic.Run].
func NewSynthetic() (*Synthetic, error) {
	s := &Synthetic{}
	s.bitrate[Video].Store(defaultBitrate)
	video, _, err := ivfreader.NewWith(bytes.NewReader(cameraFile))
	if err != nil {
		return nil, fmt.Errorf("read the test card: %w", err)
	}
	for {
		frame, _, err := video.ParseNextFrame()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the test card: %w", err)
		}
		s.camera = append(s.camera, frame)
	}
	// The recording has one packet a page.
	audio, err := oggreader.NewWithOptions(bytes.NewReader(microphoneFile))
	if err != nil {
		return nil, fmt.Errorf("read the test tone: %w", err)
	}
	for {
		packet, _, err := audio.ParseNextPage()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the test tone: %w", err)
		}
		if !bytes.HasPrefix(packet, []byte("Opus")) { // the two headers
			s.microphone = append(s.microphone, packet)
		}
	}
	if len(s.camera) == 0 || len(s.microphone) == 0 {
		return nil, errors.New("the test recordings are empty")
	}
	return s, nil
}

// Run sends picture and sound at their pace until ctx ends.
func (s *Synthetic) Run(ctx context.Context) {
	var tasks sync.WaitGroup
	tasks.Go(func() { s.play(ctx, Video, s.camera, cameraInterval) })
	tasks.Go(func() { s.play(ctx, SmallVideo, s.camera, cameraInterval) }) // as large, to be compared with the same recording
	tasks.Go(func() { s.play(ctx, Audio, s.microphone, microphoneInterval) })
	tasks.Wait()
}

func (s *Synthetic) play(ctx context.Context, kind Kind, recording [][]byte, interval time.Duration) {
	source := Source(s.sources.Add(1))
	step := uint32(interval * time.Duration(kind.codec().Parameters().ClockRate) / time.Second)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for i, timestamp := 0, uint32(0); ; i, timestamp = i+1, timestamp+step {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if kind != Audio && s.bitrate[kind].Load() == 0 {
			continue
		}
		if i >= len(recording) || kind != Audio && s.rewind[kind].Swap(false) {
			i = 0 // the first frame is the only key frame
		}
		now := time.Now()
		s.withUplink(func(u Uplink) {
			u.HandleFrame(kind, source, frames.Frame{
				Data: recording[i], Timestamp: timestamp, Key: kind == Audio || i == 0, Packets: 1, Arrived: now,
			})
			if i%10 == 0 {
				u.HandleClock(kind, source, now, timestamp)
			}
		})
	}
}

func (s *Synthetic) withUplink(f func(Uplink)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.uplink != nil {
		f(s.uplink)
	}
}

// Slots implements [Local].
func (s *Synthetic) Slots() int { return syntheticSlots }

// SetUplink implements [Local].
func (s *Synthetic) SetUplink(u Uplink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uplink = u
}

// RequestKeyFrame implements [Local]: the picture begins anew.
func (s *Synthetic) RequestKeyFrame(kind Kind) { s.rewind[kind].Store(true) }

// SetBitrate implements [Local]. The recordings have the bitrate they have.
func (s *Synthetic) SetBitrate(video, small int) {
	s.bitrate[Video].Store(int64(video))
	s.bitrate[SmallVideo].Store(int64(small))
}

// WriteFrame implements [Local]: it counts, and compares the frame with the recording that every Synthetic sends.
func (s *Synthetic) WriteFrame(slot int, kind Kind, _ Source, _ uint32, data []byte) {
	if slot < 0 || slot >= syntheticSlots {
		return
	}
	n := &s.shown[slot]
	if kind == Audio {
		n.audio.Add(1)
		return
	}
	n.video.Add(1)
	if !slices.ContainsFunc(s.camera, func(f []byte) bool { return bytes.Equal(f, data) }) {
		n.broken.Add(1)
	}
}

// SetClock implements [Local].
func (s *Synthetic) SetClock(int, Kind, Source, time.Time, uint32) {}

// Shown returns how many frames of each kind were shown in a slot, and how many pictures of them were not those of another
// Synthetic.
func (s *Synthetic) Shown(slot int) (audio, video, broken uint64) {
	n := &s.shown[slot]
	return n.audio.Load(), n.video.Load(), n.broken.Load()
}

// Bitrate returns the last limits in bit/s.
func (s *Synthetic) Bitrate() (video, small int) {
	return int(s.bitrate[Video].Load()), int(s.bitrate[SmallVideo].Load())
}
