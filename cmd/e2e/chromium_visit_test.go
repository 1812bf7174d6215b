//go:build full

package e2e_test

import (
	"fmt"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// TestVisit is the main use of e-window. People open two windows with one key press each. The windows see and hear each other. The visit goes on
// when the test kills LiveKit, a kiosk, a homeserver or a browser.
func TestVisit(t *testing.T) {
	n := startDemo(t, t.TempDir())
	n.await("know each other", 60*time.Second)
	munich := n.openPage(0, munichSource, 640, 360)
	dresden := n.openPage(1, dresdenSource, 640, 360)
	both := func(limit time.Duration) {
		t.Helper()
		munich.awaitMoving("blue", limit)
		dresden.awaitMoving("red", limit)
	}
	if live := munich.live(); live > 0 {
		t.Errorf("%d tracks of Munich's camera and microphone are on while it is shut", live)
	}
	munich.shot("shut")
	munich.button()
	n.await("Munich is open", 10*time.Second)
	rig.Eventually(t, 10*time.Second, func() error { return rig.Check(munich.live() == 2, "Munich's camera", munich.live()) })
	munich.shot("alone")
	dresden.button()
	n.await("see each other", 40*time.Second)
	both(60 * time.Second)
	munich.shot("visit")
	munich.awaitTone(dresdenSource.tone, 20*time.Second)
	dresden.awaitTone(munichSource.tone, 20*time.Second)

	n.checkStrangerCannotDecrypt()
	for _, killed := range []struct {
		what  string
		words []string
		stops bool // killing it interrupts the pictures, so the test first waits for new ones
	}{
		{"LiveKit", n.livekit(), true}, {"Munich's kiosk", n.kiosk(0), true}, {"Dresden's kiosk", n.kiosk(1), true},
		{"Dresden's homeserver", n.dendrite(1), false}, {"Munich's homeserver", n.dendrite(0), false},
	} {
		// No subtests: each step needs the visit that the step before left running.
		begun := time.Now()
		n.kill(killed.words)
		before := [2]float64{munich.decoded(), dresden.decoded()}
		if killed.stops {
			rig.Eventually(t, 60*time.Second, func() error {
				m, d := munich.decoded(), dresden.decoded()
				return rig.Check(m != before[0] && d != before[1] && munich.screen() == "visit" && dresden.screen() == "visit", "pictures after "+killed.what+" was killed", fmt.Sprint(before, m, d, munich.state(), dresden.state()))
			})
		}
		both(60 * time.Second)
		t.Logf("%s was killed; both windows show moving pictures again %.1f s later", killed.what, time.Since(begun).Seconds())
	}

	// Kill the browser of a page. The page in a new browser continues the visit, because the kiosk still has the window open.
	munich.Kill()
	dresden.awaitNot("red", 20*time.Second)
	munich = n.openPage(0, munichSource, 640, 360)
	both(40 * time.Second)

	// The homeservers that were killed must serve the next visit, too. Shutting a window stops camera and media within a second, on both sides.
	checkShut(t, munich, dresden)
	dresden.shot("alone again")
	munich.button()
	both(30 * time.Second)
	checkShut(t, dresden, munich)
}

// checkShut shuts one window. Its camera and microphone are off when the page has handled the key press, and its media stop on both sides.
func checkShut(t *testing.T, one, other *windowPage) {
	t.Helper()
	// This listener comes after the page's own one.
	if err := one.eval(`addEventListener("keydown", () => { window.liveAfterPress = spy.live(); }, { once: true }), 1`, nil); err != nil {
		t.Fatal(err)
	}
	one.press("Escape", "Escape", 27)
	begun := time.Now()
	rig.Eventually(t, 10*time.Second, func() error {
		var live *int
		err := one.eval("window.liveAfterPress ?? null", &live)
		if err == nil && live != nil && *live != 0 {
			t.Fatalf("%d tracks of %s's camera and microphone are on after the press", *live, one.name)
		}
		return rig.Check(err == nil && live != nil, one.name+"'s page handling the press", err)
	})
	// For one second after the key press, media may still be on its way. After that no more may come.
	<-time.After(time.Until(begun.Add(time.Second)))
	sent, decoded := one.sent(), other.decoded()
	<-time.After(time.Second)
	if now := one.sent(); now != sent || one.live() != 0 {
		t.Errorf("%s sent %.0f bytes between 1 s and 2 s after it was shut, and has %d tracks", one.name, now-sent, one.live())
	}
	if now := other.decoded(); now != decoded {
		t.Errorf("%s decoded %.0f frames between 1 s and 2 s after %s was shut", other.name, now-decoded, one.name)
	}
	other.awaitNot(map[string]string{"Munich": "red", "Dresden": "blue"}[one.name], 10*time.Second)
}

// TestSecondStart starts a demonstration again with the same data. Accounts and network must be the same. The option --open opens both windows.
func TestSecondStart(t *testing.T) {
	folder := t.TempDir()
	n := startDemo(t, folder)
	n.await("know each other", 60*time.Second)
	space := n.Space
	n.stop()
	n = startDemo(t, folder, "--open")
	n.await("know each other", 30*time.Second)
	if n.Space != space || space == "" {
		t.Errorf("the network is %q after a second start, %q before", n.Space, space)
	}
	munich, dresden := n.openPage(0, munichSource, 640, 360), n.openPage(1, dresdenSource, 640, 360)
	munich.awaitMoving("blue", 30*time.Second)
	dresden.awaitMoving("red", 30*time.Second)
}
