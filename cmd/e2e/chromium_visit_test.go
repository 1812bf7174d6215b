//go:build full

package e2e_test

import (
	"fmt"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// TestVisit is the main job: two windows, opened by a press each, see and hear each other, and go on doing so whatever is killed.
func TestVisit(t *testing.T) {
	n := startDemo(t, t.TempDir())
	n.await("know each other", 60*time.Second)
	munich := n.look(0, munichSource, 640, 360)
	dresden := n.look(1, dresdenSource, 640, 360)
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

	n.checkStranger()
	for _, killed := range []struct {
		what  string
		words []string
		stops bool // the picture must be seen to stop
	}{
		{"LiveKit", n.livekit(), true}, {"Munich's kiosk", n.kiosk(0), true}, {"Dresden's kiosk", n.kiosk(1), true},
		{"Dresden's homeserver", n.dendrite(1), false}, {"Munich's homeserver", n.dendrite(0), false},
	} {
		// Not a subtest: what comes after needs a visit that goes on.
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
		t.Logf("%s was killed; both see each other move again %.1f s later", killed.what, time.Since(begun).Seconds())
	}

	// A page that is killed with its browser comes back in another one, and the window is still open.
	munich.Kill()
	dresden.awaitNot("red", 20*time.Second)
	munich = n.look(0, munichSource, 640, 360)
	both(40 * time.Second)

	// A homeserver that was killed must serve the next visit too. Shut stops camera and sending within a second, on both sides.
	checkShut(t, munich, dresden)
	dresden.shot("alone again")
	munich.button()
	both(30 * time.Second)
	checkShut(t, dresden, munich)
}

// checkShut shuts one window and looks whether everything stops in time.
func checkShut(t *testing.T, one, other *viewer) {
	t.Helper()
	one.press("Escape", "Escape", 27)
	begun := time.Now()
	rig.Eventually(t, time.Second, func() error {
		return rig.Check(one.live() == 0, one.name+"'s camera and microphone being off", one.live())
	})
	off := time.Since(begun)
	// What was under way a second after the press is over; nothing comes after it.
	<-time.After(time.Until(begun.Add(time.Second)))
	sent, decoded := one.sent(), other.decoded()
	<-time.After(time.Second)
	if now := one.sent(); now != sent {
		t.Errorf("%s has sent %.0f bytes in the second after it was shut for one", one.name, now-sent)
	}
	if now := other.decoded(); now != decoded {
		t.Errorf("%s has got %.0f frames in the second after %s was shut for one", other.name, now-decoded, one.name)
	}
	if off > time.Second {
		t.Errorf("%s's camera went off %v after the press", one.name, off)
	}
	other.awaitNot(map[string]string{"Munich": "red", "Dresden": "blue"}[one.name], 10*time.Second)
}

// TestSecondStart starts a demonstration again on its data: same accounts, same network, and --open opens both windows.
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
	munich, dresden := n.look(0, munichSource, 640, 360), n.look(1, dresdenSource, 640, 360)
	munich.awaitMoving("blue", 30*time.Second)
	dresden.awaitMoving("red", 30*time.Second)
}
