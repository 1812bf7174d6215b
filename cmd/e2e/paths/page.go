package paths

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"multifactorymodel.org/ewindow/callmedia"
	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/frames"
)

const (
	pageVersion = 1                      // of the page's messages, see package bridge/kiosk
	reportEvery = 50 * time.Millisecond  // while something changes
	redialAfter = 250 * time.Millisecond // as the real page does
	maxMessage  = 4 << 20
	still       = 2 * time.Second // after which a picture stands still, as the real page takes it
	ownTracks   = 3               // sound, picture, the picture in small: the first sections of each offer
)

// Report is what a page shows and has counted, a JSON line of [RunPage].
type Report struct {
	// Screen and Shutter are those of the last state; Screen is empty while the kiosk does not answer.
	Screen, Shutter string
	// Fault is the state's fault code.
	Fault string
	// Joined are the names of the other windows that can be called, Open those of them that are open.
	Joined, Open []string
	// Media says that the peer connection to the kiosk works.
	Media bool
	// Sounds, Pictures and Broken count received frames: Broken are pictures that differ from what all these pages send. Sent counts our own
	// pictures that went to the kiosk.
	Sounds, Pictures, Broken, Sent uint64
	// Pressed is when the window was opened last, First and Last when the first picture after that came and the newest one. Gap is the
	// longest time between two of them since it was asked for anew.
	Pressed, First, Last time.Time
	Gap                  time.Duration
}

// page is a kiosk's page without a browser: it answers offers, sends the synthetic picture and sound of package callmedia when it is
// to, and counts what it is shown.
type page struct {
	address string
	media   *callmedia.Synthetic
	out     io.Writer

	link atomic.Pointer[link] // the peer connection, nil while there is none

	mu      sync.Mutex // guards what follows
	sending bool       // our own pictures and sound
	report  Report
	written string
	socket  *websocket.Conn
	shutter string // where somebody has moved it
	camera  bool   // it runs, as the kiosk was told
}

// RunPage is the page of the kiosk at address (host and port) until commands ends. Each line of commands is "open" or "shut", a press on
// the button, or "gap", which begins [Report].Gap anew. Reports are written to out whenever something has changed.
func RunPage(address string, commands io.Reader, out io.Writer) error {
	media, err := callmedia.NewSynthetic()
	if err != nil {
		return err
	}
	p := &page{address: address, media: media, out: out, shutter: "shut"}
	media.SetUplink(p)
	ctx, cancel := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	tasks.Go(func() { media.Run(ctx) })
	tasks.Go(func() { p.connect(ctx) })
	tasks.Go(func() { p.tell(ctx) })
	defer tasks.Wait()
	defer cancel()
	lines := bufio.NewScanner(commands)
	for lines.Scan() {
		p.obey(ctx, lines.Text())
	}
	return lines.Err()
}

func (p *page) obey(ctx context.Context, command string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch command {
	case "open", "shut":
		p.shutter = command
		p.report.First = time.Time{}
		if command == "open" {
			p.report.Pressed = time.Now()
		} else {
			p.sending = false // before the kiosk knows
		}
		p.sendLocked(ctx, map[string]any{"type": "shutter", "to": command})
	case "gap":
		p.report.Gap = 0
	}
}

// connect keeps the WebSocket for ever.
func (p *page) connect(ctx context.Context) {
	for ctx.Err() == nil {
		_ = p.serve(ctx)
		p.mu.Lock()
		p.socket, p.report.Screen = nil, ""
		p.mu.Unlock()
		select {
		case <-time.After(redialAfter):
		case <-ctx.Done():
		}
	}
	p.hangUp()
}

