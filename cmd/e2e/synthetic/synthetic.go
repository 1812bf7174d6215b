// Package synthetic is a page without a browser, for tests, benchmarks and load: a camera and a microphone that loop two small recordings,
// and tiles that count what they are sent. A [Page] takes the place of callmedia's page in a call.
package synthetic

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
	"multifactorymodel.org/ewindow/callmedia/track"
)

// Two seconds each of a test card (VP8, 1280×720, 30 frames a second) and of a swelling tone (Opus, 20 ms).
var (
	//go:embed camera.ivf
	cameraFile []byte
	//go:embed microphone.ogg
	microphoneFile []byte
)

const (
	cameraInterval     = time.Second / 30
	microphoneInterval = 20 * time.Millisecond
	tiles              = 4
)

// Page implements callmedia's Local with the recordings. Its methods may be called from any goroutine.
type Page struct {
	camera, microphone [][]byte
	sources            atomic.Uint64

	mu     sync.RWMutex // held while the uplink is called
	uplink track.Uplink

	rewind  [track.Kinds]atomic.Bool
	bitrate [track.Kinds]atomic.Int64
	shown   [tiles]struct{ audio, video, broken atomic.Uint64 }
}

// New reads the recordings. Nothing is sent before [Page.Run].
func New() (*Page, error) {
	p := &Page{}
	p.bitrate[track.Video].Store(1) // until it is told otherwise, the picture is sent and the small one is not
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
		p.camera = append(p.camera, frame)
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
			p.microphone = append(p.microphone, packet)
		}
	}
	if len(p.camera) == 0 || len(p.microphone) == 0 {
		return nil, errors.New("the test recordings are empty")
	}
	return p, nil
}

// Run sends picture, small picture and sound at their pace until ctx ends. The small picture is the same recording as the picture, so that
// both can be compared with it.
func (p *Page) Run(ctx context.Context) {
	var tasks sync.WaitGroup
	tasks.Go(func() { p.play(ctx, track.Video, p.camera, cameraInterval) })
	tasks.Go(func() { p.play(ctx, track.SmallVideo, p.camera, cameraInterval) })
	tasks.Go(func() { p.play(ctx, track.Audio, p.microphone, microphoneInterval) })
	tasks.Wait()
}

func (p *Page) play(ctx context.Context, kind track.Kind, recording [][]byte, interval time.Duration) {
	source := track.Source(p.sources.Add(1))
	step := uint32(interval * time.Duration(kind.ClockRate()) / time.Second)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for i, timestamp := 0, uint32(0); ; i, timestamp = i+1, timestamp+step {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if kind != track.Audio && p.bitrate[kind].Load() == 0 {
			continue
		}
		if i >= len(recording) || kind != track.Audio && p.rewind[kind].Swap(false) {
			i = 0 // the first frame is the only key frame
		}
		now := time.Now()
		p.withUplink(func(u track.Uplink) {
			u.HandleFrame(kind, source, frames.Frame{
				Data: recording[i], Timestamp: timestamp, Key: kind == track.Audio || i == 0, Packets: 1, Arrived: now,
			})
			if i%10 == 0 {
				u.HandleClock(kind, source, now, timestamp)
			}
		})
	}
}

func (p *Page) withUplink(f func(track.Uplink)) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.uplink != nil {
		f(p.uplink)
	}
}

// Tiles is how many participants can be shown at once.
func (p *Page) Tiles() int { return tiles }

// SetUplink says who takes picture and sound, nil for nobody.
func (p *Page) SetUplink(u track.Uplink) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.uplink = u
}

// RequestKeyFrame makes the picture begin anew, with the recording's key frame.
func (p *Page) RequestKeyFrame(kind track.Kind) { p.rewind[kind].Store(true) }

// KeyFrameRequested says whether a key frame was asked for that has not been sent yet.
func (p *Page) KeyFrameRequested(kind track.Kind) bool { return p.rewind[kind].Load() }

// KeyFrame is the key frame that the recorded picture begins with.
func (p *Page) KeyFrame() []byte { return p.camera[0] }

// SetBitrate takes the limits. The recordings have the bitrate they have, but a picture whose limit is zero is not sent.
func (p *Page) SetBitrate(video, small int) {
	p.bitrate[track.Video].Store(int64(video))
	p.bitrate[track.SmallVideo].Store(int64(small))
}

// Bitrate returns the last limits in bit/s.
func (p *Page) Bitrate() (video, small int) {
	return int(p.bitrate[track.Video].Load()), int(p.bitrate[track.SmallVideo].Load())
}

// WriteFrame counts a frame in a tile, and compares a picture with the recording that all these pages send.
func (p *Page) WriteFrame(tile int, kind track.Kind, _ track.Source, _ uint32, data []byte) {
	if tile < 0 || tile >= tiles {
		return
	}
	n := &p.shown[tile]
	if kind == track.Audio {
		n.audio.Add(1)
		return
	}
	n.video.Add(1)
	if !slices.ContainsFunc(p.camera, func(f []byte) bool { return bytes.Equal(f, data) }) {
		n.broken.Add(1)
	}
}

// SetClock takes a sender's clock, which nothing is done with.
func (p *Page) SetClock(int, track.Kind, track.Source, time.Time, uint32) {}

// Shown returns how many sounds and pictures were shown in a tile. Broken is how many of the pictures were none of the recording.
func (p *Page) Shown(tile int) (audio, video, broken uint64) {
	n := &p.shown[tile]
	return n.audio.Load(), n.video.Load(), n.broken.Load()
}
