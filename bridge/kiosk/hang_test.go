//go:build full

package kiosk_test

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/bridge/kiosk"
	"multifactorymodel.org/ewindow/cmd/e2e/browser"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// capture is the process of Chromium that reads cameras. The fake camera of tests lives there, too. A stopped process is a camera that hangs: no
// picture comes any more, no track ends, and an attempt to open the camera anew gets no answer.
const capture = "video_capture.mojom.VideoCaptureService"

// counting is a script that counts the attempts to open the camera, and keeps the tracks. Nothing makes Chromium mute the tracks of its fake camera,
// so the script decides which tracks say that they are muted.
const counting = `(() => {
	window.opened = 0;
	window.tracks = [];
	window.muted = () => false;
	const media = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
	navigator.mediaDevices.getUserMedia = async (...args) => {
		opened++;
		const stream = await media(...args);
		for (const track of stream.getTracks()) {
			tracks.push(track);
			Object.defineProperty(track, "muted", { get: () => muted(track) });
		}
		return stream;
	};
})()`

// cameras are the reports about the camera, in order, after the first one: a page reports at once that its camera is off.
func cameras(w *served) (list []string) {
	for _, m := range w.got() {
		if m, ok := m.(kiosk.Camera); ok {
			list = append(list, m.State+m.Code)
		}
	}
	return list[min(1, len(list)):]
}

// number evaluates an expression in the page.
func (s *screen) number(expression string) int {
	s.t.Helper()
	var n int
	if err := s.eval(expression, &n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// do runs a statement in the page.
func (s *screen) do(statement string) {
	s.t.Helper()
	if err := s.eval("{"+statement+"}", nil); err != nil {
		s.t.Fatal(err)
	}
}

// hang stops the camera, or lets it go on.
func (s *screen) hang(signal syscall.Signal) {
	s.t.Helper()
	if n := s.Signal(capture, signal); n != 1 {
		s.t.Fatalf("%d processes read cameras", n)
	}
}

// reported waits until these are the reports about the camera.
func (s *screen) reported(r *pageRig, want ...string) {
	s.t.Helper()
	rig.Eventually(s.t, 30*time.Second, func() error {
		got := cameras(r.served)
		return rig.Check(slices.Equal(got, want), fmt.Sprintf("the reports %q", want), got)
	})
}

// pictures waits until the page sends new pictures.
func (s *screen) pictures(r *pageRig) {
	s.t.Helper()
	before := r.video.Load()
	rig.Eventually(s.t, 30*time.Second, func() error {
		n := r.video.Load()
		return rig.Check(n > before+10, "new pictures", []uint64{before, n})
	})
}

// TestHungCamera lets the camera hang: for a moment, until people are told, muted, for many attempts, right at opening, and until the window is shut.
func TestHungCamera(t *testing.T) {
	browser.Need(t)
	r := newPageRig(t)
	page := openPage(t, r, browser.Options{Script: counting})
	page.click()
	page.pictures(r)
	page.reported(r, "on")
	// A browser without these counters would watch nothing.
	if n := page.number("tracks[0].stats.deliveredFrames"); n == 0 {
		t.Error("the browser counts no pictures")
	}

	page.hang(syscall.SIGSTOP)
	<-time.After(time.Second)
	page.hang(syscall.SIGCONT)
	page.pictures(r)
	if n := page.number("opened"); n != 1 {
		t.Errorf("a camera that hung for a moment was opened %d times", n)
	}

	page.hang(syscall.SIGSTOP)
	page.reported(r, "on", "faultno_picture")
	if n := page.number("opened"); n != 2 {
		t.Errorf("the camera was opened %d times when people were told", n)
	}
	steady(t, "the end of picture and sound", func() uint64 { return r.video.Load() + r.audio.Load() })
	page.until("the dropped tracks", func(s snapshot) bool { return s.Own.Video == "none" && s.Own.Audio == "none" })
	page.hang(syscall.SIGCONT)
	page.reported(r, "on", "faultno_picture", "on")
	page.pictures(r)

	// Opening a muted camera anew helps at once here, so nobody is told.
	page.do(`{ const before = tracks.length; muted = (track) => tracks.indexOf(track) < before; }`)
	opened := page.number("opened")
	rig.Eventually(t, 30*time.Second, func() error {
		n := page.number("opened")
		return rig.Check(n == opened+1, "another attempt", []int{opened, n})
	})
	page.pictures(r)
	page.reported(r, "on", "faultno_picture", "on")

	// Here it does not help. However many attempts there are, it is one fault.
	page.do(`muted = () => true`)
	rig.Eventually(t, 60*time.Second, func() error {
		n := page.number("opened")
		return rig.Check(n == opened+4, "three more attempts", []int{opened, n})
	})
	page.reported(r, "on", "faultno_picture", "on", "faultno_picture")
	page.do(`muted = () => false`)
	page.reported(r, "on", "faultno_picture", "on", "faultno_picture", "on")
	page.pictures(r)

	// A camera whose tracks end is opened anew at once.
	opened = page.number("opened")
	page.hang(syscall.SIGKILL)
	rig.Eventually(t, 30*time.Second, func() error {
		n := page.number("opened")
		return rig.Check(n > opened, "another attempt", []int{opened, n})
	})
	page.pictures(r)
}

// TestHungAtOpening opens a window whose camera hangs already. The window is shut before the camera goes on, and no track may then stay open.
func TestHungAtOpening(t *testing.T) {
	browser.Need(t)
	r := newPageRig(t)
	page := openPage(t, r, browser.Options{Script: counting})
	page.click()
	page.pictures(r)
	page.key("Escape", "Escape", 27)
	page.reported(r, "on", "off")
	page.hang(syscall.SIGSTOP)
	page.click()
	page.reported(r, "on", "off", "faultno_picture")
	page.key("Escape", "Escape", 27)
	page.reported(r, "on", "off", "faultno_picture", "off")
	page.hang(syscall.SIGCONT)
	rig.Eventually(t, 30*time.Second, func() error {
		n, live := page.number("tracks.length"), page.number(`tracks.filter((t) => t.readyState === "live").length`)
		return rig.Check(n == 4 && live == 0, "the late tracks, stopped", []int{n, live})
	})
	// Nothing looks at the camera of a shut window, and the next opening is as any other.
	page.click()
	page.pictures(r)
	page.reported(r, "on", "off", "faultno_picture", "off", "on")
}

// TestHungStandIn: where stand-ins are wanted, they replace a camera that hangs, and never count as hung themselves.
func TestHungStandIn(t *testing.T) {
	browser.Need(t)
	r := newPageRig(t)
	r.open.TestPattern = true
	page := openPage(t, r, browser.Options{Script: counting})
	page.click()
	page.pictures(r)
	page.hang(syscall.SIGSTOP)
	page.until("the stand-ins", func(s snapshot) bool { return s.Own.StandIn.Video && s.Own.StandIn.Audio })
	page.pictures(r)
	page.hang(syscall.SIGCONT)
	// The camera's late tracks are stopped, and the test card stays until a device comes or the window is opened again.
	rig.Eventually(t, 30*time.Second, func() error {
		n, live := page.number("tracks.length"), page.number(`tracks.filter((t) => t.readyState === "live").length`)
		return rig.Check(n == 4 && live == 0, "the late tracks, stopped", []int{n, live})
	})
	page.pictures(r)
	page.reported(r, "on")
	page.do(`navigator.mediaDevices.dispatchEvent(new Event("devicechange"))`)
	page.until("the camera", func(s snapshot) bool { return s.Own.Video == "live" && !s.Own.StandIn.Video && !s.Own.StandIn.Audio })
}
