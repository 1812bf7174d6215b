package bridge

import (
	"reflect"
	"testing"
	"time"

	"go.mau.fi/util/jsontime"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bot/rtc"
)

// FuzzMachine feeds any sequence of events. A shut window must show and send nothing, nothing may be sent to nobody, the plan must not
// change between its wakes, and it must never wake in the past.
func FuzzMachine(f *testing.F) {
	f.Add([]byte{0, 10, 1, 20, 2, 30, 3, 40, 4, 50, 5, 60, 6, 70, 7, 80, 8, 90, 9, 100, 10, 110, 11, 120})
	f.Add([]byte{2, 1, 0, 0, 4, 1, 6, 3, 8, 255, 7, 0, 1, 0})
	f.Add([]byte{0, 0, 3, 7, 4, 77, 5, 77, 9, 1, 9, 0, 10, 2, 11, 255, 11, 255, 11, 255, 1, 9})
	f.Add([]byte{14, 0, 6, 20, 16, 1, 16, 1, 1, 0, 15, 255, 14, 9, 15, 119, 6, 4, 14, 255, 14, 255, 16, 0, 6, 12, 16, 1})
	f.Add([]byte{0, 0, 17, 10, 19, 1, 19, 6, 17, 200, 6, 4, 10, 1, 14, 9, 17, 255, 17, 255, 19, 2, 18, 0, 6, 12, 17, 255, 6, 13})
	f.Fuzz(func(t *testing.T, data []byte) {
		rooms := []id.RoomID{munich, bolzano, "!zz:z"}
		m := newMachine(testCountdown)
		now := epoch
		windows := make([]directory.Window, len(rooms))
		for i, room := range rooms {
			windows[i] = windowOf(room, directory.Shut, epoch)
		}
		lastVisit := uint64(0)
		for len(data) >= 2 && len(data) < 400 {
			kind, arg := data[0]%20, data[1]
			data = data[2:]
			room := rooms[int(arg)%len(rooms)]
			switch kind {
			case 0:
				m.setShutter(now, directory.Open)
			case 1:
				m.setShutter(now, directory.Shut)
			case 2:
				m.setPage(now, arg%3 != 0)
			case 3:
				m.setCamera([]string{"on", "off", "fault"}[arg%3], "busy")
			case 4, 5:
				w := &windows[int(arg)%len(rooms)]
				w.Shutter = []directory.Shutter{directory.Open, directory.Shut, directory.Ajar}[arg>>4%3]
				w.Since = jsontime.UMInt(now.Add(time.Duration(int(arg)-128) * time.Second).UnixMilli())
				w.Facing = []id.RoomID{"", dresden, munich, bolzano}[arg>>2&3]
				w.Joined = arg&64 == 0
				m.setDirectory(dresden, arg != 255, windows[:len(rooms)-int(arg>>7)])
			case 6, 7:
				call := append([]id.RoomID{dresden, "!elsewhere:x"}, rooms...)[int(arg>>4)%5]
				var members []rtc.Member
				for i, user := range []id.UserID{kioskUser(munich), kioskUser(bolzano), guest, "@stranger:x"} {
					if arg>>i&1 == 1 {
						members = append(members, memberOf(user))
					}
				}
				m.setMembers(call, members)
			case 8:
				m.fail(now, room)
			case 9:
				if c := m.call; c != nil {
					who := []id.UserID{kioskUser(munich), guest, "@nobody:x"}[arg%3]
					c.remoteUp(now, memberOf(who).Identity, int(arg&3), arg&16 == 0, arg&32 == 0)
				}
			case 10:
				if c := m.call; c != nil {
					who := []id.UserID{kioskUser(munich), guest, "@nobody:x"}[arg%3]
					c.remotePicture(memberOf(who).Identity, int(arg&3), arg&16 == 0)
				}
			case 11:
				m.choose(append(rooms, dresden, "!elsewhere:x")[arg%5])
			case 12:
				down := time.Time{}
				if arg%2 == 0 {
					down = now
				}
				m.setHomeserver(down)
			case 13:
				if c := m.call; c != nil {
					if arg%2 == 0 {
						c.hubDown(now)
					} else {
						c.hubUp(now)
					}
					if arg&4 == 4 {
						m.withhold(now, c, guest)
					}
				}
			case 14:
				m.setShutter(now, directory.Ajar)
			case 15:
				m.ring(now, append(rooms, dresden)[arg%4], []id.UserID{kioskUser(munich), guest, "@stranger:x"}[arg>>2%3],
					id.EventID([]string{"$1", "$2"}[arg>>4&1]), now.Add(time.Duration(arg)*time.Second/2))
			case 17:
				m.startRing(now)
			case 18:
				m.endRing(now, "")
			case 19:
				m.rang(now, m.rings, "$ring", int(arg%4), nil)
				m.ringDecline(now, dresden, []id.UserID{guest, "@stranger:x"}[arg>>2%2], "$ring")
			case 16:
				if k := m.knocking(); k != nil {
					m.answerKnock(now, k.id+uint64(arg>>1&1), arg&1 == 1)
				}
			}
			p := m.decide(now)
			check(t, m, now, p)
			if p.visit < lastVisit && p.visit != 0 {
				t.Fatalf("visit %d after %d", p.visit, lastVisit)
			}
			lastVisit = max(lastVisit, p.visit)

			next := now.Add(time.Duration(arg) * 177 * time.Millisecond)
			if p.wake.IsZero() || p.wake.After(next) {
				again := m.decide(next)
				again.wake = p.wake
				if !reflect.DeepEqual(p, again) {
					t.Fatalf("%v later, without anything having happened:\n%+v\n%+v", next.Sub(now), p, again)
				}
			}
			now = next
		}
	})
}

func check(t *testing.T, m *machine, now time.Time, p plan) {
	t.Helper()
	if !p.wake.IsZero() && !p.wake.After(now) {
		t.Fatalf("wakes %v ago", now.Sub(p.wake))
	}
	if (p.room == "") != (p.visit == 0) || p.send != p.screen.seen {
		t.Fatalf("plan %+v", p)
	}
	if m.shutter == directory.Shut && (p.send || p.camera || p.room != "" || p.screen.camera || p.screen.send ||
		p.announce.Shutter != directory.Shut || p.announce.Facing != "") {
		t.Fatalf("shut, and yet %+v", p)
	}
	if m.shutter == directory.Ajar && p.room != "" {
		if _, ok := m.letIn(now); !ok && m.outgoing == nil || p.room != dresden {
			t.Fatalf("ajar, and yet in the call of %q", p.room)
		}
	}
	if (p.screen.name == "knocked") != (p.screen.knock != nil) || p.screen.knock != nil && (p.camera && p.screen.camera || p.room != "") {
		t.Fatalf("a knock: %+v", p)
	}
	if m.outgoing != nil && (p.room != dresden || p.screen.name != "ringing" || p.send) {
		t.Fatalf("ringing, and yet %+v", p)
	}
	if len(p.members) > maxPictures || p.screen.held && (p.send || p.screen.name != "visit" || p.screen.peer == nil) {
		t.Fatalf("guests: %+v", p)
	}
	if p.send && (len(p.members) == 0 || !p.camera || !p.screen.camera || !p.screen.send) {
		t.Fatalf("sends with %+v", p)
	}
	for _, member := range p.members {
		if w, kiosk := m.kioskOf(member.User); kiosk && w.Room != p.peer || !kiosk && m.kiosks[member.User] {
			t.Fatalf("shows %s while with %s", member.User, p.peer)
		}
	}
}
