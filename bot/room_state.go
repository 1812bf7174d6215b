package bot

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/rs/zerolog"
	"go.mau.fi/util/dbutil"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
	"maunium.net/go/mautrix/sqlstatestore"
)

// stateStore is mautrix's store of room state, with rules that keep text from being sent in the clear by accident:
//   - a room that was seen encrypted stays encrypted, whatever a later event says;
//   - whether a room is encrypted is answered only after its state was fetched;
//   - before a change of a room's members is stored, the room's outbound session is ended (rotate). The next session is shared with the
//     new members.
//
// Package rtc says why two more copies of parts of this state exist.
type stateStore struct {
	*sqlstatestore.SQLStateStore
	client *mautrix.Client
	rotate func(ctx context.Context, room id.RoomID) error // set by Start

	mu      sync.Mutex           // guards changes, and is held while state is written
	changes map[id.RoomID]uint64 // state events that sync brought
}

var _ mautrix.StateStore = (*stateStore)(nil)

func newStateStore(db *dbutil.Database, client *mautrix.Client) *stateStore {
	inner := sqlstatestore.NewSQLStateStore(db, dbutil.ZeroLogger(client.Log), false)
	inner.DisableNameDisambiguation = true
	return &stateStore{
		SQLStateStore: inner, client: client, changes: make(map[id.RoomID]uint64),
		rotate: func(context.Context, id.RoomID) error { return nil },
	}
}

// SetEncryptionEvent notes that a room is encrypted. We know only one algorithm. If a room names another one, we still must not send to it in
// the clear.
func (s *stateStore) SetEncryptionEvent(ctx context.Context, room id.RoomID, content *event.EncryptionEventContent) error {
	kept := *content
	kept.Algorithm = id.AlgorithmMegolmV1
	kept.RotationPeriodMillis = max(kept.RotationPeriodMillis, 0) // with a negative period every session would be too old at once
	kept.RotationPeriodMessages = max(kept.RotationPeriodMessages, 0)
	return s.SQLStateStore.SetEncryptionEvent(ctx, room, &kept)
}

// IsEncrypted says whether events to a room have to be encrypted.
func (s *stateStore) IsEncrypted(ctx context.Context, room id.RoomID) (bool, error) {
	if err := s.know(ctx, room); err != nil {
		return false, err
	}
	return s.SQLStateStore.IsEncrypted(ctx, room)
}

// know fetches the state of a room, unless it was fetched before.
func (s *stateStore) know(ctx context.Context, room id.RoomID) error {
	if known, err := s.HasFetchedMembers(ctx, room); err != nil {
		return fmt.Errorf("look up what is known of room %s: %w", room, err)
	} else if known {
		return nil
	}
	_, err := s.refresh(ctx, room)
	return err
}

// refresh fetches and stores the whole state of a room. If sync has brought newer state meanwhile, it asks again, up to twice.
func (s *stateStore) refresh(ctx context.Context, room id.RoomID) ([]*event.Event, error) {
	for attempt := 0; ; attempt++ {
		s.mu.Lock()
		before := s.changes[room]
		s.mu.Unlock()
		var list eventList
		_, err := s.client.MakeRequest(ctx, http.MethodGet, s.client.BuildClientURL("v3", "rooms", room, "state"), nil, &list)
		if err != nil {
			return nil, fmt.Errorf("fetch the state of room %s: %w", room, err)
		}
		for _, e := range list.events {
			prepare(e, room, event.SourceJoin|event.SourceState)
		}
		s.mu.Lock()
		if s.changes[room] != before && attempt < 2 {
			s.mu.Unlock()
			continue
		}
		err = s.DoTxn(ctx, nil, func(ctx context.Context) error { return s.replaceLocked(ctx, room, list.events) })
		s.mu.Unlock()
		if err != nil {
			return nil, fmt.Errorf("store the state of room %s: %w", room, err)
		}
		return list.events, nil
	}
}

// replaceLocked replaces a room's state by the events. mu is held.
func (s *stateStore) replaceLocked(ctx context.Context, room id.RoomID, events []*event.Event) error {
	joined, err := s.joined(ctx, room)
	if err != nil {
		return err
	}
	var members []*event.Event
	var now []id.UserID
	for _, e := range events {
		if e.StateKey == nil {
			continue
		}
		if e.Type != event.StateMember {
			mautrix.UpdateStateStore(ctx, s, e)
			continue
		}
		members = append(members, e)
		if e.Content.AsMember().Membership == event.MembershipJoin {
			now = append(now, id.UserID(*e.StateKey))
		}
	}
	if slices.Sort(now); !slices.Equal(now, joined) {
		if err := s.rotate(ctx, room); err != nil {
			return err
		}
	}
	return s.ReplaceCachedMembers(ctx, room, members)
}

// apply stores the state events of one sync response, in one transaction. self is our user.
func (s *stateStore) apply(ctx context.Context, self id.UserID, events []*event.Event) error {
	if len(events) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.DoTxn(ctx, nil, func(ctx context.Context) error {
		for _, e := range events {
			s.changes[e.RoomID]++
			if e.Type == event.StateMember && e.StateKey != nil {
				if err := s.memberLocked(ctx, self, e); err != nil {
					return err
				}
			}
			mautrix.UpdateStateStore(ctx, s, e)
		}
		return nil
	})
}

