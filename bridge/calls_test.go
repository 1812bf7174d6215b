package bridge

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/commands"
	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bot/rtc"
	"multifactorymodel.org/ewindow/bot/verification"
	"multifactorymodel.org/ewindow/bridge/kiosk"
	"multifactorymodel.org/ewindow/bridge/notice"
	"multifactorymodel.org/ewindow/bridge/window"
	"multifactorymodel.org/ewindow/callmedia"
)

// TestStaleMemberOnScreen: a guest who is absent at the SFU for long is not shown any more, and is removed from the call.
func TestStaleMemberOnScreen(t *testing.T) {
	run(t, nil, func(w *world) {
		session := w.guest()
		away := func(kind callmedia.EventKind) {
			session.onEvent(callmedia.SessionEvent{Kind: kind, Identity: memberOf(guest).Identity})
			pass(window.StaleAfter / 2)
		}
		away(callmedia.RemoteAway)
		away(callmedia.RemoteBack)
		away(callmedia.RemoteAway)
		if s := w.screen(); s.Peer == nil && len(s.Guests) == 0 {
			t.Errorf("the guest was given up too early: %+v", s)
		}
		w.logged()
		pass(window.StaleAfter / 2)
		synctest.Wait()
		// From the moment when the screen does not name the guest, nothing more goes to their device.
		got := w.logged()
		for _, want := range []string{"remove " + string(guest) + " from " + string(dresden), "keys for "} {
			if !slices.Contains(got, want) {
				t.Errorf("%q happened, want %q", got, want)
			}
		}
		pass(emptyGrace)
		if s := w.screen(); s.Screen != "alone" {
			t.Errorf("screen %+v", s)
		}
	})
}

// guest opens the window, lets a guest come into its call, and returns the media session.
func (w *world) guest() *fakeSession {
	w.t.Helper()
	w.bridge.HandlePage(kiosk.PageUp{ID: 1})
	w.press(true)
	w.bridge.HandleMembers(dresden, []rtc.Member{memberOf(guest)})
	w.screen()
	w.calls[0].opts.OnEvent(rtc.Event{Kind: rtc.Transport, Service: "https://hub"})
	w.screen()
	return w.sessions[0]
}

// TestGuestsAreTold: the page and the room say what a guest does not see, and why.
func TestGuestsAreTold(t *testing.T) {
	run(t, nil, func(w *world) {
		w.bridge.HandlePage(kiosk.PageUp{ID: 1, Shutter: "open"})
		w.bridge.HandleMembers(dresden, []rtc.Member{memberOf(guest)})
		synctest.Wait()
		w.logged()
		call := w.calls[0]
		call.opts.OnEvent(rtc.Event{Kind: rtc.Withheld, User: guest})
		call.opts.OnEvent(rtc.Event{Kind: rtc.Transport, Service: "https://hub"})
		name := "Name of " + string(guest)
		if s := w.screen(); !slices.Equal(s.Withheld, []string{name}) || s.Held {
			t.Fatalf("screen %+v", s)
		}
		told := func(want ...string) {
			t.Helper()
			var got []string
			for _, line := range w.logged() {
				if text, is := strings.CutPrefix(line, "notice !dresden:a "); is {
					got = append(got, text)
				}
			}
			for i, kind := range want {
				want[i] = strings.ReplaceAll(kind, "{name}", name)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("notices %q, want %q", got, want)
			}
		}
		told(notice.Device.Text([]string{"de"}, notice.About{Name: "{name}"}))
		w.sessions[0].onEvent(callmedia.SessionEvent{Kind: callmedia.Connected})
		w.sessions[0].onEvent(callmedia.SessionEvent{Kind: callmedia.RemoteUp, Identity: memberOf(guest).Identity, Muted: true})
		pass(testCountdown + window.PictureGrace)
		if s := w.screen(); s.Screen != "visit" || !s.Held || s.Seen || s.Peer == nil || *s.Peer != (kiosk.Person{Name: name, Tile: -1}) {
			t.Fatalf("screen %+v, %+v", s, s.Peer)
		}
		told(notice.Camera.Text([]string{"de"}, notice.About{Name: "{name}"}))
		w.bridge.HandleLegacyCall(dresden, guest)
		w.bridge.HandleLegacyCall(dresden, guest)
		synctest.Wait()
		told(notice.Legacy.Text([]string{"de"}, notice.About{Name: "{name}"}))
		call.opts.OnEvent(rtc.Event{Kind: rtc.Keyless, User: guest})
		call.opts.OnEvent(rtc.Event{Kind: rtc.Keyless, User: guest})
		synctest.Wait()
		told(notice.NoKey.Text([]string{"de"}, notice.About{Name: "{name}"}))
	})
}

