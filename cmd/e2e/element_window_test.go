//go:build full

package e2e_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/unstable"
	"multifactorymodel.org/ewindow/cmd/e2e/element"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// ghostLimit is within what nobody may be shown any more who has gone without a word: delayed leaves take 18 s.
const ghostLimit = 25 * time.Second

// slowly bounds what takes two seconds on a machine that does nothing else, and screenshots of four browsers on one that does much.
const slowly = time.Minute

// openWindow is Munich's window, open and alone, with a page before it that shows red, and its room.
type openWindow struct {
	*viewer
	n     *demoNetwork
	admin *mautrix.Client
	room  string
}

// TestElementVisitsWindow is people with Element who look in at an open window: the kiosk answers by itself, both see and hear each
// other, and what either does shows on the other side. Each part begins and ends with the window alone.
func TestElementVisitsWindow(t *testing.T) {
	element.Need(t)
	n := startDemo(t, t.TempDir())
	n.await("know each other", 60*time.Second)
	w := &openWindow{n.look(0, munichSource, 640, 360), n, n.admin(), n.windowRooms()[1]} // each kiosk names the other's
	n.open(w.viewer)
	anna := n.person(0, "anna", dresdenSource, 640, 360)
	n.admit(w.admin, anna)
	anna.JoinRoom(w.room)

	t.Run("calls", func(t *testing.T) {
		v := w.within(t, anna)
		v.calls(v.showsSmall)
	})
	t.Run("switches camera and microphone", func(t *testing.T) { w.within(t, anna).switches() })
	t.Run("comes again", func(t *testing.T) { w.within(t, anna).comesAgain() })
	owner := n.owner(0)
	t.Run("is forbidden to call", func(t *testing.T) { w.within(t, anna).forbidden(owner) })
	t.Run("is thrown out", func(t *testing.T) { w.within(t, anna).thrownOut(owner) })
	t.Run("is not confirmed", func(t *testing.T) {
		ben := &person{t: t, name: "ben", account: n.account(0, "ben"), source: dresdenSource}
		ben.open(640, 360, element.Options{Unsigned: true})
		n.admit(w.admin, ben)
		ben.JoinRoom(w.room)
		w.within(t, ben).getsNoKey()
		w.within(t, anna).awaitNotice("ben", "nicht bestätigt") // ben's own device can't read it either
	})
	t.Run("is on another homeserver", func(t *testing.T) {
		carla := &person{t: t, name: "carla", account: n.account(1, "carla"), source: dresdenSource}
		carla.open(640, 360, element.Options{})
		w.invite(t, carla)
		w.within(t, carla).calls()
	})
	t.Run("is there when the room is upgraded", func(t *testing.T) {
		v := w.within(t, anna)
		v.upgraded(owner)
		w.room = v.w.room
	})
	t.Run("vanishes", func(t *testing.T) { w.within(t, anna).vanishes() }) // for good
}

// open presses a window's button and waits until the window is open. A page that takes seconds to hear its state takes no press before.
func (n *demoNetwork) open(v *viewer) {
	n.t.Helper()
	rig.Eventually(n.t, 30*time.Second, func() error {
		var name string
		err := v.eval("ewindow.snapshot().state?.name ?? ''", &name)
		return rig.Check(name == v.name, v.name+"'s state", fmt.Sprint(name, err))
	})
	v.button()
	n.await(v.name+" is open", 30*time.Second)
	rig.Eventually(n.t, 30*time.Second, func() error { return rig.Check(v.live() == 2, v.name+"'s camera", v.live()) })
}

// invite brings somebody of another homeserver into the window's room: an admin goes in and invites them. By the Space alone Dendrite
// lets nobody in whose server has somebody in the room already.
func (w *openWindow) invite(t *testing.T, p *person) {
	t.Helper()
	room := id.RoomID(w.room)
	if _, err := w.admin.JoinRoomByID(t.Context(), room); err != nil {
		t.Fatal(err)
	}
	// The kiosk gives an admin who has come in the power to invite.
	rig.Eventually(t, 30*time.Second, func() error {
		_, err := w.admin.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: id.UserID(p.User)})
		return rig.Check(err == nil, "the invitation", err)
	})
	p.JoinRoom(w.room, id.UserID(w.n.adminID()).Homeserver())
}

// shot takes a screenshot of the window, where EWINDOW_SHOTS names a folder for them.
func (w *openWindow) shot(name string) {
	page := person{Guest: &element.Guest{Page: w.Page}, name: w.name}
	page.shotTo(w.t, name)
}

// visitor is somebody who visits the window, in a test of its own.
type visitor struct {
	*person
	w *openWindow
	t *testing.T
}

