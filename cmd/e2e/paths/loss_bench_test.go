//go:build full

package paths_test

import (
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// BenchmarkLoss measures how much of the sound is concealed in a visit of two windows, on lines of one side that lose packets.
func BenchmarkLoss(b *testing.B) {
	rig.Exclusive(b)
	v := startNetwork(b, world{})
	pages := v.startBrowsers(b, 640, 360)
	near := v.Sides[0]
	for b.Loop() {
		for _, row := range []struct {
			loss  float64
			delay time.Duration
		}{{0.1, 10 * time.Millisecond}, {0.05, 80 * time.Millisecond}, {0.1, 80 * time.Millisecond}} {
			near.Link.Set(0, row.delay)
			openBoth(b, pages)
			near.Link.Set(row.loss, row.delay)
			b.Logf("%.0f %% lost, %v there and back:", 100*row.loss, 2*row.delay)
			for range 2 {
				period(b, near, [2]end{pages[0], pages[1]}, 10*time.Second)
			}
			for _, p := range pages {
				p.button()
				p.await(openLimit, "the shut window", "document.querySelector('#window').dataset.screen === 'shut'")
			}
		}
	}
	b.ReportMetric(0, "ns/op")
}
