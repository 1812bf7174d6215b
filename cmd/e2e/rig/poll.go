package rig

import (
	"fmt"
	"io"
	"log"
	"testing"
	"time"
)

// pollEvery is how often Eventually asks.
const pollEvery = 20 * time.Millisecond

// Check is nil when ok, else an error with what was awaited and the state that was found. It is for [Eventually].
func Check(ok bool, what string, state any) error {
	if ok {
		return nil
	}
	return fmt.Errorf("%s; last: %v", what, state)
}

// Eventually calls f until it returns nil. It fails the test with f's last error when that takes longer than limit.
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

// quiet is for servers whose connections tests break on purpose.
func discardLogger() *log.Logger { return log.New(io.Discard, "", 0) }
