package callmedia_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/callmedia"
	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/frames"
	"multifactorymodel.org/ewindow/callmedia/track"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// Frame sizes and times of an encoder for 720p30 at 1.7 Mbit/s, and of Element Call's sound.
const (
	visitKeyFrame   = 60_000 // bytes
	visitDelta      = 7_000
	visitSound      = 120
	visitFrameEvery = time.Second / 30
	visitSoundEvery = 20 * time.Millisecond
	visitKeyEvery   = 300 // frames
)

// camera is a Local that sends frames with the sizes and at the pace of a camera. It records how old the frames are that it receives.
type camera struct {
	mu     sync.RWMutex
	uplink track.Uplink
	key    atomic.Bool

	bitrate                atomic.Int64
	sentVideo, sentAudio   atomic.Uint64
	shownVideo, shownAudio atomic.Uint64
	delays                 delays

	clockMu sync.Mutex // guards what follows
	clocks  map[track.Kind]clock
	skew    map[track.Kind]time.Duration // of the last frame: its time by the sender's clock, minus the time at which it was sent
}

// clock is what a camera was told of a sender's clock.
type clock struct {
	source    track.Source
	ntp       time.Time
	timestamp uint32
}

func (c clock) at(kind track.Kind, timestamp uint32) time.Time {
	rate := time.Duration(kind.ClockRate())
	return c.ntp.Add(time.Duration(int32(timestamp-c.timestamp)) * time.Second / rate)
}

func (c *camera) Tiles() int                 { return 4 }
func (c *camera) Shows(codec.Codec) bool     { return true }
func (c *camera) RequestKeyFrame(track.Kind) { c.key.Store(true) }
func (c *camera) SetBitrate(bps, _ int)      { c.bitrate.Store(int64(bps)) }
func (c *camera) SetLoss(float64)            {}
func (c *camera) SetClock(_ int, kind track.Kind, source track.Source, ntp time.Time, timestamp uint32) {
	c.clockMu.Lock()
	defer c.clockMu.Unlock()
	c.clocks[kind] = clock{source, ntp, timestamp}
}
func (c *camera) SetUplink(u track.Uplink) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.uplink = u
}

// stampAt is where a frame has its time of sending, behind the longest clear header.
const stampAt = 16

func (c *camera) WriteFrame(_ int, kind track.Kind, _ codec.Codec, source track.Source, timestamp uint32, data []byte) {
	if len(data) >= stampAt+8 {
		sent := int64(binary.BigEndian.Uint64(data[stampAt:]))
		c.delays.add(time.Now().UnixNano() - sent)
		c.clockMu.Lock()
		if clock, ok := c.clocks[kind]; ok && clock.source == source {
			c.skew[kind] = clock.at(kind, timestamp).Sub(time.Unix(0, sent))
		}
		c.clockMu.Unlock()
	}
	if kind == track.Video {
		c.shownVideo.Add(1)
	} else {
		c.shownAudio.Add(1)
	}
}

func (c *camera) run(ctx context.Context) {
	var both sync.WaitGroup
	key := append([]byte{0x10, 0, 0, 0x9d, 0x01, 0x2a, 0, 5, 0xd0, 2}, make([]byte, visitKeyFrame-10)...)
	delta := append([]byte{0x31, 0, 0}, make([]byte, visitDelta-3)...)
	sound := append([]byte{0xf8}, make([]byte, visitSound-1)...)
	both.Go(func() {
		c.play(ctx, track.Video, 1, visitFrameEvery, func(n int) ([]byte, bool) {
			if c.key.Swap(false) || n%visitKeyEvery == 0 {
				return key, true
			}
			return delta, false
		}, &c.sentVideo)
	})
	both.Go(func() {
		c.play(ctx, track.Audio, 2, visitSoundEvery, func(int) ([]byte, bool) { return sound, true }, &c.sentAudio)
	})
	both.Wait()
}

func (c *camera) play(ctx context.Context, kind track.Kind, source track.Source, every time.Duration, frame func(n int) ([]byte, bool), sent *atomic.Uint64) {
	rate := time.Duration(kind.ClockRate())
	tick := time.NewTicker(every)
	defer tick.Stop()
	begin := time.Now()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		data, key := frame(n)
		now := time.Now()
		timestamp := uint32(now.Sub(begin) * rate / time.Second) // of the moment of capture, as a browser's are
		c.mu.RLock()
		if c.uplink != nil {
			binary.BigEndian.PutUint64(data[stampAt:], uint64(now.UnixNano()))
			c.uplink.HandleFrame(kind, source, frames.Frame{Data: data, Timestamp: timestamp, Key: key, Arrived: now})
			if n%30 == 0 {
				c.uplink.HandleClock(kind, source, now, timestamp)
			}
			sent.Add(1)
		}
		c.mu.RUnlock()
	}
}

// delays is a histogram in tenths of a millisecond.
type delays struct{ buckets [5000]atomic.Uint32 }

func (d *delays) add(nanos int64) {
	d.buckets[min(max(nanos/100_000, 0), int64(len(d.buckets)-1))].Add(1)
}

func (d *delays) reset() {
	for i := range d.buckets {
		d.buckets[i].Store(0)
	}
}

// quantile returns the delay in milliseconds that the fraction q of all delays does not exceed.
func (d *delays) quantile(q float64) float64 {
	total := 0.0
	for i := range d.buckets {
		total += float64(d.buckets[i].Load())
	}
	seen := 0.0
	for i := range d.buckets {
		if seen += float64(d.buckets[i].Load()); seen >= q*total {
			return float64(i+1) / 10
		}
	}
	return 0
}

