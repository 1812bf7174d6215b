//go:build full

package e2e_test

import (
	"fmt"
	"math"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/element"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// gapLimit is how long a guest's picture may stand still while the camera is another.
const gapLimit = 3 * time.Second

// choosesCameras is a visit in which the guest takes another camera and then the first again.
func (v visitor) choosesCameras() {
	v.choosesCamera(true)
	v.choosesCamera(false)
}

// choosesCamera is the choice of one: the window shows what that one sees, in the same place and soon.
func (v visitor) choosesCamera(second bool) {
	v.t.Helper()
	before, err := v.w.slots()
	if err != nil || len(before.people()) != 1 {
		v.t.Fatalf("%+v, %v", before, err)
	}
	slot, were := before.people()[0].Slot, make(map[int]uint64)
	for _, one := range before.Slots {
		were[one.Slot] = one.Frames
	}
	begun, gap, frames := time.Now(), time.Duration(0), uint64(0)
	v.ChooseCamera(second)
	last := time.Now()
	rig.Eventually(v.t, slowly, func() error {
		s, err := v.w.slots()
		if err != nil {
			return fmt.Errorf("%s: %v", "the window showing the other camera", err)
		}
		if people := s.people(); len(people) != 1 || people[0].Slot != slot {
			v.t.Fatalf("the window shows %+v", s)
		}
		for _, one := range s.Slots {
			switch {
			case one.Slot != slot && one.Frames > were[one.Slot]:
				v.t.Fatalf("the window shows a second picture: %+v", s)
			case one.Slot == slot && one.Frames != frames:
				gap, frames, last = max(gap, time.Since(last)), one.Frames, time.Now()
			}
		}
		var seen []int
		err = v.w.eval(fmt.Sprintf("ewindow.colour(%d, 0.1, 0.1)", slot), &seen)
		if err != nil || len(seen) != 3 {
			return fmt.Errorf("%s: %v", "the window showing the other camera", fmt.Sprint(seen, err))
		}
		green, blue := seen[1] > seen[0]+60 && seen[1] > seen[2]+60, seen[2] > seen[0]+60 && seen[2] > seen[1]+60
		return rig.Check(second && green || !second && blue, "the window showing the other camera", fmt.Sprint(seen))
	})
	v.t.Logf("%.1f s after the guest began to choose another camera the window shows it, after %.1f s without a picture", time.Since(begun).Seconds(), gap.Seconds())
	if gap > gapLimit {
		v.t.Errorf("the guest's picture stood still for %v", gap)
	}
	if tiles, err := v.Remotes(); err != nil || len(tiles) != 1 {
		v.t.Errorf("the guest sees %+v, %v", tiles, err)
	}
}

// awaitSize waits until the guest gets the window's picture in a size that fits, and goes on getting it.
func (v visitor) awaitSize(what string, fits func(tile element.Tile) bool) (tile element.Tile) {
	v.t.Helper()
	begun, since := time.Now(), math.NaN()
	rig.Eventually(v.t, slowly, func() error {
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
	return v.awaitPicture("red", slowly)
}

// small is what a window's small picture may take, in bit/s; 0 when it is not made.
func (v *viewer) small() (bps float64) {
	if err := v.eval("ewindow.snapshot().own.small", &bps); err != nil {
		return math.NaN()
	}
	return bps
}

// showsSmall is a visit in which the guest's window gets small and large again: it gets the window's picture in the size that it is shown at.
func (v visitor) showsSmall() {
	v.t.Helper()
	// A machine that was too busy for a while is taken for a line without room for a small picture beside the large one, and pictures as plain
	// as these never show that there is more. A next visit begins anew.
	for range 2 {
		if v.w.small() > 0 {
			break
		}
		v.t.Log("the window makes no small picture: another visit")
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
