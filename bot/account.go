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

// account is the one row of table ewindow_account.
type account struct {
	Homeserver string // URL that AccessToken was got from
	User       id.UserID
	Device     id.DeviceID
	Token      string
	PickleKey  []byte
	NextBatch  string
	Run        string
	RunPending string
}

const (
	getAccountQuery = `
		SELECT homeserver, user_id, device_id, access_token, pickle_key, next_batch, run_id, run_pending FROM ewindow_account
	`
	newAccountQuery = `
		INSERT INTO ewindow_account (one, homeserver, user_id, device_id, access_token, pickle_key) VALUES (1, $1, '', $2, '', $3)
	`
	setLoginQuery     = `UPDATE ewindow_account SET homeserver=$1, user_id=$2, access_token=$3`
	setNextBatchQuery = `UPDATE ewindow_account SET next_batch=$1`
	setPendingQuery   = `UPDATE ewindow_account SET run_pending=$1`
	setRunQuery       = `UPDATE ewindow_account SET run_id=$1, run_pending=''`
)

// accountStore reads and writes the row.
type accountStore struct{ db *dbutil.Database }

// get returns the account, nil when there is none yet.
func (s accountStore) get(ctx context.Context) (*account, error) {
	var a account
	err := s.db.QueryRow(ctx, getAccountQuery).
		Scan(&a.Homeserver, &a.User, &a.Device, &a.Token, &a.PickleKey, &a.NextBatch, &a.Run, &a.RunPending)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the account from the database: %w", err)
	}
	return &a, nil
}

// create makes the row. The device's id is chosen before the first attempt to log in, so that an attempt whose answer gets lost leaves
// no second device behind.
func (s accountStore) create(ctx context.Context, homeserver string) (*account, error) {
	a := &account{Homeserver: homeserver, Device: id.DeviceID("EW" + rand.Text()[:8]), PickleKey: []byte(rand.Text())}
	return a, s.exec(ctx, newAccountQuery, a.Homeserver, a.Device, a.PickleKey)
}

func (s accountStore) setLogin(ctx context.Context, homeserver string, user id.UserID, token string) error {
	return s.exec(ctx, setLoginQuery, homeserver, user, token)
}

func (s accountStore) setNextBatch(ctx context.Context, token string) error {
	return s.exec(ctx, setNextBatchQuery, token)
}

func (s accountStore) setPending(ctx context.Context, run string) error {
	return s.exec(ctx, setPendingQuery, run)
}

func (s accountStore) setRun(ctx context.Context, run string) error {
	return s.exec(ctx, setRunQuery, run)
}

func (s accountStore) exec(ctx context.Context, query string, args ...any) error {
	if _, err := s.db.Exec(ctx, query, args...); err != nil {
		return fmt.Errorf("write the account to the database: %w", err)
	}
	return nil
}