// within makes a part's failures the part's own.
func (w *openWindow) within(t *testing.T, p *person) visitor {
	page, own := *w.viewer, *p
	page.t, own.t = t, t
	own.Guest = p.For(t)
	return visitor{&own, &openWindow{&page, w.n, w.admin, w.room}, t}
}

// visit goes into the call, and returns when both see each other move.
func (v visitor) visit() {
	v.t.Helper()
	v.Load(v.w.room, element.Start)
	v.enter()
}

// enter presses "join", waits for both pictures and prints when they came.
func (v visitor) enter() {
	v.t.Helper()
	before := v.w.decoded()
	v.Enter()
	var seen time.Time
	rig.Eventually(v.t, slowly, func() error {
		seen = time.Now()
		return rig.Check(v.w.decoded() > before, "the window decoding a frame", v.w.state())
	})
	times, first := v.first(slowly)
	v.t.Logf("%.2f s after %s's membership the window sees them, after %.2f s they see it, %.2f s after the click",
		seen.Sub(times.Sent).Seconds(), v.name, times.FirstFrame.Sub(times.Sent).Seconds(), first.Seconds())
	v.awaitPicture("red", slowly)
	v.w.awaitMoving("blue", slowly)
}

// awaitNobody waits until the window names nobody and shows no picture of a guest.
func (v visitor) awaitNobody(limit time.Duration) {
	v.t.Helper()
	rig.Eventually(v.t, limit, func() error {
		var people int
		err := v.w.eval("(({guests, peer}) => guests.length + (peer ? 1 : 0))(ewindow.snapshot().state)", &people)
		return rig.Check(err == nil && people == 0, "the window showing nobody", fmt.Sprint(people, err, v.w.screen(), v.w.state()))
	})
	v.w.awaitNot("blue", 5*time.Second)
}

// awaitAlone waits until the window shows nobody, waits for the next, and is in no call.
func (v visitor) awaitAlone(limit time.Duration) {
	v.t.Helper()
	v.awaitNobody(limit)
	rig.Eventually(v.t, limit, func() error { return rig.Check(v.w.screen() == "alone", "the window waiting", v.w.state()) })
	rig.Eventually(v.t, limit, func() error {
		members, err := v.w.inCall(v.t)
		return rig.Check(err == nil && len(members) == 0, "the call being empty", fmt.Sprint(members, err))
	})
}

// inCall is who is in the window's call by the room's state.
func (w *openWindow) inCall(t *testing.T) (users []id.UserID, err error) {
	// The admin sees what the network sees; the state may be asked for by members only.
	if _, err := w.admin.JoinRoomByID(t.Context(), id.RoomID(w.room)); err != nil {
		return nil, err
	}
	state, err := w.admin.State(t.Context(), id.RoomID(w.room))
	for _, e := range state[event.Type{Type: unstable.CallMember, Class: event.StateEventType}] {
		if len(e.Content.Raw) > 0 {
			users = append(users, e.Sender)
		}
	}
	return users, err
}

// calls is a whole visit, with what the visitor does in it.
func (v visitor) calls(does ...func()) {
	v.visit()
	v.awaitTone(munichSource.tone, slowly)
	v.w.awaitTone(dresdenSource.tone, slowly)
	if refused, err := v.Refused(); err != nil || len(refused) > 0 {
		v.t.Errorf("Element Call was refused %q, %v", refused, err)
	}
	v.shot("visit")
	v.w.shot("visit")
	for _, do := range does {
		do()
	}
	v.HangUp()
	v.awaitAlone(20 * time.Second)
}

// switches comes again with the camera off, and then switches camera and microphone on and off: nobody is watched who can't be seen.
func (v visitor) switches() {
	v.Load(v.w.room, element.Join)
	v.SetCamera(false)
	v.Enter()
	v.w.awaitPerson(v.name)
	v.awaitStill(30 * time.Second)
	v.w.awaitNot("blue", 0)
	v.awaitNotice(v.name, "Kamera ist aus")
	v.w.shot("came without a camera")
	v.SetCamera(true)
	v.seen("the camera is on")

	v.SetCamera(false)
	begun := time.Now()
	held := v.awaitStill(15 * time.Second)
	v.t.Logf("%.1f s after the guest's camera went off the last frame of the window came", held.Sub(begun).Seconds())
	if held.Sub(begun) > 7*time.Second { // five, what is under way, and a machine with much else to do
		v.t.Errorf("the window's picture went on for %v after the guest's camera was off", held.Sub(begun))
	}
	v.w.awaitNot("blue", 10*time.Second)
	rig.Eventually(v.t, slowly, func() error {
		tiles, err := v.Remotes()
		return rig.Check(err == nil && len(tiles) == 1 && !tiles[0].Video, "Element covering the window's tile", fmt.Sprintf("%+v %v", tiles, err))
	})
	v.w.shot("camera off")
	v.shot("camera off")
	v.SetCamera(true)
	v.seen("the camera is on again")

	v.w.awaitTone(dresdenSource.tone, slowly)
	v.SetMic(false)
	v.w.awaitSilence(dresdenSource.tone, 20*time.Second)
	v.awaitTone(munichSource.tone, slowly)
	v.SetMic(true)
	v.w.awaitTone(dresdenSource.tone, slowly)
	v.choosesCameras()
	v.HangUp()
	v.awaitAlone(20 * time.Second)
}

