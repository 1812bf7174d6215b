//go:build full

package e2e_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
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
	if err := s.writeAudio(audio); err != nil {
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

// writeAudio makes ten seconds of a tone whose volume rises and falls four times a second. Browsers filter out a steady tone as noise.
func (s source) writeAudio(path string) error {
	const rate, seconds = 48000, 10
	samples := make([]int16, rate*seconds)
	for i := range samples {
		at := float64(i) / rate
		swell := 0.5 - 0.5*math.Cos(2*math.Pi*4*at)
		samples[i] = int16(16000 * swell * math.Sin(2*math.Pi*s.tone*at))
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	w := bufio.NewWriter(file)
	size := uint32(2 * len(samples))
	for _, part := range []any{
		[]byte("RIFF"), 36 + size, []byte("WAVEfmt "), uint32(16), uint16(1), uint16(1), uint32(rate), uint32(2 * rate), uint16(2),
		uint16(16), []byte("data"), size, samples,
	} {
		if err := binary.Write(w, binary.LittleEndian, part); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return file.Close()
}
