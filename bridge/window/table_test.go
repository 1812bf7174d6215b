package window

import (
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bridge/notice"
)

// cem is one more guest, and rosenwerk one more window.
const (
	cem       = id.UserID("@cem:elsewhere")
	rosenwerk = id.RoomID("!rosenwerk:d")
)

// outcome is what a test sees of an event.
type outcome struct {
	before, after Plan
	messages      []Message
	b             *bench
}

// sent says whether exactly these notices, and as many declines and removals, were sent.
func (o outcome) sent(declines, removals int, notices ...notice.Notice) bool {
	for _, m := range o.messages {
		switch {
		case m.Decline != "":
			declines--
		case m.Remove != nil:
			removals--
		case len(notices) > 0 && notices[0] == m.Notice:
			notices = notices[1:]
		default:
			return false
		}
	}
	return declines == 0 && removals == 0 && len(notices) == 0
}

// waiting says whether the window is in no call, shows this screen, and announces this position of the shutter.
func (o outcome) waiting(screen Screen, shutter directory.Shutter) bool {
	p := o.after
	return p.Room == "" && p.Visit == 0 && !p.Send && p.View.Screen == screen && p.Announce.Shutter == shutter && p.Announce.Facing == ""
}

// calling says whether the window is in the call of a room with another window.
func (o outcome) calling(room, peer id.RoomID, screen Screen) bool {
	p := o.after
	return p.Room == room && p.Peer == peer && p.View.Screen == screen
}

