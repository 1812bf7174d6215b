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

	"multifactorymodel.org/ewindow/bot/rtc/membership"
	"multifactorymodel.org/ewindow/bot/rtc/ring"
)

const (
	// maxNotice is the longest notice, in bytes.
	maxNotice = 4 << 10
	// rejectLimit bounds the answer to a legacy call.
	rejectLimit = 30 * time.Second
)

// ringRequest is a caller of Ring that waits for the membership which the notification has to refer to.
type ringRequest struct {
	ctx   context.Context
	room  id.RoomID
	reply chan ringReply // has room for the one reply
}

type ringReply struct {
	membership id.EventID
	intent     string
	err        error
}

// handleMessage handles a timeline event that is a ring, a decline or a legacy call. It runs in the bot's goroutine and only copies what is
// needed.
func (m *Manager) handleMessage(e *event.Event, head membership.Header, content []byte) {
	if head.Sender == m.hs.Self().User {
		return
	}
	kind, room, encrypted, age := e.Type.Type, e.RoomID, encryptedBySender(e), time.Duration(e.Unsigned.Age)*time.Millisecond
	m.offer(func() {
		if !m.roster.Inside(room) || !m.roster.HasJoined(room, head.Sender) {
			m.refusedRings++
			return
		}
		switch kind {
		case event.CallInvite.Type:
			m.handleInvite(time.Now(), room, head, age, content)
		case typeRing.Type:
			m.handleRing(time.Now(), room, head, age, content, encrypted)
		case typeDecline.Type:
			m.handleDecline(time.Now(), room, head, content, encrypted)
		}
	})
}

// encryptedBySender says whether an event came encrypted by a device of its sender. The owner need not have verified that device: a ring
// gives access to nothing, and somebody who is refused should be told so.
func encryptedBySender(e *event.Event) bool {
	trust := e.Mautrix.TrustState
	return e.Mautrix.WasEncrypted && trust > id.TrustStateDeviceKeyMismatch && trust != id.TrustStateUnknownDevice
}

func (m *Manager) handleRing(now time.Time, room id.RoomID, head membership.Header, age time.Duration, content []byte, encrypted bool) {
	n, err := ring.ParseNotification(content)
	if err != nil || head.Event == "" {
		m.invalidRings++
		return
	}
	if !n.Mentions(m.self.User) {
		return
	}
	until := n.Until(now, head.TS, age)
	if !encrypted || !until.After(now) {
		m.refusedRings++
		return
	}
	if m.rings.AddRing(now, room, head.Sender, head.Event, until) {
		m.cfg.OnRing(Ring{Room: room, Sender: head.Sender, Event: head.Event, Ring: n.Rings(), Expires: until})
	}
}

func (m *Manager) handleDecline(now time.Time, room id.RoomID, head membership.Header, content []byte, encrypted bool) {
	notification, err := ring.ParseDecline(content)
	if err != nil {
		m.invalidRings++
		return
	}
	if !encrypted {
		m.refusedRings++
		return
	}
	d := Decline{Room: room, Sender: head.Sender, Event: notification}
	if m.rings.AddDecline(now, d) {
		m.cfg.OnDecline(d)
	}
}

// handleInvite rejects a legacy call, which we cannot take, so that the caller need not wait. Element's clients send such a call
// unencrypted in a room without encryption, and accept an answer that is sent in the same way as the call.
func (m *Manager) handleInvite(now time.Time, room id.RoomID, head membership.Header, age time.Duration, content []byte) {
	invite, err := ring.ParseInvite(content)
	if err != nil {
		m.invalidRings++
		return
	}
	if invite.Invitee != "" && invite.Invitee != m.self.User {
		return
	}
	if !invite.Until(now, head.TS, age).After(now) {
		m.refusedRings++
		return
	}
	if !m.rings.AddLegacyCall(now, room, head.Sender, invite.Call) {
		return
	}
	reject := ring.NewReject(invite, m.self.ID)
	m.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(m.ctx, rejectLimit)
		defer cancel()
		log := m.cfg.Log.With().Stringer("room_id", room).Stringer("user_id", head.Sender).Logger()
		if _, err := m.hs.Send(ctx, room, event.CallReject, reject); err != nil {
			log.Warn().Err(err).Msg("A call of the old kind can't be answered")
			return
		}
		log.Info().Msg("A call of the old kind was rejected")
		m.queue.Put(func() { m.cfg.OnLegacyCall(room, head.Sender) })
	})
}

