//go:build full

package kiosk_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bridge/kiosk"
	"multifactorymodel.org/ewindow/bridge/window"
	"multifactorymodel.org/ewindow/cmd/e2e/browser"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// TestTalk lets a guest talk who has no camera: by a click where people see the button, by the keyboard, and by the key T. A press right after the button
// has appeared, or for nobody, does nothing. While the guest talks they are heard, and the card says so.
func TestTalk(t *testing.T) {
	browser.Need(t)
	r := newPageRig(t)
	r.open = visitState()
	r.open.Seen, r.open.Held, r.open.Peer = false, true, &kiosk.Person{Name: "Anna", Tile: -1}
	page := openPage(t, r, browser.Options{})
	page.click()
	page.until("the visit", func(s snapshot) bool { return s.Screen == "visit" && s.Own.Video == "live" && !s.main().Audible })
	page.key("t", "KeyT", 84)
	eval := func(expression string) {
		if err := page.eval(expression+", 1", nil); err != nil {
			t.Fatal(err)
		}
	}
	for user, press := range map[id.UserID]func(){
		"@touch:x": func() {
			eval(`(({ x, y, width, height }) => document.elementFromPoint(x + width / 2, y + height / 2).click())(document.querySelector("#talk").getBoundingClientRect())`)
		},
		"@keyboard:x": func() { eval(`document.querySelector("#talk").focus()`); page.key("Enter", "Enter", 13) },
		"@key:x":      func() { page.key("t", "KeyT", 84) },
	} {
		r.open.Voice = &kiosk.Voice{User: user, Name: "Anna"}
		r.SetState(r.open)
		page.text(`ewindow.snapshot().state.voice.user + document.querySelector("#talk").innerText`, user.String()+"Anna sprechen lassen")
		rig.Eventually(t, 10*time.Second, func() error {
			press() // again and again, until the guard's time is over
			m, _ := last[kiosk.LetTalk](r.served)
			return rig.Check(m.User == user, "the press", m)
		})
	}
	if m, sent := last[kiosk.Shutter](r.served); sent && m.To == "shut" {
		t.Errorf("the page sent %+v", m)
	}
	page.text(status, "Anna hat die Kamera aus. Wer sieht, wird auch gesehen: Solange wir Anna nicht sehen, wird von hier nichts gesendet. Anna sprechen lassen: T.")
	r.open.Voice, r.open.Talking = nil, []string{"Anna"}
	r.SetState(r.open)
	page.until("the sound", func(s snapshot) bool { return s.main().Audible })
	page.text(`document.querySelector("#held").innerText.replace(/\s+/g, " ")`, "A Anna spricht ohne Bild Ihr hört einander. Von hier wird kein Bild gesendet.")
	page.text(`document.querySelector("#own figcaption").textContent`, "Kamera an, nicht gesendet")
	page.text(`document.activeElement.id`, "press")
	r.open.Talking = nil
	r.SetState(r.open)
	page.until("silence", func(s snapshot) bool { return !s.main().Audible })
}

