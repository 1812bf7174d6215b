//go:build full

package kiosk_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/bridge/kiosk"
	"multifactorymodel.org/ewindow/bridge/window"
	"multifactorymodel.org/ewindow/cmd/e2e/browser"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// capture is the process of Chromium that reads cameras. The fake camera of tests lives there, too. A stopped process is a camera that hangs: no
// picture comes any more, no track ends, and an attempt to open the camera anew gets no answer.
const capture = "video_capture.mojom.VideoCaptureService"

// counting is a script that counts the attempts to open the camera, and keeps the tracks. Nothing makes Chromium mute the tracks of its fake camera,
// so the script decides which tracks say that they are muted.
const counting = `(() => {
	window.opened = window.answered = 0;
	window.tracks = [];
	window.muted = () => false;
	const media = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
	navigator.mediaDevices.getUserMedia = async (...args) => {
		opened++;
		const stream = await media(...args).finally(() => { answered++; });
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

// lateTracksStopped waits until the browser has answered each attempt to open the camera, and all of the tracks that it gave are stopped.
func (s *screen) lateTracksStopped() {
	s.t.Helper()
	rig.Eventually(s.t, 30*time.Second, func() error {
		opened, answered, tracks := s.number("opened"), s.number("answered"), s.number("tracks.length")
		live := s.number(`tracks.filter((t) => t.readyState === "live").length`)
		return rig.Check(answered == opened && tracks >= 4 && live == 0, "the late tracks, stopped", []int{opened, answered, tracks, live})
	})
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
	page.lateTracksStopped()
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
	page.lateTracksStopped()
	page.pictures(r)
	page.reported(r, "on")
	page.do(`navigator.mediaDevices.dispatchEvent(new Event("devicechange"))`)
	page.until("the camera", func(s snapshot) bool { return s.Own.Video == "live" && !s.Own.StandIn.Video && !s.Own.StandIn.Audio })
}

// writeSound makes a file for the fake microphone: seconds of zeros, and then seconds of a tone. The browser repeats it.
func writeSound(t *testing.T, zeros, tone int) string {
	t.Helper()
	const rate = 48000
	data := make([]byte, 44, 44+2*rate*(zeros+tone))
	copy(data, "RIFF....WAVEfmt ")
	for i, v := range map[int]uint32{16: 16, 20: 1 | 1<<16, 24: rate, 28: 2 * rate, 32: 2 | 16<<16, 40: uint32(2 * rate * (zeros + tone)), 4: uint32(36 + 2*rate*(zeros+tone))} {
		binary.LittleEndian.PutUint32(data[i:], v)
	}
	copy(data[36:], "data")
	for i := range rate * (zeros + tone) {
		var sample int16
		if i >= rate*zeros {
			sample = int16(16000 * math.Sin(2*math.Pi*440*float64(i)/rate) * math.Sin(2*math.Pi*4*float64(i)/rate))
		}
		data = binary.LittleEndian.AppendUint16(data, uint16(sample))
	}
	path := filepath.Join(t.TempDir(), "sound.wav")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// listening is a script that lets the page listen to its microphone ten times as often, and counts how often it has.
const listening = `(() => {
	const every = window.setInterval;
	window.setInterval = (f, ms, ...more) => every(f, ms === 600 ? 60 : ms, ...more);
	window.looks = 0;
	const get = AnalyserNode.prototype.getFloatTimeDomainData;
	AnalyserNode.prototype.getFloatTimeDomainData = function (...args) { looks++; return get.apply(this, args); };
})()`

// TestSilentMicrophone has a microphone that gives nothing but zeros, and then a tone.
func TestSilentMicrophone(t *testing.T) {
	browser.Need(t)
	r := newPageRig(t)
	r.open = aloneState()
	page := openPage(t, r, browser.Options{Script: listening, Audio: writeSound(t, 40, 8)})
	page.click()
	const note = `document.querySelector("#alone .note").textContent`
	const says = "Vom Mikrofon kommt kein Ton. Ist es eingeschaltet und eingesteckt?"
	page.text(note, says)
	if n := page.number("looks"); n < 100 {
		t.Errorf("it is named after %d looks", n)
	}
	page.text(status, says+" Offen. Noch ist niemand da. Öffnet ein anderes Fenster, seht ihr euch gleich.")
	texts := map[string]string{
		"de": says,
		"en": "No sound comes from the microphone. Is it switched on and plugged in?",
		"it": "Dal microfono non arriva nessun suono. È acceso e collegato?",
	}
	for _, size := range [][2]int{{1920, 1080}, {1080, 1920}} {
		if err := page.Resize(t.Context(), size[0], size[1]); err != nil {
			t.Fatal(err)
		}
		for language, says := range texts {
			for _, screen := range []window.Screen{"alone", "ajar", "opening", "visit", "lost", "ringing"} {
				state := visitState()
				state.Screen, state.Languages = screen, []string{language}
				r.SetState(state)
				page.text(`[...document.querySelectorAll("section.screen:not([hidden]) :is(.note, .notes p)")].map((e) => e.textContent).join("").includes(`+
					fmt.Sprintf("%q", says)+`) + ewindow.snapshot().screen`, "true"+string(screen))
				var wrong []string
				if err := page.eval(tooBig, &wrong); err != nil || len(wrong) > 0 {
					t.Errorf("%s in %s, %v: %q, %v", screen, language, size, wrong, err)
				}
			}
		}
	}
	r.SetState(aloneState())
	page.text(note, says)
	shoot(t, page, "silent-alone")
	rig.Eventually(t, time.Minute, func() error {
		var text string
		err := page.eval(note, &text)
		return rig.Check(err == nil && text == "", "no note when the tone comes", text)
	})
	if m := cameras(r.served); !slices.Equal(m, []string{"on"}) {
		t.Errorf("a silent microphone is reported as %q", m)
	}
	// Shut, the window listens to nothing.
	page.key("Escape", "Escape", 27)
	page.until("the shut screen", func(s snapshot) bool { return s.Screen == "shut" && s.Own.Audio == "none" })
	steady(t, "the end of listening", func() uint64 { return uint64(page.number("looks")) })
}
