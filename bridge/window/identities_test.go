package window

import (
	"testing"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
)

// asked checks about whom the screen asks, empty for nobody.
func (b *bench) asked(user id.UserID) {
	b.Helper()
	b.step(0)
	switch i := b.last.View.Identity; {
	case i == nil && user != "":
		b.Fatalf("nobody is asked about %s; screen %q", user, b.last.View.Screen)
	case i != nil && i.Who.User != user:
		b.Fatalf("people are asked about %s, want %q", i.Who.User, user)
	}
}

// TestNewIdentityOfWindow: a window with a new identity is neither called nor answered, until somebody at this window says that it is right.
func TestNewIdentityOfWindow(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(-time.Hour)))
	b.m.SetShutter(b.now, directory.Ajar)
	b.m.SetIdentity(kioskUser(munich), "new")
	b.asked(kioskUser(munich))
	b.m.SetShutter(b.now, directory.Open)
	b.asked(kioskUser(munich))
	b.m.SetMembers(dresden, []Member{kioskIn(munich)})
	b.step(time.Minute)
	b.want("", "", ScreenIdentity)
	// A press at the moment when the question appears means something else. So does an answer about another key, or about nobody.
	b.m.SetShutter(b.now, directory.Shut)
	b.step(time.Second)
	b.asked("")
	b.m.SetShutter(b.now, directory.Open)
	b.asked(kioskUser(munich))
	b.m.AnswerIdentity(b.now.Add(knockGuard-1), kioskUser(munich), "new", true)
	b.step(knockGuard)
	b.m.AnswerIdentity(b.now, kioskUser(munich), "newer", true)
	b.m.AnswerIdentity(b.now, guest, "new", true)
	b.wantMessages()
	b.asked(kioskUser(munich))
	// Not now: people are not asked again before somebody opens the window again, or the key changes once more.
	b.m.AnswerIdentity(b.now, kioskUser(munich), "new", false)
	b.asked("")
	b.wantMessages()
	b.want("", "", ScreenAlone)
	b.m.SetIdentity(kioskUser(munich), "newer")
	b.asked(kioskUser(munich))
	b.step(knockGuard)
	b.m.AnswerIdentity(b.now, kioskUser(munich), "newer", true)
	messages := b.m.TakeMessages()
	if len(messages) != 1 || messages[0].Confirm == nil || *messages[0].Confirm != (Identity{Person{-1, munich, kioskUser(munich)}, "newer"}) {
		t.Fatalf("to be done: %+v", messages)
	}
	b.asked("")
	b.want("", "", ScreenAlone)
	b.m.SetIdentity(kioskUser(munich), "") // it was done
	b.step(0)
	b.want(dresden, munich, ScreenOpening)
	b.keyed(kioskUser(munich))
	// It changes in the visit.
	b.picture(kioskIn(munich), true)
	b.m.SetIdentity(kioskUser(munich), "third")
	b.step(0)
	b.keyed()
	if b.last.Send || len(b.last.Members) > 0 {
		t.Errorf("plan %+v", b.last)
	}
	b.step(emptyGrace)
	b.asked(kioskUser(munich))
}

// TestNewIdentityOfGuest: a guest who has reset their identity hears what to do, and people at the window are asked after the call.
func TestNewIdentityOfGuest(t *testing.T) {
	b := newBench(t)
	b.see(ben)
	b.m.SetIdentity(guest, "new")
	b.asked("") // nobody asks about somebody who does not call
	b.call(guest)
	b.m.Withheld(b.now, b.last.Visit, guest)
	b.step(0)
	b.wantMessages(Message{Notice: NoticeIdentity, User: guest})
	if v := b.last.View; len(v.Renewed) != 1 || len(v.Withheld) != 0 {
		t.Errorf("screen %+v", v)
	}
	b.leave()
	b.step(emptyGrace)
	b.asked(guest)
	b.call(cem) // somebody else calls
	b.asked("")
	b.leave()
	b.step(emptyGrace)
	b.asked(guest)
	b.m.SetIdentity(guest, "")
	b.asked("")
	if len(b.m.identities.asked) > 0 {
		t.Errorf("kept: %v", b.m.identities.asked)
	}
}
