package window

import "testing"

func TestNoticeTexts(t *testing.T) {
	for _, language := range noticeLanguages {
		if len(notices[language]) != len(notices["en"]) {
			t.Errorf("%s has %d notices", language, len(notices[language]))
		}
		for kind := range notices["en"] {
			if notices[language][kind] == "" {
				t.Errorf("%s lacks notice %d", language, kind)
			}
		}
	}
	for want, languages := range map[string][]string{
		"The window is shut now: nobody there sees or hears you. The screen says that Anna knocked.":                         {"fr", "en", "de"},
		"Das Fenster ist gerade zu: Niemand vor Ort sieht oder hört dich. Auf dem Bildschirm steht, dass Anna geklopft hat.": nil,
	} {
		if got := NoticeShut.Text(languages, "Anna", ""); got != want {
			t.Errorf("%v: %s", languages, got)
		}
	}
}
