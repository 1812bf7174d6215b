// Package synthetic is a page without a browser, for tests, benchmarks and load. Its camera and microphone play two short recordings in a loop. Its
// tiles count the frames that they receive. A [Page] takes the place of callmedia's page in a call.
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

	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/frames"
	"multifactorymodel.org/ewindow/callmedia/track"
)

// Two seconds of a test card (VP8, 1280×720, 30 frames a second) and of a tone with changing volume (Opus, 20 ms).
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

	keyFrameWanted [track.Kinds]atomic.Bool
	bitrate        [track.Kinds]atomic.Int64
	shown          [tiles]struct{ audio, video, broken atomic.Uint64 }
}

// New reads the recordings. Nothing is sent before [Page.Run].
func New() (*Page, error) {
	p := &Page{}
	p.bitrate[track.Video].Store(1) // before the first SetBitrate the large picture is sent and the small one is not
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
	// The recording has one Opus packet in each Ogg page.
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

// Run sends the large picture, the small picture and sound in real time until ctx ends. Both pictures are the same recording, so that a receiver can
// compare both with it.
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
		if i >= len(recording) || kind != track.Audio && p.keyFrameWanted[kind].Swap(false) {
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

// Tiles returns how many participants the page can show at once.
func (p *Page) Tiles() int { return tiles }

// SetUplink sets the receiver of picture and sound. nil means no receiver.
func (p *Page) SetUplink(u track.Uplink) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.uplink = u
}

// RequestKeyFrame restarts the recording of a picture, which begins with a key frame.
func (p *Page) RequestKeyFrame(kind track.Kind) { p.keyFrameWanted[kind].Store(true) }

// KeyFrameRequested says whether a key frame was requested and has not been sent yet.
func (p *Page) KeyFrameRequested(kind track.Kind) bool { return p.keyFrameWanted[kind].Load() }

// KeyFrame returns the key frame at the start of the recorded picture.
func (p *Page) KeyFrame() []byte { return p.camera[0] }

// SetBitrate sets the bitrate limits in bit/s. The recordings' bitrate does not change, but a picture with a limit of zero is not sent.
func (p *Page) SetBitrate(video, small int) {
	p.bitrate[track.Video].Store(int64(video))
	p.bitrate[track.SmallVideo].Store(int64(small))
}

// SetLoss does nothing: the recording of the sound has no redundancy.
func (p *Page) SetLoss(float64) {}

// Bitrate returns the last limits in bit/s.
func (p *Page) Bitrate() (video, small int) {
	return int(p.bitrate[track.Video].Load()), int(p.bitrate[track.SmallVideo].Load())
}

// WriteFrame counts a frame in a tile. It also compares a picture with the recording that all these pages send.
func (p *Page) WriteFrame(tile int, kind track.Kind, _ codec.Codec, _ track.Source, _ uint32, data []byte) {
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

// Shows says yes: the page only counts frames.
func (p *Page) Shows(codec.Codec) bool { return true }

// SetClock ignores a sender's clock.
func (p *Page) SetClock(int, track.Kind, track.Source, time.Time, uint32) {}

// Shown returns how many frames of sound and picture a tile has received. broken counts pictures that are not in the recording.
func (p *Page) Shown(tile int) (audio, video, broken uint64) {
	n := &p.shown[tile]
	return n.audio.Load(), n.video.Load(), n.broken.Load()
}
