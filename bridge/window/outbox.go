package window

import (
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bridge/notice"
	"multifactorymodel.org/ewindow/bridge/window/unseen"
)

const (
	// noticeEvery is the least time between two notices of a kind about one person. maxTold is about how many people one kind is sent in that time.
	noticeEvery = 15 * time.Minute
	maxTold     = 8
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

// telling is a kind of notice, and about whom it is.
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

// tell sends the room a notice about a person, unless it was sent about them within [noticeEvery], or about [maxTold] people.
func (o *outbox) tell(now time.Time, what notice.Notice, user id.UserID) {
	told := 0
	for t, at := range o.told {
		if now.Sub(at) >= noticeEvery {
			delete(o.told, t)
		} else if t.what == what {
			told++
		}
	}
	t := telling{what, user}
	if _, again := o.told[t]; !again && told < maxTold {
		o.told[t] = now
		o.add(Message{Notice: what, User: user})
	}
}

// tellGuest tells a guest in our own call, once in a visit, why they see and hear nothing, or will soon.
func (r *Rules) tellGuest(now time.Time, v *visit, what notice.Notice, user id.UserID) {
	t := telling{what, user}
	if r.windows.person(user).Window == "" && v.room == r.own && !v.told[t] && len(v.told) < unseen.MaxBudgets {
		v.told[t] = true
		r.outbox.tell(now, what, user)
	}
}

// TakeMessages returns what is to be sent to our own room now. Each message is returned once.
func (r *Rules) TakeMessages() []Message {
	list := r.outbox.messages
	r.outbox.messages = nil
	return list
}
