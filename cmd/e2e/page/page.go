// Package page is a kiosk's page without a browser, for tests. It answers the kiosk's offers, sends a synthetic picture and sound, and counts the
// frames that it receives.
//
// [Start] runs a page inside the test. [StartCommand] runs a page as a process of its own. Tests with network namespaces need this, because a peer
// connection opens its sockets in the namespace of its process. The TestMain of such tests calls [Main].
package page

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"multifactorymodel.org/ewindow/bridge/kiosk"
	"multifactorymodel.org/ewindow/callmedia/frames"
	"multifactorymodel.org/ewindow/callmedia/track"
	"multifactorymodel.org/ewindow/cmd/e2e/synthetic"
)

const (
	pageVersion = 2                      // version of the page's messages, see package bridge/kiosk
	reportEvery = 50 * time.Millisecond  // while something changes
	redialAfter = 250 * time.Millisecond // as in the real page
	maxMessage  = 4 << 20
	frozenAfter = 2 * time.Second // a picture without new frames for this time counts as frozen, as in the real page
	ownTracks   = 3               // sound, picture, small picture: the first media sections of each offer
)

// Report is what a page shows and has counted. [Run] writes it as a JSON line.
type Report struct {
	// Screen and Shutter are those of the kiosk's last state. Screen is empty while the kiosk does not answer.
	Screen, Shutter string
	// Fault is the state's fault code.
	Fault string
	// Joined are the names of the other windows that can be called. Open are the names of those that are open.
	Joined, Open []string
	// Media says that the peer connection to the kiosk works.
	Media bool
	// Sounds and Pictures count received frames. Broken counts the pictures that differ from the recording that all these pages send. Filmed counts
	// our own pictures while the window was open, Sent those of them that went to the kiosk.
	Sounds, Pictures, Broken, Filmed, Sent uint64
	// Pressed is when the window was last opened. First is when the first picture after that came, Last when the newest one came. Gap is the
	// longest time between two pictures since the last command "gap".
	Pressed, First, Last time.Time
	Gap                  time.Duration
}

// page is one page. It answers offers, sends a synthetic picture and sound while the kiosk's state allows it, and counts the frames that it
// receives.
type page struct {
	address *url.URL
	media   *synthetic.Page
	out     io.Writer

	connection atomic.Pointer[connection] // to the kiosk, nil while there is none

	mu      sync.Mutex // guards what follows
	sending bool       // our own pictures and sound
	report  Report
	written string
	socket  *websocket.Conn
	shutter string // as the last command set it
	camera  bool   // whether the camera is on, as last reported to the kiosk
}

// Run runs the page at address, which a browser could open as well, see [kiosk.Address]. It returns when commands ends. Each line of commands is a
// command: "open" and "shut" press the button, "gap" resets [Report].Gap to 0. Run writes a report to out whenever something has changed.
func Run(address string, commands io.Reader, out io.Writer) error {
	at, err := url.Parse(address)
	if err != nil {
		return errors.New("the page's address is no URL")
	}
	media, err := synthetic.New()
	if err != nil {
		return err
	}
	p := &page{address: at, media: media, out: out, shutter: "shut"}
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
		p.runCommand(ctx, lines.Text())
	}
	return lines.Err()
}

// runCommand executes one command.
func (p *page) runCommand(ctx context.Context, command string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch command {
	case "open", "shut":
		p.shutter = command
		p.report.First = time.Time{}
		if command == "open" {
			p.report.Pressed = time.Now()
		} else {
			p.sending = false // at once, before the kiosk's next state
		}
		p.sendLocked(ctx, map[string]any{"type": "shutter", "to": command})
	case "gap":
		p.report.Gap = 0
	}
}

// connect keeps the WebSocket open, and connects again when it is lost, until ctx ends.
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
	p.closeConnection()
}

// serve opens one WebSocket and handles its messages until it ends.
func (p *page) serve(ctx context.Context) error {
	conn, _, err := websocket.Dial(ctx, "ws://"+p.address.Host+"/ws", &websocket.DialOptions{Subprotocols: kiosk.Subprotocols(p.address.Fragment)})
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
		if err := p.handleMessage(ctx, data); err != nil {
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

// message is a message of the kiosk, with the fields that this page needs.
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

func (p *page) handleMessage(ctx context.Context, data []byte) error {
	var m message
	if err := json.Unmarshal(data, &m); err != nil {
		return err
	}
	switch m.Type {
	case "state":
		p.applyState(ctx, m)
	case "bitrate":
		p.media.SetBitrate(m.BPS, m.Small)
	case "offer":
		p.closeConnection()
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

// applyState applies a new state of the kiosk.
func (p *page) applyState(ctx context.Context, m message) {
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
		p.media.RequestKeyFrame(track.Video) // as an encoder does when it starts
		p.media.RequestKeyFrame(track.SmallVideo)
	}
	p.sending = send
}

// reportChanges writes reports, and tells the kiosk which pictures move.
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
			if moves := !at[tile].IsZero() && time.Since(at[tile]) < frozenAfter; moves != playing[tile] {
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

// HandleFrame implements [track.Uplink]. It sends a frame of our own picture or sound to the kiosk.
func (p *page) HandleFrame(kind track.Kind, _ track.Source, f frames.Frame) {
	c := p.connection.Load()
	connected := c != nil && c.pc.ConnectionState() == webrtc.PeerConnectionStateConnected
	if !p.count(kind, connected) {
		return
	}
	track := c.own[kind]
	_ = track.packets.Packetize(f.Data, f.Timestamp, func(packet *rtp.Packet) error { return track.out.WriteRTP(packet) })
}

// count says whether the page may send a frame, and counts the frame if it is a picture. After the window is shut it counts none.
func (p *page) count(kind track.Kind, connected bool) (send bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	send = p.sending && connected
	if kind == track.Video && p.shutter == "open" {
		p.report.Filmed++
	}
	if kind == track.Video && send {
		p.report.Sent++
	}
	return send
}

// HandleClock implements [track.Uplink]. pion sends the sender reports itself.
func (p *page) HandleClock(track.Kind, track.Source, time.Time, uint32) {}

// HandleKeyFrameRequest implements [track.Uplink]. Nothing calls it, because this page shows frames without decoding them.
func (p *page) HandleKeyFrameRequest(int) {}

// countPicture records when a picture came.
func (p *page) countPicture(now time.Time) {
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
