package bridge

import (
	"testing"
	"time"

	"go.mau.fi/util/jsontime"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bot/rtc"
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

func memberOf(user id.UserID) rtc.Member {
	return rtc.Member{User: user, Device: "D", Identity: string(user) + ":D", Service: "https://hub/livekit/jwt"}
}

func kioskIn(room id.RoomID) rtc.Member { return memberOf(kioskUser(room)) }

// bench is Dresden's machine with a clock.
type bench struct {
	*testing.T
	m    *machine
	now  time.Time
	last plan
}

// newBench is Dresden, in the network, with a page, opened at epoch.
func newBench(t *testing.T, windows ...directory.Window) *bench {
	b := &bench{T: t, m: newMachine(testCountdown), now: epoch}
	b.m.setPage(b.now, true)
	b.m.setDirectory(dresden, true, windows)
	b.m.setShutter(b.now, directory.Open)
	b.step(0)
	return b
}

// step lets time go by and decides as often as the machine asks for it.
func (b *bench) step(d time.Duration) plan {
	b.Helper()
	end := b.now.Add(d)
	b.last = b.m.decide(b.now)
	for steps := 0; !b.last.wake.IsZero() && !b.last.wake.After(end); steps++ {
		if steps > 1000 {
			b.Fatal("the machine wakes again and again")
		}
		if !b.last.wake.After(b.now) {
			b.Fatalf("wakes in the past: %v", b.last.wake.Sub(b.now))
		}
		b.now = b.last.wake
		b.last = b.m.decide(b.now)
	}
	b.now = end
	b.last = b.m.decide(b.now)
	return b.last
}

func (b *bench) want(room, peer id.RoomID, name string) {
	b.Helper()
	if b.last.room != room || b.last.peer != peer || b.last.screen.name != name {
		b.Fatalf("in the call of %q with %q, screen %q; want %q with %q, screen %q",
			b.last.room, b.last.peer, b.last.screen.name, room, peer, name)
	}
}

// arrive lets members be in a room's call, each with a picture announced.
func (b *bench) arrive(room id.RoomID, members ...rtc.Member) {
	b.Helper()
	b.m.setMembers(room, members)
	b.step(0)
	for i, member := range members {
		if b.m.call != nil && b.m.call.room == room {
			b.m.call.remoteUp(b.now, member.Identity, i, true, false)
		}
	}
	b.step(0)
}

func (b *bench) picture(member rtc.Member, on bool) {
	b.Helper()
	b.m.call.remotePicture(member.Identity, 0, on)
	b.step(0)
}

func TestShutAtTheStart(t *testing.T) {
	m := newMachine(testCountdown)
	m.setPage(epoch, true)
	m.setDirectory(dresden, true, []directory.Window{windowOf(munich, directory.Open, epoch)})
	m.setMembers(dresden, []rtc.Member{kioskIn(munich), memberOf(guest)})
	p := m.decide(epoch)
	if p.room != "" || p.camera || p.send || p.screen.name != "shut" || p.screen.camera || p.announce.Shutter != directory.Shut {
		t.Fatalf("plan %+v", p)
	}
}

// TestExpected: the window that has waited longest is in its call when another one opens, before that one is seen there.
func TestExpected(t *testing.T) {
	shut := windowOf(munich, directory.Shut, epoch)
	b := newBench(t, shut)
	b.step(time.Minute)
	b.want("", "", "alone")
	opened := windowOf(munich, directory.Open, b.now)
	b.m.setDirectory(dresden, true, []directory.Window{opened})
	b.step(0)
	b.want(dresden, munich, "opening")
	if b.last.send || b.last.announce.Facing != "" {
		t.Errorf("nobody is there, but something is sent, or others are kept away: %+v", b.last)
	}
	b.arrive(dresden, kioskIn(munich))
	b.picture(kioskIn(munich), true)
	b.step(testCountdown)
	b.want(dresden, munich, "visit")

	// One that goes elsewhere, or does not come, is not waited for, nor expected again.
	for name, elsewhere := range map[string]bool{"elsewhere": true, "nowhere": false} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, shut)
			b.step(time.Minute)
			w := windowOf(munich, directory.Open, b.now)
			b.m.setDirectory(dresden, true, []directory.Window{w})
			b.step(time.Second)
			b.want(dresden, munich, "opening")
			if elsewhere {
				w.Facing = bolzano
				b.m.setDirectory(dresden, true, []directory.Window{w})
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
	b.m.setDirectory(dresden, true, []directory.Window{windowOf(munich, directory.Open, b.now), windowOf(bolzano, directory.Open, epoch.Add(-time.Hour))})
	b.step(0)
	b.want(bolzano, bolzano, "opening")
	// A window that was open when we first saw it is not expected.
	b = newBench(t, windowOf(munich, directory.Open, epoch.Add(time.Second)))
	b.want("", "", "alone")
}

// TestWhoCalls: the one who opened later calls, the longest open window first, and never one that is shut, turned away or not joined.
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
			screen := "alone"
			if test.want != "" {
				screen = "opening"
			}
			b.want(test.want, test.want, screen)
			if b.last.announce.Facing != "" {
				t.Errorf("faces %q before anybody answered", b.last.announce.Facing)
			}
		})
	}
}

