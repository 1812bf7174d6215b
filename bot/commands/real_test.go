package commands_test

import (
	"slices"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/commands"
	"multifactorymodel.org/ewindow/bot/newroom"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// TestCommands sends messages over a homeserver: of an admin, of somebody else, and one that the admin's homeserver could have made up, since no device of
// the admin's has encrypted it.
func TestCommands(t *testing.T) {
	hs := rig.StartHomeserver(t)
	window, admin, guest := rig.NewBot(t, hs, "window"), rig.NewBot(t, hs, "admin"), rig.NewBot(t, hs, "guest")
	adminID := id.NewUserID("admin", hs.ServerName)
	got := make(chan commands.Command, 10)
	commands.Watch(window, []id.UserID{adminID}, func(c commands.Command) { got <- c })
	rig.RunBot(t, window)
	rig.RunBot(t, admin)
	rig.RunBot(t, guest)
	room, err := window.Client().CreateRoom(t.Context(), &mautrix.ReqCreateRoom{
		Preset:       "public_chat",
		InitialState: []*event.Event{newroom.State(event.StateEncryption, "", &event.EncryptionEventContent{Algorithm: id.AlgorithmMegolmV1})},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, who := range []*mautrix.Client{admin.Client(), guest.Client()} {
		if _, err := who.JoinRoomByID(t.Context(), room.RoomID); err != nil {
			t.Fatal(err)
		}
	}
	rig.Eventually(t, time.Minute, func() error {
		members, err := admin.Members(t.Context(), room.RoomID)
		return rig.Check(err == nil && len(members) == 3, "all are there", members)
	})
	send := func(who *mautrix.Client, text string) {
		t.Helper()
		if _, err := who.SendMessageEvent(t.Context(), room.RoomID, event.EventMessage, &event.MessageEventContent{MsgType: event.MsgText, Body: text}); err != nil {
			t.Fatal(err)
		}
	}
	send(guest.Client(), "!window confirm GUEST")
	send(hs.Client(t, adminID), "!window confirm PLAIN")
	send(admin.Client(), "hello")
	send(admin.Client(), "!window confirm CODE")
	select {
	case c := <-got:
		if c.Room != room.RoomID || c.Sender != adminID || !slices.Equal(c.Words, []string{"confirm", "CODE"}) {
			t.Errorf("the window read %+v", c)
		}
	case <-time.After(time.Minute):
		t.Fatal("the window has read nothing")
	}
	select {
	case c := <-got:
		t.Errorf("the window also read %+v", c)
	default:
	}
}
