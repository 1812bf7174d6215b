//go:build full

package e2e_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/element"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
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
	rig.Eventually(v.t, 60*time.Second, func() error {
		s, err := v.slots()
		if err != nil || s.State.Peer == nil || len(s.State.Guests) != 1 || s.State.Guests[0].Slot < 0 {
			return fmt.Errorf("%s: %v", v.name+" showing a guest in the strip", fmt.Sprintf("%+v %v", s, err))
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
			return fmt.Errorf("%s: %v", v.name+" showing a guest in the strip", fmt.Sprintf("the guest's picture is %d pixels wide, the main one %d", width, mainWidth))
		}
		var seen []int
		if err := v.eval(fmt.Sprintf("ewindow.colour(%d, 0.1, 0.1)", guest), &seen); err != nil || len(seen) != 3 {
			return fmt.Errorf("%s: %v", v.name+" showing a guest in the strip", fmt.Sprint(seen, err))
		}
		right := colour == "red" && seen[0] > 150 && seen[2] < 120 || colour == "blue" && seen[2] > 150 && seen[0] < 140
		if before.Slots == nil {
			before = s
			return fmt.Errorf("%s: %v", v.name+" showing a guest in the strip", "looked once")
		}
		return rig.Check(right && now > was+5 && mainNow > mainWas+5, v.name+" showing a guest in the strip", fmt.Sprintf("guest %d → %d, main %d → %d, colour %v", was, now, mainWas, mainNow, seen))
	})
}

// awaitShared waits until a window's page shows a screen that a guest shares, and the other window goes on in the strip.
func (v *viewer) awaitShared() {
	v.t.Helper()
	var before uint64
	rig.Eventually(v.t, 60*time.Second, func() error {
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
			return fmt.Errorf("%s: %v", v.name+" showing a shared screen", fmt.Sprintf("%+v %v", s, err))
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
		return rig.Check(err == nil && screen > 0 && peer > before+5 && slices.Contains(roles, "main whole"), v.name+" showing a shared screen", fmt.Sprintf("screen %d, peer %d, %q", screen, peer, roles))
	})
}

// awaitTiles waits until Element shows the others in these colours and nobody else, all of them moving.
func (p *person) awaitTiles(want ...string) {
	p.t.Helper()
	first := make(map[string]float64) // decoded frames by participant
	slices.Sort(want)
	rig.Eventually(p.t, slowly, func() error {
		tiles, err := p.Remotes()
		var colours []string
		for _, tile := range tiles {
			if picture, err := p.Picture(tile); err == nil && tile.Video && tile.Shown {
				if _, ok := first[tile.Participant]; !ok {
					first[tile.Participant] = tile.Decoded
				}
				if tile.Decoded > first[tile.Participant]+20 {
					colours = append(colours, classify(picture).colour)
				}
			}
		}
		slices.Sort(colours)
		return rig.Check(len(tiles) == len(want) && slices.Equal(colours, want), fmt.Sprintf("%s seeing %q", p.name, want), fmt.Sprintf("%q %+v %v\n%s", colours, tiles, err, p.Trace()))
	})
}

// awaitFrames waits until the picture of the only one on the page goes on.
func (v *viewer) awaitFrames() {
	v.t.Helper()
	var before uint64
	rig.Eventually(v.t, slowly, func() error {
		s, err := v.slots()
		people := s.people()
		if err != nil || len(people) != 1 {
			return fmt.Errorf("%s: %v", v.name+" showing its guest", fmt.Sprintf("%+v %v", s, err))
		}
		for _, one := range s.Slots {
			if one.Slot == people[0].Slot && one.Playing {
				if before == 0 {
					before = one.Frames
				}
				return rig.Check(one.Frames > before+20, v.name+" showing its guest", fmt.Sprintf("%+v", one))
			}
		}
		return fmt.Errorf("%s: %v", v.name+" showing its guest", fmt.Sprintf("%+v", s))
	})
}

// lastKeys builds ewindow with media keys whose numbers end soon and begin anew. Otherwise that takes 256 comings and goings.
var lastKeys = building("goolm,lastkeys")