// TestLetTalk: a press lets a guest talk who has no camera. The session sends our sound alone, and hushes the others.
func TestLetTalk(t *testing.T) {
	run(t, nil, func(w *world) {
		session := w.guest()
		w.bridge.HandleMembers(dresden, []rtc.Member{memberOf(guest), memberOf("@ben:x")})
		session.onEvent(callmedia.SessionEvent{Kind: callmedia.Connected})
		pass(testCountdown + window.PictureGrace)
		s := w.screen()
		if s.Voice == nil || *s.Voice != (kiosk.Voice{User: guest, Name: "Name of " + string(guest)}) || len(s.Talking) > 0 {
			t.Fatalf("screen %+v", s)
		}
		for _, line := range w.logged() {
			if strings.HasPrefix(line, "sending true") || strings.HasPrefix(line, "sound") || strings.Contains(line, "hushed") {
				t.Errorf("before the press: %s", line)
			}
		}
		pass(time.Second)
		w.bridge.HandlePage(kiosk.LetTalk{User: guest})
		if s := w.screen(); !slices.Equal(s.Talking, []string{"Name of " + string(guest)}) || s.Voice == nil || s.Voice.User != "@ben:x" {
			t.Fatalf("screen %+v", s)
		}
		pass(time.Second)
		synctest.Wait()
		got := w.logged()
		hushed := fmt.Sprintf("remotes %s (guest) %s (guest) (hushed)", memberOf(guest).Identity, memberOf("@ben:x").Identity)
		if i, j := slices.Index(got, hushed), slices.Index(got, "sound true"); i < 0 || j < i || slices.Contains(got, "sending true") {
			t.Errorf("%q", got)
		}
		w.press(false)
		synctest.Wait()
		if got := w.logged(); !slices.Contains(got, "sound false") {
			t.Errorf("%q", got)
		}
	})
}

// TestGuestNotShown: the page and the room say that a guest's picture can't be shown, and nothing is sent for them.
func TestGuestNotShown(t *testing.T) {
	run(t, nil, func(w *world) {
		session := w.guest()
		session.onEvent(callmedia.SessionEvent{Kind: callmedia.Connected})
		w.logged()
		for _, kind := range []callmedia.EventKind{callmedia.CodecUnknown, callmedia.RemoteUp} {
			session.onEvent(callmedia.SessionEvent{Kind: kind, Identity: memberOf(guest).Identity})
		}
		pass(testCountdown + window.PictureGrace)
		name := "Name of " + string(guest)
		if s := w.screen(); !s.Held || s.Seen || s.Trials || !slices.Equal(s.Unshown, []string{name}) {
			t.Errorf("screen %+v", s)
		}
		if want := "notice !dresden:a " + notice.Codec.Text([]string{"de"}, notice.About{Name: name}); !slices.Contains(w.logged(), want) {
			t.Errorf("the room is not told %q", want)
		}
		session.onEvent(callmedia.SessionEvent{Kind: callmedia.CodecKnown, Identity: memberOf(guest).Identity})
		if s := w.screen(); s.Held || len(s.Unshown) != 0 {
			t.Errorf("screen %+v", s)
		}
	})
}

