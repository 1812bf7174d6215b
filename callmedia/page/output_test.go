package page_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/page"
	"multifactorymodel.org/ewindow/callmedia/track"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// TestTileCodec shows pictures in several codecs in the same tile. Their payload types tell the page which one a packet is in.
func TestTileCodec(t *testing.T) {
	events := make(chan page.Event, 16)
	p := newPage(t, events)
	b := connect(t, p, events)
	vp9 := append([]byte{0x82}, bytes.Repeat([]byte{9}, 3000)...)
	h264 := append([]byte{0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x65, 0x80}, bytes.Repeat([]byte{9}, 3000)...)
	for i, shown := range []struct {
		codec codec.Codec
		frame []byte
	}{{codec.VP8, keyFrame(3000, 1)}, {codec.VP9, vp9}, {codec.H264, h264}, {codec.VP8, keyFrame(2000, 2)}} {
		at := uint32(0)
		rig.Eventually(t, 10*time.Second, func() error {
			at += 3000
			p.WriteFrame(1, track.Video, shown.codec, track.Source(i+1), at, shown.frame)
			b.mu.Lock()
			defer b.mu.Unlock()
			all := b.shown["tile-1/video"]
			if len(all) == 0 || !bytes.Equal(all[len(all)-1], shown.frame) {
				return fmt.Errorf("%d pictures, and the last one is not the %s", len(all), shown.codec)
			}
			return nil
		})
	}
	p.WriteFrame(1, track.Video, codec.None, 9, 0, vp9) // dropped
	for c, want := range map[codec.Codec]bool{codec.Opus: true, codec.VP8: true, codec.VP9: true, codec.H264: true, codec.None: false} {
		if got := p.Shows(c); got != want {
			t.Errorf("the page shows %s: %t", c, got)
		}
	}
}

// TestOfferedCodecs looks at an offer: the page sends VP8 alone, and its tiles show all codecs, without streams for retransmissions.
func TestOfferedCodecs(t *testing.T) {
	p := newPage(t, make(chan page.Event, 16))
	offer, err := p.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, section := range strings.Split(offer, "m=video")[1:] {
		section, _, _ = strings.Cut(section, "m=audio")
		var names []string
		for _, line := range strings.Split(section, "\r\n") {
			if _, name, ok := strings.Cut(line, "a=rtpmap:"); ok {
				_, name, _ = strings.Cut(name, " ")
				names = append(names, strings.TrimSuffix(name, "/90000"))
			}
		}
		want := "VP8 rtx"
		if i >= 2 {
			want = ""
			for _, c := range codec.Pictures() {
				want += " " + c.String()
			}
		}
		if got := strings.Join(names, " "); got != strings.TrimSpace(want) {
			t.Errorf("section %d offers %s, want %s", i, got, want)
		}
		for _, feedback := range []string{"nack pli", "transport-cc"} {
			if strings.Count(section, feedback) != len(names) {
				t.Errorf("section %d offers no %s:\n%s", i, feedback, section)
			}
		}
	}
}
