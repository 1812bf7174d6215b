package membership

import (
	"context"
	"fmt"

	"go.mau.fi/util/dbutil"
	"maunium.net/go/mautrix/id"
)

const (
	keepLeaveQuery = `INSERT INTO ewindow_delayed_leave (delay_id, room_id) VALUES ($1, $2) ON CONFLICT (delay_id) DO NOTHING`
	dropLeaveQuery = `DELETE FROM ewindow_delayed_leave WHERE delay_id=$1`
	// capLeavesQuery keeps the latest ones of a room. Older ones were sent long ago.
	capLeavesQuery = `
		DELETE FROM ewindow_delayed_leave WHERE room_id=$1 AND rowid NOT IN
			(SELECT rowid FROM ewindow_delayed_leave WHERE room_id=$1 ORDER BY rowid DESC LIMIT $2)
	`
	keptLeavesQuery = `SELECT delay_id FROM ewindow_delayed_leave WHERE room_id=$1 ORDER BY rowid`
)

// maxLeavesKept is how many delayed leaves are remembered for one room.
const maxLeavesKept = 8

// DelayedLeaves is the table of delayed leaves (MSC4140) in the kiosk's database: events that the homeserver will send to remove us from a
// room's call. The next run of the program cancels those of this run. The methods may be called from any goroutine.
type DelayedLeaves struct {
	// DB was opened by migrations.OpenKiosk.
	DB *dbutil.Database
}

var _ LeaveStore = DelayedLeaves{}

// Keep remembers a delayed leave.
func (l DelayedLeaves) Keep(ctx context.Context, room id.RoomID, delayID string) error {
	return l.change(ctx, func(ctx context.Context) error {
		if _, err := l.DB.Exec(ctx, keepLeaveQuery, delayID, room); err != nil {
			return err
		}
		_, err := l.DB.Exec(ctx, capLeavesQuery, room, maxLeavesKept)
		return err
	})
}

// Drop forgets a delayed leave that was sent or cancelled.
func (l DelayedLeaves) Drop(ctx context.Context, delayID string) error {
	return l.change(ctx, func(ctx context.Context) error {
		_, err := l.DB.Exec(ctx, dropLeaveQuery, delayID)
		return err
	})
}

func (l DelayedLeaves) change(ctx context.Context, f func(ctx context.Context) error) error {
	if err := l.DB.DoTxn(ctx, nil, f); err != nil {
		return fmt.Errorf("write the delayed leaves to the database: %w", err)
	}
	return nil
}

// Kept lists the delayed leaves of a room, the oldest first.
func (l DelayedLeaves) Kept(ctx context.Context, room id.RoomID) ([]string, error) {
	rows, err := l.DB.Query(ctx, keptLeavesQuery, room)
	list, err := dbutil.NewRowIterWithError(rows, dbutil.ScanSingleColumn[string], err).AsList()
	if err != nil {
		return nil, fmt.Errorf("read the delayed leaves from the database: %w", err)
	}
	return list, nil
}
