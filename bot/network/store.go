package network

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"go.mau.fi/util/dbutil"
	"maunium.net/go/mautrix/id"
)

const (
	getAdmissionQuery = `SELECT space, member FROM ewindow_network WHERE user_id=$1`
	setAdmissionQuery = `
		INSERT INTO ewindow_network (user_id, space, member) VALUES ($1, $2, $3)
		ON CONFLICT (user_id) DO UPDATE SET space=excluded.space, member=excluded.member
	`
	getWindowsQuery = `SELECT kiosk, room, state FROM ewindow_window WHERE user_id=$1`
	setWindowQuery  = `
		INSERT INTO ewindow_window (user_id, kiosk, room, state) VALUES ($1, $2, $3, $4)
		ON CONFLICT (user_id, kiosk) DO UPDATE SET room=excluded.room, state=excluded.state
	`
	deleteWindowQuery = `DELETE FROM ewindow_window WHERE user_id=$1 AND kiosk=$2`
)

// admission is what is remembered of the invitation that was accepted last. It decides what the network is, whatever rooms we are in.
type admission struct {
	// Space is the Space that the invitation led to, or the latest room that it was upgraded to. Empty: none was accepted.
	Space id.RoomID
	// Member says that we have been in it since. If we are not in it now, we were removed.
	Member bool
}

// store keeps in the kiosk's database what must outlive a restart. It may be used from any goroutine.
type store struct{ db *dbutil.Database }

// admission returns what is remembered for one account. known is false for a database in which nothing was ever remembered.
func (s store) admission(ctx context.Context, self id.UserID) (a admission, known bool, err error) {
	err = s.db.QueryRow(ctx, getAdmissionQuery, self).Scan(&a.Space, &a.Member)
	if errors.Is(err, sql.ErrNoRows) {
		return admission{}, false, nil
	}
	if err != nil {
		return admission{}, false, fmt.Errorf("read the network from the database: %w", err)
	}
	return a, true, nil
}

func (s store) setAdmission(ctx context.Context, self id.UserID, a admission) error {
	if _, err := s.db.Exec(ctx, setAdmissionQuery, self, a.Space, a.Member); err != nil {
		return fmt.Errorf("write the network to the database: %w", err)
	}
	return nil
}

// windows returns what is remembered of the network's windows.
func (s store) windows(ctx context.Context, self id.UserID) (map[id.UserID]known, error) {
	rows, err := s.db.Query(ctx, getWindowsQuery, self)
	type row struct {
		user id.UserID
		known
	}
	list, err := dbutil.NewRowIterWithError(rows, func(from dbutil.Scannable) (r row, err error) {
		return r, from.Scan(&r.user, &r.Room, &r.State)
	}, err).AsList()
	if err != nil {
		return nil, fmt.Errorf("read the network's windows from the database: %w", err)
	}
	all := make(map[id.UserID]known, len(list))
	for _, r := range list {
		all[r.user] = r.known
	}
	return all, nil
}

// setWindows replaces what is remembered, in one transaction. before is what the database holds.
func (s store) setWindows(ctx context.Context, self id.UserID, before, now map[id.UserID]known) error {
	err := s.db.DoTxn(ctx, nil, func(ctx context.Context) error {
		for user, k := range now {
			if old, exists := before[user]; exists && old == k {
				continue
			}
			if _, err := s.db.Exec(ctx, setWindowQuery, self, user, k.Room, k.State); err != nil {
				return err
			}
		}
		for user := range before {
			if _, exists := now[user]; exists {
				continue
			}
			if _, err := s.db.Exec(ctx, deleteWindowQuery, self, user); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write the network's windows to the database: %w", err)
	}
	return nil
}
