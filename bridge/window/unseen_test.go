package window

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bridge/notice"
	"multifactorymodel.org/ewindow/bridge/window/unseen"
)

// ledger adds up, from the plans alone, for how long each person got our picture without being seen. It is the test's own account of the promise:
// at most 15 s within an hour, whatever happens. It leaves out the other window of the visit.
type ledger struct {
	got map[id.UserID][]span
}

type span struct{ begin, end time.Time }

// note notes that nothing changes until then. It returns who has got too much, "" for nobody.
func (l *ledger) note(m *Rules, p Plan, now, then time.Time) id.UserID {
	if l.got == nil {
		l.got = make(map[id.UserID][]span)
	}
	v := m.visit
	if v == nil {
		return ""
	}
	for user := range l.got {
		if v.sees(user) {
			delete(l.got, user)
		}
	}
	if !p.Send {
		return ""
	}
	var got []id.UserID
	for _, member := range p.Named {
		if !v.sees(member.User) && member.User != p.Kiosk && !slices.Contains(got, member.User) {
			got = append(got, member.User)
		}
	}
	for _, user := range got {
		sum := time.Duration(0)
		l.got[user] = append(l.got[user], span{now, then})
		for _, s := range l.got[user] {
			if begin := later(s.begin, then.Add(-time.Hour)); begin.Before(s.end) {
				sum += s.end.Sub(begin)
			}
		}
		if sum > 15*time.Second {
			return user
		}
	}
	return ""
}

// keyed checks who gets our key, and that all others who are named are shown as unseen.
func (b *bench) keyed(users ...id.UserID) {
	b.Helper()
	var got []id.UserID
	for _, member := range b.last.Named {
		if !slices.Contains(got, member.User) {
			got = append(got, member.User)
		}
	}
	slices.Sort(got)
	slices.Sort(users)
	if !slices.Equal(got, users) {
		b.Fatalf("%v get our key, want %v; unseen %v", got, users, b.last.View.Unseen)
	}
	checkNamed(b.T, b.m, b.last)
}

// TestUnseenGuest: a guest who shows nothing gets our picture for some seconds, although another window is seen. Then they lose the key, are told so,
// and get it again as soon as they are seen. All visits and devices of an hour count together.
func TestUnseenGuest(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(time.Second)))
	phone := memberOf(guest)
	phone.Device, phone.Identity = "PHONE", phone.Identity+"2"
	b.arrive(dresden, kioskIn(munich))
	b.picture(kioskIn(munich), true)
	b.step(testCountdown)
	b.m.SetMembers(dresden, []Member{kioskIn(munich), memberOf(guest)})
	b.step(PictureBudget - time.Second)
	b.keyed(kioskUser(munich), guest)
	b.m.SetMembers(dresden, []Member{kioskIn(munich)})
	b.step(time.Minute)
	b.m.SetMembers(dresden, []Member{kioskIn(munich), phone})
	b.step(time.Second - time.Millisecond)
	b.keyed(kioskUser(munich), guest)
	b.wantMessages()
	b.step(time.Millisecond)
	b.keyed(kioskUser(munich))
	b.wantMessages(Message{Notice: notice.Unseen, User: guest})
	if !slices.Equal(b.last.View.Unseen, []Person{{Tile: -1, User: guest}}) || !b.last.Send || b.last.View.Screen != ScreenVisit {
		t.Errorf("screen %+v", b.last.View)
	}
	// Another visit in another room's call does not help.
	b.m.SetShutter(b.now, directory.Shut)
	b.step(time.Minute)
	b.m.SetDirectory(dresden, true, []directory.Window{windowOf(munich, directory.Open, epoch)})
	b.m.SetShutter(b.now, directory.Open)
	b.m.SetMembers(dresden, nil)
	b.arrive(munich, kioskIn(munich), memberOf(guest), phone)
	b.picture(kioskIn(munich), true)
	b.step(testCountdown)
	b.want(munich, munich, "visit")
	b.keyed(kioskUser(munich))
	b.wantMessages() // it is not our room
	// The guest's camera comes on.
	b.picture(phone, true)
	b.keyed(kioskUser(munich), guest)
	if len(b.last.Named) != 3 || len(b.last.View.Unseen) != 0 {
		t.Errorf("plan %+v", b.last)
	}
	b.step(time.Hour)
	b.picture(phone, false)
	b.step(PictureBudget - time.Millisecond)
	b.keyed(kioskUser(munich), guest)
	b.step(time.Millisecond)
	b.keyed(kioskUser(munich))
	b.step(unseen.Period - time.Millisecond)
	b.keyed(kioskUser(munich))
	b.step(time.Millisecond)
	b.keyed(kioskUser(munich), guest)
}

