package rtc

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestHints tells the admin, once and in words, what the homeserver lacks for calls, and nothing when it lacks nothing.
func TestHints(t *testing.T) {
	for name, c := range map[string]struct {
		setUp func(*bench)
		want  []hint
	}{
		"nothing":         {func(*bench) {}, nil},
		"delayed events":  {func(b *bench) { b.delayed = false }, []hint{hintDelayed}},
		"delay forbidden": {func(b *bench) { b.faults["schedule"] = errForbidden }, []hint{hintDelayed}},
		"in the file":     {func(b *bench) { b.transport, b.wellKnown = "", "https://other.example" }, []hint{hintTransport}},
		"configured":      {func(b *bench) { b.transport, b.m.fallback = "", "https://other.example" }, []hint{hintTransport}},
		"no focus":        {func(b *bench) { b.transport = "" }, nil}, // the call fails, and that says why
		"slow":            {func(b *bench) { b.faults["member"] = &ReplyError{Status: 429, Code: "M_LIMIT_EXCEEDED"} }, []hint{hintRate}},
		"broken":          {func(b *bench) { b.faults["schedule"] = &ReplyError{Status: 502} }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, c.setUp)
				for range 2 {
					call := b.join()
					b.wait(time.Minute)
					b.leaveNow(call)
				}
				b.cancel()
				<-b.ended
				lines := b.log.String()
				for h := range hints {
					want := 0
					for _, hinted := range c.want {
						if hinted == h {
							want = 1
						}
					}
					text := strings.ReplaceAll(hintTexts[h], `"`, `\"`)
					if got := strings.Count(lines, text); got != want {
						t.Errorf("%d times, want %d: %s", got, want, text)
					}
				}
			})
		})
	}
}
