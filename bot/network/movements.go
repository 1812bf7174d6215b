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
	wanted := make(map[id.RoomID]bool)
	peers := m.peers()
	verdicts := make([]verdict, len(peers))
	for i, p := range peers { // those that are windows already come first
		r := m.rooms[p.Room]
		if verdicts[i] = incomplete; r != nil && r.joined {
			verdicts[i] = m.judge(r, p.kiosk)
		}
		if verdicts[i] == accepted && len(wanted) < maxWindows {
			wanted[p.Room] = true
			delete(m.rejected, p.kiosk)
		}
	}
	for i, p := range peers {
		r := m.rooms[p.Room]
		joined := r != nil && r.joined
		if verdicts[i] == accepted || wanted[p.Room] {
			continue
		}
		if verdicts[i] == noWindow {
			m.reject(now, p)
			continue
		}
		if old := m.rejected[p.kiosk]; !joined && old != nil {
			if old.announced == p.event {
				continue
			}
			if now.Before(old.until) {
				wake = backoff.Earlier(wake, old.until)
				continue
			}
		}
		if len(wanted) >= maxWindows {
			continue
		}
		wanted[p.Room] = true
		if !joined {
			join = append(join, movement{room: p.Room, via: servers(p.Via, p.kiosk.Homeserver())})
		}
	}
	rejected := make(map[id.RoomID]bool, len(m.rejected))
	for _, old := range m.rejected {
		rejected[old.room] = true
	}
	for _, name := range slices.Sorted(maps.Keys(m.rooms)) {
		r := m.rooms[name]
		if m.strange(name, r) || m.expelled(name, r) {
			leave = append(leave, movement{room: name})
			continue
		}
		if r.joined && r.creator != m.self && !r.space && !wanted[name] && (r.windowSender != "" || rejected[name]) {
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

// reject remembers that a room is no window of the kiosk that announces it. When the kiosk announces one anew, we join again, after a wait that grows
// each time. The wait has no jitter: only our own homeserver is asked.
func (m *model) reject(now time.Time, p peer) {
	old := m.rejected[p.kiosk]
	if old == nil {
		old = &rejection{pause: backoff.Backoff{Min: firstRejection / 2, Max: longestRejection, Random: func() float64 { return 1 }}}
		m.rejected[p.kiosk] = old
	}
	if old.announced == p.event {
		return
	}
	old.room, old.announced = p.Room, p.event
	old.until = now.Add(old.pause.Next())
}
