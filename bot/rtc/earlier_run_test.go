package rtc

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"multifactorymodel.org/ewindow/bot/matrixerror"
	"multifactorymodel.org/ewindow/bot/rtc/membership"
)

// leaveBehind schedules a delayed leave, like a process that is killed afterwards.
func (b *bench) leaveBehind() {
	b.t.Helper()
	delayID, err := b.Schedule(context.Background(), hall, membership.StateKey(self), leaveDelay)
	if err == nil {
		err = b.Keep(context.Background(), hall, delayID)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	b.took()
}

// TestDelayedLeaveOfAnEarlierRun: a kiosk that is killed and started again at once is not removed by its earlier delayed leave.
func TestDelayedLeaveOfAnEarlierRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.leaveBehind()
		call := b.join()
		b.wait(time.Second)
		b.expect("requests", b.took(), "cancel, versions, schedule 18s, member 4h0m0s, restart")
		b.wait(time.Minute)
		if got := b.took(); strings.Contains(got, "fired") || strings.Contains(got, "member") {
			t.Fatal(got)
		}
		b.leaveNow(call)
		if len(b.kept) != 0 {
			t.Fatalf("%q are remembered", b.kept)
		}
	})
	// The delayed leave was sent meanwhile. The homeserver does not know it any more, and nothing has to be done.
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.leaveBehind()
		b.wait(time.Minute)
		b.took()
		b.join()
		b.wait(time.Second)
		b.expect("requests", b.took(), "cancel, versions, schedule 18s, member 4h0m0s, restart")
		if len(b.kept) != 1 {
			t.Fatalf("%q are remembered", b.kept)
		}
	})
	// The membership does not wait for a homeserver that refuses to cancel it, or does not answer.
	for name, err := range map[string]error{"refused": errForbidden, "unknown": errUnknownURL, "broken": &matrixerror.Error{Status: 500}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.leaveBehind()
				b.fault("cancel", err)
				b.join()
				b.wait(400 * time.Millisecond)
				if got := b.took(); !strings.HasPrefix(got, "cancel, versions, schedule 18s, member 4h0m0s, restart") {
					t.Fatal(got)
				}
				b.fault("cancel", nil)
				b.wait(10 * time.Second)
				if got := b.took(); strings.Contains(got, "cancel") != (name == "broken") {
					t.Fatal(got)
				}
			})
		})
	}
}

// TestLeaveThatWasNotSent: the delayed leave could not be sent, so leaving emptied the membership. The delayed leave must not end the next
// call.
func TestLeaveThatWasNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		call := b.join()
		b.wait(time.Second)
		b.took()
		b.fault("send", errNoNetwork)
		b.leaveNow(call)
		b.expect("leaving", b.took(), "send, empty")
		b.join()
		b.wait(time.Second)
		b.expect("requests", b.took(), "cancel, schedule 18s, member 4h0m0s, restart")
		b.wait(time.Minute)
		if got := b.took(); strings.Contains(got, "fired") || strings.Contains(got, "member") {
			t.Fatal(got)
		}
	})
}

// TestOrphanedDelayedLeave: the answer to scheduling a delayed leave is lost, so the homeserver has one that we do not know. It removes us
// in the middle of the call. We come back at once and send our keys again, since others may have dropped them.
func TestOrphanedDelayedLeave(t *testing.T) {
	lose := func(b *bench) { b.lost = map[string]bool{"schedule": true} }
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, lose)
		b.bobComes()
		call := b.join()
		b.wait(100 * time.Millisecond)
		b.set(func(f *fakeServer) { f.lost = nil })
		b.wait(leaveDelay - 200*time.Millisecond)
		if got := b.took(); strings.Count(got, "schedule") != 2 || strings.Count(got, "member") != 1 || strings.Contains(got, "fired") {
			t.Fatal(got)
		}
		before := b.sent()
		b.wait(300 * time.Millisecond)
		got := b.took()
		if !strings.HasPrefix(got, "fired, schedule 18s, member 4h0m0s, cancel") {
			t.Fatal(got)
		}
		if sent := b.sent()[len(before):]; len(sent) != 1 || sent[0].to != bobDevice || sent[0].key.Keys != before[0].key.Keys {
			t.Fatalf("keys %+v, after %+v", sent, before)
		}
		b.wait(time.Minute)
		if got := b.took(); strings.Contains(got, "fired") || strings.Contains(got, "member") {
			t.Fatal(got)
		}
		b.leaveNow(call)
		b.expect("leaving", b.took(), "send, fired")
	})
	// The homeserver sends it during the next call in the same room.
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, lose)
		call := b.join()
		b.wait(100 * time.Millisecond)
		b.set(func(f *fakeServer) { f.lost = nil })
		b.wait(5 * time.Second)
		b.leaveNow(call)
		b.join()
		b.wait(5 * time.Second)
		b.took()
		b.wait(10 * time.Second)
		if got := b.took(); !strings.Contains(got, "fired, schedule 18s, member 4h0m0s, cancel") {
			t.Fatal(got)
		}
	})
}
