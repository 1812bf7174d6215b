//go:build full

package e2e_test

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"multifactorymodel.org/ewindow/cmd/e2e/element"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// talksWithoutCamera lets a guest call without a camera. They neither hear the window nor are heard there until somebody at the window lets them talk by
// a press. Then sound goes both ways, and no picture. With a camera both see each other.
func (v visitor) talksWithoutCamera() {
	v.Call(v.w.room, element.StartVoice)
	v.w.awaitVoice(v.name)
	v.w.shot("may talk")
	v.w.awaitSilence(dresdenSource.tone, slowLimit)
	tones, err := v.Listen()
	if err != nil || slices.ContainsFunc(tones, func(tone element.Tone) bool { return math.Abs(tone.Hz-munichSource.tone) < 15 && tone.DB > -70 }) {
		v.t.Errorf("before the press the guest hears %v, %v", tones, err)
	}
	if traffic, err := v.Traffic(); err != nil || traffic.Video > 0 {
		v.t.Errorf("before the press the guest has decoded %+v, %v", traffic, err)
	}
	v.w.press("t", "KeyT", 84)
	v.awaitTone(munichSource.tone, slowLimit)
	v.w.awaitTone(dresdenSource.tone, slowLimit)
	rig.Eventually(v.t, slowLimit, func() error {
		var said, level string
		err := v.w.eval(`document.querySelector("#held").innerText`, &said)
		if err == nil {
			err = v.w.eval(`document.querySelector("#level").style.getPropertyValue("--level")`, &level)
		}
		return rig.Check(err == nil && strings.Contains(said, v.name+" spricht ohne Bild") && strings.Contains(said, "Ihr hört einander. Von hier wird kein Bild gesendet.") && level > "0.1", "the card", fmt.Sprintf("%q %q %v", said, level, err))
	})
	v.w.shot("talks")
	v.shot("talks")
	traffic, err := v.Traffic()
	if err != nil || traffic.Video > 0 {
		v.t.Errorf("the guest without a camera has decoded %+v, %v", traffic, err)
	}
	v.SetCamera(true)
	v.seen("the camera is on")
	v.HangUp()
	v.awaitAlone(slowLimit)
}

// awaitVoice waits until people at the window may let a guest talk.
func (w *openWindow) awaitVoice(name string) {
	w.t.Helper()
	rig.Eventually(w.t, slowLimit, func() error {
		var asked string
		err := w.eval("ewindow.snapshot().state.voice?.name ?? ''", &asked)
		return rig.Check(err == nil && asked == name, "the question whether "+name+" may talk", fmt.Sprint(asked, err, w.state()))
	})
}
