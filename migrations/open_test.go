package migrations_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"go.mau.fi/util/dbutil"

	"multifactorymodel.org/ewindow/migrations"
)

// opens holds how the two databases are opened, by name.
var opens = map[string]func(context.Context, string, zerolog.Logger) (*dbutil.Database, error){
	"kiosk": migrations.OpenKiosk,
	"hub":   migrations.OpenHub,
}

func forEach(t *testing.T, f func(t *testing.T, open func(path string) (*dbutil.Database, error), path string)) {
	for name, open := range opens {
		t.Run(name, func(t *testing.T) {
			// A path with characters that have a meaning in a URI.
			path := filepath.Join(t.TempDir(), "da%ta? #1", name+".db")
			f(t, func(path string) (*dbutil.Database, error) { return open(t.Context(), path, zerolog.Nop()) }, path)
		})
	}
}

func refused(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("it was opened")
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
}

func closeDB(t *testing.T, db *dbutil.Database) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// schema lists what is in a database, and its version.
func schema(t *testing.T, db *dbutil.Database) []string {
	t.Helper()
	rows, err := db.Query(t.Context(), "SELECT name || ' ' || COALESCE(sql, '') FROM sqlite_master")
	list, err := dbutil.NewRowIterWithError(rows, dbutil.ScanSingleColumn[string], err).AsList()
	if err != nil {
		t.Fatal(err)
	}
	var version string
	if err := db.QueryRow(t.Context(), "SELECT version || '/' || compat FROM ewindow_version").Scan(&version); err != nil {
		t.Fatal(err)
	}
	for i := range list {
		list[i] = strings.Join(strings.Fields(list[i]), " ")
	}
	slices.Sort(list)
	return append(list, version)
}

func TestOpen(t *testing.T) {
	forEach(t, func(t *testing.T, open func(string) (*dbutil.Database, error), path string) {
		db, err := open(path)
		if err != nil {
			t.Fatal(err)
		}
		for query, want := range map[string]string{
			"PRAGMA synchronous": "2", "PRAGMA journal_mode": "wal", "PRAGMA foreign_keys": "1", "PRAGMA busy_timeout": "5000",
		} {
			var got string
			if err := db.QueryRow(t.Context(), query).Scan(&got); err != nil || got != want {
				t.Errorf("%s: %q %v, want %q", query, got, err, want)
			}
		}
		entries, err := os.ReadDir(filepath.Dir(path))
		if err != nil || len(entries) < 3 {
			t.Fatal(entries, err)
		}
		for _, e := range entries {
			if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v %v", e.Name(), info.Mode(), err)
			}
		}
		before := schema(t, db)

		_, err = open(path)
		refused(t, err, path, "in use", "stop")
		closeDB(t, db)
		closeDB(t, db)
		again, err := open(path)
		if err != nil {
			t.Fatal(err)
		}
		if after := schema(t, again); !slices.Equal(before, after) {
			t.Errorf("%q became %q", before, after)
		}
		closeDB(t, again)
	})
}

func TestNewerSchema(t *testing.T) {
	forEach(t, func(t *testing.T, open func(string) (*dbutil.Database, error), path string) {
		db, err := open(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(t.Context(), "UPDATE ewindow_version SET version=99, compat=99"); err != nil {
			t.Fatal(err)
		}
		closeDB(t, db)
		for range 2 { // the lock must be released each time
			_, err = open(path)
			refused(t, err, path, "newer")
		}
	})
}

func TestUnwritable(t *testing.T) {
	forEach(t, func(t *testing.T, open func(string) (*dbutil.Database, error), path string) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := open(filepath.Join(file, "x.db"))
		refused(t, err, "data folder", file)

		// A folder is no database, and neither is a file with other contents.
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		_, err = open(path)
		refused(t, err, path)
		other := filepath.Join(t.TempDir(), "other.db")
		if err := os.WriteFile(other, []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = open(other)
		refused(t, err, other)
	})
}

// TestOther demands that the hub's database can't be opened as a kiosk's.
func TestOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	db, err := migrations.OpenHub(t.Context(), path, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	closeDB(t, db)
	_, err = migrations.OpenKiosk(t.Context(), path, zerolog.Nop())
	refused(t, err, path, "hub", "folder of its own")
}

// TestConcurrentWriters demands that transactions that first read and then write do not fail because of each other.
func TestConcurrentWriters(t *testing.T) {
	db, err := migrations.OpenKiosk(t.Context(), filepath.Join(t.TempDir(), "x.db"), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer closeDB(t, db)
	if _, err := db.Exec(t.Context(), "CREATE TABLE n (n INTEGER); INSERT INTO n VALUES (0)"); err != nil {
		t.Fatal(err)
	}
	const writers, each = 8, 10
	failed := make(chan error, writers)
	for range writers {
		go func() {
			for range each {
				err := db.DoTxn(t.Context(), nil, func(ctx context.Context) error {
					var n int
					if err := db.QueryRow(ctx, "SELECT n FROM n").Scan(&n); err != nil {
						return err
					}
					_, err := db.Exec(ctx, "UPDATE n SET n=$1", n+1)
					return err
				})
				if err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
	}
	for range writers {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	var n int
	if err := db.QueryRow(t.Context(), "SELECT n FROM n").Scan(&n); err != nil || n != writers*each {
		t.Error(n, err)
	}
}

// TestFirstSchema upgrades the first schema that was ever shipped; a copy is in testdata. It demands that the data is kept and that the
// schema is that of a new database.
func TestFirstSchema(t *testing.T) {
	forEach(t, func(t *testing.T, open func(string) (*dbutil.Database, error), path string) {
		name := strings.TrimSuffix(filepath.Base(path), ".db")
		frozen, err := os.ReadFile(filepath.Join("testdata", name+"-first.sql"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		old := filepath.Join(t.TempDir(), "old.db")
		raw, err := dbutil.NewWithDialect("file:"+old, "sqlite")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := raw.Exec(t.Context(), string(frozen)); err != nil {
			t.Fatal(err)
		}
		closeDB(t, raw)
		upgraded, err := open(old)
		if err != nil {
			t.Fatal(err)
		}
		defer closeDB(t, upgraded)
		fresh, err := open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer closeDB(t, fresh)
		if a, b := schema(t, upgraded), schema(t, fresh); !slices.Equal(a, b) {
			t.Errorf("upgraded\n%s\nfresh\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
		}
		var rows int
		table := map[string]string{"kiosk": "ewindow_account", "hub": "delayed_event"}[name]
		if err := upgraded.QueryRow(t.Context(), "SELECT COUNT(*) FROM "+table).Scan(&rows); err != nil || rows != 1 {
			t.Errorf("%d rows were left: %v", rows, err)
		}
	})
}
