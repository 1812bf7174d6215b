package privatefile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"multifactorymodel.org/ewindow/bot/privatefile"
)

func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if text, err := privatefile.Read(path); text != "" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %q, %v", text, err)
	}
	if err := os.WriteFile(path, []byte(" secret \n\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if text, err := privatefile.Read(path); text != "secret" || err != nil {
		t.Errorf("read %q, %v", text, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("after that the file has mode %v, %v", info.Mode(), err)
	}
}

func TestWrite(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "secret")
	if err := os.WriteFile(path, []byte("old, longer"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := privatefile.Write(path, []byte("new")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if string(text) != "new" || info.Mode().Perm() != 0o600 || err != nil {
		t.Errorf("the file has %q, mode %v, %v", text, info.Mode(), err)
	}
	// A folder can't be replaced by a file.
	if err := os.Mkdir(filepath.Join(folder, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := privatefile.Write(filepath.Join(folder, "folder"), nil); err == nil {
		t.Error("a folder was replaced")
	}
	if err := privatefile.Write(filepath.Join(folder, "nothing", "secret"), nil); err == nil {
		t.Error("written into a folder that does not exist")
	}
	if entries, err := os.ReadDir(folder); len(entries) != 2 {
		t.Errorf("the folder has %v, %v", entries, err)
	}
}
