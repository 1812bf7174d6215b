package page

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/track"
)

// output is pion's end of a tile's sound or picture. pion's own tracks have one codec for good. The picture in a tile has the codec of whoever
// is shown, and each packet names it by its payload type. Browsers accept that within a stream, for all codecs that were negotiated.
type output struct {
	id, stream string
	kind       webrtc.RTPCodecType
	codecs     []codec.Codec // that are offered
	bound      atomic.Pointer[binding]
}

// binding is what pion has negotiated.
type binding struct {
	ssrc   uint32
	types  [codec.None]uint8 // payload types by codec, zero for those that the page can't decode
	writer webrtc.TrackLocalWriter
}

func newOutput(tile int, kind track.Kind) *output {
	o := &output{
		id: fmt.Sprintf("%s-%d", kind, tile), stream: fmt.Sprintf("tile-%d", tile), kind: webrtc.RTPCodecTypeAudio, codecs: []codec.Codec{kind.Codec()},
	}
	if kind == track.Video {
		o.kind, o.codecs = webrtc.RTPCodecTypeVideo, codec.Pictures()
	}
	return o
}

// Bind implements [webrtc.TrackLocal]. pion wants to know one codec. It gets the last one that was negotiated, which has no stream for
// retransmissions: lost packets are sent again on their own stream, whatever their codec.
func (o *output) Bind(context webrtc.TrackLocalContext) (bound webrtc.RTPCodecParameters, err error) {
	b := &binding{ssrc: uint32(context.SSRC()), writer: context.WriteStream()}
	err = webrtc.ErrUnsupportedCodec
	for _, c := range o.codecs {
		for _, negotiated := range context.CodecParameters() {
			if strings.EqualFold(negotiated.MimeType, c.Parameters().MIMEType) {
				b.types[c], bound, err = uint8(negotiated.PayloadType), negotiated, nil
				break
			}
		}
	}
	if err == nil {
		o.bound.Store(b)
	}
	return bound, err
}

// Unbind implements [webrtc.TrackLocal].
func (o *output) Unbind(webrtc.TrackLocalContext) error {
	o.bound.Store(nil)
	return nil
}

// ID implements [webrtc.TrackLocal].
func (o *output) ID() string { return o.id }

// RID implements [webrtc.TrackLocal].
func (o *output) RID() string { return "" }

// StreamID implements [webrtc.TrackLocal].
func (o *output) StreamID() string { return o.stream }

// Kind implements [webrtc.TrackLocal].
func (o *output) Kind() webrtc.RTPCodecType { return o.kind }

// payloadType is zero for a codec that was not negotiated.
func (o *output) payloadType(c codec.Codec) uint8 {
	if b := o.bound.Load(); b != nil && c < codec.None {
		return b.types[c]
	}
	return 0
}

// write sends a packet with one of the payload types. It is dropped while nothing is negotiated.
func (o *output) write(p *rtp.Packet) error {
	b := o.bound.Load()
	if b == nil || p.PayloadType == 0 {
		return nil
	}
	p.SSRC = b.ssrc
	_, err := b.writer.WriteRTP(&p.Header, p.Payload)
	return err
}
