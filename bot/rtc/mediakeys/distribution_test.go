package mediakeys

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/rtc/membership"
)

// fixture drives a Distribution with a clock of its own.
type fixture struct {
	t   *testing.T
	now time.Time
	*Distribution
}

func newFixture(t *testing.T) *fixture {
	made := byte(0)
	now := time.UnixMilli(1_793_000_000_000)
	return &fixture{t, now, newDistribution(now, func() []byte { made++; return []byte{made} })}
}

// here makes members by their names. A name may say when the member came: "bob@5".
func here(names ...string) (members []membership.Member) {
	for _, name := range names {
		var user string
		var at int64
		if n, _ := fmt.Sscanf(name, "%3s@%d", &user, &at); n == 0 {
			user = name
		}
		members = append(members, membership.Member{User: id.UserID("@" + user + ":x"), Device: "D", Created: time.UnixMilli(at)})
	}
	return members
}

// send checks who has to get the present key now, and delivers it.
func (f *fixture) send(want ...string) {
	f.t.Helper()
	for i, target := range f.expect(want...) {
		if delivered, _ := f.Sent(f.now, target, nil); !delivered {
			f.t.Errorf("%s: not delivered", want[i])
		}
	}
}

func (f *fixture) expect(want ...string) []*Recipient {
	f.t.Helper()
	targets := f.Due(f.now)
	var got []string
	for _, target := range targets {
		got = append(got, target.device.User.Localpart())
	}
	if !slices.Equal(got, want) {
		f.t.Fatalf("the key goes to %q, not %q", got, want)
	}
	return targets
}

// uses checks which key has to be used from now on; -1: no change.
func (f *fixture) uses(want int) {
	f.t.Helper()
	got := -1
	if key, ok := f.Use(f.now); ok {
		got = int(key.Index)
	}
	if got != want {
		f.t.Fatalf("switches to %d, not %d", got, want)
	}
}

func (f *fixture) wait(d time.Duration) { f.now = f.now.Add(d) }

func TestDistributionGrace(t *testing.T) {
	f := newFixture(t)
	f.uses(-1) // key 0 is in use from the start
	f.SetMembers(f.now, here("bob"), false)
	f.send("bob")
	f.wait(repeatKey)
	f.send("bob")
	f.wait(rotationGrace - repeatKey - 1)
	f.SetMembers(f.now, here("bob", "eve"), false)
	f.send("eve") // young enough
	if f.current.Index != 0 {
		t.Fatalf("key %d", f.current.Index)
	}
	f.wait(1)
	f.SetMembers(f.now, here("bob", "eve", "kim"), false)
	f.send("bob", "eve", "kim")
	f.uses(-1)
	f.wait(useKeyDelay - 1)
	f.uses(-1)
	f.wait(1)
	f.uses(1)
	f.wait(repeatKey - useKeyDelay)
	f.send("bob", "eve", "kim")
	if !f.Distribution.Wake().IsZero() {
		t.Fatalf("wakes at %v", f.Distribution.Wake())
	}
}

// TestDistributionRepeats: each key is sent twice, since a homeserver may lose it. A key that was replaced is not sent again.
func TestDistributionRepeats(t *testing.T) {
	f := newFixture(t)
	f.SetMembers(f.now, here("ann", "bob"), false)
	f.send("ann", "bob")
	f.wait(repeatKey - 1)
	f.send()
	if got := f.Distribution.Wake().Sub(f.now); got != 1 {
		t.Fatalf("waits %v", got)
	}
	f.wait(1)
	targets := f.expect("ann", "bob")
	f.Sent(f.now, targets[0], errors.New("broken"))
	f.Sent(f.now, targets[1], nil)
	f.wait(time.Second)
	f.send("ann")
	f.wait(time.Hour)
	f.send()
	// Bob leaves while a key is sent for the second time. That key is not sent a third time; the next key is sent twice.
	f.SendAgain()
	f.send("ann", "bob")
	f.wait(repeatKey)
	targets = f.expect("ann", "bob")
	f.SetMembers(f.now, here("ann"), false)
	f.Sent(f.now, targets[0], nil)
	f.send("ann")
	f.wait(repeatKey)
	if targets := f.expect("ann"); targets[0].sending != f.current.serial || f.current.Index != 1 {
		t.Fatalf("key %d is sent again, the present one is %d", targets[0].sending, f.current.serial)
	}
}

