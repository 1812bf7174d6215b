package window

import (
	"slices"
	"strings"
)

// Notice is a text that the window sends to the people in its room.
type Notice uint8

// The notices.
const (
	// NoticeShut, NoticeNotNow and NoticeNobody tell a person why nobody let them in.
	NoticeShut Notice = iota + 1
	NoticeNotNow
	NoticeNobody
	// NoticeCamera says that a person sees nothing because their camera is off.
	NoticeCamera
	// NoticeUnseen says that a person sees and hears nothing any more because no picture of theirs is seen at the window.
	NoticeUnseen
	// NoticeDevice says that a person's device gets no media keys, because its owner has not verified it.
	NoticeDevice
	// NoticeIdentity says that a person gets no media keys, because they have reset their identity, and what to do.
	NoticeIdentity
	// NoticeNewIdentity says that an identity is new, and how an admin can confirm it. NoticeConfirmed says that this was done.
	NoticeNewIdentity
	NoticeConfirmed
	// NoticeNoIdentity tells an admin that no new identity has the code that they wrote, NoticeCommands what they can write.
	NoticeNoIdentity
	NoticeCommands
	// NoticeLegacy says that a person called in a way that does not work.
	NoticeLegacy
)

// notices are the texts by language. {name} stands for the person whom the notice is about, {code} for the code of a new identity.
var notices = map[string]map[Notice]string{
	"de": {
		NoticeShut: "Das Fenster ist gerade zu: Niemand vor Ort sieht oder hört dich. " +
			"Auf dem Bildschirm steht, dass {name} geklopft hat.",
		NoticeNotNow: "Am Fenster passt es gerade nicht. Versuch es bitte später noch einmal.",
		NoticeNobody: "Am Fenster hat niemand geantwortet. Auf dem Bildschirm steht, dass {name} geklopft hat.",
		NoticeCamera: "Deine Kamera ist aus, {name}. Am Fenster gilt: Wer sieht, wird auch gesehen. Schalte deine " +
			"Kamera ein, dann siehst du auch das Fenster.",
		NoticeUnseen: "{name}, am Fenster ist kein Bild von dir zu sehen. Deshalb kommt von dort weder Bild noch Ton zu dir. Schalte " +
			"deine Kamera ein, dann geht es weiter. Ist sie schon an, ruf bitte noch einmal an: Vier Bilder haben hier Platz.",
		NoticeDevice: "{name}, dieses Gerät ist nicht bestätigt, deshalb bekommt es vom Fenster weder Bild noch Ton. " +
			"Bestätige es in Element unter „Einstellungen → Sitzungen“, dann ruf noch einmal an.",
		NoticeIdentity: "{name}, deine Identität in Element ist neu, deshalb bekommst du vom Fenster weder Bild noch Ton. Leg auf und " +
			"bitte jemanden am Fenster, zu bestätigen, dass du es bist: Der Bildschirm fragt danach. Dann ruf noch einmal an.",
		NoticeNewIdentity: "{name} hat eine neue Identität. Zwischen {name} und hier gibt es weder Bild noch Ton, bis sie jemand bestätigt: am " +
			"Bildschirm des Fensters, oder wer das Netz verwaltet, hier mit der Nachricht „!window confirm {code}“. Tut das nur, wenn ihr wisst, " +
			"warum sie neu ist, etwa weil der PC neu eingerichtet wurde. Sonst könnte jemand mithören.",
		NoticeConfirmed:  "Die neue Identität von {name} ist bestätigt.",
		NoticeNoIdentity: "{name}, zu diesem Code gibt es hier keine neue Identität. Vielleicht ist sie schon bestätigt, oder noch einmal neu.",
		NoticeCommands:   "{name}, das versteht das Fenster nicht. Es kennt „!window confirm CODE“, mit dem Code einer neuen Identität.",
		NoticeLegacy: "{name}, so kann das Fenster nicht angerufen werden. Starte bitte einen Videoanruf mit dem " +
			"Kamerazeichen oben in diesem Raum (Element Call).",
	},
	"en": {
		NoticeShut:   "The window is shut now: nobody there sees or hears you. The screen says that {name} knocked.",
		NoticeNotNow: "It is not a good moment at the window. Please try again later.",
		NoticeNobody: "Nobody answered at the window. The screen says that {name} knocked.",
		NoticeCamera: "Your camera is off, {name}. At the window, whoever sees is seen as well. Turn your camera on, " +
			"and you will see the window, too.",
		NoticeUnseen: "{name}, no picture of yours is seen at the window. That is why neither picture nor sound reaches you from there. " +
			"Turn your camera on, and it goes on. If it is on already, please call again: there is room for four pictures.",
		NoticeDevice: "{name}, this device is not verified, so it gets neither picture nor sound from the window. " +
			"Verify it in Element under “Settings → Sessions”, then call again.",
		NoticeIdentity: "{name}, your identity in Element is new, so you get neither picture nor sound from the window. Hang up, and ask " +
			"somebody at the window to confirm that it is you: the screen asks for it. Then call again.",
		NoticeNewIdentity: "{name} has a new identity. There is neither picture nor sound between {name} and here until somebody confirms it: on the " +
			"window's screen, or an admin of the network, by writing “!window confirm {code}” here. Do so only if you know why it is new, for " +
			"instance because the PC was set up anew. Otherwise somebody may be listening in.",
		NoticeConfirmed:  "The new identity of {name} is confirmed.",
		NoticeNoIdentity: "{name}, no new identity here has this code. Perhaps it is confirmed already, or has changed once more.",
		NoticeCommands:   "{name}, the window does not understand this. It knows “!window confirm CODE”, with the code of a new identity.",
		NoticeLegacy: "{name}, the window cannot be called in this way. Please start a video call with the camera " +
			"button in the header of this room (Element Call).",
	},
	"it": {
		NoticeShut:   "La finestra adesso è chiusa: lì nessuno ti vede né ti sente. Sullo schermo c’è scritto che {name} ha bussato.",
		NoticeNotNow: "Alla finestra non è un buon momento. Riprova più tardi, per favore.",
		NoticeNobody: "Alla finestra non ha risposto nessuno. Sullo schermo c’è scritto che {name} ha bussato.",
		NoticeCamera: "La tua telecamera è spenta, {name}. Alla finestra chi vede è anche visto. Accendi la telecamera " +
			"e vedrai anche la finestra.",
		NoticeUnseen: "{name}, alla finestra non si vede la tua immagine. Perciò da lì non ricevi né immagine né suono. Accendi la " +
			"telecamera e si riprende. Se è già accesa, richiama: qui c’è posto per quattro immagini.",
		NoticeDevice: "{name}, questo dispositivo non è verificato, perciò dalla finestra non riceve né immagine né " +
			"suono. Verificalo in Element in “Impostazioni → Sessioni”, poi richiama.",
		NoticeIdentity: "{name}, la tua identità in Element è nuova, perciò dalla finestra non ricevi né immagine né suono. Riaggancia e " +
			"chiedi a qualcuno alla finestra di confermare che sei tu: lo chiede lo schermo. Poi richiama.",
		NoticeNewIdentity: "{name} ha una nuova identità. Tra {name} e qui non ci sono né immagine né suono finché qualcuno non la conferma: sullo " +
			"schermo della finestra, oppure chi amministra la rete, scrivendo qui «!window confirm {code}». Fatelo solo se sapete perché è nuova, " +
			"per esempio perché il PC è stato reinstallato. Altrimenti qualcuno potrebbe essere in ascolto.",
		NoticeConfirmed:  "La nuova identità di {name} è confermata.",
		NoticeNoIdentity: "{name}, qui nessuna nuova identità ha questo codice. Forse è già confermata, o è cambiata di nuovo.",
		NoticeCommands:   "{name}, la finestra non capisce. Conosce «!window confirm CODICE», con il codice di una nuova identità.",
		NoticeLegacy: "{name}, la finestra non si può chiamare in questo modo. Avvia una videochiamata con il pulsante " +
			"della telecamera in alto in questa stanza (Element Call).",
	},
}

// noticeLanguages are the languages of the notices, the default one first. The page has the same languages in the same order.
var noticeLanguages = []string{"de", "en", "it"}

// Text is the notice in the first of the window's languages that has one. name is the person whom the notice is about, code that of a new identity, "" for
// notices without one.
func (n Notice) Text(languages []string, name, code string) string {
	language := noticeLanguages[0]
	for _, l := range languages {
		if slices.Contains(noticeLanguages, l) {
			language = l
			break
		}
	}
	return strings.NewReplacer("{name}", name, "{code}", code).Replace(notices[language][n])
}
