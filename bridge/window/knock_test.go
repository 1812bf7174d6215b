package window

import (
	"slices"
	"testing"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bridge/notice"
)

// newAjar is Dresden's window, ajar.
func newAjar(t *testing.T, windows ...directory.Window) *bench {
	b := newBench(t, windows...)
	b.m.SetShutter(b.now, directory.Ajar)
	b.step(0)
	b.want("", "", "ajar")
	return b
}

// wantMessages checks what was to be sent since the last time.
func (b *bench) wantMessages(want ...Message) {
	b.Helper()
	if got := b.m.TakeMessages(); !slices.Equal(got, want) {
		b.Fatalf("to be sent: %+v, want %+v", got, want)
	}
}

// calls sets which users are in the call of Dresden's room.
func (b *bench) calls(users ...id.UserID) {
	b.Helper()
	var members []Member
	for _, user := range users {
		member := memberOf(user)
		member.Created = b.now
		for _, old := range b.m.members.in(dresden) {
			if old.User == user {
				member.Created = old.Created
			}
		}
		members = append(members, member)
	}
	b.m.SetMembers(dresden, members)
	b.step(0)
}

func (b *bench) wantMissed(users ...id.UserID) {
	b.Helper()
	var got []id.UserID
	for _, o := range b.m.knocks.missed {
		got = append(got, o.Who.User)
	}
	if !slices.Equal(got, users) {
		b.Fatalf("missed %v, want %v", got, users)
	}
}

const ben = id.UserID("@ben:elsewhere")

// TestAjar: people see their own camera, the network is told, and nobody is called or answered.
func TestAjar(t *testing.T) {
	b := newAjar(t, windowOf(munich, directory.Open, epoch.Add(-time.Hour)))
	if p := b.last; !p.View.Camera || p.Send || p.Announce.Shutter != directory.Ajar || p.Announce.Since != b.now {
		t.Fatalf("plan %+v", p)
	}
	b.step(time.Hour)
	b.want("", "", "ajar")
	b.m.SetCamera(b.now, "fault", "busy")
	if b.step(0); b.last.Announce.Shutter != directory.Shut || b.last.View.Screen != "fault" {
		t.Errorf("without a camera: %+v", b.last)
	}
}

// TestKnockLetIn: a call at the ajar window waits for an answer. If the answer is "let in", it becomes a visit.
func TestKnockLetIn(t *testing.T) {
	b := newAjar(t)
	b.calls(guest)
	b.want("", "", "knocked")
	k := b.last.View.Knock
	if s := b.last.View; k.Who.User != guest || k.Who.Window != "" || len(k.Others) != 0 || s.Camera || s.CountUntil != b.now.Add(knockTime) {
		t.Fatalf("screen %+v, knock %+v", s, k)
	}
	b.step(knockGuard - time.Millisecond)
	b.m.AnswerKnock(b.now, k.ID, true)
	b.step(0)
	b.want("", "", "knocked") // a press right after the screen changed lets nobody in
	b.step(time.Millisecond)
	b.m.AnswerKnock(b.now, k.ID+1, true)
	b.step(0)
	b.want("", "", "knocked")
	b.m.AnswerKnock(b.now, k.ID, true)
	b.step(0)
	b.want(dresden, "", "opening")
	b.arrive(dresden, memberOf(guest))
	b.picture(memberOf(guest), true)
	b.step(testCountdown)
	b.want(dresden, "", "visit")
	if b.last.Announce.Shutter != directory.Ajar || !b.last.Send {
		t.Errorf("plan %+v", b.last)
	}
	// People who come later are in the same call.
	b.calls(guest, ben)
	b.want(dresden, "", "visit")
	b.calls(ben)
	b.want(dresden, "", "opening")
	// When the last one has gone the window is ajar as before, and guests knock again.
	b.calls()
	b.step(emptyGrace)
	b.want("", "", "ajar")
	b.calls(guest)
	b.want("", "", "knocked")
	b.wantMessages(Message{Notice: notice.Ajar, User: guest}) // once in a quarter of an hour
}

func TestKnockOfAWindow(t *testing.T) {
	b := newAjar(t, windowOf(munich, directory.Open, epoch.Add(time.Second)))
	b.calls(kioskUser(munich), guest)
	b.want("", "", "knocked")
	if k := b.last.View.Knock; k.Who.Window != munich || len(k.Others) != 1 || k.Others[0].User != guest {
		t.Fatalf("knock %+v", k)
	}
	b.step(time.Second)
	b.m.AnswerKnock(b.now, b.last.View.Knock.ID, true)
	b.step(0)
	b.want(dresden, munich, "opening")
	// A kiosk that was removed from the network does not knock at all.
	b = newAjar(t, windowOf(munich, directory.Open, epoch))
	b.m.SetDirectory(dresden, true, nil)
	b.calls(kioskUser(munich))
	b.want("", "", "ajar")
}

