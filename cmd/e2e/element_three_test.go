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

// pageSnapshot is what a window's page shows: its tiles, and the state that the kiosk has sent. A tile is a place on the screen for one picture.
type pageSnapshot struct {
	Tiles []struct {
		Tile          int // the tile's number
		Width, Height int
		Frames        uint64
		Playing       bool
	}
	State struct {
		Peer   *shownPerson
		Guests []shownPerson
	}
}

// shownPerson is a window or a guest that the page names.
type shownPerson struct {
	Name string
	Tile int // number of the tile with the picture, -1 if there is none
}

// people returns everybody whom the page names. Without another window the first guest is the peer.
func (s pageSnapshot) people() (list []shownPerson) {
	if s.State.Peer != nil {
		list = append(list, *s.State.Peer)
	}
	return append(list, s.State.Guests...)
}

// snapshot asks the page what it shows.
func (v *windowPage) snapshot() (s pageSnapshot, err error) {
	err = v.eval("ewindow.snapshot()", &s)
	return s, err
}

// awaitGuest waits until a window's page shows the other window large and one guest small, with moving pictures. colour is the guest's.
func (v *windowPage) awaitGuest(colour string) {
	v.t.Helper()
	var before pageSnapshot
	rig.Eventually(v.t, 60*time.Second, func() error {
		s, err := v.snapshot()
		if err != nil || s.State.Peer == nil || len(s.State.Guests) != 1 || s.State.Guests[0].Tile < 0 {
			return fmt.Errorf("%s: %v", v.name+" showing a guest in the strip", fmt.Sprintf("%+v %v", s, err))
		}
		frames := func(of pageSnapshot, tile int) (frames uint64, width int) {
			for _, x := range of.Tiles {
				if x.Tile == tile {
					return x.Frames, x.Width
				}
			}
			return 0, 0
		}
		guest := s.State.Guests[0].Tile
		was, _ := frames(before, guest)
		now, width := frames(s, guest)
		mainWas, _ := frames(before, s.State.Peer.Tile)
		mainNow, mainWidth := frames(s, s.State.Peer.Tile)
		// Element Call sends three simulcast layers: 320×180, 640×360 and the camera's own size. For a guest in the strip the window receives the
		// small layer. On a slow machine the other window's picture may also be that small.
		if width == 0 || width > 320 || mainWidth < 320 {
			return fmt.Errorf("%s: %v", v.name+" showing a guest in the strip", fmt.Sprintf("the guest's picture is %d pixels wide, the main one %d", width, mainWidth))
		}
		var seen []int
		if err := v.eval(fmt.Sprintf("ewindow.colour(%d, 0.1, 0.1)", guest), &seen); err != nil || len(seen) != 3 {
			return fmt.Errorf("%s: %v", v.name+" showing a guest in the strip", fmt.Sprint(seen, err))
		}
		right := colour == "red" && seen[0] > 150 && seen[2] < 120 || colour == "blue" && seen[2] > 150 && seen[0] < 140
		if before.Tiles == nil {
			before = s
			return fmt.Errorf("%s: %v", v.name+" showing a guest in the strip", "this was the first snapshot")
		}
		return rig.Check(right && now > was+5 && mainNow > mainWas+5, v.name+" showing a guest in the strip", fmt.Sprintf("guest %d → %d, main %d → %d, colour %v", was, now, mainWas, mainNow, seen))
	})
}

