package peerconnection

import (
	"slices"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"multifactorymodel.org/ewindow/callmedia/codec"
)

func TestNTP(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 123456789, time.UTC)
	if back := FromNTP(NTP(at)); back.Sub(at).Abs() > time.Nanosecond {
		t.Errorf("%v becomes %v", at, back)
	}
	// RFC 868: the first of January 1970 in seconds since 1900.
	if got := NTP(time.Unix(0, 0)); got != 2208988800<<32 {
		t.Errorf("1970 is %d", got)
	}
}

// TestRegisterCodec checks the payload types that a connection offers.
func TestRegisterCodec(t *testing.T) {
	for _, rtx := range []bool{false, true} {
		var media webrtc.MediaEngine
		nack := webrtc.RTCPFeedback{Type: webrtc.TypeRTCPFBNACK}
		for _, c := range []codec.Codec{codec.Opus, codec.VP8} {
			if err := RegisterCodec(&media, c, rtx, nack); err != nil {
				t.Fatal(err)
			}
		}
		pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(&media)).NewPeerConnection(webrtc.Configuration{})
		if err != nil {
			t.Fatal(err)
		}
		defer pc.Close()
		for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo} {
			transceiver, err := pc.AddTransceiverFromKind(kind)
			if err != nil {
				t.Fatal(err)
			}
			var types []int
			for _, c := range transceiver.Sender().GetParameters().Codecs {
				types = append(types, int(c.PayloadType))
			}
			want := map[webrtc.RTPCodecType][]int{webrtc.RTPCodecTypeAudio: {111}, webrtc.RTPCodecTypeVideo: {96}}[kind]
			if rtx && kind == webrtc.RTPCodecTypeVideo {
				want = append(want, 97)
			}
			if !slices.Equal(types, want) {
				t.Errorf("%s is offered with payload types %v, want %v", kind, types, want)
			}
		}
	}
}
