// Package page is a kiosk's page without a browser, for tests. It answers the kiosk's offers, sends a synthetic picture and sound, and
// counts the frames that it is shown.
//
// [Start] runs a page inside the test. [StartCommand] runs one as a process of its own, for tests with network namespaces: a peer connection
// opens its sockets in the namespace of its process. Such a test's TestMain calls [Main].
package page

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"multifactorymodel.org/ewindow/callmedia/frames"
	"multifactorymodel.org/ewindow/callmedia/track"
	"multifactorymodel.org/ewindow/cmd/e2e/synthetic"
)

const (
	pageVersion = 2                      // of the page's messages, see package bridge/kiosk
	reportEvery = 50 * time.Millisecond  // while something changes
	redialAfter = 250 * time.Millisecond // as the real page does
	maxMessage  = 4 << 20
	still       = 2 * time.Second // after which a picture stands still, as the real page takes it
	ownTracks   = 3               // sound, picture, the picture in small: the first sections of each offer
)

// Report is what a page shows and has counted, a JSON line of [Run].
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

// page is one page: it answers offers, sends the synthetic picture and sound of package callmedia while the kiosk's state says so, and counts
// the frames that it is shown.
type page struct {
	address string
	media   *synthetic.Page
	out     io.Writer

	connection atomic.Pointer[connection] // to the kiosk, nil while there is none

	mu      sync.Mutex // guards what follows
	sending bool       // our own pictures and sound
	report  Report
	written string
	socket  *websocket.Conn
	shutter string // where somebody has moved it
	camera  bool   // it runs, as the kiosk was told
}

// Run is the page of the kiosk at address (host and port). It returns when commands ends. Each line of commands is "open" or "shut", a press on
// the button, or "gap", which begins [Report].Gap anew. Reports are written to out whenever something has changed.
func Run(address string, commands io.Reader, out io.Writer) error {
	media, err := synthetic.New()
	if err != nil {
		return err
	}
	p := &page{address: address, media: media, out: out, shutter: "shut"}
	media.SetUplink(p)
	ctx, cancel := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	tasks.Go(func() { media.Run(ctx) })
	tasks.Go(func() { p.connect(ctx) })
	tasks.Go(func() { p.reportChanges(ctx) })
	defer tasks.Wait()
	defer cancel()
	lines := bufio.NewScanner(commands)
	for lines.Scan() {
		p.press(ctx, lines.Text())
	}
	return lines.Err()
}

// press carries out one command.
func (p *page) press(ctx context.Context, command string) {
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
		c, err := p.answer(ctx, m.SDP)
		if err != nil {
			return err
		}
		p.connection.Store(c)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.sendLocked(ctx, map[string]any{"type": "answer", "id": m.ID, "sdp": c.pc.LocalDescription().SDP})
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
		p.media.RequestKeyFrame(track.Video) // an encoder that starts begins with one
		p.media.RequestKeyFrame(track.SmallVideo)
	}
	p.sending = send
}

// tell writes reports, and tells the kiosk which pictures move.
func (p *page) reportChanges(ctx context.Context) {
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
		for tile := range p.media.Tiles() {
			audio, video, broken := p.media.Shown(tile)
			r.Sounds, r.Pictures, r.Broken = r.Sounds+audio, r.Pictures+video, r.Broken+broken
			if video != seen[tile] {
				seen[tile], at[tile] = video, time.Now()
			}
			if moves := !at[tile].IsZero() && time.Since(at[tile]) < still; moves != playing[tile] {
				playing[tile] = moves
				p.sendLocked(ctx, map[string]any{"type": "picture", "tile": tile, "playing": moves, "frames": video})
			}
		}
		c := p.connection.Load()
		r.Media = c != nil && c.pc.ConnectionState() == webrtc.PeerConnectionStateConnected
		line, err := json.Marshal(r)
		if err == nil && string(line) != p.written {
			p.written = string(line)
			_, _ = fmt.Fprintf(p.out, "%s\n", line)
		}
		p.mu.Unlock()
	}
}

// HandleFrame implements [track.Uplink]: it is a frame of our own picture or sound.
func (p *page) HandleFrame(kind track.Kind, _ track.Source, f frames.Frame) {
	c := p.connection.Load()
	if c == nil || c.pc.ConnectionState() != webrtc.PeerConnectionStateConnected || !p.count(kind) {
		return
	}
	track := c.own[kind]
	_ = track.packets.Packetize(f.Data, f.Timestamp, func(packet *rtp.Packet) error { return track.out.WriteRTP(packet) })
}

// count says whether a frame of our own may leave, and counts it if it is a picture: none is counted after the window was shut.
func (p *page) count(kind track.Kind) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sending && kind == track.Video {
		p.report.Sent++
	}
	return p.sending
}

// HandleClock implements [track.Uplink]. Sender reports are pion's here.
func (p *page) HandleClock(track.Kind, track.Source, time.Time, uint32) {}

// HandleKeyFrameRequest implements [track.Uplink]; nobody calls it, since frames are shown as they come.
func (p *page) HandleKeyFrameRequest(int) {}

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
