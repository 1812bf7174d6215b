package page_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/callmedia"
	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/frames"
	"multifactorymodel.org/ewindow/callmedia/page"
	"multifactorymodel.org/ewindow/callmedia/peerconnection"
	"multifactorymodel.org/ewindow/callmedia/track"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
	"multifactorymodel.org/ewindow/cmd/e2e/synthetic"
)

// A session can have either of them as its near end.
var (
	_ callmedia.Local = (*page.Page)(nil)
	_ callmedia.Local = (*synthetic.Page)(nil)
)

// uplink records what the browser sends.
type uplink struct {
	mu      sync.Mutex
	video   [][]byte
	audio   int
	clocks  map[track.Kind]int
	plis    map[int]int
	sources map[track.Source]bool
}

func newUplink() *uplink {
	return &uplink{clocks: map[track.Kind]int{}, plis: map[int]int{}, sources: map[track.Source]bool{}}
}

func (u *uplink) HandleFrame(kind track.Kind, source track.Source, f frames.Frame) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sources[source] = true
	if kind == track.Video {
		u.video = append(u.video, bytes.Clone(f.Data))
	} else {
		u.audio++
	}
}

func (u *uplink) HandleClock(kind track.Kind, _ track.Source, _ time.Time, _ uint32) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.clocks[kind]++
}

func (u *uplink) HandleKeyFrameRequest(tile int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.plis[tile]++
}

// browser is pion in the place of a browser: it answers an offer, sends two tracks and records what it is shown.
type browser struct {
	pc           *webrtc.PeerConnection
	camera, mic  *webrtc.TrackLocalStaticRTP
	video        *frames.Packetizer
	audio        *frames.Packetizer
	keysAsked    atomic.Int64
	reports      atomic.Int64
	mu           sync.Mutex
	shown        map[string][][]byte // by stream id
	remoteSSRC   map[string]webrtc.SSRC
	tracksByName map[string]int
}

func newBrowser(t testing.TB, offer string) (*browser, string) {
	t.Helper()
	var media webrtc.MediaEngine
	if err := media.RegisterDefaultCodecs(); err != nil {
		t.Fatal(err)
	}
	var chain interceptor.Registry
	if err := webrtc.RegisterDefaultInterceptors(&media, &chain); err != nil {
		t.Fatal(err)
	}
	var settings webrtc.SettingEngine
	settings.SetIncludeLoopbackCandidate(true)
	api := webrtc.NewAPI(webrtc.WithMediaEngine(&media), webrtc.WithInterceptorRegistry(&chain), webrtc.WithSettingEngine(settings))
	pc, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{pc: pc, shown: map[string][][]byte{}, remoteSSRC: map[string]webrtc.SSRC{}, tracksByName: map[string]int{}}
	t.Cleanup(func() { _ = pc.Close() })
	pc.OnTrack(b.show)
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		t.Fatal(err)
	}
	b.mic, _ = webrtc.NewTrackLocalStaticRTP(peerconnection.Capability(codec.Opus), "m", "own")
	b.camera, _ = webrtc.NewTrackLocalStaticRTP(peerconnection.Capability(codec.VP8), "c", "own")
	b.video = frames.NewPacketizer(codec.VP8, 0, 0, 0, frames.Seed{Sequence: 65530})
	b.audio = frames.NewPacketizer(codec.Opus, 0, 0, 0, frames.Seed{})
	for _, out := range []*webrtc.TrackLocalStaticRTP{b.mic, b.camera} {
		sender, err := pc.AddTrack(out)
		if err != nil {
			t.Fatal(err)
		}
		go b.feedback(sender)
	}
	answer, err := pc.CreateAnswer(nil)
	if err != nil {
		t.Fatal(err)
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(answer); err != nil {
		t.Fatal(err)
	}
	<-gathered
	return b, pc.LocalDescription().SDP
}