// TestAutoAnswer: whoever is in our call is answered while we are open, windows before guests.
func TestAutoAnswer(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(time.Second)), windowOf(bolzano, directory.Open, epoch.Add(time.Second)))
	b.want("", "", "alone")
	b.arrive(dresden, memberOf(guest))
	b.want(dresden, "", "opening")
	if p := b.last.screen.peer; p == nil || p.user != guest {
		t.Errorf("the guest is not in the big picture: %+v", p)
	}
	b.arrive(dresden, memberOf(guest), kioskIn(munich), kioskIn(bolzano))
	b.want(dresden, munich, "opening")
	if len(b.last.members) != 2 || b.last.members[0].User != kioskUser(munich) || b.last.members[1].User != guest {
		t.Errorf("shows %v", b.last.members)
	}
	if b.last.announce.Facing != munich {
		t.Errorf("faces %q", b.last.announce.Facing)
	}
	// The third window gets no picture, but people see that it is there.
	if g := b.last.screen.guests; len(g) != 2 || g[0].user != guest || g[1].window != bolzano || g[1].slot != -1 {
		t.Errorf("others %+v", g)
	}
	// When the first window has gone, the one that still waits is let in.
	b.arrive(dresden, memberOf(guest), kioskIn(bolzano))
	b.want(dresden, bolzano, "opening")

	// A kiosk that was removed from the network is no guest.
	b = newBench(t, windowOf(munich, directory.Shut, epoch))
	b.m.setDirectory(dresden, true, nil)
	b.arrive(dresden, kioskIn(munich))
	b.want("", "", "alone")

	b.m.setShutter(b.now, directory.Shut)
	b.arrive(dresden, memberOf(guest))
	b.want("", "", "shut")
}

// TestReciprocity: nothing leaves before the count, without members, or when they are not seen for five seconds.
func TestReciprocity(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(-time.Hour)))
	other := kioskIn(munich)
	b.want(munich, munich, "opening")
	if b.step(3 * time.Second).send {
		t.Fatal("sends into an empty call")
	}
	b.arrive(munich, other)
	if !b.last.send || !b.last.camera {
		t.Fatal("does not begin")
	}
	b.picture(other, true)
	b.want(munich, munich, "visit")
	if !b.step(time.Hour).send {
		t.Fatal("stopped while all is well")
	}
	b.picture(other, false) // media says so when there was none for five seconds
	b.want(munich, munich, "lost")
	if b.last.send {
		t.Fatal("sends although the other side isn't seen")
	}
	b.picture(other, true)
	b.want(munich, munich, "visit")
	if !b.last.send {
		t.Fatal("does not go on")
	}

	// One who announces a camera and never shows anything gets next to nothing.
	b = newBench(t, windowOf(munich, directory.Open, epoch.Add(-time.Hour)))
	b.arrive(munich, other)
	sent, given, before := time.Duration(0), 0, 0
	const tick = 100 * time.Millisecond
	for i := range 600 {
		if b.last.send {
			sent += tick
		}
		given, before = given+max(b.last.blind-before, 0), b.last.blind // which begins anew with a visit
		if i%20 == 0 {                                                  // coming and going does not help
			b.m.call.remoteUp(b.now, other.Identity, 0, true, i%40 == 0)
		}
		b.step(tick)
	}
	if sent < 5*time.Second || sent > 20*time.Second {
		t.Errorf("sent for %v of a minute without seeing anything", sent)
	}
	if given < 3 || given > 7 {
		t.Errorf("gave the key again %d times in a minute without seeing anything", given)
	}
	// And one whose camera is muted nothing more.
	b.m.call.remoteUp(b.now, other.Identity, 0, true, true)
	b.step(trialLength)
	for range 300 {
		if b.step(tick).send {
			t.Fatal("sends to a muted camera")
		}
	}
}

func TestCountdown(t *testing.T) {
	b := newBench(t)
	b.arrive(dresden, memberOf(guest))
	b.picture(memberOf(guest), true)
	if b.last.send || b.last.screen.name != "opening" || b.last.screen.countUntil != b.now.Add(testCountdown) {
		t.Fatalf("at once: %+v", b.last.screen)
	}
	if p := b.step(testCountdown - 1); p.send {
		t.Fatal("sends before the count ends")
	}
	if p := b.step(1); !p.send || p.screen.name != "visit" || !p.screen.countUntil.IsZero() {
		t.Fatalf("after the count: %+v", p.screen)
	}
}

