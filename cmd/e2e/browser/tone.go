package browser

import (
	"bufio"
	"encoding/binary"
	"math"
	"os"
)

// WriteTone makes a wav file for [Options.Audio]: ten seconds of a tone of some Hz whose volume rises and falls four times a second. Browsers filter out a steady tone as noise.
func WriteTone(path string, hertz float64) error {
	const rate, seconds = 48000, 10
	samples := make([]int16, rate*seconds)
	for i := range samples {
		at := float64(i) / rate
		swell := 0.5 - 0.5*math.Cos(2*math.Pi*4*at)
		samples[i] = int16(16000 * swell * math.Sin(2*math.Pi*hertz*at))
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
