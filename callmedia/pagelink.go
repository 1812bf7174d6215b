package callmedia

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"

	"multifactorymodel.org/ewindow/callmedia/frames"
	"multifactorymodel.org/ewindow/callmedia/peerconnection"
)

// The page is on the same machine: silence means that it is gone.
const (
	pageDisconnected = 2 * time.Second
	pageFailed       = 4 * time.Second
	pageKeepAlive    = 500 * time.Millisecond
	// pageConnectLimit is how long a page may take to answer an offer and connect.
	pageConnectLimit = 15 * time.Second
	// reportInterval is how often the page is told the clocks of what it is shown.
	reportInterval = time.Second
)

// pageLink is one peer connection to the page.
type pageLink struct {
	page  *Page
	pc    *webrtc.PeerConnection
	slots []pageSlot
	ssrc  [kinds]atomic.Uint32 // of the page's own tracks
	taken [kinds]atomic.Bool   // the page's own track is there

	done  chan struct{} // closed by close
	once  sync.Once
	tasks sync.WaitGroup

	mu    sync.Mutex // guards what follows
	up    bool
	ended bool // the page was told that it is over, or that does not matter any more
	limit *time.Timer
}

// pageSlot shows one remote participant.
type pageSlot struct{ audio, video *slotTrack }

func (s pageSlot) track(kind Kind) *slotTrack {
	if kind == Video {
		return s.video
	}
	return s.audio
}

func newPageLink(p *Page) (*pageLink, error) {
	pc, err := p.api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, err
	}
	l := &pageLink{page: p, pc: pc, done: make(chan struct{})}
	if err := l.addTracks(); err != nil {
		close(l.done)
		err = errors.Join(err, pc.GracefulClose())
		l.tasks.Wait()
		return nil, err
	}
	pc.OnTrack(func(t *webrtc.TrackRemote, r *webrtc.RTPReceiver) { l.receive(t, r) })
	pc.OnConnectionStateChange(l.changed)
	l.limit = time.AfterFunc(pageConnectLimit, func() {
		l.mu.Lock()
		up := l.up
		l.mu.Unlock()
		if !up {
			l.over()
		}
	})
	return l, nil
}

// addTracks makes the sections of the offer, in the order that the page relies on.
func (l *pageLink) addTracks() error {
	for _, kind := range [kinds]webrtc.RTPCodecType{
		Audio: webrtc.RTPCodecTypeAudio, Video: webrtc.RTPCodecTypeVideo, SmallVideo: webrtc.RTPCodecTypeVideo,
	} {
		receive := webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}
		if _, err := l.pc.AddTransceiverFromKind(kind, receive); err != nil {
			return fmt.Errorf("add %s from the page: %w", kind, err)
		}
	}
	send := webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly}
	for i := range l.page.cfg.Slots {
		var tracks [2]*slotTrack
		for kind := range tracks {
			t, err := newSlotTrack(i, Kind(kind))
			if err != nil {
				return fmt.Errorf("make slot %d: %w", i, err)
			}
			transceiver, err := l.pc.AddTransceiverFromTrack(t.track, send)
			if err != nil {
				return fmt.Errorf("add slot %d: %w", i, err)
			}
			tracks[kind] = t
			t.ssrc = uint32(transceiver.Sender().GetParameters().Encodings[0].SSRC)
			l.tasks.Go(func() { l.readFeedback(i, transceiver.Sender()) })
		}
		l.slots = append(l.slots, pageSlot{audio: tracks[Audio], video: tracks[Video]})
	}
	l.tasks.Go(l.report)
	return nil
}

