package rtc

import (
	"errors"
	"slices"
	"time"

	"maunium.net/go/mautrix/id"
)

// Ring is a notification that somebody calls a room (MSC4075).
type Ring struct {
	Room    id.RoomID
	Sender  id.UserID
	Event   id.EventID // of the notification, to be declined
	Ring    bool       // devices shall ring; else the call is only told of
	Expires time.Time  // by our clock
}

// Decline is somebody's answer to our ring (MSC4310).
type Decline struct {
	Room   id.RoomID
	Sender id.UserID
	Event  id.EventID // our notification
}

const (
	// ringLife is how long our own ring counts for those who get it.
	ringLife = time.Minute
	// maxRingLife caps what others write, as Element's clients do.
	maxRingLife = 2 * time.Minute
	// ringSkew is how far a sender's clock may be off its homeserver's.
	ringSkew = 15 * time.Second
	// inviteLife is for a legacy call that doesn't say how long it rings.
	inviteLife = time.Minute
	// maxMentions caps the users that a notification names.
	maxMentions = 1000

	ringRing     = "ring"
	ringNotify   = "notification"
	relReference = "m.reference"
)

// Values that legacy calls need (Matrix specification, Voice over IP).
const (
	voipVersion = "1"
	// plainParty is our party id when the device's id has characters that party ids may not have.
	plainParty = "ewindow"
)

// errNotification is for a content that other clients would not accept either.
var errNotification = errors.New("invalid call notification")

// notification is what a ring says.
type notification struct {
	ring     bool
	sent     int64 // sender_ts, ms; -1: it doesn't say
	lifetime time.Duration
	users    []id.UserID // that are mentioned
	everyone bool        // the room is mentioned
}

// parseNotification reads a ring.
func parseNotification(content []byte) (n notification, err error) {
	o, ok := parseObject(content)
	if !ok {
		return notification{}, errNotification
	}
	kind, _ := o.text("notification_type", maxName)
	switch kind {
	case ringRing:
		n.ring = true
	case ringNotify:
	default:
		return notification{}, errNotification
	}
	n.sent = -1
	if o.has("sender_ts") {
		if n.sent, ok = o.integer("sender_ts", maxInteger); !ok {
			return notification{}, errNotification
		}
	}
	if n.lifetime, ok = lifetime(o, 0); !ok || !o.has("lifetime") {
		return notification{}, errNotification
	}
	if !o.has("m.mentions") {
		return n, nil
	}
	mentions, ok := o.object("m.mentions")
	if !ok {
		return notification{}, errNotification
	}
	if mentions.has("room") {
		if n.everyone, ok = mentions.boolean("room"); !ok {
			return notification{}, errNotification
		}
	}
	if mentions.has("user_ids") {
		list, ok := mentions.listOf("user_ids", maxMentions)
		if !ok {
			return notification{}, errNotification
		}
		for _, raw := range list {
			user, ok := text(raw, maxName)
			if !ok {
				return notification{}, errNotification
			}
			n.users = append(n.users, id.UserID(user))
		}
	}
	return n, nil
}

// lifetime reads how long something rings, otherwise when it doesn't say.
func lifetime(o object, otherwise time.Duration) (time.Duration, bool) {
	if !o.has("lifetime") {
		return otherwise, true
	}
	ms, ok := o.number("lifetime")
	if !ok || ms < 0 {
		return 0, false
	}
	return time.Duration(min(ms, float64(maxRingLife.Milliseconds()))) * time.Millisecond, true
}

// begin is when a notification was sent. origin is the time that its homeserver gave it, in ms.
func (n notification) begin(origin int64) int64 {
	if skew := n.sent - origin; n.sent >= 0 && skew < ringSkew.Milliseconds() && skew > -ringSkew.Milliseconds() {
		return n.sent
	}
	return origin
}

