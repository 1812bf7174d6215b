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

// joinsMeasured is how many joins of each kind are measured. The table shows the median.
const joinsMeasured = 3

// BenchmarkElement compares two joins with the real Element Call, on the same servers: a person joins another person with Element Call, then
// joins an open window. For both it prints the seconds from the click on "join" to the first decoded frame on each side, and the quality that
// the joiner then gets. The other Element is already in the call when the person joins. The window joins the call only then.
func BenchmarkElement(b *testing.B) {
	element.Need(b)
	n := startDemo(b, b.TempDir())
	n.await("know each other", 60*time.Second)
	n.openFocus() // for the call without a window
	munich := n.openPage(0, munichSource.at(benchmarkRate), 640, 360)
	n.open(munich)
	admin, anna, ben := n.admin(), n.person(0, "anna", dresdenSource.at(benchmarkRate), 640, 360), n.person(0, "ben", munichSource.at(benchmarkRate), 640, 360)
	n.inviteToSpace(admin, anna)
	window, own := n.windowRooms()[1], n.callRoom(admin, anna, ben)
	anna.JoinRoom(window)
	ben.Call(own, element.Start)

	pid := findProcesses(n.kiosk(0)...)
	if len(pid) != 1 {
		b.Fatalf("%d processes are Munich's kiosk", len(pid))
	}
	var toElement, toWindow figures
	for b.Loop() {
		for range joinsMeasured {
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
		ratio := "–" // Element's figure is 0: the other was in the call already, or the figure exists for the window only
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

// figureNames are the names of the figures, in the order of figures. Times are in seconds from the click. Those with "from member" are in
// seconds from the moment when the joiner's membership reaches the homeserver. A window sends no media during its countdown of 1.2 s.
var figureNames = []string{
	"s, joiner sees", "s, waiter sees", "s, joiner, from member", "s, waiter, from member", "s, own membership", "s, other's membership", "s, other's key", "s, other's track", "frames a second", "lines",
	"ms, glass to joiner", "ms, glass from joiner", "% of a core, daemon",
}

// glassTime is how long the glass-to-glass delay is measured.
const glassTime = 6 * time.Second

// figures holds the measurements of all joins of one kind, a list for each of figureNames.
type figures [13][]float64

// join lets a person join a room's call once, measures, and hangs up. seen returns when the other side decoded the first frame, or the zero
// time if it has not yet. daemon is the process ID of the window's kiosk, 0 if the other side is Element.
func (f *figures) join(p *person, room string, other spiedPage, daemon int, seen func() (time.Time, error)) {
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
	<-time.After(5 * time.Second) // Element raises the picture's size step by step
	used, seconds := cpuTime(p.t, daemon)-busy, time.Since(begun).Seconds()
	tiles, err := p.Remotes()
	if err != nil || len(tiles) == 0 {
		p.t.Fatal(tiles, err)
	}
	for i, figure := range []float64{
		first.Seconds(), at.Sub(times.Clicked).Seconds(), times.FirstFrame.Sub(times.Sent).Seconds(), at.Sub(times.Sent).Seconds(), times.Sent.Sub(times.Clicked).Seconds(),
		max(0, times.OtherSent.Sub(times.Clicked).Seconds()), times.Key.Sub(times.Clicked).Seconds(), times.Track.Sub(times.Clicked).Seconds(),
		(tiles[0].Decoded - before.Decoded) / seconds, tiles[0].FrameHeight,
		median(glassToGlass(p.t, other, p, glassTime)), median(glassToGlass(p.t, p, other, glassTime)),
		100 * used.Seconds() / seconds,
	} {
		f[i] = append(f[i], figure)
	}
	p.HangUp()
}
