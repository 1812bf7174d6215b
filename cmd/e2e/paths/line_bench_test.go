//go:build full

package paths_test

import (
	"fmt"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/paths"
)

// BenchmarkLine measures a visit over poor lines of one window.
func BenchmarkLine(b *testing.B) {
	v := startNetwork(b)
	pages := v.startBrowsers(b)
	near := v.Sides[0]
	for _, row := range []struct {
		name     string
		up, down int
		queue    time.Duration
	}{
		{"1 Mbit/s down", 0, 1_000_000, 200 * time.Millisecond},
		{"300 kbit/s up", 300_000, 0, 200 * time.Millisecond},
		{"both", 300_000, 1_000_000, 200 * time.Millisecond},
	} {
		b.Run(row.name, func(b *testing.B) {
			b.Cleanup(func() { near.Link.SetRate(0, 0, 0) })
			for b.Loop() {
				near.Link.SetRate(row.up, row.down, row.queue)
				begun := time.Now()
				openBoth(b, pages)
				b.Logf("open after %.1f s", time.Since(begun).Seconds())
				measure(b, near, pages, 5, 4*time.Second)
				near.Link.SetRate(0, 0, 0)
				b.Log("the line is good again")
				measure(b, near, pages, 4, 4*time.Second)
				for _, p := range pages {
					p.button()
					p.await(openLimit, "the shut window", "document.querySelector('#window').dataset.screen === 'shut'")
				}
			}
		})
	}
}

// measure prints what comes, period by period.
func measure(b *testing.B, near *paths.Side, pages [2]*browserPage, periods int, period time.Duration) {
	b.Helper()
	link, seconds := near.Link, period.Seconds()
	for range periods {
		var before, after [2]received
		for i, p := range pages {
			before[i] = p.received()
		}
		up, down := link.Bytes()
		traffic := near.Traffic(b)
		lostUp, _ := link.Up()
		lost := link.Lost()
		<-time.After(period)
		for i, p := range pages {
			after[i] = p.received()
		}
		up2, down2 := link.Bytes()
		lostUp2, _ := link.Up()
		text := fmt.Sprintf("%s: line up %4.0f kbit/s (%d lost), down %4.0f kbit/s (%d lost)", near.Traffic(b).Since(traffic), float64(up2-up)*8/seconds/1000, lostUp2-lostUp,
			float64(down2-down)*8/seconds/1000, link.Lost()-lost-(lostUp2-lostUp))
		for i, p := range pages {
			a, z := before[i], after[i]
			text += fmt.Sprintf("; %s sees %.1f at %.0f lines, %.1f %% concealed, sends %.1f at %.0f lines, target %.0f, %.0f keys, %s", p.name,
				(z.Pictures-a.Pictures)/seconds, z.Height, 100*(z.Concealed-a.Concealed)/max(1, z.Samples-a.Samples),
				(z.Encoded-a.Encoded)/seconds, z.SentHeight, z.Target/1000, z.Keys-a.Keys, p.screen())
		}
		b.Log(text)
	}
}