func TestDistributionLeft(t *testing.T) {
	f := newFixture(t)
	f.SetMembers(f.now, here("bob", "eve"), false)
	f.send("bob", "eve")
	f.SetMembers(f.now, here("bob"), false)
	f.send("bob")
	if f.current.Index != 1 {
		t.Fatalf("key %d", f.current.Index)
	}
	// That key waits for its use: kim gets it. Bob, who has it, leaves: the next key takes its turn, no later than it would have been used.
	f.wait(useKeyDelay / 2)
	f.SetMembers(f.now, here("bob", "kim"), false)
	f.send("kim")
	f.SetMembers(f.now, here("kim"), false)
	f.uses(-1)
	f.send("kim")
	if f.current.Index != 2 {
		t.Fatalf("key %d", f.current.Index)
	}
	f.wait(useKeyDelay / 2)
	f.uses(2)
	// The last one leaves: the next key is used without a delay.
	f.SetMembers(f.now, nil, false)
	f.uses(3)
	f.send()
}

// TestDistributionTakenOff: somebody gets no key any more, although they may still receive what we send. The next key is used at once, whatever
// waits, and nothing more is sent to them, not even a key that had to be sent again.
func TestDistributionTakenOff(t *testing.T) {
	f := newFixture(t)
	f.SetMembers(f.now, here("bob", "eve"), true)
	f.send("bob", "eve")
	f.SetMembers(f.now, here("bob"), true)
	f.uses(1)
	f.send("bob")
	// A key waits for its use, and kim's is under way when it is taken off.
	f.wait(rotationGrace)
	f.SetMembers(f.now, here("bob", "kim"), true)
	f.uses(-1)
	underWay := f.expect("bob", "kim")
	f.SetMembers(f.now, here("bob"), true)
	f.uses(3)
	if delivered, _ := f.Sent(f.now, underWay[1], errors.New("broken")); delivered {
		t.Error("delivered to somebody who was taken off")
	}
	f.Sent(f.now, underWay[0], nil)
	for range 100 {
		f.wait(time.Second)
		f.SendAgain()
		for _, target := range f.Due(f.now) {
			if target.device.User != "@bob:x" || target.sending != f.current.serial {
				t.Fatalf("key %d goes to %s, the present one is %d", target.sending, target.device.User, f.current.serial)
			}
			f.Sent(f.now, target, nil)
		}
	}
	// Somebody who never got a key is taken off: no new key is needed.
	f.SetMembers(f.now, here("bob", "pat"), true)
	f.wait(useKeyLimit)
	f.uses(4)
	for _, target := range f.Due(f.now) {
		f.Sent(f.now, target, map[bool]error{true: bot.ErrUntrusted}[target.device.User == "@pat:x"])
	}
	f.SetMembers(f.now, here("bob"), true)
	f.uses(-1)
}

// TestDistributionAgain sends the present key once more, and never one that was replaced.
func TestDistributionAgain(t *testing.T) {
	f := newFixture(t)
	f.SetMembers(f.now, here("ann", "bob"), false)
	f.send("ann", "bob")
	f.expect()
	f.SendAgain()
	f.send("ann", "bob")
	f.uses(-1)
	f.expect()
	f.SendAgain()
	targets := f.expect("ann", "bob")
	f.SendAgain() // on its way: once is enough
	for _, target := range targets {
		f.Sent(f.now, target, nil)
	}
	f.expect()
	f.SetMembers(f.now, here("ann"), false)
	f.send("ann") // a new one, for bob has left
	f.SendAgain()
	if targets := f.expect("ann"); targets[0].sending != f.current.serial {
		t.Errorf("key %d is sent, the present one is %d", targets[0].sending, f.current.serial)
	}
}

// TestDistributionAlone: somebody who comes while we are alone has no older key, so the new key is used at once.
func TestDistributionAlone(t *testing.T) {
	f := newFixture(t)
	f.wait(time.Hour)
	f.SetMembers(f.now, here("bob"), false)
	f.uses(1)
	f.send("bob")
	f.uses(-1)
}

func TestDistributionRejoined(t *testing.T) {
	f := newFixture(t)
	f.SetMembers(f.now, here("bob@1", "eve"), false)
	f.send("bob", "eve")
	f.SetMembers(f.now, here("bob@2", "eve"), false)
	f.send("bob") // has lost its keys; the present one is young
	if f.current.Index != 0 {
		t.Fatalf("key %d", f.current.Index)
	}
	f.wait(rotationGrace)
	f.SetMembers(f.now, here("bob@3", "eve"), false)
	f.send("bob", "eve")
	if f.current.Index != 1 {
		t.Fatalf("key %d", f.current.Index)
	}
	f.wait(useKeyDelay)
	f.uses(1)
	// Bob comes again, leaves before it gets the key, and still knows an old one.
	f.SetMembers(f.now, here("bob@4", "eve"), false)
	f.SetMembers(f.now, here("eve"), false)
	if f.current.Index != 2 {
		t.Fatalf("key %d", f.current.Index)
	}
}

