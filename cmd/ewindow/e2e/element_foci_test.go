package e2e_test

import (
	"path/filepath"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/ewindow/e2e/element"
)

// TestElementOnAnotherSFU lets somebody of Dresden's homeserver visit Munich's window, each with an SFU of their own: both publish at their own
// and see each other. The loss of one SFU stops its side, which comes back by itself.
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
	for _, killed := range []int{1, 0} { // the guest's, the window's
		begun := time.Now()
		n.kill([]string{"livekit-server", filepath.Join(n.folder, n.Windows[killed].Username)})
		before, _ := v.Traffic()
		seen := w.decoded()
		waitFor(t, 90*time.Second, "more pictures from the SFU that came back", func() (bool, any) {
			now, err := v.Traffic()
			return err == nil && now.Video > before.Video+30 && w.decoded() > seen+30, []any{err, now, before, w.decoded(), seen}
		})
		v.awaitPicture("red", 90*time.Second)
		w.awaitMoving("blue", 90*time.Second)
		t.Logf("%s's SFU was killed; both see each other move %.1f s later", n.Windows[killed].Name, time.Since(begun).Seconds())
	}
	v.HangUp()
	v.awaitAlone(20 * time.Second)
}
