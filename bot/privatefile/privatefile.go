// Package privatefile writes and reads files with secrets: the recovery key, the page's key, the homeserver's signing key, configurations with
// passwords.
package privatefile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// Read returns the text of the file at path, without blanks around it. People may have copied the file, so that others could read it: from then on
// only its owner can. The error is fs.ErrNotExist if there is no file.
func Read(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(text)), nil
}

// Write replaces the file at path, or makes it. Only the file's owner can read it. After a crash or a power cut the file has either the old text
// or the new one. The folder must exist. Of two calls for the same path at the same time one wins.
func Write(path string, text []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // has mode 0600
	if err != nil {
		return err
	}
	_, err = temporary.Write(text)
	err = errors.Join(err, temporary.Sync(), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		_ = os.Remove(temporary.Name())
		return err
	}
	// Without this a power cut could undo the rename.
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
