// Package callmedia carries one call's picture and sound between the kiosk's page and the SFU, whole frame by whole frame:
// decrypted here on their way in, encrypted here on their way out.
//
//	page ─ SRTP on loopback ─► Page ─ frames ─► Session: encrypt ─ packets ─► SFU
//	page ◄──────────────────── Page ◄─ frames ─ Session: decrypt ◄─ packets ─ SFU
//
// A [Page] is the long-lived end towards the browser; its peer connection comes and goes with the page. A [Session] is the media
// of one call: it publishes the page's two tracks at one SFU, subscribes to others where foreign members publish there, and
// reconnects for ever. Both meet in [Local] and [Uplink]. [Synthetic] takes the page's place in tests and benchmarks.
//
// The package knows nothing of Matrix: it is told whom to show, with which keys, and where tokens come from. Package sfu speaks
// LiveKit's protocol, frames cuts and joins RTP, e2ee encrypts.
package callmedia

import (
	"time"

	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/frames"
)

// Kind tells sound from picture.
type Kind uint8

const (
	// Audio is sound.
	Audio Kind = iota
	// Video is a picture.
	Video
	// SmallVideo is the same picture in small, for whoever shows it small. It is only sent, and only to guests: see [Local.SetBitrate].
	SmallVideo
	kinds
)

// String returns "audio", "video" or "small video".
func (k Kind) String() string { return [...]string{"audio", "video", "small video"}[k] }

// codec is the one that is used for a kind in all of a call: VP8 (RFC 7741) and Opus (RFC 7587).
func (k Kind) codec() codec.Codec {
	if k == Audio {
		return codec.Opus
	}
	return codec.VP8
}

// Source numbers the places frames come from. RTP timestamps of one Source are one clock; a new Source begins a new one.
type Source uint64

// Local is the near end of a call: what is sent comes from it, and what is received is shown by it. [Page] and [Synthetic]
// implement it. All methods may be called from any goroutine and never block for long.
type Local interface {
	// Slots is how many remote participants can be shown at once.
	Slots() int
	// SetUplink says who gets what is sent, nil for nobody. When it returns, the one before is not called any more.
	SetUplink(Uplink)
	// RequestKeyFrame asks for a frame that needs no other, of Video or SmallVideo. Requests in quick succession become one.
	RequestKeyFrame(kind Kind)
	// SetBitrate limits the picture that is sent, in bit/s, and the small picture. A picture without bitrate is not wanted and need not
	// be made.
	SetBitrate(video, small int)
	// WriteFrame shows one decrypted frame in a slot. data is only read, and only until WriteFrame returns.
	WriteFrame(slot int, kind Kind, source Source, timestamp uint32, data []byte)
	// SetClock tells which moment of the sender's wall clock a source's RTP timestamp stands for, so that lips match.
	SetClock(slot int, kind Kind, source Source, ntp time.Time, timestamp uint32)
}

// Uplink takes what a [Local] sends. Its methods must not block; those for one kind are called from one goroutine at a time.
type Uplink interface {
	// HandleFrame takes a whole frame, whose data is valid until it returns.
	HandleFrame(kind Kind, source Source, frame frames.Frame)
	// HandleClock takes the sender's clock, as SetClock of [Local] does.
	HandleClock(kind Kind, source Source, ntp time.Time, timestamp uint32)
	// HandleKeyFrameRequest says that the picture in a slot needs a key frame.
	HandleKeyFrameRequest(slot int)
}
