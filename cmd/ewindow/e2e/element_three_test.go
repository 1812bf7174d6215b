package e2e_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/ewindow/e2e/element"
)

// slotsOf is what a window's page shows, by slot.
type slotsOf struct {
	Slots []struct {
		Slot, Width, Height int
		Frames              uint64
		Playing             bool
	}
	State struct {
		Peer   *onPage
		Guests []onPage
	}
}

// onPage is somebody whom a page names; without another window the first guest is the peer.
type onPage struct {
	Name string
	Slot int
}

// people are all whom a page names.
func (s slotsOf) people() (list []onPage) {
	if s.State.Peer != nil {
		list = append(list, *s.State.Peer)
	}
	return append(list, s.State.Guests...)
}

// slots asks the page what it shows.
func (v *viewer) slots() (s slotsOf, err error) {
	err = v.eval("ewindow.snapshot()", &s)
	return s, err
}

// awaitGuest waits until a window's page shows the other window large and one guest small, both moving.
func (v *viewer) awaitGuest(colour string) {
	v.t.Helper()
	var before slotsOf
	waitFor(v.t, 60*time.Second, v.name+" showing a guest in the strip", func() (bool, any) {
		s, err := v.slots()
		if err != nil || s.State.Peer == nil || len(s.State.Guests) != 1 || s.State.Guests[0].Slot < 0 {
			return false, fmt.Sprintf("%+v %v", s, err)
		}
		frames := func(of slotsOf, slot int) (frames uint64, width int) {
			for _, x := range of.Slots {
				if x.Slot == slot {
					return x.Frames, x.Width
				}
			}
			return 0, 0
		}
		guest := s.State.Guests[0].Slot
		was, _ := frames(before, guest)
		now, width := frames(s, guest)
		mainWas, _ := frames(before, s.State.Peer.Slot)
		mainNow, mainWidth := frames(s, s.State.Peer.Slot)
		// Element Call sends 320×180, 640×360 and what the camera gives: a guest in the strip comes small. So may the other window's picture
		// on a machine that is too slow for more.
		if width == 0 || width > 320 || mainWidth < 320 {
			return false, fmt.Sprintf("the guest's picture is %d pixels wide, the main one %d", width, mainWidth)
		}
		var seen []int
		if err := v.eval(fmt.Sprintf("ewindow.colour(%d, 0.1, 0.1)", guest), &seen); err != nil || len(seen) != 3 {
			return false, fmt.Sprint(seen, err)
		}
		right := colour == "red" && seen[0] > 150 && seen[2] < 120 || colour == "blue" && seen[2] > 150 && seen[0] < 140
		if before.Slots == nil {
			before = s
			return false, "looked once"
		}
		return right && now > was+5 && mainNow > mainWas+5, fmt.Sprintf("guest %d → %d, main %d → %d, colour %v", was, now, mainWas, mainNow, seen)
	})
}

// awaitShared waits until a window's page shows a screen that a guest shares, and the other window goes on in the strip.
func (v *viewer) awaitShared() {
	v.t.Helper()
	var before uint64
	waitFor(v.t, 60*time.Second, v.name+" showing a shared screen", func() (bool, any) {
		var s struct {
			State struct {
				Shared, Peer *struct {
					Name string
					Slot int
				}
			}
			Slots []struct {
				Slot, Width int
				Frames      uint64
			}
		}
		err := v.eval("ewindow.snapshot()", &s)
		if err != nil || s.State.Shared == nil || s.State.Peer == nil || s.State.Shared.Slot == s.State.Peer.Slot {
			return false, fmt.Sprintf("%+v %v", s, err)
		}
		var screen, peer uint64
		for _, slot := range s.Slots {
			switch slot.Slot {
			case s.State.Shared.Slot:
				screen = slot.Frames
			case s.State.Peer.Slot:
				peer = slot.Frames
			}
		}
		if before == 0 {
			before = peer
		}
		var roles []string
		err = v.eval(`[...document.querySelectorAll("#pictures .picture")].map((p) => p.dataset.role + (p.classList.contains("whole") ? " whole" : ""))`, &roles)
		return err == nil && screen > 0 && peer > before+5 && slices.Contains(roles, "main whole"), fmt.Sprintf("screen %d, peer %d, %q", screen, peer, roles)
	})
}

// TestThreeAtTheWindow lets a guest with Element join two windows that see each other: on both the other window stays the main picture and the
// guest is in the strip, and the guest sees both.
func TestThreeAtTheWindow(t *testing.T) {
	element.Need(t)
	n := startDemo(t, t.TempDir())
	n.await("know each other", 60*time.Second)
	munich, dresden := n.look(0, munichSource, 640, 360), n.look(1, dresdenSource, 640, 360)
	munich.button()
	n.await("Munich is open", 10*time.Second)
	dresden.button()
	munich.awaitMoving("blue", 60*time.Second)
	dresden.awaitMoving("red", 60*time.Second)

	anna := n.person(0, "anna", munichSource, 640, 360)
	n.admit(n.admin(), anna)
	room := n.windowRooms()[1] // Munich's, as Dresden names it
	anna.JoinRoom(room)
	anna.Call(room, element.Join)
	anna.awaitMembers(room, 3, 30*time.Second)
	munich.awaitGuest("red")
	dresden.awaitGuest("red")
	munich.shot("three")
	dresden.shot("three")
	munich.awaitMoving("blue", 30*time.Second)
	dresden.awaitMoving("red", 30*time.Second)
	waitFor(t, 60*time.Second, "Anna seeing both windows", func() (bool, any) {
		tiles, err := anna.Remotes()
		var colours []string
		for _, tile := range tiles {
			if !tile.Video || tile.Decoded < 20 {
				continue
			}
			if picture, err := anna.Picture(tile); err == nil {
				colours = append(colours, classify(picture).colour)
			}
		}
		return len(tiles) == 2 && slices.Contains(colours, "red") && slices.Contains(colours, "blue"), fmt.Sprintf("%q %+v %v", colours, tiles, err)
	})
	anna.shotTo(t, "three")

	// The guest shares a screen: it is the main picture on both windows, and the other window is in the strip as long as it lasts.
	anna.ShareScreen()
	for _, v := range []*viewer{munich, dresden} {
		v.awaitShared()
		v.shot("shared")
	}
	anna.ShareScreen()
	munich.awaitMoving("blue", 30*time.Second)
	dresden.awaitMoving("red", 30*time.Second)

	// The guest leaves: nobody is shown who isn't there, and the visit goes on.
	anna.HangUp()
	for _, v := range []*viewer{munich, dresden} {
		waitFor(t, 20*time.Second, v.name+" showing no guest", func() (bool, any) {
			s, err := v.slots()
			return err == nil && len(s.State.Guests) == 0 && s.State.Peer != nil, fmt.Sprintf("%+v %v", s, err)
		})
	}
	munich.awaitMoving("blue", 30*time.Second)
	dresden.awaitMoving("red", 30*time.Second)
}
