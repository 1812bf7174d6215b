//go:build full

package e2e_test

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/element"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// measureTime is how long BenchmarkVisit measures a running visit.
const measureTime = 20 * time.Second

// BenchmarkDemo starts a demonstration whose data already exists, and opens both pages as soon as they are served. It measures the time from
// the command to the first picture on both pages.
func BenchmarkDemo(b *testing.B) {
	folder := b.TempDir()
	n := startDemo(b, folder)
	n.await("know each other", 60*time.Second)
	n.stop()
	var took []float64
	for b.Loop() {
		n := startDemo(b, folder, "--open")
		munich, dresden := n.openPage(0, munichSource.at(benchmarkRate), 640, 360), n.openPage(1, dresdenSource.at(benchmarkRate), 640, 360)
		rig.Eventually(b, time.Minute, func() error {
			m, d := munich.decoded(), dresden.decoded()
			return rig.Check(m > 0 && d > 0, "both pictures", fmt.Sprint(m, d))
		})
		took = append(took, time.Since(n.started).Seconds())
		b.Logf("%.1f s to both pictures; the demo, started at %s, printed:\n%s", took[len(took)-1], n.started.Format("15:04:05.0"), strings.Join(n.printed(), "\n"))
		munich.Close()
		dresden.Close()
		n.stop()
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(took), "s-to-pictures")
}

// BenchmarkFirstPicture opens and shuts one window five times while the other stays open. The cameras have the same size as in
// BenchmarkElement. It measures the time from the key press to the first decoded picture on each side.
func BenchmarkFirstPicture(b *testing.B) {
	munich, dresden, _ := openedMunich(b, 640, 360)
	var opener, waiter []float64
	for b.Loop() {
		for range 5 {
			before := [2]float64{dresden.decoded(), munich.decoded()}
			var first [2]time.Duration
			begun := time.Now()
			dresden.button()
			rig.Eventually(b, 30*time.Second, func() error {
				for i, v := range []*windowPage{dresden, munich} {
					if first[i] == 0 && v.decoded() > before[i] {
						first[i] = time.Since(begun)
					}
				}
				return rig.Check(first[0] != 0 && first[1] != 0, "both pictures", fmt.Sprint(first, dresden.state(), munich.state()))
			})
			opener, waiter = append(opener, first[0].Seconds()), append(waiter, first[1].Seconds())
			dresden.button()
			rig.Eventually(b, 30*time.Second, func() error { return rig.Check(munich.screen() == "alone", "the end of the visit", munich.screen()) })
		}
	}
	b.Logf("opener %.2f s, waiter %.2f s", opener, waiter)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(opener), "s-first-picture-opener")
	b.ReportMetric(median(waiter), "s-first-picture-waiter")
}

// openedMunich starts a demonstration, opens both pages, and opens Munich's window.
func openedMunich(b *testing.B, width, height int) (munich, dresden *windowPage, n *demoNetwork) {
	b.Helper()
	n = startDemo(b, b.TempDir())
	n.await("know each other", 60*time.Second)
	munich, dresden = n.openPage(0, munichSource.at(benchmarkRate), width, height), n.openPage(1, dresdenSource.at(benchmarkRate), width, height)
	munich.button()
	rig.Eventually(b, 20*time.Second, func() error { return rig.Check(munich.live() == 2, "Munich's camera", munich.live()) })
	n.await("Munich is open", 10*time.Second)
	return munich, dresden, n
}

// BenchmarkVisit measures frame rate, CPU, memory and glass-to-glass delay during a visit with two 720p30 cameras.
func BenchmarkVisit(b *testing.B) {
	munich, dresden, n := openedMunich(b, 1280, 720)
	dresden.button()
	rig.Eventually(b, 60*time.Second, func() error { return rig.Check(munich.decoded() > 60, "the visit", munich.decoded()) })
	pid := findProcesses(n.kiosk(0)...)
	if len(pid) != 1 {
		b.Fatalf("%d processes are Munich's kiosk", len(pid))
	}
	for b.Loop() {
		frames, cpu, begun := munich.decoded(), cpuTime(b, pid[0]), time.Now()
		<-time.After(measureTime)
		seconds := time.Since(begun).Seconds()
		b.ReportMetric((munich.decoded()-frames)/seconds, "frames/s")
		b.ReportMetric(100*(cpuTime(b, pid[0])-cpu).Seconds()/seconds, "%-of-a-core")
	}
	b.ReportMetric(0, "ns/op")
	late := glassToGlass(b, dresden, munich, 10*time.Second)
	b.ReportMetric(late[len(late)/2], "ms-glass-to-glass")
	b.ReportMetric(late[len(late)*99/100], "ms-glass-to-glass-p99")
	b.ReportMetric(munich.number("height()"), "lines")
	b.ReportMetric(resident(b, pid[0]), "MB-resident")
	for name, words := range map[string][]string{"livekit": n.livekit(), "dendrite": n.dendrite(0)} {
		if pids := findProcesses(words...); len(pids) == 1 {
			b.ReportMetric(resident(b, pids[0]), "MB-"+name)
		}
	}
}

// spiedPage is a page in which the script spy runs.
type spiedPage interface {
	eval(expression string, into any) error
}

// eval evaluates an expression in Element Call's frame, where the script spy runs, too.
func (p *person) eval(expression string, into any) error {
	return p.Ask(element.Frame+"."+expression, into)
}

// glassToGlass measures how many milliseconds each picture took from one side's camera to the other side's screen. It returns them sorted. The
// position of the white bar in a picture serves as its time code; it repeats after a second.
func glassToGlass(b testing.TB, from, to spiedPage, long time.Duration) (late []float64) {
	b.Helper()
	var taken, shown [][2]float64
	var all sync.WaitGroup
	var errs [2]error
	all.Go(func() { errs[0] = from.eval(fmt.Sprintf("spy.taken(%d)", long.Milliseconds()), &taken) })
	all.Go(func() { errs[1] = to.eval(fmt.Sprintf("spy.shown(%d)", long.Milliseconds()), &shown) })
	all.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		b.Fatal(err)
	}
	for _, picture := range shown {
		best, off := -1.0, 0.02 // from one picture to the next the bar moves by 0.029
		for _, original := range taken {
			age := picture[0] - original[0]
			if d := math.Abs(picture[1] - original[1]); age >= 0 && age < 900 && d < off {
				best, off = age, d
			}
		}
		if best >= 0 {
			late = append(late, best)
		}
	}
	if len(late) < 30 {
		b.Fatalf("only %d of the %d pictures shown were found among the %d pictures taken", len(late), len(shown), len(taken))
	}
	slices.Sort(late)
	return late
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

// cpuTime returns the CPU time that a process has used so far, in user and kernel mode. It returns 0 when pid is 0.
func cpuTime(b testing.TB, pid int) time.Duration {
	b.Helper()
	if pid == 0 {
		return 0
	}
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		b.Fatal(err)
	}
	// proc_pid_stat(5): the name in parentheses may contain spaces. utime and stime are fields 14 and 15, in hundredths of a second.
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// resident returns a process's resident memory in MB.
func resident(b *testing.B, pid int) float64 {
	b.Helper()
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "VmRSS:")
	kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	return kb / 1024
}