// outcomes check the cells of the table.
var outcomes = map[string]func(o outcome) bool{
	"unchanged": func(o outcome) bool {
		before, after := o.before, o.after
		before.Wake, after.Wake = time.Time{}, time.Time{}
		before.View.Windows, after.View.Windows = nil, nil
		return reflect.DeepEqual(before, after) && o.sent(0, 0)
	},
	"tells": func(o outcome) bool { // an admin in the room, and nobody else
		before, after := o.before, o.after
		before.Wake, after.Wake = time.Time{}, time.Time{}
		before.View.Windows, after.View.Windows = nil, nil
		return reflect.DeepEqual(before, after) && o.sent(0, 0, notice.NewIdentity)
	},
	"open": func(o outcome) bool { return o.waiting(ScreenAlone, directory.Open) && o.after.View.Camera },
	"alone": func(o outcome) bool {
		return o.waiting(ScreenAlone, directory.Open) && o.after.View.Ring == "" && o.sent(0, 0)
	},
	"ajar": func(o outcome) bool {
		return o.waiting(ScreenAjar, directory.Ajar) && o.after.View.Ring == "" && o.sent(0, 0)
	},
	"shut": func(o outcome) bool {
		return o.waiting(ScreenShut, directory.Shut) && !o.after.View.Camera && !o.after.Camera && o.sent(0, 0)
	},
	"calls it": func(o outcome) bool { return o.calling(munich, munich, ScreenOpening) && !o.after.Send },
	"expects it": func(o outcome) bool {
		return o.calling(dresden, munich, ScreenOpening) && !o.after.Send && o.after.Announce.Facing == ""
	},
	"answers": func(o outcome) bool {
		return o.after.Room == dresden && o.after.View.Screen == ScreenOpening && !o.after.View.CountUntil.IsZero() && len(o.after.Members) > 0
	},
	"knock": func(o outcome) bool {
		// A guest is told that they knock.
		return o.waiting(ScreenKnocked, directory.Ajar) && o.after.View.Knock != nil && !o.after.View.Camera &&
			(o.after.View.Knock.Who.Window != "" && o.sent(0, 0) || o.sent(0, 0, notice.Ajar))
	},
	"missed": func(o outcome) bool {
		return o.waiting(ScreenShut, directory.Shut) && len(o.after.View.Missed) > len(o.before.View.Missed) &&
			!slices.ContainsFunc(o.messages, func(m Message) bool { return m.Notice != notice.Shut }) && len(o.messages) <= maxTold
	},
	"ajar, missed": func(o outcome) bool {
		return o.waiting(ScreenAjar, directory.Ajar) && len(o.b.m.knocks.missed) == 1 && o.sent(0, 0)
	},
	"declines": func(o outcome) bool {
		return o.waiting(ScreenShut, directory.Shut) && len(o.after.View.Missed) == 1 && o.sent(1, 0, notice.Shut)
	},
	"declines at once": func(o outcome) bool {
		return o.waiting(ScreenShut, directory.Shut) && len(o.after.View.Missed) == 0 && o.sent(1, 0, notice.Shut)
	},
	"refuses": func(o outcome) bool {
		return o.waiting(ScreenAjar, directory.Ajar) && len(o.b.m.knocks.missed) == 0 && o.sent(1, 0, notice.NotNow)
	},
	"gives up": func(o outcome) bool {
		return o.waiting(ScreenAjar, directory.Ajar) && len(o.b.m.knocks.missed) == 1 && o.sent(1, 0, notice.Nobody)
	},
	"explains": func(o outcome) bool {
		return o.after.View.Screen == o.before.View.Screen && o.sent(0, 0, notice.Legacy)
	},
	"rings": func(o outcome) bool {
		return o.calling(dresden, "", ScreenRinging) && o.after.Ring != nil && o.after.Ring.Number == 1 && !o.after.Send
	},
	"alone, declined": func(o outcome) bool {
		return o.waiting(ScreenAlone, directory.Open) && o.after.View.Ring == RingDeclined
	},
	"ajar, declined": func(o outcome) bool {
		return o.waiting(ScreenAjar, directory.Ajar) && o.after.View.Ring == RingDeclined
	},
	"alone, nobody": func(o outcome) bool { return o.waiting(ScreenAlone, directory.Open) && o.after.View.Ring == RingNobody },
	"ajar, nobody":  func(o outcome) bool { return o.waiting(ScreenAjar, directory.Ajar) && o.after.View.Ring == RingNobody },
	"alone, failed": func(o outcome) bool { return o.waiting(ScreenAlone, directory.Open) && o.after.View.Ring == RingFailed },
	"ajar, failed":  func(o outcome) bool { return o.waiting(ScreenAjar, directory.Ajar) && o.after.View.Ring == RingFailed },
	"fault": func(o outcome) bool {
		return o.waiting(ScreenFault, o.before.Announce.Shutter) && o.after.View.Fault != "" && !o.after.View.Send
	},
	"fault, as shut": func(o outcome) bool {
		return o.waiting(ScreenFault, directory.Shut) && o.after.View.Fault != "" && !o.after.View.Send
	},
	"shut, fault": func(o outcome) bool {
		return o.waiting(ScreenShut, directory.Shut) && o.after.View.Fault == FaultHomeserver
	},
	"waits": func(o outcome) bool {
		return o.after.Visit == o.before.Visit && len(o.after.Members) == 0 && !o.after.Send
	},
	"not seen": func(o outcome) bool {
		return o.after.Visit == o.before.Visit && o.after.View.Screen == ScreenLost && !o.after.Send && o.sent(0, 0)
	},
	"joins": func(o outcome) bool {
		return o.after.Visit == o.before.Visit && o.after.View.Screen == ScreenOpening && len(o.after.Members) == 2
	},
	"missed, told": func(o outcome) bool {
		return o.waiting(ScreenShut, directory.Shut) && len(o.after.View.Missed) > len(o.before.View.Missed) && o.sent(0, 0, notice.Shut)
	},
	"lost": func(o outcome) bool {
		return o.after.Visit == o.before.Visit && o.after.View.Screen == ScreenLost && !o.after.Send && o.after.Unseen > o.before.Unseen
	},
	"visit": func(o outcome) bool {
		return o.after.Visit == o.before.Visit && o.after.View.Screen == ScreenVisit && o.after.Send
	},
	"begins again": func(o outcome) bool { return o.after.Visit > o.before.Visit && o.after.Room == o.before.Room },
	"visit, guest": func(o outcome) bool {
		return o.after.Visit == o.before.Visit && o.after.Send && len(o.after.Members) == 2 && len(o.after.View.Guests) == 1
	},
	"visit, third": func(o outcome) bool { // the third window is named, because it may hear us, but not shown
		return o.after.Visit == o.before.Visit && o.after.Send && len(o.after.Members) == 1 && len(o.after.View.Guests) == 1
	},
	"visit, hub": func(o outcome) bool { return o.after.Visit == o.before.Visit && o.after.View.Fault == FaultHub },
	"visit, fault": func(o outcome) bool {
		return o.after.Visit == o.before.Visit && o.after.Send && o.after.View.Fault == FaultHomeserver
	},
	"silent": func(o outcome) bool {
		return o.after.Visit == o.before.Visit && !o.after.Send && !o.after.Camera && o.after.Announce == o.before.Announce
	},
	"removes": func(o outcome) bool {
		return o.after.Visit == o.before.Visit && !o.after.Send && len(o.after.View.Guests) == 0 && o.after.View.Peer == nil && o.sent(0, 1)
	},
	"held back": func(o outcome) bool {
		return o.after.Visit == o.before.Visit && o.after.View.Held && !o.after.Send && !o.after.Camera && o.sent(0, 0, notice.Camera)
	},
	"talks": func(o outcome) bool {
		return o.after.Visit == o.before.Visit && o.after.View.Held && o.after.Sound && !o.after.Send && !o.after.Camera && len(o.after.Named) == 1 &&
			slices.Equal(o.after.View.Talking, []Person{{Tile: -1, User: guest}}) && o.sent(0, 0, notice.Camera)
	},
	"not shown": func(o outcome) bool {
		return o.after.Visit == o.before.Visit && o.after.View.Held && len(o.after.View.Unshown) == 1 && !o.after.Send && o.sent(0, 0, notice.Codec)
	},
	"asks": func(o outcome) bool {
		return o.waiting(ScreenIdentity, o.before.Announce.Shutter) && *o.after.View.Identity == Identity{Person{-1, munich, kioskUser(munich)}, "new"} &&
			len(o.after.View.Windows) == 1 && o.sent(0, 0, notice.NewIdentity)
	},
	"compares": func(o outcome) bool {
		return o.waiting(ScreenVerify, o.before.Announce.Shutter) && !o.after.View.Camera && len(o.after.View.Comparison.Symbols) == 1 && o.sent(0, 0)
	},
	"renewed": func(o outcome) bool {
		return o.after.Visit == o.before.Visit && len(o.after.View.Renewed) == 1 && len(o.after.View.Withheld) == 0 && o.sent(0, 0, notice.Identity, notice.NewIdentity)
	},
	"unseen": func(o outcome) bool { // the guest is named and gets no key
		return o.after.Visit == o.before.Visit && o.after.Send && len(o.after.Named) == 1 && len(o.after.View.Guests) == 1 &&
			slices.Equal(o.after.View.Unseen, []Person{{Tile: -1, User: guest}}) && o.sent(0, 0, notice.Unseen)
	},
	"unknown": func(o outcome) bool {
		return o.after.Visit == o.before.Visit && o.after.View.Stranger && !o.before.View.Stranger && o.after.Send && o.sent(0, 0)
	},
	"visit, 3 more": func(o outcome) bool {
		return o.after.Visit == o.before.Visit && o.after.View.More == 3 && len(o.after.Named) == maxNamed &&
			o.sent(0, 0, notice.Full, notice.Full, notice.Full)
	},
	"withheld": func(o outcome) bool { return len(o.after.View.Withheld) == 1 && o.sent(0, 0, notice.Device) },
	"joined": func(o outcome) bool {
		return o.after.Visit == o.before.Visit && o.after.Peer == munich && len(o.after.Members) == 2 && o.after.Announce.Facing == munich
	},
}

