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

// roll drives a Distribution with a clock of its own.
type roll struct {
	t   *testing.T
	now time.Time
	*Distribution
}

func newRoll(t *testing.T) *roll {
	made := byte(0)
	now := time.UnixMilli(1_793_000_000_000)
	return &roll{t, now, newDistribution(now, func() []byte { made++; return []byte{made} })}
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
func (r *roll) send(want ...string) {
	r.t.Helper()
	for i, target := range r.expect(want...) {
		if delivered, _ := r.Sent(r.now, target, nil); !delivered {
			r.t.Errorf("%s: not delivered", want[i])
		}
	}
}

func (r *roll) expect(want ...string) []*Recipient {
	r.t.Helper()
	targets := r.Due(r.now)
	var got []string
	for _, target := range targets {
		got = append(got, target.device.User.Localpart())
	}
	if !slices.Equal(got, want) {
		r.t.Fatalf("the key goes to %q, not %q", got, want)
	}
	return targets
}

// uses checks which key has to be used from now on; -1: no change.
func (r *roll) uses(want int) {
	r.t.Helper()
	got := -1
	if key, ok := r.Use(r.now); ok {
		got = int(key.Index)
	}
	if got != want {
		r.t.Fatalf("switches to %d, not %d", got, want)
	}
}

func (r *roll) wait(d time.Duration) { r.now = r.now.Add(d) }

func TestDistributionGrace(t *testing.T) {
	r := newRoll(t)
	r.uses(-1) // key 0 is in use from the start
	r.SetMembers(r.now, here("bob"))
	r.send("bob")
	r.wait(repeatKey)
	r.send("bob")
	r.wait(rotationGrace - repeatKey - 1)
	r.SetMembers(r.now, here("bob", "eve"))
	r.send("eve") // young enough
	if r.current.Index != 0 {
		t.Fatalf("key %d", r.current.Index)
	}
	r.wait(1)
	r.SetMembers(r.now, here("bob", "eve", "kim"))
	r.send("bob", "eve", "kim")
	r.uses(-1)
	r.wait(useKeyDelay - 1)
	r.uses(-1)
	r.wait(1)
	r.uses(1)
	r.wait(repeatKey - useKeyDelay)
	r.send("bob", "eve", "kim")
	if !r.Distribution.Wake().IsZero() {
		t.Fatalf("wakes at %v", r.Distribution.Wake())
	}
}

// TestDistributionRepeats: each key is sent twice, since a homeserver may lose it. A key that was replaced is not sent again.
func TestDistributionRepeats(t *testing.T) {
	r := newRoll(t)
	r.SetMembers(r.now, here("ann", "bob"))
	r.send("ann", "bob")
	r.wait(repeatKey - 1)
	r.send()
	if got := r.Distribution.Wake().Sub(r.now); got != 1 {
		t.Fatalf("waits %v", got)
	}
	r.wait(1)
	targets := r.expect("ann", "bob")
	r.Sent(r.now, targets[0], errors.New("broken"))
	r.Sent(r.now, targets[1], nil)
	r.wait(time.Second)
	r.send("ann")
	r.wait(time.Hour)
	r.send()
	// Bob leaves while a key is sent for the second time. That key is not sent a third time; the next key is sent twice.
	r.SendAgain()
	r.send("ann", "bob")
	r.wait(repeatKey)
	targets = r.expect("ann", "bob")
	r.SetMembers(r.now, here("ann"))
	r.Sent(r.now, targets[0], nil)
	r.send("ann")
	r.wait(repeatKey)
	if targets := r.expect("ann"); targets[0].sending != r.current.serial || r.current.Index != 1 {
		t.Fatalf("key %d is sent again, the present one is %d", targets[0].sending, r.current.serial)
	}
}

func TestDistributionLeft(t *testing.T) {
	r := newRoll(t)
	r.SetMembers(r.now, here("bob", "eve"))
	r.send("bob", "eve")
	r.SetMembers(r.now, here("bob"))
	r.send("bob")
	if r.current.Index != 1 {
		t.Fatalf("key %d", r.current.Index)
	}
	// That key waits for its use: kim gets it, and the key after it is made once it is used, because bob has left.
	r.SetMembers(r.now, here("bob", "kim"))
	r.send("kim")
	r.SetMembers(r.now, here("kim"))
	r.send()
	r.uses(-1)
	r.wait(useKeyDelay)
	r.uses(1)
	r.send("kim")
	if r.current.Index != 2 {
		t.Fatalf("key %d", r.current.Index)
	}
	r.wait(useKeyDelay)
	r.uses(2)
	// The last one leaves: the next key is used without a delay.
	r.SetMembers(r.now, nil)
	r.uses(3)
	r.send()
}

// TestDistributionAgain sends the present key once more, and never one that was replaced.
func TestDistributionAgain(t *testing.T) {
	r := newRoll(t)
	r.SetMembers(r.now, here("ann", "bob"))
	r.send("ann", "bob")
	r.expect()
	r.SendAgain()
	r.send("ann", "bob")
	r.uses(-1)
	r.expect()
	r.SendAgain()
	targets := r.expect("ann", "bob")
	r.SendAgain() // on its way: once is enough
	for _, target := range targets {
		r.Sent(r.now, target, nil)
	}
	r.expect()
	r.SetMembers(r.now, here("ann"))
	r.send("ann") // a new one, for bob has left
	r.SendAgain()
	if targets := r.expect("ann"); targets[0].sending != r.current.serial {
		t.Errorf("key %d is sent, the present one is %d", targets[0].sending, r.current.serial)
	}
}

// TestDistributionAlone: somebody who comes while we are alone has no older key, so the new key is used at once.
func TestDistributionAlone(t *testing.T) {
	r := newRoll(t)
	r.wait(time.Hour)
	r.SetMembers(r.now, here("bob"))
	r.uses(1)
	r.send("bob")
	r.uses(-1)
}

func TestDistributionRejoined(t *testing.T) {
	r := newRoll(t)
	r.SetMembers(r.now, here("bob@1", "eve"))
	r.send("bob", "eve")
	r.SetMembers(r.now, here("bob@2", "eve"))
	r.send("bob") // has lost its keys; the present one is young
	if r.current.Index != 0 {
		t.Fatalf("key %d", r.current.Index)
	}
	r.wait(rotationGrace)
	r.SetMembers(r.now, here("bob@3", "eve"))
	r.send("bob", "eve")
	if r.current.Index != 1 {
		t.Fatalf("key %d", r.current.Index)
	}
	r.wait(useKeyDelay)
	r.uses(1)
	// Bob comes again, leaves before it gets the key, and still knows an old one.
	r.SetMembers(r.now, here("bob@4", "eve"))
	r.SetMembers(r.now, here("eve"))
	if r.current.Index != 2 {
		t.Fatalf("key %d", r.current.Index)
	}
}

func TestDistributionRetries(t *testing.T) {
	r := newRoll(t)
	broken := errors.New("broken")
	r.SetMembers(r.now, here("bob", "eve"))
	targets := r.expect("bob", "eve")
	r.Sent(r.now, targets[0], broken)
	r.Sent(r.now, targets[1], nil)
	targets[1].repeatAt = time.Time{} // Eve's key did arrive
	for _, wait := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		if got := r.Distribution.Wake().Sub(r.now); got != wait*time.Second {
			t.Fatalf("waits %v, not %d s", got, wait)
		}
		r.wait(wait*time.Second - 1)
		r.send()
		r.wait(1)
		r.Sent(r.now, r.expect("bob")[0], broken)
	}
	r.wait(maxKeyRetry)
	r.send("bob")
	// A key whose sending was not answered may have arrived, so a new key is needed when the device leaves.
	r.SetMembers(r.now, here("bob", "eve", "kim"))
	r.uses(-1)
	r.Sent(r.now, r.expect("bob", "eve", "kim")[2], broken)
	r.wait(useKeyLimit)
	r.uses(1)
	r.SetMembers(r.now, here("bob", "eve"))
	if r.current.Index != 2 {
		t.Fatalf("key %d", r.current.Index)
	}
}

