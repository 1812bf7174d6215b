package page

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/report"
	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"
	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/frames"
	"multifactorymodel.org/ewindow/callmedia/peerconnection"
	"multifactorymodel.org/ewindow/callmedia/track"
)

const (
	// ICE timing. The page is on the same machine: silence means that it is gone.
	iceDisconnected = 2 * time.Second
	iceFailed       = 4 * time.Second
	iceKeepAlive    = 500 * time.Millisecond
	// connectLimit is how long a page may take to answer an offer and connect.
	connectLimit = 15 * time.Second
	// reportInterval is how often the page is sent sender reports for what it is shown.
	reportInterval = time.Second
	// pictureLimit is how long the page may send sound and no picture. Both come from one camera and one microphone, which run together.
	pictureLimit = 4 * time.Second
)

// newAPI sets pion up as the page needs it: Opus and the codecs of pictures, host candidates of every interface, loss repair both ways, and feedback for the
// browser's bandwidth estimation. Sender reports are our own: see connection.sendReports.
func newAPI(log zerolog.Logger, page *Page) (*webrtc.API, error) {
	var media webrtc.MediaEngine
	for _, c := range append([]codec.Codec{codec.Opus}, codec.Pictures()...) {
		// Only what the page sends has streams for retransmissions. A tile's stream has several codecs, and pion knows one of them: lost packets of
		// tiles are sent again on their own stream.
		if err := peerconnection.RegisterCodec(&media, c, c == track.Video.Codec()); err != nil {
			return nil, fmt.Errorf("register codec: %w", err)
		}
	}
	var interceptors interceptor.Registry
	interceptors.Add(&farLoss{page: page}) // before the one whose reports it changes
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
	settings.SetICETimeouts(iceDisconnected, iceFailed, iceKeepAlive)
	return webrtc.NewAPI(
		webrtc.WithMediaEngine(&media), webrtc.WithInterceptorRegistry(&interceptors), webrtc.WithSettingEngine(settings),
	), nil
}

// connection is one peer connection to the page.
type connection struct {
	page  *Page
	pc    *webrtc.PeerConnection
	tiles []tile
	ssrc  [track.Kinds]atomic.Uint32 // of the page's own tracks
	taken [track.Kinds]atomic.Bool   // the page's own track has come
	heard [track.Kinds]atomic.Int64  // when its last frame came, Unix nanoseconds

	done  chan struct{} // closed by close
	once  sync.Once
	tasks sync.WaitGroup

	mu    sync.Mutex // guards what follows
	up    bool
	ended bool // Disconnected was emitted, or is not wanted any more
	limit *time.Timer
}

// tile shows one remote participant.
type tile struct{ audio, video *tileTrack }

func newConnection(p *Page) (*connection, error) {
	pc, err := p.api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, err
	}
	c := &connection{page: p, pc: pc, done: make(chan struct{})}
	if err := c.addTracks(); err != nil {
		close(c.done)
		err = errors.Join(err, pc.GracefulClose())
		c.tasks.Wait()
		return nil, err
	}
	pc.OnTrack(func(t *webrtc.TrackRemote, r *webrtc.RTPReceiver) { c.receive(t, r) })
	pc.OnConnectionStateChange(c.changed)
	c.limit = time.AfterFunc(connectLimit, func() {
		c.mu.Lock()
		up := c.up
		c.mu.Unlock()
		if !up {
			c.over()
		}
	})
	return c, nil
}

// addTracks makes the sections of the offer, in the order that the page relies on.
func (c *connection) addTracks() error {
	for _, kind := range [track.Kinds]webrtc.RTPCodecType{
		track.Audio: webrtc.RTPCodecTypeAudio, track.Video: webrtc.RTPCodecTypeVideo, track.SmallVideo: webrtc.RTPCodecTypeVideo,
	} {
		receive := webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}
		transceiver, err := c.pc.AddTransceiverFromKind(kind, receive)
		if err == nil && kind == webrtc.RTPCodecTypeVideo {
			err = transceiver.SetCodecPreferences(peerconnection.Choose(transceiver.Receiver().GetParameters().Codecs, true, track.Video.Codec()))
		}
		if err != nil {
			return fmt.Errorf("add %s from the page: %w", kind, err)
		}
	}
	send := webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly}
	for i := range c.page.cfg.Tiles {
		var tracks [2]*tileTrack
		for kind := range tracks {
			t := newTileTrack(i, track.Kind(kind))
			transceiver, err := c.pc.AddTransceiverFromTrack(t.out, send)
			if err == nil {
				err = transceiver.SetCodecPreferences(peerconnection.Choose(transceiver.Sender().GetParameters().Codecs, false, t.out.codecs...))
			}
			if err != nil {
				return fmt.Errorf("add tile %d: %w", i, err)
			}
			tracks[kind] = t
			t.ssrc = uint32(transceiver.Sender().GetParameters().Encodings[0].SSRC)
			c.tasks.Go(func() { c.readFeedback(i, transceiver.Sender()) })
		}
		c.tiles = append(c.tiles, tile{audio: tracks[track.Audio], video: tracks[track.Video]})
	}
	c.tasks.Go(c.sendReports)
	c.tasks.Go(c.watchPicture)
	return nil
}

