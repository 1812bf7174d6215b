package network

import (
	"maps"
	"slices"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/backoff"
)

// How long a room that is no window is not joined again.
const (
	firstRejection   = time.Minute
	longestRejection = 6 * time.Hour
)

// movement is a room that we have to join or to leave.
type movement struct {
	room id.RoomID
	via  []string // the servers to join through
}

// movements says which rooms of the network we have to join, and which to leave. wake is when to ask again.
func (m *model) movements(now time.Time) (join, leave []movement, wake time.Time) {
	children := m.children()
	wanted := make(map[id.RoomID]bool)
	perMember := make(map[id.UserID]int)
	for _, name := range slices.Sorted(maps.Keys(children)) {
		c, r := children[name], m.rooms[name]
		if name == m.space || !m.valid(c) || r != nil && r.creator == m.self {
			continue
		}
		if r != nil && r.joined {
			if v := m.judge(r, c); v == noWindow || v == kioskMissing {
				m.reject(now, name, c, r, v)
				continue
			}
		} else if old := m.rejected[name]; old != nil {
			if old.child == c.id {
				continue
			}
			if now.Before(old.until) {
				wake = backoff.Earlier(wake, old.until)
				continue
			}
		}
		if !m.admin(c.sender) {
			perMember[c.sender]++
		}
		if len(wanted) >= maxWindows || perMember[c.sender] > maxPerMember {
			continue
		}
		wanted[name] = true
		if r == nil || !r.joined {
			join = append(join, movement{room: name, via: servers(c.via, c.sender.Homeserver())})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.rooms)) {
		r := m.rooms[name]
		rejected := m.rejected[name] != nil
		if m.strange(name, r) {
			leave = append(leave, movement{room: name})
			continue
		}
		if r.joined && r.creator != m.self && !r.space && !wanted[name] && (r.windowSender != "" || rejected) {
			if r.upgraded { // if we are in a call there, we leave that first
				if r.leaveAt.IsZero() {
					r.leaveAt = now.Add(upgradedGrace)
				}
				if now.Before(r.leaveAt) {
					wake = backoff.Earlier(wake, r.leaveAt)
					continue
				}
			}
			leave = append(leave, movement{room: name})
		}
	}
	return join, leave, wake
}

// reject remembers that a room is no window. When somebody lists it again, we join it again, after a wait that grows each time. The wait
// has no jitter: only our own homeserver is asked.
func (m *model) reject(now time.Time, name id.RoomID, c child, r *room, v verdict) {
	old := m.rejected[name]
	if old == nil {
		if len(m.rejected) >= maxChildren {
			return
		}
		old = &rejection{pause: backoff.Backoff{Min: firstRejection / 2, Max: longestRejection, Random: func() float64 { return 1 }}}
		m.rejected[name] = old
	}
	if old.child == c.id && old.pause.Failures() > 0 {
		return
	}
	old.child, old.kiosk = c.id, ""
	old.until = now.Add(old.pause.Next())
	if v == kioskMissing {
		old.kiosk = r.window.sender
	}
}
