package e2e_test

import (
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/ewindow/e2e/element"
)

// TestElementOnAnotherSFU lets somebody of Dresden's homeserver visit Munich's window, each with an SFU of their own: both publish at their own
// and see and hear each other.
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
	v.HangUp()
	v.awaitAlone(20 * time.Second)
}
