package members

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/backoff"
	"multifactorymodel.org/ewindow/bot/matrixerror"
)

// self is our account. It is called after the first login only.
func (m *Members) self() id.UserID { return m.client.Load().UserID }

// follow logs in and follows the rooms until something fails.
func (m *Members) follow(ctx context.Context, works func()) error {
	client, err := mautrix.NewClient(m.cfg.HomeserverURL, "", "")
	if err != nil {
		return err
	}
	client.Log = zerolog.Nop() // its lines have tokens
	client.Client = m.http
	_, err = client.Login(mautrix.WithMaxRetries(ctx, 0), &mautrix.ReqLogin{
		Type: mautrix.AuthTypePassword, Identifier: mautrix.UserIdentifier{Type: mautrix.IdentifierTypeUser, User: m.cfg.Username},
		Password: m.cfg.Password, DeviceID: device, InitialDeviceDisplayName: "e-window hub", StoreCredentials: true,
	})
	if err != nil {
		return fmt.Errorf("log in: %w", matrixerror.FromMautrix(err))
	}
	m.client.Store(client)
	since := ""
	retry := backoff.Backoff{Min: 250 * time.Millisecond, Max: 10 * time.Second}
	first := true   // the next response has everything
	reread := false // somebody wants to see everything anew
	for {
		request := mautrix.ReqSync{Since: since, FilterID: filter, SetPresence: event.PresenceOffline}
		if !first && !reread {
			request.Timeout = int(min(syncWait, m.untilJoin(time.Now())).Milliseconds())
		}
		asking, cancel := context.WithCancel(ctx)
		if !first && !reread {
			m.interrupt.Store(&cancel)
		}
		response, err := client.FullSyncRequest(mautrix.WithMaxRetries(asking, 0), request)
		m.interrupt.Store(nil)
		interrupted := asking.Err() != nil && ctx.Err() == nil
		cancel()
		if interrupted { // first comes what is new, since an admin's word may be overwritten in what is read anew
			reread = true
			continue
		}
		if err != nil {
			// All that has happened comes later, and an admin's word may be overwritten by then.
			if first || ctx.Err() != nil || retry.Failures() >= maxSyncFailures || errors.Is(err, mautrix.MUnknownToken) {
				return fmt.Errorf("sync: %w", matrixerror.FromMautrix(err))
			}
			select {
			case <-time.After(retry.Next()):
			case <-ctx.Done():
			}
			continue
		}
		retry.Reset()
		since = response.NextBatch
		works()
		if err := m.apply(response, first); err != nil {
			return err
		}
		now := time.Now()
		m.joinMore(ctx, now)
		m.leaveMore(ctx, now)
		if first = m.demandsAnew(now) || reread; first {
			since, reread = "", false
		}
	}
}

// demandsAnew says whether all rooms are to be read anew: an admin's room does not say that it is a network's, a room that is announced as a window's does
// not say whose it is or does not show its kiosk, we have joined a room and are not shown it, or somebody of the network invited us into a room that
// nobody seems to announce. Dendrite may leave out some state of a room that we have just joined.
func (m *Members) demandsAnew(now time.Time) bool {
	incomplete := slices.ContainsFunc(m.kept.Roots, func(root id.RoomID) bool {
		r := m.rooms[root]
		if r == nil {
			return false
		}
		if !r.network {
			return true
		}
		for by := range maps.Values(m.inviters) {
			if r.joined[by] {
				return true
			}
		}
		for name := range r.announced() {
			if room := m.rooms[name]; room != nil && (room.kiosk == "" || !room.joined[room.kiosk]) {
				return true
			}
		}
		return false
	})
	for _, a := range m.joins {
		incomplete = incomplete || a.done.Load()
	}
	switch {
	case !incomplete:
		m.anew.Reset()
		m.anewAt = time.Time{}
	case m.anewAt.IsZero():
		m.anewAt = now.Add(m.anew.Next())
	case now.After(m.anewAt):
		m.anewAt = time.Time{}
		return true
	}
	return false
}

// apply takes over a sync response. The first one has everything.
func (m *Members) apply(response *mautrix.RespSync, first bool) error {
	keep := kept{Roots: slices.Clone(m.kept.Roots), Down: slices.Clone(m.kept.Down)}
	changed := m.applyRooms(response, first, &keep)
	moved := !slices.Equal(keep.Roots, m.kept.Roots) || !slices.Equal(keep.Down, m.kept.Down)
	if moved {
		if err := m.save(keep); err != nil {
			return err
		}
	}
	if !changed && !moved {
		return nil
	}
	m.mu.Lock()
	m.kept = keep
	close(m.changed)
	m.changed = make(chan struct{})
	m.mu.Unlock()
	m.cfg.OnChange()
	return nil
}

// applyRooms takes over the rooms of a sync response, and changes what is kept. It says whether anything else has changed.
func (m *Members) applyRooms(response *mautrix.RespSync, first bool, keep *kept) (changed bool) {
	self := m.self()
	m.mu.Lock()
	defer m.mu.Unlock()
	if first {
		clear(m.rooms)
		changed = true
	}
	for name := range response.Rooms.Invite { // we have left it and were invited again in the meantime
		if _, joined := response.Rooms.Join[name]; !joined && m.rooms[name] != nil {
			delete(m.rooms, name)
			changed = true
		}
	}
	invited := m.invitations(response)
	var listed []*event.Event // changes of the Space's list by admins
	for name, joined := range response.Rooms.Join {
		r := m.rooms[name]
		if r == nil {
			if len(m.rooms) >= maxRooms {
				continue
			}
			r = newRoom()
			m.rooms[name] = r
			delete(m.joins, name)
			changed = true
		}
		for _, e := range slices.Concat(joined.State.Events, joined.Timeline.Events) {
			before := len(r.joined)
			changed = r.apply(e) || changed
			if user := id.UserID(e.GetStateKey()); !first && len(r.joined) > before && slices.Contains(keep.Roots, name) {
				keep.Down = slices.DeleteFunc(keep.Down, func(d down) bool { return d.Kiosk == user }) // an admin has invited it anew
			}
			if _, _, ok := takesDown(e); ok && slices.Contains(m.cfg.Admins, e.Sender) {
				listed = append(listed, e)
			}
			if e.StateKey != nil && *e.StateKey == self.String() {
				r.introduced = introduces(e)
			}
		}
	}
	for name := range response.Rooms.Leave {
		m.forgetRefusal(name)
		if m.rooms[name] != nil {
			delete(m.rooms, name)
			changed = true
		}
		keep.Roots = slices.DeleteFunc(keep.Roots, func(root id.RoomID) bool { return root == name })
	}
	for _, name := range invited {
		if !slices.Contains(keep.Roots, name) && len(keep.Roots) < maxRooms {
			keep.Roots = append(keep.Roots, name)
		}
	}
	for _, e := range listed {
		room, isDown, _ := takesDown(e)
		known := slices.IndexFunc(keep.Down, func(d down) bool { return d.Room == room })
		switch {
		case isDown && known < 0 && len(keep.Down) < maxRooms:
			d := down{Room: room}
			for _, root := range keep.Roots {
				if r := m.rooms[root]; r != nil && d.Kiosk == "" {
					d.Kiosk = r.announcer(room)
				}
			}
			keep.Down = append(keep.Down, d)
		case !isDown && known >= 0:
			keep.Down = slices.Delete(keep.Down, known, known+1)
		}
	}
	return changed
}