// TestGuestNotSeen: a guest's picture is announced and does not come. Perhaps their key was lost. Element sends keys again to a member
// with a new membership, so we renew ours. Other windows send their keys again by themselves.
func TestGuestNotSeen(t *testing.T) {
	run(t, nil, func(w *world) {
		session := w.guest()
		session.onEvent(callmedia.SessionEvent{Kind: callmedia.RemoteUp, Identity: memberOf(guest).Identity})
		pass(testCountdown)
		synctest.Wait()
		w.logged()
		pass(window.PictureGrace + trialEvery)
		synctest.Wait()
		if got := w.logged(); !slices.Contains(got, "key again") || !slices.Contains(got, "renewed") {
			t.Errorf("%q happened", got)
		}
		session.onEvent(callmedia.SessionEvent{Kind: callmedia.PictureOn, Identity: memberOf(guest).Identity})
		synctest.Wait()
		w.logged()
		pass(time.Hour)
		synctest.Wait()
		if got := w.logged(); slices.Contains(got, "renewed") {
			t.Errorf("%q happened though the guest is seen", got)
		}
	})
}

// TestRingPeople: all people in the room are rung, until somebody comes, all decline or it is cancelled.
func TestRingPeople(t *testing.T) {
	run(t, []directory.Window{windowOf(munich, directory.Shut, time.UnixMilli(1))}, func(w *world) {
		people := []id.UserID{"@us:a", kioskUser(munich), guest, ben}
		w.set(func() { w.people = people })
		w.bridge.HandlePage(kiosk.PageUp{ID: 1, Shutter: "open"})
		w.expect("tell open ", "offer 1 sdp1")
		if s := w.screen(); !s.CanRing || s.Ring != nil {
			t.Fatalf("screen %+v", s)
		}
		w.bridge.HandlePage(kiosk.RingPeople{Start: true})
		w.expect("join !dresden:a", "ring !dresden:a [@anna:elsewhere @ben:elsewhere]")
		w.rings <- nil
		w.bridge.HandleDecline(dresden, ben, "$ring")
		if s := w.screen(); s.Screen != "ringing" || s.Ring == nil || s.Ring.Status != "ringing" ||
			!slices.Equal(s.Ring.Declined, []string{"Name of @ben:elsewhere"}) {
			t.Fatalf("screen %+v, %+v", s, s.Ring)
		}
		w.bridge.HandlePage(kiosk.RingPeople{})
		w.expect("leaving !dresden:a", "left !dresden:a")
		if s := w.screen(); s.Screen != "alone" || s.Ring != nil || s.CanRing {
			t.Fatalf("screen %+v", s)
		}
		pass(ringBackoff)
		w.set(func() { w.people = people[:2] })
		w.bridge.HandlePage(kiosk.RingPeople{Start: true})
		w.expect("join !dresden:a", "leaving !dresden:a", "left !dresden:a")
		if s := w.screen(); s.Screen != "alone" || s.Ring == nil || s.Ring.Status != "no_people" {
			t.Fatalf("screen %+v", s)
		}
		pass(ringBackoff)
		w.set(func() { w.people = []id.UserID{guest} })
		w.bridge.HandlePage(kiosk.RingPeople{Start: true})
		w.expect("join !dresden:a", "ring !dresden:a [@anna:elsewhere]")
		pass(time.Second)
		w.bridge.HandleMembers(dresden, []rtc.Member{memberOf(guest)})
		synctest.Wait()
		if s := w.screen(); s.Screen != "opening" || s.Ring != nil {
			t.Fatalf("screen %+v", s)
		}
	})
}