// TestThreeAtTheWindow lets a guest with Element join two windows that see each other: on both the other window stays the main picture and the
// guest is in the strip, and the guest sees both. The numbers of the windows' media keys end and begin anew meanwhile.
func TestThreeAtTheWindow(t *testing.T) {
	element.Need(t)
	n := startDemoOf(t, lastKeys, t.TempDir())
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
	munich.awaitMoving("blue", slowly)
	dresden.awaitMoving("red", slowly)
	anna.awaitTiles("red", "blue")
	anna.shotTo(t, "three")

	// The guest shares a screen: it is the main picture on both windows, and the other window is in the strip as long as it lasts.
	anna.ShareScreen()
	for _, v := range []*viewer{munich, dresden} {
		v.awaitShared()
		v.shot("shared")
	}
	anna.ShareScreen()
	munich.awaitMoving("blue", slowly)
	dresden.awaitMoving("red", slowly)

	// The guest leaves: nobody is shown who isn't there, the visit goes on, and the keys that the guest had are no good any more. Then it
	// comes again with the same device.
	outside := n.intrude(room)
	outside.awaitReadable(anna, true)
	anna.HangUp()
	for _, v := range []*viewer{munich, dresden} {
		rig.Eventually(t, 20*time.Second, func() error {
			s, err := v.slots()
			return rig.Check(err == nil && len(s.State.Guests) == 0 && s.State.Peer != nil, v.name+" showing no guest", fmt.Sprintf("%+v %v", s, err))
		})
	}
	outside.awaitReadable(anna, false)
	munich.awaitMoving("blue", slowly)
	dresden.awaitMoving("red", slowly)
	anna.Call(room, element.Join)
	munich.awaitGuest("red")
	dresden.awaitGuest("red")
	anna.awaitTiles("red", "blue")
	outside.awaitReadable(anna, true)

	// Dresden's plug is pulled, and its power is back at once: it begins shut, and takes its own old membership away. Opened, it is seen again.
	power := n.pullPlug(1, dresden)
	power()
	begun := time.Now()
	anna.awaitTiles("red")
	t.Logf("%.1f s after Dresden's plug was pulled Anna sees Munich alone", time.Since(begun).Seconds())
	n.awaitLog(1, "An old call membership was removed")
	dresden = n.look(1, dresdenSource, 640, 360)
	n.open(dresden)
	munich.awaitGuest("red")
	dresden.awaitGuest("red")
	anna.awaitTiles("red", "blue")

	// Its plug is pulled for good.
	sent := len(anna.signals(0))
	defer n.pullPlug(1, dresden)()
	begun = time.Now()
	rig.Eventually(t, ghostLimit, func() error {
		s, err := munich.slots()
		playing := 0
		for _, one := range s.Slots {
			if one.Playing {
				playing++
			}
		}
		return rig.Check(err == nil && playing == 1, "Dresden's picture standing still", fmt.Sprintf("%+v %v", s, err))
	})
	munich.shot("plug pulled")
	munich.awaitNot("blue", ghostLimit)
	t.Logf("%.1f s after Dresden's plug was pulled Munich does not show it", time.Since(begun).Seconds())
	rig.Eventually(t, time.Until(begun.Add(ghostLimit)), func() error {
		s, err := munich.slots()
		people := s.people()
		return rig.Check(err == nil && len(people) == 1 && people[0].Name == anna.name, "Munich showing nobody but the guest", fmt.Sprintf("%+v %v", s, err))
	})
	rig.Eventually(t, time.Until(begun.Add(ghostLimit)), func() error {
		tiles, err := anna.Remotes()
		return rig.Check(err == nil && len(tiles) == 1, "Anna seeing nobody but Munich", fmt.Sprintf("%+v %v", tiles, err))
	})
	t.Logf("%.1f s after it nobody shows it", time.Since(begun).Seconds())
	anna.awaitTiles("red")
	munich.awaitFrames()
	// Anna's key is another one from now on, and goes to Munich alone.
	rig.Eventually(t, 10*time.Second, func() error {
		for _, s := range anna.signals(sent) {
			if s.Kind == "key out" && s.User == n.Windows[0].userID() {
				return rig.Check(true, "a new key of Anna's", nil)
			}
		}
		return fmt.Errorf("%s: %v", "a new key of Anna's", fmt.Sprintf("%+v", anna.signals(sent)))
	})

	// All that was seen until now was seen with keys whose numbers began anew.
	var numbers []uint8
	for _, s := range anna.signals(0) {
		if s.Kind == "key in" && s.User == n.Windows[0].userID() && (len(numbers) == 0 || s.Index != numbers[len(numbers)-1]) {
			numbers = append(numbers, s.Index)
		}
	}
	t.Logf("Munich's keys had the numbers %d", numbers)
	// 0 itself may have been replaced before it was given to anybody.
	if last := slices.Index(numbers, 255); last < 0 || !slices.ContainsFunc(numbers[last:], func(n uint8) bool { return n < 100 }) {
		t.Error("the numbers did not begin anew")
	}
}
