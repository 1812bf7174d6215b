package rig

import (
	"io"
	"log"
	"testing"
	"time"
)

// pollEvery is how often Eventually asks.
const pollEvery = 20 * time.Millisecond

// Eventually calls f until it returns nil, and fails the test with the last reason when that takes longer than limit.
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
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