// TestUnanswered: a window whose kiosk died, open for ever in the directory, holds people up once and for a short time.
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

	// At the next opening the silent one comes last.
	b.m.setShutter(b.now, directory.Shut)
	b.m.setMembers(bolzano, nil)
	b.step(time.Second)
	b.m.setShutter(b.now, directory.Open)
	b.step(0)
	b.want(bolzano, bolzano, "opening")

	// Alone with it, it is called more and more rarely.
	b = newBench(t, dead)
	calls, visit := 0, uint64(0)
	for range 3600 {
		if p := b.step(time.Second); p.visit != 0 && p.visit != visit {
			visit = p.visit
			calls++
		}
	}
	if calls < 4 || calls > 12 {
		t.Errorf("called %d times in an hour", calls)
	}
	// A sign of life is answered at once, as is a tap on it.
	for b.last.room != "" {
		b.step(time.Second)
	}
	b.m.choose(munich)
	b.step(0)
	b.want(munich, munich, "opening")
	b.step(answerWait)
	b.want("", "", "alone")
	dead.Since = jsontime.UM(dead.Since.Add(time.Minute))
	b.m.setDirectory(dresden, true, []directory.Window{dead})
	b.step(0)
	b.want(munich, munich, "opening")

	// Whoever comes while it is called is let in.
	b.m.setDirectory(dresden, true, []directory.Window{dead, windowOf(bolzano, directory.Open, b.now)})
	b.arrive(dresden, kioskIn(bolzano))
	b.want(dresden, bolzano, "opening")
}

// TestBothCalled: each is in the other's room, because each knew an old state of the other. By the new states they agree.
func TestBothCalled(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(-time.Second)))
	b.want(munich, munich, "opening")
	b.m.setMembers(dresden, []rtc.Member{kioskIn(munich)})
	b.step(0)
	b.want(munich, munich, "opening") // as far as is known, they are the host
	b.m.setDirectory(dresden, true, []directory.Window{windowOf(munich, directory.Open, epoch.Add(time.Second))})
	b.step(0)
	b.want(dresden, munich, "opening")

	b = newBench(t, windowOf(munich, directory.Open, epoch.Add(-time.Second)))
	b.m.setMembers(dresden, []rtc.Member{kioskIn(munich)})
	b.arrive(munich, kioskIn(munich)) // they went home
	b.step(0)
	b.want(munich, munich, "opening")
}

func TestHomeserverDown(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(-time.Hour)))
	b.arrive(munich, kioskIn(munich))
	b.step(testCountdown)
	b.picture(kioskIn(munich), true)
	b.m.setHomeserver(b.now)
	b.step(time.Minute)
	b.want(munich, munich, "visit") // what runs goes on
	b.m.setDirectory(dresden, true, nil)
	b.step(0)
	b.want("", "", "fault")
	b.m.setDirectory(dresden, true, []directory.Window{windowOf(munich, directory.Open, epoch.Add(-time.Hour))})
	b.step(0)
	b.want("", "", "fault") // nothing new is begun
	b.m.setHomeserver(time.Time{})
	b.step(0)
	b.want(munich, munich, "opening")
}

func TestCameraFault(t *testing.T) {
	for code, want := range map[string]string{
		"none": "no_camera", "busy": "camera_busy", "denied": "camera_denied", "no_microphone": "no_microphone", "other": "no_camera",
	} {
		b := newBench(t, windowOf(munich, directory.Open, epoch.Add(-time.Hour)))
		b.arrive(munich, kioskIn(munich))
		b.m.setCamera("fault", code)
		b.step(0)
		b.want("", "", "fault")
		if p := b.last; p.send || p.camera || !p.screen.camera || p.screen.fault != want || p.announce.Shutter != directory.Shut {
			t.Fatalf("%s: %+v", code, p)
		}
		b.m.setCamera("on", "")
		b.step(0)
		b.want(munich, munich, "opening")
		b.m.setShutter(b.now, directory.Shut)
		b.m.setCamera("fault", code)
		b.step(0)
		b.want("", "", "shut")
		if b.last.screen.camera || b.last.screen.fault != "" {
			t.Fatalf("%s while shut: %+v", code, b.last.screen)
		}
	}
}

