// Package track has what both ends of a call do with one track of sound or picture: [Reader] turns a received track's packets into frames,
// [Timeline] gives a sent track one steady RTP clock although its source changes, and [KeyFrameRequester] limits requests for key frames.
// [Kind], [Source] and [Uplink] are the types with which the page and a call's session exchange frames.
//
// Packages page and callmedia use this package; it knows neither. A Reader is run by a goroutine of its user. A Timeline has no lock.
package track

import (
	"time"

	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/frames"
)

// MaxTiles is how many tiles for others' pictures a page has at most.
const MaxTiles = 16

// Kind tells sound from picture.
type Kind uint8

const (
	// Audio is sound.
	Audio Kind = iota
	// Video is a picture.
	Video
	// SmallVideo is the same picture in small, for participants who show it small. We only send it, never receive it.
	SmallVideo
	// Kinds is how many kinds there are.
	Kinds
)

// String returns "audio", "video" or "small video".
func (k Kind) String() string { return [...]string{"audio", "video", "small video"}[k] }

// Codec is the codec in which we send a kind. Others may send pictures in another codec.
func (k Kind) Codec() codec.Codec {
	if k == Audio {
		return codec.Opus
	}
	return codec.VP8
}

// ClockRate is the RTP clock rate of a kind's codecs in Hz.
func (k Kind) ClockRate() uint32 { return k.Codec().Parameters().ClockRate }

// Source numbers the senders of frames. All RTP timestamps of one Source are from one clock. A new Source begins a new clock.
type Source uint64

// Uplink gets the frames of our own camera and microphone. Its methods must not block; those for one kind are called from one goroutine
// at a time.
type Uplink interface {
	// HandleFrame handles a whole frame. The frame's data is valid until HandleFrame returns.
	HandleFrame(kind Kind, source Source, frame frames.Frame)
	// HandleClock says that the source's RTP clock was at timestamp when its wall clock was at ntp.
	HandleClock(kind Kind, source Source, ntp time.Time, timestamp uint32)
	// HandleKeyFrameRequest says that the picture in a tile needs a key frame.
	HandleKeyFrameRequest(tile int)
}
