package homeserver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"multifactorymodel.org/ewindow/turnserver/limit"
)

const (
	// How many files may be fetched at the same time, and by one user. Further requests wait.
	maxFetches, maxUserFetches = 16, 4
	fetchPoll                  = 50 * time.Millisecond
	// sweepPause is how often old files are looked for, sweepRetry how soon again if files were being fetched.
	sweepPause, sweepRetry = time.Hour, time.Minute
	day                    = 24 * time.Hour
)

// RemoteMediaConfig says how many files of other homeservers a Dendrite keeps. All but Log are required.
type RemoteMediaConfig struct {
	// Dir and ServerName are those of the Dendrite, see DendriteConfig.
	Dir, ServerName string
	// Total is how many bytes are kept, PerUser how many one user may have fetched within a day.
	Total, PerUser int64
	// Age is how long a file is kept after it was fetched.
	Age time.Duration
	Log zerolog.Logger
}

// RemoteMedia limits the files of other homeservers that a Dendrite fetches and keeps. Dendrite itself never deletes one. It reads Dendrite's media
// database, so it knows what was really stored: a small thumbnail makes Dendrite keep the whole file, too.
//
// The front asks it before each request that may store a file. Files are deleted only while there is no such request, since two files with the
// same content are one file on the disk.
type RemoteMedia struct {
	cfg     RemoteMediaConfig
	db      *sql.DB
	fetches *limit.Semaphore[id.UserID]
	storing sync.RWMutex // held for reading by requests that may store a file, for writing while files are deleted

	mu    sync.Mutex // guards what follows
	today int64      // days since 1970
	spent map[id.UserID]int64
}

// OpenRemoteMedia opens the media database of a Dendrite that has been started. Close closes it.
func OpenRemoteMedia(cfg RemoteMediaConfig) (*RemoteMedia, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(cfg.Dir, "mediaapi.db")+"?mode=rw&_pragma=busy_timeout(5000)&_txlock=immediate")
	if err == nil {
		db.SetMaxOpenConns(1)
		err = db.Ping()
	}
	if err != nil {
		return nil, fmt.Errorf("open Dendrite's media database: %w", err)
	}
	return &RemoteMedia{cfg: cfg, db: db, fetches: limit.NewSemaphore[id.UserID](maxFetches, maxUserFetches), spent: make(map[id.UserID]int64)}, nil
}

// Close closes the database.
func (m *RemoteMedia) Close() error { return m.db.Close() }

// Run deletes old files until ctx ends.
func (m *RemoteMedia) Run(ctx context.Context) error {
	for {
		pause := sweepPause
		switch n, err := m.Sweep(ctx, time.Now()); {
		case errors.Is(err, errStoring):
			pause = sweepRetry
		case err != nil && ctx.Err() == nil:
			m.cfg.Log.Warn().Err(err).Msg("Old files of other homeservers could not be deleted")
		case n > 0:
			m.cfg.Log.Info().Int("files", n).Msg("Old files of other homeservers were deleted")
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// hold keeps files from being deleted until release is called. A nil RemoteMedia does nothing.
func (m *RemoteMedia) hold() (release func()) {
	if m == nil {
		return func() {}
	}
	m.storing.RLock()
	return m.storing.RUnlock
}

var (
	errFetchLimit = mautrix.MLimitExceeded.WithMessage("Too many files of other homeservers were fetched, try again tomorrow").
			WithExtraField("retry_after_ms", time.Hour.Milliseconds())
	errFetchBusy = mautrix.MLimitExceeded.WithMessage("Too many files are being fetched").WithExtraField("retry_after_ms", 1000)
)

// begin asks whether a user may let the homeserver fetch a file. charge must be called when the homeserver answers, end after the request. The error
// is a mautrix.RespError.
func (m *RemoteMedia) begin(ctx context.Context, user id.UserID, origin, media string) (charge, end func(), err error) {
	release := m.hold()
	_, known, err := m.size(ctx, origin, media)
	if known {
		return func() {}, release, nil
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	var total int64
	err = m.db.QueryRowContext(ctx, `SELECT COALESCE(SUM(file_size_bytes), 0) FROM mediaapi_media_repository WHERE media_origin<>$1`, m.cfg.ServerName).Scan(&total)
	if err == nil && (total >= m.cfg.Total || m.spend(user, 0) >= m.cfg.PerUser) {
		err = errFetchLimit
	}
	if err == nil {
		err = m.acquire(ctx, user)
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	charge = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeLimit)
		defer cancel()
		stored, _, err := m.size(ctx, origin, media)
		if err != nil {
			m.cfg.Log.Warn().Err(err).Msg("The size of a file is not known")
			stored = maxMedia
		}
		m.spend(user, stored)
	})
	return charge, func() {
		charge() // there may have been no answer
		m.fetches.Release(user)
		release()
	}, nil
}

// chargingWriter calls charge before the client can see an answer. The homeserver answers when it has stored the file.
type chargingWriter struct {
	http.ResponseWriter
	charge func()
}

// Unwrap is for http.ResponseController.
func (w *chargingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *chargingWriter) WriteHeader(status int) {
	w.charge()
	w.ResponseWriter.WriteHeader(status)
}

// acquire waits until a user may fetch one more file.
func (m *RemoteMedia) acquire(ctx context.Context, user id.UserID) error {
	ctx, cancel := context.WithTimeout(ctx, upstreamLimit)
	defer cancel()
	for !m.fetches.TryAcquire(user) {
		select {
		case <-time.After(fetchPoll):
		case <-ctx.Done():
			return errFetchBusy
		}
	}
	return nil
}

// spend counts bytes that a user has fetched, and returns how many they are today.
func (m *RemoteMedia) spend(user id.UserID, bytes int64) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if today := time.Now().Unix() / int64(day/time.Second); today != m.today {
		m.today = today
		clear(m.spent)
	}
	if bytes > 0 {
		m.spent[user] += bytes
	}
	return m.spent[user]
}

// size is the size of a file that is stored.
func (m *RemoteMedia) size(ctx context.Context, origin, media string) (bytes int64, known bool, err error) {
	err = m.db.QueryRowContext(ctx, `SELECT file_size_bytes FROM mediaapi_media_repository WHERE media_origin=$1 AND media_id=$2`, origin, media).Scan(&bytes)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	return bytes, err == nil, err
}

// errStoring says that nothing was deleted, because files may be stored at the moment.
var errStoring = errors.New("files are being fetched")

// hashPattern is Dendrite's name for a content.
var hashPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)

