//go:build full

package e2e_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/commands"
	"multifactorymodel.org/ewindow/bot/newroom"
	"multifactorymodel.org/ewindow/bot/verification"
	"multifactorymodel.org/ewindow/cmd/e2e/element"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// TestElementVerifies lets an admin compare emoji with a window in Element's own crypto, and then write a command to it. After that each side has
// confirmed the other's identity, which the other tests can't show: there, mautrix speaks with itself.
func TestElementVerifies(t *testing.T) {
	element.Need(t)
	hs := rig.StartHomeserver(t)
	user, password := hs.Register(t, "anna")
	account := rig.NewBotAccount(t, hs, "dresden")
	config := account.Config(t)
	shown := make(chan *verification.Emoji, 20)
	config.Verifiers, config.OnEmoji = []id.UserID{user}, func(e *verification.Emoji) { shown <- e }
	window, err := bot.New(config)
	if err != nil {
		t.Fatal(err)
	}
	wrote := make(chan commands.Command, 10)
	commands.Watch(window, []id.UserID{user}, func(c commands.Command) { wrote <- c })
	rig.RunBot(t, window)
	room, err := window.Client().CreateRoom(t.Context(), &mautrix.ReqCreateRoom{
		Preset: "private_chat", Invite: []id.UserID{user},
		InitialState: []*event.Event{newroom.State(event.StateEncryption, "", &event.EncryptionEventContent{Algorithm: id.AlgorithmMegolmV1})},
	})
	if err != nil {
		t.Fatal(err)
	}
	admin := element.Open(t, element.Account{Homeserver: hs.URL, User: user.String(), Password: password}, element.Options{})
	admin.JoinRoom(room.RoomID.String())
	// emoji waits until the window shows emoji, or none.
	emoji := func(some bool) *verification.Emoji {
		t.Helper()
		deadline := time.After(time.Minute)
		for {
			select {
			case e := <-shown:
				if (e != nil) == some {
					return e
				}
			case <-deadline:
				t.Fatalf("the window shows emoji: not %t", some)
			}
		}
	}
	// compare lets both sides show the emoji, which must be the same, and the window's people say what they see.
	compare := func(same bool) (ended string) {
		t.Helper()
		theirs, err := admin.Compare(window.UserID().String(), window.DeviceID().String())
		if err != nil {
			t.Fatalf("%v\n%s", err, admin.Trace())
		}
		ours := emoji(true)
		var symbols []string
		for _, symbol := range ours.Symbols {
			symbols = append(symbols, string(symbol))
		}
		// Element writes some of them with a variation selector, which has no picture of its own.
		plain := func(list []string) (out []string) {
			for _, s := range list {
				out = append(out, string([]rune(s)[:1]))
			}
			return out
		}
		if len(symbols) != 7 || !slices.Equal(plain(symbols), plain(theirs)) || ours.User != user {
			t.Fatalf("the window shows %q of %s, Element shows %q", symbols, ours.User, theirs)
		}
		if err := window.AnswerEmoji(t.Context(), same); err != nil {
			t.Fatal(err)
		}
		if ended, err = admin.AnswerEmoji(true); err != nil {
			t.Fatalf("%v\n%s", err, admin.Trace())
		}
		emoji(false)
		return ended
	}
	confirmed := func(want bool) {
		t.Helper()
		rig.Eventually(t, time.Minute, func() error {
			got, err := admin.Confirmed(window.UserID().String())
			return rig.Check(err == nil && got == want, fmt.Sprintf("Element has confirmed the window: %t", want), got)
		})
	}
	confirmed(false)
	if ended := compare(false); ended == "done" {
		t.Error("the window's people see other emoji, and Element takes the window for confirmed")
	}
	confirmed(false)
	if ended := compare(true); ended != "done" {
		t.Fatalf("the comparison ended with %q", ended)
	}
	confirmed(true)
	// The window has signed the admin's identity, too.
	rig.Eventually(t, time.Minute, func() error {
		answer, err := window.Client().QueryKeys(t.Context(), &mautrix.ReqQueryKeys{DeviceKeys: mautrix.DeviceKeysRequest{user: nil}})
		if err != nil {
			return err
		}
		return rig.Check(len(answer.MasterKeys[user].Signatures[window.UserID()]) > 0, "the admin's identity has the window's signature", answer.MasterKeys[user].Signatures)
	})

	admin.Send(room.RoomID.String(), "hello")
	admin.Send(room.RoomID.String(), "!window confirm ABCD-EFGH-IJKL-MNOP")
	select {
	case c := <-wrote:
		if c.Sender != user || c.Room != room.RoomID || !slices.Equal(c.Words, []string{"confirm", "ABCD-EFGH-IJKL-MNOP"}) {
			t.Errorf("the window read %+v", c)
		}
	case <-time.After(time.Minute):
		t.Error("the window has not read what the admin wrote in Element")
	}
}