// TestStrangerIsShown: the page says that somebody is at the SFU whom no membership explains, and the log names them. A member's other name at
// an SFU is no stranger's. The page also says how many people are in the call for whom there is no room.
func TestStrangerIsShown(t *testing.T) {
	run(t, nil, func(w *world) {
		session := w.guest()
		arrive := func(identity string) {
			session.onEvent(callmedia.SessionEvent{Kind: callmedia.Arrived, Identity: identity})
		}
		member := memberOf(guest)
		member.Alias = "hash"
		w.bridge.HandleMembers(dresden, []rtc.Member{member})
		arrive(member.Identity)
		arrive(member.Alias)
		pass(time.Hour)
		if s := w.screen(); s.Stranger {
			t.Error("a member is shown as unknown")
		}
		arrive("@mallory:x:GHOST")
		pass(window.StrangerGrace)
		if s := w.screen(); !s.Stranger {
			t.Error("nobody is told that somebody unknown is there")
		}
		if log := w.lines.String(); !strings.Contains(log, `"identities":["@mallory:x:GHOST"]`) {
			t.Errorf("log: %s", log)
		}
		session.onEvent(callmedia.SessionEvent{Kind: callmedia.Departed, Identity: "@mallory:x:GHOST"})
		pass(time.Minute)
		if s := w.screen(); s.Stranger {
			t.Error("the stranger is shown after they left")
		}
		members := []rtc.Member{member}
		for i := range 18 {
			members = append(members, memberOf(id.UserID(fmt.Sprintf("@g%02d:x", i))))
		}
		w.bridge.HandleMembers(dresden, members)
		if s := w.screen(); s.More != 3 {
			t.Errorf("%d more", s.More)
		}
	})
}

// TestUnseenGuestLosesTheKey: a guest whose camera is off gets our key for some seconds only, although somebody else is seen. The page and the room
// say why. Where the configuration allows it, they keep the key, and the page says that.
func TestUnseenGuestLosesTheKey(t *testing.T) {
	for _, allowed := range []bool{false, true} {
		runWith(t, nil, Config{GuestsUnseen: allowed}, func(w *world) {
			session := w.guest()
			seen, unseen := memberOf(guest), memberOf("@ben:x")
			session.onEvent(callmedia.SessionEvent{Kind: callmedia.Connected})
			session.onEvent(callmedia.SessionEvent{Kind: callmedia.RemoteUp, Identity: seen.Identity})
			session.onEvent(callmedia.SessionEvent{Kind: callmedia.PictureOn, Identity: seen.Identity})
			pass(testCountdown)
			w.bridge.HandleMembers(dresden, []rtc.Member{seen, unseen})
			pass(time.Second)
			w.logged()
			pass(window.PictureBudget)
			synctest.Wait()
			got, names := w.logged(), []string{"Name of @ben:x"}
			lost := slices.Contains(got, "keys for "+seen.Identity)
			told := slices.Contains(got, "notice !dresden:a "+notice.Unseen.Text([]string{"de"}, notice.About{Name: names[0]}))
			s := w.screen()
			if lost == allowed || told == allowed || slices.Equal(s.Unseen, names) == allowed || slices.Equal(s.Allowed, names) != allowed || !s.Seen {
				t.Errorf("allowed %t: %q; unseen %q, allowed %q", allowed, got, s.Unseen, s.Allowed)
			}
			session.onEvent(callmedia.SessionEvent{Kind: callmedia.RemoteUp, Identity: unseen.Identity, Tile: 1})
			session.onEvent(callmedia.SessionEvent{Kind: callmedia.PictureOn, Identity: unseen.Identity, Tile: 1})
			if !allowed {
				w.expect("keys for " + seen.Identity + " " + unseen.Identity)
			}
			if s := w.screen(); len(s.Unseen)+len(s.Allowed) > 0 {
				t.Errorf("screen %+v", s)
			}
		})
	}
}

