package homeserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/unstable"
)

// memory is a storage for tests in a synctest bubble, which a database cannot be part of.
type memory struct {
	mu   sync.Mutex // guards what follows
	rows map[string]delayed
	fail error
}

func newMemory(rows ...delayed) *memory {
	m := &memory{rows: make(map[string]delayed)}
	for _, d := range rows {
		m.rows[d.id] = d
	}
	return m
}

func (m *memory) insert(_ context.Context, d *delayed) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows[d.id] = *d
	return m.fail
}

func (m *memory) restart(_ context.Context, delayID string, since time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.rows[delayID]
	d.since = since
	m.rows[delayID] = d
	return m.fail
}

func (m *memory) remove(_ context.Context, delayID string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail == nil {
		delete(m.rows, delayID)
	}
	return m.fail
}

func (m *memory) get(_ context.Context, delayID string) (*delayed, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.rows[delayID]
	if !ok {
		return nil, errors.New("no such row")
	}
	return &d, nil
}

func (m *memory) all(context.Context) (list []*delayed, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.rows {
		d.token, d.content = "", nil
		list = append(list, &d)
	}
	return list, m.fail
}

func (m *memory) setFail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

func (m *memory) size() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.rows)
}

// upstream is a homeserver that notes what is sent and answers with next.
type upstream struct {
	mu   sync.Mutex // guards what follows
	sent []string   // transaction id and seconds since the start
	next func(attempt int) error
	took time.Duration
	at   time.Time
}

func (u *upstream) send(ctx context.Context, d *delayed) error {
	if u.took > 0 {
		select {
		case <-time.After(u.took):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sent = append(u.sent, fmt.Sprintf("%s %.0f", d.txn, time.Since(u.at).Seconds()))
	if u.next != nil {
		return u.next(len(u.sent))
	}
	return nil
}

func (u *upstream) want(t *testing.T, want ...string) {
	t.Helper()
	u.mu.Lock()
	defer u.mu.Unlock()
	if !slices.Equal(u.sent, want) {
		t.Errorf("sent %q, not %q", u.sent, want)
	}
}

// bench is a running scheduler in a synctest bubble.
type bench struct {
	*scheduler
	up    *upstream
	store *memory
	log   *bytes.Buffer
	stop  func()
}

func newBench(t *testing.T, up *upstream, rows ...delayed) *bench {
	t.Helper()
	b := &bench{up: up, store: newMemory(rows...), log: new(bytes.Buffer)}
	up.at = time.Now()
	b.scheduler = newScheduler(b.store, up.send, zerolog.New(b.log))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.run(ctx) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return b
}

func anEvent(name string, delay time.Duration) delayed {
	return delayed{id: name, user: "@a:b", device: "D", token: "t", room: "!r", eventType: "x", txn: name, content: []byte("{}"), delay: delay}
}

func (b *bench) plan(t *testing.T, name string, delay time.Duration) string {
	t.Helper()
	delayID, err := b.schedule(t.Context(), anEvent(name, delay))
	if err != nil {
		t.Fatal(err)
	}
	return delayID
}

func (b *bench) wantAct(t *testing.T, delayID, action string, want error) {
	t.Helper()
	if err := b.act(t.Context(), delayID, action); !errors.Is(err, want) || (err == nil) != (want == nil) {
		t.Errorf("%s: %v, not %v", action, err, want)
	}
}

// pass lets time pass and waits until everything that is due was done.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestScheduleOrderAndActions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &upstream{})
		late := b.plan(t, "late", 30*time.Second)
		b.plan(t, "early", 10*time.Second)
		restarted := b.plan(t, "restarted", 12*time.Second)
		cancelled := b.plan(t, "cancelled", 12*time.Second)
		if again := b.plan(t, "late", 99*time.Second); again != late {
			t.Error("a repeated transaction is scheduled twice")
		}
		pass(11 * time.Second)
		b.wantAct(t, restarted, unstable.DelayRestart, nil)
		b.wantAct(t, cancelled, unstable.DelayCancel, nil)
		b.wantAct(t, cancelled, unstable.DelayCancel, errNoEvent)
		pass(11 * time.Second)
		b.up.want(t, "early 10")
		b.wantAct(t, late, unstable.DelaySend, nil)
		b.wantAct(t, late, unstable.DelaySend, errNoEvent)
		pass(time.Hour)
		b.up.want(t, "early 10", "late 22", "restarted 23")
		if b.store.size() != 0 {
			t.Error("rows are left")
		}
		b.stop()
		b.wantAct(t, late, unstable.DelaySend, errNotRunning)
	})
}

func TestScheduleAfterStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		overdue, due, future := anEvent("overdue", time.Second), anEvent("due", 10*time.Second), anEvent("future", 20*time.Second)
		overdue.since, due.since = now.Add(-time.Hour), now.Add(-5*time.Second)
		future.since = now.Add(24 * time.Hour) // the clock was set back since
		b := newBench(t, &upstream{}, overdue, due, future)
		pass(time.Minute)
		b.up.want(t, "overdue 0", "due 5", "future 20")
		b.stop()
	})
}

func TestScheduleRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := []error{
			errors.New("connection refused"),
			later{mautrix.MLimitExceeded, time.Minute},
			mautrix.MUnknown,
			nil,
		}
		b := newBench(t, &upstream{next: func(attempt int) error { return answers[attempt-1] }})
		delayID := b.plan(t, "a", time.Second)
		pass(30 * time.Second)
		if len(b.up.sent) != 2 {
			t.Fatal("sent ", b.up.sent)
		}
		b.wantAct(t, delayID, unstable.DelaySend, mautrix.MUnknown.WithMessage(noAnswerMessage)) // now, although a wait was asked for
		b.wantAct(t, delayID, unstable.DelayRestart, nil)                                        // an event that was not sent can be restarted
		pass(time.Second)
		b.up.want(t, "a 1", b.up.sent[1], "a 30", "a 31")
		b.stop()
	})
}

func TestScheduleGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &upstream{next: func(int) error { return errors.New("down") }})
		b.plan(t, "a", time.Second)
		pass(23 * time.Hour)
		if b.store.size() != 1 {
			t.Error("given up too early")
		}
		pass(2 * time.Hour)
		if b.store.size() != 0 || !strings.Contains(b.log.String(), "could not be sent for a day") {
			t.Error("not given up")
		}
		// After some failures an attempt is made every 15 to 30 seconds.
		if n := len(b.up.sent); n < 24*3600/30 || n > 24*3600/15 {
			t.Error(n, " attempts in a day")
		}
		b.stop()
	})
}

func TestScheduleRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		no := refused{mautrix.MForbidden.WithStatus(http.StatusForbidden)}
		b := newBench(t, &upstream{next: func(int) error { return no }})
		delayID := b.plan(t, "a", time.Second)
		b.wantAct(t, delayID, unstable.DelaySend, mautrix.MForbidden)
		pass(time.Hour)
		b.up.want(t, "a 0")
		if b.store.size() != 0 || !strings.Contains(b.log.String(), "refused a delayed event") || strings.Contains(b.log.String(), delayID) {
			t.Error("rows ", b.store.size(), " log ", b.log)
		}
		b.stop()
	})
}

