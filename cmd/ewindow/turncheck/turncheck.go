// Package turncheck finds out whether a TURN server works for clients, and says in plain words why it does not.
//
// [Parse] reads which server to check. [Check] makes two allocations, sends packets from one relayed address to the other and back, and
// counts what comes back. The client is pion's. Check may be called from several goroutines. Each call waits for the goroutines that it
// started.
package turncheck

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"time"
)

// Options are the credentials and settings of a Check.
type Options struct {
	Username, Password string
	// Roots are the authorities that may sign the server's certificate; nil means the system's.
	Roots *x509.CertPool
	// Progress is called with a short text each time the check goes on to another step, always from the goroutine of Check. It may be nil.
	Progress func(string)
}

// Result is what a successful Check has measured.
type Result struct {
	// Relay is the relayed address that clients get.
	Relay netip.Addr
	// Sent counts packets, and Lost those that did not come back.
	Sent, Lost int
	// P50 and P99 are percentiles of the round trip through both allocations.
	P50, P99 time.Duration
}

// String returns the result in one line.
func (r Result) String() string {
	return fmt.Sprintf("relayed by %s, round trip %.1f ms (p50), %.1f ms (p99), %d of %d packets lost",
		r.Relay, float64(r.P50.Microseconds())/1000, float64(r.P99.Microseconds())/1000, r.Lost, r.Sent)
}

// Check checks one transport address of a server. Its errors say what is wrong and what to do; they contain no credentials.
func Check(ctx context.Context, t Target, o Options) (Result, error) {
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	var clients [2]*client
	for i := range clients {
		c, err := login(ctx, t, o)
		if err != nil {
			return Result{}, err
		}
		defer c.close()
		clients[i] = c
	}
	a, b := clients[0], clients[1]
	o.Progress("asking for permission to relay")
	for _, c := range []struct{ from, to *client }{{a, b}, {b, a}} {
		if err := c.from.turn.CreatePermission(c.to.relay.LocalAddr()); err != nil {
			return Result{}, explainPermission(err, c.to.relay.LocalAddr(), c.from)
		}
	}
	r, err := measure(ctx, a, b, o)
	r.Relay = addrOf(a.relay.LocalAddr())
	return r, err
}
