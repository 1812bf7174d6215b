package bridge

import (
	"context"
	"slices"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/rtc"
	"multifactorymodel.org/ewindow/bridge/notice"
	"multifactorymodel.org/ewindow/bridge/window"
)

const (
	// messageLimit is how long sending one message to the room may take.
	messageLimit = 30 * time.Second
	// peopleLimit is how long the request for the people in a room may take.
	peopleLimit = 10 * time.Second
)

// send does what a message says, mostly to our own room, in another goroutine. Run must not wait for the homeserver.
func (b *Bridge) send(room id.RoomID, m window.Message) {
	failed := "The room could not be told what became of a call"
	var what func(ctx context.Context) error
	switch {
	case m.Remove != nil:
		b.cfg.Calls.Remove(room, rtc.Member{
			User: m.Remove.User, Device: m.Remove.Device, Identity: m.Remove.Identity, Service: m.Remove.Service, Created: m.Remove.Created,
		})
		return
	case m.Confirm != nil: // the rules hear of it when the bot reports it
		failed = "A new identity could not be confirmed"
		what = func(ctx context.Context) error {
			return b.cfg.Calls.ConfirmIdentity(ctx, m.Confirm.Who.User, m.Confirm.Key)
		}
	case m.Compared != nil:
		failed = "The answer about the emoji could not be passed on"
		what = func(ctx context.Context) error { return b.cfg.Calls.AnswerEmoji(ctx, *m.Compared) }
	case m.Decline != "":
		what = func(ctx context.Context) error { return b.cfg.Calls.Decline(ctx, room, m.Decline) }
	default:
		text := m.Notice.Text(b.cfg.Languages, notice.About{
			Name: namer{b.cfg.Directory, b.cfg.Directory.Windows()}.user(m.User), User: m.User, Code: m.Code,
		})
		what = func(ctx context.Context) error { return b.cfg.Calls.Notice(ctx, room, text) }
	}
	b.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(b.ctx, messageLimit)
		defer cancel()
		if err := what(ctx); err != nil && b.ctx.Err() == nil {
			b.cfg.Log.Warn().Err(err).Stringer("room_id", room).Msg(failed)
		}
	})
}

// ringPeople rings everybody in the window's room except kiosks. It does so in another goroutine, because sending waits until our membership
// is in the room.
func (b *Bridge) ringPeople(p window.Plan) {
	if p.Ring == nil || p.Ring.Number == b.rung {
		return
	}
	b.rung = p.Ring.Number
	room, ring, self := p.Room, *p.Ring, b.cfg.Calls.UserID()
	b.tasks.Go(func() {
		people := slices.DeleteFunc(b.people(room), func(user id.UserID) bool { return user == self || slices.Contains(ring.Kiosks, user) })
		ctx, cancel := context.WithTimeout(b.ctx, window.RingTime)
		defer cancel()
		var event id.EventID
		var err error
		if len(people) > 0 {
			event, err = b.cfg.Calls.Ring(ctx, room, people)
		}
		if err != nil && b.ctx.Err() == nil {
			b.cfg.Log.Warn().Err(err).Stringer("room_id", room).Msg("The window's people could not be rung")
		}
		b.queue.Put(func() { b.rules.Rang(b.now(), ring.Number, event, len(people), err) })
	})
}

// people are the users in a room. The list is empty when they are not known.
func (b *Bridge) people(room id.RoomID) []id.UserID {
	ctx, cancel := context.WithTimeout(b.ctx, peopleLimit)
	defer cancel()
	people, err := b.cfg.Calls.People(ctx, room)
	if err != nil {
		b.cfg.Log.Warn().Err(err).Stringer("room_id", room).Msg("The people in the window's room are not known")
		return nil
	}
	return slices.Clone(people)
}