// TestNewIdentityIsAsked: a window whose identity is new is not called. The page asks about it, and the answer goes to the bot. The identities of all
// windows are asked for as soon as the windows are known.
func TestNewIdentityIsAsked(t *testing.T) {
	run(t, longOpen(), func(w *world) {
		w.bridge.HandleDirectory()
		synctest.Wait()
		if known := w.known; !slices.Equal(known, []id.UserID{kioskIn(munich).User}) {
			t.Errorf("identities asked for: %v", known)
		}
		w.bridge.HandleIdentity(kioskIn(munich).User, "new")
		w.bridge.HandlePage(kiosk.PageUp{ID: 1, Shutter: "shut"})
		w.press(true)
		w.screen()
		tell := func(what notice.Notice, code string) string {
			return "notice !dresden:a " + what.Text([]string{"de"}, notice.About{Name: "munich:b", User: kioskIn(munich).User, Code: code})
		}
		code := window.Identity{Who: window.Person{User: kioskIn(munich).User}, Key: "new"}.Code()
		if told := tell(notice.NewIdentity, code); !slices.Contains(w.logged(), told) {
			t.Errorf("the room was not told: %s", told)
		}
		s := w.screen()
		if s.Screen != "identity" || s.Identity == nil || *s.Identity != (kiosk.Identity{User: kioskIn(munich).User, Key: "new", Name: "munich:b"}) || len(s.Windows) != 1 {
			t.Fatalf("screen %+v, %+v", s, s.Identity)
		}
		pass(time.Second)
		w.bridge.HandlePage(kiosk.IdentityAnswer{User: s.Identity.User, Key: "older", Confirmed: true})
		w.expect()
		w.bridge.HandlePage(kiosk.IdentityAnswer{User: s.Identity.User, Key: "new", Confirmed: true})
		w.expect("confirm @kiosk-munich:b new")
		w.bridge.HandleIdentity(kioskIn(munich).User, "newer")
		code = window.Identity{Who: window.Person{User: kioskIn(munich).User}, Key: "newer"}.Code()
		w.expect() // the room was told of another one a moment ago
		w.bridge.HandleCommand(commands.Command{Room: dresden, Sender: guest, Words: []string{"confirm", code}})
		w.expect("confirm @kiosk-munich:b newer")
		w.bridge.HandleIdentity(kioskIn(munich).User, "")
		synctest.Wait()
		// The notice is sent in a goroutine of its own.
		if got, want := slices.Sorted(slices.Values(w.logged())), []string{"join !munich:b", tell(notice.Confirmed, "")}; !slices.Equal(got, want) {
			t.Errorf("happened: %q, want %q", got, want)
		}
	})
}

// TestEmojiAreCompared: the emoji of a comparison come to the page, and the answer goes to the bot, once.
func TestEmojiAreCompared(t *testing.T) {
	run(t, nil, func(w *world) {
		w.bridge.HandlePage(kiosk.PageUp{ID: 1, Shutter: "shut"})
		w.bridge.HandleEmoji(&verification.Emoji{User: guest, Symbols: []rune("🐶🔒"), Names: []string{"Dog", "Lock"}})
		w.screen()
		w.logged()
		s := w.screen()
		if s.Screen != "verify" || s.Verify == nil || s.Verify.Name != "Name of "+string(guest) || !slices.Equal(s.Verify.Symbols, []string{"🐶", "🔒"}) ||
			!slices.Equal(s.Verify.Names, []string{"Dog", "Lock"}) || s.Camera {
			t.Fatalf("screen %+v, %+v", s, s.Verify)
		}
		pass(time.Second)
		for range 2 {
			w.bridge.HandlePage(kiosk.VerifyAnswer{ID: s.Verify.ID, Same: true})
		}
		w.expect("emoji true")
		if s := w.screen(); s.Screen != "shut" || s.Verify != nil {
			t.Errorf("screen %+v", s)
		}
		w.bridge.HandleEmoji(&verification.Emoji{User: guest})
		w.bridge.HandleEmoji(nil)
		if s := w.screen(); s.Screen != "shut" {
			t.Errorf("screen %+v", s)
		}
	})
}
