//go:build full

package kiosk_test

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"go.mau.fi/util/jsontime"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bridge/kiosk"
	"multifactorymodel.org/ewindow/cmd/e2e/browser"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// text waits until an expression has a value.
func (s *screen) text(expression, want string) {
	s.t.Helper()
	rig.Eventually(s.t, 10*time.Second, func() error {
		var got string
		err := s.eval(expression, &got)
		return rig.Check(err == nil && got == want, want, got)
	})
}

const status = `document.querySelector("#status").textContent`

// answers counts the answers to knocks so far.
func answers(w *served) (list []kiosk.KnockAnswer) {
	for _, m := range w.got() {
		if m, ok := m.(kiosk.KnockAnswer); ok {
			list = append(list, m)
		}
	}
	return list
}

// TestAjar sets the window ajar by key and by touch, and opens and shuts it from there.
func TestAjar(t *testing.T) {
	browser.Need(t)
	r := newPageRig(t)
	r.open = aloneState()
	page := openPage(t, r, browser.Options{})
	page.until("the shut screen", func(s snapshot) bool { return s.Screen == "shut" })
	page.key("a", "KeyA", 65)
	page.until("the ajar window", func(s snapshot) bool { return s.Screen == "ajar" && s.Shutter == "ajar" && s.Own.Video == "live" })
	page.text(status, "Angelehnt. Bitte klopfen. Wer vorbeikommt, klopft. Ihr entscheidet, wen ihr hereinlasst.")
	page.text(`document.querySelector("#alone h2").textContent`, "Angelehnt. Bitte klopfen.")
	if err := page.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	rig.Eventually(t, 20*time.Second, func() error {
		m, _ := last[kiosk.PageUp](r.served)
		return rig.Check(m.ID == 2 && m.Shutter == "ajar", "the page after its reload", m)
	})
	page.until("the ajar window", func(s snapshot) bool { return s.Screen == "ajar" && s.Own.Video == "live" })
	tap := func(selector string) {
		t.Helper()
		// What is on top in the middle of the button, where a finger would press.
		err := page.eval(`(() => { const r = document.querySelector("`+selector+`").getBoundingClientRect();
			document.elementFromPoint(r.left + r.width / 2, r.top + r.height / 2).closest("button").click(); })()`, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
	settled(t, page)
	tap("#ajar")
	page.until("the open window", func(s snapshot) bool { return s.Screen == "alone" && s.Shutter == "open" })
	settled(t, page)
	tap("#ajar")
	page.until("the ajar window", func(s snapshot) bool { return s.Screen == "ajar" })
	settled(t, page)
	page.click()
	page.until("the shut window", func(s snapshot) bool { return s.Screen == "shut" && s.Own.Video == "none" })
	settled(t, page)
	tap("#ajar")
	page.until("the ajar window", func(s snapshot) bool { return s.Screen == "ajar" })
	page.key("Escape", "Escape", 27)
	page.until("the shut window", func(s snapshot) bool { return s.Screen == "shut" })
}

// TestFirstPress sets the window ajar 100 ms after the page was loaded. No press came before, so this is not one that bounces.
func TestFirstPress(t *testing.T) {
	browser.Need(t)
	r := newPageRig(t)
	r.open = aloneState()
	page := openPage(t, r, browser.Options{Script: "performance.now = () => 100"})
	page.key("a", "KeyA", 65)
	page.until("the ajar window", func(s snapshot) bool { return s.Screen == "ajar" })
}

// TestIdentity answers the question about a new identity by keyboard and touch. "Not now" is what a single button chooses.
func TestIdentity(t *testing.T) {
	browser.Need(t)
	r := newPageRig(t)
	page := openPage(t, r, browser.Options{})
	page.key("a", "KeyA", 65)
	page.until("the ajar window", func(s snapshot) bool { return s.Screen == "ajar" })
	ask := func(user id.UserID, key id.Ed25519, guest bool) {
		t.Helper()
		state := ajarState()
		state.Screen, state.Identity = "identity", &kiosk.Identity{User: user, Key: key, Name: "Rosenwerk", Guest: guest}
		// A press in the same turn of the event loop in which the question appears answers nothing.
		if err := page.eval(`new MutationObserver((_, o) => {
			if (document.querySelector("#identity .detail").textContent !== "`+user.String()+`") return;
			o.disconnect();
			for (const e of ["#confirm", "#later"]) document.querySelector(e).click();
		}).observe(document.querySelector("#identity"), { attributes: true, childList: true, subtree: true, characterData: true }), 1`, nil); err != nil {
			t.Fatal(err)
		}
		r.SetState(state)
		page.text(`document.querySelector("#identity .detail").textContent`, user.String())
		page.text(`document.activeElement.id`, "later")
	}
	answer := func(want kiosk.IdentityAnswer, press func()) {
		t.Helper()
		rig.Eventually(t, 10*time.Second, func() error {
			press() // again and again, until the guard's time is over
			m, _ := last[kiosk.IdentityAnswer](r.served)
			return rig.Check(m == want, "the answer", m)
		})
	}
	ask("@rosenwerk:x", "one", false)
	page.text(`document.querySelector("#identity h2").textContent`, "Rosenwerk hat einen neuen Schlüssel")
	page.text(status, "Rosenwerk hat einen neuen Schlüssel. Das ist so, wenn dort das Gerät neu eingerichtet wurde. Oder jemand will mithören. "+
		"Fragt nach, zum Beispiel am Telefon. Bis dahin gibt es keine Verbindung.")
	if m, answered := last[kiosk.IdentityAnswer](r.served); answered {
		t.Fatalf("answered %+v", m)
	}
	answer(kiosk.IdentityAnswer{User: "@rosenwerk:x", Key: "one"}, func() { page.key(" ", "Space", 32) })
	ask("@anna:x", "two", true)
	page.text(`document.querySelector("#identity h2").textContent`, "Rosenwerk (aus Element) hat einen neuen Schlüssel")
	page.key("ArrowLeft", "ArrowLeft", 37)
	page.text(`document.activeElement.id`, "confirm")
	answer(kiosk.IdentityAnswer{User: "@anna:x", Key: "two", Confirmed: true}, func() { page.key("Enter", "Enter", 13) })
	ask("@ben:x", "three", true)
	answer(kiosk.IdentityAnswer{User: "@ben:x", Key: "three"}, func() {
		if err := page.eval(`document.querySelector("#later").click()`, nil); err != nil {
			t.Fatal(err)
		}
	})
	page.key("Escape", "Escape", 27)
	page.until("the shut window", func(s snapshot) bool { return s.Screen == "shut" })
}

// TestVerify compares emoji by keyboard and touch, at an open and at a shut window. "Not the same" is what a single button chooses.
func TestVerify(t *testing.T) {
	browser.Need(t)
	r := newPageRig(t)
	page := openPage(t, r, browser.Options{})
	for i, step := range []struct {
		state kiosk.State
		same  bool
		press func()
	}{
		{shutState(), false, func() { page.key(" ", "Space", 32) }},
		{aloneState(), true, func() { page.key("ArrowLeft", "ArrowLeft", 37); page.key("Enter", "Enter", 13) }},
		{ajarState(), true, func() {
			if err := page.eval(`document.querySelector("#same").click()`, nil); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		state := step.state
		state.Screen, state.Camera = "verify", false
		state.Verify = &kiosk.Verify{ID: uint64(i + 1), Name: "Anna", Symbols: []string{"🐶", "🔒"}, Names: []string{"Dog", "Lock"}}
		r.SetState(state)
		page.text(`String(ewindow.snapshot().state.verify?.id)`, strconv.Itoa(i+1))
		page.text(`[...document.querySelectorAll("#verify .emoji li")].map((e) => e.textContent).join()`, "🐶Hund,🔒Schloss")
		page.text(`document.querySelector("#verify h2").textContent`, "Anna vergleicht mit euch sieben Zeichen")
		page.text(`document.activeElement.id`, "differs")
		page.until("the comparison", func(s snapshot) bool { return s.Screen == "verify" && s.Own.Video == "none" })
		want := kiosk.VerifyAnswer{ID: uint64(i + 1), Same: step.same}
		rig.Eventually(t, 10*time.Second, func() error {
			step.press() // again and again, until the guard's time is over
			m, _ := last[kiosk.VerifyAnswer](r.served)
			return rig.Check(m == want, "the answer", m)
		})
	}
}

// TestKnock answers knocks by keyboard and touch. A press that began before the screen changed must not answer.
func TestKnock(t *testing.T) {
	browser.Need(t)
	r := newPageRig(t)
	page := openPage(t, r, browser.Options{})
	page.key("a", "KeyA", 65)
	page.until("the ajar window", func(s snapshot) bool { return s.Screen == "ajar" && s.Own.Video == "live" })
	knocked := knockedState()
	knocked.Knock.Name, knocked.Knock.Guest, knocked.Knock.Others = "Anna", true, []string{"Ben"}
	// A press in the same turn of the event loop in which the knock appears, and one with the button held down since before.
	if err := page.eval(`new MutationObserver((_, o) => {
		if (document.querySelector("#knocked").hidden) return;
		o.disconnect();
		for (const e of ["#letin", "#notnow"]) document.querySelector(e).click();
		for (const repeat of [false, true, true]) document.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", repeat, bubbles: true }));
	}).observe(document.querySelector("#knocked"), { attributes: true }), 1`, nil); err != nil {
		t.Fatal(err)
	}
	r.SetState(knocked)
	page.until("the knock", func(s snapshot) bool { return s.Screen == "knocked" && s.Own.Video == "none" })
	page.text(status, "Anna (aus Element) klopft. Außerdem dort: Ben Hereinlassen oder jetzt nicht?")
	page.text(`document.activeElement.id`, "letin")
	page.key("ArrowRight", "ArrowRight", 39)
	page.text(`document.activeElement.id`, "notnow")
	page.key("ArrowLeft", "ArrowLeft", 37)
	page.text(`document.activeElement.id`, "letin")
	// A press beside the choices chooses nothing.
	if err := page.eval(`document.elementFromPoint(5, innerHeight / 2).click()`, nil); err != nil {
		t.Fatal(err)
	}
	// Wait until the remaining seconds have changed, which is longer than the guard.
	page.text(`String(parseInt(document.querySelector("#knocked .left").textContent.replace(/\D/g, "")) <= 58)`, "true")
	if list := answers(r.served); len(list) != 0 {
		t.Fatalf("answered %+v", list)
	}
	answer := func(id uint64, letIn bool, press func()) {
		t.Helper()
		press()
		rig.Eventually(t, 5*time.Second, func() error {
			m, _ := last[kiosk.KnockAnswer](r.served)
			return rig.Check(m == kiosk.KnockAnswer{ID: id, LetIn: letIn}, "the answer", m)
		})
	}
	answer(1, true, func() { page.key(" ", "Space", 32) })
	next := func(id uint64) {
		t.Helper()
		knocked := knocked
		knocked.Knock = &kiosk.Knock{ID: id, Name: "Rosenwerk"}
		knocked.CountUntil = time.Now().Add(time.Minute)
		r.SetState(knocked)
		page.text(`String(ewindow.snapshot().state.knock.id)`, strconv.FormatUint(id, 10))
		page.text(`document.querySelector("#knocked h2").textContent`, "Rosenwerk klopft")
		page.text(`String(parseInt(document.querySelector("#knocked .left").textContent.replace(/\D/g, "")) <= 58)`, "true")
	}
	next(2)
	answer(2, false, func() {
		page.key("ArrowDown", "ArrowDown", 40)
		page.text(`document.activeElement.id`, "notnow")
		page.key("Enter", "Enter", 13)
	})
	next(3)
	answer(3, true, func() {
		if err := page.eval(`document.querySelector("#letin").click()`, nil); err != nil {
			t.Fatal(err)
		}
	})
	next(4)
	page.key("Escape", "Escape", 27)
	page.until("the shut window", func(s snapshot) bool { return s.Screen == "shut" })
	if n := len(answers(r.served)); n != 3 {
		t.Errorf("%d answers, want 3", n)
	}
	page.text(`document.activeElement.id`, "press")
	missed := shutState()
	berlin, err := time.LoadLocation(missed.Timezone)
	if err != nil {
		t.Fatal(err)
	}
	// What is older than a day has its date.
	lately := time.Now().Add(-2 * time.Hour)
	for at, want := range map[time.Time]string{
		lately: "Rosenwerk hat um " + lately.In(berlin).Format("15:04") + " geklopft",
		time.Date(2026, 11, 25, 17, 5, 0, 0, time.UTC): "Rosenwerk hat am 25.11. geklopft",
	} {
		missed.Missed = []kiosk.Missed{{Name: "Rosenwerk", At: jsontime.UM(at)}}
		r.SetState(missed)
		page.text(`document.querySelector("#missed").textContent`, want)
	}
}

// TestRing rings the window's people by key and by touch, and stops it.
func TestRing(t *testing.T) {
	browser.Need(t)
	r := newPageRig(t)
	r.open = aloneState()
	r.open.CanRing = true
	page := openPage(t, r, browser.Options{})
	page.key("r", "KeyR", 82) // not while it is shut
	page.click()
	page.until("the open window", func(s snapshot) bool { return s.Screen == "alone" })
	page.text(`document.querySelector("#call").textContent`, "Leute rufen")
	rings := func(want ...kiosk.RingPeople) {
		t.Helper()
		rig.Eventually(t, 5*time.Second, func() error {
			var got []kiosk.RingPeople
			for _, m := range r.got() {
				if m, ok := m.(kiosk.RingPeople); ok {
					got = append(got, m)
				}
			}
			return rig.Check(slices.Equal(got, want), "the ringing", got)
		})
	}
	rings()
	page.key("r", "KeyR", 82)
	rings(kiosk.RingPeople{Start: true})
	ringing := aloneState()
	ringing.Screen, ringing.CountUntil = "ringing", time.Now().Add(time.Minute)
	ringing.Ring = &kiosk.Ring{Status: "ringing", Declined: []string{"Ben"}}
	r.SetState(ringing)
	page.text(status, "Es klingelt bei den Leuten dieses Fensters … Wer in Element annimmt, ist gleich hier zu sehen. Jetzt nicht: Ben")
	page.text(`document.querySelector("#call").textContent`, "Abbrechen")
	if err := page.eval(`document.querySelector("#call").click()`, nil); err != nil {
		t.Fatal(err)
	}
	rings(kiosk.RingPeople{Start: true}, kiosk.RingPeople{})
	over := aloneState()
	over.Ring = &kiosk.Ring{Status: "nobody"}
	r.SetState(over)
	page.text(`document.querySelector("#alone .note").textContent`, "Niemand hat geantwortet.")
	page.text(`String(document.querySelector("#call").hidden)`, "true")
	page.key("r", "KeyR", 82) // too early
	page.key("Escape", "Escape", 27)
	page.until("the shut window", func(s snapshot) bool { return s.Screen == "shut" })
	rings(kiosk.RingPeople{Start: true}, kiosk.RingPeople{})
}
