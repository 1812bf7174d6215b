package window

import (
	"testing"
	"time"

	"go.mau.fi/util/jsontime"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bridge/window/redial"
)

const (
	dresden = id.RoomID("!dresden:a")
	munich  = id.RoomID("!munich:b")
	bolzano = id.RoomID("!bolzano:c")
	guest   = id.UserID("@anna:elsewhere")

	testCountdown = 1200 * time.Millisecond
)

var epoch = time.UnixMilli(1_800_000_000_000)

func kioskUser(room id.RoomID) id.UserID { return id.UserID("@kiosk-" + string(room[1:])) }

func windowOf(room id.RoomID, shutter directory.Shutter, since time.Time) directory.Window {
	return directory.Window{
		Room: room, Kiosk: kioskUser(room), Name: string(room[1:]), Shutter: shutter, Since: jsontime.UMInt(since.UnixMilli()), Joined: true,
	}
}

func memberOf(user id.UserID) Member {
	return Member{User: user, Device: "D", Identity: string(user) + ":D", Service: "https://hub/livekit/jwt"}
}

func kioskIn(room id.RoomID) Member { return memberOf(kioskUser(room)) }

// bench is Dresden's window with a clock.
type bench struct {
	*testing.T
	m    *Rules
	now  time.Time
	last Plan

	inside []id.UserID // who is in our room's call, see call
}

// newBench is Dresden's window: in the network, with a page, opened at epoch.
func newBench(t *testing.T, windows ...directory.Window) *bench {
	b := &bench{T: t, m: New(testCountdown, maxPictures), now: epoch}
	b.m.SetPage(b.now, true)
	b.m.SetDirectory(dresden, true, windows)
	b.m.SetShutter(b.now, directory.Open)
	b.step(0)
	return b
}

// step lets time go by, and advances at each wake.
func (b *bench) step(d time.Duration) Plan {
	b.Helper()
	end := b.now.Add(d)
	b.last = decide(b.m, b.now)
	for steps := 0; !b.last.Wake.IsZero() && !b.last.Wake.After(end); steps++ {
		if steps > 1000 {
			b.Fatal("the plan wakes again and again")
		}
		if !b.last.Wake.After(b.now) {
			b.Fatalf("wakes in the past: %v", b.last.Wake.Sub(b.now))
		}
		b.now = b.last.Wake
		b.last = decide(b.m, b.now)
	}
	b.now = end
	b.last = decide(b.m, b.now)
	return b.last
}

func (b *bench) want(room, peer id.RoomID, name Screen) {
	b.Helper()
	if b.last.Room != room || b.last.Peer != peer || b.last.View.Screen != name {
		b.Fatalf("in the call of %q with %q, screen %q; want %q with %q, screen %q",
			b.last.Room, b.last.Peer, b.last.View.Screen, room, peer, name)
	}
}

// arrive sets the members of a room's call, and announces a picture of each.
func (b *bench) arrive(room id.RoomID, members ...Member) {
	b.Helper()
	b.m.SetMembers(room, members)
	b.step(0)
	for i, member := range members {
		if b.m.visit != nil && b.m.visit.room == room {
			b.m.visit.remoteCamera(b.now, member.Identity, i, true, false)
		}
	}
	b.step(0)
}

func (b *bench) picture(member Member, on bool) {
	b.Helper()
	b.m.visit.remotePicture(member.Identity, 0, on)
	b.step(0)
}

func TestShutAtTheStart(t *testing.T) {
	m := New(testCountdown, maxPictures)
	m.SetPage(epoch, true)
	m.SetDirectory(dresden, true, []directory.Window{windowOf(munich, directory.Open, epoch)})
	m.SetMembers(dresden, []Member{kioskIn(munich), memberOf(guest)})
	p := decide(m, epoch)
	if p.Room != "" || p.Camera || p.Send || p.View.Screen != "shut" || p.View.Camera || p.Announce.Shutter != directory.Shut {
		t.Fatalf("plan %+v", p)
	}
}