// ring sends a call notification of a guest.
func (b *bench) ring(user id.UserID) {
	b.m.CallNotification(b.now, dresden, user, id.EventID("$"+user), b.now.Add(30*time.Second))
}

// call adds a user to our room's call.
func (b *bench) call(users ...id.UserID) {
	b.Helper()
	b.calls(append(slices.Clone(b.inside), users...)...)
	b.inside = append(b.inside, users...)
}

// leave removes everybody from our room's call.
func (b *bench) leave() {
	b.Helper()
	b.inside = nil
	b.calls()
}

func (b *bench) answer(letIn bool) {
	b.Helper()
	b.step(time.Second)
	k := uint64(1) // where nobody waits, the answer is to an earlier knock
	if b.last.View.Knock != nil {
		k = b.last.View.Knock.ID
	}
	b.m.AnswerKnock(b.now, k, letIn)
}

// see puts a user into our room's call, with a picture that is seen.
func (b *bench) see(user id.UserID) {
	b.Helper()
	b.call(user)
	if b.last.View.Knock != nil {
		b.answer(true)
		b.step(0)
	}
	visit := b.last.Visit
	b.m.FocusConnected(b.now, visit)
	b.m.RemoteCamera(b.now, visit, memberOf(user).Identity, 0, true, false)
	b.m.RemotePicture(visit, memberOf(user).Identity, 0, true)
	b.step(testCountdown)
}

