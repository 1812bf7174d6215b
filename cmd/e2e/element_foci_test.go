//go:build full

package e2e_test

import (
	"path/filepath"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/element"
)

// TestElementOnAnotherSFU lets somebody of Dresden's homeserver visit Munich's window, each with an SFU of their own: both publish at their own
// and see and hear each other. When one SFU is killed its side is lost, and comes back by itself.
func TestElementOnAnotherSFU(t *testing.T) {
	element.Need(t)
	n := startDemo(t, t.TempDir(), "--two-foci")
	n.await("know each other", 60*time.Second)
	w := &openWindow{n.look(0, munichSource, 640, 360), n, n.admin(), n.windowRooms()[1]}
	n.open(w.viewer)
	carla := n.person(1, "carla", dresdenSource, 640, 360)
	w.invite(t, carla)
	v := w.within(t, carla)
	v.visit()
	v.awaitTone(munichSource.tone, 20*time.Second)
	w.awaitTone(dresdenSource.tone, 20*time.Second)
	for _, p := range n.Windows {
		begun := time.Now()
		n.kill([]string{"livekit-server", filepath.Join(n.folder, p.Username)})
		v.awaitPicture("red", slowly)
		w.awaitMoving("blue", slowly)
		t.Logf("%s's SFU was killed; both see each other move again %.1f s later", p.Name, time.Since(begun).Seconds())
	}
	v.HangUp()
	v.awaitAlone(20 * time.Second)
}
