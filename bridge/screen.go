package bridge

import (
	"slices"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bridge/kiosk"
)

// maxGuests is how many guests are named on the screen.
const maxGuests = 16

// screen is the part of the plan that people see.
type screen struct {
	name       string // shut, alone, ajar, knocked, ringing, opening, visit, lost, fault
	since      time.Time
	countUntil time.Time
	camera     bool
	send       bool // the page's tracks are on its connection
	seen       bool // frames leave
	peer       *person
	guests     []person
	shared     *person // whose screen is shown, and its slot
	knock      *knocker
	missed     []missed
	held       bool     // nobody's camera is on, so nothing leaves ours
	withheld   []person // who gets no keys
	canRing    bool
	ring       string // what becomes of ringing the window's people, "" for nothing to say
	declined   []person
	fault      string
	faultAt    time.Time
}

// knocker is who wants in, and who else is in the call: they would see us, too.
type knocker struct {
	id     uint64
	who    person
	others []person
}

// person is somebody in the call: a window, if that is set, else a user.
type person struct {
	slot   int // -1 without a picture
	window id.RoomID
	user   id.UserID
}

// show decides what people see, and with it whether anything may leave the camera.
func (m *machine) show(now time.Time) screen {
	s := screen{name: "alone", since: m.openedAt}
	s.fault, s.faultAt = m.fault(now)
	c := m.call
	switch {
	case m.shutter == directory.Shut:
		s.name = "shut"
		s.missed = slices.Clone(m.missed)
		if s.fault == "network_not_joined" {
			s.name, s.since = "fault", s.faultAt
		}
		return s
	case s.fault != "" && c == nil:
		s.name, s.since = "fault", s.faultAt
		// The camera stays asked for: the page tries again by itself, and its success ends the fault.
		s.camera = m.cameraFault != ""
		return s
	case c == nil:
		s.canRing, s.ring = m.canRing(now), m.ringNote
		if m.shutter == directory.Ajar {
			s.name = "ajar"
			if k := m.knocking(); k != nil && m.standing(now) == directory.Ajar {
				s.name, s.since, s.countUntil, s.knock = "knocked", k.shown, k.until, m.knocker(k)
				return s
			}
		}
		s.camera = true
		if m.lostPeer != "" {
			s.name, s.since = "lost", m.lostAt
			s.peer = &person{slot: -1, window: m.lostPeer}
		}
		return s
	}
	s.camera, s.send = true, true
	s.peer, s.guests = m.people(c)
	s.shared = m.sharer(c)
	s.withheld = m.unconfirmed(c)
	counting := now.Before(c.counted)
	if counting {
		s.countUntil = c.counted
	}
	s.seen = !counting && m.pageUp && m.cameraFault == "" && !c.alone && (c.picture() || now.Before(c.trialUntil))
	switch {
	case m.outgoing != nil:
		s.name, s.ring, s.since, s.countUntil = "ringing", ringOn, c.started, m.outgoing.until
		for _, user := range m.outgoing.declined {
			s.declined = append(s.declined, m.who(user))
		}
	case s.shared == nil && m.held(now, c):
		s.name, s.since, s.held = "visit", c.started, true
		if s.peer == nil && len(s.guests) > 0 {
			s.peer, s.guests = &s.guests[0], s.guests[1:]
		}
	case (c.picture() || s.shared != nil) && !counting:
		s.name, s.since = "visit", c.started
	case m.lostPeer != "" && m.lostPeer == c.peer:
		s.name, s.since = "lost", m.lostAt
	case !c.hubLost.IsZero() && !counting:
		s.name, s.since = "lost", c.hubLost
	case !c.alone && !now.Before(c.counted.Add(connectLimit)):
		s.name, s.since = "lost", c.started
	default:
		s.name, s.since = "opening", c.started
	}
	return s
}

func (m *machine) knocker(k *knock) *knocker {
	out := &knocker{id: k.id, who: m.who(k.user)}
	users, _ := m.callers()
	for _, user := range users {
		if user != k.user && len(out.others) < maxGuests {
			out.others = append(out.others, m.who(user))
		}
	}
	return out
}

