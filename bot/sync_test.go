package bot_test

import (
	"context"
	"crypto/rand"
	"testing"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// TestInterruptedResponse: the program ends while a response is being processed. The next run sees that response again, but none before it.
func TestInterruptedResponse(t *testing.T) {
	hs := rig.StartHomeserver(t)
	account := rig.NewBotAccount(t, hs, "dresden")
	cfg := account.Config(t)
	first := newBot(t, cfg)
	in := listen(first)
	ctx, cancel := context.WithCancel(t.Context())
	first.On(event.EventMessage, func(context.Context, *event.Event) { cancel() })
	if err := first.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- first.Run(ctx) }()
	room := makeRoom(t, first)
	waitMembers(t, first, room, 1)
	before, err := first.Send(t.Context(), room, testType, message{"before"})
	if err != nil {
		t.Fatal(err)
	}
	next(t, "the first message", in.events, func(e *event.Event) bool { return e.ID == before })
	responses := first.Stats().Responses
	rig.Eventually(t, limit, func() error { // that response was processed, and the next is awaited
		if first.Stats().Responses > responses {
			return nil
		}
		_, err := first.Client().SendStateEvent(t.Context(), room, event.StateTopic, "", map[string]string{"topic": rand.Text()})
		return err
	})
	fatal, err := first.Send(t.Context(), room, event.EventMessage, &event.MessageEventContent{MsgType: event.MsgText, Body: "stop"})
	if err != nil {
		t.Fatal(err)
	}
	if err := next(t, "the end", ended, nil); err != nil {
		t.Fatal(err)
	}

	second := newBot(t, cfg)
	seen := make(chan id.EventID, 100)
	for _, kind := range []event.Type{testType, event.EventMessage} {
		second.On(kind, func(_ context.Context, e *event.Event) { seen <- e.ID })
	}
	rig.RunBot(t, second)
	if got := next(t, "the message", seen, nil); got != fatal {
		t.Errorf("%s came instead of the interrupted one", got)
	}
}

// TestPanic: when a handler panics, only its event is lost.
func TestPanic(t *testing.T) {
	hs := rig.StartHomeserver(t)
	b, other := rig.NewBot(t, hs, "dresden"), rig.NewBot(t, hs, "munich")
	b.On(testType, func(context.Context, *event.Event) { panic("a mistake") })
	b.OnToDevice(testType, func(context.Context, bot.ToDevice) { panic("a mistake") })
	in := listen(b)
	rig.RunBot(t, b)
	rig.RunBot(t, other)
	meet(t, b, other)
	deliver(t, other, b, in, "hello")
	room := makeRoom(t, b)
	sent, err := b.Send(t.Context(), room, testType, message{"x"})
	if err != nil {
		t.Fatal(err)
	}
	next(t, "the event", in.events, func(e *event.Event) bool { return e.ID == sent })
	if n := b.Stats().Panics; n != 2 {
		t.Errorf("%d panics", n)
	}
}

// TestInvitation: the handlers get the state of invitations, and learn that we left a room.
func TestInvitation(t *testing.T) {
	hs := rig.StartHomeserver(t)
	b, other := rig.NewBot(t, hs, "dresden"), rig.NewBot(t, hs, "munich")
	in := listen(b, event.StateMember)
	rig.RunBot(t, b)
	rig.RunBot(t, other)
	room := makeRoom(t, other)
	own := func(source event.Source, membership event.Membership) {
		t.Helper()
		next(t, "the "+string(membership), in.events, func(e *event.Event) bool {
			return e.RoomID == room && e.GetStateKey() == b.UserID().String() && e.Content.AsMember().Membership == membership &&
				e.Mautrix.EventSource&source != 0
		})
	}
	if _, err := other.Client().InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: b.UserID()}); err != nil {
		t.Fatal(err)
	}
	own(event.SourceInvite, event.MembershipInvite)
	if _, err := b.Client().JoinRoomByID(t.Context(), room); err != nil {
		t.Fatal(err)
	}
	own(event.SourceJoin, event.MembershipJoin)
	waitMembers(t, b, room, 2)
	if _, err := other.Client().KickUser(t.Context(), room, &mautrix.ReqKickUser{UserID: b.UserID()}); err != nil {
		t.Fatal(err)
	}
	own(event.SourceLeave, event.MembershipLeave)
	if _, err := b.Send(t.Context(), room, testType, message{"x"}); err == nil {
		t.Error("a message went to a room that we are not in")
	}
}
