//go:build full

package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/element"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// joins is how often each way of joining is measured; the middle one counts.
const joins = 3

// BenchmarkElement lets somebody with the real Element Call join, in turn, another Element Call that waits in its call, and an open window,
// on the same back end. It prints, beside each other, the seconds from the click on "join" to the first decoded frame on both sides, and
// what the joiner then gets. The window is in no call before somebody comes, the other Element is.
func BenchmarkElement(b *testing.B) {
	element.Need(b)
	n := startDemo(b, b.TempDir())
	n.await("know each other", 60*time.Second)
	munich := n.look(0, munichSource, 640, 360)
	n.open(munich)
	admin, anna, ben := n.admin(), n.person(0, "anna", dresdenSource, 640, 360), n.person(0, "ben", munichSource, 640, 360)
	n.admit(admin, anna)
	window, own := n.windowRooms()[1], n.callRoom(admin, anna, ben)
	anna.JoinRoom(window)
	ben.Call(own, element.Start)

	pid := find(n.kiosk(0)...)
	if len(pid) != 1 {
		b.Fatalf("%d kiosks are Munich's", len(pid))
	}
	var toElement, toWindow figures
	for b.Loop() {
		for range joins {
			ben.Watch()
			toElement.join(anna, own, ben, 0, func() (time.Time, error) {
				times, err := ben.Times()
				return times.FirstFrame, err
			})
			ben.awaitMembers(own, 1, 20*time.Second)
			before := munich.decoded()
			toWindow.join(anna, window, munich, pid[0], func() (at time.Time, err error) {
				if munich.decoded() > before {
					at = time.Now()
				}
				return at, nil
			})
			rig.Eventually(b, 30*time.Second, func() error { return rig.Check(munich.screen() == "alone", "the window waiting", munich.state()) })
		}
	}
	var table strings.Builder
	fmt.Fprintf(&table, "%-22s %9s %9s %7s   single joins\n", "", "Element", "window", "ratio")
	for i, name := range figureNames {
		e, w := toElement[i], toWindow[i]
		singles := fmt.Sprintf("%.2f / %.2f", e, w) // before median sorts them
		em, wm := median(e), median(w)
		ratio := "–" // the other was there before, or it is of the window alone
		if em > 0 {
			ratio = fmt.Sprintf("%.2f", wm/em)
		}
		fmt.Fprintf(&table, "%-22s %9.2f %9.2f %7s   %s\n", name, em, wm, ratio, singles)
		unit := strings.ReplaceAll(strings.ReplaceAll(name, ",", ""), " ", "-")
		b.ReportMetric(em, unit+"/element")
		b.ReportMetric(wm, unit+"/window")
	}
	b.ReportMetric(0, "ns/op")
	b.Log("\n" + table.String())
}

// figureNames say what the figures are, in their order: in seconds from the click unless they are "from member", which is from the moment at
// which the joiner's membership reaches the homeserver. A window sends nothing in the 1.2 s that it counts 3-2-1.
var figureNames = []string{
	"s, joiner sees", "s, waiter sees", "s, joiner, from member", "s, waiter, from member", "s, own membership", "s, other's membership", "s, other's key", "s, other's track", "frames a second", "lines",
	"ms, glass to joiner", "ms, glass from joiner", "% of a core, daemon",
}

// glass is how long the pictures' way from glass to glass is watched.
const glass = 6 * time.Second

// figures are what each join took and brought.
type figures [13][]float64

// join lets somebody join a room's call once and hang up. seen is when the other side has seen them, zero for not yet; daemon is the
// process that serves the other side, 0 for none.
func (f *figures) join(p *person, room string, other spied, daemon int, seen func() (time.Time, error)) {
	p.t.Helper()
	p.Load(room, element.Join)
	p.Enter()
	var at time.Time
	rig.Eventually(p.t, 40*time.Second, func() error {
		var err error
		at, err = seen()
		return rig.Check(!at.IsZero(), "the joiner's picture on the other side", err)
	})
	times, first := p.first(40 * time.Second)
	before, begun := p.awaitPicture("red", 30*time.Second), time.Now()
	busy := cpuTime(p.t, daemon)
	<-time.After(5 * time.Second) // Element raises the size step by step
	used, seconds := cpuTime(p.t, daemon)-busy, time.Since(begun).Seconds()
	tiles, err := p.Remotes()
	if err != nil || len(tiles) == 0 {
		p.t.Fatal(tiles, err)
	}
	for i, figure := range []float64{
		first.Seconds(), at.Sub(times.Clicked).Seconds(), times.FirstFrame.Sub(times.Sent).Seconds(), at.Sub(times.Sent).Seconds(), times.Sent.Sub(times.Clicked).Seconds(),
		max(0, times.OtherSent.Sub(times.Clicked).Seconds()), times.Key.Sub(times.Clicked).Seconds(), times.Track.Sub(times.Clicked).Seconds(),
		(tiles[0].Decoded - before.Decoded) / seconds, tiles[0].FrameHeight,
		median(glassToGlass(p.t, other, p, glass)), median(glassToGlass(p.t, p, other, glass)),
		100 * used.Seconds() / seconds,
	} {
		f[i] = append(f[i], figure)
	}
	p.HangUp()
}
