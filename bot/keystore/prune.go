package keystore

import (
	"context"
	"fmt"
	"time"

	"go.mau.fi/util/dbutil"
	"maunium.net/go/mautrix/id"
)

// How long keys are kept. Whoever gets hold of the data folder can decrypt no more than what these keys encrypt.
const (
	// roomKeyAge is for keys that decrypt messages in rooms. A key that is needed once more is asked for.
	roomKeyAge = 24 * time.Hour
	// ownRoomKeyAge is how long we encrypt with one key, so that others need no key that is older than roomKeyAge.
	ownRoomKeyAge = 12 * time.Hour
	// olmSessionAge is how long an Olm session is kept without being used.
	olmSessionAge = 30 * 24 * time.Hour
	// maxRoomKeys is how many keys of one sender are kept.
	maxRoomKeys = 500
)

const (
	pruneRoomKeysQuery = `
		DELETE FROM crypto_megolm_inbound_session WHERE coalesce(unixepoch(received_at), 0) < $1 OR session_id IN (
			SELECT session_id FROM (
				SELECT session_id, row_number() OVER (PARTITION BY source_user ORDER BY received_at DESC) AS n FROM crypto_megolm_inbound_session
			) WHERE n > $2
		)
	`
	pruneOwnRoomKeysQuery = `DELETE FROM crypto_megolm_outbound_session WHERE coalesce(unixepoch(created_at), 0) < $1`
	pruneSharedQuery      = `
		DELETE FROM crypto_megolm_outbound_session_shared WHERE session_id NOT IN (SELECT session_id FROM crypto_megolm_inbound_session)
	`
	pruneIndexesQuery = `DELETE FROM crypto_message_index WHERE session_id NOT IN (SELECT session_id FROM crypto_megolm_inbound_session)`
	pruneOlmQuery     = `
		DELETE FROM crypto_olm_session
		WHERE max(coalesce(unixepoch(created_at), 0), coalesce(unixepoch(last_encrypted), 0), coalesce(unixepoch(last_decrypted), 0)) < $1
			OR sender_key NOT IN (SELECT identity_key FROM crypto_device)
		RETURNING sender_key
	`
	endOwnRoomKeysQuery = `DELETE FROM crypto_megolm_outbound_session`
)

// EndRoomSessions lets the next message to each room begin a new Megolm session. If the database is a copy that was restored, the running ones have
// encrypted other messages with the next keys already.
func (s *Store) EndRoomSessions(ctx context.Context) error {
	if _, err := s.DB.Exec(ctx, endOwnRoomKeysQuery); err != nil {
		return fmt.Errorf("end the earlier run's sessions: %w", err)
	}
	return nil
}

// Prune deletes keys that are not needed any more.
func (s *Store) Prune(ctx context.Context, now time.Time) error {
	var gone []id.SenderKey
	err := s.DB.DoTxn(ctx, nil, func(ctx context.Context) error {
		for _, q := range []struct {
			query string
			args  []any
		}{
			{pruneRoomKeysQuery, []any{now.Add(-roomKeyAge).Unix(), maxRoomKeys}},
			{pruneOwnRoomKeysQuery, []any{now.Add(-ownRoomKeyAge).Unix()}},
			{pruneSharedQuery, nil},
			{pruneIndexesQuery, nil},
		} {
			if _, err := s.DB.Exec(ctx, q.query, q.args...); err != nil {
				return err
			}
		}
		rows, err := s.DB.Query(ctx, pruneOlmQuery, now.Add(-olmSessionAge).Unix())
		gone, err = dbutil.NewRowIterWithError(rows, dbutil.ScanSingleColumn[id.SenderKey], err).AsList()
		return err
	})
	if err != nil {
		return fmt.Errorf("delete old encryption keys: %w", err)
	}
	for _, key := range gone {
		s.Abandon(key) // mautrix's cache still has the session
	}
	return nil
}
