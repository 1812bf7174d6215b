package callmedia

import (
	"context"
	"testing"
)

// TestNotRunning closes a session that was never started, and one whose context has ended.
func TestNotRunning(t *testing.T) {
	s, _ := idle(t)
	s.SetKey("x", 0, []byte("0123456789abcdef"))
	s.SetRemotes(nil)
	_, _ = s.Close(), s.Close()
	if err := s.Start(t.Context()); err == nil {
		t.Error("a closed session starts")
	}
	s, _ = idle(t)
	ctx, cancel := context.WithCancel(t.Context())
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-s.done
	for range 200 { // nobody takes these any more
		s.SetCamera(true)
	}
}
