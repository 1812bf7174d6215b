package turnserver

import (
	"testing"
	"time"
)

// BenchmarkMeter counts packets of one meter on all cores. BenchmarkOneKey in package limit does the same with golang.org/x/time/rate.
func BenchmarkMeter(b *testing.B) {
	m := meter{bits: 1e12}
	now := time.Now().UnixNano()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.allow(now, 1000)
		}
	})
}
