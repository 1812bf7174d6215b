package rig

import (
	"fmt"
	"io"
	"log"
	"testing"
	"time"
)

// Eventually begins with a call each pollEvery. After pollSlower the pauses grow with the time that has gone, by a twentieth of it, up to pollSlowest.
// Many calls take a screenshot, or ask a browser for its statistics. While a test waits long for something, they would take the CPU time that
// it needs to happen.
const (
	pollEvery   = 20 * time.Millisecond
	pollSlower  = 2 * time.Second
	pollSlowest = 250 * time.Millisecond
)

// pollPause is the pause before the next call when Eventually has waited for some time.
func pollPause(waited time.Duration) time.Duration {
	if waited < pollSlower {
		return pollEvery
	}
	return min(waited/20, pollSlowest)
}

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
	begun := time.Now()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-time.After(pollPause(time.Since(begun))):
		case <-deadline.C:
			t.Fatalf("not within %s: %v", limit, err)
		case <-t.Context().Done():
			t.Fatal(err)
		}
	}
}

// discardLogger returns a logger for servers whose connections the tests break on purpose.
func discardLogger() *log.Logger { return log.New(io.Discard, "", 0) }