// awaitShared waits until a window's page shows the screen that a guest shares as its main picture, while the other window's picture moves in the
// strip.
func (v *windowPage) awaitShared() {
	v.t.Helper()
	var before uint64
	rig.Eventually(v.t, 60*time.Second, func() error {
		var s struct {
			State struct {
				Shared, Peer *shownPerson
			}
			Tiles []struct {
				Tile   int
				Frames uint64
			}
		}
		err := v.eval("ewindow.snapshot()", &s)
		if err != nil || s.State.Shared == nil || s.State.Peer == nil || s.State.Shared.Tile == s.State.Peer.Tile {
			return fmt.Errorf("%s: %v", v.name+" showing a shared screen", fmt.Sprintf("%+v %v", s, err))
		}
		var screen, peer uint64
		for _, tile := range s.Tiles {
			switch tile.Tile {
			case s.State.Shared.Tile:
				screen = tile.Frames
			case s.State.Peer.Tile:
				peer = tile.Frames
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

// awaitTiles waits until Element shows moving pictures in exactly the colours in want, and no other tiles.
func (p *person) awaitTiles(want ...string) {
	p.t.Helper()
	first := make(map[string]float64) // decoded frames by participant
	slices.Sort(want)
	rig.Eventually(p.t, slowLimit, func() error {
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

// awaitFrames waits until the page shows one person only, with a moving picture.
func (v *windowPage) awaitFrames() {
	v.t.Helper()
	var before uint64
	rig.Eventually(v.t, slowLimit, func() error {
		s, err := v.snapshot()
		people := s.people()
		if err != nil || len(people) != 1 {
			return fmt.Errorf("%s: %v", v.name+" showing its guest", fmt.Sprintf("%+v %v", s, err))
		}
		for _, one := range s.Tiles {
			if one.Tile == people[0].Tile && one.Playing {
				if before == 0 {
					before = one.Frames
				}
				return rig.Check(one.Frames > before+20, v.name+" showing its guest", fmt.Sprintf("%+v", one))
			}
		}
		return fmt.Errorf("%s: %v", v.name+" showing its guest", fmt.Sprintf("%+v", s))
	})
}

// programWithLastKeys builds ewindow with a first media key index of 254 (build tag lastkeys). So the index starts again at 0 with the third key of a
// call. Normally this takes 256 keys.
var programWithLastKeys = buildProgram("goolm,lastkeys")

// TestThreeAtTheWindow lets a guest with Element join two windows that see each other. On both windows, the other window stays the main picture
// and the guest is in the strip. The guest sees both windows. During the test the windows' media key indexes reach 255 and start again at 0.
func TestThreeAtTheWindow(t *testing.T) {
	element.Need(t)
	n := startDemoProgram(t, programWithLastKeys, t.TempDir())
	n.await("know each other", 60*time.Second)
	munich, dresden := n.openPage(0, munichSource, 640, 360), n.openPage(1, dresdenSource, 640, 360)
	munich.button()
	n.await("Munich is open", 10*time.Second)
	dresden.button()
	munich.awaitMoving("blue", 60*time.Second)
	dresden.awaitMoving("red", 60*time.Second)

	anna := n.person(0, "anna", munichSource, 640, 360)
	n.inviteToSpace(n.admin(), anna)
	room := n.windowRooms()[1] // Munich's, as Dresden names it
	anna.JoinRoom(room)
	anna.Call(room, element.Join)
	anna.awaitMembers(room, 3, 30*time.Second)
	munich.awaitGuest("red")
	dresden.awaitGuest("red")
	munich.shot("three")
	dresden.shot("three")
	munich.awaitMoving("blue", slowLimit)
	dresden.awaitMoving("red", slowLimit)
	anna.awaitTiles("red", "blue")
	anna.screenshotTo(t, "three")

	// The guest shares a screen. While this lasts, it is the main picture on both windows, and the other window is in the strip.
	anna.ShareScreen()
	for _, v := range []*windowPage{munich, dresden} {
		v.awaitShared()
		v.shot("shared")
	}
	anna.ShareScreen()
	munich.awaitMoving("blue", slowLimit)
	dresden.awaitMoving("red", slowLimit)

	// The guest leaves. The windows no longer show the guest, their visit goes on, and the keys that the guest has decrypt nothing new. Then the
	// guest joins again with the same device.
	stranger := n.joinAsStranger(room)
	stranger.awaitReadable(anna, true)
	anna.HangUp()
	for _, v := range []*windowPage{munich, dresden} {
		rig.Eventually(t, 20*time.Second, func() error {
			s, err := v.snapshot()
			return rig.Check(err == nil && len(s.State.Guests) == 0 && s.State.Peer != nil, v.name+" showing no guest", fmt.Sprintf("%+v %v", s, err))
		})
	}
	stranger.awaitReadable(anna, false)
	munich.awaitMoving("blue", slowLimit)
	dresden.awaitMoving("red", slowLimit)
	anna.Call(room, element.Join)
	munich.awaitGuest("red")
	dresden.awaitGuest("red")
	anna.awaitTiles("red", "blue")
	stranger.awaitReadable(anna, true)

	// Dresden loses power, and it comes back at once. The window starts shut, and its kiosk removes its own old membership. Opened, it is seen
	// again.
	restore := n.cutPower(1, dresden)
	restore()
	begun := time.Now()
	anna.awaitTiles("red")
	t.Logf("Anna sees Munich alone %.1f s after Dresden lost power", time.Since(begun).Seconds())
	n.awaitLog(1, "An old call membership was removed")
	dresden = n.openPage(1, dresdenSource, 640, 360)
	n.open(dresden)
	munich.awaitGuest("red")
	dresden.awaitGuest("red")
	anna.awaitTiles("red", "blue")

	// Dresden loses power for good.
	sent := len(anna.signals(0))
	defer n.cutPower(1, dresden)()
	begun = time.Now()
	rig.Eventually(t, staleMemberLimit, func() error {
		s, err := munich.snapshot()
		playing := 0
		for _, one := range s.Tiles {
			if one.Playing {
				playing++
			}
		}
		return rig.Check(err == nil && playing == 1, "Dresden's picture being frozen", fmt.Sprintf("%+v %v", s, err))
	})
	munich.shot("power lost")
	munich.awaitNot("blue", staleMemberLimit)
	t.Logf("Munich no longer shows Dresden %.1f s after Dresden lost power", time.Since(begun).Seconds())
	rig.Eventually(t, time.Until(begun.Add(staleMemberLimit)), func() error {
		s, err := munich.snapshot()
		people := s.people()
		return rig.Check(err == nil && len(people) == 1 && people[0].Name == anna.name, "Munich showing nobody but the guest", fmt.Sprintf("%+v %v", s, err))
	})
	rig.Eventually(t, time.Until(begun.Add(staleMemberLimit)), func() error {
		tiles, err := anna.Remotes()
		return rig.Check(err == nil && len(tiles) == 1, "Anna seeing nobody but Munich", fmt.Sprintf("%+v %v", tiles, err))
	})
	t.Logf("nobody shows Dresden %.1f s after it lost power", time.Since(begun).Seconds())
	anna.awaitTiles("red")
	munich.awaitFrames()
	// Anna now uses a new key, and sends it to Munich only.
	rig.Eventually(t, 10*time.Second, func() error {
		for _, s := range anna.signals(sent) {
			if s.Kind == "key out" && s.User == n.Windows[0].userID() {
				return rig.Check(true, "a new key of Anna's", nil)
			}
		}
		return fmt.Errorf("%s: %v", "a new key of Anna's", fmt.Sprintf("%+v", anna.signals(sent)))
	})

	// During all this, the index of Munich's keys must have passed 255 and started again at 0.
	var indexes []uint8
	for _, s := range anna.signals(0) {
		if s.Kind == "key in" && s.User == n.Windows[0].userID() && (len(indexes) == 0 || s.Index != indexes[len(indexes)-1]) {
			indexes = append(indexes, s.Index)
		}
	}
	t.Logf("Munich's keys had the indexes %d", indexes)
	// The key with index 0 may have been replaced before anybody received it.
	if last := slices.Index(indexes, 255); last < 0 || !slices.ContainsFunc(indexes[last:], func(n uint8) bool { return n < 100 }) {
		t.Error("the key index did not start again after 255")
	}
}
