package bridge

import (
	"context"
	"slices"
	"strings"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/rtc"
)

// noticePause is the least time between two notices of a kind in the window's room.
const noticePause = 15 * time.Minute

// errandLimit bounds one message to the room.
const errandLimit = 30 * time.Second

// maxErrands limits what waits to be sent.
const maxErrands = 64

// noticeKind is something that the people in the room are told.
type noticeKind uint8

const (
	noNotice noticeKind = iota
	noticeShut
	noticeNotNow
	noticeNobody
	noticeCamera
	noticeDevice
	noticeLegacy
)

// errand is something to be sent to the own room, once: the one field that is set says what.
type errand struct {
	decline id.EventID // a call's notification (MSC4310)
	notice  noticeKind
	user    id.UserID // whom the notice is about
	ghost   *rtc.Member
}

// errand puts something into the plan's basket. It is dropped while far too much waits.
func (m *machine) errand(e errand) {
	if len(m.errands) < maxErrands {
		m.errands = append(m.errands, e)
	}
}

// notify tells the room something, unless it was told the same a short while ago.
func (m *machine) notify(now time.Time, kind noticeKind, user id.UserID) {
	if last, said := m.noticed[kind]; said && now.Sub(last) < noticePause {
		return
	}
	m.noticed[kind] = now
	m.errand(errand{notice: kind, user: user})
}

// takeErrands hands out what is to be sent now.
func (m *machine) takeErrands() []errand {
	list := m.errands
	m.errands = nil
	return list
}

// notices are what the room is told, by language. {name} is the one whom it is about.
var notices = map[string]map[noticeKind]string{
	"de": {
		noticeShut: "Das Fenster ist gerade zu: Niemand vor Ort sieht oder hört dich. " +
			"Auf dem Bildschirm steht, dass {name} geklopft hat.",
		noticeNotNow: "Am Fenster passt es gerade nicht. Versuch es bitte später noch einmal.",
		noticeNobody: "Am Fenster hat niemand geantwortet. Auf dem Bildschirm steht, dass {name} geklopft hat.",
		noticeCamera: "Deine Kamera ist aus, {name}. Am Fenster gilt: Wer sieht, wird auch gesehen. Schalte deine " +
			"Kamera ein, dann siehst du auch das Fenster.",
		noticeDevice: "{name}, dieses Gerät ist nicht bestätigt, deshalb bekommt es vom Fenster weder Bild noch Ton. " +
			"Bestätige es in Element unter „Einstellungen → Sitzungen“, dann ruf noch einmal an.",
		noticeLegacy: "{name}, so kann das Fenster nicht angerufen werden. Starte bitte einen Videoanruf mit dem " +
			"Kamerazeichen oben in diesem Raum (Element Call).",
	},
	"en": {
		noticeShut:   "The window is shut now: nobody there sees or hears you. The screen says that {name} knocked.",
		noticeNotNow: "It is not a good moment at the window. Please try again later.",
		noticeNobody: "Nobody answered at the window. The screen says that {name} knocked.",
		noticeCamera: "Your camera is off, {name}. At the window, whoever sees is seen as well. Turn your camera on, " +
			"and you will see the window, too.",
		noticeDevice: "{name}, this device is not verified, so it gets neither picture nor sound from the window. " +
			"Verify it in Element under “Settings → Sessions”, then call again.",
		noticeLegacy: "{name}, the window cannot be called in this way. Please start a video call with the camera " +
			"button in the header of this room (Element Call).",
	},
	"it": {
		noticeShut:   "La finestra adesso è chiusa: lì nessuno ti vede né ti sente. Sullo schermo c’è scritto che {name} ha bussato.",
		noticeNotNow: "Alla finestra non è un buon momento. Riprova più tardi, per favore.",
		noticeNobody: "Alla finestra non ha risposto nessuno. Sullo schermo c’è scritto che {name} ha bussato.",
		noticeCamera: "La tua telecamera è spenta, {name}. Alla finestra chi vede è anche visto. Accendi la telecamera " +
			"e vedrai anche la finestra.",
		noticeDevice: "{name}, questo dispositivo non è verificato, perciò dalla finestra non riceve né immagine né " +
			"suono. Verificalo in Element in “Impostazioni → Sessioni”, poi richiama.",
		noticeLegacy: "{name}, la finestra non si può chiamare in questo modo. Avvia una videochiamata con il pulsante " +
			"della telecamera in alto in questa stanza (Element Call).",
	},
}

// noticeLanguages is the order in which the page takes its languages where none is set, too.
var noticeLanguages = []string{"de", "en", "it"}

// noticeText is a notice in the first of the window's languages that has one.
func noticeText(languages []string, kind noticeKind, name string) string {
	language := noticeLanguages[0]
	for _, l := range languages {
		if slices.Contains(noticeLanguages, l) {
			language = l
			break
		}
	}
	return strings.ReplaceAll(notices[language][kind], "{name}", name)
}

// send does an errand beside Run, which must not wait for the homeserver.
func (b *Bridge) send(e errand) {
	room, log := b.machine.own, b.cfg.Log.With().Stringer("room_id", b.machine.own).Logger()
	var what func(ctx context.Context) error
	switch {
	case e.ghost != nil && b.cfg.Remove != nil:
		b.cfg.Remove(room, *e.ghost)
		return
	case e.decline != "" && b.cfg.Decline != nil:
		what = func(ctx context.Context) error { return b.cfg.Decline(ctx, room, e.decline) }
	case e.notice != noNotice && b.cfg.Notice != nil:
		text := noticeText(b.cfg.Languages, e.notice, b.cfg.Directory.Name(e.user))
		what = func(ctx context.Context) error { return b.cfg.Notice(ctx, room, text) }
	default:
		return
	}
	b.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(b.ctx, errandLimit)
		defer cancel()
		if err := what(ctx); err != nil && b.ctx.Err() == nil {
			log.Warn().Err(err).Msg("The room could not be told what became of a call")
		}
	})
}
