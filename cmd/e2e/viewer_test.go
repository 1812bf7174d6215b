//go:build full

package e2e_test

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/browser"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// pullPlug takes the power from a window, kiosk and page at once, until what it returns is called. Nothing that the demonstration itself does
// goes on meanwhile.
func (n *demoNetwork) pullPlug(i int, page *viewer) (back func()) {
	n.t.Helper()
	pids := find(n.kiosk(i)...)
	if len(pids) != 1 {
		n.t.Fatalf("%d processes are %s's kiosk", len(pids), n.Windows[i].Name)
	}
	if err := n.process.Process.Signal(syscall.SIGSTOP); err != nil { // it would start another kiosk
		n.t.Fatal(err)
	}
	_ = syscall.Kill(pids[0], syscall.SIGKILL)
	page.Kill()
	return func() { _ = n.process.Process.Signal(syscall.SIGCONT) }
}

// viewer is a browser before a window.
type viewer struct {
	*browser.Page
	t      testing.TB
	name   string
	folder string // for screenshots that are only looked at
}

// look opens a window's page in a browser whose camera and microphone play source.
func (n *demoNetwork) look(i int, s source, width, height int) *viewer {
	n.t.Helper()
	browser.Need(n.t)
	video, audio := s.write(n.t, n.Windows[i].Username, width, height)
	v := &viewer{
		browser.Start(n.t, "http://"+n.Windows[i].page()+"/", browser.Options{Video: video, Audio: audio, Script: spy}), n.t, n.Windows[i].Name, n.t.TempDir(),
	}
	// A key that is pressed before the page has heard from its daemon is nobody's.
	rig.Eventually(n.t, 30*time.Second, func() error {
		var connected bool
		err := v.eval("!!window.ewindow && ewindow.snapshot().connected", &connected)
		return rig.Check(connected, v.name+"'s page", err)
	})
	return v
}

// screen is the name of what the page shows now, empty while it loads.
func (v *viewer) screen() (name string) {
	_ = v.eval("document.querySelector('#window').dataset.screen", &name)
	return name
}

// eval asks the page; an error is a value that does not fit, for pages that are being loaded.
func (v *viewer) eval(expression string, into any) error {
	ctx, cancel := context.WithTimeout(v.t.Context(), 20*time.Second)
	defer cancel()
	return v.Eval(ctx, expression, into)
}

// press presses a key on the page.
func (v *viewer) press(key, code string, virtual int) {
	v.t.Helper()
	if err := v.Press(v.t.Context(), key, code, virtual); err != nil {
		v.t.Fatal(err)
	}
}

func (v *viewer) button() { v.press(" ", "Space", 32) }

// shot takes a screenshot, where EWINDOW_SHOTS names a folder for them.
func (v *viewer) shot(name string) {
	if folder := os.Getenv("EWINDOW_SHOTS"); folder != "" {
		if err := v.Screenshot(v.t.Context(), filepath.Join(folder, v.t.Name()+"-"+v.name+"-"+name+".png")); err != nil {
			v.t.Log(err)
		}
	}
}
