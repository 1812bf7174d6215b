package codec

import (
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	for c, want := range map[Codec]string{Opus: "opus", VP8: "VP8", VP9: "VP9", H264: "H264", 9: "codec(9)"} {
		if got := c.String(); got != want {
			t.Errorf("codec %d is called %q, want %q", c, got, want)
		}
	}
}

// TestTable checks that the rows are complete and agree with themselves.
func TestTable(t *testing.T) {
	taken := make(map[uint8]string)
	for c := range Codec(len(table)) {
		p := c.Parameters()
		kind := "video/"
		if p.Audio {
			kind = "audio/"
		}
		if p.MIMEType != kind+p.Name || !strings.EqualFold(p.LiveKit, p.Name) || p.Audio != (p.Channels > 0) {
			t.Errorf("the names and kind of %s do not agree: %+v", c, p)
		}
		if p.ClockRate == 0 || p.ClearDelta > p.ClearKey {
			t.Errorf("%s has a clock rate of %d, and %d and %d clear bytes", c, p.ClockRate, p.ClearKey, p.ClearDelta)
		}
		for _, payloadType := range []uint8{p.PayloadType, p.RTX} {
			if payloadType == 0 {
				continue
			}
			// RFC 3551, section 6: the dynamic payload types.
			if other, ok := taken[payloadType]; ok || payloadType < 96 || payloadType > 127 {
				t.Errorf("%s has the payload type %d, which is not dynamic or that of %q", c, payloadType, other)
			}
			taken[payloadType] = p.Name
		}
	}
	if p := Codec(len(table)).Parameters(); p != (Parameters{}) {
		t.Errorf("an unknown codec has parameters: %+v", p)
	}
}