func (b *browser) feedback(sender *webrtc.RTPSender) {
	for {
		packets, _, err := sender.ReadRTCP()
		if err != nil {
			return
		}
		for _, p := range packets {
			if _, ok := p.(*rtcp.PictureLossIndication); ok {
				b.keysAsked.Add(1)
			}
		}
	}
}

func (b *browser) show(remote *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
	go func() {
		for {
			packets, _, err := receiver.ReadRTCP()
			if err != nil {
				return
			}
			for _, p := range packets {
				if _, ok := p.(*rtcp.SenderReport); ok {
					b.reports.Add(1)
				}
			}
		}
	}()
	name := remote.StreamID() + "/" + remote.Kind().String()
	b.mu.Lock()
	b.remoteSSRC[name] = remote.SSRC()
	b.mu.Unlock()
	var assembler *frames.Assembler
	coding := codec.None
	for {
		p, _, err := remote.ReadRTP()
		if err != nil {
			return
		}
		if now := codec.Find(remote.Codec().MimeType); now != coding { // pion follows the payload type
			coding, assembler = now, frames.NewAssembler(now)
		}
		assembler.Push(time.Now(), p)
		for f, ok := assembler.Pop(time.Now()); ok; f, ok = assembler.Pop(time.Now()) {
			b.mu.Lock()
			b.shown[name] = append(b.shown[name], bytes.Clone(f.Data))
			b.mu.Unlock()
		}
	}
}

func (b *browser) sendVideo(frame []byte, timestamp uint32) error {
	return b.video.Packetize(frame, timestamp, func(p *rtp.Packet) error { return b.camera.WriteRTP(p) })
}

// keyFrame is a made-up VP8 key frame with n bytes behind its header. delta is a frame that refers to it.
func keyFrame(n int, fill byte) []byte {
	return append([]byte{0x10, 0, 0, 0x9d, 0x01, 0x2a, 0, 5, 0xd0, 2}, bytes.Repeat([]byte{fill}, n)...)
}

func delta(n int, fill byte) []byte {
	return append([]byte{0x31, 0, 0}, bytes.Repeat([]byte{fill}, n)...)
}

