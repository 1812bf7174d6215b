// Package page is the media end towards the kiosk's browser. A [Page] receives camera and microphone from the browser, and shows others there in
// tiles. It knows neither calls nor SFUs: what it receives goes to a [track.Uplink], and whole decrypted frames come back by [Page.WriteFrame].
//
// The WebRTC peer connection stays on this machine: host candidates only, no STUN, no TURN. It comes and goes as the page is loaded, and
// everything else of a Page stays.
//
// Goroutines: pion runs one for each callback. A connection runs one track.Reader for each track that the page sends, one reader of RTCP for
// each of these and for each track that the page is shown, one that sends sender reports, and one that watches whether a picture comes. [Page.Connect], [Page.Disconnect] and [Page.Close]
// wait for all of them. The page's own tracks have no lock. Each track that is shown to the page has one.
package page

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"
	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/track"
)

// defaultTiles is how many remote participants the page shows at once if the configuration does not say.
const defaultTiles = 4

// EventKind says what happened to the page's media.
type EventKind uint8

const (
	// Connected: the peer connection carries media.
	Connected EventKind = iota
	// Disconnected: the peer connection carries no media any more, and a new one must be offered. The event comes once for each connection that was
	// up or failed to come up, unless Disconnect or Connect ended it.
	Disconnected
	// Bitrate: the page's encoder should use BPS at most, and the encoder of the small picture Small. A picture whose limit is zero need not
	// be encoded at all.
	Bitrate
)

// Event is one event of a [Page].
type Event struct {
	Kind EventKind
	// BPS and Small are limits in bit/s.
	BPS, Small int
}

// Config configures a Page.
type Config struct {
	// Tiles is how many remote participants can be shown at once, 16 at most; 0 means 4.
	Tiles int
	Log   zerolog.Logger
	// OnEvent is required. It must not block, and may be called from several goroutines.
	OnEvent func(Event)
}

// Page is the end of the media towards the kiosk's browser. Make it with [New]. All methods may be called from any goroutine. Connect,
// Disconnect and Close must not be called from OnEvent.
type Page struct {
	cfg     Config
	api     *webrtc.API
	sources atomic.Uint64
	bitrate atomic.Pointer[Event] // the last limit, nil before the first
	loss    atomic.Uint32         // of the page's sound on the way to the others, in 1/256
	renewed atomic.Uint64         // connections that were given up by watchPicture
	keys    [track.Kinds]track.KeyFrameRequester

	uplinkMu sync.RWMutex // held while the uplink is called
	uplink   track.Uplink

	connecting sync.Mutex // serialises Connect, Disconnect and Close
	closed     bool
	connection atomic.Pointer[connection]
}

// New makes a page without connection.
func New(cfg Config) (*Page, error) {
	if cfg.Tiles == 0 {
		cfg.Tiles = defaultTiles
	}
	switch {
	case cfg.Tiles < 0 || cfg.Tiles > track.MaxTiles:
		return nil, fmt.Errorf("page media: %d tiles, want 1 to %d", cfg.Tiles, track.MaxTiles)
	case cfg.OnEvent == nil:
		return nil, errors.New("page media: OnEvent is missing")
	}
	p := &Page{cfg: cfg}
	var err error
	if p.api, err = newAPI(cfg.Log, p); err != nil {
		return nil, fmt.Errorf("page media: %w", err)
	}
	for kind := range p.keys {
		p.keys[kind].Ask = func() { p.askKeyFrame(track.Kind(kind)) }
	}
	return p, nil
}

// Connect ends the present peer connection, makes a new one and returns its complete offer (SDP). The offer has one receiving section each
// for the page's own sound, picture and small picture, then two sending sections for each tile, sound and picture, whose stream id is
// "tile-" and the tile's number.
func (p *Page) Connect(ctx context.Context) (sdp string, err error) {
	p.connecting.Lock()
	defer p.connecting.Unlock()
	if p.closed {
		return "", errors.New("connect page: it is closed")
	}
	p.disconnect()
	c, err := newConnection(p)
	if err != nil {
		return "", fmt.Errorf("connect page: %w", err)
	}
	if sdp, err = c.offer(ctx); err != nil {
		c.close()
		return "", fmt.Errorf("connect page: %w", err)
	}
	p.connection.Store(c)
	return sdp, nil
}

