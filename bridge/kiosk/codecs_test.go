//go:build full

package kiosk_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/pion/rtp"

	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/frames"
	"multifactorymodel.org/ewindow/callmedia/track"
	"multifactorymodel.org/ewindow/cmd/e2e/browser"
)

// captured returns the pictures of a recorded stream. The first one is a key frame.
func captured(t *testing.T, c codec.Codec, name string) (pictures [][]byte) {
	t.Helper()
	b, err := os.ReadFile("../../callmedia/frames/testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	a, now := frames.NewAssembler(c), time.Now()
	for len(b) > 0 {
		n := 2 + int(binary.BigEndian.Uint16(b))
		var p rtp.Packet
		if err := p.Unmarshal(b[2:n]); err != nil {
			t.Fatal(err)
		}
		b = b[n:]
		a.Push(now, &p)
		for f, ok := a.Pop(now); ok; f, ok = a.Pop(now) {
			pictures = append(pictures, bytes.Clone(f.Data))
		}
	}
	if len(pictures) < 10 {
		t.Fatalf("%s has %d pictures", name, len(pictures))
	}
	return pictures
}

// show shows pictures in tile 0 at 15 a second, again and again, until ctx ends. Each time they are from a new source.
func (r *pageRig) show(ctx context.Context, c codec.Codec, pictures [][]byte, source track.Source) {
	tick := time.NewTicker(time.Second / 15)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n := i % len(pictures)
		r.media.WriteFrame(0, track.Video, c, source+track.Source(i/len(pictures)), uint32(n)*6000, pictures[n])
	}
}

// codecSpy defines a function that returns the codecs in which pictures now arrive on the page.
const codecSpy = `
	const connections = [];
	RTCPeerConnection = class extends RTCPeerConnection {
		constructor(...args) { super(...args); connections.push(this); }
	};
	globalThis.decodedCodecs = async () => {
		const found = [];
		for (const c of connections) {
			const stats = await c.getStats();
			for (const s of stats.values()) if (s.type === "inbound-rtp" && s.kind === "video" && s.framesDecoded > 0) found.push(stats.get(s.codecId)?.mimeType);
		}
		return found;
	};
`

// TestTileCodecs shows pictures of all codecs in the same tile, one codec after the other. The page decodes each of them.
func TestTileCodecs(t *testing.T) {
	browser.Need(t)
	r := newPageRig(t)
	page := openPage(t, r, browser.Options{Script: codecSpy})
	page.click()
	page.until("the running camera", func(s snapshot) bool { return s.Own.Video == "live" && s.Media })
	for i, shown := range []struct {
		codec  codec.Codec
		name   string
		widths map[int]bool
	}{
		{codec.VP9, "vp9-chromium.rtp", map[int]bool{640: true, 320: true}},
		{codec.VP8, "vp8-ffmpeg.rtp", map[int]bool{320: true}},
		{codec.H264, "h264-chromium.rtp", map[int]bool{640: true}},
		{codec.VP9, "vp9-chromium.rtp", map[int]bool{640: true, 320: true}},
	} {
		before, err := page.snapshot()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		pictures := captured(t, shown.codec, shown.name)
		go func() {
			defer close(done)
			r.show(ctx, shown.codec, pictures, track.Source(1000*(i+1)))
		}()
		page.until(fmt.Sprintf("pictures in %s, which are number %d", shown.codec, i), func(s snapshot) bool {
			m := s.main()
			return m.Playing && shown.widths[m.Width] && m.Frames > before.main().Frames+40
		})
		var decoded []string
		if err := page.eval("decodedCodecs()", &decoded); err != nil || !slices.Contains(decoded, shown.codec.Parameters().MIMEType) {
			t.Errorf("the page decodes %q, %v, and not %s", decoded, err, shown.codec)
		}
		cancel()
		<-done
	}
}