// processCPU is the processor time that this process has used.
func processCPU(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// resident is this process's resident memory in MB.
func resident(b *testing.B) float64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.ParseFloat(strings.Fields(string(text))[1], 64)
	if err != nil {
		b.Fatal(err)
	}
	return pages * float64(os.Getpagesize()) / 1e6
}

// startVisit connects two cameras through a real LiveKit server. It returns when both see the other. The visit ends with the test.
func startVisit(tb testing.TB) (cameras [2]*camera, sessions [2]*callmedia.Session) {
	tb.Helper()
	lk := rig.StartLiveKit(tb)
	names, keys := []string{"a", "b"}, [][]byte{keyA, keyB}
	for i := range 2 {
		c := &camera{clocks: make(map[track.Kind]clock), skew: make(map[track.Kind]time.Duration)}
		token := lk.Token(tb, names[i], "room")
		s, err := callmedia.NewSession(callmedia.SessionConfig{
			Local: c, Service: service, PictureLimit: 5 * time.Second, Counters: new(callmedia.Counters), AllowLoopback: true, Log: zerolog.Nop(), OnEvent: func(callmedia.SessionEvent) {},
			Token: func(context.Context, string) (string, string, error) { return lk.URL, token, nil },
		})
		if err != nil {
			tb.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); c.run(ctx) }()
		tb.Cleanup(func() {
			_ = s.Close()
			cancel()
			<-done
		})
		if err := s.Start(ctx); err != nil {
			tb.Fatal(err)
		}
		s.SetRemotes([]callmedia.Remote{{Identity: names[1-i], Service: service}})
		s.SetKey(names[1-i], 0, keys[1-i])
		s.UseKey(0, keys[i])
		s.SetCamera(true)
		s.SetSending(true)
		cameras[i], sessions[i] = c, s
	}
	rig.Eventually(tb, 20*time.Second, func() error {
		for _, c := range cameras {
			if n := c.shownVideo.Load(); n < 60 {
				return fmt.Errorf("%d pictures so far", n)
			}
		}
		return nil
	})
	return cameras, sessions
}

// TestClocks follows the clocks of sound and picture from end to end. From a source's clock the receiver must get the time at which each
// frame was really sent.
func TestClocks(t *testing.T) {
	cameras, _ := startVisit(t)
	for _, c := range cameras {
		rig.Eventually(t, 10*time.Second, func() error {
			c.clockMu.Lock()
			defer c.clockMu.Unlock()
			for _, kind := range []track.Kind{track.Audio, track.Video} {
				if skew, ok := c.skew[kind]; !ok || skew.Abs() > 5*time.Millisecond {
					return fmt.Errorf("%s is off by %s (known: %t)", kind, skew, ok)
				}
			}
			return nil
		})
	}
}

// TestLeaks checks that a session leaves no goroutine behind.
func TestLeaks(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("visit", func(t *testing.T) { startVisit(t) })
	rig.Eventually(t, 10*time.Second, func() error {
		http.DefaultClient.CloseIdleConnections()
		if n := runtime.NumGoroutine(); n > before {
			stacks := make([]byte, 1<<20)
			return fmt.Errorf("%d goroutines before, %d after:\n%s", before, n, stacks[:runtime.Stack(stacks, true)])
		}
		return nil
	})
}

// BenchmarkVisit is two windows that see each other through a real LiveKit server: 720p30 at 1.7 Mbit/s and Opus each way, encrypted. One
// operation is one second. Both sessions are in this process, so the processor time of one session is half of the process's. It includes making
// the test's frames, but not the page's peer connection. Memory is that of the whole process.
//
// Measured on two busy cores: 4.8 % of a core a session, 46 MB, every frame shown, 1.0 ms from encoder to decoder in the median.
//
//	go test -run '^$' -bench Visit -benchtime 20x ./callmedia
func BenchmarkVisit(b *testing.B) {
	cameras, sessions := startVisit(b)
	for _, c := range cameras {
		c.delays.reset()
		for _, n := range []*atomic.Uint64{&c.sentVideo, &c.sentAudio, &c.shownVideo, &c.shownAudio} {
			n.Store(0)
		}
	}
	cpu, begin := processCPU(b), time.Now()
	for b.Loop() {
		<-time.After(time.Second)
	}
	took := time.Since(begin)
	used := processCPU(b) - cpu
	b.ReportMetric(100*used.Seconds()/took.Seconds()/2, "%cpu/session")
	b.ReportMetric(resident(b), "MB-resident")
	sent, shown := 0.0, 0.0
	for i, c := range cameras {
		sent += float64(c.sentVideo.Load() + c.sentAudio.Load())
		shown += float64(c.shownVideo.Load() + c.shownAudio.Load())
		if stats := sessions[i].Stats(); stats.Undecryptable+stats.NoKey+stats.Malformed > 0 {
			b.Errorf("session %d counts %+v", i, stats)
		}
	}
	b.ReportMetric(100*shown/sent, "%frames-shown")
	b.ReportMetric(float64(cameras[0].shownVideo.Load())/took.Seconds(), "video-frames/s")
	b.ReportMetric(cameras[0].delays.quantile(0.5), "ms-p50")
	b.ReportMetric(cameras[0].delays.quantile(0.99), "ms-p99")
	b.ReportMetric(float64(cameras[0].bitrate.Load())/1e6, "Mbit/s-cap")
}
