package bridge

import (
	"context"
	"slices"
	"time"

	"maunium.net/go/mautrix/id"
)

const (
	// ringTime is how long the window's people are rung, and ringPause the least time between two beginnings of it.
	ringTime  = time.Minute
	ringPause = time.Minute
	// ringNoteTime is how long the screen says what became of it.
	ringNoteTime = 20 * time.Second
)

// What became of ringing, as the page's protocol names it.
const (
	ringOn       = "ringing"
	ringNobody   = "nobody"
	ringDeclined = "declined"
	ringFailed   = "failed"
	ringNoPeople = "no_people"
)

// ringing is the window's people being rung: our own room's call is entered, and waits for them.
type ringing struct {
	number   uint64
	until    time.Time
	event    id.EventID // the notification, "" until it is sent
	asked    int        // how many people it names
	declined []id.UserID
}

// canRing says whether ringing may begin. It may not while somebody waits in the call whom nobody has let in: they would see who rings.
func (m *machine) canRing(now time.Time) bool {
	if users, _ := m.callers(); len(users) > 0 {
		return false
	}
	return m.outgoing == nil && m.call == nil && m.usable(now) && m.homeserverDownSince.IsZero() && m.knocking() == nil &&
		!now.Before(m.ringAgain)
}

// startRing begins to ring the window's people.
func (m *machine) startRing(now time.Time) {
	if !m.canRing(now) {
		return
	}
	m.rings++
	m.outgoing = &ringing{number: m.rings, until: now.Add(ringTime)}
	m.ringAgain = now.Add(ringPause)
	m.ringNote = ""
	delete(m.pauses, m.own) // somebody is there and means it
}

// endRing ends it, and says why on the screen unless that is plain to see. A call that nobody has come into is left.
func (m *machine) endRing(now time.Time, note string) {
	if m.outgoing == nil {
		return
	}
	m.outgoing = nil
	m.ringNote, m.ringNoteUntil = note, now.Add(ringNoteTime)
	if m.call != nil && m.call.room == m.own && m.call.alone {
		m.call = nil
	}
}

// rang takes what became of sending the notification number to so many people.
func (m *machine) rang(now time.Time, number uint64, event id.EventID, asked int, err error) {
	r := m.outgoing
	switch {
	case r == nil || r.number != number:
	case err != nil:
		m.endRing(now, ringFailed)
	case asked == 0:
		m.endRing(now, ringNoPeople)
	default:
		r.event, r.asked = event, asked
		m.followRing(now)
	}
}

// ringDecline takes a person's answer to our notification.
func (m *machine) ringDecline(now time.Time, room id.RoomID, sender id.UserID, event id.EventID) {
	r := m.outgoing
	if r == nil || room != m.own || r.event != "" && r.event != event || slices.Contains(r.declined, sender) || len(r.declined) >= maxGuests {
		return
	}
	r.declined = append(r.declined, sender)
	m.followRing(now)
}

// followRing brings the ringing up to now. It may be called twice for the same moment.
func (m *machine) followRing(now time.Time) {
	if m.ringNote != "" && !now.Before(m.ringNoteUntil) {
		m.ringNote = ""
	}
	r, c := m.outgoing, m.call
	if r == nil {
		return
	}
	if c != nil && c.room == m.own {
		if members, _ := m.shown(c.room, c.peer); len(members) > 0 {
			// Somebody came: only now is there something to count down to.
			m.outgoing = nil
			c.started, c.counted = now, now.Add(m.countdown)
			return
		}
	}
	switch {
	case !m.usable(now) || c != nil && c.room != m.own:
		m.endRing(now, "")
	case m.paused(now, m.own) || !m.homeserverDownSince.IsZero():
		m.endRing(now, ringFailed)
	case r.asked > 0 && len(r.declined) >= r.asked:
		m.endRing(now, ringDeclined)
	case !now.Before(r.until):
		m.endRing(now, ringNobody)
	}
}

// ringPeople rings whoever is in the window's room and is no kiosk, beside Run: sending waits until our membership is in the room.
func (b *Bridge) ringPeople() {
	r, room := b.machine.outgoing, b.machine.own
	if r == nil || b.rung == r.number {
		return
	}
	b.rung = r.number
	number, self := r.number, id.UserID("")
	if b.cfg.User != nil {
		self = b.cfg.User()
	}
	kiosks := make(map[id.UserID]bool, len(b.machine.kiosks))
	for user := range b.machine.kiosks {
		kiosks[user] = true
	}
	b.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(b.ctx, ringTime)
		defer cancel()
		people := slices.DeleteFunc(slices.Clone(b.cfg.People()), func(user id.UserID) bool { return user == self || kiosks[user] })
		var event id.EventID
		var err error
		if len(people) > 0 {
			event, err = b.cfg.Ring(ctx, room, people)
		}
		if err != nil && b.ctx.Err() == nil {
			b.cfg.Log.Warn().Err(err).Stringer("room_id", room).Msg("The window's people could not be rung")
		}
		b.queue.Put(func() { b.machine.rang(b.now(), number, event, len(people), err) })
	})
}
