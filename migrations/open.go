package migrations

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"github.com/rs/zerolog"
	"go.mau.fi/util/dbutil"
	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// options are set for every connection. With another _txlock, two transactions that first read and then write would fail with SQLITE_BUSY.
// With less than synchronous=FULL, a power cut could undo what was committed. Without secure_delete, keys that were deleted stay in the file.
const options = "_txlock=immediate&_time_format=sqlite&_pragma=foreign_keys(1)&_pragma=journal_mode(WAL)&" +
	"_pragma=synchronous(FULL)&_pragma=busy_timeout(5000)&_pragma=secure_delete(1)"

// kind is one of the two databases.
type kind struct {
	name  string // in error messages
	table dbutil.UpgradeTable
}

// versionTable is the table with the version of our schema.
const versionTable = "ewindow_version"

// upgrades reads the numbered files of one folder. The files are part of the program, so upgrades panics if one is wrong.
func upgrades(files embed.FS, folder string) dbutil.UpgradeTable {
	return dbutil.BuildUpgradeTable().WithFSPath(files, folder).Finish()
}

// open opens, locks and upgrades a database. Closing the result releases the lock.
func (k kind) open(ctx context.Context, path string, log zerolog.Logger) (_ *dbutil.Database, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open the %s's database: %w", k.name, err)
	}
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("the %s's data folder %s can't be made: %w", k.name, folder, err)
	}
	unlock, err := k.lock(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			unlock()
		}
	}()
	if err := private(path); err != nil {
		return nil, fmt.Errorf("the %s's database %s can't be written: %w", k.name, path, err)
	}
	c, err := newConnector(path, unlock)
	if err != nil {
		return nil, fmt.Errorf("open the %s's database: %w", k.name, err)
	}
	raw := sql.OpenDB(c)
	defer func() {
		if err != nil {
			_ = raw.Close()
		}
	}()
	db, err := dbutil.NewWithDB(raw, "sqlite")
	if err != nil {
		return nil, fmt.Errorf("open the %s's database: %w", k.name, err)
	}
	db.Log = dbutil.ZeroLogger(log.Level(max(log.GetLevel(), zerolog.WarnLevel)))
	own := db.Child(versionTable, k.table, dbutil.ZeroLogger(log.Level(max(log.GetLevel(), zerolog.InfoLevel))))
	own.Owner = "ewindow " + k.name
	var owned dbutil.NotOwnedError
	switch err := own.Upgrade(ctx); {
	case errors.Is(err, dbutil.ErrUnsupportedDatabaseVersion):
		return nil, fmt.Errorf("the %s's database %s was written by a newer ewindow than this one: "+
			"install that version again, or set the file aside and begin anew (%w)", k.name, path, err)
	case errors.As(err, &owned):
		return nil, fmt.Errorf("%s is no database of a %s, it belongs to %q: give the %s a data folder of its own",
			path, k.name, owned.Owner, k.name)
	case err != nil:
		return nil, fmt.Errorf("upgrade the %s's database %s: %w", k.name, path, err)
	}
	return db, nil
}

// lock takes the lock beside a database. If another process holds the lock, the error says so.
func (k kind) lock(path string) (unlock func(), err error) {
	name := path + ".lock"
	file, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the %s's data folder %s can't be written: %w", k.name, filepath.Dir(path), err)
	}
	for {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		_ = file.Close()
		return nil, fmt.Errorf("the database %s is in use by another ewindow: stop that one first, or give this one another data folder", path)
	case err != nil:
		_ = file.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	// The lock file is never removed. Otherwise two processes could lock two different files of that name.
	return sync.OnceFunc(func() { _ = file.Close() }), nil
}

// private makes a file if it does not exist, and lets only its owner read it. SQLite gives the files beside it the same mode.
func private(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(file.Chmod(0o600), file.Close())
}

// connector opens connections to one database. sql.DB.Close calls its Close, which releases the lock.
type connector struct {
	driver driver.Driver
	dsn    string
	unlock func()
}

func newConnector(path string, unlock func()) (*connector, error) {
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + options
	probe, err := sql.Open("sqlite", dsn) // this opens nothing; it is the only way to get the driver
	if err != nil {
		return nil, err
	}
	defer func() { _ = probe.Close() }()
	return &connector{probe.Driver(), dsn, unlock}, nil
}

// Connect implements driver.Connector.
func (c *connector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }

// Driver implements driver.Connector.
func (c *connector) Driver() driver.Driver { return c.driver }

// Close implements io.Closer.
func (c *connector) Close() error {
	c.unlock()
	return nil
}