func (b *bench) windows(windows ...directory.Window) { b.m.SetDirectory(dresden, true, windows) }

// longer and after are Munich's window. In longer it has been open longer than ours. In after it opened after ours.
func (b *bench) longer() directory.Window {
	return windowOf(munich, directory.Open, epoch.Add(-time.Hour))
}
func (b *bench) after() directory.Window { return windowOf(munich, directory.Open, b.now) }

// section is a situation, and what may happen in it. begin makes the situation from a window where nobody is.
type section struct {
	begin  func(b *bench)
	events map[string]func(b *bench)
}

func press(to directory.Shutter) func(b *bench) {
	return func(b *bench) { b.m.SetShutter(b.now, to) }
}

func pageGone(b *bench) {
	b.m.SetPage(b.now, false)
	b.step(pageGrace)
}

func cameraFails(b *bench) { b.m.SetCamera(b.now, "fault", "busy") }

func homeserverLost(b *bench) { b.m.SetHomeserver(b.now) }

var sections = map[string]section{
	"nobody is there": {func(*bench) {}, map[string]func(b *bench){
		"press open": press(directory.Open), "press ajar": press(directory.Ajar), "press shut": press(directory.Shut),
		"an open window is chosen": func(b *bench) {
			b.windows(windowOf(munich, directory.Open, b.now.Add(time.Minute)))
			b.m.Choose(munich)
		},
		"a shut window is chosen":     func(b *bench) { b.m.Choose(munich) },
		"a window is open for longer": func(b *bench) { b.windows(b.longer()) },
		"a window has just opened":    func(b *bench) { b.windows(b.after()) },
		"a window opens, facing another": func(b *bench) {
			w := b.longer()
			w.Facing = rosenwerk
			b.windows(w)
		},
		"a window's identity is new": func(b *bench) { b.windows(b.longer()); b.m.SetIdentity(kioskUser(munich), "new") },
		"emoji are to be compared":   func(b *bench) { b.m.SetComparison(guest, []string{"🐶"}, []string{"Dog"}) },
		"a window with a new identity calls": func(b *bench) {
			b.windows(b.longer())
			b.m.SetIdentity(kioskUser(munich), "new")
			b.call(kioskUser(munich))
		},
		"a window calls":                   func(b *bench) { b.call(kioskUser(munich)) },
		"a guest calls":                    func(b *bench) { b.ring(guest); b.call(guest) },
		"a guest rings, but does not come": func(b *bench) { b.ring(guest) },
		"a removed kiosk calls":            func(b *bench) { b.windows(); b.call(kioskUser(munich)) },
		"a guest calls in the legacy way":  func(b *bench) { b.m.LegacyCall(b.now, dresden, guest) },
		"people are to be rung":            func(b *bench) { b.m.StartRinging(b.now) },
		"the call cannot be entered": func(b *bench) {
			b.windows(b.longer())
			b.step(0)
			b.m.CallFailed(b.now, munich)
		},
		"no focus is known":             func(b *bench) { b.m.FocusMissing(b.now) },
		"the homeserver is lost":        homeserverLost,
		"the window leaves the network": func(b *bench) { b.m.SetDirectory(dresden, false, nil) },
		"the page is gone":              pageGone,
		"the camera fails":              cameraFails,
	}},
	"somebody has knocked": {func(b *bench) { b.ring(guest); b.call(guest) }, map[string]func(b *bench){
		"let in":              func(b *bench) { b.answer(true) },
		"not now":             func(b *bench) { b.answer(false) },
		"nobody answers":      func(b *bench) { b.stay(guest); b.step(knockTime) },
		"the guest leaves":    func(b *bench) { b.leave(); b.step(emptyGrace) },
		"another guest calls": func(b *bench) { b.call(cem) },
		"press open":          press(directory.Open), "press ajar": press(directory.Ajar), "press shut": press(directory.Shut),
	}},
	"people are being rung": {func(b *bench) {
		b.m.StartRinging(b.now)
		b.step(0)
		b.m.Rang(b.now, 1, "$ring", 2, nil)
	}, map[string]func(b *bench){
		"press open": press(directory.Open), "press ajar": press(directory.Ajar), "press shut": press(directory.Shut),
		"one of them comes": func(b *bench) { b.ring(guest); b.call(guest) },
		"a window calls":    func(b *bench) { b.call(kioskUser(munich)) },
		"all decline": func(b *bench) {
			b.m.RingDecline(dresden, guest, "$ring")
			b.m.RingDecline(dresden, cem, "$ring")
		},
		"nobody comes":           func(b *bench) { b.step(RingTime) },
		"cancelled":              func(b *bench) { b.m.StopRinging(b.now) },
		"ringing fails":          func(b *bench) { b.m.Rang(b.now, 1, "", 2, errors.New("no")) },
		"the homeserver is lost": homeserverLost,
	}},
	"in a visit with a window": {func(b *bench) { b.windows(b.after()); b.see(kioskUser(munich)) }, map[string]func(b *bench){
		"press open": press(directory.Open), "press ajar": press(directory.Ajar), "press shut": press(directory.Shut),
		"the other window leaves": func(b *bench) { b.leave() },
		"the other window shuts":  func(b *bench) { b.leave(); b.windows(windowOf(munich, directory.Shut, b.now)) },
		"its picture stops":       func(b *bench) { b.show(munich, false) },
		"its picture comes back":  func(b *bench) { b.show(munich, false); b.step(time.Minute / 10); b.show(munich, true) },
		"it shows nothing for long": func(b *bench) {
			b.show(munich, false)
			b.step((fewTrials + 1) * trialEvery)
		},
		"a guest joins":                      func(b *bench) { b.call(guest) },
		"a guest who joined is not seen":     func(b *bench) { b.call(guest); b.step(PictureBudget) },
		"the other window's identity is new": func(b *bench) { b.m.SetIdentity(kioskUser(munich), "new") },
		"somebody unknown connects":          func(b *bench) { b.m.ParticipantArrived(b.now, b.last.Visit, "unknown"); b.step(StrangerGrace) },
		"a third window calls":               func(b *bench) { b.windows(b.after(), b.other()); b.call(kioskUser(rosenwerk)) },
		"another open window is chosen":      func(b *bench) { b.windows(b.after(), b.other()); b.m.Choose(rosenwerk) },
		"the focus is lost":                  func(b *bench) { b.m.FocusLost(b.now, b.last.Visit) },
		"the homeserver is lost":             homeserverLost,
		"the page is gone for a moment":      func(b *bench) { b.m.SetPage(b.now, false) },
		"the page is gone":                   pageGone,
		"the camera fails":                   cameraFails,
		"the other window's member is stale": func(b *bench) { b.stale(kioskUser(munich)) },
	}},
	"in a visit with a guest": {func(b *bench) { b.see(guest) }, map[string]func(b *bench){
		"the guest leaves":            func(b *bench) { b.leave() },
		"the guest's member is stale": func(b *bench) { b.stale(guest) },
		"the guest's camera is off":   func(b *bench) { b.cameraOff(guest) },
		"who has no camera is let talk": func(b *bench) {
			b.cameraOff(guest)
			b.step(time.Second)
			b.m.LetTalk(b.now, guest)
			b.step(time.Second)
			b.step(time.Second)
		},
		"the guest's picture can't be shown":  func(b *bench) { b.unshown(guest) },
		"the guest's device is not confirmed": func(b *bench) { b.m.Withheld(b.now, b.last.Visit, guest) },
		"emoji are to be compared":            func(b *bench) { b.m.SetComparison(cem, []string{"🐶"}, []string{"Dog"}) },
		"the guest's identity is new": func(b *bench) {
			b.m.SetIdentity(guest, "new")
			b.m.Withheld(b.now, b.last.Visit, guest)
		},
		"somebody unknown connects": func(b *bench) { b.m.ParticipantArrived(b.now, b.last.Visit, "unknown"); b.step(StrangerGrace) },
		"more than 16 people call": func(b *bench) {
			for i := range maxNamed + 2 {
				b.call(id.UserID(fmt.Sprintf("@g%02d:x", i)))
			}
		},
		"a window calls": func(b *bench) { b.call(kioskUser(munich)) },
	}},
}