func TestPageReload(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(-time.Hour)))
	b.arrive(munich, kioskIn(munich))
	b.step(testCountdown)
	b.picture(kioskIn(munich), true)
	visit := b.last.visit
	b.m.setPage(b.now, false)
	b.step(0)
	if b.last.send || b.last.camera || b.last.visit != visit || b.last.announce.Shutter != directory.Open {
		t.Fatalf("without a page: %+v", b.last)
	}
	b.step(pageGrace - time.Second)
	b.m.setPage(b.now, true)
	b.step(0)
	b.want(munich, munich, "visit")
	if !b.last.send || b.last.visit != visit {
		t.Error("the visit did not go on")
	}
	b.m.setPage(b.now, false)
	b.step(pageGrace)
	if b.last.room != "" || b.last.announce.Shutter != directory.Shut || b.last.screen.fault != "page" {
		t.Fatalf("without a page for long: %+v", b.last)
	}
	b.m.setPage(b.now, true)
	b.step(0)
	b.want(munich, munich, "opening")
}

// TestShutAndOpenAtOnce: a double press is a new visit, never the old one going on.
func TestShutAndOpenAtOnce(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(-time.Hour)))
	b.arrive(munich, kioskIn(munich))
	visit := b.last.visit
	b.m.setShutter(b.now, directory.Shut)
	b.m.setShutter(b.now, directory.Open)
	b.step(0)
	if b.last.visit == visit || b.last.send {
		t.Fatalf("visit %d goes on as %d", visit, b.last.visit)
	}
}

func TestChoose(t *testing.T) {
	before := epoch.Add(-time.Hour)
	b := newBench(t, windowOf(munich, directory.Open, before), windowOf(bolzano, directory.Open, before.Add(time.Minute)))
	b.arrive(munich, kioskIn(munich))
	b.want(munich, munich, "opening")
	b.m.choose(bolzano)
	b.step(0)
	b.want(bolzano, bolzano, "opening")
	b.m.choose(dresden)
	b.m.choose("!unknown:x")
	b.step(0)
	b.want(bolzano, bolzano, "opening")
	// Also one that opened later than we did.
	b = newBench(t, windowOf(munich, directory.Open, epoch.Add(time.Minute)))
	b.want("", "", "alone")
	b.m.choose(munich)
	b.step(0)
	b.want(munich, munich, "opening")
}

func TestFailure(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(-time.Hour)))
	b.m.fail(b.now, munich)
	b.step(0)
	b.want("", "", "alone")
	b.step(failurePause)
	b.want(munich, munich, "opening")
	b.m.noHubSince = b.now
	b.m.fail(b.now, munich)
	b.step(0)
	b.want("", "", "fault")
	if b.last.screen.fault != "hub" {
		t.Errorf("fault %q", b.last.screen.fault)
	}
}

func TestNotInANetwork(t *testing.T) {
	m := newMachine(testCountdown)
	m.setPage(epoch, true)
	for _, shutter := range []directory.Shutter{directory.Shut, directory.Open} {
		m.setShutter(epoch, shutter)
		if p := m.decide(epoch); p.screen.name != "fault" || p.screen.fault != "network_not_joined" || p.room != "" || p.screen.camera {
			t.Errorf("%s: %+v", shutter, p.screen)
		}
	}
}

// TestRoomUpgraded: the room of the call is upgraded in the middle of a visit. The old call is left, whoever stays in it, and the visit goes
// on in the new one, as soon as both know of it.
func TestRoomUpgraded(t *testing.T) {
	const next = id.RoomID("!next:a")
	// Ours, with the other window and a guest in it.
	facing := windowOf(munich, directory.Open, epoch.Add(time.Second))
	facing.Facing = dresden
	b := newBench(t, facing)
	b.arrive(dresden, kioskIn(munich), memberOf(guest))
	b.want(dresden, munich, "opening")
	b.m.setDirectory(next, true, []directory.Window{facing})
	b.step(0)
	if b.last.room == dresden || b.last.announce.Facing != "" {
		t.Fatalf("stays behind: %+v", b.last)
	}
	facing.Facing = ""
	b.m.setDirectory(next, true, []directory.Window{facing})
	b.arrive(next, kioskIn(munich))
	b.want(next, munich, "opening")
	b.m.setMembers(dresden, nil)
	b.step(time.Second)
	b.want(next, munich, "opening")

	// Theirs. For a moment we know of no room of theirs.
	b = newBench(t, windowOf(munich, directory.Open, epoch.Add(-time.Hour)))
	b.arrive(munich, kioskIn(munich))
	b.want(munich, munich, "opening")
	b.m.setDirectory(dresden, true, nil)
	b.step(0)
	b.want("", "", "alone")
	upgraded := windowOf(munich, directory.Open, epoch.Add(-time.Hour))
	upgraded.Room = next
	b.m.setDirectory(dresden, true, []directory.Window{upgraded})
	b.step(0)
	b.want(next, next, "opening")
	b.arrive(next, kioskIn(munich))
	b.want(next, next, "opening")
	if b.last.kiosk != kioskUser(munich) {
		t.Errorf("visits %q", b.last.kiosk)
	}
}
