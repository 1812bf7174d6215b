package rtc

import (
	"context"
	"maps"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/backoff"
)

const (
	// staleGrace is how long a membership that belongs to no call may stay before it is removed.
	staleGrace = 3 * time.Second
	// staleRetry is when a removal that failed, or that sync does not show, is repeated.
	staleRetry = time.Minute
)

// stateKey names a membership that is a state event.
type stateKey struct {
	room id.RoomID
	key  string
}

// removeStale removes memberships of devices that are not in a call. It returns when to look again. There are two kinds:
//   - our own, in a room whose call we are not in, of an earlier run. Others would show us as present for hours.
//   - those of users who have left a room of ours. Such users can't remove their memberships any more, and would be in the call at once when
//     they come back to the room.
func (m *Manager) removeStale(now time.Time) time.Time {
	var wake time.Time
	still := make(map[stateKey]time.Time)
	for room := range m.roster.Rooms() {
		keys := m.roster.LeftBehind(now, room)
		if m.active[room] == nil {
			keys = append(keys, m.roster.Own(now, room)...)
		}
		var due []string
		for _, key := range keys {
			at, known := m.staleRemovalAt[stateKey{room, key}]
			if !known {
				at = now.Add(staleGrace)
			}
			if !now.Before(at) {
				due = append(due, key)
				at = now.Add(staleRetry)
			}
			still[stateKey{room, key}] = at
			wake = backoff.Earlier(wake, at)
		}
		if len(due) > 0 {
			m.tasks.Go(func() { m.empty(room, due) })
		}
	}
	m.staleRemovalAt = still
	return wake
}

// forgetStale is for a room whose call is entered: there the publisher removes our stale membership.
func (m *Manager) forgetStale(room id.RoomID) {
	maps.DeleteFunc(m.staleRemovalAt, func(k stateKey, _ time.Time) bool { return k.room == room })
}

// Remove empties the membership of a device that is no longer in the call, so that nobody sees it any more. It works only in a room that our
// account created. A client that is in the call after all notices this, and joins again. Remove returns at once.
func (m *Manager) Remove(room id.RoomID, member Member) {
	m.queue.Put(func() {
		if keys := m.roster.KeysOf(room, member.BotDevice()); len(keys) > 0 {
			m.tasks.Go(func() { m.empty(room, keys) })
		}
	})
}

// empty sends empty memberships.
func (m *Manager) empty(room id.RoomID, keys []string) {
	for _, key := range keys {
		ctx, cancel := context.WithTimeout(m.ctx, requestLimit)
		_, err := m.hs.SendState(ctx, room, key, struct{}{})
		cancel()
		if err != nil {
			m.cfg.Log.Warn().Err(err).Stringer("room_id", room).Msg("An old call membership can't be removed yet")
			return
		}
		m.cfg.Log.Info().Stringer("room_id", room).Msg("An old call membership was removed")
	}
}
