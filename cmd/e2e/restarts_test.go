//go:build full

package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// awaitVisit waits until the page shows a visit, and decodes picture after picture.
func (v *windowPage) awaitVisit(what string) {
	v.t.Helper()
	before := 0.0
	rig.Eventually(v.t, time.Minute, func() error {
		now := v.decoded()
		moves := now >= before+2 && before > 0
		before = now
		if moves && v.screen() == "visit" {
			return nil
		}
		<-time.After(300 * time.Millisecond)
		return fmt.Errorf("%s: no picture %s: %s", v.name, what, v.state())
	})
}

// TestRestarts kills either kiosk and reloads either page, in any order and sometimes one right after the other. Each time both windows see each other again.
// EWINDOW_REPEAT says how often. The log says how often a page's connection had to be renewed, because sound came from it and no picture.
func TestRestarts(t *testing.T) {
	times := 6
	if n, err := strconv.Atoi(os.Getenv("EWINDOW_REPEAT")); err == nil {
		times = n
	}
	n := startDemo(t, t.TempDir())
	n.await("know each other", 60*time.Second)
	pages := [2]*windowPage{n.openPage(0, munichSource, 640, 360), n.openPage(1, dresdenSource, 640, 360)}
	pages[0].button()
	n.await("Munich is open", 10*time.Second)
	pages[1].button()
	for _, p := range pages {
		p.awaitVisit("at first")
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	slowest := time.Duration(0)
	for i := range times {
		what := ""
		for range 1 + random.IntN(4)/3 {
			which := random.IntN(2)
			if random.IntN(3) == 0 {
				what += fmt.Sprintf("%s's page reloaded, ", pages[which].name)
				_ = pages[which].eval("window.old = true, location.reload()", nil) // the answer may be lost with the page
				rig.Eventually(t, 30*time.Second, func() error {                   // a browser that finds no kiosk shows an error, and goes on showing it
					var loaded bool
					err := pages[which].eval("!window.old && !!window.ewindow && ewindow.snapshot().connected", &loaded)
					return rig.Check(loaded, pages[which].name+"'s page loaded again", err)
				})
			} else {
				what += fmt.Sprintf("%s's kiosk killed, ", pages[which].name)
				n.kill(n.kiosk(which))
			}
		}
		begun := time.Now()
		for _, p := range pages {
			p.awaitVisit(fmt.Sprintf("after step %d: %s", i, what))
		}
		slowest = max(slowest, time.Since(begun))
	}
	renewed := 0
	for i := range pages {
		renewed += strings.Count(n.log(i), "The page sends sound and no picture")
	}
	t.Logf("%d times back, the slowest after %.1f s; %d connections to pages were renewed for want of a picture", times, slowest.Seconds(), renewed)
}
