package ring

import (
	"time"

	"maunium.net/go/mautrix/id"
)

// How many rings and legacy calls count at a time. Each counts for a minute at least, so these limit the rate, too.
const (
	receivedLife      = time.Minute
	maxSenderReceived = 5
	maxRoomReceived   = 32
	maxReceived       = 512
	maxOwnRings       = 64
	maxDecliners      = 100 // of one ring
	maxEarly          = 64  // declines that came before we knew the event id of our ring
	ownRingKept       = ringLife + time.Minute
	maxSenderLegacy   = 3
	maxRoomLegacy     = 8
	maxLegacy         = 32
)

// Tracker remembers who has rung, and whom we rang. Make one with NewTracker.
type Tracker struct {
	rings  receivedList
	legacy receivedList // legacy calls that were rejected
	own    []ownRing
	sent   map[id.RoomID]int // our rings that are under way to the homeserver
	early  []Decline
}

// ownRing is a notification of ours.
type ownRing struct {
	room     id.RoomID
	event    id.EventID
	until    time.Time
	declined map[id.UserID]struct{}
}

// receivedList is a limited list of rings or legacy calls that others sent. Each stays in it for some time.
type receivedList struct {
	maxSender, maxRoom, maxAll int

	list    []received
	dropped uint64
}

type received struct {
	room   id.RoomID
	sender id.UserID
	name   string
	until  time.Time
}

// NewTracker makes an empty Tracker.
func NewTracker() *Tracker {
	return &Tracker{
		rings:  receivedList{maxSender: maxSenderReceived, maxRoom: maxRoomReceived, maxAll: maxReceived},
		legacy: receivedList{maxSender: maxSenderLegacy, maxRoom: maxRoomLegacy, maxAll: maxLegacy},
		sent:   make(map[id.RoomID]int),
	}
}

// AddRing notes a ring that counts until the time until, but for a minute at least. It says whether the ring is new and under all limits.
func (t *Tracker) AddRing(now time.Time, room id.RoomID, sender id.UserID, event id.EventID, until time.Time) bool {
	return t.rings.add(now, room, sender, event.String(), until)
}

// AddLegacyCall notes a legacy call. It says whether the call is new and under all limits.
func (t *Tracker) AddLegacyCall(now time.Time, room id.RoomID, sender id.UserID, call string) bool {
	return t.legacy.add(now, room, sender, call, now.Add(maxRingLife))
}

func (l *receivedList) add(now time.Time, room id.RoomID, sender id.UserID, name string, until time.Time) bool {
	if soonest := now.Add(receivedLife); until.Before(soonest) {
		until = soonest
	}
	kept := l.list[:0]
	known, ofSender, inRoom := false, 0, 0
	for _, r := range l.list {
		if !r.until.After(now) {
			continue
		}
		kept = append(kept, r)
		if r.sender == sender {
			ofSender++
		}
		if r.room == room {
			inRoom++
		}
		known = known || r.room == room && r.sender == sender && r.name == name
	}
	clear(l.list[len(kept):])
	l.list = kept
	switch {
	case known:
		return false
	case ofSender >= l.maxSender, inRoom >= l.maxRoom, len(l.list) >= l.maxAll:
		l.dropped++
		return false
	}
	l.list = append(l.list, received{room, sender, name, until})
	return true
}

// Sending notes that a ring of ours is under way. Somebody may decline it before our homeserver has told us its event id.
func (t *Tracker) Sending(room id.RoomID) { t.sent[room]++ }

// Sent notes the event id of a ring that was under way. The id is empty when the ring was not sent. Sent returns the declines that came before.
func (t *Tracker) Sent(now time.Time, room id.RoomID, event id.EventID) (declines []Decline) {
	if t.sent[room]--; t.sent[room] <= 0 {
		delete(t.sent, room)
	}
	if event != "" {
		kept := t.own[:0]
		for _, ring := range t.own {
			if ring.until.After(now) {
				kept = append(kept, ring)
			}
		}
		clear(t.own[len(kept):])
		t.own = kept
		if len(t.own) >= maxOwnRings {
			t.own = t.own[1:]
		}
		t.own = append(t.own, ownRing{room, event, now.Add(ownRingKept), make(map[id.UserID]struct{})})
	}
	early := t.early
	t.early = nil
	for _, d := range early {
		if t.AddDecline(now, d) {
			declines = append(declines, d)
		}
	}
	return declines
}

// AddDecline records a decline. It returns true if this is the user's first one for a ring of ours.
func (t *Tracker) AddDecline(now time.Time, d Decline) bool {
	for _, ring := range t.own {
		if ring.room != d.Room || ring.event != d.Event || !ring.until.After(now) {
			continue
		}
		if _, again := ring.declined[d.Sender]; again || len(ring.declined) >= maxDecliners {
			return false
		}
		ring.declined[d.Sender] = struct{}{}
		return true
	}
	if t.sent[d.Room] > 0 && len(t.early) < maxEarly {
		t.early = append(t.early, d)
	}
	return false
}

// Dropped returns how many rings and legacy calls were over a limit.
func (t *Tracker) Dropped() uint64 { return t.rings.dropped + t.legacy.dropped }