// TestExpected: when another window opens, the one that has waited longest enters its own call at once, before the other comes.
func TestExpected(t *testing.T) {
	shut := windowOf(munich, directory.Shut, epoch)
	b := newBench(t, shut)
	b.step(time.Minute)
	b.want("", "", "alone")
	opened := windowOf(munich, directory.Open, b.now)
	b.m.SetDirectory(dresden, true, []directory.Window{opened})
	b.step(0)
	b.want(dresden, munich, "opening")
	if b.last.Send || b.last.Announce.Facing != "" {
		t.Errorf("nobody is there, but something is sent, or others are kept away: %+v", b.last)
	}
	b.arrive(dresden, kioskIn(munich))
	b.picture(kioskIn(munich), true)
	b.step(testCountdown)
	b.want(dresden, munich, "visit")

	// A window that goes elsewhere, or does not come, is not expected any longer, nor again.
	for name, elsewhere := range map[string]bool{"elsewhere": true, "nowhere": false} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, shut)
			b.step(time.Minute)
			w := windowOf(munich, directory.Open, b.now)
			b.m.SetDirectory(dresden, true, []directory.Window{w})
			b.step(time.Second)
			b.want(dresden, munich, "opening")
			if elsewhere {
				w.Facing = bolzano
				b.m.SetDirectory(dresden, true, []directory.Window{w})
				b.step(0)
			} else {
				b.step(emptyGrace)
			}
			b.want("", "", "alone")
			b.step(time.Minute)
			b.want("", "", "alone")
		})
	}

	// Another window has waited longer: that one is called.
	b = newBench(t, shut, windowOf(bolzano, directory.Shut, epoch))
	b.step(time.Minute)
	b.m.SetDirectory(dresden, true, []directory.Window{windowOf(munich, directory.Open, b.now), windowOf(bolzano, directory.Open, epoch.Add(-time.Hour))})
	b.step(0)
	b.want(bolzano, bolzano, "opening")
	// A window that was open when we first saw it is not expected.
	b = newBench(t, windowOf(munich, directory.Open, epoch.Add(time.Second)))
	b.want("", "", "alone")
}

// TestWhoCalls: the window that opened later calls, and it calls the one that has been open for longest. It never calls one that is shut, that
// faces another one, or whose room we are not in.
func TestWhoCalls(t *testing.T) {
	before, after := epoch.Add(-time.Hour), epoch.Add(time.Hour)
	turned := windowOf(munich, directory.Open, before)
	turned.Facing = bolzano
	toUs := windowOf(munich, directory.Open, before)
	toUs.Facing = dresden
	outside := windowOf(munich, directory.Open, before)
	outside.Joined = false
	for _, test := range []struct {
		name    string
		windows []directory.Window
		want    id.RoomID
	}{
		{"nobody", nil, ""},
		{"open before us", []directory.Window{windowOf(munich, directory.Open, before)}, munich},
		{"open after us", []directory.Window{windowOf(munich, directory.Open, after)}, ""},
		{"shut", []directory.Window{windowOf(munich, directory.Shut, before)}, ""},
		{"ajar", []directory.Window{windowOf(munich, directory.Ajar, before)}, ""},
		{"turned to another", []directory.Window{turned}, ""},
		{"turned to us", []directory.Window{toUs}, munich},
		{"not joined", []directory.Window{outside}, ""},
		{"the longest open one", []directory.Window{
			windowOf(munich, directory.Open, before), windowOf(bolzano, directory.Open, before.Add(-time.Minute)),
		}, bolzano},
		{"same millisecond, our room first", []directory.Window{windowOf(munich, directory.Open, epoch)}, ""},
		{"same millisecond, their room first", []directory.Window{windowOf(bolzano, directory.Open, epoch)}, bolzano},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t, test.windows...)
			screen := ScreenAlone
			if test.want != "" {
				screen = ScreenOpening
			}
			b.want(test.want, test.want, screen)
			if b.last.Announce.Facing != "" {
				t.Errorf("faces %q before anybody answered", b.last.Announce.Facing)
			}
		})
	}
}

