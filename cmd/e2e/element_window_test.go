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

// staleMemberLimit is how soon nobody may show a stale member, that is one who lost the connection without leaving. Delayed leaves take 18 s.
const staleMemberLimit = 25 * time.Second

// slowLimit is the time limit for steps that take two seconds on an idle machine. Four browsers and their screenshots make it slow.
const slowLimit = time.Minute

// openWindow is Munich's window with its page and its room. It is open and in no call, and its camera shows red.
type openWindow struct {
	*windowPage
	n     *demoNetwork
	admin *mautrix.Client
	room  string
}

// TestElementVisitsWindow lets people with Element visit an open window. The kiosk answers by itself, both sides see and hear each other, and
// what one side does shows on the other. Each subtest begins and ends with the window open and in no call.
func TestElementVisitsWindow(t *testing.T) {
	element.Need(t)
	n := startDemo(t, t.TempDir())
	n.await("know each other", 60*time.Second)
	w := &openWindow{n.openPage(0, munichSource, 640, 360), n, n.admin(), n.windowRooms()[1]} // Munich's room, as Dresden's kiosk lists it
	n.open(w.windowPage)
	anna := n.person(0, "anna", dresdenSource, 640, 360)
	n.inviteToSpace(w.admin, anna)
	anna.JoinRoom(w.room)

	t.Run("calls", func(t *testing.T) {
		v := w.within(t, anna)
		v.calls(v.resizesElement)
	})
	t.Run("switches camera and microphone", func(t *testing.T) { w.within(t, anna).switchesCameraAndMicrophone() })
	t.Run("talks without a camera", func(t *testing.T) { w.within(t, anna).talksWithoutCamera() })
	t.Run("rejoins", func(t *testing.T) { w.within(t, anna).rejoins() })
	owner := n.owner(0)
	t.Run("calls are forbidden, guest is kicked", func(t *testing.T) {
		v := w.within(t, anna)
		v.callsForbidden(owner)
		v.kicked(owner)
	})
	t.Run("has an unverified device", func(t *testing.T) {
		ben := &person{t: t, name: "ben", account: n.registerAccount(0, "ben"), source: dresdenSource}
		ben.open(640, 360, element.Options{Unsigned: true})
		n.inviteToSpace(w.admin, ben)
		ben.JoinRoom(w.room)
		w.within(t, ben).deviceUnverified()
		w.within(t, anna).awaitNotice("ben", "nicht bestätigt") // Anna reads it: Ben's unverified device can't decrypt the notice
	})
	t.Run("is on another homeserver", func(t *testing.T) {
		carla := &person{t: t, name: "carla", account: n.registerAccount(1, "carla"), source: dresdenSource}
		carla.open(640, 360, element.Options{})
		w.invite(t, carla)
		w.within(t, carla).calls()
	})
	t.Run("holds a phone upright", func(t *testing.T) {
		dora := &person{t: t, name: "dora", account: n.registerAccount(0, "dora"), source: dresdenSource}
		dora.open(360, 640, element.Options{})
		n.inviteToSpace(w.admin, dora)
		dora.JoinRoom(w.room)
		w.within(t, dora).holdsPhoneUpright()
	})
	t.Run("uses Firefox", w.usesFirefox)
	t.Run("room is upgraded, browser is killed", func(t *testing.T) { // last, because Anna's browser stays dead
		v := w.within(t, anna)
		v.roomUpgraded(owner)
		v.browserKilled()
	})
}

// open presses a window's button and waits until the window is open. It first waits until the page has received its state: before that the page
// ignores the button.
func (n *demoNetwork) open(v *windowPage) {
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

// invite brings a person from another homeserver into the window's room: the admin joins the room and invites them. Membership in the Space is
// not enough there: Dendrite refuses a restricted join if a user of the same homeserver is already in the room.
func (w *openWindow) invite(t *testing.T, p *person) {
	t.Helper()
	room := id.RoomID(w.room)
	if _, err := w.admin.JoinRoomByID(t.Context(), room); err != nil {
		t.Fatal(err)
	}
	// When an admin joins, the kiosk gives the admin the power level to invite.
	rig.Eventually(t, 30*time.Second, func() error {
		_, err := w.admin.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: id.UserID(p.User)})
		return rig.Check(err == nil, "the invitation", err)
	})
	p.JoinRoom(w.room, id.UserID(w.n.adminID()).Homeserver())
}

