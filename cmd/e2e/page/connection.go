package page

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"

	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/frames"
	"multifactorymodel.org/ewindow/callmedia/track"
)

// connection is one peer connection to the kiosk.
type connection struct {
	pc    *webrtc.PeerConnection
	own   [ownTracks]ownTrack
	tasks sync.WaitGroup
}

type ownTrack struct {
	out     *webrtc.TrackLocalStaticRTP
	packets *frames.Packetizer
}

func (p *page) closeConnection() {
	if c := p.connection.Swap(nil); c != nil {
		_ = c.pc.GracefulClose()
		c.tasks.Wait()
	}
}

// answer makes a new peer connection from an offer. When it returns, all ICE candidates are gathered. None of them is a loopback address, as in a
// browser.
func (p *page) answer(ctx context.Context, sdp string) (c *connection, err error) {
	var media webrtc.MediaEngine
	if err := media.RegisterDefaultCodecs(); err != nil {
		return nil, err
	}
	var chain interceptor.Registry
	if err := webrtc.RegisterDefaultInterceptors(&media, &chain); err != nil {
		return nil, err
	}
	api := webrtc.NewAPI(webrtc.WithMediaEngine(&media), webrtc.WithInterceptorRegistry(&chain))
	c = &connection{}
	if c.pc, err = api.NewPeerConnection(webrtc.Configuration{}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = c.pc.GracefulClose()
			c.tasks.Wait()
		}
	}()
	// pion calls OnTrack in a new goroutine for each track. GracefulClose waits for them.
	c.pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { p.readTrack(c.pc, track) })
	if err := c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: sdp}); err != nil {
		return nil, err
	}
	for kind := range c.own {
		capability, coding := webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000}, codec.VP8
		if track.Kind(kind) == track.Audio {
			capability, coding = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}, codec.Opus
		}
		out, err := webrtc.NewTrackLocalStaticRTP(capability, fmt.Sprint(kind), "own")
		if err != nil {
			return nil, err
		}
		sender, err := c.pc.AddTrack(out) // uses the first free media section of its kind
		if err != nil {
			return nil, err
		}
		c.own[kind] = ownTrack{out, frames.NewPacketizer(coding, 0, 0, 0, frames.RandomSeed())}
		c.tasks.Go(func() { p.readRTCP(track.Kind(kind), sender) })
	}
	answer, err := c.pc.CreateAnswer(nil)
	if err != nil {
		return nil, err
	}
	gathered := webrtc.GatheringCompletePromise(c.pc)
	if err := c.pc.SetLocalDescription(answer); err != nil {
		return nil, err
	}
	select {
	case <-gathered:
		return c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// readRTCP handles the kiosk's requests for key frames (PLI and FIR).
func (p *page) readRTCP(kind track.Kind, sender *webrtc.RTPSender) {
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

// readTrack reads one received track, rebuilds its frames and shows them in the track's tile.
func (p *page) readTrack(pc *webrtc.PeerConnection, remote *webrtc.TrackRemote) {
	var tile int
	if _, err := fmt.Sscanf(remote.StreamID(), "tile-%d", &tile); err != nil {
		return
	}
	kind, coding := track.Audio, codec.Opus
	if remote.Kind() == webrtc.RTPCodecTypeVideo {
		kind, coding = track.Video, codec.VP8
	}
	assembler := frames.NewAssembler(coding)
	for {
		// A zero deadline means no time limit.
		deadline, _ := assembler.Next(time.Now())
		if remote.SetReadDeadline(deadline) != nil {
			return
		}
		packet, _, err := remote.ReadRTP()
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
			p.media.WriteFrame(tile, kind, coding, 0, f.Timestamp, f.Data)
			if kind == track.Video {
				p.countPicture(now)
			}
		}
		if kind == track.Video && assembler.NeedKey() {
			_ = pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: uint32(remote.SSRC())}})
		}
	}
}
