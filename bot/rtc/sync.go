package rtc

import (
	"encoding/json"
	"time"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/rtc/membership"
	"multifactorymodel.org/ewindow/bot/strictjson"
	"multifactorymodel.org/ewindow/bot/unstable"
)

// offer queues work that other people cause. It is dropped and counted when too much is waiting.
func (m *Manager) offer(f func()) {
	if !m.queue.PutMax(maxQueue, f) {
		m.dropped.Add(1)
	}
}

// handleEvent handles an event of the bot. It runs in the bot's goroutine and only copies what is needed.
func (m *Manager) handleEvent(e *event.Event) {
	if e.RoomID == "" || e.Mautrix.EventSource&event.SourceInvite != 0 {
		return
	}
	if e.StateKey != nil && e.Mautrix.IgnoreState {
		return // the state after the timeline comes separately (MSC4222)
	}
	head := membership.Header{Event: e.ID, Sender: e.Sender, TS: e.Timestamp}
	room, content := e.RoomID, rawContent(e)
	left := e.Mautrix.EventSource&event.SourceLeave != 0 // we have left the room
	switch {
	case e.Type.Type == typeSticky.Type:
		if life := bot.StickyLeft(time.Now(), e); life > 0 && !left {
			m.offer(func() { m.roster.SetSticky(time.Now(), room, head, life, content) })
		}
	case e.StateKey != nil:
		m.handleState(e.Type.Type, room, *e.StateKey, head, content, left)
	case !left:
		m.handleMessage(e, head, content)
	}
}

// handleState handles a state event. Of a room that we have left only our own m.room.member counts.
func (m *Manager) handleState(kind string, room id.RoomID, key string, head membership.Header, content []byte, left bool) {
	if kind == event.StateMember.Type {
		o, _ := strictjson.Parse(content)
		to, _ := o.Text("membership", strictjson.MaxName)
		m.offer(func() { m.setUser(room, id.UserID(key), event.Membership(to), left) })
		return
	}
	if left {
		return
	}
	switch kind {
	case event.StateCreate.Type:
		if key == "" {
			m.offer(func() { m.roster.SetCreator(room, head.Sender) })
		}
	case event.StateEncryption.Type:
		if key == "" {
			m.offer(func() { m.roster.SetEncrypted(room) })
		}
	case event.StateServerACL.Type:
		if key == "" {
			m.offer(func() { m.roster.SetServerACL(room, content) })
		}
	case typeSlot.Type:
		if key == unstable.RoomSlot {
			m.offer(func() { m.roster.SetSlot(room, content) })
		}
	case typeMember.Type:
		m.offer(func() { m.setMembership(room, key, head, content) })
	}
}

// rawContent is an event's content as it came.
func rawContent(e *event.Event) []byte {
	if len(e.Content.VeryRaw) > 0 || e.Content.Raw == nil {
		return e.Content.VeryRaw
	}
	data, err := json.Marshal(e.Content.Raw)
	if err != nil {
		return nil
	}
	return data
}

// setUser sets a user's membership of a room (m.room.member). left says that the event came with a room that we have left.
func (m *Manager) setUser(room id.RoomID, user id.UserID, to event.Membership, left bool) {
	own := user == m.self.User
	if own && !left && to != event.MembershipJoin {
		return // sync shows our own leave event in a joined room only when we have joined again since
	}
	if !own && left {
		return
	}
	m.roster.SetUser(room, user, to)
}

// setMembership sets a membership from a state event. It tells a call what happened to our own membership.
func (m *Manager) setMembership(room id.RoomID, key string, head membership.Header, content []byte) {
	own := m.roster.SetState(time.Now(), room, key, head, content)
	if call := m.active[room]; call != nil && key == membership.StateKey(m.self) {
		call.publisher.Seen(head.Event, head.TS, own, !m.roster.MayEnd(room, m.self.User, head.Sender))
	}
}

// handleKey handles an Olm-encrypted media key. It runs in the bot's goroutine.
func (m *Manager) handleKey(e bot.ToDevice) {
	m.offer(func() {
		if err := m.keys.Add(time.Now(), e.From, e.Content, m.roster); err != nil {
			m.cfg.Log.Debug().Err(err).Stringer("user_id", e.From.User).Stringer("device_id", e.From.ID).Msg("Media key dropped")
		}
	})
}