func TestDistributionUntrusted(t *testing.T) {
	r := newRoll(t)
	r.SetMembers(r.now, here("bob"))
	delivered, withheld := r.Sent(r.now, r.expect("bob")[0], fmt.Errorf("x: %w", bot.ErrUntrusted))
	if delivered || !withheld {
		t.Fatalf("got %v, %v", delivered, withheld)
	}
	r.wait(time.Minute)
	if _, withheld = r.Sent(r.now, r.expect("bob")[0], bot.ErrUntrusted); withheld {
		t.Fatal("said twice")
	}
	r.SetMembers(r.now, here("bob@7"))
	r.uses(1)
	if _, withheld = r.Sent(r.now, r.expect("bob")[0], bot.ErrUntrusted); withheld {
		t.Fatal("said twice")
	}
	r.SetMembers(r.now, nil)
	r.uses(-1)
	if r.current.Index != 1 {
		t.Fatalf("a device that never had a key went, now there is key %d", r.current.Index)
	}
	// When its owner has verified it, the device gets the key.
	r.SetMembers(r.now, here("bob@8"))
	r.Sent(r.now, r.expect("bob")[0], bot.ErrUntrusted)
	r.wait(maxKeyRetry)
	r.send("bob")
}

func TestDistributionSlow(t *testing.T) {
	r := newRoll(t)
	r.SetMembers(r.now, here("bob", "eve"))
	r.send("bob", "eve")
	r.SetMembers(r.now, here("bob"))
	slow := r.expect("bob")
	// A homeserver that does not answer must not keep the old key in use.
	r.wait(useKeyLimit - 1)
	r.uses(-1)
	r.wait(1)
	r.uses(1)
	// Meanwhile there is another key. The late answer does not count for it.
	r.SetMembers(r.now, here("bob", "kim"))
	r.wait(rotationGrace)
	r.SetMembers(r.now, here("bob", "kim", "pat"))
	r.expect("kim", "pat")
	if delivered, _ := r.Sent(r.now, slow[0], nil); !delivered {
		t.Fatal("not delivered")
	}
	r.send("bob")
	// An answer for a device that has gone.
	r.SetMembers(r.now, nil)
	if delivered, _ := r.Sent(r.now, slow[0], nil); delivered {
		t.Fatal("delivered to nobody")
	}
}

func TestDistributionWraps(t *testing.T) {
	r := newRoll(t)
	for i := range 300 {
		r.SetMembers(r.now, here("bob", "eve"))
		r.Due(r.now)
		for _, target := range r.recipients {
			if target.sending != 0 {
				r.Sent(r.now, target, nil)
			}
		}
		r.SetMembers(r.now, here("bob"))
		r.send("bob")
		r.wait(useKeyDelay)
		r.uses((i + 1) % 256)
	}
}
