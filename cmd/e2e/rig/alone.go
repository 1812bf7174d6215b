package rig

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"multifactorymodel.org/ewindow/bridge/child"
)

// holders are the tests of this process that hold the lock, which unlock lets go.
var holders struct {
	sync.Mutex
	count  int
	unlock func()
}

// Alone waits until no test of another package is alone, and keeps those waiting until this one ends. It is for tests of whole visits: two cores
// carry one at a time, and go test runs packages side by side.
func Alone(t testing.TB) {
	t.Helper()
	holders.Lock()
	defer holders.Unlock()
	if holders.count == 0 {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		folder := filepath.Join(cache, "ewindow")
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		if holders.unlock, err = child.Lock(t.Context(), filepath.Join(folder, "alone.lock")); err != nil {
			t.Fatal(err)
		}
	}
	holders.count++
	t.Cleanup(func() {
		holders.Lock()
		defer holders.Unlock()
		if holders.count--; holders.count == 0 {
			holders.unlock()
		}
	})
}
