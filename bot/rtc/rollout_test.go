package rtc

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
)

// roll drives a rollout in a time of its own.
type roll struct {
	t   *testing.T
	now time.Time
	*rollout
}

func newRoll(t *testing.T) *roll {
	made := byte(0)
	now := time.UnixMilli(1_793_000_000_000)
	return &roll{t, now, newRollout(now, func() []byte { made++; return []byte{made} })}
}

// here makes members by their names; a name may say when it came: "bob@5".
func here(names ...string) (members []Member) {
	for _, name := range names {
		var user string
		var at int64
		if n, _ := fmt.Sscanf(name, "%3s@%d", &user, &at); n == 0 {
			user = name
		}
		members = append(members, Member{User: id.UserID("@" + user + ":x"), Device: "D", Created: time.UnixMilli(at)})
	}
	return members
}

// send says who has to get the present key now, and lets it arrive.
func (r *roll) send(want ...string) {
	r.t.Helper()
	for i, target := range r.expect(want...) {
		if delivered, _ := r.sent(r.now, target, nil); !delivered {
			r.t.Errorf("%s: not delivered", want[i])
		}
	}
}

func (r *roll) expect(want ...string) []*target {
	r.t.Helper()
	targets := r.due(r.now)
	var got []string
	for _, target := range targets {
		got = append(got, target.device.User.Localpart())
	}
	if !slices.Equal(got, want) {
		r.t.Fatalf("the key goes to %q, not %q", got, want)
	}
	return targets
}

// uses says which key has to be switched to now, -1 for none.
func (r *roll) uses(want int) {
	r.t.Helper()
	got := -1
	if key, ok := r.use(r.now); ok {
		got = int(key.index)
	}
	if got != want {
		r.t.Fatalf("switches to %d, not %d", got, want)
	}
}

func (r *roll) wait(d time.Duration) { r.now = r.now.Add(d) }

func TestRolloutGrace(t *testing.T) {
	r := newRoll(t)
	r.uses(-1) // key 0 is in use from the start
	r.setMembers(r.now, here("bob"))
	r.send("bob")
	r.wait(repeatKey)
	r.send("bob")
	r.wait(rotationGrace - repeatKey - 1)
	r.setMembers(r.now, here("bob", "eve"))
	r.send("eve") // young enough
	if r.current.index != 0 {
		t.Fatalf("key %d", r.current.index)
	}
	r.wait(1)
	r.setMembers(r.now, here("bob", "eve", "kim"))
	r.send("bob", "eve", "kim")
	r.uses(-1)
	r.wait(useKeyDelay - 1)
	r.uses(-1)
	r.wait(1)
	r.uses(1)
	r.wait(repeatKey - useKeyDelay)
	r.send("bob", "eve", "kim")
	if !r.rollout.wake().IsZero() {
		t.Fatalf("wakes at %v", r.rollout.wake())
	}
}

// TestRolloutRepeats: each key is sent twice, since what was taken may still get lost; one that was replaced is not.
func TestRolloutRepeats(t *testing.T) {
	r := newRoll(t)
	r.setMembers(r.now, here("ann", "bob"))
	r.send("ann", "bob")
	r.wait(repeatKey - 1)
	r.send()
	if got := r.rollout.wake().Sub(r.now); got != 1 {
		t.Fatalf("waits %v", got)
	}
	r.wait(1)
	targets := r.expect("ann", "bob")
	r.sent(r.now, targets[0], errors.New("broken"))
	r.sent(r.now, targets[1], nil)
	r.wait(time.Second)
	r.send("ann")
	r.wait(time.Hour)
	r.send()
	// Bob goes while a key is on its way for the second time: what arrives then is not repeated, the next key is.
	r.again()
	r.send("ann", "bob")
	r.wait(repeatKey)
	targets = r.expect("ann", "bob")
	r.setMembers(r.now, here("ann"))
	r.sent(r.now, targets[0], nil)
	r.send("ann")
	r.wait(repeatKey)
	if targets := r.expect("ann"); targets[0].sending != r.current.serial || r.current.index != 1 {
		t.Fatalf("key %d is sent again, the present one is %d", targets[0].sending, r.current.serial)
	}
}

func TestRolloutLeft(t *testing.T) {
	r := newRoll(t)
	r.setMembers(r.now, here("bob", "eve"))
	r.send("bob", "eve")
	r.setMembers(r.now, here("bob"))
	r.send("bob")
	if r.current.index != 1 {
		t.Fatalf("key %d", r.current.index)
	}
	// While that key waits for its use: kim gets it, bob's going is seen to once it is used.
	r.setMembers(r.now, here("bob", "kim"))
	r.send("kim")
	r.setMembers(r.now, here("kim"))
	r.send()
	r.uses(-1)
	r.wait(useKeyDelay)
	r.uses(1)
	r.send("kim")
	if r.current.index != 2 {
		t.Fatalf("key %d", r.current.index)
	}
	r.wait(useKeyDelay)
	r.uses(2)
	// The last one goes: the next key needs no delay.
	r.setMembers(r.now, nil)
	r.uses(3)
	r.send()
}

// TestRolloutAlone: whoever comes to us while we are alone has no older key, and need not wait for the new one.
// TestRolloutAgain gives the same key once more, also to who missed it, and never one that was replaced.
func TestRolloutAgain(t *testing.T) {
	r := newRoll(t)
	r.setMembers(r.now, here("ann", "bob"))
	r.send("ann", "bob")
	r.expect()
	r.again()
	r.send("ann", "bob")
	r.uses(-1)
	r.expect()
	r.again()
	targets := r.expect("ann", "bob")
	r.again() // on its way: once is enough
	for _, target := range targets {
		r.sent(r.now, target, nil)
	}
	r.expect()
	r.setMembers(r.now, here("ann"))
	r.send("ann") // a new one, for bob has left
	r.again()
	if targets := r.expect("ann"); targets[0].sending != r.current.serial {
		t.Errorf("key %d is sent, the present one is %d", targets[0].sending, r.current.serial)
	}
}

