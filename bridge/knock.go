package bridge

import (
	"slices"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
)

const (
	// knockTime is how long a knock waits for somebody at the window.
	knockTime = time.Minute
	// knockGuard is how long a knock must have been shown before a press can answer it: one that was on its way when the screen changed
	// meant something else, and nobody is to be let in by accident.
	knockGuard = 600 * time.Millisecond
	// staleCall is how old a membership may be for its user to count as calling just now.
	staleCall = 15 * time.Minute
	// maxMissed is how many of those who knocked at the shut window are remembered.
	maxMissed = 3
	maxKnocks = 64
)

type knockState uint8

const (
	knockWaits knockState = iota
	knockLetIn
	knockOver // refused, missed, or gone on since before the window was shut
)

// knock is somebody who called while the window was not open, from when it was noticed until they leave. A second call of the same user
// is the same knock, since one who was refused may otherwise ring for ever.
type knock struct {
	id       uint64
	user     id.UserID
	state    knockState
	until    time.Time // when waiting ends
	shown    time.Time // since when it is the one on the screen
	answered time.Time // when it was let in
	inside   bool      // its membership was seen
	created  time.Time // of the newest membership
	// ring is the notification to be declined, "" for none. It stands for its sender until the membership is seen, but not beyond
	// ringUntil.
	ring      id.EventID
	ringUntil time.Time
}

// missed is one who knocked and found nobody.
type missed struct {
	who person
	at  time.Time
}

// standing is how the window stands for others: one that nobody can see through is shut, whatever was pressed.
func (m *machine) standing(now time.Time) directory.Shutter {
	if m.cameraFault != "" || !m.pagePresent(now) {
		return directory.Shut
	}
	return m.shutter
}

// settling says that the page has not been asked yet, right after a start, whether the window is open.
func (m *machine) settling(now time.Time) bool {
	return !m.decided && now.Before(m.openedAt.Add(pageGrace))
}

// mayCall says whether a user's call counts: everybody's but that of a kiosk which was removed from the network.
func (m *machine) mayCall(user id.UserID) bool {
	_, listed := m.kioskOf(user)
	return listed || !m.kiosks[user]
}

func (m *machine) who(user id.UserID) person {
	p := person{slot: -1, user: user}
	if w, kiosk := m.kioskOf(user); kiosk {
		p.window = w.Room
	}
	return p
}

// callers are the users in our own room's call, in the order in which they came, with the time of their newest membership.
func (m *machine) callers() (users []id.UserID, created map[id.UserID]time.Time) {
	created = make(map[id.UserID]time.Time)
	for _, member := range m.members[m.own] {
		if !m.mayCall(member.User) {
			continue
		}
		before, twice := created[member.User]
		if !twice {
			users = append(users, member.User)
		}
		created[member.User] = later(before, member.Created)
	}
	return users, created
}

func (m *machine) knockOf(user id.UserID) *knock {
	for _, k := range m.knocks {
		if k.user == user {
			return k
		}
	}
	return nil
}

func (m *machine) newKnock(now time.Time, user id.UserID) *knock {
	m.lastKnock++
	k := &knock{id: m.lastKnock, user: user, until: now.Add(knockTime)}
	m.knocks = append(m.knocks, k)
	return k
}

// ring takes the notification of a call (MSC4075) in our own room. The membership is what makes a call; the notification is what can be
// declined. As a rule they come together, in either order.
func (m *machine) ring(now time.Time, room id.RoomID, sender id.UserID, event id.EventID, expires time.Time) {
	if room != m.own || !m.mayCall(sender) || !now.Before(expires) || m.standing(now) == directory.Open && !m.settling(now) {
		return // an open window answers by itself
	}
	k := m.knockOf(sender)
	switch {
	case k == nil && len(m.knocks) >= maxKnocks:
		return
	case k != nil && k.ring == event:
		return
	case k != nil && k.state == knockOver && !k.inside: // rings again, without ever having been in the call
		m.dropKnock(k)
		k = m.newKnock(now, sender)
	case k == nil:
		k = m.newKnock(now, sender)
	case k.state == knockOver:
		m.errand(errand{decline: event})
	}
	k.ring, k.ringUntil = event, expires
}

func (m *machine) dropKnock(k *knock) {
	m.knocks = slices.DeleteFunc(m.knocks, func(o *knock) bool { return o == k })
}

