package window

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"go.mau.fi/util/jsontime"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
)

// FuzzRules gives the rules any sequence of facts. A shut window must show and send nothing. Nothing may be sent while nobody is there. The
// plan must not change before its wake, nor by being read, and its wake must not be in the past.
func FuzzRules(f *testing.F) {
	f.Add([]byte{0, 10, 1, 20, 2, 30, 3, 40, 4, 50, 5, 60, 6, 70, 7, 80, 8, 90, 9, 100, 10, 110, 11, 120})
	f.Add([]byte{2, 1, 0, 0, 4, 1, 6, 3, 8, 255, 7, 0, 1, 0})
	f.Add([]byte{0, 0, 3, 7, 4, 77, 5, 77, 9, 1, 9, 0, 10, 2, 11, 255, 11, 255, 11, 255, 1, 9})
	f.Add([]byte{14, 0, 6, 20, 16, 1, 16, 1, 1, 0, 15, 255, 14, 9, 15, 119, 6, 4, 14, 255, 14, 255, 16, 0, 6, 12, 16, 1})
	f.Add([]byte{0, 0, 17, 10, 19, 1, 19, 6, 17, 200, 6, 4, 10, 1, 14, 9, 17, 255, 17, 255, 19, 2, 18, 0, 6, 12, 17, 255, 6, 13})
	// A window calls while people are rung.
	f.Add([]byte("2001B00101010CZ1'02S"))
	f.Add([]byte{2, 1, 4, 16, 0, 1, 6, 5, 10, 0, 18, 255, 10, 1, 18, 100, 10, 17, 18, 255}) // a guest next to a window that is seen
	f.Add([]byte{2, 1, 4, 16, 0, 1, 22, 4, 6, 5, 18, 20, 23, 1, 22, 8, 18, 20, 23, 1, 22, 0, 18, 40, 22, 4, 18, 80})
	f.Add([]byte{2, 1, 24, 20, 25, 3, 0, 1, 24, 20, 6, 4, 25, 1, 6, 0, 18, 90, 25, 1})
	f.Add([]byte{0, 1, 6, 4, 20, 2, 20, 60, 6, 0, 20, 60, 6, 4, 21, 2, 20, 255, 20, 255, 21, 2, 10, 100, 10, 100})
	// Somebody who was not let in stays in the call, and somebody else is let in and does not come.
	f.Add([]byte("6180 XB\xac000000C7x90"))
	f.Fuzz(func(t *testing.T, data []byte) {
		rooms := []id.RoomID{munich, bolzano, "!zz:z"}
		m := New(testCountdown, maxPictures)
		now := epoch
		windows := make([]directory.Window, len(rooms))
		for i, room := range rooms {
			windows[i] = windowOf(room, directory.Shut, epoch)
		}
		lastVisit := uint64(0)
		var there model
		var got ledger
		for len(data) >= 2 && len(data) < 400 {
			kind, arg := data[0]%27, data[1]
			data = data[2:]
			room := rooms[int(arg)%len(rooms)]
			switch kind {
			case 0:
				m.SetShutter(now, directory.Open)
			case 1:
				m.SetShutter(now, directory.Shut)
			case 2:
				m.SetPage(now, arg%3 != 0)
			case 3:
				m.SetCamera(now, []string{"on", "off", "fault"}[arg%3], "busy")
			case 4, 5:
				w := &windows[int(arg)%len(rooms)]
				w.Shutter = []directory.Shutter{directory.Open, directory.Shut, directory.Ajar}[arg>>4%3]
				w.Since = jsontime.UMInt(now.Add(time.Duration(int(arg)-128) * time.Second).UnixMilli())
				w.Facing = []id.RoomID{"", dresden, munich, bolzano}[arg>>2&3]
				w.Joined = arg&64 == 0
				m.SetDirectory(dresden, arg != 255, windows[:len(rooms)-int(arg>>7)])
			case 6, 7:
				call := append([]id.RoomID{dresden, "!elsewhere:x"}, rooms...)[int(arg>>4)%5]
				var members []Member
				for i, user := range []id.UserID{kioskUser(munich), kioskUser(bolzano), guest, "@stranger:x"} {
					if arg>>i&1 == 1 {
						members = append(members, memberOf(user))
					}
				}
				m.SetMembers(call, members)
			case 8:
				m.CallFailed(now, room)
			case 9:
				if c := m.visit; c != nil {
					who := []id.UserID{kioskUser(munich), guest, "@nobody:x"}[arg%3]
					m.RemoteUnshown(c.number, memberOf(who).Identity, arg&192 == 192)
					c.remoteCamera(now, memberOf(who).Identity, int(arg&3), arg&16 == 0, arg&32 == 0)
				}
			case 10:
				if c := m.visit; c != nil {
					who := []id.UserID{kioskUser(munich), guest, "@nobody:x"}[arg%3]
					c.remotePicture(memberOf(who).Identity, int(arg&3), arg&16 == 0)
				}
			case 11:
				m.Choose(append(rooms, dresden, "!elsewhere:x")[arg%5])
			case 12:
				down := time.Time{}
				if arg%2 == 0 {
					down = now
				}
				m.SetHomeserver(down)
			case 13:
				if c := m.visit; c != nil {
					if arg%2 == 0 {
						c.focusLost(now)
					} else {
						c.focusConnected(now)
					}
					if arg&4 == 4 {
						m.Withheld(now, c.number, guest)
					}
				}
			case 14:
				m.SetShutter(now, directory.Ajar)
			case 15:
				m.CallNotification(now, append(rooms, dresden)[arg%4], []id.UserID{kioskUser(munich), guest, "@stranger:x"}[arg>>2%3],
					id.EventID([]string{"$1", "$2"}[arg>>4&1]), now.Add(time.Duration(arg)*time.Second/2))
			case 17:
				m.StartRinging(now)
			case 18:
				m.StopRinging(now)
			case 19:
				m.Rang(now, m.ringing.count, "$ring", int(arg%4), nil)
				m.RingDecline(dresden, []id.UserID{guest, "@stranger:x"}[arg>>2%2], "$ring")
			case 22:
				user := []id.UserID{kioskUser(munich), kioskUser(bolzano), guest}[arg%3]
				m.SetIdentity(user, []id.Ed25519{"", "new", "newer"}[arg>>2%3])
			case 26:
				if v := m.visit; v != nil {
					m.LetTalk(now, v.voices.asked)
				}
			case 24:
				m.SetComparison(guest, []string{"🐶"}, []string{"Dog"})
			case 25:
				if arg%2 == 0 {
					m.EndComparison()
				} else if c := m.comparing.now; c != nil {
					m.AnswerComparison(now, c.ID, arg&2 == 2)
				}
			case 23:
				if p := m.pending(now); p != nil {
					m.AnswerIdentity(now, p.Who.User, p.Key, arg&1 == 1)
				}
			case 20, 21:
				if c := m.visit; c != nil {
					identity := []string{memberOf(guest).Identity, memberOf("@stranger:x").Identity, "unknown"}[arg%3]
					if kind == 20 {
						m.ParticipantArrived(now, c.number, identity)
						there.arrive(c.number, identity, now)
					} else {
						m.ParticipantDeparted(now, c.number, identity)
						there.depart(identity)
					}
				}
			case 16:
				if k := m.knocks.waiting(); k != nil {
					m.AnswerKnock(now, k.id+uint64(arg>>1&1), arg&1 == 1)
				}
			}
			p := decide(m, now)
			check(t, m, now, p)
			there.check(t, m, now, p)
			unchanged(t, m, now)
			if p.Visit < lastVisit && p.Visit != 0 {
				t.Fatalf("visit %d after %d", p.Visit, lastVisit)
			}
			lastVisit = max(lastVisit, p.Visit)

			next := now.Add(time.Duration(arg) * 177 * time.Millisecond)
			for kind != 12 && !p.Wake.IsZero() && !p.Wake.After(next) { // after kind 12 the program wakes late
				if user := got.note(m, p, now, p.Wake); user != "" {
					t.Fatalf("%s gets too much of our picture without being seen", user)
				}
				now = p.Wake
				p = decide(m, now)
				check(t, m, now, p)
				there.check(t, m, now, p)
				lastVisit = max(lastVisit, p.Visit)
			}
			if user := got.note(m, p, now, next); kind != 12 && user != "" {
				t.Fatalf("%s gets too much of our picture without being seen", user)
			}
			if p.Wake.IsZero() || p.Wake.After(next) {
				again := decide(m, next)
				again.Wake = p.Wake
				if !reflect.DeepEqual(p, again) {
					t.Fatalf("%v later, without anything having happened:\n%+v\n%+v", next.Sub(now), p, again)
				}
			}
			now = next
		}
	})
}