// TestKnockRefused: a knock that rang is declined. The guest must leave and come again to knock once more.
func TestKnockRefused(t *testing.T) {
	for name, late := range map[string]bool{"rings at once": false, "rings after the answer": true} {
		t.Run(name, func(t *testing.T) {
			b := newAjar(t)
			ring := func(event id.EventID) {
				b.m.CallNotification(b.now, dresden, guest, event, b.now.Add(30*time.Second))
				b.step(0)
			}
			b.calls(guest)
			if !late {
				ring("$1")
			}
			b.step(2 * time.Second)
			b.m.AnswerKnock(b.now, b.last.View.Knock.ID, false)
			b.step(0)
			b.want("", "", "ajar")
			want := []Message{{Notice: notice.Ajar, User: guest}, {Decline: "$1"}, {Notice: notice.NotNow, User: guest}}
			if late {
				ring("$1")
				slices.Reverse(want[1:])
			}
			b.wantMessages(want...)
			b.step(time.Hour)
			b.want("", "", "ajar")
			ring("$2") // a second notification while in the call
			b.want("", "", "ajar")
			b.wantMessages(Message{Decline: "$2"})
			b.calls()
			b.want("", "", "ajar")
			b.wantMissed()
			b.calls(guest)
			b.want("", "", "knocked")
			// A device that left and came again between two updates has a new creation time.
			b.step(time.Second)
			b.m.AnswerKnock(b.now, b.last.View.Knock.ID, false)
			member := memberOf(guest)
			member.Created = b.now.Add(time.Second)
			b.m.SetMembers(dresden, []Member{member})
			b.step(0)
			b.want("", "", "knocked")
		})
	}
}

// TestKnockTimesOut: when nobody answers, the guest is told, and the window remembers who it was.
func TestKnockTimesOut(t *testing.T) {
	b := newAjar(t)
	b.calls(guest)
	b.m.CallNotification(b.now, dresden, guest, "$1", b.now.Add(30*time.Second))
	b.step(10 * time.Second)
	b.calls(guest, ben)
	b.step(knockTime - 10*time.Second - time.Millisecond)
	b.want("", "", "knocked")
	b.wantMessages(Message{Notice: notice.Ajar, User: guest}, Message{Notice: notice.Ajar, User: ben})
	b.step(time.Millisecond)
	b.want("", "", "knocked") // the next knock
	if b.last.View.Knock.Who.User != ben || b.last.View.Since != b.now {
		t.Fatalf("knock %+v", b.last.View.Knock)
	}
	b.wantMessages(Message{Decline: "$1"}, Message{Notice: notice.Nobody, User: guest})
	// A guest who gives up before that is remembered as well.
	b.calls(guest)
	b.want("", "", "ajar")
	b.wantMessages()
	b.wantMissed(ben, guest)
	b.m.SetShutter(b.now, directory.Open)
	b.wantMissed()
}

// TestRingAlone: a notification without a membership is a knock until it expires.
func TestRingAlone(t *testing.T) {
	b := newAjar(t)
	b.m.CallNotification(b.now, munich, guest, "$0", b.now.Add(time.Minute)) // in another room
	b.m.CallNotification(b.now, dresden, guest, "$0", b.now)                 // expired
	b.step(0)
	b.want("", "", "ajar")
	ring := func(event id.EventID) {
		b.m.CallNotification(b.now, dresden, guest, event, b.now.Add(20*time.Second))
		b.step(0)
	}
	ring("$1")
	b.want("", "", "knocked")
	b.step(20 * time.Second)
	b.want("", "", "ajar")
	b.wantMissed(guest)
	b.wantMessages(Message{Notice: notice.Ajar, User: guest})
	ring("$2")
	b.step(time.Second)
	b.m.AnswerKnock(b.now, b.last.View.Knock.ID, true)
	b.step(0)
	b.want(dresden, "", "opening")
	b.step(emptyGrace)
	b.want("", "", "ajar")
	b.step(time.Minute)
	ring("$3")
	b.step(time.Second)
	b.m.AnswerKnock(b.now, b.last.View.Knock.ID, false)
	b.wantMessages(Message{Decline: "$3"}, Message{Notice: notice.NotNow, User: guest})
	ring("$4")
	b.want("", "", "knocked")
}

