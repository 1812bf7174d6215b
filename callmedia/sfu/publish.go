package sfu

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/livekit/protocol/livekit"
	"github.com/pion/webrtc/v4"

	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/peerconnection"
)

// maxLocal bounds our own published tracks.
const maxLocal = 8

// PublishAudio publishes an Opus track as our microphone, announced as encrypted with GCM. It returns when packets can be
// written. After an error the room is best closed.
func (r *Room) PublishAudio(ctx context.Context) (*LocalTrack, error) {
	t := newLocalTrack(r, "audio-"+rand.Text(), webrtc.RTPCodecTypeAudio, codec.Opus, "")
	return r.publish(ctx, t, &livekit.AddTrackRequest{
		Name: "microphone", Type: livekit.TrackType_AUDIO, Source: livekit.TrackSource_MICROPHONE,
	})
}

// Size is the size of a picture in pixels.
type Size struct{ Width, Height int }

// The rids of simulcast layers (RFC 8852) and their qualities in LiveKit's signalling, the smallest first. LiveKit's own clients use the same
// ones.
var (
	layerRIDs      = []string{"q", "h", "f"}
	layerQualities = []livekit.VideoQuality{livekit.VideoQuality_LOW, livekit.VideoQuality_MEDIUM, livekit.VideoQuality_HIGH}
)

// PublishVideo publishes a VP8 track as our camera, announced as encrypted with GCM. It has a simulcast layer for each size, one to three, the
// smallest first. A layer need not be sent. It returns when packets can be written. After an error the room is best closed.
func (r *Room) PublishVideo(ctx context.Context, sizes ...Size) (*LocalTrack, error) {
	if len(sizes) < 1 || len(sizes) > len(layerRIDs) {
		return nil, fmt.Errorf("publish video: %d layers, want one to three", len(sizes))
	}
	rids, qualities := layerRIDs[:len(sizes)], layerQualities
	if len(sizes) == 1 {
		rids, qualities = []string{""}, []livekit.VideoQuality{livekit.VideoQuality_HIGH}
	}
	t := newLocalTrack(r, "video-"+rand.Text(), webrtc.RTPCodecTypeVideo, codec.VP8, rids...)
	var layers []*livekit.VideoLayer
	for i, size := range sizes {
		if size.Width <= 0 || size.Height <= 0 || size.Width > 1<<14 || size.Height > 1<<14 {
			return nil, fmt.Errorf("publish video: the size %d×%d makes no sense", size.Width, size.Height)
		}
		layers = append(layers, &livekit.VideoLayer{
			Quality: qualities[i], Width: uint32(size.Width), Height: uint32(size.Height), SpatialLayer: int32(i), Rid: rids[i],
		})
	}
	largest := layers[len(layers)-1]
	return r.publish(ctx, t, &livekit.AddTrackRequest{
		Name: "camera", Type: livekit.TrackType_VIDEO, Source: livekit.TrackSource_CAMERA,
		Width: largest.GetWidth(), Height: largest.GetHeight(), Layers: layers,
		SimulcastCodecs: []*livekit.SimulcastCodec{{Codec: codec.VP8.Parameters().LiveKit, Cid: t.cid, Layers: layers}},
	})
}

func (r *Room) publish(ctx context.Context, t *LocalTrack, add *livekit.AddTrackRequest) (*LocalTrack, error) {
	if r.publisher == nil {
		return nil, errors.New("publish a track: the room was joined without Options.Publish")
	}
	add.Cid, add.Stream = t.cid, localStream
	// Without Encryption browsers would play ciphertext. Without DisableRed an SFU may offer redundant audio (RED), whose blocks can't be
	// taken apart once they are encrypted.
	add.Encryption, add.DisableRed = livekit.Encryption_GCM, true
	if !r.post(func() { r.addLocal(t, add) }) {
		return nil, ErrClosed
	}
	if err := t.wait(ctx); err != nil {
		return nil, fmt.Errorf("publish the track %q: %w", add.Name, err)
	}
	return t, nil
}

// addLocal announces a track and offers it. The offer follows the announcement at once: the SFU takes both in order, and waiting for its answer
// in between would cost a round trip.
func (r *Room) addLocal(t *LocalTrack, add *livekit.AddTrackRequest) {
	if len(r.locals) >= maxLocal {
		t.finish(fmt.Errorf("there are %d tracks already", maxLocal))
		return
	}
	transceiver, err := r.publisher.AddTransceiverFromTrack(trackLocal{t.Layers[0]},
		webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
	if err == nil {
		t.transceiver = transceiver
		for _, layer := range t.Layers[1:] {
			err = errors.Join(err, transceiver.Sender().AddEncoding(trackLocal{layer}))
		}
	}
	if err != nil {
		t.finish(err)
		return
	}
	r.mu.Lock()
	r.locals = append(r.locals, t)
	r.mu.Unlock()
	for i := range t.Layers {
		r.spawn(func() { t.readRTCP(transceiver.Sender(), i) })
	}
	r.send(&livekit.SignalRequest{Message: &livekit.SignalRequest_AddTrack{AddTrack: add}})
	if err := r.negotiate(); err != nil {
		t.finish(err)
		r.fail(ReasonMedia, err)
	}
}

func (r *Room) trackPublished(m *livekit.TrackPublishedResponse) {
	for _, t := range r.locals {
		if t.cid == m.GetCid() {
			sid := m.GetTrack().GetSid()
			t.sid.Store(&sid)
			t.published = sid != ""
			r.checkReady()
			return
		}
	}
	r.counters.stray.Add(1)
}

// requestAnswered takes note when the SFU did not accept a track. No other request of ours is waited for.
func (r *Room) requestAnswered(m *livekit.RequestResponse) {
	if m.GetReason() == livekit.RequestResponse_OK || m.GetReason() == livekit.RequestResponse_QUEUED {
		return
	}
	for _, t := range r.locals {
		if cid := m.GetAddTrack().GetCid(); cid != "" && t.cid == cid {
			t.finish(&PublishError{Reason: m.GetReason(), Message: peerconnection.Printable(m.GetMessage())})
			return
		}
	}
	r.log.Debug().Stringer("reason", m.GetReason()).Msg("The SFU did not accept a request")
}

func (r *Room) localBySID(sid string) *LocalTrack {
	for _, t := range r.locals {
		if sid != "" && t.SID() == sid {
			return t
		}
	}
	return nil
}

// tracks returns our own tracks. It is for goroutines other than the room's.
func (r *Room) tracks() []*LocalTrack {
	r.mu.Lock()
	defer r.mu.Unlock()
	// The slice is only appended to, so it may be returned as it is.
	return r.locals
}

// checkReady ends the waiting of publish for each track that is ready: the SFU has given it a SID and answered the offer with it, all its layers
// are bound, and the peer connection is up.
func (r *Room) checkReady() {
	for _, t := range r.locals {
		if t.published && t.answered && t.bound >= len(t.Layers) && r.publisherUp {
			t.finish(nil)
		}
	}
}