func newPage(t testing.TB, events chan page.Event) *page.Page {
	t.Helper()
	p, err := page.New(page.Config{Log: zerolog.Nop(), OnEvent: func(e page.Event) {
		select {
		case events <- e:
		default:
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func connect(t testing.TB, p *page.Page, events chan page.Event) *browser {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	offer, err := p.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	b, answer := newBrowser(t, offer)
	if err := p.Answer(answer); err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case e := <-events:
			if e.Kind == page.Connected {
				return b
			}
		case <-ctx.Done():
			t.Fatal("the page does not connect")
		}
	}
}

// TestPage sends whole frames through a real peer connection, both ways, with key frame requests and clocks.
func TestPage(t *testing.T) {
	events := make(chan page.Event, 16)
	p := newPage(t, events)
	up := newUplink()
	p.SetUplink(up)
	b := connect(t, p, events)

	want := [][]byte{keyFrame(5000, 1), delta(20, 2), delta(3000, 3)}
	timestamp := uint32(0)
	rig.Eventually(t, 10*time.Second, func() error {
		for _, f := range want {
			timestamp += 3000
			if err := b.sendVideo(f, timestamp); err != nil {
				t.Fatal(err)
			}
		}
		up.mu.Lock()
		defer up.mu.Unlock()
		if len(up.video) < 6 {
			return fmt.Errorf("%d of the page's pictures came", len(up.video))
		}
		return nil
	})
	up.mu.Lock()
	for i, f := range up.video {
		if !bytes.Equal(f, want[i%3]) {
			t.Errorf("frame %d came through changed: %d bytes for %d", i, len(f), len(want[i%3]))
		}
	}
	up.mu.Unlock()

	p.RequestKeyFrame(track.Video)
	rig.Eventually(t, 10*time.Second, func() error {
		if b.keysAsked.Load() == 0 {
			return errors.New("the page was not asked for a key frame")
		}
		return nil
	})
	rig.Eventually(t, 10*time.Second, func() error {
		timestamp += 3000
		_ = b.sendVideo(want[1], timestamp)
		up.mu.Lock()
		defer up.mu.Unlock()
		if up.clocks[track.Video] == 0 {
			return fmt.Errorf("the page's clock did not come, only %v", up.clocks)
		}
		return nil
	})

	// The other way: two sources follow each other in one tile, and the page is sent their clock.
	down := [][]byte{keyFrame(4000, 7), delta(100, 8)}
	at := uint32(1000)
	rig.Eventually(t, 10*time.Second, func() error {
		for _, f := range down {
			at += 3000
			p.WriteFrame(2, track.Video, codec.VP8, track.Source(1+at/60000), at, f)
		}
		p.WriteFrame(2, track.Audio, codec.Opus, 9, at, []byte{1, 2, 3})
		p.SetClock(2, track.Video, track.Source(1+at/60000), time.Now(), at)
		b.mu.Lock()
		defer b.mu.Unlock()
		video, audio, reports := len(b.shown["tile-2/video"]), len(b.shown["tile-2/audio"]), b.reports.Load()
		if video <= 50 || audio == 0 || reports == 0 {
			return fmt.Errorf("tile 2 was sent %d pictures, %d sounds and %d sender reports", video, audio, reports)
		}
		return nil
	})
	b.mu.Lock()
	for i, f := range b.shown["tile-2/video"] {
		if !bytes.Equal(f, down[0]) && !bytes.Equal(f, down[1]) {
			t.Errorf("frame %d was shown changed", i)
		}
	}
	ssrc := b.remoteSSRC["tile-2/video"]
	b.mu.Unlock()
	if err := b.pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: uint32(ssrc)}}); err != nil {
		t.Fatal(err)
	}
	rig.Eventually(t, 10*time.Second, func() error {
		up.mu.Lock()
		defer up.mu.Unlock()
		if up.plis[2] == 0 {
			return fmt.Errorf("the page's request for a key frame did not come, only %v", up.plis)
		}
		return nil
	})
	// Frames for a tile that does not exist, or without a connection, are dropped.
	p.WriteFrame(-1, track.Video, codec.VP8, 1, 0, down[0])
	p.WriteFrame(99, track.Video, codec.VP8, 1, 0, down[0])
	p.Disconnect()
	p.WriteFrame(0, track.Video, codec.VP8, 1, 0, down[0])
}

// TestPageAgain closes the browser's end. The loss is emitted, and the frames of the next connection come to the same uplink from a new source.
func TestPageAgain(t *testing.T) {
	events := make(chan page.Event, 16)
	p := newPage(t, events)
	up := newUplink()
	p.SetUplink(up)
	first := connect(t, p, events)
	if err := first.pc.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case e := <-events:
		if e.Kind != page.Disconnected {
			t.Fatalf("the page's end is event %+v", e)
		}
	case <-time.After(15 * time.Second):
		t.Fatal("the page's end is not noticed")
	}
	second := connect(t, p, events)
	timestamp := uint32(0)
	rig.Eventually(t, 10*time.Second, func() error {
		timestamp += 3000
		_ = second.sendVideo(keyFrame(100, 1), timestamp)
		up.mu.Lock()
		defer up.mu.Unlock()
		if len(up.video) == 0 {
			return errors.New("no picture of the second page came")
		}
		return nil
	})
}

// TestPageAnswers refuses invalid answers.
func TestPageAnswers(t *testing.T) {
	p := newPage(t, make(chan page.Event, 16))
	if err := p.Answer("v=0"); err == nil {
		t.Error("an answer without an offer is taken")
	}
	if _, err := p.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, sdp := range []string{"", "v=0", "\x00", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"} {
		if err := p.Answer(sdp); err == nil {
			t.Errorf("the answer %q is taken", sdp)
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := p.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	if _, err := p.Connect(t.Context()); err == nil {
		t.Error("a closed page makes offers")
	}
}
