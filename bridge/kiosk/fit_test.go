//go:build full

package kiosk_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/browser"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// shown is how the page shows the main picture.
type shown struct {
	// Fit is CSS's object-fit. Ground says that there is a ground behind the picture, Light how bright its middle is, from 0 to 255.
	Fit    string
	Ground bool
	Light  int
	// Width and Height are the picture's own, PlaceWidth and PlaceHeight those of its place.
	Width, Height, PlaceWidth, PlaceHeight float64
}

const showsMain = `(() => {
	const figure = document.querySelector(".picture[data-role=main]"), video = figure?.querySelector("video"), ground = figure?.querySelector("canvas");
	if (!video) return {};
	const pixel = ground.getContext("2d").getImageData(ground.width / 2, ground.height / 2, 1, 1).data;
	return { fit: getComputedStyle(video).objectFit, ground: getComputedStyle(ground).display !== "none", light: Math.max(pixel[0], pixel[1], pixel[2]),
		width: video.videoWidth, height: video.videoHeight, placeWidth: video.clientWidth, placeHeight: video.clientHeight };
})()`

// TestFit: a picture loses a quarter at most, whatever its shape and that of the screen, also when the shape of the screen changes. If it would lose more,
// it is shown whole, on a ground that is made of it.
func TestFit(t *testing.T) {
	browser.Need(t)
	for size, whole := range map[[2]int]bool{{1920, 1080}: false, {1440, 1080}: false, {1280, 1024}: true, {1080, 1920}: true} { // of the screen
		t.Run(fmt.Sprintf("%dx%d", size[0], size[1]), func(t *testing.T) {
			r := newPageRig(t)
			page := openPage(t, r, browser.Options{Width: size[0], Height: size[1] + browserBars})
			r.SetState(visitState())
			r.feed(t, 0)
			rig.Eventually(t, 20*time.Second, func() error {
				var s shown
				if err := page.eval(showsMain, &s); err != nil {
					return err
				}
				if s.Width == 0 || s.PlaceWidth == 0 {
					return fmt.Errorf("nothing is shown: %+v", s)
				}
				want := "cover"
				if whole {
					want = "contain"
				}
				return rig.Check(s.Fit == want && s.Ground == whole && (!whole || s.Light > 20), "the picture fits", s)
			})
			settled(t, page)
			shoot(t, page, fmt.Sprintf("fit-%dx%d", size[0], size[1]))
		})
	}
}

// TestCut compares what a picture loses with what everybody can work out.
func TestCut(t *testing.T) {
	browser.Need(t)
	page := openPage(t, newPageRig(t), browser.Options{})
	for _, c := range []struct {
		picture, place [2]int
		want           float64
	}{
		{[2]int{1280, 720}, [2]int{1920, 1080}, 0},
		{[2]int{640, 480}, [2]int{1920, 1080}, 0.25},
		{[2]int{1280, 720}, [2]int{400, 300}, 0.25},
		{[2]int{360, 640}, [2]int{1920, 1080}, 1 - 81.0/256},
		{[2]int{1280, 720}, [2]int{1080, 1920}, 1 - 81.0/256},
		{[2]int{100, 100}, [2]int{200, 100}, 0.5},
	} {
		var got float64
		err := page.eval(fmt.Sprintf(`import("/fit.js").then(({ cut }) => cut({ width: %d, height: %d }, { width: %d, height: %d }))`,
			c.picture[0], c.picture[1], c.place[0], c.place[1]), &got)
		if err != nil || math.Abs(got-c.want) > 1e-9 {
			t.Errorf("a picture of %v in %v loses %v, want %v; %v", c.picture, c.place, got, c.want, err)
		}
	}
}
