package homeserver

import (
	"context"
	"fmt"
	"time"

	"go.mau.fi/util/dbutil"
	"maunium.net/go/mautrix/id"
)

// The SQL for the table delayed_event, see migrations/hub.
const (
	insertDelayed = `
		INSERT INTO delayed_event (delay_id, user_id, device_id, access_token, room_id, event_type, state_key, txn_id, query, content, delay, since)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`
	restartDelayed  = `UPDATE delayed_event SET since=$2 WHERE delay_id=$1`
	deleteDelayed   = `DELETE FROM delayed_event WHERE delay_id=$1`
	selectDelayed   = `SELECT delay_id, user_id, device_id, access_token, room_id, event_type, state_key, txn_id, query, content, delay, since FROM delayed_event`
	getDelayed      = selectDelayed + ` WHERE delay_id=$1`
	getDelayedOf    = selectDelayed + ` WHERE user_id=$1`
	getDelayedBrief = `SELECT delay_id, user_id, device_id, '', room_id, event_type, state_key, txn_id, query, x'', delay, since FROM delayed_event`
)

// store keeps delayed events in the hub's database.
type store struct{ db *dbutil.Database }

var delayedRows = dbutil.ConvertRowFn[*delayed](func(row dbutil.Scannable) (*delayed, error) {
	var d delayed
	var delay, since int64
	err := row.Scan(&d.id, &d.user, &d.device, &d.token, &d.room, &d.eventType, &d.stateKey, &d.txn, &d.query, &d.content, &delay, &since)
	d.delay, d.since = time.Duration(delay)*time.Millisecond, time.UnixMilli(since)
	return &d, err
})

func (s store) insert(ctx context.Context, d *delayed) error {
	_, err := s.db.Exec(ctx, insertDelayed, d.id, d.user, d.device, d.token, d.room, d.eventType, d.stateKey, d.txn, d.query, d.content,
		d.delay.Milliseconds(), d.since.UnixMilli())
	return wrapStore("store a delayed event", err)
}

func (s store) restart(ctx context.Context, delayID string, since time.Time) error {
	_, err := s.db.Exec(ctx, restartDelayed, delayID, since.UnixMilli())
	return wrapStore("restart a delayed event", err)
}

func (s store) remove(ctx context.Context, delayID string) error {
	_, err := s.db.Exec(ctx, deleteDelayed, delayID)
	return wrapStore("remove a delayed event", err)
}

func (s store) get(ctx context.Context, delayID string) (*delayed, error) {
	d, err := delayedRows(s.db.QueryRow(ctx, getDelayed, delayID))
	return d, wrapStore("read a delayed event", err)
}

func (s store) all(ctx context.Context) ([]*delayed, error) {
	list, err := delayedRows.NewRowIter(s.db.Query(ctx, getDelayedBrief)).AsList()
	return list, wrapStore("read the delayed events", err)
}

// of returns all events that one user has scheduled.
func (s store) of(ctx context.Context, user id.UserID) ([]*delayed, error) {
	list, err := delayedRows.NewRowIter(s.db.Query(ctx, getDelayedOf, user)).AsList()
	return list, wrapStore("read a user's delayed events", err)
}

func wrapStore(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