// offer returns the complete offer, with all candidates.
func (c *connection) offer(ctx context.Context) (string, error) {
	offer, err := c.pc.CreateOffer(nil)
	if err != nil {
		return "", fmt.Errorf("make offer: %w", err)
	}
	gathered := webrtc.GatheringCompletePromise(c.pc)
	if err := c.pc.SetLocalDescription(offer); err != nil {
		return "", fmt.Errorf("set offer: %w", err)
	}
	select {
	case <-gathered:
		return c.pc.LocalDescription().SDP, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// changed follows the connection's state. pion calls it.
func (c *connection) changed(state webrtc.PeerConnectionState) {
	switch state {
	case webrtc.PeerConnectionStateConnected:
		c.mu.Lock()
		first := !c.up && !c.ended
		c.up = true
		c.mu.Unlock()
		if first {
			c.page.cfg.OnEvent(Event{Kind: Connected})
			if limit := c.page.bitrate.Load(); limit != nil { // a new page's encoders do not know the limit yet
				c.page.cfg.OnEvent(*limit)
			}
		}
	case webrtc.PeerConnectionStateFailed, webrtc.PeerConnectionStateClosed:
		c.over()
	}
}

// over emits, once, that the connection is lost.
func (c *connection) over() {
	c.mu.Lock()
	first := !c.ended
	c.ended = true
	c.mu.Unlock()
	if first {
		c.page.cfg.OnEvent(Event{Kind: Disconnected})
	}
}

// close ends the connection and waits for all of its goroutines.
func (c *connection) close() {
	c.mu.Lock()
	c.ended = true
	c.once.Do(func() { close(c.done) })
	c.mu.Unlock()
	c.limit.Stop()
	if err := c.pc.GracefulClose(); err != nil {
		c.page.cfg.Log.Debug().Err(err).Msg("Closing the page's peer connection")
	}
	c.tasks.Wait()
}

// receive begins to read one of the page's own tracks. Its section of the SDP says which one it is. A second track in the same section
// would be a fault of the page: it is read and dropped.
func (c *connection) receive(t *webrtc.TrackRemote, r *webrtc.RTPReceiver) {
	section := slices.IndexFunc(c.pc.GetTransceivers(), func(t *webrtc.RTPTransceiver) bool { return t.Receiver() == r })
	kind := track.Audio // a track in any other section is read as sound
	first := false
	if section >= 0 && section < int(track.Kinds) {
		kind = track.Kind(section)
		first = !c.taken[kind].Swap(true)
	}
	if first {
		c.ssrc[kind].Store(uint32(t.SSRC()))
	}
	source := track.Source(c.page.sources.Add(1))
	reader := &track.Reader{
		Track: t, Kind: kind, Codec: kind.Codec(),
		Frame: func(f frames.Frame) bool {
			if first {
				c.heard[kind].Store(time.Now().UnixNano())
				c.page.withUplink(func(u track.Uplink) { u.HandleFrame(kind, source, f) })
			}
			return true
		},
		NeedKeyFrame: func() {
			if first {
				c.page.RequestKeyFrame(kind)
			}
		},
		Malformed: func() {},
		Counters:  func(frames.Counters) {},
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.done: // close may be waiting already
		return
	default:
	}
	c.tasks.Go(reader.Run)
	if first {
		c.tasks.Go(func() { c.readReports(kind, source, r) })
	}
}

// readReports reads the clock of one of the page's tracks from its sender reports (RFC 3550, section 6.4.1).
func (c *connection) readReports(kind track.Kind, source track.Source, r *webrtc.RTPReceiver) {
	for {
		packets, _, err := r.ReadRTCP()
		if err != nil {
			return
		}
		for _, packet := range packets {
			if report, ok := packet.(*rtcp.SenderReport); ok {
				c.page.withUplink(func(u track.Uplink) {
					u.HandleClock(kind, source, peerconnection.FromNTP(report.NTPTime), report.RTPTime)
				})
			}
		}
	}
}

// readFeedback reads the page's requests for key frames in a tile (RFC 4585, RFC 5104). pion sends lost packets again only while this is
// read.
func (c *connection) readFeedback(tile int, s *webrtc.RTPSender) {
	for {
		packets, _, err := s.ReadRTCP()
		if err != nil {
			return
		}
		for _, packet := range packets {
			switch packet.(type) {
			case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
				c.page.withUplink(func(u track.Uplink) { u.HandleKeyFrameRequest(tile) })
			}
		}
	}
}

// watchPicture gives the connection up when the page goes on sending sound, and sends no picture although it should. An encoder that does not start,
// or has stopped, starts again with a new connection.
func (c *connection) watchPicture() {
	tick := time.NewTicker(reportInterval)
	defer tick.Stop()
	var since time.Time // since when there is sound and no picture
	for {
		select {
		case <-c.done:
			return
		case now := <-tick.C:
			missing := c.pictureMissing(now)
			switch {
			case !missing:
				since = time.Time{}
			case since.IsZero():
				since = now
			case now.Sub(since) >= pictureLimit:
				c.page.cfg.Log.Warn().Uint64("count", c.page.renewed.Add(1)).Msg("The page sends sound and no picture: the connection to it is made anew")
				c.over()
				return
			}
		}
	}
}

// pictureMissing says whether sound has come within the last second, and none of the pictures that the page should send.
func (c *connection) pictureMissing(now time.Time) bool {
	recent := func(kind track.Kind) bool { return now.UnixNano()-c.heard[kind].Load() < int64(reportInterval) }
	limit := c.page.bitrate.Load()
	if limit == nil || !recent(track.Audio) {
		return false
	}
	return limit.BPS > 0 && !recent(track.Video) || limit.Small > 0 && limit.BPS == 0 && !recent(track.SmallVideo)
}

// sendReports sends the page sender reports for what its tiles show. pion's own reports would tie RTP timestamps to the moment of sending.
// Picture and sound wait here for different times, so they would not be played in step.
func (c *connection) sendReports() {
	tick := time.NewTicker(reportInterval)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-tick.C:
		}
		for _, tile := range c.tiles {
			for _, t := range []*tileTrack{tile.audio, tile.video} {
				if r := t.report(time.Now()); r != nil {
					_ = c.pc.WriteRTCP([]rtcp.Packet{r})
				}
			}
		}
	}
}
