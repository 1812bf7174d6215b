// Package notice has the texts that a window sends to the people in its room, in all languages. The rules (package window) say which one is sent, and when.
package notice

import (
	"slices"
	"strings"

	"maunium.net/go/mautrix/id"
)

// Notice is one of the texts.
type Notice uint8

// The notices.
const (
	// Shut, NotNow and Nobody tell a person why nobody let them in.
	Shut Notice = iota + 1
	NotNow
	Nobody
	// Ajar says that a person knocks, and that they are let in or not.
	Ajar
	// Full says that there is no room for a person in the call.
	Full
	// NoKey says that a person's device could not be given the media key.
	NoKey
	// Camera says that a person sees nothing because their camera is off.
	Camera
	// Unseen says that a person sees and hears nothing any more because no picture of theirs is seen at the window.
	Unseen
	// Codec says that a person sees nothing, or soon nothing, because their picture is in a codec that the window can't show.
	Codec
	// Device says that a person's device gets no media keys, because its owner has not verified it.
	Device
	// Identity says that a person gets no media keys, because they have reset their identity, and what to do.
	Identity
	// NewIdentity says that an identity is new, and how an admin can confirm it. Confirmed says that this was done.
	NewIdentity
	Confirmed
	// NoIdentity tells an admin that no new identity has the code that they wrote, Commands what they can write.
	NoIdentity
	Commands
	// Legacy says that a person called in a way that does not work.
	Legacy
)