// TestAutoAnswer: an open window answers everybody in its call, windows before guests.
func TestAutoAnswer(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(time.Second)), windowOf(bolzano, directory.Open, epoch.Add(time.Second)))
	b.want("", "", "alone")
	b.arrive(dresden, memberOf(guest))
	b.want(dresden, "", "opening")
	if p := b.last.View.Peer; p == nil || p.User != guest {
		t.Errorf("the guest is not in the big picture: %+v", p)
	}
	b.arrive(dresden, memberOf(guest), kioskIn(munich), kioskIn(bolzano))
	b.want(dresden, munich, "opening")
	if len(b.last.Members) != 2 || b.last.Members[0].User != kioskUser(munich) || b.last.Members[1].User != guest {
		t.Errorf("shows %v", b.last.Members)
	}
	if b.last.Announce.Facing != munich {
		t.Errorf("faces %q", b.last.Announce.Facing)
	}
	// The third window gets no picture, but people see that it is there.
	if g := b.last.View.Guests; len(g) != 2 || g[0].User != guest || g[1].Window != bolzano || g[1].Tile != -1 {
		t.Errorf("others %+v", g)
	}
	// When the first window has gone, the one that waits is answered.
	b.arrive(dresden, memberOf(guest), kioskIn(bolzano))
	b.want(dresden, bolzano, "opening")

	// A kiosk that was removed from the network is no guest.
	b = newBench(t, windowOf(munich, directory.Shut, epoch))
	b.m.SetDirectory(dresden, true, nil)
	b.arrive(dresden, kioskIn(munich))
	b.want("", "", "alone")

	b.m.SetShutter(b.now, directory.Shut)
	b.arrive(dresden, memberOf(guest))
	b.want("", "", "shut")
}

// TestReciprocity: nothing is sent before the countdown has ended, while nobody is there, or when nobody was seen for five seconds.
func TestReciprocity(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(-time.Hour)))
	other := kioskIn(munich)
	b.want(munich, munich, "opening")
	if b.step(3 * time.Second).Send {
		t.Fatal("sends into an empty call")
	}
	b.arrive(munich, other)
	if !b.last.Send || !b.last.Camera {
		t.Fatal("does not begin")
	}
	b.picture(other, true)
	b.want(munich, munich, "visit")
	if !b.step(time.Hour).Send {
		t.Fatal("stopped while all is well")
	}
	b.picture(other, false) // the media side says so after five seconds without a picture
	b.want(munich, munich, "lost")
	if b.last.Send {
		t.Fatal("sends although the other side isn't seen")
	}
	b.picture(other, true)
	b.want(munich, munich, "visit")
	if !b.last.Send {
		t.Fatal("does not go on")
	}

	// Somebody who announces a camera and never shows anything gets very little.
	b = newBench(t, windowOf(munich, directory.Open, epoch.Add(-time.Hour)))
	b.arrive(munich, other)
	sent, given, before := time.Duration(0), 0, 0
	const tick = 100 * time.Millisecond
	for i := range 600 {
		if b.last.Send {
			sent += tick
		}
		given, before = given+max(b.last.Unseen-before, 0), b.last.Unseen // it is 0 again in a new visit
		if i%20 == 0 {                                                    // announcing the camera again and again does not help
			b.m.visit.remoteCamera(b.now, other.Identity, 0, true, i%40 == 0)
		}
		b.step(tick)
	}
	if sent < 5*time.Second || sent > 20*time.Second {
		t.Errorf("sent for %v of a minute without seeing anything", sent)
	}
	if given < 3 || given > 7 {
		t.Errorf("gave the key again %d times in a minute without seeing anything", given)
	}
	// Somebody whose camera is muted gets nothing.
	b.m.visit.remoteCamera(b.now, other.Identity, 0, true, true)
	b.step(trialLength)
	for range 300 {
		if b.step(tick).Send {
			t.Fatal("sends to a muted camera")
		}
	}
}

func TestCountdown(t *testing.T) {
	b := newBench(t)
	b.arrive(dresden, memberOf(guest))
	b.picture(memberOf(guest), true)
	if b.last.Send || b.last.View.Screen != "opening" || b.last.View.CountUntil != b.now.Add(testCountdown) {
		t.Fatalf("at once: %+v", b.last.View)
	}
	if p := b.step(testCountdown - 1); p.Send {
		t.Fatal("sends before the count ends")
	}
	if p := b.step(1); !p.Send || p.View.Screen != "visit" || !p.View.CountUntil.IsZero() {
		t.Fatalf("after the count: %+v", p.View)
	}
}

