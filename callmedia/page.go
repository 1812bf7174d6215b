package callmedia

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/report"
	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"
	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/peerconnection"
)

// defaultSlots is how many remote participants the page can show at once.
const defaultSlots = 4

// PageEventKind says what happened to the page's media.
type PageEventKind uint8

const (
	// PageConnected: the peer connection carries media.
	PageConnected PageEventKind = iota
	// PageDisconnected: it carries none any more, and a new one must be offered. It comes once for each connection that was up
	// or failed to come up, unless Disconnect or Connect ended it.
	PageDisconnected
	// PageBitrate: the page's encoder should use BPS at most, and the one of the small picture Small. Without bitrate a picture is not
	// wanted.
	PageBitrate
)

// PageEvent is one event of a [Page].
type PageEvent struct {
	Kind PageEventKind
	// BPS and Small are limits in bit/s.
	BPS, Small int
}

// PageConfig is what a Page is made of.
type PageConfig struct {
	// Slots is how many remote participants can be shown at once; 0 means 4.
	Slots int
	Log   zerolog.Logger
	// OnEvent must not block. It may be called from several goroutines, and may be nil.
	OnEvent func(PageEvent)
}

// Page is the end of the media towards the kiosk's browser: it takes camera and microphone from there, and shows others in slots.
// Its peer connection (WebRTC, on this machine only in practice: host candidates, no STUN) comes and goes as the page is
// loaded; everything else stays. All methods may be called from any goroutine.
type Page struct {
	cfg     PageConfig
	api     *webrtc.API
	sources atomic.Uint64
	bitrate atomic.Pointer[PageEvent] // the last limit, nil before the first
	keys    [kinds]asker

	uplinkMu sync.RWMutex // held while the uplink is called
	uplink   Uplink

	connecting sync.Mutex // serialises Connect, Disconnect and Close
	closed     bool
	link       atomic.Pointer[pageLink]
}

// NewPage makes a page without connection.
func NewPage(cfg PageConfig) (*Page, error) {
	if cfg.Slots == 0 {
		cfg.Slots = defaultSlots
	}
	if cfg.Slots < 0 || cfg.Slots > 16 {
		return nil, fmt.Errorf("page media: %d slots, want 1 to 16", cfg.Slots)
	}
	if cfg.OnEvent == nil {
		cfg.OnEvent = func(PageEvent) {}
	}
	api, err := pageAPI(cfg.Log)
	if err != nil {
		return nil, fmt.Errorf("page media: %w", err)
	}
	p := &Page{cfg: cfg, api: api}
	for kind := range p.keys {
		p.keys[kind].ask = func() { p.askKeyFrame(Kind(kind)) }
	}
	return p, nil
}

// Connect ends the present peer connection, makes a new one and returns its complete offer (SDP): a receiving section each for the
// page's own sound, picture and small picture, then a sending pair for each slot, whose stream id is "slot-" and its number.
func (p *Page) Connect(ctx context.Context) (sdp string, err error) {
	p.connecting.Lock()
	defer p.connecting.Unlock()
	if p.closed {
		return "", errors.New("connect page: it is closed")
	}
	p.disconnect()
	link, err := newPageLink(p)
	if err != nil {
		return "", fmt.Errorf("connect page: %w", err)
	}
	if sdp, err = link.offer(ctx); err != nil {
		link.close()
		return "", fmt.Errorf("connect page: %w", err)
	}
	p.link.Store(link)
	return sdp, nil
}

// Answer takes the page's answer (SDP) to the last offer.
func (p *Page) Answer(sdp string) error {
	link := p.link.Load()
	if link == nil {
		return errors.New("answer of the page: nothing was offered")
	}
	if err := link.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: sdp}); err != nil {
		return fmt.Errorf("answer of the page: %w", err)
	}
	return nil
}

// Disconnect ends the peer connection, if there is one, and waits for it.
func (p *Page) Disconnect() {
	p.connecting.Lock()
	defer p.connecting.Unlock()
	p.disconnect()
}

func (p *Page) disconnect() {
	if link := p.link.Swap(nil); link != nil {
		link.close()
	}
}

// Close ends everything. It may be called twice.
func (p *Page) Close() error {
	p.connecting.Lock()
	defer p.connecting.Unlock()
	p.closed = true
	p.disconnect()
	for kind := range p.keys {
		p.keys[kind].close()
	}
	return nil
}

// Slots implements [Local].
func (p *Page) Slots() int { return p.cfg.Slots }

// SetUplink implements [Local].
func (p *Page) SetUplink(u Uplink) {
	p.uplinkMu.Lock()
	p.uplink = u
	p.uplinkMu.Unlock()
}

// withUplink calls f with the uplink, if there is one.
func (p *Page) withUplink(f func(Uplink)) {
	p.uplinkMu.RLock()
	defer p.uplinkMu.RUnlock()
	if p.uplink != nil {
		f(p.uplink)
	}
}

// RequestKeyFrame implements [Local].
func (p *Page) RequestKeyFrame(kind Kind) { p.keys[kind].request() }

func (p *Page) askKeyFrame(kind Kind) {
	link := p.link.Load()
	if link == nil {
		return
	}
	if ssrc := link.ssrc[kind].Load(); ssrc != 0 {
		_ = link.pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: ssrc}})
	}
}

// SetBitrate implements [Local]: the page is told by an event.
func (p *Page) SetBitrate(video, small int) {
	e := PageEvent{Kind: PageBitrate, BPS: video, Small: small}
	p.bitrate.Store(&e)
	p.cfg.OnEvent(e)
}

// pageAPI is pion as the page needs it: two codecs, host candidates of every interface, loss repair both ways, feedback for the
// browser's bandwidth estimation. Sender reports are our own, see slot.
func pageAPI(log zerolog.Logger) (*webrtc.API, error) {
	var media webrtc.MediaEngine
	for _, c := range []codec.Codec{codec.Opus, codec.VP8} {
		if err := peerconnection.RegisterCodec(&media, c, true); err != nil {
			return nil, fmt.Errorf("register codec: %w", err)
		}
	}
	var interceptors interceptor.Registry
	reports, err := report.NewReceiverInterceptor()
	if err != nil {
		return nil, fmt.Errorf("configure receiver reports: %w", err)
	}
	interceptors.Add(reports)
	if err := webrtc.ConfigureNack(&media, &interceptors); err != nil {
		return nil, fmt.Errorf("configure NACK: %w", err)
	}
	if err := webrtc.ConfigureTWCCSender(&media, &interceptors); err != nil {
		return nil, fmt.Errorf("configure TWCC: %w", err)
	}
	settings := webrtc.SettingEngine{LoggerFactory: peerconnection.Logger(log)}
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetICETimeouts(pageDisconnected, pageFailed, pageKeepAlive)
	return webrtc.NewAPI(
		webrtc.WithMediaEngine(&media), webrtc.WithInterceptorRegistry(&interceptors), webrtc.WithSettingEngine(settings),
	), nil
}