// TestUnseenAlone: a guest who comes with the camera off gets nothing, not even the first seconds of a visit.
func TestUnseenAlone(t *testing.T) {
	b := newBench(t)
	for i := range 10 {
		member := memberOf(guest)
		member.Created = b.now
		b.m.SetMembers(dresden, []Member{member})
		b.step(0)
		b.m.FocusConnected(b.now, b.m.visit.number)
		b.m.RemoteCamera(b.now, b.m.visit.number, member.Identity, 0, true, true)
		for range 20 {
			if p := b.step(500 * time.Millisecond); p.Send {
				t.Errorf("visit %d: the window sends, %+v", i, p.View)
			}
		}
		if v := b.last.View; !v.Held || v.Seen || v.Screen != ScreenVisit {
			t.Fatalf("visit %d: %+v", i, v)
		}
		b.m.SetMembers(dresden, nil)
		b.step(time.Minute)
	}
	b.keyed()
}

// TestUnseenTrials: trials for a guest whose announced picture does not come end when the budget is used up. Trials of another window go on.
func TestUnseenTrials(t *testing.T) {
	for _, of := range []Member{memberOf(guest), kioskIn(munich)} {
		b := newBench(t, windowOf(munich, directory.Open, epoch.Add(time.Second)))
		b.arrive(dresden, of)
		b.m.FocusConnected(b.now, b.m.visit.number)
		trials := 0
		for range 5 * 60 {
			b.m.RemoteCamera(b.now, b.m.visit.number, of.Identity, 0, true, false)
			if before := b.last.Send; b.step(time.Second).Send && !before {
				trials++
			}
		}
		if kiosk := of.User != guest; kiosk != (trials > 20) || b.last.View.Trials != kiosk || (len(b.last.Named) > 0) != kiosk {
			t.Errorf("%s: %d trials in five minutes; %+v", of.User, trials, b.last.View)
		}
	}
}

// TestThirdWindowUnseen: a third window in the call is not shown, so it is not seen, either.
func TestThirdWindowUnseen(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(time.Second)), windowOf(rosenwerk, directory.Open, epoch.Add(time.Second)))
	b.arrive(dresden, kioskIn(munich), kioskIn(rosenwerk))
	b.picture(kioskIn(munich), true)
	b.step(testCountdown + PictureBudget - time.Millisecond)
	b.keyed(kioskUser(munich), kioskUser(rosenwerk))
	b.step(time.Millisecond)
	b.keyed(kioskUser(munich))
	b.wantMessages()
	b.arrive(dresden, kioskIn(rosenwerk)) // now it is the other window
	b.keyed(kioskUser(rosenwerk))
}

// TestUnseenAllowed: where the window's people allow it, guests see the window with their cameras off while somebody else is seen, and the screen
// names them. Alone they get no more than anywhere, and other windows are not meant.
func TestUnseenAllowed(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(time.Second)), windowOf(rosenwerk, directory.Open, epoch.Add(time.Second)))
	b.m.AllowUnseenGuests()
	b.arrive(dresden, kioskIn(munich), kioskIn(rosenwerk), memberOf(guest))
	b.picture(kioskIn(munich), true)
	b.step(time.Hour / 2)
	b.keyed(kioskUser(munich), guest)
	if v := b.last.View; !slices.Equal(v.Allowed, []Person{{Tile: -1, User: guest}}) || len(v.Unseen) != 1 || v.Unseen[0].Window != rosenwerk {
		t.Errorf("screen %+v", v)
	}
	b.picture(kioskIn(munich), false)
	if len(b.last.View.Allowed) != 0 {
		t.Errorf("nothing is sent, and yet %+v", b.last.View)
	}
	b.wantMessages()
	b.arrive(dresden, memberOf(guest))
	b.step(time.Hour / 2)
	b.keyed()
	b.wantMessages(Message{Notice: notice.Unseen, User: guest})
}