// people names who is in the call: the one in the big picture, and everybody else. Who has no picture, or may not be shown, is
// named all the same: people must know who may hear them.
func (m *machine) people(c *visit) (peer *person, others []person) {
	if c.peer != "" && (c.peerPresent || c.alone) {
		peer = &person{slot: -1, window: c.peer}
	}
	for _, member := range m.members[c.room] {
		p := m.who(member.User)
		if r := c.remotes[member.Identity]; r != nil && r.up && (r.picture || !r.muted) {
			p.slot = r.slot
		}
		switch {
		case peer != nil && p.window != "" && p.window == peer.window:
			if peer.slot < 0 {
				peer.slot = p.slot
			}
		case peer == nil && p.slot >= 0:
			peer = &p
		case len(others) < maxGuests:
			others = append(others, p)
		}
	}
	return peer, others
}

// sharer is the one whose screen is shown, in the screen's slot.
func (m *machine) sharer(c *visit) *person {
	identity, slot, ok := c.shared()
	if !ok {
		return nil
	}
	for _, member := range c.members {
		if member.Identity == identity {
			p := m.who(member.User)
			p.slot = slot
			return &p
		}
	}
	return nil
}

// unconfirmed are those in the call who get no keys.
func (m *machine) unconfirmed(c *visit) (out []person) {
	for _, member := range m.members[c.room] {
		if p := m.who(member.User); slices.Contains(c.withheld, member.User) && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// fault is the one thing that keeps the window from working, the nearest to the people first.
func (m *machine) fault(now time.Time) (code string, since time.Time) {
	open := m.shutter != directory.Shut
	switch {
	case open && m.cameraFault != "":
		return m.cameraFault, m.openedAt
	case open && !m.pagePresent(now):
		return "page", m.pageGoneAt
	case !m.homeserverDownSince.IsZero():
		return "homeserver", m.homeserverDownSince
	case !m.joined:
		return "network_not_joined", time.Time{}
	case open && m.call != nil && !m.call.hubLost.IsZero():
		return "hub", m.call.hubLost
	case open && !m.noHubSince.IsZero():
		return "hub", m.noHubSince
	}
	return "", time.Time{}
}

// show sends the page the whole state, when anything in it has changed.
func (b *Bridge) show(s screen) {
	m := b.machine
	state := kiosk.State{
		Screen: s.name, Name: b.cfg.Name, Shutter: m.shutter, Since: s.since, CountUntil: s.countUntil,
		Camera: s.camera, Send: s.send, Seen: s.seen, Held: s.held,
		TestPattern: b.cfg.TestPattern, Languages: slices.Clone(b.cfg.Languages), Timezone: b.cfg.Timezone,
		Windows: slices.Clone(m.windows),
	}
	if s.peer != nil {
		peer := b.name(*s.peer)
		state.Peer = &peer
	}
	if s.shared != nil {
		shared := b.name(*s.shared)
		state.Shared = &shared
	}
	for _, p := range s.guests {
		state.Guests = append(state.Guests, b.name(p))
	}
	for _, p := range s.withheld {
		state.Withheld = append(state.Withheld, b.name(p).Name)
	}
	if k := s.knock; k != nil {
		state.Knock = &kiosk.Knock{ID: k.id, Name: b.name(k.who).Name, Guest: k.who.window == ""}
		for _, p := range k.others {
			state.Knock.Others = append(state.Knock.Others, b.name(p).Name)
		}
	}
	state.CanRing = s.canRing && b.cfg.Ring != nil && b.cfg.People != nil
	if s.ring != "" {
		state.Ring = &kiosk.Ring{Status: s.ring}
		for _, p := range s.declined {
			state.Ring.Declined = append(state.Ring.Declined, b.name(p).Name)
		}
	}
	for _, o := range s.missed {
		state.Missed = append(state.Missed, kiosk.Missed{Name: b.name(o.who).Name, Guest: o.who.window == "", At: o.at})
	}
	if s.fault != "" {
		state.Fault = &kiosk.Fault{Code: s.fault, Since: s.faultAt}
		if s.fault == "network_not_joined" && b.cfg.User != nil {
			state.Fault.Detail = string(b.cfg.User())
		}
	}
	if b.wasShown && state.Equal(b.shown) {
		return
	}
	b.shown, b.wasShown = state, true
	b.cfg.Screen.SetState(state)
}

func (b *Bridge) name(p person) kiosk.Person {
	if p.window == "" {
		return kiosk.Person{Name: b.cfg.Directory.Name(p.user), Slot: p.slot}
	}
	w, _ := b.machine.window(p.window)
	return kiosk.Person{Name: w.Name, Slot: p.slot}
}
