package rig

import (
	"fmt"
	"io"
	"log"
	"testing"
	"time"
)

// pollEvery is how often Eventually calls its function.
const pollEvery = 20 * time.Millisecond

// Check returns nil if ok is true. Otherwise it returns an error that names what was awaited and the last state. Use it in [Eventually].
func Check(ok bool, what string, state any) error {
	if ok {
		return nil
	}
	return fmt.Errorf("%s; last: %v", what, state)
}

// Eventually calls f until it returns nil. If this takes longer than limit, it fails the test with f's last error.
func Eventually(t testing.TB, limit time.Duration, f func() error) {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %s: %v", limit, err)
		case <-t.Context().Done():
			t.Fatal(err)
		}
	}
}

// discardLogger returns a logger for servers whose connections the tests break on purpose.
func discardLogger() *log.Logger { return log.New(io.Discard, "", 0) }