// shot takes a screenshot of the window if EWINDOW_SHOTS names a folder for it.
func (w *openWindow) shot(name string) {
	page := person{Guest: &element.Guest{Page: w.Page}, name: w.name}
	page.screenshotTo(w.t, name)
}

// visitor is a person who visits the window, within one subtest.
type visitor struct {
	*person
	w *openWindow
	t *testing.T
}

// within returns copies of the window and the person that report failures to the subtest t.
func (w *openWindow) within(t *testing.T, p *person) visitor {
	page, own := *w.windowPage, *p
	page.t, own.t = t, t
	own.Guest = p.ForTest(t)
	return visitor{&own, &openWindow{&page, w.n, w.admin, w.room}, t}
}

// visit joins the window's call. It returns when both sides show the other's moving picture.
func (v visitor) visit() {
	v.t.Helper()
	v.Load(v.w.room, element.Start)
	v.enter()
}

// enter presses "join", waits for both pictures and logs when they came.
func (v visitor) enter() {
	v.t.Helper()
	before := v.w.decoded()
	v.Enter()
	var seen time.Time
	rig.Eventually(v.t, slowLimit, func() error {
		seen = time.Now()
		return rig.Check(v.w.decoded() > before, "the window decoding a frame", v.w.state())
	})
	times, first := v.first(slowLimit)
	v.t.Logf("first frame: on the window %.2f s after %s's membership; on their side %.2f s after it, %.2f s after the click",
		seen.Sub(times.Sent).Seconds(), v.name, times.FirstFrame.Sub(times.Sent).Seconds(), first.Seconds())
	v.awaitPicture("red", slowLimit)
	v.w.awaitMoving("blue", slowLimit)
}

// awaitNobody waits until the window names nobody and shows no guest's picture.
func (v visitor) awaitNobody(limit time.Duration) {
	v.t.Helper()
	rig.Eventually(v.t, limit, func() error {
		var people int
		err := v.w.eval("(({guests, peer}) => guests.length + (peer ? 1 : 0))(ewindow.snapshot().state)", &people)
		return rig.Check(err == nil && people == 0, "the window showing nobody", fmt.Sprint(people, err, v.w.screen(), v.w.state()))
	})
	v.w.awaitNot("blue", 5*time.Second)
}

// awaitAlone waits until the window is open, shows nobody and is in no call.
func (v visitor) awaitAlone(limit time.Duration) {
	v.t.Helper()
	v.awaitNobody(limit)
	rig.Eventually(v.t, limit, func() error { return rig.Check(v.w.screen() == "alone", "the window waiting", v.w.state()) })
	rig.Eventually(v.t, limit, func() error {
		members, err := v.w.inCall(v.t)
		return rig.Check(err == nil && len(members) == 0, "the call being empty", fmt.Sprint(members, err))
	})
}

