//go:build full

package paths_test

import (
	"fmt"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/paths"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// What a visit on a poor line has to do, once it knows the line. The machine may be busy, so pictures are compared with those that were sent, and
// nothing is compared with a time.
const (
	settle  = 4 * time.Second // after the line was full for the first time
	watched = 6 * time.Second
	used    = 0.8 // of a narrow line, so that it counts as full

	leastPictures = 0.7  // of those that the other side sent
	leastSound    = 0.95 // of the packets of sound that the other side sent
	mostLost      = 0.05 // of the packets that the line was sent
	smallest      = 180  // lines of the picture, on the narrowest line
)

// TestLine visits over poor lines. The pages are browsers, whose cameras make as much as they may. After each row the line is good again, and the
// picture has to become large again.
func TestLine(t *testing.T) {
	rig.Exclusive(t)
	v := startNetwork(t, world{})
	pages := v.startBrowsers(t, 640, 360) // less work for the machine than a full picture, and as many bits
	near := v.Sides[0]
	seconds := func(n int) { <-time.After(time.Duration(n) * time.Second) }
	const queue = 200 * time.Millisecond
	for _, row := range []struct {
		name     string
		before   func() // the window is opened
		during   func() // the visit is watched
		up, down int    // what a line carries that is too narrow for the largest picture, in bit/s
		notAll   bool   // for a part of the time nothing can get through
	}{
		{name: "1 Mbit/s down", down: 1_000_000},
		{name: "300 kbit/s up", up: 300_000},
		{name: "both", up: 300_000, down: 1_000_000},
		{name: "10 Mbit/s to 500 kbit/s and back", notAll: true, before: func() { near.Link.SetRate(10_000_000, 10_000_000, queue) }, during: func() {
			near.Link.SetRate(500_000, 500_000, queue)
			seconds(8)
			near.Link.SetRate(10_000_000, 10_000_000, queue)
		}},
		{name: "jitter of 100 ms", before: func() { near.Link.SetJitter(100 * time.Millisecond) }},
		{name: "2 s without any packet", notAll: true, during: func() {
			near.SetFirewall(t, "drop")
			seconds(2)
			near.SetFirewall(t, "")
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			defer func() {
				near.Link.SetRate(0, 0, 0)
				near.Link.Set(0, 0)
			}()
			for _, p := range pages {
				p.t = t
			}
			near.Link.SetRate(row.up, row.down, queue)
			if row.before != nil {
				row.before()
			}
			openBoth(t, pages)
			awaitFull(t, near.Link, row.up, row.down)
			<-time.After(settle)
			for _, p := range pages {
				p.watch()
			}
			lost, passed := near.Link.Lost(), near.Link.Passed()
			before := [2]received{pages[0].received(), pages[1].received()}
			if row.during != nil {
				row.during()
			}
			<-time.After(watched)
			now := [2]received{pages[0].received(), pages[1].received()}
			lost, passed = near.Link.Lost()-lost, near.Link.Passed()-passed
			for i, p := range pages {
				pictures, sent := now[i].Pictures-before[i].Pictures, now[1-i].Encoded-before[1-i].Encoded
				concealed := (now[i].Concealed - before[i].Concealed) / max(1, now[i].Samples-before[i].Samples)
				sounds, late, spoken := now[i].Sounds-before[i].Sounds, now[i].Late-before[i].Late, now[1-i].Spoken-before[1-i].Spoken
				t.Logf("%s: %.0f of %.0f pictures, at %.0f lines; %.0f of %.0f packets of sound, %.0f late, %.1f %% of it concealed", p.name, pictures, sent,
					now[i].Height, sounds, spoken, late, 100*concealed)
				if sent == 0 || !row.notAll && pictures < leastPictures*sent {
					t.Errorf("%s sees %.0f of %.0f pictures", p.name, pictures, sent)
				}
				if spoken == 0 || !row.notAll && sounds-late < leastSound*spoken {
					t.Errorf("%s hears %.0f of %.0f packets of sound, and %.0f of them late", p.name, sounds, spoken, late)
				}
				if screens := p.screens(); len(screens) > 0 {
					t.Errorf("%s does not show the visit any more, but %v", p.name, screens)
				}
				if i == 1 && row.up > 0 && now[i].Height != smallest {
					t.Errorf("%s sees a picture of %.0f lines, of 300 kbit/s", p.name, now[i].Height)
				}
			}
			t.Logf("the line lost %d of %d packets", lost, lost+passed)
			if !row.notAll && float64(lost) > mostLost*float64(lost+passed) {
				t.Errorf("the line lost %d of %d packets", lost, lost+passed)
			}
			if row.up > 0 {
				pages[0].await(openLimit, "the sign of a slow line", `ewindow.snapshot().state.line === "here"`)
				pages[1].await(openLimit, "the sign of a slow line", `ewindow.snapshot().state.line === "there"`)
			}
			near.Link.SetRate(0, 0, 0)
			near.Link.Set(0, 0)
			for _, p := range pages {
				p.await(openLimit, "no sign on a good line", `ewindow.snapshot().state.line === ""`)
				p.await(openLimit, "the large picture on a good line", "ewindow.snapshot().own.bitrate >= 1600000")
			}
			for _, p := range pages {
				p.button()
				p.await(openLimit, "the shut window", "document.querySelector('#window').dataset.screen === 'shut'")
			}
		})
	}
}

// awaitFull waits until a narrow line carries nearly all that it can for a second.
func awaitFull(t *testing.T, link *paths.Link, up, down int) {
	t.Helper()
	rig.Eventually(t, openLimit, func() error {
		up1, down1 := link.Bytes()
		<-time.After(time.Second)
		up2, down2 := link.Bytes()
		full := float64(8*(up2-up1)) >= used*float64(up) && float64(8*(down2-down1)) >= used*float64(down)
		return rig.Check(full, "a full line", fmt.Sprintf("%d bit/s up, %d down", 8*(up2-up1), 8*(down2-down1)))
	})
}