// followKnocks brings who wants in up to now. It may be called twice for the same moment.
func (m *machine) followKnocks(now time.Time) {
	if m.settling(now) {
		return
	}
	standing := m.standing(now)
	if standing != m.stood {
		if standing == directory.Shut && m.stood != "" {
			m.endKnocks(now)
		}
		m.stood, m.stoodAt = standing, now
	}
	if standing == directory.Open {
		m.knocks = nil
		return
	}
	users, created := m.callers()
	for _, k := range slices.Clone(m.knocks) {
		at, inside := created[k.user]
		gone := k.inside && !inside || !inside && !now.Before(k.ringUntil)
		again := k.inside && at.After(k.created) && k.state == knockOver
		if gone && k.state == knockWaits {
			m.miss(now, k)
		}
		if gone || again {
			m.dropKnock(k)
		}
	}
	for _, user := range users {
		k := m.knockOf(user)
		if k == nil {
			if len(m.knocks) >= maxKnocks {
				continue
			}
			k = m.newKnock(now, user)
			at := created[user]
			_, window := m.kioskOf(user)
			switch {
			case standing != directory.Shut:
			case !at.IsZero() && now.Sub(at) > staleCall:
				k.state = knockOver // left behind, or somebody who waits in an empty call
			case window && now.Sub(m.stoodAt) < expectTime:
				k.state = knockOver // it was on its way to an open window
			}
		}
		k.inside, k.created = true, later(k.created, created[user])
	}
	visiting := m.call != nil && m.call.room == m.own
	for _, k := range m.knocks {
		switch {
		case k.state != knockWaits:
		case standing == directory.Shut:
			m.miss(now, k)
			m.refuse(now, k, noticeShut)
		case visiting:
			// A call has one set of keys: who comes to those that were let in sees what they see.
			k.state, k.answered = knockLetIn, now
		case !now.Before(k.until):
			m.miss(now, k)
			m.refuse(now, k, noticeNobody)
		}
	}
	if k := m.knocking(); k != nil && k.shown.IsZero() {
		k.shown = now
	}
}

// knocking is the knock to be answered next, nil for none.
func (m *machine) knocking() *knock {
	for _, k := range m.knocks {
		if k.state == knockWaits {
			return k
		}
	}
	return nil
}

// refuse ends a knock: it is declined, if it rang, and the room is told, if it was a person's.
func (m *machine) refuse(now time.Time, k *knock, why noticeKind) {
	k.state = knockOver
	if k.ring != "" {
		m.errand(errand{decline: k.ring})
	}
	if m.who(k.user).window == "" {
		m.notify(now, why, k.user)
	}
}

// miss keeps who knocked and when, for the shut screen.
func (m *machine) miss(now time.Time, k *knock) {
	who := m.who(k.user)
	m.missed = slices.DeleteFunc(m.missed, func(o missed) bool { return o.who == who })
	m.missed = slices.Insert(m.missed, 0, missed{who, now})
	m.missed = m.missed[:min(len(m.missed), maxMissed)]
}

// answerKnock is a choice at the window: let in, or not now.
func (m *machine) answerKnock(now time.Time, number uint64, letIn bool) {
	k := m.knocking()
	if k == nil || k.id != number || k.shown.IsZero() || now.Sub(k.shown) < knockGuard || m.standing(now) != directory.Ajar {
		return
	}
	if !letIn {
		m.refuse(now, k, noticeNotNow)
		return
	}
	delete(m.pauses, m.own) // somebody is there and means it
	for _, k := range m.knocks {
		if k.state == knockWaits {
			k.state, k.answered = knockLetIn, now
		}
	}
}

// letIn says whether somebody who was let in is in our call, or on the way into it, and the window it is with, if any.
func (m *machine) letIn(now time.Time) (peer id.RoomID, ok bool) {
	for _, k := range m.knocks {
		if k.state == knockLetIn && (k.inside || now.Before(k.answered.Add(emptyGrace))) {
			peer, _ = m.caller()
			return peer, true
		}
	}
	return "", false
}

// endKnocks is for the moment in which the window is shut: who is in the call then was seen, or knew that nobody was there.
func (m *machine) endKnocks(now time.Time) {
	users, created := m.callers()
	for _, user := range users {
		k := m.knockOf(user)
		if k == nil && len(m.knocks) < maxKnocks {
			k = m.newKnock(now, user)
			k.state = knockOver
		}
		if k != nil {
			k.inside, k.created = true, later(k.created, created[user])
		}
	}
	for _, k := range m.knocks {
		if k.state == knockWaits {
			m.refuse(now, k, noticeShut)
		}
		k.state = knockOver
	}
}
