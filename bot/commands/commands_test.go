package commands

import (
	"fmt"
	"testing"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

func message(content string) *event.Event {
	e := &event.Event{Type: event.EventMessage, RoomID: "!window:a", Sender: "@admin:a", Content: event.Content{VeryRaw: []byte(content)}}
	e.Mautrix.WasEncrypted, e.Mautrix.TrustState, e.Mautrix.TrustSource = true, id.TrustStateCrossSignedTOFU, &id.Device{}
	return e
}

func TestParse(t *testing.T) {
	admins := []id.UserID{"@admin:a", "@other:b"}
	const confirm = `{"msgtype":"m.text","body":"!window confirm ABCD"}`
	for content, want := range map[string]string{
		confirm: "[confirm ABCD]",
		`{"msgtype":"m.text","body":"  !window\n"}`:                                                  "[]",
		`{"msgtype":"m.text","body":"!windows"}`:                                                     "",
		`{"msgtype":"m.text","body":"please !window confirm ABCD"}`:                                  "",
		`{"msgtype":"m.notice","body":"!window confirm ABCD"}`:                                       "",
		`{"msgtype":"m.text","body":"!window confirm ABCD","m.relates_to":{"rel_type":"m.replace"}}`: "",
		`{"msgtype":"m.text","body":["!window"]}`:                                                    "",
		`{"msgtype":"m.text","body":"!window ` + fmt.Sprintf("%0200d", 1) + `"}`:                     "",
		`{}`: "",
		`[]`: "",
		``:   "",
	} {
		c, ok := parse(admins, message(content))
		got := ""
		if ok {
			got = fmt.Sprint(c.Words)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", content, got, want)
		}
	}
	key := ""
	for why, change := range map[string]func(*event.Event){
		"not encrypted":                  func(e *event.Event) { e.Mautrix.WasEncrypted = false },
		"a device that nobody confirmed": func(e *event.Event) { e.Mautrix.TrustState = id.TrustStateUnset },
		"an admin's new identity":        func(e *event.Event) { e.Mautrix.TrustState = id.TrustStateCrossSignedUntrusted },
		"somebody else":                  func(e *event.Event) { e.Sender = "@admin:b" },
		"state":                          func(e *event.Event) { e.StateKey = &key },
		"a key that others passed on":    func(e *event.Event) { e.Mautrix.ForwardedKeys = true },
		"a device that is not known":     func(e *event.Event) { e.Mautrix.TrustSource = nil },
		"a device that was logged out":   func(e *event.Event) { e.Mautrix.TrustSource = &id.Device{Deleted: true} },
	} {
		e := message(confirm)
		change(e)
		if c, ok := parse(admins, e); ok {
			t.Errorf("%s: read as %v", why, c)
		}
	}
	if c, ok := parse(admins, message(confirm)); !ok || c.Room != "!window:a" || c.Sender != "@admin:a" {
		t.Errorf("read as %+v, %t", c, ok)
	}
}
