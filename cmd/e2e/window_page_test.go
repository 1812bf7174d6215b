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

// cutPower kills a window's kiosk and its page at once, as a power cut does. It also pauses the demonstration's own process, which would
// start the kiosk again. restore lets that process run on.
func (n *demoNetwork) cutPower(i int, page *windowPage) (restore func()) {
	n.t.Helper()
	pids := findProcesses(n.kiosk(i)...)
	if len(pids) != 1 {
		n.t.Fatalf("%d processes are %s's kiosk", len(pids), n.Windows[i].Name)
	}
	if err := n.process.Process.Signal(syscall.SIGSTOP); err != nil {
		n.t.Fatal(err)
	}
	_ = syscall.Kill(pids[0], syscall.SIGKILL)
	page.Kill()
	return func() { _ = n.process.Process.Signal(syscall.SIGCONT) }
}

// windowPage is a window's page in Chromium.
type windowPage struct {
	*browser.Page
	t      testing.TB
	name   string
	folder string // for screenshots that only the test reads
}

// openPage opens a window's page in a browser. The browser's fake camera and microphone play s.
func (n *demoNetwork) openPage(i int, s source, width, height int) *windowPage {
	n.t.Helper()
	return n.openPageWith(i, s, width, height, "")
}

// openPageWith is openPage with one more script that runs before the page's own ones.
func (n *demoNetwork) openPageWith(i int, s source, width, height int, script string) *windowPage {
	n.t.Helper()
	browser.Need(n.t)
	video, audio := s.write(n.t, n.Windows[i].Username, width, height)
	v := &windowPage{
		browser.Start(n.t, n.page(i), browser.Options{Video: video, Audio: audio, Script: spy + ";\n" + script}), n.t, n.Windows[i].Name, n.t.TempDir(),
	}
	// Before the page is connected to its kiosk, a key press has no effect.
	rig.Eventually(n.t, 30*time.Second, func() error {
		var connected bool
		err := v.eval("!!window.ewindow && ewindow.snapshot().connected", &connected)
		return rig.Check(connected, v.name+"'s page", err)
	})
	return v
}

// screen returns the name of the screen that the page shows. It is empty while the page loads.
func (v *windowPage) screen() (name string) {
	_ = v.eval("document.querySelector('#window').dataset.screen", &name)
	return name
}

// eval evaluates a JavaScript expression in the page and decodes its value into into. It fails while the page loads; the tests then ask again.
func (v *windowPage) eval(expression string, into any) error {
	ctx, cancel := context.WithTimeout(v.t.Context(), 20*time.Second)
	defer cancel()
	return v.Eval(ctx, expression, into)
}

// press presses a key on the page.
func (v *windowPage) press(key, code string, virtual int) {
	v.t.Helper()
	if err := v.Press(v.t.Context(), key, code, virtual); err != nil {
		v.t.Fatal(err)
	}
}

func (v *windowPage) button() { v.press(" ", "Space", 32) }

// shot takes a screenshot if EWINDOW_SHOTS names a folder for it.
func (v *windowPage) shot(name string) {
	if folder := os.Getenv("EWINDOW_SHOTS"); folder != "" {
		if err := v.Screenshot(v.t.Context(), filepath.Join(folder, v.t.Name()+"-"+v.name+"-"+name+".png")); err != nil {
			v.t.Log(err)
		}
	}
}
