package bot

import (
	"context"
	"fmt"

	"go.mau.fi/util/dbutil"
	"maunium.net/go/mautrix/id"
)

const (
	keepDelayedQuery = `INSERT INTO ewindow_delayed_leave (delay_id, room_id) VALUES ($1, $2) ON CONFLICT (delay_id) DO NOTHING`
	dropDelayedQuery = `DELETE FROM ewindow_delayed_leave WHERE delay_id=$1`
	// capDelayedQuery leaves the latest ones of a room: what is older has fired long ago.
	capDelayedQuery = `
		DELETE FROM ewindow_delayed_leave WHERE room_id=$1 AND rowid NOT IN
			(SELECT rowid FROM ewindow_delayed_leave WHERE room_id=$1 ORDER BY rowid DESC LIMIT $2)
	`
	keptDelayedQuery = `SELECT delay_id FROM ewindow_delayed_leave WHERE room_id=$1 ORDER BY rowid`
)

// maxDelayedKept is how many delayed leaves are remembered for a room.
const maxDelayedKept = 8

// KeepDelayed remembers a delayed event (MSC4140) that will take us out of a room's call, so that a run after this one can cancel it.
func (b *Bot) KeepDelayed(ctx context.Context, room id.RoomID, delayID string) error {
	return b.execDelayed(ctx, func(ctx context.Context) error {
		if _, err := b.cfg.DB.Exec(ctx, keepDelayedQuery, delayID, room); err != nil {
			return err
		}
		_, err := b.cfg.DB.Exec(ctx, capDelayedQuery, room, maxDelayedKept)
		return err
	})
}

// DropDelayed forgets a delayed event: it was sent, or is cancelled.
func (b *Bot) DropDelayed(ctx context.Context, delayID string) error {
	return b.execDelayed(ctx, func(ctx context.Context) error {
		_, err := b.cfg.DB.Exec(ctx, dropDelayedQuery, delayID)
		return err
	})
}

func (b *Bot) execDelayed(ctx context.Context, f func(ctx context.Context) error) error {
	if err := b.cfg.DB.DoTxn(ctx, nil, f); err != nil {
		return fmt.Errorf("write the delayed leaves to the database: %w", err)
	}
	return nil
}

// KeptDelayed lists the delayed events of a room that are remembered, the oldest first.
func (b *Bot) KeptDelayed(ctx context.Context, room id.RoomID) ([]string, error) {
	rows, err := b.cfg.DB.Query(ctx, keptDelayedQuery, room)
	list, err := dbutil.NewRowIterWithError(rows, dbutil.ScanSingleColumn[string], err).AsList()
	if err != nil {
		return nil, fmt.Errorf("read the delayed leaves from the database: %w", err)
	}
	return list, nil
}
