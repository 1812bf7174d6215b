//go:build full

package e2e_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// capture is the process of Chromium that reads cameras, also the fake one. While it is stopped, the camera hangs: no picture comes, no track ends,
// and nobody who opens the camera gets an answer.
const capture = "video_capture.mojom.VideoCaptureService"

// hasty lets a page listen to its microphone twenty times as often as it does, so that its minute takes three seconds.
const hasty = `(() => {
	const every = window.setInterval;
	window.setInterval = (f, ms, ...more) => every(f, ms === 600 ? 30 : ms, ...more);
})()`

// hang stops a window's camera, or lets it go on.
func (v *windowPage) hang(signal syscall.Signal) {
	v.t.Helper()
	if n := v.Signal(capture, signal); n != 1 {
		v.t.Fatalf("%d processes read %s's camera", n, v.name)
	}
}

// awaitText waits until an element has a text.
func (v *windowPage) awaitText(selector, want string) {
	v.t.Helper()
	rig.Eventually(v.t, 30*time.Second, func() error {
		var text string
		err := v.eval(fmt.Sprintf("document.querySelector(%q).textContent", selector), &text)
		return rig.Check(err == nil && text == want, fmt.Sprintf("%s saying %q", v.name, want), fmt.Sprint(text, err, v.state()))
	})
}

// TestHungCamera lets a camera hang in the middle of a visit. Its window says so, and the other one does not go on showing the last picture. When the
// camera goes on, so does the visit, without a press. The window's microphone gives nothing but zeros, which the window says as well.
func TestHungCamera(t *testing.T) {
	n := startDemo(t, t.TempDir())
	n.await("know each other", 60*time.Second)
	// A demonstration's windows replace a camera that fails by a test card.
	n.configure(0, func(text string) string { return strings.Replace(text, "test_pattern: true", "test_pattern: false", 1) })
	n.kill(n.kiosk(0))
	silent := munichSource
	silent.tone = 0
	munich := n.openPageWith(0, silent, 640, 360, hasty)
	dresden := n.openPageWith(1, dresdenSource, 640, 360, hasty)
	munich.button()
	n.await("Munich is open", 10*time.Second)
	dresden.button()
	munich.awaitMoving("blue", 60*time.Second)
	dresden.awaitMoving("red", 60*time.Second)

	// Munich's echo canceller has Dresden's tone to work on, and must not take the place of the microphone.
	munich.awaitTone(dresdenSource.tone, 20*time.Second)
	const silence = "Vom Mikrofon kommt kein Ton. Ist es eingeschaltet und eingesteckt?"
	munich.awaitText("#visit .notes", silence)
	munich.shot("silent")
	dresden.awaitText("#visit .notes", "")

	munich.hang(syscall.SIGSTOP)
	begun := time.Now()
	munich.awaitText("#fault h2", "Die Kamera liefert kein Bild.")
	t.Logf("Munich names the fault %.1f s after the camera hangs", time.Since(begun).Seconds())
	munich.awaitText("#fault .number", "Code K5")
	if screen := munich.screen(); screen != "fault" {
		t.Errorf("Munich shows the screen %q", screen)
	}
	munich.shot("hung")
	dresden.awaitNot("red", 10*time.Second)
	// Munich counts as shut for the others. So nobody is there, and Dresden sends nothing. It says why.
	rig.Eventually(t, 20*time.Second, func() error {
		return rig.Check(dresden.screen() == "alone", "Dresden, alone", dresden.state())
	})
	t.Logf("Dresden shows no picture of it after %.1f s", time.Since(begun).Seconds())
	dresden.awaitText("#sill .how", "kein Bild von Munich")
	dresden.shot("alone")
	if n := munich.live(); n != 0 {
		t.Errorf("%d tracks of Munich are live", n)
	}
	sent, decoded := dresden.sent(), dresden.decoded()
	<-time.After(time.Second)
	if now := [2]float64{dresden.sent(), dresden.decoded()}; now != [2]float64{sent, decoded} {
		t.Errorf("Dresden sent and decoded %v, and a second later %v", []float64{sent, decoded}, now)
	}

	munich.hang(syscall.SIGCONT)
	begun = time.Now()
	munich.awaitMoving("blue", 60*time.Second)
	dresden.awaitMoving("red", 60*time.Second)
	var said bool
	if err := dresden.eval("!!ewindow.snapshot().state.windows[0].no_picture", &said); err != nil || said {
		t.Errorf("Dresden still says that no picture comes: %v, %v", said, err)
	}
	t.Logf("the visit goes on %.1f s after the camera does", time.Since(begun).Seconds())
}
