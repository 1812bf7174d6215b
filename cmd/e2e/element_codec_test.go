//go:build full

package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/element"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

const (
	// steadyTime is how long a guest must see the window without a break, and breakLimit how long a break may be on a busy machine. A window that
	// sees nobody sends its picture for two seconds every ten.
	steadyTime = 11 * time.Second
	breakLimit = 4 * time.Second
)

// TestElementCodecs lets people whose Element sends other codecs than VP8 visit an open window, one by one and then together. Both sides see each
// other all the time. Who wants to send AV1, which windows don't show, sends VP8: the hub offers no AV1.
func TestElementCodecs(t *testing.T) {
	element.Need(t)
	n := startDemo(t, t.TempDir())
	n.await("know each other", 60*time.Second)
	w := &openWindow{n.openPage(0, munichSource, 640, 360), n, n.admin(), n.windowRooms()[1]} // Munich's room, as Dresden's kiosk lists it
	n.open(w.windowPage)
	var people []*person
	for _, guest := range []struct{ name, codec, sends string }{{"vera", "vp9", "video/VP9"}, {"hugo", "h264", "video/H264"}, {"ada", "av1", "video/VP8"}} {
		p := &person{t: t, name: guest.name, account: n.registerAccount(0, guest.name), source: dresdenSource}
		p.open(640, 360, element.Options{Codec: guest.codec})
		n.inviteToSpace(w.admin, p)
		p.JoinRoom(w.room)
		people = append(people, p)
		t.Run(guest.codec, func(t *testing.T) {
			v := w.within(t, p)
			v.visit()
			v.w.awaitCodecs(guest.sends)
			v.steady()
			v.shot("visit")
			v.w.shot("visit")
			v.HangUp()
			v.awaitAlone(20 * time.Second)
		})
	}
	t.Run("together", func(t *testing.T) {
		first, second := w.within(t, people[0]), w.within(t, people[1])
		first.visit()
		second.Call(w.room, element.Join)
		first.w.awaitMovingTiles(2)
		first.w.awaitCodecs("video/H264", "video/VP9")
		for _, v := range []visitor{first, second} {
			v.awaitTiles("blue", "red")
		}
		first.w.shot("both")
		first.HangUp()
		second.steady()
		second.HangUp()
		second.awaitAlone(20 * time.Second)
		all, err := second.sentByKiosk(w.room, n.Windows[0].userID())
		// On a busy machine a guest's picture may come so late that they are told to switch their camera on.
		if err != nil || strings.Contains(strings.Join(all.notices, " "), "media_quality.video_codec") {
			t.Errorf("the room was told %q, %v", all.notices, err)
		}
	})
}

// steady watches for a while that the window's picture comes to the guest without a break.
func (v visitor) steady() {
	v.t.Helper()
	begun, last, longest, count := time.Now(), time.Now(), time.Duration(0), 0.0
	rig.Eventually(v.t, steadyTime+slowLimit, func() error {
		traffic, err := v.Traffic()
		longest = max(longest, time.Since(last))
		if err == nil && traffic.Video > count {
			count, last = traffic.Video, time.Now()
		}
		return rig.Check(time.Since(begun) > steadyTime, "the end of the watch", err)
	})
	v.t.Logf("the longest break of the window's picture was %.1f s", longest.Seconds())
	if longest > breakLimit {
		v.t.Errorf("the window's picture was away for %v", longest)
	}
}

// awaitCodecs waits until the page decodes pictures in exactly these codecs.
func (w *openWindow) awaitCodecs(want ...string) {
	w.t.Helper()
	rig.Eventually(w.t, slowLimit, func() error {
		var codecs []string
		err := w.eval("spy.codecs()", &codecs)
		slices.Sort(codecs)
		return rig.Check(err == nil && slices.Equal(codecs, want), fmt.Sprintf("pictures in %q", want), fmt.Sprint(codecs, err))
	})
}

// awaitMovingTiles waits until the page names a number of people, all with pictures that move.
func (w *openWindow) awaitMovingTiles(number int) {
	w.t.Helper()
	first := make(map[int]uint64)
	rig.Eventually(w.t, slowLimit, func() error {
		s, err := w.snapshot()
		moving := 0
		for _, p := range s.people() {
			for _, tile := range s.Tiles {
				if tile.Tile != p.Tile {
					continue
				}
				if before, ok := first[p.Tile]; !ok {
					first[p.Tile] = tile.Frames
				} else if tile.Frames > before+20 {
					moving++
				}
			}
		}
		return rig.Check(err == nil && moving == number && len(s.people()) == number, fmt.Sprintf("%d moving pictures", number), fmt.Sprintf("%+v %v", s, err))
	})
}