// ringsUntil is when what was sent at begin (ms) and rings for lifetime ends, by our clock. age is what our homeserver says of its age, 0
// for nothing: with it, a clock of ours that is behind does not make old calls new.
func ringsUntil(now time.Time, begin int64, age, lifetime time.Duration) time.Time {
	at := time.UnixMilli(max(0, min(begin, maxInteger)))
	if latest := now.Add(-max(age, 0)); at.After(latest) {
		at = latest
	}
	return at.Add(lifetime)
}

// parseDecline reads which notification is declined.
func parseDecline(content []byte) (id.EventID, error) {
	o, ok := parseObject(content)
	if !ok {
		return "", errNotification
	}
	relation, ok := o.object("m.relates_to")
	if !ok {
		return "", errNotification
	}
	kind, ok1 := relation.text("rel_type", maxName)
	event, ok2 := relation.text("event_id", maxName)
	if !ok1 || !ok2 || kind != relReference || event == "" {
		return "", errNotification
	}
	return id.EventID(event), nil
}

// legacyInvite is the beginning of a call of the old kind, from one to one without MatrixRTC.
type legacyInvite struct {
	call     string
	invitee  id.UserID // "": nobody in particular
	lifetime time.Duration
}

// parseInvite reads a legacy call's invite. Its offer is of no interest, and its version neither: Element's clients take a reject of
// version 1 for a call of any version (and, in matrix-js-sdk #2393, not the hangup that version 0 would have).
func parseInvite(content []byte) (i legacyInvite, err error) {
	o, ok := parseObject(content)
	if !ok {
		return legacyInvite{}, errNotification
	}
	if i.call, ok = o.text("call_id", maxName); !ok || i.call == "" {
		return legacyInvite{}, errNotification
	}
	if o.has("invitee") {
		user, ok := o.text("invitee", maxName)
		if !ok {
			return legacyInvite{}, errNotification
		}
		i.invitee = id.UserID(user)
	}
	if i.lifetime, ok = lifetime(o, inviteLife); !ok {
		return legacyInvite{}, errNotification
	}
	return i, nil
}

// partyID is our name in a legacy call.
func partyID(device id.DeviceID) string {
	name := device.String()
	if name == "" || len(name) > maxName {
		return plainParty
	}
	for _, r := range name {
		switch {
		case r >= '0' && r <= '9', r >= 'A' && r <= 'Z', r >= 'a' && r <= 'z', r == '.', r == '_', r == '~', r == '-':
		default:
			return plainParty
		}
	}
	return name
}

// What we send.
type (
	ringContent struct {
		Kind     string       `json:"notification_type"`
		Mentions ringMentions `json:"m.mentions"`
		Relates  relation     `json:"m.relates_to"`
		Sent     int64        `json:"sender_ts"`
		Lifetime int64        `json:"lifetime"`
		Intent   string       `json:"m.call.intent,omitempty"`
	}
	ringMentions struct {
		Users []id.UserID `json:"user_ids"`
		Room  bool        `json:"room"`
	}
	relation struct {
		Kind  string     `json:"rel_type"`
		Event id.EventID `json:"event_id"`
	}
	declineContent struct {
		Relates relation `json:"m.relates_to"`
	}
	rejectContent struct {
		Call    string `json:"call_id"`
		Party   string `json:"party_id"`
		Version string `json:"version"`
	}
	noticeContent struct {
		Kind string `json:"msgtype"`
		Body string `json:"body"`
	}
)

// How many rings and legacy calls count at a time. One counts for a minute at least, so that these are rates, too.
const (
	heardLife       = time.Minute
	maxSenderHeard  = 5
	maxRoomHeard    = 32
	maxHeard        = 512
	maxOwnRings     = 64
	maxDecliners    = 100 // of one ring
	maxEarly        = 64  // declines that came before we knew what our ring is called
	ownRingKept     = ringLife + time.Minute
	maxSenderLegacy = 3
	maxRoomLegacy   = 8
	maxLegacy       = 32
)

// ringer remembers who has rung, and whom. It is pure and owned by one goroutine.
type ringer struct {
	heard   heardList // rings
	legacy  heardList // legacy calls that were answered
	own     []ownRing
	pending map[id.RoomID]int // own rings on their way
	early   []Decline

	invalid uint64 // what could not be read
	refused uint64 // what came in the clear, too late, or from outside
}

