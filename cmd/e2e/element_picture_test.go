//go:build full

package e2e_test

import (
	"fmt"
	"math"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/element"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// gapLimit is how long a guest's picture may freeze while the guest changes to another camera.
const gapLimit = 3 * time.Second

// choosesCameras lets the guest change to a second camera and back to the first.
func (v visitor) choosesCameras() {
	v.choosesCamera(true)
	v.choosesCamera(false)
}

// choosesCamera lets the guest choose a camera. The window must show that camera's picture soon, in the same tile.
func (v visitor) choosesCamera(second bool) {
	v.t.Helper()
	before, err := v.w.snapshot()
	if err != nil || len(before.people()) != 1 {
		v.t.Fatalf("%+v, %v", before, err)
	}
	tile, framesBefore := before.people()[0].Tile, make(map[int]uint64)
	for _, one := range before.Tiles {
		framesBefore[one.Tile] = one.Frames
	}
	begun, gap, frames := time.Now(), time.Duration(0), uint64(0)
	v.ChooseCamera(second)
	last := time.Now()
	rig.Eventually(v.t, slowLimit, func() error {
		s, err := v.w.snapshot()
		if err != nil {
			return fmt.Errorf("%s: %v", "the window showing the other camera", err)
		}
		if people := s.people(); len(people) != 1 || people[0].Tile != tile {
			v.t.Fatalf("the window shows %+v", s)
		}
		for _, one := range s.Tiles {
			switch {
			case one.Tile != tile && one.Frames > framesBefore[one.Tile]:
				v.t.Fatalf("the window shows a second picture: %+v", s)
			case one.Tile == tile && one.Frames != frames:
				gap, frames, last = max(gap, time.Since(last)), one.Frames, time.Now()
			}
		}
		var seen []int
		err = v.w.eval(fmt.Sprintf("ewindow.colour(%d, 0.1, 0.1)", tile), &seen)
		if err != nil || len(seen) != 3 {
			return fmt.Errorf("%s: %v", "the window showing the other camera", fmt.Sprint(seen, err))
		}
		green, blue := seen[1] > seen[0]+60 && seen[1] > seen[2]+60, seen[2] > seen[0]+60 && seen[2] > seen[1]+60
		return rig.Check(second && green || !second && blue, "the window showing the other camera", fmt.Sprint(seen))
	})
	v.t.Logf("the window shows the new camera %.1f s after the guest began to choose it; the longest gap between two pictures was %.1f s", time.Since(begun).Seconds(), gap.Seconds())
	if gap > gapLimit {
		v.t.Errorf("the guest's picture froze for %v", gap)
	}
	if tiles, err := v.Remotes(); err != nil || len(tiles) != 1 {
		v.t.Errorf("the guest sees %+v, %v", tiles, err)
	}
}

// awaitSize waits until the guest receives the window's picture in a size for which fits returns true, and has decoded 20 more frames of it.
func (v visitor) awaitSize(what string, fits func(tile element.Tile) bool) (tile element.Tile) {
	v.t.Helper()
	begun, since := time.Now(), math.NaN()
	rig.Eventually(v.t, slowLimit, func() error {
		tiles, err := v.Remotes()
		if err != nil || len(tiles) != 1 || !tiles[0].Video || !fits(tiles[0]) {
			since = math.NaN()
			return fmt.Errorf("%s: %v", what, fmt.Sprintf("%+v %v; the small picture may take %.0f bit/s", tiles, err, v.w.small()))
		}
		tile = tiles[0]
		if math.IsNaN(since) {
			since = tile.Decoded
		}
		return rig.Check(tile.Decoded > since+20, what, fmt.Sprintf("%+v", tile))
	})
	v.t.Logf("%s after %.1f s: %.0f×%.0f in a tile of %.0f×%.0f", what, time.Since(begun).Seconds(), tile.FrameWidth, tile.FrameHeight, tile.Width, tile.Height)
	return v.awaitPicture("red", slowLimit)
}

// small returns the bitrate limit of the window's small picture (its low simulcast layer) in bit/s. It returns 0 while the page does not
// encode that picture.
func (v *windowPage) small() (bps float64) {
	if err := v.eval("ewindow.snapshot().own.small", &bps); err != nil {
		return math.NaN()
	}
	return bps
}

// resizesElement makes the guest's browser window small and large again. The guest must receive the window's picture in the size that fits.
func (v visitor) resizesElement() {
	v.t.Helper()
	// On a busy machine the bandwidth estimate may be so low that the window sends no small picture beside the large one. The test pictures are
	// so simple that they never fill the line, so the estimate does not rise again. A new visit starts a new estimate.
	for range 2 {
		if v.w.small() > 0 {
			break
		}
		v.t.Log("the window sends no small picture: the test starts another visit")
		v.HangUp()
		v.awaitAlone(20 * time.Second)
		v.visit()
	}
	v.awaitSize("the large picture", func(tile element.Tile) bool { return tile.FrameWidth >= 640 })
	for _, size := range []struct {
		what          string
		width, height int
		fits          func(tile element.Tile) bool
	}{
		{"the small picture", 320, 220, func(tile element.Tile) bool { return tile.FrameWidth == 320 && tile.FrameHeight == 180 }},
		{"the large picture again", 1280, 720, func(tile element.Tile) bool { return tile.FrameWidth >= 640 }},
	} {
		if err := v.Resize(v.t.Context(), size.width, size.height); err != nil {
			v.t.Fatal(err)
		}
		v.awaitSize(size.what, size.fits)
		v.shot(size.what)
	}
}

// holdsPhoneUpright visits with a picture that is higher than wide. The window shows all of it, and not the third that fills its screen.
func (v visitor) holdsPhoneUpright() {
	v.t.Helper()
	v.Load(v.w.room, element.Start)
	v.Enter()
	rig.Eventually(v.t, slowLimit, func() error {
		var shown struct {
			Width, Height int
			Fit           string
		}
		err := v.w.eval(`(() => {
			const video = document.querySelector(".picture[data-role=main] video");
			return video ? { width: video.videoWidth, height: video.videoHeight, fit: getComputedStyle(video).objectFit } : {};
		})()`, &shown)
		return rig.Check(err == nil && shown.Height > shown.Width && shown.Width > 0 && shown.Fit == "contain", "the window showing the whole picture", fmt.Sprintf("%+v %v", shown, err))
	})
	v.awaitPicture("red", slowLimit)
	v.w.shot("upright")
	v.HangUp()
	v.awaitAlone(20 * time.Second)
}
