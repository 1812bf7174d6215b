package turnserver

import (
	"sync/atomic"
	"time"
)

// meterBurst is how much may come at once, as time at the full rate: a picture comes in bursts.
const meterBurst = 500 * time.Millisecond

// meter limits a bitrate. It may be used by several goroutines. Its state is one number: when everything that passed so far would have arrived
// at the full rate (the generic cell rate algorithm). The package comment says why it is not golang.org/x/time/rate.
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

// allow says whether a packet of an allocation may pass, by its user's bitrate and that of all, and counts it if so.
func (a *allocation) allow(now int64, bytes int) bool {
	return a.quota.meter.allow(now, bytes) && a.client.loop.server.meter.allow(now, bytes)
}
