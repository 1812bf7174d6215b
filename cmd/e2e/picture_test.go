//go:build full

package e2e_test

import (
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// pictureContent is what the middle of a picture shows.
type pictureContent struct {
	colour string // "red" or "blue" if it fills most of the middle, else ""
	bar    int    // position of the white bar in pixels from the left; -1 if there is none
}

func (s pictureContent) String() string { return fmt.Sprintf("%q with the bar at %d", s.colour, s.bar) }

// classify analyses the middle half of a picture.
func classify(picture image.Image) pictureContent {
	b := picture.Bounds()
	var red, blue, white, whiteSum, all int
	for y := b.Min.Y + b.Dy()/4; y < b.Max.Y-b.Dy()/4; y += 7 {
		for x := b.Min.X + b.Dx()/4; x < b.Max.X-b.Dx()/4; x += 7 {
			r, g, bl, _ := picture.At(x, y).RGBA()
			r, g, bl = r>>8, g>>8, bl>>8
			all++
			switch {
			case r > 200 && g > 200 && bl > 200:
				white++
				whiteSum += x
			case r > 160 && g < 120 && bl < 120:
				red++
			case bl > 160 && r < 130 && g < 150:
				blue++
			}
		}
	}
	s := pictureContent{bar: -1}
	if white*50 > all {
		s.bar = whiteSum / white
	}
	switch rest := all - white; {
	case red*10 > rest*7:
		s.colour = "red"
	case blue*10 > rest*7:
		s.colour = "blue"
	}
	return s
}

// screenContent takes a screenshot and classifies it. The tests use screenshots because they show what people see.
func (v *windowPage) screenContent() (pictureContent, error) {
	path := filepath.Join(v.folder, "screen.png")
	if err := v.Screenshot(v.t.Context(), path); err != nil {
		return pictureContent{}, err
	}
	file, err := os.Open(path)
	if err != nil {
		return pictureContent{}, err
	}
	defer file.Close()
	picture, err := png.Decode(file)
	if err != nil {
		return pictureContent{}, err
	}
	return classify(picture), nil
}

// awaitMoving waits until the page shows a moving picture of a colour: screenshots with the bar at three different positions.
func (v *windowPage) awaitMoving(colour string, limit time.Duration) {
	v.t.Helper()
	positions := make(map[int]bool)
	rig.Eventually(v.t, limit, func() error {
		s, err := v.screenContent()
		if err != nil {
			return fmt.Errorf("%s: %v", v.name+" seeing "+colour+" move", err)
		}
		if s.colour != colour {
			clear(positions)
			return fmt.Errorf("%s: %v", v.name+" seeing "+colour+" move", s)
		}
		if s.bar >= 0 {
			positions[s.bar/20] = true
		}
		return rig.Check(len(positions) >= 3, v.name+" seeing "+colour+" move", fmt.Sprint(s, " at ", len(positions), " positions; ", v.state()))
	})
}

// awaitNot waits until the page no longer shows a colour.
func (v *windowPage) awaitNot(colour string, limit time.Duration) {
	v.t.Helper()
	rig.Eventually(v.t, limit, func() error {
		s, err := v.screenContent()
		return rig.Check(err == nil && s.colour != colour, v.name+" not seeing "+colour, fmt.Sprint(s, err))
	})
}

func TestClassify(t *testing.T) {
	for _, test := range []struct {
		s    source
		want string
	}{{munichSource, "red"}, {dresdenSource, "blue"}} {
		picture := image.NewYCbCr(image.Rect(0, 0, 320, 180), image.YCbCrSubsampleRatio420)
		fill := func(plane []byte, value byte) {
			for i := range plane {
				plane[i] = value
			}
		}
		fill(picture.Y, test.s.y)
		fill(picture.Cb, test.s.u)
		fill(picture.Cr, test.s.v)
		if got := classify(picture); got.colour != test.want || got.bar != -1 {
			t.Errorf("%s is classified as %v", test.want, got)
		}
		for y := range 180 {
			for x := 150; x < 190; x++ {
				picture.Y[y*picture.YStride+x] = 235
				picture.Cb[y/2*picture.CStride+x/2], picture.Cr[y/2*picture.CStride+x/2] = 128, 128
			}
		}
		if got := classify(picture); got.colour != test.want || got.bar < 160 || got.bar > 180 {
			t.Errorf("%s with a bar is classified as %v", test.want, got)
		}
	}
	if got := classify(image.NewGray(image.Rect(0, 0, 100, 100))); got.colour != "" {
		t.Errorf("black is classified as %v", got)
	}
}