// serve is one WebSocket from hello to its end.
func (p *page) serve(ctx context.Context) error {
	conn, _, err := websocket.Dial(ctx, "ws://"+p.address+"/ws", nil)
	if err != nil {
		return err
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(maxMessage)
	p.mu.Lock()
	p.socket, p.camera = conn, false
	p.sendLocked(ctx, map[string]any{"type": "hello", "version": pageVersion, "role": "page", "shutter": p.shutter})
	p.mu.Unlock()
	for {
		_, data, err := conn.Read(ctx)
		if err != nil {
			return err
		}
		if err := p.take(ctx, data); err != nil {
			return err
		}
	}
}

func (p *page) sendLocked(ctx context.Context, message map[string]any) {
	if p.socket == nil {
		return
	}
	data, err := json.Marshal(message)
	if err == nil {
		_ = p.socket.Write(ctx, websocket.MessageText, data)
	}
}

// message is what the kiosk says, as far as it matters here.
type message struct {
	Type, Screen, Shutter string
	Camera, Send          bool
	Fault                 *struct{ Code string }
	Windows               []struct {
		Name, Shutter string
		Joined        bool
	}
	ID         uint64
	SDP        string
	BPS, Small int
}

func (p *page) take(ctx context.Context, data []byte) error {
	var m message
	if err := json.Unmarshal(data, &m); err != nil {
		return err
	}
	switch m.Type {
	case "state":
		p.show(ctx, m)
	case "bitrate":
		p.media.SetBitrate(m.BPS, m.Small)
	case "offer":
		p.hangUp()
		l, err := p.answer(ctx, m.SDP)
		if err != nil {
			return err
		}
		p.link.Store(l)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.sendLocked(ctx, map[string]any{"type": "answer", "id": m.ID, "sdp": l.pc.LocalDescription().SDP})
	}
	return nil
}

// show does what a new state asks for.
func (p *page) show(ctx context.Context, m message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := &p.report
	r.Screen, r.Shutter, r.Fault, r.Joined, r.Open = m.Screen, m.Shutter, "", nil, nil
	if m.Fault != nil {
		r.Fault = m.Fault.Code
	}
	for _, w := range m.Windows {
		if w.Joined {
			r.Joined = append(r.Joined, w.Name)
		}
		if w.Joined && w.Shutter == "open" {
			r.Open = append(r.Open, w.Name)
		}
	}
	if camera := m.Camera && p.shutter != "shut"; camera != p.camera {
		p.camera = camera
		state := "off"
		if camera {
			state = "on"
		}
		p.sendLocked(ctx, map[string]any{"type": "camera", "state": state})
	}
	send := m.Send && p.camera
	if send && !p.sending {
		p.media.RequestKeyFrame(callmedia.Video) // an encoder that starts begins with one
		p.media.RequestKeyFrame(callmedia.SmallVideo)
	}
	p.sending = send
}

// tell writes reports, and tells the kiosk which pictures move.
func (p *page) tell(ctx context.Context) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	playing := make(map[int]bool)
	seen := make(map[int]uint64)
	at := make(map[int]time.Time)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		p.mu.Lock()
		r := &p.report
		r.Sounds, r.Pictures, r.Broken = 0, 0, 0
		for slot := range p.media.Slots() {
			audio, video, broken := p.media.Shown(slot)
			r.Sounds, r.Pictures, r.Broken = r.Sounds+audio, r.Pictures+video, r.Broken+broken
			if video != seen[slot] {
				seen[slot], at[slot] = video, time.Now()
			}
			if moves := !at[slot].IsZero() && time.Since(at[slot]) < still; moves != playing[slot] {
				playing[slot] = moves
				p.sendLocked(ctx, map[string]any{"type": "picture", "slot": slot, "playing": moves, "frames": video})
			}
		}
		l := p.link.Load()
		r.Media = l != nil && l.pc.ConnectionState() == webrtc.PeerConnectionStateConnected
		line, err := json.Marshal(r)
		if err == nil && string(line) != p.written {
			p.written = string(line)
			_, _ = fmt.Fprintf(p.out, "%s\n", line)
		}
		p.mu.Unlock()
	}
}

// HandleFrame implements [callmedia.Uplink]: it is a frame of our own picture or sound.
func (p *page) HandleFrame(kind callmedia.Kind, _ callmedia.Source, f frames.Frame) {
	l := p.link.Load()
	if l == nil || l.pc.ConnectionState() != webrtc.PeerConnectionStateConnected || !p.count(kind) {
		return
	}
	track := l.own[kind]
	_ = track.packets.Packetize(f.Data, f.Timestamp, func(packet *rtp.Packet) error { return track.out.WriteRTP(packet) })
}

// count says whether a frame of our own may leave, and counts it if it is a picture: none is counted after the window was shut.
func (p *page) count(kind callmedia.Kind) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sending && kind == callmedia.Video {
		p.report.Sent++
	}
	return p.sending
}

// HandleClock implements [callmedia.Uplink]. Sender reports are pion's here.
func (p *page) HandleClock(callmedia.Kind, callmedia.Source, time.Time, uint32) {}

// HandleKeyFrameRequest implements [callmedia.Uplink]; nobody calls it, since frames are shown as they come.
func (p *page) HandleKeyFrameRequest(int) {}

