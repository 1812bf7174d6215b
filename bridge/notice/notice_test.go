package notice

import (
	"strings"
	"testing"
)

func TestTexts(t *testing.T) {
	for _, language := range languages {
		if len(texts[language]) != len(texts["en"]) {
			t.Errorf("%s has %d notices", language, len(texts[language]))
		}
		for kind := range texts["en"] {
			if texts[language][kind] == "" {
				t.Errorf("%s lacks notice %d", language, kind)
			}
		}
	}
	for want, wanted := range map[string][]string{
		"The window is shut now: nobody there sees or hears you. The screen says that Anna knocked.":                         {"fr", "en", "de"},
		"Das Fenster ist gerade zu: Niemand vor Ort sieht oder hört dich. Auf dem Bildschirm steht, dass Anna geklopft hat.": nil,
	} {
		if got := Shut.Text(wanted, About{Name: "Anna"}); got != want {
			t.Errorf("%v: %s", wanted, got)
		}
	}
	about := About{Name: "Anna {code}", User: "@anna:a", Code: "CODE"}
	want := "The new identity of Anna {code} (@anna:a) is confirmed."
	if got := Confirmed.Text([]string{"en"}, about); got != want {
		t.Errorf("%s", got)
	}
	if got := NewIdentity.Text([]string{"en"}, about); !strings.Contains(got, "!window confirm CODE") {
		t.Errorf("%s", got)
	}
}