// TestUnanswered: a window whose kiosk has lost its power stays open in the directory. It delays people once, for a short time.
func TestUnanswered(t *testing.T) {
	dead := windowOf(munich, directory.Open, epoch.Add(-time.Hour))
	alive := windowOf(bolzano, directory.Open, epoch.Add(-time.Minute))
	b := newBench(t, dead, alive)
	b.want(munich, munich, "opening")
	b.step(answerWait)
	b.want(bolzano, bolzano, "opening")
	b.arrive(bolzano, kioskIn(bolzano))
	b.picture(kioskIn(bolzano), true)
	b.step(time.Hour)
	b.want(bolzano, bolzano, "visit")

	// At the next opening the one that did not answer is called last.
	b.m.SetShutter(b.now, directory.Shut)
	b.m.SetMembers(bolzano, nil)
	b.step(time.Second)
	b.m.SetShutter(b.now, directory.Open)
	b.step(0)
	b.want(bolzano, bolzano, "opening")

	// If it is the only window, it is called less and less often.
	b = newBench(t, dead)
	calls, visit := 0, uint64(0)
	for range 3600 {
		if p := b.step(time.Second); p.Visit != 0 && p.Visit != visit {
			visit = p.Visit
			calls++
		}
	}
	if calls < 4 || calls > 12 {
		t.Errorf("called %d times in an hour", calls)
	}
	// It is called at once when somebody picks it, or when its state changes.
	for b.last.Room != "" {
		b.step(time.Second)
	}
	b.m.Choose(munich)
	b.step(0)
	b.want(munich, munich, "opening")
	b.step(answerWait)
	b.want("", "", "alone")
	dead.Since = jsontime.UM(dead.Since.Add(time.Minute))
	b.m.SetDirectory(dresden, true, []directory.Window{dead})
	b.step(0)
	b.want(munich, munich, "opening")

	// A window that comes to us while we call another one is answered.
	b.m.SetDirectory(dresden, true, []directory.Window{dead, windowOf(bolzano, directory.Open, b.now)})
	b.arrive(dresden, kioskIn(bolzano))
	b.want(dresden, bolzano, "opening")
}

// TestBothCalled: both windows are in the other's call, because each had an old state of the other. With the new states they agree on one call.
func TestBothCalled(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(-time.Second)))
	b.want(munich, munich, "opening")
	b.m.SetMembers(dresden, []Member{kioskIn(munich)})
	b.step(0)
	b.want(munich, munich, "opening") // in the state that we have, they are the host
	b.m.SetDirectory(dresden, true, []directory.Window{windowOf(munich, directory.Open, epoch.Add(time.Second))})
	b.step(0)
	b.want(dresden, munich, "opening")

	b = newBench(t, windowOf(munich, directory.Open, epoch.Add(-time.Second)))
	b.m.SetMembers(dresden, []Member{kioskIn(munich)})
	b.arrive(munich, kioskIn(munich)) // they went back to their own call
	b.step(0)
	b.want(munich, munich, "opening")
}

func TestHomeserverDown(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(-time.Hour)))
	b.arrive(munich, kioskIn(munich))
	b.step(testCountdown)
	b.picture(kioskIn(munich), true)
	b.m.SetHomeserver(b.now)
	b.step(time.Minute)
	b.want(munich, munich, "visit") // a visit goes on
	b.m.SetDirectory(dresden, true, nil)
	b.step(0)
	b.want("", "", "fault")
	b.m.SetDirectory(dresden, true, []directory.Window{windowOf(munich, directory.Open, epoch.Add(-time.Hour))})
	b.step(0)
	b.want("", "", "fault") // no new call is entered
	b.m.SetHomeserver(time.Time{})
	b.step(0)
	b.want(munich, munich, "opening")
}

func TestCameraFault(t *testing.T) {
	for code, want := range map[string]Fault{
		"none": "no_camera", "busy": "camera_busy", "denied": "camera_denied", "no_microphone": "no_microphone", "no_picture": "no_picture",
		"other": "no_camera",
	} {
		b := newBench(t, windowOf(munich, directory.Open, epoch.Add(-time.Hour)))
		b.arrive(munich, kioskIn(munich))
		b.step(time.Minute)
		b.m.SetCamera(b.now, "fault", code)
		failed := b.now
		b.step(time.Second)
		b.m.SetCamera(b.now, "fault", code) // a page that was loaded anew reports it again
		b.step(0)
		b.want("", "", "fault")
		if !b.last.View.Since.Equal(failed) {
			t.Errorf("%s: since %v instead of %v", code, b.last.View.Since, failed)
		}
		if p := b.last; p.Send || p.Camera || !p.View.Camera || p.View.Fault != want || p.Announce.Shutter != directory.Shut || !p.Announce.NoPicture {
			t.Fatalf("%s: %+v", code, p)
		}
		b.m.SetCamera(b.now, "on", "")
		b.step(0)
		b.want(munich, munich, "opening")
		b.m.SetShutter(b.now, directory.Shut)
		b.m.SetCamera(b.now, "fault", code)
		b.step(0)
		b.want("", "", "shut")
		if b.last.View.Camera || b.last.View.Fault != "" || b.last.Announce.NoPicture {
			t.Fatalf("%s while shut: %+v", code, b.last.View)
		}
	}
}