// link is one peer connection to the kiosk.
type link struct {
	pc    *webrtc.PeerConnection
	own   [ownTracks]ownTrack
	tasks sync.WaitGroup
}

type ownTrack struct {
	out     *webrtc.TrackLocalStaticRTP
	packets *frames.Packetizer
}

func (p *page) hangUp() {
	if l := p.link.Swap(nil); l != nil {
		_ = l.pc.GracefulClose()
		l.tasks.Wait()
	}
}

// answer makes a new peer connection from an offer. Its candidates are all gathered when it returns, none of them is loopback: a browser
// offers that neither.
func (p *page) answer(ctx context.Context, sdp string) (l *link, err error) {
	var media webrtc.MediaEngine
	if err := media.RegisterDefaultCodecs(); err != nil {
		return nil, err
	}
	var chain interceptor.Registry
	if err := webrtc.RegisterDefaultInterceptors(&media, &chain); err != nil {
		return nil, err
	}
	api := webrtc.NewAPI(webrtc.WithMediaEngine(&media), webrtc.WithInterceptorRegistry(&chain))
	l = &link{}
	if l.pc, err = api.NewPeerConnection(webrtc.Configuration{}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = l.pc.GracefulClose()
			l.tasks.Wait()
		}
	}()
	// pion has a goroutine for each call, and closing gracefully waits for it.
	l.pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { p.watch(l.pc, track) })
	if err := l.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: sdp}); err != nil {
		return nil, err
	}
	for kind := range l.own {
		capability, coding := webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000}, codec.VP8
		if callmedia.Kind(kind) == callmedia.Audio {
			capability, coding = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}, codec.Opus
		}
		out, err := webrtc.NewTrackLocalStaticRTP(capability, fmt.Sprint(kind), "own")
		if err != nil {
			return nil, err
		}
		sender, err := l.pc.AddTrack(out) // takes the first section of its kind that is free
		if err != nil {
			return nil, err
		}
		l.own[kind] = ownTrack{out, frames.NewPacketizer(coding, 0, 0, 0, frames.RandomSeed())}
		l.tasks.Go(func() { p.listen(callmedia.Kind(kind), sender) })
	}
	answer, err := l.pc.CreateAnswer(nil)
	if err != nil {
		return nil, err
	}
	gathered := webrtc.GatheringCompletePromise(l.pc)
	if err := l.pc.SetLocalDescription(answer); err != nil {
		return nil, err
	}
	select {
	case <-gathered:
		return l, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// listen takes the kiosk's requests for key frames.
func (p *page) listen(kind callmedia.Kind, sender *webrtc.RTPSender) {
	for {
		packets, _, err := sender.ReadRTCP()
		if err != nil {
			return
		}
		for _, packet := range packets {
			switch packet.(type) {
			case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
				p.media.RequestKeyFrame(kind)
			}
		}
	}
}

// watch shows one track that is received.
func (p *page) watch(pc *webrtc.PeerConnection, track *webrtc.TrackRemote) {
	var slot int
	if _, err := fmt.Sscanf(track.StreamID(), "slot-%d", &slot); err != nil {
		return
	}
	kind, coding := callmedia.Audio, codec.Opus
	if track.Kind() == webrtc.RTPCodecTypeVideo {
		kind, coding = callmedia.Video, codec.VP8
	}
	assembler := frames.NewAssembler(coding, frames.AssemblerOptions{})
	for {
		// The zero time waits for ever.
		deadline, _ := assembler.Next(time.Now())
		if track.SetReadDeadline(deadline) != nil {
			return
		}
		packet, _, err := track.ReadRTP()
		now := time.Now()
		switch {
		case os.IsTimeout(err):
		case errors.Is(err, io.ErrShortBuffer):
			continue
		case err != nil:
			return
		default:
			assembler.Push(now, packet)
		}
		for f, ok := assembler.Pop(now); ok; f, ok = assembler.Pop(now) {
			p.media.WriteFrame(slot, kind, 0, f.Timestamp, f.Data)
			if kind == callmedia.Video {
				p.seen(now)
			}
		}
		if kind == callmedia.Video && assembler.NeedKey() {
			_ = pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: uint32(track.SSRC())}})
		}
	}
}

// seen counts a picture.
func (p *page) seen(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := &p.report
	if !r.Last.IsZero() {
		r.Gap = max(r.Gap, now.Sub(r.Last))
	}
	r.Last = now
	if r.First.IsZero() && p.shutter == "open" {
		r.First = now
	}
}