// offer returns the complete offer, with all candidates.
func (l *pageLink) offer(ctx context.Context) (string, error) {
	offer, err := l.pc.CreateOffer(nil)
	if err != nil {
		return "", fmt.Errorf("make offer: %w", err)
	}
	gathered := webrtc.GatheringCompletePromise(l.pc)
	if err := l.pc.SetLocalDescription(offer); err != nil {
		return "", fmt.Errorf("set offer: %w", err)
	}
	select {
	case <-gathered:
		return l.pc.LocalDescription().SDP, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// changed follows the connection's state.
func (l *pageLink) changed(state webrtc.PeerConnectionState) {
	switch state {
	case webrtc.PeerConnectionStateConnected:
		l.mu.Lock()
		first := !l.up && !l.ended
		l.up = true
		l.mu.Unlock()
		if first {
			l.page.cfg.OnEvent(PageEvent{Kind: PageConnected})
			if limit := l.page.bitrate.Load(); limit != nil { // a new page's encoder knows nothing of it
				l.page.cfg.OnEvent(*limit)
			}
		}
	case webrtc.PeerConnectionStateFailed, webrtc.PeerConnectionStateClosed:
		l.over()
	}
}

// over says, once, that the connection is lost.
func (l *pageLink) over() {
	l.mu.Lock()
	first := !l.ended
	l.ended = true
	l.mu.Unlock()
	if first {
		l.page.cfg.OnEvent(PageEvent{Kind: PageDisconnected})
	}
}

// close ends the connection and waits for all that serves it.
func (l *pageLink) close() {
	l.mu.Lock()
	l.ended = true
	l.once.Do(func() { close(l.done) })
	l.mu.Unlock()
	l.limit.Stop()
	if err := l.pc.GracefulClose(); err != nil {
		l.page.cfg.Log.Debug().Err(err).Msg("Closing the page's peer connection")
	}
	l.tasks.Wait()
}

// receive takes one of the page's own tracks, whose section says what it is. A later one in the same section would be a fault of the page:
// it is read and dropped.
func (l *pageLink) receive(t *webrtc.TrackRemote, r *webrtc.RTPReceiver) {
	section := slices.IndexFunc(l.pc.GetTransceivers(), func(t *webrtc.RTPTransceiver) bool { return t.Receiver() == r })
	kind := Audio // of a section that is not for the page's tracks, only to read it
	first := false
	if section >= 0 && section < int(kinds) {
		kind = Kind(section)
		first = !l.taken[kind].Swap(true)
	}
	if first {
		l.ssrc[kind].Store(uint32(t.SSRC()))
	}
	source := Source(l.page.sources.Add(1))
	p := &pump{
		track: t, kind: kind,
		frame: func(f frames.Frame) bool {
			if !first {
				return true
			}
			l.page.withUplink(func(u Uplink) { u.HandleFrame(kind, source, f) })
			return true
		},
		needKey: func() {
			if first {
				l.page.RequestKeyFrame(kind)
			}
		},
		malformed: func() {},
		counters:  func(frames.Counters) {},
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.done: // close may already be waiting
		return
	default:
	}
	l.tasks.Go(p.run)
	if first {
		l.tasks.Go(func() { l.readReports(kind, source, r) })
	}
}

// readReports takes the clock of one of the page's tracks from its sender reports (RFC 3550, 6.4.1).
func (l *pageLink) readReports(kind Kind, source Source, r *webrtc.RTPReceiver) {
	for {
		packets, _, err := r.ReadRTCP()
		if err != nil {
			return
		}
		for _, packet := range packets {
			if report, ok := packet.(*rtcp.SenderReport); ok {
				l.page.withUplink(func(u Uplink) { u.HandleClock(kind, source, peerconnection.FromNTP(report.NTPTime), report.RTPTime) })
			}
		}
	}
}

// readFeedback takes what the page says about a slot. Reading also drives pion's retransmission.
func (l *pageLink) readFeedback(slot int, s *webrtc.RTPSender) {
	for {
		packets, _, err := s.ReadRTCP()
		if err != nil {
			return
		}
		for _, packet := range packets {
			switch packet.(type) {
			case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
				l.page.withUplink(func(u Uplink) { u.HandleKeyFrameRequest(slot) })
			}
		}
	}
}

// report sends the page sender reports for what its slots show. pion's own would tie timestamps to the moment of sending, which
// differs for picture and sound by what each had to wait here.
func (l *pageLink) report() {
	tick := time.NewTicker(reportInterval)
	defer tick.Stop()
	for {
		select {
		case <-l.done:
			return
		case <-tick.C:
		}
		for _, s := range l.slots {
			for _, t := range []*slotTrack{s.audio, s.video} {
				if r := t.report(time.Now()); r != nil {
					_ = l.pc.WriteRTCP([]rtcp.Packet{r})
				}
			}
		}
	}
}

// WriteFrame implements [Local]. Without a page the frame is dropped.
func (p *Page) WriteFrame(slot int, kind Kind, source Source, timestamp uint32, data []byte) {
	if link := p.link.Load(); link != nil && slot >= 0 && slot < len(link.slots) {
		link.slots[slot].track(kind).show(time.Now(), source, timestamp, data)
	}
}

// SetClock implements [Local].
func (p *Page) SetClock(slot int, kind Kind, source Source, ntp time.Time, timestamp uint32) {
	if link := p.link.Load(); link != nil && slot >= 0 && slot < len(link.slots) {
		link.slots[slot].track(kind).setClock(source, ntp, timestamp)
	}
}