// model is who is at the SFU, for the test: since when each participant has been there without a membership.
type model struct {
	visit uint64
	since map[string]time.Time
}

func (o *model) arrive(visit uint64, identity string, now time.Time) {
	if o.visit != visit || o.since == nil {
		o.visit, o.since = visit, make(map[string]time.Time)
	}
	if _, twice := o.since[identity]; !twice {
		o.since[identity] = now
	}
}

func (o *model) depart(identity string) { delete(o.since, identity) }

// check: whoever is there for long without a membership is shown, and nobody is shown whose membership counts.
func (o *model) check(t *testing.T, m *Rules, now time.Time, p Plan) {
	t.Helper()
	if p.View.Stranger != (len(p.Strangers) > 0) {
		t.Fatalf("unknown %t, and yet %q", p.View.Stranger, p.Strangers)
	}
	members := make(map[string]bool)
	for _, member := range m.members.in(p.Room) {
		if m.windows.mayCall(member.User) {
			members[member.Identity] = true
		}
	}
	for _, identity := range p.Strangers {
		if members[identity] {
			t.Fatalf("%s is in the call and shown as unknown", identity)
		}
	}
	if o.visit != p.Visit {
		return
	}
	for identity, since := range o.since {
		if members[identity] {
			o.since[identity] = time.Time{}
			continue
		}
		if since.IsZero() {
			o.since[identity] = now
		}
		if !now.Before(o.since[identity].Add(StrangerGrace)) && !slices.Contains(p.Strangers, identity) {
			t.Fatalf("%s has been there since %v and is not shown", identity, now.Sub(o.since[identity]))
		}
	}
}