// texts are the notices by language. {name} stands for the person whom the notice is about, {user} for their user
// ID, which nobody can choose to be like another one's, and {code} for the code of a new identity.
var texts = map[string]map[Notice]string{
	"de": {
		Shut: "Das Fenster ist gerade zu: Niemand vor Ort sieht oder hört dich. " +
			"Auf dem Bildschirm steht, dass {name} geklopft hat.",
		NotNow: "Am Fenster passt es gerade nicht. Versuch es bitte später noch einmal.",
		Nobody: "Am Fenster hat niemand geantwortet. Auf dem Bildschirm steht, dass {name} geklopft hat.",
		Ajar: "Das Fenster ist angelehnt, deshalb klopft es dort jetzt für {name}. Wer vor Ort ist, lässt dich herein oder nicht. Bis dahin sieht und " +
			"hört dich niemand. Nach einer Minute steht hier, ob niemand da war.",
		Full: "{name}, in diesem Gespräch ist kein Platz mehr: Mehr als 16 Leute sehen und hören das Fenster nicht. Leg auf, und ruf später noch einmal an.",
		NoKey: "{name}, dein Gerät hat vom Fenster keinen Schlüssel bekommen, deshalb siehst und hörst du dort nichts. Das Fenster versucht es weiter. " +
			"Hilft das nicht, melde dich in Element ab und neu an, dann ruf noch einmal an.",
		Camera: "Deine Kamera ist aus, {name}. Am Fenster gilt: Wer sieht, wird auch gesehen. Schalte deine " +
			"Kamera ein, dann siehst du auch das Fenster. Oder warte: Wer dort ist, kann dich auch ohne Bild sprechen lassen.",
		Unseen: "{name}, am Fenster ist kein Bild von dir zu sehen. Deshalb kommt von dort weder Bild noch Ton zu dir. Schalte " +
			"deine Kamera ein, dann geht es weiter. Ist sie schon an, ruf bitte noch einmal an: Vier Bilder haben hier Platz.",
		Codec: "{name}, dein Element sendet dein Bild in einem Format, das dieses Fenster nicht zeigen kann. Am Fenster gilt: Wer sieht, wird auch " +
			"gesehen. Deshalb kommt von dort kein Bild zu dir. Oft hilft ein anderer Browser oder ein anderes Gerät. Wer dein Element betreibt, " +
			"kann in Element Call „media_quality.video_codec“ auf „vp8“ stellen.",
		Device: "{name}, dieses Gerät ist nicht bestätigt, deshalb bekommt es vom Fenster weder Bild noch Ton. " +
			"Bestätige es in Element unter „Einstellungen → Sitzungen“, dann ruf noch einmal an.",
		Identity: "{name}, deine Identität in Element ist neu, deshalb bekommst du vom Fenster weder Bild noch Ton. Leg auf und " +
			"bitte jemanden am Fenster, zu bestätigen, dass du es bist: Der Bildschirm fragt danach. Dann ruf noch einmal an.",
		NewIdentity: "{name} ({user}) hat eine neue Identität. Zwischen {name} und hier gibt es weder Bild noch Ton, bis sie jemand bestätigt: am " +
			"Bildschirm des Fensters, oder wer das Netz verwaltet, hier mit der Nachricht „!window confirm {code}“. Tut das nur, wenn ihr wisst, " +
			"warum sie neu ist, etwa weil der PC neu eingerichtet wurde. Sonst könnte jemand mithören.",
		Confirmed:  "Die neue Identität von {name} ({user}) ist bestätigt.",
		NoIdentity: "{name}, zu diesem Code gibt es hier keine neue Identität. Vielleicht ist sie schon bestätigt, oder noch einmal neu.",
		Commands:   "{name}, das versteht das Fenster nicht. Es kennt „!window confirm CODE“, mit dem Code einer neuen Identität.",
		Legacy: "{name}, so kann das Fenster nicht angerufen werden. Starte bitte einen Videoanruf mit dem " +
			"Kamerazeichen oben in diesem Raum (Element Call).",
	},
	"en": {
		Shut:   "The window is shut now: nobody there sees or hears you. The screen says that {name} knocked.",
		NotNow: "It is not a good moment at the window. Please try again later.",
		Nobody: "Nobody answered at the window. The screen says that {name} knocked.",
		Ajar: "The window is ajar, so {name} knocks there now. Whoever is there lets you in or not. Until then nobody sees or hears you. After a minute " +
			"you read here if nobody was there.",
		Full: "{name}, there is no room left in this call: more than 16 people neither see nor hear the window. Hang up, and call again later.",
		NoKey: "{name}, your device got no key from the window, so you neither see nor hear anything from there. The window keeps trying. If that does not " +
			"help, log out of Element and in again, then call again.",
		Camera: "Your camera is off, {name}. At the window, whoever sees is seen as well. Turn your camera on, " +
			"and you will see the window, too. Or wait: whoever is there can let you talk without a picture.",
		Unseen: "{name}, no picture of yours is seen at the window. That is why neither picture nor sound reaches you from there. " +
			"Turn your camera on, and it goes on. If it is on already, please call again: there is room for four pictures.",
		Codec: "{name}, your Element sends your picture in a format that this window cannot show. At the window, whoever sees is seen as well. That is " +
			"why no picture reaches you from there. Another browser or another device often helps. Whoever runs your Element can set " +
			"“media_quality.video_codec” to “vp8” in the configuration of Element Call.",
		Device: "{name}, this device is not verified, so it gets neither picture nor sound from the window. " +
			"Verify it in Element under “Settings → Sessions”, then call again.",
		Identity: "{name}, your identity in Element is new, so you get neither picture nor sound from the window. Hang up, and ask " +
			"somebody at the window to confirm that it is you: the screen asks for it. Then call again.",
		NewIdentity: "{name} ({user}) has a new identity. There is neither picture nor sound between {name} and here until somebody confirms it: on the " +
			"window's screen, or an admin of the network, by writing “!window confirm {code}” here. Do so only if you know why it is new, for " +
			"instance because the PC was set up anew. Otherwise somebody may be listening in.",
		Confirmed:  "The new identity of {name} ({user}) is confirmed.",
		NoIdentity: "{name}, no new identity here has this code. Perhaps it is confirmed already, or has changed once more.",
		Commands:   "{name}, the window does not understand this. It knows “!window confirm CODE”, with the code of a new identity.",
		Legacy: "{name}, the window cannot be called in this way. Please start a video call with the camera " +
			"button in the header of this room (Element Call).",
	},
	"it": {
		Shut:   "La finestra adesso è chiusa: lì nessuno ti vede né ti sente. Sullo schermo c’è scritto che {name} ha bussato.",
		NotNow: "Alla finestra non è un buon momento. Riprova più tardi, per favore.",
		Nobody: "Alla finestra non ha risposto nessuno. Sullo schermo c’è scritto che {name} ha bussato.",
		Ajar: "La finestra è socchiusa, perciò adesso lì {name} bussa. Chi è lì ti fa entrare oppure no. Fino ad allora nessuno ti vede né ti sente. " +
			"Dopo un minuto qui leggi se non c’era nessuno.",
		Full: "{name}, in questa chiamata non c’è più posto: oltre 16 persone non vedono né sentono la finestra. Riaggancia e richiama più tardi.",
		NoKey: "{name}, il tuo dispositivo non ha ricevuto la chiave dalla finestra, perciò da lì non vedi né senti nulla. La finestra continua a provare. " +
			"Se non basta, esci da Element e accedi di nuovo, poi richiama.",
		Camera: "La tua telecamera è spenta, {name}. Alla finestra chi vede è anche visto. Accendi la telecamera " +
			"e vedrai anche la finestra. Oppure aspetta: chi è lì può farti parlare anche senza immagine.",
		Unseen: "{name}, alla finestra non si vede la tua immagine. Perciò da lì non ricevi né immagine né suono. Accendi la " +
			"telecamera e si riprende. Se è già accesa, richiama: qui c’è posto per quattro immagini.",
		Codec: "{name}, il tuo Element trasmette la tua immagine in un formato che questa finestra non può mostrare. Alla finestra chi vede è anche " +
			"visto. Perciò da lì non ti arriva nessuna immagine. Spesso aiuta un altro browser o un altro dispositivo. Chi gestisce il tuo Element " +
			"può impostare «media_quality.video_codec» su «vp8» in Element Call.",
		Device: "{name}, questo dispositivo non è verificato, perciò dalla finestra non riceve né immagine né " +
			"suono. Verificalo in Element in “Impostazioni → Sessioni”, poi richiama.",
		Identity: "{name}, la tua identità in Element è nuova, perciò dalla finestra non ricevi né immagine né suono. Riaggancia e " +
			"chiedi a qualcuno alla finestra di confermare che sei tu: lo chiede lo schermo. Poi richiama.",
		NewIdentity: "{name} ({user}) ha una nuova identità. Tra {name} e qui non ci sono né immagine né suono finché qualcuno non la conferma: sullo " +
			"schermo della finestra, oppure chi amministra la rete, scrivendo qui «!window confirm {code}». Fatelo solo se sapete perché è nuova, " +
			"per esempio perché il PC è stato reinstallato. Altrimenti qualcuno potrebbe essere in ascolto.",
		Confirmed:  "La nuova identità di {name} ({user}) è confermata.",
		NoIdentity: "{name}, qui nessuna nuova identità ha questo codice. Forse è già confermata, o è cambiata di nuovo.",
		Commands:   "{name}, la finestra non capisce. Conosce «!window confirm CODICE», con il codice di una nuova identità.",
		Legacy: "{name}, la finestra non si può chiamare in questo modo. Avvia una videochiamata con il pulsante " +
			"della telecamera in alto in questa stanza (Element Call).",
	},
}

// languages are the languages of the notices, the default one first. The page has the same languages in the same order.
var languages = []string{"de", "en", "it"}

// About is whom a notice is about. Name is how people are shown them, User their user ID, and Code that of their new identity, if there is one.
type About struct {
	Name string
	User id.UserID
	Code string
}

// Text is the notice in the first of the window's languages that has one.
func (n Notice) Text(in []string, about About) string {
	language := languages[0]
	for _, l := range in {
		if slices.Contains(languages, l) {
			language = l
			break
		}
	}
	return strings.NewReplacer("{name}", about.Name, "{user}", about.User.String(), "{code}", about.Code).Replace(texts[language][n])
}