func TestPageReload(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(-time.Hour)))
	b.arrive(munich, kioskIn(munich))
	b.step(testCountdown)
	b.picture(kioskIn(munich), true)
	visit := b.last.Visit
	b.m.SetPage(b.now, false)
	b.step(0)
	if b.last.Send || b.last.Camera || b.last.Visit != visit || b.last.Announce.Shutter != directory.Open {
		t.Fatalf("without a page: %+v", b.last)
	}
	b.step(pageGrace - time.Second)
	b.m.SetPage(b.now, true)
	b.step(0)
	b.want(munich, munich, "visit")
	if !b.last.Send || b.last.Visit != visit {
		t.Error("the visit did not go on")
	}
	b.m.SetPage(b.now, false)
	b.step(pageGrace)
	if b.last.Room != "" || b.last.Announce.Shutter != directory.Shut || b.last.View.Fault != "page" {
		t.Fatalf("without a page for long: %+v", b.last)
	}
	b.m.SetPage(b.now, true)
	b.step(0)
	b.want(munich, munich, "opening")
}

// TestShutAndOpenAtOnce: after shutting and opening there is a new visit, even without a moment in between.
func TestShutAndOpenAtOnce(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(-time.Hour)))
	b.arrive(munich, kioskIn(munich))
	visit := b.last.Visit
	b.m.SetShutter(b.now, directory.Shut)
	b.m.SetShutter(b.now, directory.Open)
	b.step(0)
	if b.last.Visit == visit || b.last.Send {
		t.Fatalf("visit %d goes on as %d", visit, b.last.Visit)
	}
}

func TestChoose(t *testing.T) {
	before := epoch.Add(-time.Hour)
	b := newBench(t, windowOf(munich, directory.Open, before), windowOf(bolzano, directory.Open, before.Add(time.Minute)))
	b.arrive(munich, kioskIn(munich))
	b.want(munich, munich, "opening")
	b.m.Choose(bolzano)
	b.step(0)
	b.want(bolzano, bolzano, "opening")
	b.m.Choose(dresden)
	b.m.Choose("!unknown:x")
	b.step(0)
	b.want(bolzano, bolzano, "opening")
	// A window that opened after ours can be picked, too.
	b = newBench(t, windowOf(munich, directory.Open, epoch.Add(time.Minute)))
	b.want("", "", "alone")
	b.m.Choose(munich)
	b.step(0)
	b.want(munich, munich, "opening")
}

func TestFailure(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(-time.Hour)))
	b.m.CallFailed(b.now, munich)
	b.step(0)
	b.want("", "", "alone")
	b.step(redial.AfterFailure)
	b.want(munich, munich, "opening")
	b.m.FocusMissing(b.now)
	b.m.CallFailed(b.now, munich)
	b.step(0)
	b.want("", "", "fault")
	if b.last.View.Fault != "hub" {
		t.Errorf("fault %q", b.last.View.Fault)
	}
}

func TestNotInANetwork(t *testing.T) {
	m := New(testCountdown, maxPictures)
	m.SetPage(epoch, true)
	for _, shutter := range []directory.Shutter{directory.Shut, directory.Open} {
		m.SetShutter(epoch, shutter)
		if p := decide(m, epoch); p.View.Screen != "fault" || p.View.Fault != "network_not_joined" || p.Room != "" || p.View.Camera {
			t.Errorf("%s: %+v", shutter, p.View)
		}
	}
}

// TestRemovedFromNetwork: a window that was removed says so, also while it is shut.
func TestRemovedFromNetwork(t *testing.T) {
	m := New(testCountdown, maxPictures)
	m.SetPage(epoch, true)
	m.SetKnown(true, nil)
	for _, shutter := range []directory.Shutter{directory.Shut, directory.Open} {
		m.SetShutter(epoch, shutter)
		if p := decide(m, epoch); p.View.Screen != "fault" || p.View.Fault != "network_removed" || p.Room != "" || p.View.Camera {
			t.Errorf("%s: %+v", shutter, p.View)
		}
	}
	m.SetDirectory(dresden, true, nil)
	m.SetKnown(false, nil)
	if p := decide(m, epoch); p.View.Fault != "" {
		t.Errorf("admitted again: %+v", p.View)
	}
}

