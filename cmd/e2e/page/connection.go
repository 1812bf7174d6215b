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

func (p *page) hangUp() {
	if c := p.connection.Swap(nil); c != nil {
		_ = c.pc.GracefulClose()
		c.tasks.Wait()
	}
}

// answer makes a new peer connection from an offer. Its candidates are all gathered when it returns, none of them is loopback: a browser
// offers that neither.
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
	// pion has a goroutine for each call, and closing gracefully waits for it.
	c.pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { p.watch(c.pc, track) })
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
		sender, err := c.pc.AddTrack(out) // takes the first section of its kind that is free
		if err != nil {
			return nil, err
		}
		c.own[kind] = ownTrack{out, frames.NewPacketizer(coding, 0, 0, 0, frames.RandomSeed())}
		c.tasks.Go(func() { p.listen(track.Kind(kind), sender) })
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

// listen takes the kiosk's requests for key frames.
func (p *page) listen(kind track.Kind, sender *webrtc.RTPSender) {
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
func (p *page) watch(pc *webrtc.PeerConnection, remote *webrtc.TrackRemote) {
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
		// The zero time waits for ever.
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
			p.media.WriteFrame(tile, kind, 0, f.Timestamp, f.Data)
			if kind == track.Video {
				p.seen(now)
			}
		}
		if kind == track.Video && assembler.NeedKey() {
			_ = pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: uint32(remote.SSRC())}})
		}
	}
}