func check(t *testing.T, m *Rules, now time.Time, p Plan) {
	t.Helper()
	if !p.Wake.IsZero() && !p.Wake.After(now) {
		t.Fatalf("wakes %v ago", now.Sub(p.Wake))
	}
	if (p.Room == "") != (p.Visit == 0) || p.Send != p.View.Seen {
		t.Fatalf("plan %+v", p)
	}
	if m.shutter == directory.Shut && (p.Send || p.Camera || p.Room != "" || p.View.Camera || p.View.Send ||
		p.Announce.Shutter != directory.Shut || p.Announce.Facing != "") {
		t.Fatalf("shut, and yet %+v", p)
	}
	if m.shutter == directory.Ajar && p.Room != "" {
		// Somebody who was let in, but did not come, leaves an empty call behind for a moment.
		if !m.knocks.admitted(now) && m.ringing.now == nil && !m.visit.alone || p.Room != dresden {
			t.Fatalf("ajar, and yet in the call of %q", p.Room)
		}
	}
	if (p.View.Screen == "knocked") != (p.View.Knock != nil) || p.View.Knock != nil && (p.Camera && p.View.Camera || p.Room != "") {
		t.Fatalf("a knock: %+v", p)
	}
	if m.ringing.now != nil && (p.Room != dresden || p.View.Screen != "ringing" || p.Send) {
		t.Fatalf("ringing, and yet %+v", p)
	}
	if len(p.Members) > maxPictures || p.View.Held && (p.Send || p.View.Screen != "visit" || p.View.Peer == nil) {
		t.Fatalf("guests: %+v", p)
	}
	if p.Sound && (p.Send || p.Camera || !p.View.Held || len(p.View.Talking) == 0) || len(p.Hushed) > 0 && slices.ContainsFunc(p.Named, func(o Member) bool { return slices.Contains(p.Hushed, o.User) }) {
		t.Fatalf("talks with %+v", p)
	}
	if p.Send && (len(p.Members) == 0 || len(p.Named) == 0 || !p.Camera || !p.View.Camera || !p.View.Send) {
		t.Fatalf("sends with %+v", p)
	}
	checkNamed(t, m, p)
	if (p.View.Screen == ScreenIdentity) != (p.View.Identity != nil) || p.View.Identity != nil && p.Room != "" {
		t.Fatalf("an identity: %+v", p)
	}
	if (p.View.Screen == ScreenVerify) != (p.View.Comparison != nil) || p.View.Comparison != nil && (p.Room != "" || p.View.Camera) {
		t.Fatalf("a comparison: %+v", p)
	}
	for _, member := range slices.Concat(p.Members, p.Named) {
		if m.windows.kiosks[member.User] && m.renewed(member.User) {
			t.Fatalf("%s has a new identity, and yet %+v", member.User, p)
		}
	}
	for _, member := range p.Members {
		if w, kiosk := m.windows.of(member.User); kiosk && w.Room != p.Peer || !kiosk && m.windows.kiosks[member.User] {
			t.Fatalf("shows %s while with %s", member.User, p.Peer)
		}
	}
}

// checkNamed: our key goes to exactly those whom the screen names.
func checkNamed(t *testing.T, m *Rules, p Plan) {
	t.Helper()
	if p.Room == "" && len(p.Named) > 0 {
		t.Fatalf("keys in no call: %v", p.Named)
	}
	onScreen := make(map[Person]bool)
	for _, person := range p.View.Guests {
		onScreen[Person{Window: person.Window, User: person.User}] = true
	}
	if peer := p.View.Peer; peer != nil {
		onScreen[Person{Window: peer.Window, User: peer.User}] = true
	}
	keyed := make(map[Person]bool)
	for _, member := range p.Named {
		person := m.windows.person(member.User)
		keyed[Person{Window: person.Window, User: person.User}] = true
		if person.Window != "" && person.Window == p.Peer {
			person.User = "" // the big picture names the window
		}
		if !onScreen[Person{Window: person.Window, User: person.User}] && !onScreen[Person{Window: person.Window, User: member.User}] {
			t.Fatalf("%s gets our key and is not on the screen: %+v", member.User, p.View)
		}
	}
	unseen := make(map[Person]bool) // the screen says that they get nothing
	for _, member := range m.members.in(p.Room) {
		if v := m.visit; v != nil && m.cut(v, member.User) {
			person := m.windows.person(member.User)
			unseen[Person{Window: person.Window, User: person.User}] = true
		}
	}
	for _, person := range p.View.Guests {
		who := Person{Window: person.Window, User: person.User}
		if keyed[who] == unseen[who] {
			t.Fatalf("%s is on the screen; key: %t, unseen: %t; %v", person.User, keyed[who], unseen[who], p.Named)
		}
	}
	for _, person := range p.View.Unseen {
		if keyed[Person{Window: person.Window, User: person.User}] {
			t.Fatalf("%s is shown as unseen and gets our key", person.User)
		}
	}
}
