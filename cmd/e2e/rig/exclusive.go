package rig

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"multifactorymodel.org/ewindow/bridge/child"
)

// lockHolders counts the tests of this process that hold the lock. unlock releases the lock.
var lockHolders struct {
	sync.Mutex
	count  int
	unlock func()
}

// Exclusive makes sure that only one package at a time runs tests that call it. It waits for a lock that all processes share, and holds it until
// the test ends. go test runs packages in parallel, and two cores are not enough for a visit of browsers beside a flood. Tests of one process share
// the lock.
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