// Answer sets the page's answer (SDP) to the last offer.
func (p *Page) Answer(sdp string) error {
	c := p.connection.Load()
	if c == nil {
		return errors.New("answer of the page: nothing was offered")
	}
	if err := c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: sdp}); err != nil {
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
	if c := p.connection.Swap(nil); c != nil {
		c.close()
	}
}

// Close ends everything. It may be called twice.
func (p *Page) Close() error {
	p.connecting.Lock()
	defer p.connecting.Unlock()
	p.closed = true
	p.disconnect()
	for kind := range p.keys {
		p.keys[kind].Close()
	}
	return nil
}

// Tiles is how many remote participants can be shown at once.
func (p *Page) Tiles() int { return p.cfg.Tiles }

// SetUplink sets who gets the page's picture and sound, nil for nobody. When it returns, the previous uplink is not called any more.
func (p *Page) SetUplink(u track.Uplink) {
	p.uplinkMu.Lock()
	p.uplink = u
	p.uplinkMu.Unlock()
}

// withUplink calls f with the uplink, if there is one.
func (p *Page) withUplink(f func(track.Uplink)) {
	p.uplinkMu.RLock()
	defer p.uplinkMu.RUnlock()
	if p.uplink != nil {
		f(p.uplink)
	}
}

// RequestKeyFrame asks the page's encoder of track.Video or track.SmallVideo for a key frame (PLI, RFC 4585). Requests in quick succession
// become one.
func (p *Page) RequestKeyFrame(kind track.Kind) { p.keys[kind].Request() }

func (p *Page) askKeyFrame(kind track.Kind) {
	c := p.connection.Load()
	if c == nil {
		return
	}
	if ssrc := c.ssrc[kind].Load(); ssrc != 0 {
		_ = c.pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: ssrc}})
	}
}

// SetBitrate emits a Bitrate event: the most that the page's encoders may use for the picture and for the small picture, in bit/s.
func (p *Page) SetBitrate(video, small int) {
	e := Event{Kind: Bitrate, BPS: video, Small: small}
	p.bitrate.Store(&e)
	p.cfg.OnEvent(e)
}

// SetLoss says which part of the page's sound gets lost on the way to the others, 0 to 1. Nothing gets lost between page and program, and the encoder makes
// redundancy only for loss that it is told of.
func (p *Page) SetLoss(sound float64) { p.loss.Store(uint32(255 * max(0, min(sound, 1)))) }

// WriteFrame shows one decrypted frame in a tile. The codec may change with each key frame. Without a connection to the page the frame is dropped.
// data is only read, and only until WriteFrame returns.
func (p *Page) WriteFrame(tile int, kind track.Kind, c codec.Codec, source track.Source, timestamp uint32, data []byte) {
	if t := p.tileTrack(tile, kind); t != nil {
		t.write(time.Now(), c, source, timestamp, data)
	}
}

// Shows says whether the page can decode a codec. Without a connection it says yes.
func (p *Page) Shows(c codec.Codec) bool {
	t := p.tileTrack(0, track.Video)
	if c == track.Audio.Codec() || t == nil || t.out.bound.Load() == nil {
		return c.Known()
	}
	return t.out.payloadType(c) != 0
}

// SetClock says that a source's RTP clock was at timestamp when its wall clock was at ntp. The page plays sound and picture in step by it.
func (p *Page) SetClock(tile int, kind track.Kind, source track.Source, ntp time.Time, timestamp uint32) {
	if t := p.tileTrack(tile, kind); t != nil {
		t.setClock(source, ntp, timestamp)
	}
}

// tileTrack is nil when there is no connection, or no such tile.
func (p *Page) tileTrack(tile int, kind track.Kind) *tileTrack {
	c := p.connection.Load()
	if c == nil || tile < 0 || tile >= len(c.tiles) {
		return nil
	}
	if kind == track.Audio {
		return c.tiles[tile].audio
	}
	return c.tiles[tile].video
}
