package rtc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

const (
	// maxNotice is the longest notice, in bytes.
	maxNotice = 4 << 10
	// rejectLimit bounds the answer to a legacy call.
	rejectLimit = 30 * time.Second
)

// asker waits for what a ring has to refer to.
type asker struct {
	ctx    context.Context
	room   id.RoomID
	answer chan asked // takes one without waiting
}

type asked struct {
	membership id.EventID
	intent     string
	err        error
}

// handleMessage takes an event of a room's time line that may ring. It runs in the bot's goroutine and only copies what is needed.
func (m *Manager) handleMessage(e *event.Event, head header, content []byte) {
	if head.sender == m.ownUser() {
		return
	}
	kind, room, sealed, age := e.Type.Type, e.RoomID, sealed(e), time.Duration(e.Unsigned.Age)*time.Millisecond
	m.queue.offer(func() {
		if rm := m.roster.rooms[room]; rm == nil || !rm.inside || !rm.has(head.sender) {
			m.ringer.refused++
			return
		}
		switch kind {
		case event.CallInvite.Type:
			m.takeInvite(time.Now(), room, head, age, content)
		case typeRing.Type:
			m.takeRing(time.Now(), room, head, age, content, sealed)
		case typeDecline.Type:
			m.takeDecline(time.Now(), room, head, content, sealed)
		}
	})
}

// ownUser is us, also before Run has noted it.
func (m *Manager) ownUser() id.UserID {
	if m.bot != nil {
		return m.bot.UserID()
	}
	return m.self.User
}

// sealed says whether an event came encrypted by a device of its sender. Whether the owner has verified that device doesn't matter: a ring
// opens nothing, and who is refused should learn that.
func sealed(e *event.Event) bool {
	trust := e.Mautrix.TrustState
	return e.Mautrix.WasEncrypted && trust > id.TrustStateDeviceKeyMismatch && trust != id.TrustStateUnknownDevice
}

func (m *Manager) takeRing(now time.Time, room id.RoomID, head header, age time.Duration, content []byte, sealed bool) {
	n, err := parseNotification(content)
	if err != nil || head.id == "" {
		m.ringer.invalid++
		return
	}
	if !n.mentions(m.self.User) {
		return
	}
	until := ringsUntil(now, n.begin(head.ts), age, n.lifetime)
	if !sealed || !until.After(now) {
		m.ringer.refused++
		return
	}
	if m.ringer.heard.take(now, room, head.sender, head.id.String(), until) && m.cfg.OnRing != nil {
		m.cfg.OnRing(Ring{Room: room, Sender: head.sender, Event: head.id, Ring: n.ring, Expires: until})
	}
}

func (m *Manager) takeDecline(now time.Time, room id.RoomID, head header, content []byte, sealed bool) {
	notification, err := parseDecline(content)
	if err != nil {
		m.ringer.invalid++
		return
	}
	if !sealed {
		m.ringer.refused++
		return
	}
	d := Decline{Room: room, Sender: head.sender, Event: notification}
	if m.ringer.declined(now, d) {
		m.tellDecline(d)
	}
}

func (m *Manager) tellDecline(d Decline) {
	if m.cfg.OnDecline != nil {
		m.cfg.OnDecline(d)
	}
}

// takeInvite answers a legacy call, which we can't take, so that it does not ring in vain. Element's clients send such a call in the
// clear where the room is open, and take an answer in the same way as it was sent.
func (m *Manager) takeInvite(now time.Time, room id.RoomID, head header, age time.Duration, content []byte) {
	invite, err := parseInvite(content)
	if err != nil {
		m.ringer.invalid++
		return
	}
	if invite.invitee != "" && invite.invitee != m.self.User {
		return
	}
	until := ringsUntil(now, head.ts, age, invite.lifetime)
	if !until.After(now) {
		m.ringer.refused++
		return
	}
	if !m.ringer.legacy.take(now, room, head.sender, invite.call, now.Add(maxRingLife)) {
		return
	}
	answer := rejectContent{Call: invite.call, Party: partyID(m.self.ID), Version: voipVersion}
	m.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(m.ctx, rejectLimit)
		defer cancel()
		log := m.cfg.Log.With().Stringer("room_id", room).Stringer("user_id", head.sender).Logger()
		if _, err := m.hs.Send(ctx, room, event.CallReject, answer); err != nil {
			log.Warn().Err(err).Msg("A call of the old kind can't be answered")
			return
		}
		log.Info().Msg("A call of the old kind was rejected")
		m.queue.put(func() {
			if m.cfg.OnLegacyCall != nil {
				m.cfg.OnLegacyCall(room, head.sender)
			}
		})
	})
}