func TestDistributionRetries(t *testing.T) {
	f := newFixture(t)
	broken := errors.New("broken")
	f.SetMembers(f.now, here("bob", "eve"), false)
	targets := f.expect("bob", "eve")
	f.Sent(f.now, targets[0], broken)
	f.Sent(f.now, targets[1], nil)
	targets[1].repeatAt = time.Time{} // Eve's key did arrive
	for _, wait := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		if got := f.Distribution.Wake().Sub(f.now); got != wait*time.Second {
			t.Fatalf("waits %v, not %d s", got, wait)
		}
		f.wait(wait*time.Second - 1)
		f.send()
		f.wait(1)
		f.Sent(f.now, f.expect("bob")[0], broken)
	}
	f.wait(maxKeyRetry)
	f.send("bob")
	// A key whose sending was not answered may have arrived, so a new key is needed when the device leaves.
	f.SetMembers(f.now, here("bob", "eve", "kim"), false)
	f.uses(-1)
	f.Sent(f.now, f.expect("bob", "eve", "kim")[2], broken)
	f.wait(useKeyLimit)
	f.uses(1)
	f.SetMembers(f.now, here("bob", "eve"), false)
	if f.current.Index != 2 {
		t.Fatalf("key %d", f.current.Index)
	}
}

func TestDistributionUntrusted(t *testing.T) {
	f := newFixture(t)
	f.SetMembers(f.now, here("bob"), false)
	delivered, withheld := f.Sent(f.now, f.expect("bob")[0], fmt.Errorf("x: %w", bot.ErrUntrusted))
	if delivered || !withheld {
		t.Fatalf("got %v, %v", delivered, withheld)
	}
	f.wait(time.Minute)
	if _, withheld = f.Sent(f.now, f.expect("bob")[0], bot.ErrUntrusted); withheld {
		t.Fatal("said twice")
	}
	f.SetMembers(f.now, here("bob@7"), false)
	f.uses(1)
	if _, withheld = f.Sent(f.now, f.expect("bob")[0], bot.ErrUntrusted); withheld {
		t.Fatal("said twice")
	}
	f.SetMembers(f.now, nil, false)
	f.uses(-1)
	if f.current.Index != 1 {
		t.Fatalf("a device that never had a key went, now there is key %d", f.current.Index)
	}
	// When its owner has verified it, the device gets the key.
	f.SetMembers(f.now, here("bob@8"), false)
	f.Sent(f.now, f.expect("bob")[0], bot.ErrUntrusted)
	f.wait(maxKeyRetry)
	f.send("bob")
}

func TestDistributionSlow(t *testing.T) {
	f := newFixture(t)
	f.SetMembers(f.now, here("bob", "eve"), false)
	f.send("bob", "eve")
	f.SetMembers(f.now, here("bob"), false)
	slow := f.expect("bob")
	// A homeserver that does not answer must not keep the old key in use.
	f.wait(leaveKeyLimit - 1)
	f.uses(-1)
	f.wait(1)
	f.uses(1)
	// Meanwhile there is another key. The late answer does not count for it.
	f.SetMembers(f.now, here("bob", "kim"), false)
	f.wait(rotationGrace)
	f.SetMembers(f.now, here("bob", "kim", "pat"), false)
	f.expect("kim", "pat")
	if delivered, _ := f.Sent(f.now, slow[0], nil); !delivered {
		t.Fatal("not delivered")
	}
	f.send("bob")
	// An answer for a device that has gone.
	f.SetMembers(f.now, nil, false)
	if delivered, _ := f.Sent(f.now, slow[0], nil); delivered {
		t.Fatal("delivered to nobody")
	}
}

func TestDistributionWraps(t *testing.T) {
	f := newFixture(t)
	for i := range 300 {
		f.SetMembers(f.now, here("bob", "eve"), false)
		f.Due(f.now)
		for _, target := range f.recipients {
			if target.sending != 0 {
				f.Sent(f.now, target, nil)
			}
		}
		f.SetMembers(f.now, here("bob"), false)
		f.send("bob")
		f.wait(useKeyDelay)
		f.uses((i + 1) % 256)
	}
}