func TestRolloutAlone(t *testing.T) {
	r := newRoll(t)
	r.wait(time.Hour)
	r.setMembers(r.now, here("bob"))
	r.uses(1)
	r.send("bob")
	r.uses(-1)
}

func TestRolloutRejoined(t *testing.T) {
	r := newRoll(t)
	r.setMembers(r.now, here("bob@1", "eve"))
	r.send("bob", "eve")
	r.setMembers(r.now, here("bob@2", "eve"))
	r.send("bob") // has lost its keys; the present one is young
	if r.current.index != 0 {
		t.Fatalf("key %d", r.current.index)
	}
	r.wait(rotationGrace)
	r.setMembers(r.now, here("bob@3", "eve"))
	r.send("bob", "eve")
	if r.current.index != 1 {
		t.Fatalf("key %d", r.current.index)
	}
	r.wait(useKeyDelay)
	r.uses(1)
	// Bob comes again, does not get the key any more, and goes: it still knows an old one.
	r.setMembers(r.now, here("bob@4", "eve"))
	r.setMembers(r.now, here("eve"))
	if r.current.index != 2 {
		t.Fatalf("key %d", r.current.index)
	}
}

func TestRolloutRetries(t *testing.T) {
	r := newRoll(t)
	broken := errors.New("broken")
	r.setMembers(r.now, here("bob", "eve"))
	targets := r.expect("bob", "eve")
	r.sent(r.now, targets[0], broken)
	r.sent(r.now, targets[1], nil)
	targets[1].repeatAt = time.Time{} // Eve's key did arrive
	for _, wait := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		if got := r.rollout.wake().Sub(r.now); got != wait*time.Second {
			t.Fatalf("waits %v, not %d s", got, wait)
		}
		r.wait(wait*time.Second - 1)
		r.send()
		r.wait(1)
		r.sent(r.now, r.expect("bob")[0], broken)
	}
	r.wait(maxKeyRetry)
	r.send("bob")
	// What was not answered may have arrived, so that the device's going needs a new key.
	r.setMembers(r.now, here("bob", "eve", "kim"))
	r.uses(-1)
	r.sent(r.now, r.expect("bob", "eve", "kim")[2], broken)
	r.wait(useKeyLimit)
	r.uses(1)
	r.setMembers(r.now, here("bob", "eve"))
	if r.current.index != 2 {
		t.Fatalf("key %d", r.current.index)
	}
}

func TestRolloutUntrusted(t *testing.T) {
	r := newRoll(t)
	r.setMembers(r.now, here("bob"))
	delivered, withheld := r.sent(r.now, r.expect("bob")[0], fmt.Errorf("x: %w", bot.ErrUntrusted))
	if delivered || !withheld {
		t.Fatalf("got %v, %v", delivered, withheld)
	}
	r.wait(time.Minute)
	if _, withheld = r.sent(r.now, r.expect("bob")[0], bot.ErrUntrusted); withheld {
		t.Fatal("said twice")
	}
	r.setMembers(r.now, here("bob@7"))
	r.uses(1)
	if _, withheld = r.sent(r.now, r.expect("bob")[0], bot.ErrUntrusted); withheld {
		t.Fatal("said twice")
	}
	r.setMembers(r.now, nil)
	r.uses(-1)
	if r.current.index != 1 {
		t.Fatalf("a device that never had a key went, now there is key %d", r.current.index)
	}
	// Once its owner has verified it, the device gets the key.
	r.setMembers(r.now, here("bob@8"))
	r.sent(r.now, r.expect("bob")[0], bot.ErrUntrusted)
	r.wait(maxKeyRetry)
	r.send("bob")
}

func TestRolloutSlow(t *testing.T) {
	r := newRoll(t)
	r.setMembers(r.now, here("bob", "eve"))
	r.send("bob", "eve")
	r.setMembers(r.now, here("bob"))
	slow := r.expect("bob")
	// A server that doesn't answer must not keep the old key in use.
	r.wait(useKeyLimit - 1)
	r.uses(-1)
	r.wait(1)
	r.uses(1)
	// Meanwhile there is another one: the late answer doesn't count for it.
	r.setMembers(r.now, here("bob", "kim"))
	r.wait(rotationGrace)
	r.setMembers(r.now, here("bob", "kim", "pat"))
	r.expect("kim", "pat")
	if delivered, _ := r.sent(r.now, slow[0], nil); !delivered {
		t.Fatal("not delivered")
	}
	r.send("bob")
	// An answer for a device that has gone.
	r.setMembers(r.now, nil)
	if delivered, _ := r.sent(r.now, slow[0], nil); delivered {
		t.Fatal("delivered to nobody")
	}
}

func TestRolloutWraps(t *testing.T) {
	r := newRoll(t)
	for i := range 300 {
		r.setMembers(r.now, here("bob", "eve"))
		r.due(r.now)
		for _, target := range r.targets {
			if target.sending != 0 {
				r.sent(r.now, target, nil)
			}
		}
		r.setMembers(r.now, here("bob"))
		r.send("bob")
		r.wait(useKeyDelay)
		r.uses((i + 1) % 256)
	}
}
