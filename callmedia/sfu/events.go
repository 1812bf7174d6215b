package sfu

import (
	"github.com/livekit/protocol/livekit"
	"github.com/pion/webrtc/v4"
)

// Event is something that happened in a [Room]: one of the struct types in this file.
type Event interface{ event() }

// ParticipantJoined says that another participant is in the room, either since before us or new.
type ParticipantJoined struct {
	// Identity is the participant's name in the room, made by the authorisation service. It is empty for those above the bounds, who are never
	// said to have left.
	Identity string
	// ParticipantSID is the SFU's own id of this one connection of the participant.
	ParticipantSID string
}

// ParticipantLeft follows the [TrackGone] events of the participant's tracks.
type ParticipantLeft struct {
	Identity       string
	ParticipantSID string
}

// TrackPublished says that a participant announced a track. It comes before any [TrackSubscribed] of that track, and also for a muted track,
// whose media may never come. It comes again when the announced codec changes. All its fields are the SFU's word, which nothing proves.
type TrackPublished struct {
	Identity       string
	ParticipantSID string
	TrackSID       string
	Source         livekit.TrackSource
	Kind           livekit.TrackType
	Encryption     livekit.Encryption_Type
	Muted          bool
	// MIMEType is the announced codec, empty while it is not known.
	MIMEType string
}

// TrackSubscribed hands over a track whose RTP arrives. The consumer has to read Remote until it ends (io.EOF). The room reads its RTCP. The same
// TrackSID can come again after a [TrackGone].
type TrackSubscribed struct {
	Identity       string
	ParticipantSID string
	TrackSID       string
	Source         livekit.TrackSource
	Kind           livekit.TrackType
	// Encryption is what the publisher announced. Only media with GCM may be played.
	Encryption livekit.Encryption_Type
	Muted      bool
	Remote     *webrtc.TrackRemote
}

// TrackGone says that no more media of the track will come: it is no longer published, its participant left, or its media ended.
type TrackGone struct {
	Identity string
	TrackSID string
}

// TrackMuted says that a participant muted or unmuted a track. The state at the start is in [TrackPublished].
type TrackMuted struct {
	Identity string
	TrackSID string
	Source   livekit.TrackSource
	Muted    bool
}

// QualityWanted says which layer of one of our own tracks its subscribers want at most. Wanted is false when nobody watches. It is a hint that
// saves effort: to go on sending does no harm.
type QualityWanted struct {
	TrackSID string
	Quality  livekit.VideoQuality
	Wanted   bool
}

// BitrateAsked says that a participant's line carries no more of our picture than BPS bit/s, whether their line is slow, and how much of our sound does
// not come, see [Room.AskBitrate]. Who asks is the SFU's word.
type BitrateAsked struct {
	Identity string
	BPS      int // 0: as much as we send
	Slow     bool
	Lost     int // per cent
}

// Disconnected is the last event of a room; the channel is closed after it.
type Disconnected struct {
	// Reason is one of the Reason constants.
	Reason string
	// Err says more; nil when the room was closed by Close.
	Err error
}

// Reasons of [Disconnected].
const (
	ReasonClosed    = "closed"    // our own Close
	ReasonLeave     = "leave"     // the SFU sent us away, Err is a *LeaveError
	ReasonSignal    = "signal"    // the signalling connection broke
	ReasonTimeout   = "timeout"   // the SFU stopped answering
	ReasonMedia     = "media"     // a media connection could not be made or was lost
	ReasonUDP       = "udp"       // the same, while signalling, which uses TCP, went on
	ReasonProtocol  = "protocol"  // the SFU sent something unacceptable
	ReasonBacklog   = "backlog"   // events were not consumed
	ReasonUnpublish = "unpublish" // the SFU removed a track of ours
)

func (ParticipantJoined) event() {}
func (ParticipantLeft) event()   {}
func (TrackPublished) event()    {}
func (TrackSubscribed) event()   {}
func (TrackGone) event()         {}
func (TrackMuted) event()        {}
func (QualityWanted) event()     {}
func (BitrateAsked) event()      {}
func (Disconnected) event()      {}