// inCall returns the members of the window's call according to the room's state.
func (w *openWindow) inCall(t *testing.T) (users []id.UserID, err error) {
	// Only members of the room may read its state.
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

// calls is a whole visit. During it the visitor does the given things.
func (v visitor) calls(does ...func()) {
	v.visit()
	v.awaitTone(munichSource.tone, slowLimit)
	v.w.awaitTone(dresdenSource.tone, slowLimit)
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

// switchesCameraAndMicrophone joins with the camera off, and then switches camera and microphone on and off. While the guest's camera is off, the
// window holds back its own picture.
func (v visitor) switchesCameraAndMicrophone() {
	v.Load(v.w.room, element.Join)
	v.SetCamera(false)
	v.Enter()
	v.w.awaitPerson(v.name)
	v.awaitFrozen(30 * time.Second)
	v.w.awaitNot("blue", 0)
	v.awaitNotice(v.name, "Kamera ist aus")
	v.w.shot("came without a camera")
	v.SetCamera(true)
	v.seen("the camera is on")

	v.SetCamera(false)
	begun := time.Now()
	held := v.awaitFrozen(15 * time.Second)
	v.t.Logf("the window's last frame came %.1f s after the guest's camera went off", held.Sub(begun).Seconds())
	if held.Sub(begun) > 7*time.Second { // the five-second rule, and 2 s for frames on their way and a busy machine
		v.t.Errorf("the window sent its picture for %v after the guest's camera went off", held.Sub(begun))
	}
	v.w.awaitNot("blue", 10*time.Second)
	rig.Eventually(v.t, slowLimit, func() error {
		tiles, err := v.Remotes()
		return rig.Check(err == nil && len(tiles) == 1 && !tiles[0].Video, "Element covering the window's tile", fmt.Sprintf("%+v %v", tiles, err))
	})
	v.w.shot("camera off")
	v.shot("camera off")
	v.SetCamera(true)
	v.seen("the camera is on again")

	v.w.awaitTone(dresdenSource.tone, slowLimit)
	v.SetMic(false)
	v.w.awaitSilence(dresdenSource.tone, 20*time.Second)
	v.awaitTone(munichSource.tone, slowLimit)
	v.SetMic(true)
	v.w.awaitTone(dresdenSource.tone, slowLimit)
	v.choosesCameras()
	v.HangUp()
	v.awaitAlone(20 * time.Second)
}

// awaitNotice waits until the window has sent exactly one notice to the room that contains all parts. Notices are in the window's first language,
// German.
func (v visitor) awaitNotice(parts ...string) {
	v.t.Helper()
	window := v.w.n.Windows[0]
	rig.Eventually(v.t, slowLimit, func() error {
		all, err := v.sentByKiosk(v.w.room, window.userID())
		found := 0
		for _, text := range all.notices {
			if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(text, part) }) {
				found++
			}
		}
		return rig.Check(found == 1, fmt.Sprintf("a notice with %q", parts), fmt.Sprint(all, err))
	})
}

// seen waits until both sides show the other's moving picture, and logs how long that took.
func (v visitor) seen(since string) {
	v.t.Helper()
	begun := time.Now()
	v.awaitPicture("red", slowLimit)
	v.w.awaitMoving("blue", slowLimit)
	v.t.Logf("both show moving pictures %.1f s after %s", time.Since(begun).Seconds(), since)
}

// awaitPerson waits until the page names a person, with or without a picture.
func (w *openWindow) awaitPerson(name string) {
	w.t.Helper()
	rig.Eventually(w.t, 30*time.Second, func() error {
		var names []string
		err := w.eval("(({guests, peer}) => [...guests, ...(peer ? [peer] : [])].map(({name}) => name))(ewindow.snapshot().state)", &names)
		return rig.Check(slices.Contains(names, name), name+" on the page", fmt.Sprint(names, err))
	})
}

// browserKilled kills the browser of a guest who is visiting. The delayed leave (MSC4140) removes the guest's membership, and some seconds later
// the window leaves the call.
func (v visitor) browserKilled() {
	v.Kill()
	begun := time.Now()
	v.w.awaitNot("blue", staleMemberLimit)
	v.t.Logf("the guest's picture was gone %.1f s after their browser was killed", time.Since(begun).Seconds())
	v.awaitNobody(time.Until(begun.Add(staleMemberLimit)))
	v.t.Logf("the window showed nobody %.1f s after the browser was killed", time.Since(begun).Seconds())
	v.awaitAlone(20 * time.Second)
}

// deviceUnverified lets a guest call with a device that its owner has not verified. The guest receives the window's encrypted frames, but no key,
// and can decrypt none. The window's page says why.
func (v visitor) deviceUnverified() {
	v.Call(v.w.room, element.Start)
	var traffic element.Traffic
	rig.Eventually(v.t, slowLimit, func() error {
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
		err := v.w.eval(`document.querySelector("section.screen:not([hidden]) .notes").innerText`, &said)
		return rig.Check(err == nil && strings.Contains(said, v.name+" sieht und hört uns nicht: Das Gerät ist nicht bestätigt."), "the reason on the page", fmt.Sprint(said, err, v.w.state()))
	})
	v.shot("no key")
	v.w.shot("guest without key")
	v.HangUp()
	v.awaitAlone(20 * time.Second)
}

// awaitFrozen waits until Element has decoded no frame for two seconds, and returns when the last one came.
func (v visitor) awaitFrozen(limit time.Duration) (last time.Time) {
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

// shot takes a screenshot of Element if EWINDOW_SHOTS names a folder for it.
func (v visitor) shot(name string) { v.screenshotTo(v.t, name) }
