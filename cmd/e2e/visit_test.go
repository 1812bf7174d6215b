package e2e_test

import (
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/page"
)

// TestTwoWindows is one whole visit over the real servers. Package page stands in for the browser on both sides, so the test needs nothing
// but Go.
func TestTwoWindows(t *testing.T) {
	t.Parallel()
	n := startDemo(t, t.TempDir())
	n.await("know each other", time.Minute)
	pages := n.startPages()
	for _, p := range pages {
		if r := p.Report(); r.Screen != "shut" || r.Sent != 0 {
			t.Errorf("before anybody opened %s its report is %+v", p.Name, r)
		}
	}
	pages[0].Command(t, "open")
	pages[0].Await(t, time.Minute, "the open window", func(r page.Report) bool { return r.Screen == "alone" })
	pages[1].Await(t, time.Minute, "the other open window", func(r page.Report) bool { return len(r.Open) == 1 })
	if r := pages[0].Report(); r.Sent != 0 {
		t.Errorf("the page of an open window without a visit sent %d pictures", r.Sent)
	}
	pages[1].Command(t, "open")
	for _, p := range pages {
		p.Await(t, time.Minute, "picture and sound of the other", func(r page.Report) bool {
			return r.Screen == "visit" && r.Pictures > 60 && r.Sounds > 60 && r.Sent > 60
		})
	}
	n.await("see each other", time.Minute)

	pages[1].Command(t, "shut")
	shut := pages[1].Await(t, time.Minute, "the shut window", func(r page.Report) bool { return r.Screen == "shut" })
	// The other window stays open and waits for the next visit.
	pages[0].Await(t, time.Minute, "the window alone", func(r page.Report) bool { return r.Screen == "alone" && len(r.Open) == 0 })
	if sent := pages[1].Report().Sent; sent != shut.Sent {
		t.Errorf("the page sent %d pictures after its window was shut", sent-shut.Sent)
	}
	for _, p := range pages {
		if broken := p.Report().Broken; broken != 0 {
			t.Errorf("%s received %d pictures that differ from all pictures that were sent", p.Name, broken)
		}
	}
}
