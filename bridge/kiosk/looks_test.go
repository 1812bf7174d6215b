//go:build full

package kiosk_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.mau.fi/util/jsontime"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bridge/kiosk"
	"multifactorymodel.org/ewindow/bridge/window"
	"multifactorymodel.org/ewindow/cmd/e2e/browser"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// shoot takes a picture of the page when EWINDOW_SHOTS names a folder.
func shoot(t testing.TB, page *screen, name string) {
	t.Helper()
	folder := os.Getenv("EWINDOW_SHOTS")
	if folder == "" {
		return
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := page.Screenshot(ctx, filepath.Join(folder, name+".png")); err != nil {
		t.Fatal(err)
	}
}

// browserBars is the height of what a browser draws above the page, in pixels; a full-screen kiosk has none.
const browserBars = 143

// tooBig lists the elements that do not fit.
const tooBig = `(() => {
	const out = [];
	for (const e of document.querySelectorAll("h1,h2,h3,p,li,figcaption,button,strong")) {
		const r = e.getBoundingClientRect();
		if (!e.textContent.trim() || e.id === "status" || r.width === 0 || e.closest("[data-role=none], [data-show=no]")) continue;
		if (r.left < -1 || r.top < -1 || r.right > innerWidth + 1 || r.bottom > innerHeight + 1) out.push("outside: " + e.textContent);
		const size = parseFloat(getComputedStyle(e).fontSize);
		if (size < 0.026 * Math.min(innerWidth, innerHeight)) out.push("too small: " + e.textContent + " " + size);
	}
	// Contrast (WCAG 2, 1.4.3): the text on its panel, with the brightest and the darkest picture behind it.
	const parse = (c) => (c.match(/[\d.]+/g) ?? []).map(Number);
	const grounds = { lost: [147, 169, 188], sill: [122, 77, 45], fault: [28, 34, 42] };
	const light = (c) => c.slice(0, 3).map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
		.reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
	for (const e of document.querySelectorAll("h1,h2,h3,p,li,figcaption,strong,span,b,time")) {
		if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || !e.getClientRects().length) continue;
		if (e.id === "status" || e.closest("[data-role=none], [data-show=no]")) continue;
		for (const picture of [[255, 255, 255], [0, 0, 0]]) {
			const layers = [];
			let ground = picture;
			for (let p = e; p; p = p.parentElement) {
				const c = parse(getComputedStyle(p).backgroundColor);
				if (c.length === 3 || c[3] > 0) layers.unshift(c);
				if (grounds[p.id]) { ground = grounds[p.id]; break; }
				if (p.id === "window") break;
			}
			for (const c of layers) ground = ground.map((v, i) => v + (c[i] - v) * (c[3] ?? 1));
			const r = ratio(parse(getComputedStyle(e).color), ground);
			if (r < 4.5) out.push("contrast " + r.toFixed(1) + ": " + e.textContent);
		}
	}
	if (document.scrollingElement.scrollHeight > innerHeight || document.scrollingElement.scrollWidth > innerWidth) out.push("it scrolls");
	const boxes = ["#title", "#signs", "#hint", "#language", "#ajar", "#call", "#ringing .card", "#held", "#opening .notes", "#visit .notes", "#lost .notes",
		"#cards .guest", "#knocked .card", "#identity .card", "#verify .card", "#own", "#missed", "#sign", "#others", "#push", "#trouble", "#alone .say", "#sill ul",
		"#count", "#opening h2", "#fault h2", "#fault .do", "#fault .code", "#lost h2", "#lost .since", ".picture[data-role=guest]"]
		.map((s) => [s, document.querySelector(s)])
		.filter(([, e]) => e && e.getClientRects().length && e.dataset.show !== "no" && e.getBoundingClientRect().width > 0)
		.map(([s, e]) => [s, e.getBoundingClientRect()]);
	for (const [a, p] of boxes) for (const [b, q] of boxes) {
		if (a < b && p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 1 && q.top < p.bottom - 1) out.push(a + " lies on " + b);
	}
	return out;
})()`

// TestLooks goes through every screen in both orientations and in every language, and measures: nothing outside, nothing too small to be
// read from three metres, nothing on top of another thing.
func TestLooks(t *testing.T) {
	browser.Need(t)
	long := shutState()
	long.Name = "Verein für offene Werkstätten Warmbronn"
	for i := range 12 {
		long.Windows = append(long.Windows, directory.Window{
			Room: id.RoomID(fmt.Sprint(i)), Name: fmt.Sprintf("Gemeinschaftswerkstatt Nordwest %d", i), Shutter: "open", Since: jsontime.UnixMilliNow(),
		})
	}
	long.Fault = &kiosk.Fault{Code: "homeserver", Since: jsontime.UnixMilliNow()}
	empty := shutState()
	empty.Windows = nil
	aloneLong := aloneState()
	aloneLong.Windows, aloneLong.Name = long.Windows, long.Name
	knocked := knockedState()
	identity, identityGuest := ajarState(), aloneState()
	identity.Screen, identityGuest.Screen = "identity", "identity"
	identity.Identity = &kiosk.Identity{User: "@window-rosenwerk:example.org", Key: "k", Name: "Verein für offene Werkstätten Warmbronn"}
	identityGuest.Identity = &kiosk.Identity{User: "@annegret.von.der.heydt-rosenberg:matrix.example.org", Key: "k", Name: "Annegret von der Heydt-Rosenberg", Guest: true}
	verify, verifyShut := aloneState(), shutState()
	for _, s := range []*kiosk.State{&verify, &verifyShut} {
		s.Screen, s.Camera = "verify", false
		s.Verify = &kiosk.Verify{ID: 1, Name: "Annegret von der Heydt-Rosenberg", Symbols: []string{"🐶", "🔧", "✈️", "☂️", "📁", "🎧", "🌽"},
			Names: []string{"Dog", "Spanner", "Aeroplane", "Umbrella", "Folder", "Headphones", "Corn"}}
	}
	crowd := knockedState()
	crowd.Knock = &kiosk.Knock{ID: 2, Name: "Annegret von der Heydt-Rosenberg", Guest: true, Others: []string{"Bernd", "Verein für offene Werkstätten Warmbronn"}}
	ringing := ajarState()
	ringing.Screen, ringing.CountUntil = "ringing", time.Now().Add(time.Hour)
	ringing.Stranger = true
	ringing.Ring = &kiosk.Ring{Status: "ringing", Declined: []string{"Annegret von der Heydt-Rosenberg", "Ben"}}
	unanswered := aloneState()
	unanswered.Windows = []directory.Window{{Room: "!w:x", Name: "Verein für offene Werkstätten Warmbronn", Shutter: "shut", NoPicture: true}}
	unanswered.CanRing, unanswered.Ring = true, &kiosk.Ring{Status: "failed"}
	held := visitState()
	held.Seen, held.Held, held.Peer = false, true, &kiosk.Person{Name: "Annegret von der Heydt-Rosenberg", Tile: -1}
	held.Guests = []kiosk.Person{{Name: "Ben", Tile: -1}}
	held.Withheld = []string{"Ben"}
	held.Line = "here"
	heldAlone := held
	heldAlone.Peer, heldAlone.Guests, heldAlone.Withheld = &kiosk.Person{Name: "Anna", Tile: -1}, nil, nil
	voice, talking := heldAlone, held
	voice.Voice = &kiosk.Voice{User: "@anna:example.org", Name: "Annegret von der Heydt-Rosenberg"}
	voice.Peer = &kiosk.Person{Name: "Annegret von der Heydt-Rosenberg", Tile: -1}
	talking.Talking, talking.Voice = []string{"Annegret von der Heydt-Rosenberg"}, &kiosk.Voice{User: "@ben:example.org", Name: "Ben"}
	talking.Withheld = nil
	crowded := visitState()
	crowded.Guests = []kiosk.Person{{Name: "Anna Rossi", Tile: 1}, {Name: "Verein für offene Werkstätten", Tile: -1}, {Name: "Cem", Tile: -1},
		{Name: "Dora", Tile: -1}, {Name: "Emil", Tile: -1}}
	crowded.Line = "there"
	crowded.Withheld = []string{"Annegret von der Heydt-Rosenberg"}
	missed := shutState()
	missed.Missed = []kiosk.Missed{{Name: "Rosenwerk", At: jsontime.UnixMilliNow()}, {Name: "Verein für offene Werkstätten Warmbronn", At: jsontime.UnixMilliNow()}, {Name: "Anna", Guest: true, At: jsontime.UnixMilliNow()}}
	opening := aloneState()
	opening.Screen, opening.Peer = "opening", &kiosk.Person{Name: "Rosenwerk", Tile: -1}
	connecting := opening
	guests := visitState()
	guests.Guests = []kiosk.Person{{Name: "Anna Rossi", Tile: 1}, {Name: "Bernd", Tile: 2}}
	slow := guests
	slow.Line = "here"
	shared := guests
	shared.Peer, shared.Shared = &kiosk.Person{Name: "Rosenwerk", Tile: 3}, &kiosk.Person{Name: "Anna Rossi", Tile: 0}
	lost := aloneState()
	lost.Screen, lost.Since, lost.Peer = "lost", jsontime.UnixMilliNow(), &kiosk.Person{Name: "Rosenwerk", Tile: -1}
	unconfirmed, unconfirmedLost := connecting, lost
	for _, s := range []*kiosk.State{&opening, &unconfirmed, &unconfirmedLost} {
		s.Peer, s.Withheld = &kiosk.Person{Name: "Annegret von der Heydt-Rosenberg", Tile: -1}, []string{"Annegret von der Heydt-Rosenberg"}
	}
	// The longest list of sentences.
	everything := crowded
	everything.More, everything.Stranger, everything.Unseen, everything.Allowed = 12, true, []string{"Cem", "Dora"}, []string{"Emil"}
	everythingHeld, everythingLost, everythingOpening := held, unconfirmedLost, unconfirmed
	for _, s := range []*kiosk.State{&everythingHeld, &everythingLost, &everythingOpening} {
		s.More, s.Stranger = 12, true
	}
	everythingHeld.Voice = voice.Voice
	everythingLost.Unseen, everythingLost.Trials = everything.Unseen, true
	everythingOpening.Unseen = everything.Unseen
	everythingLost.Renewed = []string{"Emil"}
	fault := func(code, detail string) kiosk.State {
		s := aloneState()
		s.Screen, s.Camera = "fault", false
		s.Fault = &kiosk.Fault{Code: window.Fault(code), Since: jsontime.UnixMilliNow(), Detail: detail}
		return s
	}
	screens := []struct {
		name  string
		state kiosk.State
	}{
		{"shut", shutState()}, {"shut-long", long}, {"shut-empty", empty},
		{"shut-missed", missed}, {"ajar", ajarState()}, {"ringing", ringing}, {"alone-unanswered", unanswered},
		{"verify", verify}, {"verify-shut", verifyShut}, {"identity", identity}, {"identity-guest", identityGuest}, {"knocked", knocked}, {"knocked-crowd", crowd}, {"alone", aloneState()}, {"alone-long", aloneLong}, {"opening", opening}, {"connecting", connecting},
		{"connecting-unconfirmed", unconfirmed}, {"lost-unconfirmed", unconfirmedLost},
		{"visit", visitState()}, {"visit-guests", guests}, {"visit-slow", slow}, {"visit-shared", shared},
		{"visit-held", held}, {"visit-held-alone", heldAlone}, {"visit-voice", voice}, {"visit-talking", talking}, {"visit-crowded", crowded}, {"lost", lost},
		{"visit-everything", everything}, {"visit-held-everything", everythingHeld}, {"lost-everything", everythingLost}, {"connecting-everything", everythingOpening},
		{"fault-camera", fault("no_camera", "")}, {"fault-picture", fault("no_picture", "")}, {"fault-network", fault("network_not_joined", "@window-leipzig:example.org")},
		{"fault-removed", fault("network_removed", "@window-leipzig:example.org")},
		{"fault-homeserver", fault("homeserver", "")},
	}
	for _, size := range [][2]int{{1920, 1080}, {1080, 1920}} {
		t.Run(fmt.Sprintf("%dx%d", size[0], size[1]), func(t *testing.T) {
			r := newPageRig(t)
			page := openPage(t, r, browser.Options{Width: size[0], Height: size[1] + browserBars})
			feeding := false
			for _, s := range screens {
				for i, language := range []string{"de", "en", "it"} {
					state := s.state
					state.Languages = append([]string{language}, without([]string{"de", "en", "it"}, language)...)
					if s.name == "opening" {
						state.CountUntil = time.Now().Add(4 * time.Second)
					}
					if i > 0 && strings.HasPrefix(s.name, "opening") {
						continue
					}
					r.SetState(state)
					if state.Screen == "visit" && !feeding {
						feeding = true
						defer r.feed(t, 0)()
					}
					rig.Eventually(t, 20*time.Second, func() error {
						var shown bool
						err := page.eval(fmt.Sprintf(`document.documentElement.lang === %q && ewindow.snapshot().screen === %q && ewindow.snapshot().state.name === %q
							&& ewindow.snapshot().state.windows.length === %d && ewindow.snapshot().state.guests.length === %d && ewindow.snapshot().state.held === %v
							&& ewindow.snapshot().state.withheld.length === %d && ewindow.snapshot().state.more === %d
							&& ewindow.snapshot().state.line === %q && (ewindow.snapshot().state.fault?.code ?? "") === %q`,
							language, state.Screen, state.Name, len(state.Windows), len(state.Guests), state.Held, len(state.Withheld), state.More, state.Line, code(state.Fault)), &shown)
						return rig.Check(err == nil && shown, s.name, err)
					})
					if s.name == "opening" {
						rig.Eventually(t, 10*time.Second, func() error {
							var n string
							err := page.eval(`document.querySelector("#count").textContent`, &n)
							return rig.Check(err == nil && n == "2", "the countdown at 2", n)
						})
					}
					if state.Screen == "ajar" || state.Screen == "ringing" || strings.HasPrefix(string(state.Screen), "visit") || state.Screen == "alone" {
						page.until("the pictures", func(s snapshot) bool {
							return s.Own.Video == "live" && (state.Screen != "visit" || s.main().Frames > 10)
						})
					}
					if i == 0 {
						settled(t, page)
						shoot(t, page, fmt.Sprintf("%s-%dx%d", s.name, size[0], size[1]))
					}
					var faults []string
					if err := page.eval(tooBig, &faults); err != nil {
						t.Fatal(err)
					}
					if len(faults) > 0 {
						t.Errorf("%s in %s: %s", s.name, language, strings.Join(faults, "\n\t"))
					}
				}
			}
		})
	}
}

// TestLooksOtherwise turns on the settings of the system that some people need: no movement, strong contrast.
func TestLooksOtherwise(t *testing.T) {
	browser.Need(t)
	r := newPageRig(t)
	page := openPage(t, r, browser.Options{Width: 1920, Height: 1080 + browserBars})
	if err := page.eval(`(() => { let n = 0;
		for (const sheet of document.styleSheets) for (const rule of sheet.cssRules) {
			if (rule.media && /contrast|motion/.test(rule.media.mediaText)) { rule.media.mediaText = "all"; n++; }
		}
		return n; })()`, new(int)); err != nil {
		t.Fatal(err)
	}
	r.feed(t, 0)
	opening := aloneState()
	opening.Screen, opening.Peer, opening.CountUntil = "opening", &kiosk.Person{Name: "Rosenwerk", Tile: -1}, time.Now().Add(time.Minute)
	lost := aloneState()
	lost.Screen = "lost"
	for _, state := range []kiosk.State{shutState(), aloneState(), ajarState(), knockedState(), opening, visitState(), lost} {
		r.SetState(state)
		page.until(string(state.Screen), func(s snapshot) bool { return s.Screen == string(state.Screen) })
		if state.Screen == "visit" {
			page.until("the picture", func(s snapshot) bool { return s.main().Frames > 0 })
		}
		var moving int
		if err := page.eval(`document.getAnimations().length`, &moving); err != nil || moving != 0 {
			t.Errorf("%s: %d things move, %v", state.Screen, moving, err)
		}
		shoot(t, page, "contrast-"+string(state.Screen))
		var faults []string
		if err := page.eval(tooBig, &faults); err != nil || len(faults) > 0 {
			t.Errorf("%s: %s, %v", state.Screen, strings.Join(faults, "\n\t"), err)
		}
	}
}

// settled waits until all transitions have ended.
func settled(t testing.TB, page *screen) {
	t.Helper()
	rig.Eventually(t, 10*time.Second, func() error {
		n := 1
		err := page.eval(`document.getAnimations().filter((a) => a.playState === "running").length`, &n)
		return rig.Check(err == nil && n == 0, "the end of all transitions", n)
	})
}

func code(f *kiosk.Fault) string {
	if f == nil {
		return ""
	}
	return string(f.Code)
}

func without(list []string, one string) (out []string) {
	for _, s := range list {
		if s != one {
			out = append(out, s)
		}
	}
	return out
}

// TestKeysAndAnnouncements changes the language, and checks what a screen reader announces.
func TestKeysAndAnnouncements(t *testing.T) {
	browser.Need(t)
	r := newPageRig(t)
	r.open = aloneState()
	page := openPage(t, r, browser.Options{})
	page.until("the shut screen", func(s snapshot) bool { return s.Connected && s.Screen == "shut" })
	text := func(expression, want string) {
		t.Helper()
		rig.Eventually(t, 10*time.Second, func() error {
			var got string
			err := page.eval(expression, &got)
			return rig.Check(err == nil && got == want, want, fmt.Sprint(got, err))
		})
	}
	text(`document.querySelector("#status").textContent`, "Makerspace Leipzig: zu. Kamera aus.")
	text(`document.querySelector("#press").getAttribute("aria-label")`, "Drücken zum Öffnen")
	text(`document.activeElement.id`, "press")
	// A window that can't be reached is the last one, and counts as shut.
	text(`[...document.querySelectorAll("#others li")].map((e) => e.className + " " + e.querySelector(".how").textContent).pop()`,
		"entry shut nicht erreichbar seit 25.11.")
	text(`[...document.querySelectorAll("#off li")].map((e) => e.lang + " " + e.textContent).join()`, "de Kamera aus,en Camera off,it Telecamera spenta")
	page.key("Enter", "Enter", 13)
	text(`document.querySelector("#press").getAttribute("aria-label")`, "Drücken zum Schließen")
	text(`document.querySelector("#status").textContent`, "Offen. Noch ist niemand da. Öffnet ein anderes Fenster, seht ihr euch gleich.")
	page.key("l", "KeyL", 76)
	text(`document.querySelector("#alone h2").textContent`, "Open. Nobody is there yet.")
	page.key("L", "KeyL", 76)
	text(`document.querySelector("#alone h2").textContent`, "Aperta. Non c’è ancora nessuno.")
	text(`document.documentElement.lang`, "it")
	page.key("Escape", "Escape", 27)
	text(`document.documentElement.lang`, "de") // the next people begin with the first language
	page.key("Escape", "Escape", 27)            // Escape never opens
	if snap, err := page.snapshot(); err != nil || snap.Shutter != "shut" {
		t.Errorf("after Escape on a shut window: %+v, %v", snap, err)
	}
}
