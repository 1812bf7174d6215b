package window

import (
	"maps"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bridge/notice"
)

const (
	// noticeEvery is the least time between two notices of a kind in the window's room.
	noticeEvery = 15 * time.Minute
	// maxMessages is how many messages may wait to be sent.
	maxMessages = 64
)

// Message is to be sent to our own room, once. Exactly one of Decline, Notice, Remove, Confirm and Compared is set.
type Message struct {
	// Decline is a call notification to be declined (MSC4310).
	Decline id.EventID
	// Notice is a text for the people in the room, about User. Code is that of a new identity.
	Notice notice.Notice
	User   id.UserID
	Code   string
	// Remove is a stale member to be taken out of the call.
	Remove *Member
	// Confirm is a new identity that somebody at the window, or an admin, has confirmed. It does not go to the room.
	Confirm *Identity
	// Compared says whether people see the same emoji. It does not go to the room, either.
	Compared *bool
}

// outbox keeps what is to be sent, until [Rules.TakeMessages] takes it.
type outbox struct {
	messages []Message
	told     map[telling]time.Time // when the room was told what
}

// telling is a kind of notice, and for whom it was, if each person is told.
type telling struct {
	what notice.Notice
	user id.UserID
}

func newOutbox() outbox { return outbox{told: make(map[telling]time.Time)} }

// add adds a message, or drops it if [maxMessages] wait already.
func (o *outbox) add(m Message) {
	if len(o.messages) < maxMessages {
		o.messages = append(o.messages, m)
	}
}

func (o *outbox) decline(notification id.EventID) { o.add(Message{Decline: notification}) }

func (o *outbox) remove(member Member) { o.add(Message{Remove: &member}) }

// tell sends the room a notice, unless one of the same kind was sent within [noticeEvery].
func (o *outbox) tell(now time.Time, what notice.Notice, user id.UserID) {
	o.tellOnce(now, telling{what: what}, Message{Notice: what, User: user})
}

// tellPerson sends the room a notice, unless it was sent for the same person within [noticeEvery].
func (o *outbox) tellPerson(now time.Time, what notice.Notice, user id.UserID) {
	o.tellOnce(now, telling{what, user}, Message{Notice: what, User: user})
}

func (o *outbox) tellOnce(now time.Time, t telling, m Message) {
	maps.DeleteFunc(o.told, func(_ telling, at time.Time) bool { return now.Sub(at) >= noticeEvery })
	if _, told := o.told[t]; told {
		return
	}
	o.told[t] = now
	o.add(m)
}

// TakeMessages returns what is to be sent to our own room now. Each message is returned once.
func (r *Rules) TakeMessages() []Message {
	list := r.outbox.messages
	r.outbox.messages = nil
	return list
}
