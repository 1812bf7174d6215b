package callmedia

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
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

// TestFailedJoins joins an SFU that never answers, and looks at the times of the attempts. A join that fails only at its limit is not a success:
// the pauses grow all the same.
func TestFailedJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := idle(t)
		var joins []time.Time
		s.cfg.Token = func(ctx context.Context, _ string) (string, string, error) {
			joins = append(joins, time.Now())
			<-ctx.Done()
			return "", "", ctx.Err()
		}
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-time.After(10 * time.Minute)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		last := joins[len(joins)-1].Sub(joins[len(joins)-2]) - joinLimit
		if longest := newBackoff().Max; last < longest/2 {
			t.Errorf("after %d joins that failed the pause is %v, the longest is %v", len(joins), last, longest)
		}
	})
}
