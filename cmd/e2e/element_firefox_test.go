//go:build full

package e2e_test

import (
	"fmt"
	"testing"

	"multifactorymodel.org/ewindow/cmd/e2e/element"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// usesFirefox lets a guest visit with Element Call in Firefox. Both sides see each other move, and hear each other.
func (w *openWindow) usesFirefox(t *testing.T) {
	fiona := &person{t: t, name: "fiona", account: w.n.registerAccount(0, "fiona")}
	fiona.Guest = element.Open(t, fiona.account, element.Options{Firefox: true, Tone: int(dresdenSource.tone)})
	w.n.inviteToSpace(w.admin, fiona)
	fiona.JoinRoom(w.room)
	v := w.within(t, fiona)
	v.Call(v.w.room, element.Start)
	v.awaitPicture("red", slowLimit)
	v.w.awaitMovingTiles(1)
	v.w.awaitColours(5)
	v.awaitSamples(100_000)
	v.w.awaitTone(dresdenSource.tone, slowLimit)
	v.steady()
	v.shot("visit")
	v.w.shot("visit")
	// Element Call leaves, but then waits for the end of a sound that never begins without a sound card.
	if err := v.Ask("host.button('incall_leave')", nil); err != nil {
		t.Fatal(err)
	}
	v.awaitAlone(slowLimit)
	v.Close()
}

// awaitSamples waits until the guest has decrypted and decoded a number of samples of sound. Firefox's Web Audio needs a sound card, so it can't
// listen here.
func (v visitor) awaitSamples(number float64) {
	v.t.Helper()
	rig.Eventually(v.t, slowLimit, func() error {
		traffic, err := v.Traffic()
		return rig.Check(err == nil && traffic.Audio > number, fmt.Sprintf("%s hearing", v.name), fmt.Sprintf("%+v %v", traffic, err))
	})
}

// awaitColours waits until the only guest's picture on the page has shown a number of colours. Firefox's fake camera changes its colour all the time.
func (w *openWindow) awaitColours(number int) {
	w.t.Helper()
	seen := make(map[[3]int]bool)
	rig.Eventually(w.t, slowLimit, func() error {
		s, err := w.snapshot()
		if err != nil || len(s.people()) != 1 {
			return fmt.Errorf("the guest on the page: %+v %v", s, err)
		}
		var colour [3]int
		if err := w.eval(fmt.Sprintf("ewindow.colour(%d, 0.5, 0.5)", s.people()[0].Tile), &colour); err == nil {
			seen[colour] = true
		}
		return rig.Check(len(seen) >= number, fmt.Sprintf("%d colours", number), seen)
	})
}