// awaitNotice waits until the window has told the room something, in the first of its languages, once.
func (v visitor) awaitNotice(parts ...string) {
	v.t.Helper()
	window := v.w.n.Windows[0]
	rig.Eventually(v.t, slowly, func() error {
		all, err := v.told(v.w.room, window.userID())
		found := 0
		for _, text := range all.notices {
			if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(text, part) }) {
				found++
			}
		}
		return rig.Check(found == 1, fmt.Sprintf("a notice with %q", parts), fmt.Sprint(all, err))
	})
}

// seen waits until both see each other move, and prints how long that took.
func (v visitor) seen(since string) {
	v.t.Helper()
	begun := time.Now()
	v.awaitPicture("red", slowly)
	v.w.awaitMoving("blue", slowly)
	v.t.Logf("both see each other move %.1f s after %s", time.Since(begun).Seconds(), since)
}

// awaitPerson waits until the page names somebody who is in the call, with or without a picture.
func (w *openWindow) awaitPerson(name string) {
	w.t.Helper()
	rig.Eventually(w.t, 30*time.Second, func() error {
		var names []string
		err := w.eval("(({guests, peer}) => [...guests, ...(peer ? [peer] : [])].map(({name}) => name))(ewindow.snapshot().state)", &names)
		return rig.Check(slices.Contains(names, name), name+" on the page", fmt.Sprint(names, err))
	})
}

// vanishes is a browser that is gone from one moment to the next. The membership goes by the delayed leave, the window from the call some
// seconds later.
func (v visitor) vanishes() {
	v.visit()
	v.Kill()
	begun := time.Now()
	v.w.awaitNot("blue", ghostLimit)
	v.t.Logf("the picture of a guest whose browser was killed was gone after %.1f s", time.Since(begun).Seconds())
	v.awaitNobody(time.Until(begun.Add(ghostLimit)))
	v.t.Logf("nobody was shown after %.1f s", time.Since(begun).Seconds())
	v.awaitAlone(20 * time.Second)
}

// getsNoKey is a guest whose owner has not confirmed the device: it gets the window's frames like everybody, and can't read one. The page says why.
func (v visitor) getsNoKey() {
	v.Call(v.w.room, element.Start)
	var traffic element.Traffic
	rig.Eventually(v.t, slowly, func() error {
		var err error
		traffic, err = v.Traffic()
		return rig.Check(err == nil && traffic.VideoBytes > 30000 && traffic.AudioBytes > 3000, "the window's encrypted frames", fmt.Sprintf("%+v %v", traffic, err))
	})
	tones, err := v.Listen()
	if err != nil || slices.ContainsFunc(tones, func(tone element.Tone) bool { return math.Abs(tone.Hz-munichSource.tone) < 15 && tone.DB > -70 }) {
		v.t.Errorf("a guest without the window's key hears %v, %v", tones, err)
	}
	if traffic, err = v.Traffic(); err != nil || traffic.Video > 0 {
		v.t.Errorf("a guest without the window's key has decoded %+v, %v", traffic, err)
	}
	v.t.Logf("%+v", traffic)
	rig.Eventually(v.t, 10*time.Second, func() error {
		var said string
		err := v.w.eval(`document.querySelector("section.screen:not([hidden]) .withheld").innerText`, &said)
		return rig.Check(err == nil && strings.Contains(said, v.name+" sieht und hört uns nicht: Das Gerät ist nicht bestätigt."), "the reason on the page", fmt.Sprint(said, err, v.w.state()))
	})
	v.shot("no key")
	v.w.shot("guest without key")
	v.HangUp()
	v.awaitAlone(20 * time.Second)
}

// awaitStill waits until no frame has come for a while, and returns when the last one came.
func (v visitor) awaitStill(limit time.Duration) (last time.Time) {
	v.t.Helper()
	const still = 2 * time.Second
	count := math.NaN()
	rig.Eventually(v.t, limit, func() error {
		traffic, err := v.Traffic()
		if err == nil && traffic.Video != count {
			count, last = traffic.Video, time.Now()
		}
		return rig.Check(err == nil && time.Since(last) > still, "the window's picture being held back", fmt.Sprintf("%+v %v", traffic, err))
	})
	return last
}

// shot takes a screenshot of Element, where EWINDOW_SHOTS names a folder for them.
func (v visitor) shot(name string) { v.shotTo(v.t, name) }
