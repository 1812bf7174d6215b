//go:build full

package e2e_test

import (
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/element"
)

// TestElementCodecs lets people whose Element sends other codecs than VP8 visit an open window, one by one and then together. Both sides see each
// other all the time.
func TestElementCodecs(t *testing.T) {
	element.Need(t)
	n := startDemo(t, t.TempDir())
	n.await("know each other", 60*time.Second)
	w := &openWindow{n.openPage(0, munichSource, 640, 360), n, n.admin(), n.windowRooms()[1]} // Munich's room, as Dresden's kiosk lists it
	n.open(w.windowPage)
	for _, sends := range [][2]string{{"vera", "vp9"}} {
		name, codec := sends[0], sends[1]
		t.Run(codec, func(t *testing.T) {
			p := &person{t: t, name: name, account: n.registerAccount(0, name), source: dresdenSource}
			p.open(640, 360, element.Options{Codec: codec})
			n.inviteToSpace(w.admin, p)
			p.JoinRoom(w.room)
			v := w.within(t, p)
			v.visit()
			v.HangUp()
			v.awaitAlone(20 * time.Second)
		})
	}
}
