//go:build full

package e2e_test

import (
	"path/filepath"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/element"
)

// TestElementOnAnotherSFU lets a person with an account on Dresden's homeserver visit Munich's window. Each side publishes to the SFU of its own
// homeserver. They see and hear each other. When the test kills an SFU, both see each other again by themselves.
func TestElementOnAnotherSFU(t *testing.T) {
	element.Need(t)
	n := startDemo(t, t.TempDir(), "--two-foci")
	n.await("know each other", 60*time.Second)
	w := &openWindow{n.openPage(0, munichSource, 640, 360), n, n.admin(), n.windowRooms()[1]}
	n.open(w.windowPage)
	carla := n.person(1, "carla", dresdenSource, 640, 360)
	w.invite(t, carla)
	v := w.within(t, carla)
	v.visit()
	v.awaitTone(munichSource.tone, 20*time.Second)
	w.awaitTone(dresdenSource.tone, 20*time.Second)
	for _, p := range n.Windows {
		begun := time.Now()
		n.kill([]string{"livekit-server", filepath.Join(n.folder, p.Username)})
		v.awaitPicture("red", slowLimit)
		w.awaitMoving("blue", slowLimit)
		t.Logf("%s's SFU was killed; both show moving pictures again %.1f s later", p.Name, time.Since(begun).Seconds())
	}
	v.HangUp()
	v.awaitAlone(20 * time.Second)
}
