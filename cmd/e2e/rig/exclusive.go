package rig

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"multifactorymodel.org/ewindow/bridge/child"
)

// lockHolders are the tests of this process that hold the lock, which unlock lets go.
var lockHolders struct {
	sync.Mutex
	count  int
	unlock func()
}

// Exclusive waits until no test of another package is alone, and keeps those waiting until this one ends. It is for tests of whole visits: two cores
// carry one at a time, and go test runs packages side by side.
func Exclusive(t testing.TB) {
	t.Helper()
	lockHolders.Lock()
	defer lockHolders.Unlock()
	if lockHolders.count == 0 {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		folder := filepath.Join(cache, "ewindow")
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		if lockHolders.unlock, err = child.Lock(t.Context(), filepath.Join(folder, "exclusive-test.lock")); err != nil {
			t.Fatal(err)
		}
	}
	lockHolders.count++
	t.Cleanup(func() {
		lockHolders.Lock()
		defer lockHolders.Unlock()
		if lockHolders.count--; lockHolders.count == 0 {
			lockHolders.unlock()
		}
	})
}
