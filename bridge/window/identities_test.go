package window

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bridge/notice"
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

// toldOf checks that the room was told about a new identity, and nothing else.
func (b *bench) toldOf(user id.UserID, key id.Ed25519) {
	b.Helper()
	b.wantMessages(Message{Notice: notice.NewIdentity, User: user, Code: Identity{Who: Person{User: user}, Key: key}.Code()})
}

// TestAdminConfirms: an admin confirms a new identity with its code, in our own room and for exactly that key, also while the window is shut.
func TestAdminConfirms(t *testing.T) {
	const admin = id.UserID("@admin:a")
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(-time.Hour)))
	user := kioskUser(munich)
	b.m.SetShutter(b.now, directory.Shut)
	b.m.SetIdentity(user, "new")
	b.asked("")
	b.toldOf(user, "new")
	code := Identity{Who: Person{User: user}, Key: "new"}.Code()
	if !regexp.MustCompile(`^([A-Z2-7]{4}-){3}[A-Z2-7]{4}$`).MatchString(code) {
		t.Fatalf("the code is %q", code)
	}
	b.m.Command("!elsewhere:a", admin, []string{"confirm", code})
	b.wantMessages()
	for _, words := range [][]string{nil, {"confirm"}, {"open", code}, {"confirm", code, "please"}} {
		b.m.Command(dresden, admin, words)
		b.wantMessages(Message{Notice: notice.Commands, User: admin})
		b.step(0)
		b.toldOf(user, "new")
	}
	b.m.Command(dresden, admin, []string{"confirm", "AAAA-AAAA-AAAA-AAAA"})
	b.wantMessages(Message{Notice: notice.NoIdentity, User: admin})
	// Somebody who changes their identity all the time does not fill the room, and nobody is told that it was confirmed when it was not.
	for _, key := range []id.Ed25519{"", "other", "", "newer"} {
		b.m.SetIdentity(user, key)
		b.step(time.Second)
	}
	b.wantMessages()
	b.step(noticeEvery)
	b.toldOf(user, "newer")
	b.m.Command(dresden, admin, []string{"confirm", code})
	b.wantMessages(Message{Notice: notice.NoIdentity, User: admin})
	newer := Identity{b.m.windows.person(user), "newer"}
	b.m.Command(dresden, admin, []string{"confirm", "“" + strings.ToLower(newer.Code()) + "”"})
	if messages := b.m.TakeMessages(); len(messages) != 1 || messages[0].Confirm == nil || *messages[0].Confirm != newer {
		t.Fatalf("to be done: %+v", messages)
	}
	b.m.SetIdentity(user, "")
	b.wantMessages(Message{Notice: notice.Confirmed, User: user})
	b.m.Command(dresden, admin, []string{"confirm", newer.Code()})
	b.wantMessages(Message{Notice: notice.NoIdentity, User: admin})
	// After a restart nobody knows that a guest has called. The code in the room is good all the same.
	b.m.SetIdentity(guest, "new")
	b.m.Command(dresden, admin, []string{"confirm", Identity{Who: Person{User: guest}, Key: "new"}.Code()})
	if messages := b.m.TakeMessages(); len(messages) != 1 || messages[0].Confirm == nil || messages[0].Confirm.Who.User != guest {
		t.Fatalf("to be done: %+v", messages)
	}
}

// TestNewIdentityOfWindow: a window with a new identity is neither called nor answered, until somebody at this window says that it is right.
func TestNewIdentityOfWindow(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(-time.Hour)))
	b.m.SetShutter(b.now, directory.Ajar)
	b.m.SetIdentity(kioskUser(munich), "new")
	b.asked(kioskUser(munich))
	b.toldOf(kioskUser(munich), "new")
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
	b.wantMessages(Message{Notice: notice.Confirmed, User: kioskUser(munich)})
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
	b.wantMessages(Message{Notice: notice.Identity, User: guest},
		Message{Notice: notice.NewIdentity, User: guest, Code: Identity{Who: Person{User: guest}, Key: "new"}.Code()})
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
