package page_test

import (
	"testing"
	"time"

	"github.com/pion/rtp"

	"multifactorymodel.org/ewindow/callmedia/page"
)

// TestNoPicture lets a page send sound and no picture, as one does whose encoder has not started. The connection is given up, so that the page gets a
// new one: but not before a picture is wanted, and not while one comes.
func TestNoPicture(t *testing.T) {
	for name, c := range map[string]struct{ bitrate, picture, lost bool }{
		"a picture is wanted and none comes": {bitrate: true, lost: true},
		"no picture is wanted":               {},
		"a picture comes":                    {bitrate: true, picture: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			events := make(chan page.Event, 64)
			p := newPage(t, events)
			p.SetUplink(newUplink())
			b := connect(t, p, events)
			if c.bitrate {
				p.SetBitrate(1_000_000, 0)
			}
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			enough := time.After(8 * time.Second)
			if c.lost {
				enough = time.After(time.Minute)
			}
			for n := uint32(0); ; n++ {
				_ = b.audio.Packetize([]byte{1, 2, 3}, n*960, func(packet *rtp.Packet) error { return b.mic.WriteRTP(packet) })
				if c.picture {
					_ = b.sendVideo(keyFrame(20, 1), n*1800)
				}
				select {
				case <-tick.C:
				case e := <-events:
					if e.Kind == page.Disconnected && c.lost {
						return
					}
					if e.Kind == page.Disconnected {
						t.Fatal("the connection is given up")
					}
				case <-enough:
					if c.lost {
						t.Fatal("the connection is not given up")
					}
					return
				}
			}
		})
	}
}
