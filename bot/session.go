package bot

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"

	"go.mau.fi/util/dbutil"
	"maunium.net/go/mautrix/id"
)

// session is the bot's login, its position in the sync stream and the numbers of its runs: the one row of table ewindow_account.
type session struct {
	Homeserver string // the URL that gave us Token
	User       id.UserID
	Device     id.DeviceID
	Token      string
	NextBatch  string
	Run        string
	RunPending string
}

const (
	getSessionQuery = `
		SELECT homeserver, user_id, device_id, access_token, next_batch, run_id, run_pending FROM ewindow_account
	`
	newSessionQuery = `
		INSERT INTO ewindow_account (one, homeserver, user_id, device_id, access_token, pickle_key) VALUES (1, $1, '', $2, '', x'')
	`
	setLoginQuery     = `UPDATE ewindow_account SET homeserver=$1, user_id=$2, access_token=$3`
	setNextBatchQuery = `UPDATE ewindow_account SET next_batch=$1`
	setPendingQuery   = `UPDATE ewindow_account SET run_pending=$1`
	setRunQuery       = `UPDATE ewindow_account SET run_id=$1, run_pending=''`
)

// sessionStore reads and writes the row of table ewindow_account.
type sessionStore struct{ db *dbutil.Database }

// get returns the session, or nil when there is none yet.
func (s sessionStore) get(ctx context.Context) (*session, error) {
	var a session
	err := s.db.QueryRow(ctx, getSessionQuery).
		Scan(&a.Homeserver, &a.User, &a.Device, &a.Token, &a.NextBatch, &a.Run, &a.RunPending)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the account from the database: %w", err)
	}
	return &a, nil
}

// create makes the row. The device id is chosen before the first attempt to log in, so that an attempt whose answer gets lost does not
// leave a second device behind.
func (s sessionStore) create(ctx context.Context, homeserver string) (*session, error) {
	a := &session{Homeserver: homeserver, Device: id.DeviceID("EW" + rand.Text()[:8])}
	return a, s.exec(ctx, newSessionQuery, a.Homeserver, a.Device)
}

func (s sessionStore) setLogin(ctx context.Context, homeserver string, user id.UserID, token string) error {
	return s.exec(ctx, setLoginQuery, homeserver, user, token)
}

func (s sessionStore) setNextBatch(ctx context.Context, token string) error {
	return s.exec(ctx, setNextBatchQuery, token)
}

func (s sessionStore) setPending(ctx context.Context, run string) error {
	return s.exec(ctx, setPendingQuery, run)
}

func (s sessionStore) setRun(ctx context.Context, run string) error {
	return s.exec(ctx, setRunQuery, run)
}

func (s sessionStore) exec(ctx context.Context, query string, args ...any) error {
	if _, err := s.db.Exec(ctx, query, args...); err != nil {
		return fmt.Errorf("write the account to the database: %w", err)
	}
	return nil
}
