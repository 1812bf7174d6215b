//go:build full

package paths_test

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/homeserver"
	"multifactorymodel.org/ewindow/cmd/e2e/element"
	"multifactorymodel.org/ewindow/cmd/e2e/paths"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

const benchWidth, benchHeight = 1280, 720

// end is one of two browsers that see each other.
type end interface{ received() received }

// caller is a person with the real Element Call.
type caller struct {
	*element.Guest
	t testing.TB
}

func (c caller) received() (r received) {
	c.t.Helper()
	if err := c.Ask(element.Frame+".received()", &r); err != nil {
		c.t.Fatal(err)
	}
	return r
}

// startCallers opens Element in the network of each side. Both people are in one room.
func (v *network) startCallers(b *testing.B) (callers [2]caller, room string) {
	b.Helper()
	camera, microphone := writeCamera(b, benchWidth, benchHeight), writeMicrophone(b)
	local := &http.Client{Transport: &http.Transport{DialContext: v.Hub.DialContext}, Timeout: 20 * time.Second}
	var accounts [2]element.Account
	var users []id.UserID
	for i, name := range []string{"ben", "carla"} {
		accounts[i] = element.Account{Homeserver: publicURL, User: name, Password: rand.Text()}
		if _, err := homeserver.Register(b.Context(), local, dendrite, registration, name, accounts[i].Password, false); err != nil {
			b.Fatal(err)
		}
		users = append(users, id.NewUserID(name, serverName))
	}
	room = rig.CallRoom(b, v.admin, users...).String()
	for i, account := range accounts {
		callers[i] = caller{element.Open(b, account, element.Options{
			Video: camera, Audio: microphone, Script: lineSpy, Host: v.Sides[i].Kiosk,
		}), b}
		callers[i].JoinRoom(room)
	}
	return callers, room
}

// line is a row of the benchmark.
type line struct {
	name     string
	up, down int // bit/s; 0: as much as comes
	jitter   time.Duration
}

func (r line) set(l *paths.Link) {
	l.SetRate(r.up, r.down, 200*time.Millisecond)
	l.SetJitter(r.jitter)
}

// BenchmarkLine compares a visit of two windows with a call of two people with Element, on the same poor lines of one side, in the same network. It
// prints what comes in the first and in the second ten seconds, and then on a good line again.
func BenchmarkLine(b *testing.B) {
	element.Need(b)
	rig.Exclusive(b)
	v := startNetwork(b, world{})
	pages := v.startBrowsers(b, benchWidth, benchHeight)
	callers, room := v.startCallers(b)
	near := v.Sides[0]
	for b.Loop() {
		for _, row := range []line{
			{name: "1 Mbit/s down", down: 1_000_000}, {name: "300 kbit/s up", up: 300_000}, {name: "both", up: 300_000, down: 1_000_000},
			{name: "jitter of 100 ms", jitter: 100 * time.Millisecond},
		} {
			row.set(near.Link)
			begun := time.Now()
			openBoth(b, pages)
			b.Logf("%s, window: both see each other after %.1f s", row.name, time.Since(begun).Seconds())
			row.measure(b, near, [2]end{pages[0], pages[1]})
			for _, p := range pages {
				p.button()
				p.await(openLimit, "the shut window", "document.querySelector('#window').dataset.screen === 'shut'")
			}
			row.set(near.Link)
			begun = time.Now()
			callers[1].Call(room, element.Start)
			callers[0].Call(room, element.Join)
			for _, c := range callers {
				rig.Eventually(b, time.Minute, func() error { return rig.Check(c.received().Pictures > 0, "a picture in Element", nil) })
			}
			b.Logf("%s, Element: both see each other after %.1f s", row.name, time.Since(begun).Seconds())
			row.measure(b, near, [2]end{callers[0], callers[1]})
			for _, c := range callers {
				c.HangUp()
			}
		}
	}
	b.ReportMetric(0, "ns/op")
}

// measure prints what comes on the line, and then on a good one.
func (r line) measure(b *testing.B, near *paths.Side, ends [2]end) {
	b.Helper()
	for range 2 {
		period(b, near, ends, 10*time.Second)
	}
	line{}.set(near.Link)
	b.Log("the line is good:")
	for range 2 {
		period(b, near, ends, 8*time.Second)
	}
}

// period prints what comes in some time.
func period(b *testing.B, near *paths.Side, ends [2]end, long time.Duration) {
	b.Helper()
	var before, after [2]received
	for i, e := range ends {
		before[i] = e.received()
	}
	up, down := near.Link.Bytes()
	lost, traffic := near.Link.Lost(), near.Traffic(b)
	<-time.After(long)
	for i, e := range ends {
		after[i] = e.received()
	}
	up2, down2 := near.Link.Bytes()
	seconds := long.Seconds()
	var text strings.Builder
	fmt.Fprintf(&text, "  %s: %.2f Mbit/s up, %.2f down, %d packets lost", near.Traffic(b).Since(traffic), float64(8*(up2-up))/seconds/1e6,
		float64(8*(down2-down))/seconds/1e6, near.Link.Lost()-lost)
	for i, where := range []string{"here", "there"} {
		a, z := before[i], after[i]
		fmt.Fprintf(&text, "; %s %.1f pictures a second of %.0f lines, %.1f %% of the sound concealed", where, (z.Pictures-a.Pictures)/seconds, z.Height,
			100*(z.Concealed-a.Concealed)/max(1, z.Samples-a.Samples))
	}
	b.Log(text.String())
}