// TestHeld shows a guest without a picture: a card, the reason, and no sound; then one with a picture beside others without.
func TestHeld(t *testing.T) {
	browser.Need(t)
	r := newPageRig(t)
	r.open = visitState()
	r.open.Seen, r.open.Held, r.open.Peer = false, true, &kiosk.Person{Name: "änna", Tile: -1}
	page := openPage(t, r, browser.Options{})
	page.click()
	page.until("the visit", func(s snapshot) bool { return s.Screen == "visit" && s.Own.Video == "live" && !s.main().Audible })
	page.text(`document.querySelector("#held").innerText.replace(/\s+/g, " ")`,
		"Ä änna hat die Kamera aus Wer sieht, wird auch gesehen: Solange wir änna nicht sehen, wird von hier nichts gesendet.")
	page.text(status, "änna hat die Kamera aus. Wer sieht, wird auch gesehen: Solange wir änna nicht sehen, wird von hier nichts gesendet.")
	page.text(`document.querySelector("#own figcaption").textContent`, "So sieht man euch. Noch wird nichts gesendet.")
	page.text(`document.querySelector("#lamp span").textContent`, "Kamera an, nicht gesendet")
	r.open.Unshown = []string{"änna"}
	r.SetState(r.open)
	page.text(`document.querySelector("#held").innerText.replace(/\s+/g, " ")`,
		"Ä änna ist hier nicht zu sehen Wer sieht, wird auch gesehen: Solange wir änna nicht sehen, wird von hier nichts gesendet.")
	page.text(`document.querySelector("#visit .notes").innerText`,
		"Das Bild von änna kommt in einem Format, das dieses Fenster nicht zeigen kann. Im Raum steht, was hilft.")
	seen := visitState()
	seen.Guests = []kiosk.Person{{Name: "Anna", Tile: 1}, {Name: "Ben", Tile: -1}, {Name: "Cem", Tile: -1}, {Name: "Dora", Tile: -1}, {Name: "Emil", Tile: -1}}
	seen.Withheld = []string{"Ben"}
	r.SetState(seen)
	page.until("the picture", func(s snapshot) bool { return s.Screen == "visit" && s.main().Audible })
	page.text(`String(document.querySelector("#held").hidden)`, "true")
	page.text(`[...document.querySelectorAll("#cards strong")].map((e) => e.textContent).join()`, "Ben,Cem,und 2 weitere")
	page.text(`[...document.querySelectorAll("#cards li")].map((e) => e.style.getPropertyValue("--position")).join()`, "1,2,3")
	const unconfirmed = "Ben sieht und hört uns nicht: Das Gerät ist nicht bestätigt. In Element: Einstellungen → Sitzungen."
	page.text(status, "Verbunden mit Rosenwerk. Ende-zu-Ende verschlüsselt. "+unconfirmed)

	// A guest who gets no media key sends none, either. So a guest with such a device is never seen, and people read the reason.
	only := aloneState()
	only.Peer, only.Withheld = &kiosk.Person{Name: "Ben", Tile: -1}, []string{"Ben"}
	for screen, says := range map[window.Screen]string{
		"opening": "Gleich seht ihr Ben. ", "lost": "Verbindung mit Ben verloren. Von hier wird gerade nichts gesendet. ",
	} {
		only.Screen = screen
		r.SetState(only)
		page.text(status, says+unconfirmed)
		page.text(fmt.Sprintf(`document.querySelector("#%s .notes").innerText`, screen), unconfirmed)
	}

	// Who is too many, and who is unknown, is said on every screen of a call.
	only.Withheld, only.More, only.Stranger, only.Trials = nil, 3, true, true
	only.Unseen, only.Unshown, only.Allowed = []string{"Cem", "Dora"}, []string{"Frida"}, []string{"Emil"}
	for language, says := range map[string]string{
		"de": "Jemand Unbekanntes ist verbunden, ohne Bild und Ton. Im Zweifel das Fenster schließen.\n" +
			"Emil sieht und hört uns, ohne gesehen zu werden. Dieses Fenster erlaubt das.\n" +
			"Cem, Dora sieht und hört uns nicht: Von dort kommt kein Bild. Mit Kamera geht es weiter.\n" +
			"Das Bild von Frida kommt in einem Format, das dieses Fenster nicht zeigen kann. Im Raum steht, was hilft.\n" +
			"Weitere im Gespräch, ohne Bild und Ton: 3. Platz ist für 16 Leute.",
		"en": "Somebody unknown is connected, without picture or sound. If in doubt, shut the window.\n" +
			"Emil sees and hears us without being seen. This window allows it.\n" +
			"Cem, Dora neither sees nor hears us: no picture comes from there. With a camera it goes on.\n" +
			"The picture of Frida comes in a format that this window cannot show. The room says what helps.\n" +
			"More in the call, without picture or sound: 3. There is room for 16 people.",
		"it": "È collegato qualcuno di sconosciuto, senza immagine né suono. Nel dubbio chiudete la finestra.\n" +
			"Emil ci vede e ci sente senza essere visibile. Questa finestra lo permette.\n" +
			"Cem, Dora non ci vede né sente: da lì non arriva nessuna immagine. Con la telecamera si riprende.\n" +
			"L’immagine di Frida arriva in un formato che questa finestra non può mostrare. Nella stanza c’è scritto che cosa fare.\n" +
			"Altri nella chiamata, senza immagine né suono: 3. C’è posto per 16 persone.",
	} {
		for _, screen := range []window.Screen{"opening", "lost", "visit", "ringing"} {
			only.Screen, only.Languages = screen, []string{language}
			r.SetState(only)
			page.text(fmt.Sprintf(`[...document.querySelectorAll("#%s .notes p")].map((e) => e.innerText).join("\n")`, screen), says)
			page.text(`String(document.querySelector("#status").textContent.endsWith(`+fmt.Sprintf("%q", strings.ReplaceAll(says, "\n", " "))+`))`, "true")
		}
	}
	only.More, only.Stranger, only.Unseen, only.Unshown, only.Allowed, only.Languages = 0, false, nil, nil, nil, []string{"de", "en", "it"}
	// While nothing is seen of the others, people read what goes out.
	only.Screen = "lost"
	r.SetState(only)
	page.text(`document.querySelector("#lost .note").innerText`, "Von hier geht nur alle zehn Sekunden für einen Moment ein Bild hinaus, damit man sich wiederfindet.")
	only.Trials = false
	r.SetState(only)
	page.text(`document.querySelector("#lost .note").innerText`, "Von hier wird gerade nichts gesendet.")

	// A name that is written from right to left keeps its direction to itself.
	only.Screen, only.Peer.Name, only.Withheld = "lost", "אבג", []string{"אבג", "Ben"}
	r.SetState(only)
	page.text(`document.querySelector("#lost h2").textContent`, "Verbindung mit \u2068אבג\u2069 verloren")
	page.text(`document.querySelector("#lost .notes").innerText.slice(0, 10)`, "\u2068אבג\u2069, Ben")
}
