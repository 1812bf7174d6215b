package turnserver

import (
	"sync/atomic"
	"time"
)

// meterBurst is how much may come at once, as time at the full rate: a picture comes in bursts.
const meterBurst = 500 * time.Millisecond

// meter limits a rate of bytes. It may be used by several goroutines, and is one number: the time at which all that was let through would have
// come at the full rate (a generic cell rate algorithm).
type meter struct {
	bits int64 // a second; 0 for no limit
	due  atomic.Int64
}

// allow says whether a packet may pass at a time, in Unix nanoseconds, and counts it if so.
func (m *meter) allow(now int64, bytes int) bool {
	if m.bits == 0 {
		return true
	}
	cost := int64(bytes) * 8 * int64(time.Second) / m.bits
	for {
		due := m.due.Load()
		from := max(due, now)
		if from-now > int64(meterBurst) {
			return false
		}
		if m.due.CompareAndSwap(due, from+cost) {
			return true
		}
	}
}

// account is what a user has taken. It ends with the user's last allocation.
type account struct {
	user        string
	allocations int // guarded by the server's mutex
	meter       meter
}

// pass says whether a packet of an allocation may pass, by its user's limit and that of all.
func (a *allocation) pass(now int64, bytes int) bool {
	return a.account.meter.allow(now, bytes) && a.client.loop.server.meter.allow(now, bytes)
}