// TestRemovedKiosks: after a restart, an account that was a window is not answered as a guest, nor named, nor let in, until an admin admits it anew.
func TestRemovedKiosks(t *testing.T) {
	b := newBench(t)
	b.m.SetKnown(false, []id.UserID{kioskUser(munich)})
	b.m.SetMembers(dresden, []Member{kioskIn(munich)})
	for shutter, screen := range map[directory.Shutter]Screen{directory.Ajar: "ajar", directory.Open: "alone"} {
		b.m.SetShutter(b.now, shutter)
		b.step(0)
		b.want("", "", screen)
	}
	b.m.SetShutter(b.now, directory.Open)
	// A guest is answered, and the key goes to the guest alone.
	b.m.SetMembers(dresden, []Member{kioskIn(munich), memberOf(guest)})
	b.step(0)
	b.want(dresden, "", "opening")
	if len(b.last.Named) != 1 || b.last.Named[0].User != guest {
		t.Fatalf("named %+v", b.last.Named)
	}
	b.m.SetMembers(dresden, []Member{kioskIn(munich)})
	b.step(emptyGrace)
	b.want("", "", "alone")
	b.m.SetKnown(false, nil)
	b.step(0)
	b.want(dresden, "", "opening")
}

// TestGoneWindow: a window whose kiosk gives no sign of life is not called, nor waited for. A visit with it goes on.
func TestGoneWindow(t *testing.T) {
	away := windowOf(munich, directory.Open, epoch.Add(-time.Hour))
	away.Gone = jsontime.UM(epoch)
	b := newBench(t, away)
	b.m.SetShutter(b.now, directory.Open)
	b.step(0)
	b.want("", "", "alone")
	b.m.Choose(munich)
	b.step(0)
	b.want("", "", "alone")
	back := windowOf(munich, directory.Open, epoch.Add(-time.Hour))
	b.m.SetDirectory(dresden, true, []directory.Window{back})
	b.step(0)
	b.want(munich, munich, "opening")
	b.m.SetDirectory(dresden, true, []directory.Window{away})
	b.step(0)
	b.want(munich, munich, "opening")
}

// TestRoomUpgraded: the room of the call is upgraded during a visit. The old call is left, even if others stay in it, and the visit goes on in
// the new room as soon as both windows know it.
func TestRoomUpgraded(t *testing.T) {
	const next = id.RoomID("!next:a")
	// Our room is upgraded, with the other window and a guest in the call.
	facing := windowOf(munich, directory.Open, epoch.Add(time.Second))
	facing.Facing = dresden
	b := newBench(t, facing)
	b.arrive(dresden, kioskIn(munich), memberOf(guest))
	b.want(dresden, munich, "opening")
	b.m.SetDirectory(next, true, []directory.Window{facing})
	b.step(0)
	if b.last.Room == dresden || b.last.Announce.Facing != "" {
		t.Fatalf("stays behind: %+v", b.last)
	}
	facing.Facing = ""
	b.m.SetDirectory(next, true, []directory.Window{facing})
	b.arrive(next, kioskIn(munich))
	b.want(next, munich, "opening")
	b.m.SetMembers(dresden, nil)
	b.step(time.Second)
	b.want(next, munich, "opening")

	// Their room is upgraded. For a moment we know no room of theirs.
	b = newBench(t, windowOf(munich, directory.Open, epoch.Add(-time.Hour)))
	b.arrive(munich, kioskIn(munich))
	b.want(munich, munich, "opening")
	b.m.SetDirectory(dresden, true, nil)
	b.step(0)
	b.want("", "", "alone")
	upgraded := windowOf(munich, directory.Open, epoch.Add(-time.Hour))
	upgraded.Room = next
	b.m.SetDirectory(dresden, true, []directory.Window{upgraded})
	b.step(0)
	b.want(next, next, "opening")
	b.arrive(next, kioskIn(munich))
	b.want(next, next, "opening")
	if b.last.Kiosk != kioskUser(munich) {
		t.Errorf("visits %q", b.last.Kiosk)
	}
}

// decide does what Run does: it lets time go on and reads the plan.
func decide(r *Rules, now time.Time) Plan {
	r.Advance(now)
	return r.Plan(now)
}
