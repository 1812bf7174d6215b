package ring

import (
	"errors"
	"slices"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/strictjson"
)

// Ring is a notification that somebody calls a room (MSC4075).
type Ring struct {
	Room    id.RoomID
	Sender  id.UserID
	Event   id.EventID // of the notification; declining it needs this
	Ring    bool       // devices shall ring; else they only show that there is a call
	Expires time.Time  // by our clock
}

const (
	// ringLife is the lifetime of our own rings.
	ringLife = time.Minute
	// maxRingLife is the longest lifetime that others can set. Element's clients have the same limit.
	maxRingLife = 2 * time.Minute
	// ringSkew is how far sender_ts may differ from origin_server_ts. If it differs more, sender_ts is ignored.
	ringSkew = 15 * time.Second
	// maxMentions limits the users that a notification mentions.
	maxMentions = 1000

	typeRing     = "ring"
	typeNotify   = "notification"
	relReference = "m.reference"
)

// errNotification is for a content that Element's clients would not accept either.
var errNotification = errors.New("invalid call notification")

// Notification is the content of a ring, as others sent it.
type Notification struct {
	ring     bool
	sent     int64 // sender_ts, ms; -1: missing
	lifetime time.Duration
	users    []id.UserID // that are mentioned
	everyone bool        // the whole room is mentioned
}

// ParseNotification reads the content of a ring.
func ParseNotification(content []byte) (n Notification, err error) {
	o, ok := strictjson.Parse(content)
	if !ok {
		return Notification{}, errNotification
	}
	kind, _ := o.Text("notification_type", strictjson.MaxName)
	switch kind {
	case typeRing:
		n.ring = true
	case typeNotify:
	default:
		return Notification{}, errNotification
	}
	n.sent = -1
	if o.Has("sender_ts") {
		if n.sent, ok = o.Integer("sender_ts", strictjson.MaxInteger); !ok {
			return Notification{}, errNotification
		}
	}
	if n.lifetime, ok = lifetime(o, 0); !ok || !o.Has("lifetime") {
		return Notification{}, errNotification
	}
	if !o.Has("m.mentions") {
		return n, nil
	}
	mentions, ok := o.Object("m.mentions")
	if !ok {
		return Notification{}, errNotification
	}
	if mentions.Has("room") {
		if n.everyone, ok = mentions.Boolean("room"); !ok {
			return Notification{}, errNotification
		}
	}
	if mentions.Has("user_ids") {
		list, ok := mentions.ListOf("user_ids", maxMentions)
		if !ok {
			return Notification{}, errNotification
		}
		for _, raw := range list {
			user, ok := strictjson.Text(raw, strictjson.MaxName)
			if !ok {
				return Notification{}, errNotification
			}
			n.users = append(n.users, id.UserID(user))
		}
	}
	return n, nil
}

// Mentions says whether a notification is for a user.
func (n Notification) Mentions(user id.UserID) bool {
	return n.everyone || slices.Contains(n.users, user)
}

// Rings says whether devices shall ring, and not only show that there is a call.
func (n Notification) Rings() bool { return n.ring }

// Until is when the notification expires, by our clock. origin is the time that the sender's homeserver gave it, in ms. age is its age as
// our homeserver says, 0 when it does not.
func (n Notification) Until(now time.Time, origin int64, age time.Duration) time.Time {
	return expires(now, n.begin(origin), age, n.lifetime)
}

// begin is when the notification was sent, in ms.
func (n Notification) begin(origin int64) int64 {
	if skew := n.sent - origin; n.sent >= 0 && skew < ringSkew.Milliseconds() && skew > -ringSkew.Milliseconds() {
		return n.sent
	}
	return origin
}

// expires is when something ends, by our clock. It was sent at begin (ms) and lasts for lifetime. age is how old our homeserver says it is: with
// it, an old call does not look new when our clock is behind.
func expires(now time.Time, begin int64, age, lifetime time.Duration) time.Time {
	at := time.UnixMilli(max(0, min(begin, strictjson.MaxInteger)))
	if latest := now.Add(-max(age, 0)); at.After(latest) {
		at = latest
	}
	return at.Add(lifetime)
}

// lifetime reads how long something rings. It returns otherwise when the content does not say.
func lifetime(o strictjson.Object, otherwise time.Duration) (time.Duration, bool) {
	if !o.Has("lifetime") {
		return otherwise, true
	}
	ms, ok := o.Number("lifetime")
	if !ok || ms < 0 {
		return 0, false
	}
	return time.Duration(min(ms, float64(maxRingLife.Milliseconds()))) * time.Millisecond, true
}

// relation points to another event.
type relation struct {
	Kind  string     `json:"rel_type"`
	Event id.EventID `json:"event_id"`
}

// Content is the content of a ring that we send.
type Content struct {
	Kind     string          `json:"notification_type"`
	Mentions contentMentions `json:"m.mentions"`
	Relates  relation        `json:"m.relates_to"`
	Sent     int64           `json:"sender_ts"`
	Lifetime int64           `json:"lifetime"`
	Intent   string          `json:"m.call.intent,omitempty"`
}

type contentMentions struct {
	Users []id.UserID `json:"user_ids"`
	Room  bool        `json:"room"`
}

// NewContent rings users for a minute. The ring refers to membership, the event of our own membership in the call.
func NewContent(now time.Time, users []id.UserID, membership id.EventID, intent string) Content {
	return Content{
		Kind: typeRing, Mentions: contentMentions{Users: users}, Relates: relation{relReference, membership},
		Sent: now.UnixMilli(), Lifetime: ringLife.Milliseconds(), Intent: intent,
	}
}