// ownRing is a notification of ours.
type ownRing struct {
	room     id.RoomID
	event    id.EventID
	until    time.Time
	declined map[id.UserID]struct{}
}

// heardList is a capped list of what counts for some time.
type heardList struct {
	maxSender, maxRoom, maxAll int

	list  []heard
	drops uint64
}

type heard struct {
	room   id.RoomID
	sender id.UserID
	name   string
	until  time.Time
}

func newRinger() ringer {
	return ringer{
		heard:   heardList{maxSender: maxSenderHeard, maxRoom: maxRoomHeard, maxAll: maxHeard},
		legacy:  heardList{maxSender: maxSenderLegacy, maxRoom: maxRoomLegacy, maxAll: maxLegacy},
		pending: make(map[id.RoomID]int),
	}
}

// take notes something until then, and says whether it is new and below all caps.
func (l *heardList) take(now time.Time, room id.RoomID, sender id.UserID, name string, until time.Time) bool {
	if soonest := now.Add(heardLife); until.Before(soonest) {
		until = soonest
	}
	kept := l.list[:0]
	known, ofSender, inRoom := false, 0, 0
	for _, h := range l.list {
		if !h.until.After(now) {
			continue
		}
		kept = append(kept, h)
		if h.sender == sender {
			ofSender++
		}
		if h.room == room {
			inRoom++
		}
		known = known || h.room == room && h.sender == sender && h.name == name
	}
	clear(l.list[len(kept):])
	l.list = kept
	switch {
	case known:
		return false
	case ofSender >= l.maxSender, inRoom >= l.maxRoom, len(l.list) >= l.maxAll:
		l.drops++
		return false
	}
	l.list = append(l.list, heard{room, sender, name, until})
	return true
}

// begin notes that a ring of ours is on its way: an answer may be faster than our homeserver's.
func (r *ringer) begin(room id.RoomID) { r.pending[room]++ }

// sent notes what became of it; event is empty when it was not sent. It returns the answers that came before.
func (r *ringer) sent(now time.Time, room id.RoomID, event id.EventID) (declines []Decline) {
	if r.pending[room]--; r.pending[room] <= 0 {
		delete(r.pending, room)
	}
	if event != "" {
		kept := r.own[:0]
		for _, ring := range r.own {
			if ring.until.After(now) {
				kept = append(kept, ring)
			}
		}
		clear(r.own[len(kept):])
		r.own = kept
		if len(r.own) >= maxOwnRings {
			r.own = r.own[1:]
		}
		r.own = append(r.own, ownRing{room, event, now.Add(ownRingKept), make(map[id.UserID]struct{})})
	}
	early := r.early
	r.early = nil
	for _, d := range early {
		if r.declined(now, d) {
			declines = append(declines, d)
		}
	}
	return declines
}

// declined takes an answer, and says whether it is the first one of this user to a ring of ours.
func (r *ringer) declined(now time.Time, d Decline) bool {
	for _, ring := range r.own {
		if ring.room != d.Room || ring.event != d.Event || !ring.until.After(now) {
			continue
		}
		if _, again := ring.declined[d.Sender]; again || len(ring.declined) >= maxDecliners {
			return false
		}
		ring.declined[d.Sender] = struct{}{}
		return true
	}
	if r.pending[d.Room] > 0 && len(r.early) < maxEarly {
		r.early = append(r.early, d)
	}
	return false
}

// mentions says whether a notification is for a user.
func (n notification) mentions(user id.UserID) bool {
	return n.everyone || slices.Contains(n.users, user)
}

func newRingContent(now time.Time, users []id.UserID, membership id.EventID, intent string) ringContent {
	return ringContent{
		Kind: ringRing, Mentions: ringMentions{Users: users}, Relates: relation{relReference, membership},
		Sent: now.UnixMilli(), Lifetime: ringLife.Milliseconds(), Intent: intent,
	}
}