// TestShutDeclines: a call at the shut window is declined, the room is told now and then, and the screen shows who it was.
func TestShutDeclines(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(time.Second)))
	b.m.SetShutter(b.now, directory.Shut)
	b.step(time.Minute)
	b.calls(guest)
	b.want("", "", "shut")
	b.wantMessages(Message{Notice: notice.Shut, User: guest})
	b.m.CallNotification(b.now, dresden, guest, "$1", b.now.Add(30*time.Second))
	b.m.CallNotification(b.now, dresden, guest, "$1", b.now.Add(30*time.Second))
	b.wantMessages(Message{Decline: "$1"})
	first := b.now
	b.m.CallNotification(b.now, dresden, ben, "$2", b.now.Add(30*time.Second))
	b.step(noticeEvery - time.Second)
	b.wantMessages(Message{Decline: "$2"}, Message{Notice: notice.Shut, User: ben})
	b.calls(guest, ben, kioskUser(munich))
	b.wantMessages()
	b.wantMissed(kioskUser(munich), ben, guest)
	if m := b.last.View.Missed; len(m) != 3 || m[2].At != first || m[0].Who.Window != munich {
		t.Errorf("missed %+v", m)
	}
	b.calls()
	b.step(time.Second)
	b.calls(guest)
	b.wantMessages(Message{Notice: notice.Shut, User: guest})
	b.wantMissed(guest, kioskUser(munich), ben)
	b.calls()
	b.step(time.Minute)
	// Somebody who has been in the call for long is not calling now.
	member := memberOf(guest)
	member.Created = b.now.Add(-recentCall - time.Second)
	b.m.SetMembers(dresden, []Member{member})
	b.step(0)
	b.m.SetMembers(dresden, nil)
	b.step(0)
	b.wantMissed(guest, kioskUser(munich), ben)
	if b.m.knocks.missed[0].At == b.now {
		t.Error("a stale membership counts as a call")
	}
	b.m.SetShutter(b.now, directory.Open)
	b.step(0)
	b.m.SetShutter(b.now, directory.Shut)
	b.step(0)
	b.wantMissed()
}

// TestShutAfterAVisit: people who were in the visit have not knocked. A window that called just when ours was shut has not, either.
func TestShutAfterAVisit(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(time.Second)))
	b.calls(guest)
	b.want(dresden, "", "opening")
	b.step(time.Minute)
	b.m.SetShutter(b.now, directory.Shut)
	b.step(0)
	b.wantMessages()
	b.wantMissed()
	b.step(time.Second)
	b.calls(guest, kioskUser(munich))
	b.step(time.Minute)
	b.wantMessages()
	b.wantMissed()
	// Shutting the window declines a knock that waits.
	b = newAjar(t)
	b.calls(guest)
	b.m.CallNotification(b.now, dresden, guest, "$1", b.now.Add(time.Minute))
	b.step(time.Second)
	b.m.SetShutter(b.now, directory.Shut)
	b.step(0)
	b.want("", "", "shut")
	b.wantMessages(Message{Notice: notice.Ajar, User: guest}, Message{Decline: "$1"}, Message{Notice: notice.Shut, User: guest})
	b.wantMissed()
	// When the window is set ajar, somebody who waits in the call knocks. When it is opened, they are answered.
	b.m.SetShutter(b.now, directory.Ajar)
	b.step(0)
	b.want("", "", "knocked")
	b.m.SetShutter(b.now, directory.Open)
	b.step(0)
	b.want(dresden, "", "opening")
}

// TestStartSettles: after a restart nobody is declined before the page has said whether the window is open.
func TestStartSettles(t *testing.T) {
	b := &bench{T: t, m: New(testCountdown, maxPictures), now: epoch}
	b.m.openedAt = epoch
	b.m.SetDirectory(dresden, true, nil)
	b.m.CallNotification(b.now, dresden, guest, "$1", b.now.Add(time.Minute))
	b.calls(guest)
	b.step(pageGrace / 2)
	b.wantMessages()
	b.m.SetPage(b.now, true)
	b.m.SetShutter(b.now, directory.Open)
	b.step(0)
	b.want(dresden, "", "opening")
	b.wantMessages()

	b = &bench{T: t, m: New(testCountdown, maxPictures), now: epoch}
	b.m.openedAt = epoch
	b.m.SetDirectory(dresden, true, nil)
	b.m.CallNotification(b.now, dresden, guest, "$1", b.now.Add(time.Minute))
	b.step(pageGrace)
	b.wantMessages(Message{Decline: "$1"}, Message{Notice: notice.Shut, User: guest})
}
