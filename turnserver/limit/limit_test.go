package limit

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestSource(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.7":            "192.0.2.7",
		"::ffff:192.0.2.7":     "192.0.2.7",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::",
		"2001:db8:1:2::":       "2001:db8:1:2::",
		"fe80::1%eth0":         "fe80::",
		"::1":                  "::",
	} {
		if got := Source(netip.MustParseAddr(text)); got != netip.MustParseAddr(want) {
			t.Errorf("%s is counted by %s, want %s", text, got, want)
		}
	}
	if got := Source(netip.Addr{}); got != (netip.Addr{}) {
		t.Errorf("no address is counted by %s", got)
	}
}

// take counts how often an event may happen at one time.
func take(r *Rate[string], now time.Time, key string) (n int) {
	for r.Allow(now, key) {
		n++
	}
	return n
}

func TestRate(t *testing.T) {
	r, now := NewRate[string](20, 100), time.Unix(1000, 0)
	if wait := r.Wait(now, "a"); wait != 0 {
		t.Errorf("the first event has to wait %v", wait)
	}
	if n := take(r, now, "a"); n != 100 {
		t.Errorf("the first burst has %d events", n)
	}
	if n := take(r, now, "b"); n != 100 {
		t.Errorf("the burst of another key has %d events", n)
	}
	wait := r.Wait(now, "a")
	if wait != 50*time.Millisecond {
		t.Errorf("the next event may happen after %v", wait)
	}
	if r.Allow(now.Add(wait-time.Millisecond), "a") {
		t.Error("the next event may happen sooner than was said")
	}
	if !r.Allow(now.Add(wait), "a") || r.Allow(now.Add(wait), "a") {
		t.Error("not one event may happen after the time that was said")
	}
	now = now.Add(wait + time.Second)
	if n := take(r, now, "a"); n != 20 {
		t.Errorf("a second later %d events may happen", n)
	}
	if n := take(r, now.Add(-time.Hour), "a"); n != 0 {
		t.Errorf("a clock put back lets %d events happen", n)
	}
	if n := take(r, now.Add(1000*time.Hour), "a"); n != 100 {
		t.Errorf("a long rest saves up %d events", n)
	}
}

// TestWait demands that an event is allowed after the time that Wait returns, also at rates at which rounding could lose a nanosecond.
func TestWait(t *testing.T) {
	for _, perSecond := range []float64{0.1, 1, 3, 7, 20, 999} {
		r, now := NewRate[string](perSecond, 1), time.Unix(1000, 0)
		for i := range 100 {
			if !r.Allow(now, "a") {
				t.Fatalf("at %v events a second the one after %d waits does not come", perSecond, i)
			}
			now = now.Add(r.Wait(now, "a"))
		}
	}
}

// TestRateFlooded lets 400 keys use up what they may, and asks how many of 10,000 others are held up by that. With a table of 4,096 buckets that
// keys shared by their hash they were one in eleven, and clients of the TURN relay among them had to come by TCP while it was flooded.
func TestRateFlooded(t *testing.T) {
	r, now := NewRate[int](20, 100), time.Unix(1000, 0)
	for key := range 400 {
		for r.Allow(now, key) {
		}
	}
	held := 0
	for key := range 10_000 {
		if !r.Allow(now, 400+key) {
			held++
		}
	}
	if held > 100 { // a full row, which is rare, holds up about 20
		t.Errorf("400 keys hold up %d of 10,000 others", held)
	}
}

// TestRateSpoofed uses a new key for each event, as somebody does who forges addresses. A key that is used now and then must be allowed all
// the same, as long as each of the buckets gets fewer events than it allows.
func TestRateSpoofed(t *testing.T) {
	r, now := NewRate[int](20, 100), time.Unix(1000, 0)
	forged := 0
	for range 20 { // seconds
		for range 10 {
			for range 4_000 {
				forged--
				r.Allow(now, forged)
			}
			now = now.Add(time.Second / 10)
			if !r.Allow(now, 1) {
				t.Fatalf("%d forged keys hold up another", -forged)
			}
		}
	}
}

// TestRateConcurrently lets many goroutines use one new key. No more events than the burst may happen.
func TestRateConcurrently(t *testing.T) {
	r, now := NewRate[string](1, 50), time.Unix(1000, 0)
	var allowed atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				if r.Allow(now, "a") {
					allowed.Add(1)
				}
			}
		})
	}
	all.Wait()
	if n := allowed.Load(); n != 50 {
		t.Errorf("%d events happened", n)
	}
}

// TestRateMemory demands that a flood with new keys allocates no memory once the table is full.
func TestRateMemory(t *testing.T) {
	r, now, next := NewRate[uint32](1, 1), time.Unix(1000, 0), uint32(0)
	flood := func() {
		for range 1 << 16 {
			r.Allow(now, next)
			next++
		}
	}
	flood() // fills the table
	if n := testing.AllocsPerRun(10, flood); n > 0 {
		t.Errorf("a flood allocates %v times", n)
	}
}

func TestSemaphore(t *testing.T) {
	s := NewSemaphore[string](3, 2)
	for _, c := range []struct {
		key  string
		want bool
	}{{"a", true}, {"a", true}, {"a", false}, {"b", true}, {"c", false}} {
		if got := s.TryAcquire(c.key); got != c.want {
			t.Errorf("one more of %s: %t", c.key, got)
		}
	}
	s.Release("a")
	if !s.TryAcquire("c") || s.TryAcquire("b") {
		t.Error("what was released is not there")
	}
	for _, key := range []string{"a", "b", "c"} {
		s.Release(key)
	}
	if len(s.byKey) != 0 || s.Used() != 0 {
		t.Errorf("%d are left over", s.Used())
	}
}

// BenchmarkAllow counts events of 256 addresses in turn, in one goroutine and in one for each core, and events of a new address each, as in a
// flood with forged addresses.
func BenchmarkAllow(b *testing.B) {
	r := NewRate[netip.Addr](20, 100)
	var addrs [256]netip.Addr
	for i := range addrs {
		addrs[i] = netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
	}
	b.Run("goroutines=1", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			r.Allow(time.Now(), Source(addrs[i%len(addrs)]))
		}
	})
	b.Run("goroutines=cores", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				r.Allow(time.Now(), Source(addrs[i%len(addrs)]))
			}
		})
	})
	b.Run("forged", func(b *testing.B) {
		b.ReportAllocs()
		for i := uint32(0); b.Loop(); i++ {
			r.Allow(time.Now(), netip.AddrFrom4([4]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}))
		}
	})
}

// BenchmarkOneKey counts events of one key on all cores. Its figure is to be compared with that of BenchmarkMeter in package turnserver.
func BenchmarkOneKey(b *testing.B) {
	l := NewRate[string](1e9, 1e9).bucket(time.Now(), "")
	now := time.Now()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.AllowN(now, 1)
		}
	})
}
