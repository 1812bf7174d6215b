// Package codec is the one table of the codecs of a call. It has everything that differs between codecs: the names, payload types
// and parameters in SDP, the name in LiveKit's signalling, the RTP clock rate, and how much of a frame stays in clear when the frame is
// encrypted.
//
// A window sends [Opus] and [VP8] alone. It receives and shows all codecs of the table; see [Pictures]. H.265 and AV1 are left out: WebRTC's
// browsers do not send H.265 everywhere, and they cannot encrypt frames of AV1.
//
// The package holds constants only. It imports neither pion nor LiveKit.
package codec

import (
	"fmt"
	"strings"
)

// Codec names one row of the table.
type Codec uint8

// The codecs of the table.
const (
	Opus Codec = iota
	VP8
	VP9
	H264
	// None is no codec of the table.
	None
)

// Parameters are one codec's row of the table.
type Parameters struct {
	// Name is the encoding name in SDP (RFC 8866, section 6.6). MIMEType is the media type with that name.
	Name, MIMEType string
	// LiveKit is the codec's name in LiveKit's add-track request.
	LiveKit string
	// Audio is true for sound, false for pictures.
	Audio bool

	// PayloadType is the RTP payload type in the SDP that we offer, and RTX that of its retransmissions (RFC 4588), zero for none. A peer
	// connection that answers uses the payload types of the offer.
	PayloadType, RTX uint8
	// ClockRate is the RTP clock rate in Hz.
	ClockRate uint32
	// Channels is the number of audio channels in SDP, zero for pictures.
	Channels uint16
	// Fmtp is the format parameters of SDP's fmtp line (RFC 8866, section 6.15).
	Fmtp string

	// ClearKey and ClearDelta are how many bytes at the start of a key frame, and of any other frame, stay in clear when LiveKit's clients
	// encrypt the frame.
	ClearKey, ClearDelta int
	// AnnexB is true when frames are byte streams of NAL units (ITU-T H.264, annex B). Then a frame is in clear up to and with the second
	// byte of its first slice, and emulation prevention applies to the rest.
	AnnexB bool
}

// table has every codec's parameters.
var table = [...]Parameters{
	Opus: { // RFC 7587
		Name: "opus", MIMEType: "audio/opus", LiveKit: "opus", Audio: true,
		PayloadType: 111, ClockRate: 48000, Channels: 2, Fmtp: "minptime=10;useinbandfec=1",
		ClearKey: 1, ClearDelta: 1, // the TOC byte (RFC 6716, section 3.1)
	},
	VP8: { // RFC 7741
		Name: "VP8", MIMEType: "video/VP8", LiveKit: "vp8",
		PayloadType: 96, RTX: 97, ClockRate: 90000,
		ClearKey: 10, ClearDelta: 3, // the frame header (RFC 6386, section 9.1)
	},
	VP9: { // RFC 9628
		Name: "VP9", MIMEType: "video/VP9", LiveKit: "vp9",
		PayloadType: 98, RTX: 99, ClockRate: 90000, Fmtp: "profile-id=0",
	},
	H264: { // RFC 6184
		Name: "H264", MIMEType: "video/H264", LiveKit: "h264", AnnexB: true,
		PayloadType: 102, RTX: 103, ClockRate: 90000,
		// The constrained baseline profile, which all browsers must have (RFC 7742, section 6.2). What comes in may be in another profile.
		Fmtp: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
	},
}

// pictures are the codecs that [Pictures] returns.
var pictures = [...]Codec{VP8, VP9, H264}

// Pictures returns the codecs in which pictures of others are received and shown. The first one is that of our own pictures.
func Pictures() []Codec { return pictures[:] }

// Find returns the codec with a media type, in any spelling, or [None].
func Find(mimeType string) Codec {
	for c := range Codec(len(table)) {
		if strings.EqualFold(table[c].MIMEType, mimeType) {
			return c
		}
	}
	return None
}

// Known says whether the table has the codec.
func (c Codec) Known() bool { return int(c) < len(table) }

// Parameters returns the codec's row of the table. They are all zero for a codec that is not known.
func (c Codec) Parameters() Parameters {
	if !c.Known() {
		return Parameters{}
	}
	return table[c]
}

// String returns the codec's encoding name in SDP.
func (c Codec) String() string {
	if !c.Known() {
		return fmt.Sprintf("codec(%d)", uint8(c))
	}
	return table[c].Name
}