// Sweep deletes the files of other homeservers that are too old, and returns how many. Run calls it.
func (m *RemoteMedia) Sweep(ctx context.Context, now time.Time) (deleted int, err error) {
	if !m.storing.TryLock() {
		return 0, errStoring
	}
	defer m.storing.Unlock()
	before := now.Add(-m.cfg.Age).UnixMilli()
	unused, err := m.forget(ctx, before)
	if err != nil {
		return 0, err
	}
	for _, hash := range unused {
		if hashPattern.MatchString(hash) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(m.cfg.Dir, "media", hash[:1], hash[1:2], hash[2:])))
		}
	}
	return len(unused), err
}

// forget removes old files from the database. It returns the contents that no other file has.
func (m *RemoteMedia) forget(ctx context.Context, before int64) (unused []string, err error) {
	const old = `media_origin<>$1 AND creation_ts<$2`
	tx, err := m.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	rows, err := tx.QueryContext(ctx, `SELECT DISTINCT base64hash FROM mediaapi_media_repository WHERE `+old+`
		AND base64hash NOT IN (SELECT base64hash FROM mediaapi_media_repository WHERE NOT (`+old+`))`, m.cfg.ServerName, before)
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		var hash string
		if err := rows.Scan(&hash); err != nil {
			_ = rows.Close()
			return nil, err
		}
		unused = append(unused, hash)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, err
	}
	for _, statement := range []string{
		`DELETE FROM mediaapi_thumbnail WHERE (media_id, media_origin) IN (SELECT media_id, media_origin FROM mediaapi_media_repository WHERE ` + old + `)`,
		`DELETE FROM mediaapi_media_repository WHERE ` + old,
	} {
		if _, err := tx.ExecContext(ctx, statement, m.cfg.ServerName, before); err != nil {
			return nil, err
		}
	}
	return unused, tx.Commit()
}

// serveRemoteMedia passes on a request for a file of another homeserver, if its user may have it fetched.
func (f *Front) serveRemoteMedia(w http.ResponseWriter, r *http.Request, t target) {
	who, err := f.authenticate(r)
	if err != nil {
		f.fail(w, r, err)
		return
	}
	if f.remoteMedia != nil {
		charge, end, err := f.remoteMedia.begin(r.Context(), who.user, t.server, t.media)
		if err != nil {
			f.fail(w, r, err)
			return
		}
		defer end()
		w = &chargingWriter{w, charge}
	}
	f.pass(w, r, maxRequest)
}
