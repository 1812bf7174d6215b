package rig

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// Output collects a log, or what a command prints. The zero value is ready for use, by several goroutines.
type Output struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

// Write appends to the output. It never fails.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// String returns everything that was written.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Await waits until the output contains text. If this takes longer than limit, it fails the test.
func (o *Output) Await(t testing.TB, limit time.Duration, text string) {
	t.Helper()
	Eventually(t, limit, func() error {
		if all := o.String(); !strings.Contains(all, text) {
			return fmt.Errorf("%q is not in the output:\n%s", text, all)
		}
		return nil
	})
}
