package members

import (
	"context"
	"maps"
	"slices"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/backoff"
	"multifactorymodel.org/ewindow/bot/matrixerror"
	"multifactorymodel.org/ewindow/bot/networkstate"
)

// attempt is when we may try again to join or to leave a room.
type attempt struct {
	next  time.Time
	pause backoff.Backoff
}

func newAttempt() *attempt {
	return &attempt{pause: backoff.Backoff{Min: time.Second, Max: time.Minute}}
}

// wanted are the rooms that we should be in and are not.
func (m *Members) wanted() map[id.RoomID]target {
	wanted := make(map[id.RoomID]target)
	for _, root := range m.kept.Roots {
		r := m.rooms[root]
		if r == nil {
			var via []string
			for _, admin := range m.cfg.Admins {
				via = append(via, admin.Homeserver())
			}
			wanted[root] = target{via: via}
			continue
		}
		for name, t := range r.announced() {
			if m.rooms[name] == nil {
				wanted[name] = t
			}
		}
		// Whoever is in the room of the windows may join the Space (MSC3083). But a Dendrite with no admin lets only one of its users do so, and a window
		// may need that place.
		if r.space != "" && m.rooms[r.space] == nil && slices.ContainsFunc(m.cfg.Admins, func(a id.UserID) bool { return a.Homeserver() == m.self().Homeserver() }) {
			wanted[r.space] = target{via: r.spaceVia}
		}
	}
	return wanted
}

// unwanted are the rooms that we are in and that nobody announces any more. An upgraded room is kept as long as its replacement is announced.
func (m *Members) unwanted() (rooms []id.RoomID) {
	keep := make(map[id.RoomID]bool)
	for _, root := range m.kept.Roots {
		if r := m.rooms[root]; r != nil {
			keep[root] = true
			if r.space != "" {
				keep[r.space] = true
			}
			for name := range r.announced() {
				keep[name] = true
			}
		}
	}
	for name, r := range m.rooms {
		if !keep[name] && (r.replacement == "" || !keep[r.replacement]) {
			rooms = append(rooms, name)
		}
	}
	return rooms
}

// joinMore joins rooms that we should be in, and says in the network's rooms that we are a hub.
func (m *Members) joinMore(ctx context.Context, now time.Time) {
	for _, root := range m.kept.Roots {
		r, a := m.rooms[root], m.introductions[root]
		switch {
		case r == nil || r.introduced:
			delete(m.introductions, root)
			continue
		case a == nil:
			a = &attempt{pause: backoff.Backoff{Min: time.Second, Max: time.Hour}}
			m.introductions[root] = a
		case now.Before(a.next):
			continue
		}
		a.next = now.Add(a.pause.Next())
		m.tasks.Go(func() { m.introduce(ctx, root) })
	}
	maps.DeleteFunc(m.introductions, func(root id.RoomID, _ *attempt) bool { return !slices.Contains(m.kept.Roots, root) })
	wanted, roots := m.wanted(), slices.DeleteFunc(slices.Clone(m.kept.Roots), func(root id.RoomID) bool { return m.rooms[root] == nil })
	maps.DeleteFunc(m.joins, func(name id.RoomID, _ *attempt) bool {
		_, still := wanted[name]
		return !still
	})
	for name, t := range wanted {
		a := m.joins[name]
		if a == nil {
			if len(m.joins) >= maxRooms {
				return
			}
			a = newAttempt()
			m.joins[name] = a
		}
		if now.Before(a.next) {
			continue
		}
		key := t.announcer.String()
		if key == "" {
			key = name.String()
		}
		if !m.joining.TryAcquire(key) {
			continue
		}
		if !m.announcers.Allow(now, key) {
			m.joining.Release(key)
			continue
		}
		a.next = now.Add(a.pause.Next())
		early := a.pause.Failures() <= maxIntroductions
		m.tasks.Go(func() {
			defer m.joining.Release(key)
			ctx, cancel := context.WithTimeout(ctx, joinLimit)
			defer cancel()
			_, err := m.client.Load().JoinRoom(mautrix.WithMaxRetries(ctx, 0), name.String(), &mautrix.ReqJoinRoom{Via: t.via})
			if err != nil && ctx.Err() == nil {
				for _, root := range roots {
					if root != name && early {
						m.introduce(ctx, root)
					}
				}
				m.cfg.Log.Info().Err(matrixerror.FromMautrix(err)).Stringer("room_id", name).Msg("The hub's account can't join a room of the network, trying again")
			}
		})
	}
}

// leaveMore leaves rooms that are no windows any more.
func (m *Members) leaveMore(ctx context.Context, now time.Time) {
	unwanted := m.unwanted()
	maps.DeleteFunc(m.leaves, func(name id.RoomID, _ *attempt) bool { return !slices.Contains(unwanted, name) })
	for _, name := range unwanted {
		a := m.leaves[name]
		if a == nil {
			a = newAttempt()
			m.leaves[name] = a
		}
		if now.Before(a.next) {
			continue
		}
		a.next = now.Add(a.pause.Next())
		m.leave(ctx, name)
	}
	wanted := m.wanted()
	started := 0
	for name, a := range m.refusals {
		_, window := wanted[name]
		switch {
		case window || m.rooms[name] != nil || a.pause.Failures() >= maxRefusals:
			m.forgetRefusal(name)
		case !now.Before(a.next) && started < maxJoining:
			started++
			a.next = now.Add(a.pause.Next())
			m.leave(ctx, name)
		}
	}
}

func (m *Members) forgetRefusal(name id.RoomID) {
	delete(m.refusals, name)
	delete(m.inviters, name)
}

// leave leaves a room, or refuses an invitation.
func (m *Members) leave(ctx context.Context, name id.RoomID) {
	m.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, joinLimit)
		defer cancel()
		if _, err := m.client.Load().LeaveRoom(mautrix.WithMaxRetries(ctx, 0), name); err != nil && ctx.Err() == nil {
			m.cfg.Log.Debug().Err(matrixerror.FromMautrix(err)).Stringer("room_id", name).Msg("The hub's account can't leave a room, trying again")
		}
	})
}

// introduce says in our membership of a room of the network that we are a hub, so that kiosks invite us into their rooms. It is sent again when a room
// can't be joined, with another content: a homeserver that joined at the same moment as we did may never have received our membership.
func (m *Members) introduce(ctx context.Context, root id.RoomID) {
	var member map[string]any
	client, self := m.client.Load(), m.self().String()
	err := client.StateEvent(mautrix.WithMaxRetries(ctx, 0), root, event.StateMember, self, &member)
	if err == nil && member["membership"] == string(event.MembershipJoin) {
		member[networkstate.MemberHub], member[networkstate.Again] = true, time.Now().UnixMilli()
		_, err = client.SendStateEvent(mautrix.WithMaxRetries(ctx, 0), root, event.StateMember, self, member)
	}
	if err != nil && ctx.Err() == nil {
		m.cfg.Log.Info().Err(matrixerror.FromMautrix(err)).Stringer("room_id", root).Msg("The hub's account could not say what it is")
	}
}

// untilJoin is how long until a room may be joined again.
func (m *Members) untilJoin(now time.Time) time.Duration {
	wait := syncWait
	if !m.anewAt.IsZero() {
		wait = min(wait, max(m.anewAt.Sub(now), time.Second))
	}
	for _, attempts := range []map[id.RoomID]*attempt{m.joins, m.leaves, m.refusals, m.introductions} {
		for _, a := range attempts {
			wait = min(wait, max(a.next.Sub(now), time.Second))
		}
	}
	return wait
}
