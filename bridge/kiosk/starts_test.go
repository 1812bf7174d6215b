//go:build full

package kiosk_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/bridge/kiosk"
	"multifactorymodel.org/ewindow/cmd/e2e/browser"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// faultState stops the camera without a press.
func faultState() kiosk.State {
	s := aloneState()
	s.Screen, s.Camera = "fault", false
	return s
}

// TestPictureStarts makes the connection to the page again and again, as restarts of a kiosk do, while tracks come and go and limits change. Whatever
// the order, in the end each picture that is wanted comes. EWINDOW_REPEAT says how often this is done.
func TestPictureStarts(t *testing.T) {
	browser.Need(t)
	times := 20
	if n, err := strconv.Atoi(os.Getenv("EWINDOW_REPEAT")); err == nil {
		times = n
	}
	r := newPageRig(t)
	page := openPage(t, r, browser.Options{Script: peers})
	page.click()
	page.until("the running camera", func(s snapshot) bool { return s.Own.Video == "live" && s.Media })
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	for i := range times {
		var done []string
		step := func(what string, f func()) {
			done = append(done, what)
			f()
			if random.IntN(3) == 0 {
				pause := time.Duration(random.IntN(60)) * time.Millisecond
				done = append(done, pause.String())
				<-time.After(pause)
			}
		}
		limit := func() {
			bps, small := 1_700_000*random.IntN(2), 150_000*random.IntN(2)
			step(fmt.Sprint(bps, " ", small), func() { r.SendBitrate(bps, small) })
		}
		state := func() {
			switch random.IntN(4) {
			case 0:
				step("alone", func() { r.SetState(aloneState()) })
			case 1: // the camera stops, and starts again
				step("fault", func() { r.SetState(faultState()) })
			default:
				step("visit", func() { r.SetState(visitState()) })
			}
		}
		if random.IntN(2) == 0 {
			step("alone", func() { r.SetState(aloneState()) })
		}
		sdp, err := r.media.Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		step("offer", func() { r.SendOffer(1, sdp) })
		for range random.IntN(8) {
			if random.IntN(2) == 0 {
				limit()
			} else {
				state()
			}
		}
		small := 150_000 * random.IntN(2)
		if random.IntN(2) == 0 {
			step("visit", func() { r.SetState(visitState()) })
			step(fmt.Sprint("1700000 ", small), func() { r.SendBitrate(1_700_000, small) })
		} else {
			step(fmt.Sprint("1700000 ", small), func() { r.SendBitrate(1_700_000, small) })
			step("visit", func() { r.SetState(visitState()) })
		}
		large, little := r.video.Load(), r.small.Load()
		rig.Eventually(t, 15*time.Second, func() error {
			if r.video.Load() > large+5 && (small == 0 || r.small.Load() > little+5) {
				return rig.Check(true, "", nil)
			}
			var text string
			err := page.eval("describe()", &text)
			return rig.Check(false, fmt.Sprintf("the pictures of connection %d", i), fmt.Sprintf("%v: %d %d\n%s %v", done, r.video.Load()-large, r.small.Load()-little, text, err))
		})
	}
}
