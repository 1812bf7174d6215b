package members

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/backoff"
	"multifactorymodel.org/ewindow/bot/matrixerror"
	"multifactorymodel.org/ewindow/bot/networkstate"
)

// attempt is when we may try again to do something with a room. It belongs to Run's goroutine.
type attempt struct {
	next    time.Time
	pause   backoff.Backoff
	running chan struct{} // closed when the try that is under way has ended; nil: none is
	// done says that the homeserver has accepted a try.
	done atomic.Bool
}

// ready says whether it may be tried now. After a try has ended, the pause begins.
func (a *attempt) ready(now time.Time) bool {
	if a.running != nil {
		select {
		case <-a.running:
			a.running = nil
			a.next = now.Add(a.pause.Next())
		default:
			return false
		}
	}
	return !now.Before(a.next)
}

// try runs f in a goroutine that Run waits for, as a try of an attempt that is ready.
func (m *Members) try(a *attempt, f func()) {
	running := make(chan struct{})
	a.running = running
	m.tasks.Go(func() {
		defer close(running)
		f()
	})
}

func newAttempt() *attempt {
	return &attempt{pause: backoff.Backoff{Min: time.Second, Max: time.Minute}}
}

// wanted are the rooms that we should be in and are not.
func (m *Members) wanted() map[id.RoomID][]source {
	wanted := make(map[id.RoomID][]source)
	for _, root := range m.kept.Roots {
		r := m.rooms[root]
		if r == nil {
			var via []string
			for _, admin := range m.cfg.Admins {
				via = append(via, admin.Homeserver())
			}
			wanted[root] = []source{{via: via}}
			continue
		}
		for name, sources := range r.announced() {
			if m.rooms[name] == nil {
				wanted[name] = append(wanted[name], sources...)
			}
		}
		// Whoever is in the room of the windows may join the Space (MSC3083). But a Dendrite with no admin lets only one of its users do so, and a window
		// may need that place.
		if r.space != "" && m.rooms[r.space] == nil && slices.ContainsFunc(m.cfg.Admins, func(a id.UserID) bool { return a.Homeserver() == m.self().Homeserver() }) {
			wanted[r.space] = []source{{via: r.spaceVia}}
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
		}
		if !a.ready(now) {
			continue
		}
		m.try(a, func() { m.introduce(ctx, root) })
	}
	maps.DeleteFunc(m.introductions, func(root id.RoomID, _ *attempt) bool { return !slices.Contains(m.kept.Roots, root) })
	wanted, roots := m.wanted(), slices.DeleteFunc(slices.Clone(m.kept.Roots), func(root id.RoomID) bool { return m.rooms[root] == nil })
	maps.DeleteFunc(m.joins, func(name id.RoomID, _ *attempt) bool {
		_, still := wanted[name]
		return !still
	})
	for name, sources := range wanted {
		a := m.joins[name]
		if a == nil {
			if len(m.joins) >= maxRooms {
				return
			}
			a = newAttempt()
			m.joins[name] = a
		}
		if !a.ready(now) {
			continue
		}
		via, release, ok := m.acquire(now, name, sources)
		if !ok {
			continue
		}
		early := a.pause.Failures() < maxIntroductions
		m.try(a, func() {
			defer release()
			ctx, cancel := context.WithTimeout(ctx, joinLimit)
			defer cancel()
			_, err := m.client.Load().JoinRoom(mautrix.WithMaxRetries(ctx, 0), name.String(), &mautrix.ReqJoinRoom{Via: via})
			a.done.Store(err == nil)
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

// acquire reserves a place for joining a room, for one of those who announce it, and returns servers that know it. The caller releases the place.
func (m *Members) acquire(now time.Time, room id.RoomID, sources []source) (via []string, release func(), ok bool) {
	for _, s := range sources {
		key := s.announcer.String()
		if key == "" {
			key = room.String()
		}
		if !m.joining.TryAcquire(key) {
			continue
		}
		if m.announcers.Allow(now, key) {
			return s.via, func() { m.joining.Release(key) }, true
		}
		m.joining.Release(key)
	}
	return nil, nil, false
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
		if a.ready(now) {
			m.try(a, func() { m.leave(ctx, name) })
		}
	}
	wanted := m.wanted()
	started := 0
	for name, a := range m.refusals {
		_, window := wanted[name]
		switch {
		case window || m.rooms[name] != nil || a.pause.Failures() >= maxRefusals:
			m.forgetRefusal(name)
		case started < maxJoining && a.ready(now):
			started++
			m.try(a, func() { m.leave(ctx, name) })
		}
	}
}

func (m *Members) forgetRefusal(name id.RoomID) {
	delete(m.refusals, name)
	delete(m.inviters, name)
}

// leave leaves a room, or refuses an invitation.
func (m *Members) leave(ctx context.Context, name id.RoomID) {
	ctx, cancel := context.WithTimeout(ctx, joinLimit)
	defer cancel()
	if _, err := m.client.Load().LeaveRoom(mautrix.WithMaxRetries(ctx, 0), name); err != nil && ctx.Err() == nil {
		m.cfg.Log.Debug().Err(matrixerror.FromMautrix(err)).Stringer("room_id", name).Msg("The hub's account can't leave a room, trying again")
	}
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
			if a.running != nil {
				wait = min(wait, runningWait)
			} else {
				wait = min(wait, max(a.next.Sub(now), time.Second))
			}
		}
	}
	return wait
}