// tableRow is one row of the package comment's table.
type tableRow struct {
	section, event string
	cells          map[directory.Shutter]string
}

// readTable reads the table in the package comment.
func readTable(t *testing.T) (rows []tableRow) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "doc.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	in := ""
	for _, comment := range file.Doc.List {
		line, indented := strings.CutPrefix(comment.Text, "//\t")
		if !indented {
			continue
		}
		cells := strings.Split(line, "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case len(cells) == 1:
			in = cells[0]
		case len(cells) != 4:
			t.Fatalf("a row has %d cells: %s", len(cells), line)
		case in == "":
			if !slices.Equal(cells, []string{"event", "open", "ajar", "shut"}) {
				t.Fatalf("the table's head is %q", cells)
			}
		default:
			rows = append(rows, tableRow{in, cells[0], map[directory.Shutter]string{directory.Open: cells[1], directory.Ajar: cells[2], directory.Shut: cells[3]}})
		}
	}
	return rows
}

// TestTable tries each cell of the package comment's table.
func TestTable(t *testing.T) {
	left := make(map[string]bool)
	for name, s := range sections {
		for event := range s.events {
			left[name+": "+event] = true
		}
	}
	used := make(map[string]bool)
	rows := readTable(t)
	for _, row := range rows {
		name := row.section + ": " + row.event
		event := sections[row.section].events[row.event]
		if event == nil {
			t.Errorf("nothing tests the row %q", name)
			continue
		}
		if !left[name] {
			t.Errorf("the row %q is there twice", name)
		}
		delete(left, name)
		for shutter, cell := range row.cells {
			used[cell] = true
			check := outcomes[cell]
			if check == nil {
				t.Errorf("%s, %s: nothing tests %q", name, shutter, cell)
				continue
			}
			t.Run(fmt.Sprintf("%s/%s", name, shutter), func(t *testing.T) {
				b := newBench(t, windowOf(munich, directory.Shut, epoch))
				b.m.SetShutter(b.now, shutter)
				b.step(time.Minute)
				sections[row.section].begin(b)
				o := outcome{before: b.step(0), b: b}
				b.m.TakeMessages()
				event(b)
				o.after = b.step(0)
				o.messages = b.m.TakeMessages()
				if !check(o) {
					t.Errorf("it is not %q\nbefore %+v\nafter  %+v\nsent %+v", cell, o.before, o.after, o.messages)
				}
			})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		t.Errorf("the package comment's table lacks the row %q", name)
	}
	for cell := range outcomes {
		if !used[cell] {
			t.Errorf("the package comment's table has no cell %q", cell)
		}
	}
}

// show says whether the other window's picture is seen.
func (b *bench) show(room id.RoomID, on bool) {
	b.m.RemotePicture(b.last.Visit, kioskIn(room).Identity, 0, on)
	b.step(0)
}

// other is another open window, which opened after ours.
func (b *bench) other() directory.Window {
	return windowOf(rosenwerk, directory.Open, b.now.Add(time.Second))
}

// stale lets a member's participant be absent for too long.
func (b *bench) stale(user id.UserID) {
	b.m.RemoteAbsent(b.now, b.last.Visit, memberOf(user).Identity)
	b.step(StaleAfter)
}

// cameraOff lets a guest mute the camera.
func (b *bench) cameraOff(user id.UserID) {
	b.m.RemoteCamera(b.now, b.last.Visit, memberOf(user).Identity, 0, true, true)
	b.m.RemotePicture(b.last.Visit, memberOf(user).Identity, 0, false)
}

// unshown lets a guest send the picture in a codec that can't be shown.
func (b *bench) unshown(user id.UserID) {
	b.m.RemotePicture(b.last.Visit, memberOf(user).Identity, 0, false)
	b.m.RemoteUnshown(b.last.Visit, memberOf(user).Identity, true)
}

// stay keeps a guest's notification from expiring.
func (b *bench) stay(user id.UserID) {
	b.m.CallNotification(b.now, dresden, user, id.EventID("$"+user), b.now.Add(2*knockTime))
}
