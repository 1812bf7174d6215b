package sfu

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/livekit/protocol/livekit"
	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"

	"multifactorymodel.org/ewindow/callmedia/peerconnection"
)

// keyFrameInterval is the least time between two requests for a key frame of one track. It is for callers that ask with each packet. A caller
// that asks every 300 ms or less often is never refused.
const keyFrameInterval = 250 * time.Millisecond

// maxRemote bounds the tracks that are received at the same time.
const maxRemote = 256

// remoteTrack is a track that arrives on the subscriber connection.
type remoteTrack struct {
	sid         string
	participant string
	remote      *webrtc.TrackRemote
	receiver    *webrtc.RTPReceiver
	emitted     bool // TrackSubscribed was emitted; owned by the room's goroutine

	asked atomic.Int64 // when a key frame was last asked for, in ns since the room's start, plus one
	clock atomic.Pointer[remoteClock]
}

type remoteClock struct {
	ntp time.Time
	rtp uint32
}

// streamParticipant is the participant's part of a stream id of the form "PA_x|stream".
func streamParticipant(stream string) string {
	participant, _, _ := strings.Cut(stream, "|")
	return participant
}

// mayAsk says whether a key frame may be asked for now, and takes note of that. now is the time since the room's start.
func (t *remoteTrack) mayAsk(now time.Duration) bool {
	last := t.asked.Load()
	if last != 0 && now-time.Duration(last-1) < keyFrameInterval {
		return false
	}
	return t.asked.CompareAndSwap(last, int64(now)+1)
}

// readRTCP reads the sender reports until the track ends.
func (t *remoteTrack) readRTCP(r *Room) {
	buf := make([]byte, rtcpSize)
	failed := 0
	for {
		n, _, err := t.receiver.Read(buf)
		if err != nil {
			if failed++; r.readingEnds(err, failed) {
				return
			}
			continue
		}
		failed = 0
		packets, err := rtcp.Unmarshal(buf[:n])
		if err != nil {
			r.counters.badRTCP.Add(1)
			continue
		}
		for _, p := range packets {
			if sr, ok := p.(*rtcp.SenderReport); ok && sr.SSRC == uint32(t.remote.SSRC()) {
				t.clock.Store(&remoteClock{ntp: peerconnection.FromNTP(sr.NTPTime), rtp: sr.RTPTime})
			}
		}
	}
}

// onTrack is pion's callback for a track whose first packet came. It returns when the track has ended.
func (r *Room) onTrack(remote *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
	t := &remoteTrack{sid: remote.ID(), participant: streamParticipant(remote.StreamID()), remote: remote, receiver: receiver}
	if !r.post(func() { r.addRemote(t) }) {
		return
	}
	t.readRTCP(r)
	r.post(func() { r.removeRemote(t) })
}

func (r *Room) addRemote(t *remoteTrack) {
	if old := r.remotes[t.sid]; old != nil {
		r.removeRemote(old)
	}
	if t.sid == "" || len(r.remotes) >= maxRemote {
		r.counters.refused.Add(1)
		return
	}
	r.mu.Lock()
	r.remotes[t.sid] = t
	r.mu.Unlock()
	r.announce()
}

func (r *Room) removeRemote(t *remoteTrack) {
	if r.remotes[t.sid] != t {
		return
	}
	r.mu.Lock()
	delete(r.remotes, t.sid)
	r.mu.Unlock()
	if t.emitted {
		// When the track was unpublished, participants has emitted that already.
		if m, info := r.others.find(t.participant, t.sid); info != nil {
			r.emit(TrackGone{Identity: m.identity, TrackSID: t.sid})
		}
	}
}

// announce emits TrackSubscribed for each track whose media and whose announcement have both come. Either can be first.
func (r *Room) announce() {
	for _, t := range r.remotes {
		// The event comes once for each track. An SFU that takes a track off its list and puts it back must not start a second reader.
		m, info := r.others.find(t.participant, t.sid)
		if info == nil || t.emitted {
			continue
		}
		t.emitted = true
		r.emit(TrackSubscribed{Identity: m.identity, ParticipantSID: m.sid, TrackSID: t.sid, Source: info.GetSource(),
			Kind: info.GetType(), Encryption: info.GetEncryption(), Muted: info.GetMuted(), Remote: t.remote})
	}
}

func (r *Room) remote(trackSID string) *remoteTrack {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.remotes[trackSID]
}

// RequestKeyFrame asks the sender of a track for a key frame (PLI, RFC 4585). It returns false when it did not ask: the track is unknown, was
// asked less than a quarter of a second ago, or the request could not be sent.
func (r *Room) RequestKeyFrame(trackSID string) bool {
	t := r.remote(trackSID)
	if t == nil || !t.mayAsk(time.Since(r.started)) {
		return false
	}
	pli := &rtcp.PictureLossIndication{MediaSSRC: uint32(t.remote.SSRC())}
	if err := r.subscriber.WriteRTCP([]rtcp.Packet{pli}); err != nil {
		r.log.Debug().Err(err).Str("track_id", trackSID).Msg("Key frame request could not be sent")
		return false
	}
	r.counters.keyFramesAsked.Add(1)
	return true
}

// SenderClock returns the last sender report of a remote track (RFC 3550, section 6.4.1): one instant on its sender's wall clock and on its RTP
// clock. ok is false before the first report.
func (r *Room) SenderClock(trackSID string) (ntp time.Time, rtp uint32, ok bool) {
	t := r.remote(trackSID)
	if t == nil {
		return time.Time{}, 0, false
	}
	c := t.clock.Load()
	if c == nil {
		return time.Time{}, 0, false
	}
	return c.ntp, c.rtp, true
}

// Downlink returns how many bit/s our line carries in all, and of a remote track besides all others. Both are 0 while it has carried everything.
func (r *Room) Downlink(trackSID string) (all, left int) {
	ssrc := uint32(0)
	if t := r.remote(trackSID); t != nil {
		ssrc = uint32(t.remote.SSRC())
	}
	return r.down.Estimate(ssrc)
}

// SetTrackSize tells the SFU at what size, in pixels, a remote track is shown. The SFU sends the simulcast layer that fits. It sends nothing of a
// track without size, even of sound.
func (r *Room) SetTrackSize(trackSID string, width, height int) {
	settings := &livekit.UpdateTrackSettings{TrackSids: []string{trackSID}, Disabled: true}
	if width > 0 && height > 0 {
		settings.Disabled, settings.Width, settings.Height = false, uint32(width), uint32(height)
	}
	r.send(&livekit.SignalRequest{Message: &livekit.SignalRequest_TrackSetting{TrackSetting: settings}})
}