// Ring rings users of a room: whoever has a client of theirs at hand is told that we call. The room's call must have been entered by
// [Manager.Join]; Ring waits until the own membership is in the room, and until the homeserver has taken the notification, whose id it
// returns. Answers come by Config.OnDecline, or as members of the call. A ring counts for a minute, and ends when the call is left.
func (m *Manager) Ring(ctx context.Context, room id.RoomID, users []id.UserID) (id.EventID, error) {
	if len(users) == 0 || len(users) > maxMembers || slices.Contains(users, m.ownUser()) || slices.Contains(users, "") {
		return "", fmt.Errorf("ring in %s: there must be 1 to %d users, and none of them this one", room, maxMembers)
	}
	own := &asker{ctx, room, make(chan asked, 1)}
	m.queue.put(func() { m.askers = append(m.askers, own) })
	var to asked
	select {
	case to = <-own.answer:
	case <-ctx.Done():
		to.err = ctx.Err()
	case <-m.done:
		to.err = ErrClosed
	}
	if to.err != nil {
		return "", fmt.Errorf("ring in %s: %w", room, to.err)
	}
	m.queue.put(func() { m.ringer.begin(room) })
	event, err := m.send(ctx, room, typeRing, newRingContent(time.Now(), slices.Clone(users), to.membership, to.intent))
	m.queue.put(func() {
		for _, d := range m.ringer.sent(time.Now(), room, event) {
			m.tellDecline(d)
		}
	})
	if err != nil {
		return "", fmt.Errorf("ring in %s: %w", room, err)
	}
	m.cfg.Log.Info().Stringer("room_id", room).Stringer("event_id", event).Int("users", len(users)).Msg("Ringing")
	return event, nil
}

// answerAskers tells those who want to ring what their notification has to refer to.
func (m *Manager) answerAskers() {
	m.askers = slices.DeleteFunc(m.askers, func(a *asker) bool {
		call := m.active[a.room]
		switch {
		case call == nil, call.over:
			a.answer <- asked{err: ErrNotInCall}
		case call.membership != "":
			a.answer <- asked{membership: call.membership, intent: call.opts.Intent}
		default:
			return a.ctx.Err() != nil
		}
		return true
	})
}

// Decline refuses a call whose notification came by Config.OnRing. It blocks until the homeserver has taken that.
func (m *Manager) Decline(ctx context.Context, room id.RoomID, notification id.EventID) error {
	if notification == "" {
		return fmt.Errorf("decline call in %s: no notification is named", room)
	}
	if _, err := m.send(ctx, room, typeDecline, declineContent{relation{relReference, notification}}); err != nil {
		return fmt.Errorf("decline call in %s: %w", room, err)
	}
	return nil
}

// Notice says something to the people of a room. It blocks until the homeserver has taken that. text has up to 4 KiB of UTF-8.
func (m *Manager) Notice(ctx context.Context, room id.RoomID, text string) error {
	if text == "" || len(text) > maxNotice || !utf8.ValidString(text) {
		return fmt.Errorf("send notice to %s: %w", room, errors.New("its text is empty, too long, or no UTF-8"))
	}
	if _, err := m.send(ctx, room, event.EventMessage, noticeContent{string(event.MsgNotice), text}); err != nil {
		return fmt.Errorf("send notice to %s: %w", room, err)
	}
	return nil
}

// send sends to a room that is encrypted.
func (m *Manager) send(ctx context.Context, room id.RoomID, kind event.Type, content any) (id.EventID, error) {
	encrypted, err := m.hs.Encrypted(ctx, room)
	switch {
	case err != nil:
		return "", err
	case !encrypted:
		return "", ErrUnencrypted
	}
	return m.hs.Send(ctx, room, kind, content)
}