// TestUnseenWithheld: whoever gets no key because of their device is not told about their camera.
func TestUnseenWithheld(t *testing.T) {
	b := newBench(t)
	b.see(guest)
	b.call(ben)
	b.m.Withheld(b.now, b.m.visit.number, ben)
	b.step(time.Minute)
	b.keyed(guest)
	if v := b.last.View; len(v.Withheld) != 1 || len(v.Unseen) != 0 {
		t.Errorf("screen %+v", v)
	}
	b.wantMessages(Message{Notice: notice.Device, User: ben})
}

// TestTurns: on a screen that has not enough places, those who are not seen make room for others, so that everybody can be seen. Whoever is seen
// stays, and a second device takes nobody's place.
func TestTurns(t *testing.T) {
	b := newBench(t)
	var members []Member
	for i := range 6 {
		members = append(members, memberOf(id.UserID(fmt.Sprintf("@g%d:x", i))))
	}
	second := members[0]
	second.Device, second.Identity = "SECOND", second.Identity+"2"
	b.m.SetMembers(dresden, slices.Insert(slices.Clone(members), 1, second))
	b.step(0)
	places := func() (users []id.UserID) {
		for _, m := range b.last.Members {
			users = append(users, m.User)
		}
		return users
	}
	if got := places(); !slices.Equal(got, []id.UserID{"@g0:x", "@g1:x", "@g2:x", "@g3:x"}) {
		t.Fatalf("places %v", got)
	}
	b.picture(members[1], true)
	b.picture(members[2], true)
	b.step(turnTime - time.Millisecond)
	if got := places(); slices.Contains(got, "@g4:x") {
		t.Fatalf("places %v", got)
	}
	b.step(time.Millisecond)
	if got := places(); !slices.Equal(got, []id.UserID{"@g1:x", "@g2:x", "@g4:x", "@g5:x"}) {
		t.Fatalf("places %v", got)
	}
	b.step(turnTime)
	if got := places(); !slices.Equal(got, []id.UserID{"@g1:x", "@g2:x", "@g0:x", "@g3:x"}) {
		t.Fatalf("places %v", got)
	}
	b.keyed("@g1:x", "@g2:x")
	b.step(turnTime)
	b.picture(members[4], true)
	b.keyed("@g1:x", "@g2:x", "@g4:x")
	// With enough places nobody waits, and nobody moves.
	b.m.SetMembers(dresden, members[:4])
	b.step(0)
	before := places()
	b.step(time.Hour)
	if got := places(); !slices.Equal(got, before) || !b.m.visit.turns.next.IsZero() {
		t.Errorf("places %v, then %v", before, got)
	}
}

// TestSeenWithoutPlace: a guest who was seen keeps the key while a shared screen takes their place. Others do not.
func TestSeenWithoutPlace(t *testing.T) {
	b := newBench(t, windowOf(munich, directory.Open, epoch.Add(time.Second)))
	members := []Member{kioskIn(munich), memberOf(guest), memberOf(ben), memberOf(cem)}
	b.arrive(dresden, members...)
	for _, m := range members {
		b.picture(m, true)
	}
	b.step(testCountdown)
	b.m.RemoteScreen(b.m.visit.number, memberOf(guest).Identity, 3, true)
	b.picture(memberOf(cem), false)
	b.step(time.Hour / 2)
	b.keyed(kioskUser(munich), guest, ben, cem)
	b.m.SetMembers(dresden, members[:3])
	b.step(time.Second)
	b.m.SetMembers(dresden, members)
	b.step(PictureBudget)
	b.keyed(kioskUser(munich), guest, ben)
}

// TestBudgetsAreBounded: whoever is one too many gets nothing before they are seen.
func TestBudgetsAreBounded(t *testing.T) {
	b := newBench(t)
	b.see(guest)
	for i := range unseen.MaxBudgets {
		b.m.budgets.Begin(id.UserID(fmt.Sprintf("@x%d:x", i)))
	}
	b.step(time.Second)
	b.call(ben)
	b.keyed(guest)
	b.step(unseen.Period)
	b.keyed(guest, ben)
}