// TestScheduleWhileSending: a request about an event that is being sent is answered when the result is known.
func TestScheduleWhileSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &upstream{took: 5 * time.Second, next: func(attempt int) error {
			if attempt == 1 {
				return errors.New("down")
			}
			return nil
		}})
		delayID := b.plan(t, "a", time.Second)
		pass(2 * time.Second)
		var all sync.WaitGroup
		all.Go(func() { b.wantAct(t, delayID, unstable.DelayRestart, nil) }) // the first attempt fails, so the event can be restarted
		all.Wait()
		b.up.want(t, "a 6")
		pass(2 * time.Second)
		for range 3 {
			all.Go(func() { b.wantAct(t, delayID, unstable.DelaySend, nil) })
		}
		synctest.Wait()
		all.Go(func() { b.wantAct(t, delayID, unstable.DelayRestart, errNoEvent) })
		all.Go(func() { b.wantAct(t, delayID, unstable.DelayCancel, errNoEvent) })
		all.Wait()
		pass(time.Hour)
		if len(b.up.sent) != 2 {
			t.Error("sent ", b.up.sent)
		}
		b.stop()
	})
}

func TestScheduleBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &upstream{took: 10 * time.Second})
		for i := range maxPerUser {
			b.plan(t, fmt.Sprint(i), time.Second)
		}
		if _, err := b.schedule(t.Context(), anEvent("more", time.Second)); !errors.Is(err, errTooMany) {
			t.Error(err)
		}
		other := anEvent("other", time.Hour)
		other.user = "@c:b"
		otherID, err := b.schedule(t.Context(), other)
		if err != nil {
			t.Error("one user's events keep another from scheduling: ", err)
		}
		pass(12 * time.Second) // the first eight were sent, the next are being sent
		if n := len(b.up.sent); n != maxSending {
			t.Error(n, " sent in the first round")
		}
		allowed := 0
		for range 2 * actionsBurst { // scheduling the user's first event did not count
			if b.act(t.Context(), otherID, unstable.DelayRestart) == nil {
				allowed++
			}
		}
		if allowed != actionsBurst {
			t.Error(allowed, " restarts at once")
		}
		pass(time.Second)
		b.wantAct(t, otherID, unstable.DelayRestart, nil)
		b.stop()
	})
}

func TestScheduleStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			took, want time.Duration
			left       int
		}{{3 * time.Second, 2 * time.Second, 0}, {time.Hour, shutdownGrace, 1}} {
			b := newBench(t, &upstream{took: c.took})
			b.plan(t, "a", time.Second)
			pass(2 * time.Second)
			begun := time.Now()
			b.stop()
			if took := time.Since(begun); took != c.want || b.store.size() != c.left {
				t.Errorf("stopped after %s with %d rows left", took, b.store.size())
			}
		}
	})
}

func TestScheduleStorageFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &upstream{})
		delayID := b.plan(t, "a", time.Minute)
		b.store.setFail(errors.New("disk full"))
		if _, err := b.schedule(t.Context(), anEvent("b", time.Second)); !errors.Is(err, errStore) {
			t.Error(err)
		}
		b.wantAct(t, delayID, unstable.DelayRestart, errStore)
		b.wantAct(t, delayID, unstable.DelayCancel, errStore)
		b.store.setFail(nil)
		b.wantAct(t, delayID, unstable.DelayCancel, nil)
		b.stop()
		b = &bench{store: newMemory()}
		b.store.setFail(errors.New("disk broken"))
		if err := newScheduler(b.store, nil, zerolog.Nop()).run(t.Context()); err == nil {
			t.Error("it runs without storage")
		}
	})
}

func TestScheduleForgets(t *testing.T) {
	s := newScheduler(newMemory(), nil, zerolog.Nop())
	s.sendCtx = t.Context()
	now := time.Now()
	for i := range 10 {
		d := anEvent(fmt.Sprint(i), time.Hour)
		d.user = id.UserID(fmt.Sprintf("@u%d:b", i))
		if _, err := s.insert(d, now); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range s.entries {
		s.forget(e)
	}
	if len(s.entries) != 0 || len(s.queue) != 0 {
		t.Errorf("%d entries and %d queued are left", len(s.entries), len(s.queue))
	}
	for user, a := range s.users {
		if len(a.entries) != 0 {
			t.Errorf("%s still has %d entries", user, len(a.entries))
		}
	}
}
