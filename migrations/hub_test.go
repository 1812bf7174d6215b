package migrations_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/migrations"
)

func TestHub(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "hub.db")
	for round := range 2 { // the second time the file exists
		db, err := migrations.OpenHub(t.Context(), path, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("the file with the access tokens has mode %o", mode)
		}
		if _, err := migrations.OpenHub(t.Context(), path, zerolog.Nop()); err == nil {
			t.Error("two hubs use one database")
		}
		_, err = db.Exec(t.Context(), `INSERT INTO delayed_event (delay_id, user_id, device_id, access_token, room_id, event_type, state_key, txn_id,
			query, content, delay, since) VALUES ($1, 'u', 'd', 't', 'r', 'e', NULL, '', '', x'7b7d', 1, 2)`, round)
		if err != nil {
			t.Error(err)
		}
		var rows int
		if err := db.QueryRow(t.Context(), `SELECT COUNT(*) FROM delayed_event`).Scan(&rows); err != nil || rows != round+1 {
			t.Error(rows, err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
