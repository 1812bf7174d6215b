//go:build full

package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/bridge/kiosk"
	"multifactorymodel.org/ewindow/cmd/e2e/page"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// front is a reverse proxy before a homeserver. It can hold the requests about delayed events: no answer to them comes, nor do they arrive.
type front struct {
	server *httptest.Server

	mu     sync.Mutex
	freed  chan struct{} // closed when requests are not held any more, nil while none is
	held   int           // requests that were held
	passed int           // requests about delayed events that were passed on
	leaves int           // delayed events that were scheduled
}

// startFront starts a proxy before a homeserver.
func startFront(t *testing.T, homeserver string) *front {
	t.Helper()
	target, err := url.Parse(homeserver)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host }, FlushInterval: -1}
	f.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.note(r) {
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(func() {
		f.hold(false)
		f.server.CloseClientConnections()
		f.server.Close()
	})
	return f
}

// note counts a request, and holds it if it has to be held. It returns false if the client has given up meanwhile.
func (f *front) note(r *http.Request) bool {
	f.mu.Lock()
	if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/delayed_event/") {
		f.leaves++
	}
	freed := f.freed
	if !strings.Contains(r.URL.Path, "/delayed_events/") {
		freed = nil
	} else if freed == nil {
		f.passed++
	} else {
		f.held++
	}
	f.mu.Unlock()
	if freed == nil {
		return true
	}
	select {
	case <-freed:
		return true
	case <-r.Context().Done():
		return false
	}
}

// hold says whether requests about delayed events are held.
func (f *front) hold(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case on && f.freed == nil:
		f.freed = make(chan struct{})
	case !on && f.freed != nil:
		close(f.freed)
		f.freed = nil
	}
}

func (f *front) counts() (held, passed, leaves int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.held, f.passed, f.leaves
}

// screens follows a window's screens in order, until the test ends.
func (n *demoNetwork) screens(i int) (seen func() []string) {
	n.t.Helper()
	page, err := url.Parse(n.page(i))
	if err != nil {
		n.t.Fatal(err)
	}
	o, err := kiosk.Dial(n.t.Context(), page.Host, page.Fragment)
	if err != nil {
		n.t.Fatal(err)
	}
	var (
		mu   sync.Mutex
		list []string
		ends = make(chan struct{})
	)
	go func() {
		defer close(ends)
		for {
			state, err := o.Next(context.Background())
			if err != nil {
				return
			}
			mu.Lock()
			if screen := string(state.Screen); len(list) == 0 || list[len(list)-1] != screen {
				list = append(list, screen)
			}
			mu.Unlock()
		}
	}()
	n.t.Cleanup(func() { o.Close(); <-ends })
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), list...)
	}
}

// removals is how often a kiosk has sent its membership once more, because the homeserver had removed it.
func (n *demoNetwork) removals(i int) int {
	return strings.Count(n.log(i), "Call membership sent") - 1
}

// TestRestartsHeld: the homeservers answer no request about delayed events, so that both remove their window from the call, again and again. People
// notice nothing: both windows come back at once, and neither loses the picture. A window that shuts meanwhile goes at once, too.
func TestRestartsHeld(t *testing.T) {
	t.Parallel()
	n := startDemo(t, t.TempDir())
	n.await("know each other", time.Minute)
	var fronts [2]*front
	for i := range fronts {
		before := fmt.Sprintf("http://127.0.0.1:%d", n.Windows[i].Local)
		fronts[i] = startFront(t, before)
		n.configure(i, func(text string) string {
			return strings.Replace(text, "homeserver:\n  url: "+before, "homeserver:\n  url: "+fronts[i].server.URL, 1)
		})
		n.kill(n.kiosk(i))
	}
	pages := n.startPages()
	for _, p := range pages {
		p.Command(t, "open")
	}
	inVisit := func(r page.Report) bool { return r.Screen == "visit" && r.Pictures > 60 && r.Sounds > 60 }
	for _, p := range pages {
		p.Await(t, time.Minute, "picture and sound of the other", inVisit)
	}
	seen := [2]func() []string{n.screens(0), n.screens(1)}

	for _, f := range fronts {
		f.hold(true)
	}
	rig.Eventually(t, 90*time.Second, func() error {
		return rig.Check(n.removals(0) >= 2 && n.removals(1) >= 2, "both windows removed twice", fmt.Sprint(n.removals(0), n.removals(1), seen[0](), seen[1]()))
	})
	for i, p := range pages {
		held, _, leaves := fronts[i].counts()
		before := p.Report()
		after := p.Await(t, 10*time.Second, "more pictures", func(r page.Report) bool { return r.Pictures > before.Pictures+60 && r.Sounds > before.Sounds+60 })
		t.Logf("%s: %d requests held, %d delayed leaves; the longest time without a picture was %v", p.Name, held, leaves, after.Gap)
		if held < 8 || leaves < 3 {
			t.Errorf("%s: %d requests were held, and %d delayed leaves scheduled", p.Name, held, leaves)
		}
		if got := seen[i](); len(got) != 1 || got[0] != "visit" {
			t.Errorf("%s showed %q", p.Name, got)
		}
	}

	// The second window shuts while nothing is answered. It does not stay, though the other one can't know who ended its membership.
	pages[1].Command(t, "shut")
	pages[0].Await(t, 30*time.Second, "the window alone", func(r page.Report) bool { return r.Screen == "alone" })

	// Everything is answered again.
	for _, f := range fronts {
		f.hold(false)
	}
	pages[1].Command(t, "open")
	for _, p := range pages {
		before := p.Report()
		p.Await(t, time.Minute, "the next visit", func(r page.Report) bool { return r.Screen == "visit" && r.Pictures > before.Pictures+60 })
	}
	_, passed, _ := fronts[0].counts()
	rig.Eventually(t, 30*time.Second, func() error {
		_, now, _ := fronts[0].counts()
		return rig.Check(now >= passed+3, "restarts that arrive", now)
	})
}
