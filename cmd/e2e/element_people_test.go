//go:build full

package e2e_test

import (
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/homeserver"
	"multifactorymodel.org/ewindow/cmd/e2e/element"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// person is somebody who uses Element, with an account on one of the demonstration's homeservers.
type person struct {
	*element.Guest
	t       testing.TB
	name    string
	account element.Account
	source  source
	home    int // which window's homeserver
}

// registerAccount registers an account on a window's homeserver.
func (n *demoNetwork) registerAccount(i int, name string) element.Account {
	n.t.Helper()
	base, password := fmt.Sprintf("http://127.0.0.1:%d", n.Windows[i].Matrix), "password of "+name
	user, err := homeserver.Register(n.t.Context(), nil, base, n.Windows[i].Registration, name, password, false)
	if err != nil {
		n.t.Fatal(err)
	}
	return element.Account{Homeserver: fmt.Sprintf("http://127.0.0.1:%d", n.Windows[i].Local), User: user.String(), Password: password}
}

// person registers an account on a window's homeserver and opens Element with it.
func (n *demoNetwork) person(i int, name string, s source, width, height int) *person {
	n.t.Helper()
	p := &person{t: n.t, name: name, account: n.registerAccount(i, name), source: s, home: i}
	p.open(width, height, element.Options{Script: spy})
	return p
}

// open opens Element in a new browser, with a new device.
func (p *person) open(width, height int, o element.Options) {
	p.t.Helper()
	o.Video, o.Audio = p.source.write(p.t, p.name, width, height)
	p.Guest = element.Open(p.t, p.account, o)
	p.account.Recovery = p.Recovery
}

// inviteToSpace invites people into the network's Space with the admin's account, and they accept. Members of the Space may join the windows'
// rooms.
func (n *demoNetwork) inviteToSpace(admin *mautrix.Client, people ...*person) {
	n.t.Helper()
	for _, p := range people {
		if _, err := admin.InviteUser(n.t.Context(), id.RoomID(n.Space), &mautrix.ReqInviteUser{UserID: id.UserID(p.User)}); err != nil {
			n.t.Fatal(err)
		}
		p.JoinRoom(n.Space, id.UserID(n.adminID()).Homeserver())
	}
}

func (n *demoNetwork) adminID() string {
	return fmt.Sprintf("@%s:localhost:%d", n.Admin, n.Windows[0].Public)
}

// openFocus starts the hubs again with a focus that serves every Matrix user, and so also calls outside of the network.
func (n *demoNetwork) openFocus() {
	n.t.Helper()
	for i, w := range n.Windows {
		n.configure(i, func(text string) string { return strings.Replace(text, "  focus:\n", "  focus:\n    open: true\n", 1) })
		n.kill(n.hub(i))
		rig.Eventually(n.t, time.Minute, func() error {
			answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/_matrix/client/versions", w.Local))
			if err != nil {
				return err
			}
			defer answer.Body.Close()
			return rig.Check(answer.StatusCode == http.StatusOK, w.Name+"'s hub", answer.Status)
		})
	}
}

// callRoom creates an encrypted room for people, in which everybody may join calls, and returns its ID.
func (n *demoNetwork) callRoom(admin *mautrix.Client, people ...*person) string {
	n.t.Helper()
	users := make([]id.UserID, len(people))
	for i, p := range people {
		users[i] = id.UserID(p.User)
	}
	room := rig.CallRoom(n.t, admin, users...)
	for _, p := range people {
		p.JoinRoom(room.String(), id.UserID(n.adminID()).Homeserver())
	}
	return room.String()
}

// awaitPicture waits until Element Call shows somebody else's picture in a colour, and has decoded more than 20 frames after that. It returns
// the tile.
func (p *person) awaitPicture(colour string, limit time.Duration) (tile element.Tile) {
	p.t.Helper()
	first := make(map[string]float64) // by participant: frames that were decoded when the colour was first seen
	rig.Eventually(p.t, limit, func() error {
		tiles, err := p.Remotes()
		for _, tile = range tiles {
			if !tile.Video || tile.Decoded == 0 || !tile.Shown {
				continue
			}
			if picture, err := p.Picture(tile); err != nil || classify(picture).colour != colour {
				continue
			}
			if before, ok := first[tile.Participant]; !ok {
				first[tile.Participant] = tile.Decoded
			} else if tile.Decoded > before+20 {
				return rig.Check(true, p.name+" seeing "+colour, nil)
			}
		}
		return fmt.Errorf("%s: %v", p.name+" seeing "+colour, fmt.Sprintf("%+v %v\n%s", tiles, err, p.Trace()))
	})
	return tile
}

// awaitTone waits until this person's Element plays a tone from somebody else, loud enough to hear.
func (p *person) awaitTone(hz float64, limit time.Duration) {
	p.t.Helper()
	rig.Eventually(p.t, limit, func() error {
		tones, err := p.Listen()
		return rig.Check(slices.ContainsFunc(tones, func(t element.Tone) bool { return math.Abs(t.Hz-hz) < 15 && t.DB > -70 }), fmt.Sprintf("%s hearing %.0f Hz", p.name, hz), fmt.Sprint(tones, err))
	})
}

// awaitSilence waits until the page no longer plays a tone. It needs two measurements in a row, because sound comes in pieces.
func (v *windowPage) awaitSilence(hz float64, limit time.Duration) {
	v.t.Helper()
	quiet := 0
	rig.Eventually(v.t, limit, func() error {
		var h heard
		err := v.eval("spy.listen()", &h)
		if quiet++; err != nil || math.Abs(h.Hz-hz) < 15 && h.DB > -70 {
			quiet = 0
		}
		return rig.Check(quiet >= 2, fmt.Sprintf("%s not hearing %.0f Hz", v.name, hz), fmt.Sprint(h, err))
	})
}

// awaitMembers waits until this person's Element sees number members in a room's call.
func (p *person) awaitMembers(room string, number int, limit time.Duration) {
	p.t.Helper()
	rig.Eventually(p.t, limit, func() error {
		members, err := p.Members(room)
		return rig.Check(err == nil && len(members) == number, fmt.Sprintf("%s seeing %d members in the call", p.name, number), fmt.Sprint(members, err))
	})
}

// first waits until this person's Element has decoded somebody else's first frame. after is the time from the click on "join" to that frame.
func (p *person) first(limit time.Duration) (times element.Times, after time.Duration) {
	p.t.Helper()
	rig.Eventually(p.t, limit, func() error {
		var err error
		times, err = p.Times()
		return rig.Check(!times.FirstFrame.IsZero(), p.name+"'s first frame", fmt.Sprintf("%+v %v %s", times, err, p.Trace()))
	})
	return times, times.FirstFrame.Sub(times.Clicked)
}

// TestElementCallsElement checks that the real Element Call works with these servers when no window is involved. Its times are the ones to
// compare a window with.
func TestElementCallsElement(t *testing.T) {
	element.Need(t)
	n := startDemo(t, t.TempDir())
	n.openFocus() // no window is in this call
	admin := n.admin()
	anna, ben := n.person(0, "anna", munichSource, 640, 360), n.person(0, "ben", dresdenSource, 640, 360)
	room := n.callRoom(admin, anna, ben)
	defer func() {
		if t.Failed() {
			for _, p := range []*person{anna, ben} {
				t.Logf("%s's console:\n%s", p.name, strings.Join(p.Console(), "\n"))
			}
		}
	}()
	anna.Call(room, element.Start)
	ben.Call(room, element.Join)
	click, err := ben.Times()
	if err != nil {
		t.Fatal(err)
	}
	_, joiner := ben.first(slowLimit)
	waiter, _ := anna.first(slowLimit)
	anna.awaitPicture("blue", slowLimit)
	ben.awaitPicture("red", slowLimit)
	anna.awaitTone(dresdenSource.tone, slowLimit)
	ben.awaitTone(munichSource.tone, slowLimit)
	t.Logf("after the joiner's click the joiner sees the waiter after %.1f s, the waiter sees the joiner after %.1f s",
		joiner.Seconds(), waiter.FirstFrame.Sub(click.Clicked).Seconds())
	ben.ShareScreen()
	anna.awaitPicture("red", slowLimit)
	ben.ShareScreen()
	if refused, err := anna.Refused(); err != nil || len(refused) > 0 {
		t.Errorf("Element Call was refused %q, %v", refused, err)
	}
	anna.HangUp()
	ben.awaitMembers(room, 1, 10*time.Second)
	ben.HangUp()
	anna.awaitMembers(room, 0, 10*time.Second)
}

// screenshotTo takes a screenshot if EWINDOW_SHOTS names a folder for it.
func (p *person) screenshotTo(t testing.TB, name string) {
	if folder := os.Getenv("EWINDOW_SHOTS"); folder != "" {
		if err := p.Screenshot(t.Context(), filepath.Join(folder, strings.NewReplacer("/", "-", " ", "-").Replace(t.Name()+"-"+p.name+"-"+name)+".png")); err != nil {
			t.Log(err)
		}
	}
}
