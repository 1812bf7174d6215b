package bot

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

const (
	expireStickyQuery = `DELETE FROM ewindow_sticky WHERE expires<=$1`
	keepStickyQuery   = `
		INSERT INTO ewindow_sticky (room_id, event_id, sender, expires, event) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (room_id, event_id) DO NOTHING
	`
	capStickySenderQuery = `
		DELETE FROM ewindow_sticky WHERE room_id=$1 AND sender=$2 AND rowid NOT IN
			(SELECT rowid FROM ewindow_sticky WHERE room_id=$1 AND sender=$2 ORDER BY rowid DESC LIMIT $3)
	`
	capStickyRoomQuery = `
		DELETE FROM ewindow_sticky WHERE room_id=$1 AND rowid NOT IN
			(SELECT rowid FROM ewindow_sticky WHERE room_id=$1 ORDER BY rowid DESC LIMIT $2)
	`
	keptStickyQuery = `SELECT room_id, expires, event FROM ewindow_sticky WHERE expires>$1 ORDER BY rowid`
)

// Limits on the sticky events that are kept. Of too many, the latest are kept.
const (
	maxStickySender = 32 // of one user in a room
	maxStickyRoom   = 512
	maxStickySize   = 16 << 10 // bytes, of one event
)

// StickyLeft is how long an event stays sticky from now on (MSC4354). It is 0 when the event is not sticky. If the homeserver says how much time
// is left, that counts, since it does not depend on clocks. Some homeservers give no duration, and only put the event into the sticky section of
// the sync response. Such an event is taken to have the longest duration.
func StickyLeft(now time.Time, e *event.Event) time.Duration {
	const latest = 253_402_300_799_999 // ms, the end of the year 9999; later values are not times
	age := max(0, now.Sub(time.UnixMilli(max(0, min(e.Timestamp, latest)))))
	var left time.Duration
	switch {
	case e.Unsigned.StickyDurationTTL.Duration > 0:
		left = e.Unsigned.StickyDurationTTL.Duration
	case e.Sticky != nil:
		left = e.Sticky.GetDuration() - age
	case e.Mautrix.EventSource&event.SourceSticky != 0:
		left = event.MaxStickyDuration - age
	}
	return max(0, min(left, event.MaxStickyDuration))
}

// keepSticky stores the sticky events of a sync response, still encrypted, for the next run. Sync shows each only once.
func (b *Bot) keepSticky(ctx context.Context, now time.Time, events []*event.Event) error {
	type row struct {
		*event.Event
		expires int64
		data    []byte
	}
	var rows []row
	for _, e := range events {
		left := StickyLeft(now, e)
		if left == 0 || e.StateKey != nil || e.Mautrix.EventSource&event.SourceJoin == 0 ||
			e.Type != event.EventEncrypted && b.handlers[e.Type.Type] == nil {
			continue
		}
		kept := *e
		kept.Content = event.Content{VeryRaw: e.Content.VeryRaw}
		data, err := json.Marshal(&kept)
		if err != nil || len(data) > maxStickySize {
			continue
		}
		rows = append(rows, row{e, now.Add(left).UnixMilli(), data})
	}
	if len(rows) == 0 {
		return nil
	}
	err := b.cfg.DB.DoTxn(ctx, nil, func(ctx context.Context) error {
		if _, err := b.cfg.DB.Exec(ctx, expireStickyQuery, now.UnixMilli()); err != nil {
			return err
		}
		for _, r := range rows {
			if _, err := b.cfg.DB.Exec(ctx, keepStickyQuery, r.RoomID, r.ID, r.Sender, r.expires, r.data); err != nil {
				return err
			}
			if _, err := b.cfg.DB.Exec(ctx, capStickySenderQuery, r.RoomID, r.Sender, maxStickySender); err != nil {
				return err
			}
			if _, err := b.cfg.DB.Exec(ctx, capStickyRoomQuery, r.RoomID, maxStickyRoom); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write the sticky events to the database: %w", err)
	}
	return nil
}

// keptSticky lists the sticky events of earlier runs that are still sticky, in the order in which they came, with the time that is left.
func (b *Bot) keptSticky(ctx context.Context, now time.Time, rooms []id.RoomID) (kept []*event.Event, err error) {
	rows, err := b.cfg.DB.Query(ctx, keptStickyQuery, now.UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("read the sticky events from the database: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var room id.RoomID
		var expires int64
		var data []byte
		if err := rows.Scan(&room, &expires, &data); err != nil {
			return nil, fmt.Errorf("read a sticky event from the database: %w", err)
		}
		var e *event.Event
		if json.Unmarshal(data, &e) != nil || !slices.Contains(rooms, room) {
			continue
		}
		prepare(e, room, event.SourceJoin|event.SourceSticky)
		e.Unsigned.StickyDurationTTL.Duration = time.UnixMilli(expires).Sub(now)
		kept = append(kept, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the sticky events from the database: %w", err)
	}
	return kept, nil
}