// Ring rings users of a room: their clients tell them that we call. The room's call must have been entered by [Manager.Join]. Ring waits
// until our own membership is in the room, and until the homeserver has accepted the notification, whose id it returns. Answers
// come by Config.OnDecline, or as members of the call. A ring counts for a minute, and ends when the call is left.
func (m *Manager) Ring(ctx context.Context, room id.RoomID, users []id.UserID) (id.EventID, error) {
	if len(users) == 0 || len(users) > membership.MaxMembers || slices.Contains(users, m.hs.Self().User) || slices.Contains(users, "") {
		return "", fmt.Errorf("ring in %s: there must be 1 to %d users, and none of them this one", room, membership.MaxMembers)
	}
	request := &ringRequest{ctx, room, make(chan ringReply, 1)}
	m.queue.Put(func() { m.waitingToRing = append(m.waitingToRing, request) })
	var reply ringReply
	select {
	case reply = <-request.reply:
	case <-ctx.Done():
		reply.err = ctx.Err()
	case <-m.done:
		reply.err = ErrClosed
	}
	if reply.err != nil {
		return "", fmt.Errorf("ring in %s: %w", room, reply.err)
	}
	m.queue.Put(func() { m.rings.Sending(room) })
	sent, err := m.sendEncrypted(ctx, room, typeRing, ring.NewContent(time.Now(), slices.Clone(users), reply.membership, reply.intent))
	m.queue.Put(func() {
		for _, d := range m.rings.Sent(time.Now(), room, sent) {
			m.cfg.OnDecline(d)
		}
	})
	if err != nil {
		return "", fmt.Errorf("ring in %s: %w", room, err)
	}
	m.cfg.Log.Info().Stringer("room_id", room).Stringer("event_id", sent).Int("users", len(users)).Msg("Ringing")
	return sent, nil
}

// answerRingRequests tells the callers of Ring which membership their notification refers to, once that membership was sent.
func (m *Manager) answerRingRequests() {
	m.waitingToRing = slices.DeleteFunc(m.waitingToRing, func(r *ringRequest) bool {
		call := m.active[r.room]
		switch {
		case call == nil, call.over:
			r.reply <- ringReply{err: ErrNotInCall}
		case call.membership != "":
			r.reply <- ringReply{membership: call.membership, intent: call.opts.Intent}
		default:
			return r.ctx.Err() != nil
		}
		return true
	})
}

// Decline declines a call whose notification came by Config.OnRing. It blocks until the homeserver has accepted the decline.
func (m *Manager) Decline(ctx context.Context, room id.RoomID, notification id.EventID) error {
	if notification == "" {
		return fmt.Errorf("decline call in %s: no notification is named", room)
	}
	if _, err := m.sendEncrypted(ctx, room, typeDecline, ring.NewDecline(notification)); err != nil {
		return fmt.Errorf("decline call in %s: %w", room, err)
	}
	return nil
}

// notice is the content of an m.notice.
type notice struct {
	Type string `json:"msgtype"`
	Body string `json:"body"`
}

// Notice sends a text to the people of a room. It blocks until the homeserver has accepted it. text is UTF-8 of at most 4 KiB.
func (m *Manager) Notice(ctx context.Context, room id.RoomID, text string) error {
	if text == "" || len(text) > maxNotice || !utf8.ValidString(text) {
		return fmt.Errorf("send notice to %s: %w", room, errors.New("its text is empty, too long, or no UTF-8"))
	}
	if _, err := m.sendEncrypted(ctx, room, event.EventMessage, notice{string(event.MsgNotice), text}); err != nil {
		return fmt.Errorf("send notice to %s: %w", room, err)
	}
	return nil
}

// sendEncrypted sends to a room. If the room is not encrypted, it returns ErrUnencrypted.
func (m *Manager) sendEncrypted(ctx context.Context, room id.RoomID, kind event.Type, content any) (id.EventID, error) {
	encrypted, err := m.hs.Encrypted(ctx, room)
	switch {
	case err != nil:
		return "", err
	case !encrypted:
		return "", ErrUnencrypted
	}
	return m.hs.Send(ctx, room, kind, content)
}
