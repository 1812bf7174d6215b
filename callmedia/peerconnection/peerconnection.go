// Package peerconnection holds what the two kinds of WebRTC peer connection have in common, the page's and the SFU's: how pion is told the
// codecs, where it logs, and how NTP time is read and written.
//
// It has no state and starts no goroutine.
package peerconnection

import (
	"fmt"
	"strings"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"multifactorymodel.org/ewindow/callmedia/codec"
)

// RegisterCodec makes a peer connection offer and accept a codec with its payload type, and with rtx also its retransmissions on a stream of
// their own (RFC 4588). feedback is the RTCP feedback that the connection can act on (RFC 4585); pion's interceptors add theirs.
func RegisterCodec(media *webrtc.MediaEngine, c codec.Codec, rtx bool, feedback ...webrtc.RTCPFeedback) error {
	p := c.Parameters()
	kind := webrtc.RTPCodecTypeVideo
	if p.Audio {
		kind = webrtc.RTPCodecTypeAudio
	}
	capability := Capability(c)
	capability.RTCPFeedback = feedback
	err := media.RegisterCodec(webrtc.RTPCodecParameters{RTPCodecCapability: capability, PayloadType: webrtc.PayloadType(p.PayloadType)}, kind)
	if err != nil || !rtx || p.RTX == 0 {
		return err
	}
	return media.RegisterCodec(webrtc.RTPCodecParameters{
		RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeRTX, ClockRate: p.ClockRate, SDPFmtpLine: fmt.Sprintf("apt=%d", p.PayloadType),
		},
		PayloadType: webrtc.PayloadType(p.RTX),
	}, kind)
}

// Choose returns those of a connection's codecs that are among the chosen ones, in the order of these, and with rtx also their retransmissions.
func Choose(all []webrtc.RTPCodecParameters, rtx bool, chosen ...codec.Codec) (list []webrtc.RTPCodecParameters) {
	for _, c := range chosen {
		p := c.Parameters()
		for _, have := range all {
			repairs := strings.EqualFold(have.MimeType, webrtc.MimeTypeRTX) && have.PayloadType == webrtc.PayloadType(p.RTX)
			if strings.EqualFold(have.MimeType, p.MIMEType) || rtx && repairs {
				list = append(list, have)
			}
		}
	}
	return list
}

// Capability is a codec in pion's words, without RTCP feedback.
func Capability(c codec.Codec) webrtc.RTPCodecCapability {
	p := c.Parameters()
	return webrtc.RTPCodecCapability{MimeType: p.MIMEType, ClockRate: p.ClockRate, Channels: p.Channels, SDPFmtpLine: p.Fmtp}
}

// NTP returns t as the 64-bit NTP timestamp of an RTCP sender report (RFC 3550, section 4).
func NTP(t time.Time) uint64 { return rtp.NewAbsCaptureTimeExtension(t).Timestamp }

// FromNTP is the inverse of [NTP], for timestamps until the year 2036.
func FromNTP(timestamp uint64) time.Time {
	return rtp.AbsCaptureTimeExtension{Timestamp: timestamp}.CaptureTime()
}
