package rtc

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"multifactorymodel.org/ewindow/bot/matrixerror"
)

// TestAdvice: the log says once what the homeserver lacks for calls, and nothing when it lacks nothing.
func TestAdvice(t *testing.T) {
	for name, c := range map[string]struct {
		setUp func(*bench)
		want  []advice
	}{
		"nothing":         {func(*bench) {}, nil},
		"delayed events":  {func(b *bench) { b.delayed = false }, []advice{adviceDelayedEvents}},
		"delay forbidden": {func(b *bench) { b.faults["schedule"] = errForbidden }, []advice{adviceDelayedEvents}},
		"in the file":     {func(b *bench) { b.transport, b.wellKnown = "", "https://other.example" }, []advice{adviceTransport}},
		"configured":      {func(b *bench) { b.transport, b.m.fallback = "", "https://other.example" }, []advice{adviceTransport}},
		"no focus":        {func(b *bench) { b.transport = "" }, nil}, // the call fails, and that says why
		"slow":            {func(b *bench) { b.faults["member"] = &matrixerror.Error{Status: 429, Code: "M_LIMIT_EXCEEDED"} }, []advice{adviceRateLimit}},
		"broken":          {func(b *bench) { b.faults["schedule"] = &matrixerror.Error{Status: 502} }, nil},
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
				for a := range advices {
					want := 0
					for _, given := range c.want {
						if given == a {
							want = 1
						}
					}
					text := strings.ReplaceAll(adviceTexts[a], `"`, `\"`)
					if got := strings.Count(lines, text); got != want {
						t.Errorf("%d times, want %d: %s", got, want, text)
					}
				}
			})
		})
	}
}
