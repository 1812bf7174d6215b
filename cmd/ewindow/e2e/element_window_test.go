package e2e_test

import (
	"fmt"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/ewindow/e2e/element"
)

// TestElementVisitsWindow is somebody with Element who looks in at an open window: the kiosk answers by itself, both see and hear each
// other, and what either does shows on the other side.
func TestElementVisitsWindow(t *testing.T) {
	element.Need(t)
	n := startDemo(t, t.TempDir())
	n.await("know each other", 60*time.Second)
	admin := n.admin()
	munich := n.look(0, munichSource, 640, 360)
	n.open(munich)
	anna := n.person(0, "anna", dresdenSource, 640, 360)
	n.admit(admin, anna)
	room := n.windowRooms()[1] // each kiosk names the other's
	anna.JoinRoom(room)

	anna.Load(room, element.Start)
	before := munich.decoded()
	anna.Enter()
	var seen time.Time
	waitFor(t, 40*time.Second, "Munich decoding a frame", func() (bool, any) {
		seen = time.Now()
		return munich.decoded() > before, fmt.Sprint(munich.state(), anna.Trace())
	})
	times, first := anna.first(40 * time.Second)
	t.Logf("after the membership, Munich sees the guest after %.2f s and the guest Munich after %.2f s; after the click after %.2f s",
		seen.Sub(times.Sent).Seconds(), times.FirstFrame.Sub(times.Sent).Seconds(), first.Seconds())
	tile := anna.awaitPicture("red", 20*time.Second)
	munich.awaitMoving("blue", 20*time.Second)
	t.Logf("%+v", tile)
	anna.awaitTone(munichSource.tone, 20*time.Second)
	munich.awaitTone(dresdenSource.tone, 20*time.Second)
	munich.shot("guest")
	anna.shotTo(t, "call")
	anna.HangUp()
	waitFor(t, 20*time.Second, "Munich waiting again", func() (bool, any) { return munich.screen() == "alone", munich.state() })
}

// open presses a window's button and waits until the window is open. A page that has not heard its state yet takes no press.
func (n *demoNetwork) open(v *viewer) {
	n.t.Helper()
	waitFor(n.t, 30*time.Second, v.name+"'s state", func() (bool, any) {
		var name string
		err := v.eval("ewindow.snapshot().state?.name ?? \"\"", &name)
		return name == v.name, fmt.Sprint(name, err)
	})
	v.button()
	n.await(v.name+" is open", 30*time.Second)
	waitFor(n.t, 30*time.Second, v.name+"'s camera", func() (bool, any) { return v.live() == 2, v.live() })
}
