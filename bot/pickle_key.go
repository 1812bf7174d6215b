package bot

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"multifactorymodel.org/ewindow/bot/privatefile"
)

// pickleFile is the file in the data folder that holds the key with which mautrix's tables are encrypted. Whoever gets hold of the database alone
// can't use the keys in it.
const pickleFile = "pickle-key"

const (
	getPickleKeyQuery   = `SELECT pickle_key FROM ewindow_account`
	clearPickleKeyQuery = `UPDATE ewindow_account SET pickle_key=x''`
	hasOlmAccountQuery  = `SELECT EXISTS (SELECT 1 FROM crypto_account)`
)

// pickleKey returns the key. If there is none, it makes one. Earlier versions kept it in the database: from there it moves to the file.
func (b *Bot) pickleKey(ctx context.Context) ([]byte, error) {
	path := filepath.Join(b.cfg.DataDir, pickleFile)
	var stored []byte
	if err := b.cfg.DB.QueryRow(ctx, getPickleKeyQuery).Scan(&stored); err != nil {
		return nil, fmt.Errorf("read the account from the database: %w", err)
	}
	if len(stored) > 0 {
		return stored, b.movePickleKey(ctx, path, stored)
	}
	key, err := privatefile.Read(path)
	switch {
	case key != "":
		return []byte(key), nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read the key of the database: %w", err)
	}
	var used bool
	if err := b.cfg.DB.QueryRow(ctx, hasOlmAccountQuery).Scan(&used); err != nil {
		return nil, fmt.Errorf("look up the encryption keys: %w", err)
	}
	if used {
		return nil, fmt.Errorf("the file %s is missing, and without it the database can't be used. Copy it from where the database was before. If "+
			"it is lost, empty the data folder, but for the file %s, so that the window gets a new device", path, recoveryFile)
	}
	key = rand.Text()
	if err := privatefile.Write(path, []byte(key+"\n")); err != nil {
		return nil, fmt.Errorf("write the key of the database: %w", err)
	}
	return []byte(key), nil
}

// movePickleKey moves the key from the database to the file. If it is interrupted, the next start does it again.
func (b *Bot) movePickleKey(ctx context.Context, path string, key []byte) error {
	if err := privatefile.Write(path, append(bytes.Clone(key), '\n')); err != nil {
		return fmt.Errorf("write the key of the database: %w", err)
	}
	// The last two remove it from free pages and from the write-ahead log.
	for _, query := range []string{clearPickleKeyQuery, "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"} {
		if _, err := b.cfg.DB.Exec(ctx, query); err != nil {
			return fmt.Errorf("remove the key from the database: %w", err)
		}
	}
	b.log.Info().Str("file", path).Msg("The key of the database has moved to a file of its own")
	return nil
}