// memberLocked prepares for a user's new membership. mu is held.
func (s *stateStore) memberLocked(ctx context.Context, self id.UserID, e *event.Event) error {
	user, now := id.UserID(*e.StateKey), e.Content.AsMember().Membership
	before, err := s.GetMembership(ctx, e.RoomID, user)
	if err != nil || before == now {
		return err
	}
	if err := s.rotate(ctx, e.RoomID); err != nil {
		return err
	}
	if user == self && now != event.MembershipJoin {
		return s.ClearCachedMembers(ctx, e.RoomID) // from now on the homeserver does not tell us who joins and leaves
	}
	return nil
}

// joined lists the joined members of a room, sorted, as far as we know.
func (s *stateStore) joined(ctx context.Context, room id.RoomID) ([]id.UserID, error) {
	members, err := s.GetRoomMembers(ctx, room, event.MembershipJoin)
	if err != nil {
		return nil, fmt.Errorf("look up the members of room %s: %w", room, err)
	}
	list := make([]id.UserID, 0, len(members))
	for user := range members {
		list = append(list, user)
	}
	slices.Sort(list)
	return list, nil
}

const ownRoomsQuery = `SELECT room_id FROM mx_user_profile WHERE user_id=$1 AND membership='join'`

const unknownRoomsQuery = `
	SELECT room_id FROM mx_user_profile
	WHERE user_id=$1 AND membership='join' AND room_id NOT IN (SELECT room_id FROM mx_room_state WHERE members_fetched)
`

// rooms returns those of self's joined rooms that a query finds.
func (s *stateStore) rooms(ctx context.Context, query string, self id.UserID) ([]id.RoomID, error) {
	found, err := s.Query(ctx, query, self)
	rooms, err := dbutil.NewRowIterWithError(found, dbutil.ScanSingleColumn[id.RoomID], err).AsList()
	if err != nil {
		return nil, fmt.Errorf("look up the joined rooms: %w", err)
	}
	return rooms, nil
}

// knowJoined fetches the state of rooms that self has joined a moment ago. Sync does not bring all of it.
func (s *stateStore) knowJoined(ctx context.Context, self id.UserID) error {
	rooms, err := s.rooms(ctx, unknownRoomsQuery, self)
	if err != nil {
		return err
	}
	var errs []error
	for _, room := range rooms {
		err := s.know(ctx, room)
		if errors.Is(err, mautrix.MForbidden) {
			err = s.ClearCachedMembers(ctx, room) // we have left, or were removed
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// forgetLeft forgets who is in rooms that we are not in any more.
func (s *stateStore) forgetLeft(ctx context.Context, self id.UserID, joined []id.RoomID) error {
	rooms, err := s.rooms(ctx, ownRoomsQuery, self)
	if err != nil {
		return err
	}
	for _, room := range rooms {
		if slices.Contains(joined, room) {
			continue
		}
		if err := s.ClearCachedMembers(ctx, room); err != nil {
			return fmt.Errorf("forget the members of room %s: %w", room, err)
		}
	}
	return nil
}

const sharesRoomQuery = `
	SELECT EXISTS (
		SELECT 1 FROM mx_user_profile theirs JOIN mx_user_profile ours ON ours.room_id=theirs.room_id
		WHERE theirs.user_id=$1 AND theirs.membership='join' AND ours.user_id=$2 AND ours.membership='join'
	)
`

// sharesRoom says whether a user is joined to a room that self is joined to.
func (s *stateStore) sharesRoom(ctx context.Context, self, user id.UserID) (shares bool, err error) {
	err = s.QueryRow(ctx, sharesRoomQuery, user, self).Scan(&shares)
	return shares, err
}

// prepare sets what handlers need of an event: room, source, class and parsed content. A content that can't be parsed is only there as raw
// JSON.
func prepare(e *event.Event, room id.RoomID, source event.Source) {
	e.RoomID = room
	e.Mautrix.EventSource = source
	if e.StateKey != nil {
		e.Type.Class = event.StateEventType
	} else {
		e.Type.Class = event.MessageEventType
	}
	err := e.Content.ParseRaw(e.Type)
	if err == nil || errors.Is(err, event.ErrUnsupportedContentType) {
		return
	}
	e.Content.Parsed = nil
	if e.Type == event.StateEncryption {
		// An encryption event that can't be parsed still means that the room is encrypted.
		e.Content.Parsed = &event.EncryptionEventContent{Algorithm: id.AlgorithmMegolmV1}
	}
}

// upgradeSQL brings a set of mautrix's tables up to date.
func upgradeSQL(ctx context.Context, what string, upgrade func(context.Context) error, log zerolog.Logger) error {
	err := upgrade(log.WithContext(ctx))
	if errors.Is(err, dbutil.ErrUnsupportedDatabaseVersion) {
		return fmt.Errorf("the database was written by a newer ewindow than this one (%s): install that version again", what)
	}
	if err != nil {
		return fmt.Errorf("upgrade the tables of %s: %w", what, err)
	}
	return nil
}
