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
