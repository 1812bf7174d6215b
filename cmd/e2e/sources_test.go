//go:build full

package e2e_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"multifactorymodel.org/ewindow/cmd/e2e/browser"
)

// source is what a fake camera shows and what a fake microphone records.
type source struct {
	y, u, v byte    // colour of the picture, in BT.601
	rate    int     // pictures per second
	tone    float64 // Hz
}

var (
	munichSource  = source{y: 110, u: 90, v: 220, rate: testRate, tone: 440}  // red
	dresdenSource = source{y: 100, u: 200, v: 100, rate: testRate, tone: 880} // blue
)

// testRate is the cameras' rate in tests, in pictures per second. At 30, three browsers take more than the two cores that the tests run on: their
// bandwidth estimates fall to nothing and every step takes longer. The benchmarks measure with benchmarkRate.
const (
	testRate      = 10
	benchmarkRate = 30
)

// at returns a source with another rate.
func (s source) at(rate int) source {
	s.rate = rate
	return s
}

// write makes the two files that Chromium plays in a loop instead of using a camera and a microphone.
func (s source) write(t testing.TB, name string, width, height int) (video, audio string) {
	t.Helper()
	video, audio = filepath.Join(t.TempDir(), name+".y4m"), filepath.Join(t.TempDir(), name+".wav")
	if err := s.writeVideo(video, width, height); err != nil {
		t.Fatal(err)
	}
	if err := browser.WriteTone(audio, s.tone); err != nil {
		t.Fatal(err)
	}
	return video, audio
}

// writeVideo makes one second of a plain colour with a white bar that moves from left to right.
func (s source) writeVideo(path string, width, height int) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	w := bufio.NewWriterSize(file, 1<<20)
	fmt.Fprintf(w, "YUV4MPEG2 W%d H%d F%d:1 Ip A1:1 C420jpeg\n", width, height, s.rate)
	luma := make([]byte, width*height)
	chroma := [2][]byte{make([]byte, width*height/4), make([]byte, width*height/4)}
	bar := width / 8
	for frame := range s.rate {
		left := frame * (width - bar) / s.rate
		for y := range height {
			for x := range width {
				if x >= left && x < left+bar {
					luma[y*width+x] = 235
				} else {
					luma[y*width+x] = s.y
				}
			}
		}
		for i, plain := range [2]byte{s.u, s.v} {
			for y := range height / 2 {
				for x := range width / 2 {
					if 2*x >= left && 2*x < left+bar {
						chroma[i][y*width/2+x] = 128
					} else {
						chroma[i][y*width/2+x] = plain
					}
				}
			}
		}
		fmt.Fprint(w, "FRAME\n")
		for _, plane := range [][]byte{luma, chroma[0], chroma[1]} {
			if _, err := w.Write(plane); err != nil {
				return err
			}
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return file.Close()
}
