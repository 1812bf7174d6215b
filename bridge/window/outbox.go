package window

import (
	"time"

	"maunium.net/go/mautrix/id"
)

const (
	// noticeEvery is the least time between two notices of a kind in the window's room.
	noticeEvery = 15 * time.Minute
	// maxMessages is how many messages may wait to be sent.
	maxMessages = 64
)

// Message is to be sent to our own room, once. Exactly one of Decline, Notice and Remove is set.
type Message struct {
	// Decline is a call notification to be declined (MSC4310).
	Decline id.EventID
	// Notice is a text for the people in the room, about User.
	Notice Notice
	User   id.UserID
	// Remove is a stale member to be taken out of the call.
	Remove *Member
}

// outbox keeps what is to be sent, until [Rules.TakeMessages] takes it.
type outbox struct {
	messages []Message
	told     map[Notice]time.Time // when the room was told what
}

func newOutbox() outbox { return outbox{told: make(map[Notice]time.Time)} }

// add adds a message, or drops it if [maxMessages] wait already.
func (o *outbox) add(m Message) {
	if len(o.messages) < maxMessages {
		o.messages = append(o.messages, m)
	}
}

func (o *outbox) decline(notification id.EventID) { o.add(Message{Decline: notification}) }

func (o *outbox) remove(member Member) { o.add(Message{Remove: &member}) }

// tell sends the room a notice, unless one of the same kind was sent within [noticeEvery].
func (o *outbox) tell(now time.Time, what Notice, user id.UserID) {
	if last, told := o.told[what]; told && now.Sub(last) < noticeEvery {
		return
	}
	o.told[what] = now
	o.add(Message{Notice: what, User: user})
}

// TakeMessages returns what is to be sent to our own room now. Each message is returned once.
func (r *Rules) TakeMessages() []Message {
	list := r.outbox.messages
	r.outbox.messages = nil
	return list
}
