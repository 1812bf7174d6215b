//go:build full

package paths_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"multifactorymodel.org/ewindow/cmd/e2e/browser"
)

// A camera in a workshop shows much that moves, and noise in poor light. An encoder needs all of its bitrate for that.
const (
	cameraRate    = 30
	cameraSeconds = 2
	cameraNoise   = 16 // the brightest and the darkest noise of a pixel, of 255
)

// writeCamera makes the file that Chromium plays as its camera, in a loop: stripes that move over a soft background, with noise that is new in each
// picture.
func writeCamera(t testing.TB, cameraWidth, cameraHeight int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "camera.y4m")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	w := bufio.NewWriterSize(file, 1<<20)
	fmt.Fprintf(w, "YUV4MPEG2 W%d H%d F%d:1 Ip A1:1 C420jpeg\n", cameraWidth, cameraHeight, cameraRate)
	chance := rand.New(rand.NewPCG(1, 2))
	noise := make([]int8, 1<<16)
	for i := range noise {
		noise[i] = int8(chance.IntN(2*cameraNoise+1) - cameraNoise)
	}
	luma := make([]byte, cameraWidth*cameraHeight)
	chroma := make([]byte, cameraWidth*cameraHeight/4)
	for picture := range cameraSeconds * cameraRate {
		shift := picture * 2 * cameraWidth / (cameraSeconds * cameraRate)
		for y := range cameraHeight {
			from := chance.IntN(len(noise))
			for x := range cameraWidth {
				at := (x + shift + y/2) % cameraWidth
				value := 90 + at*60/cameraWidth
				if at/40%4 == 0 {
					value += 60
				}
				luma[y*cameraWidth+x] = byte(value + int(noise[(from+x)&(len(noise)-1)]))
			}
		}
		fmt.Fprint(w, "FRAME\n")
		for _, plane := range [][]byte{luma, chroma, chroma} {
			if _, err := w.Write(plane); err != nil {
				t.Fatal(err)
			}
			for i := range chroma {
				chroma[i] = byte(110 + i%(cameraWidth/2)/16)
			}
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return path
}

// writeMicrophone makes the file that Chromium plays as its microphone.
func writeMicrophone(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "microphone.wav")
	if err := browser.WriteTone(path, 440); err != nil {
		t.Fatal(err)
	}
	return path
}
