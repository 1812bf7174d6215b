package rtc

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"multifactorymodel.org/ewindow/bot"
)

const (
	// useKeyDelay is how long a new key waits between having been sent and being used.
	useKeyDelay = time.Second
	// useKeyLimit is how long it waits at most, however slowly it is sent.
	useKeyLimit = 5 * time.Second
	// rotationGrace is the age up to which a newcomer gets the present key instead of a new one.
	rotationGrace = 10 * time.Second
	// maxKeyRetry is the longest wait between two tries for one device.
	maxKeyRetry = 30 * time.Second
	// repeatKey is how long after a key was delivered it is sent once more. What a homeserver has taken may still get lost, and a guest that
	// lacks a key can neither say so nor be seen to lack it.
	repeatKey = 3 * time.Second
)

// ownKey is a key of ours. serial counts without wrapping.
type ownKey struct {
	serial   uint64
	index    uint8
	material []byte
	created  time.Time
}

// target is a device that gets our keys.
type target struct {
	device   bot.Device
	created  time.Time
	have     uint64 // serial of the last key that was delivered
	sending  uint64 // serial of the key on its way, 0 for none
	holds    bool   // it has, or may have, a key by which it follows us now
	exposed  bool   // it may know a key, also one from before it came again
	withheld bool   // it was said that it gets none
	tries    int
	retryAt  time.Time
	repeatAt time.Time // when the key that it has is sent once more, zero for not again
}

// rollout decides when own keys are made, who gets them and when they are used (protocol sheet, 4.4). It is pure.
type rollout struct {
	newKey  func() []byte
	current ownKey    // the key that is given out
	useAt   time.Time // when current is used; zero: it is in use already
	rotate  bool      // someone has left while a key waited for its use
	targets map[bot.Device]*target
}

// newRollout makes the first key, which is used at once.
func newRollout(now time.Time, newKey func() []byte) *rollout {
	return &rollout{newKey: newKey, current: ownKey{serial: 1, index: firstKey, material: newKey(), created: now}, targets: make(map[bot.Device]*target)}
}

// setMembers takes the present members.
func (r *rollout) setMembers(now time.Time, members []Member) {
	gone, came := false, false
	present := make(map[bot.Device]struct{}, len(members))
	for _, m := range members {
		device := m.device()
		present[device] = struct{}{}
		old := r.targets[device]
		if old != nil && old.created.Equal(m.Created) {
			continue
		}
		// A device that has come again has lost its keys, but is no one who must not read on.
		came = true
		fresh := &target{device: device, created: m.Created}
		if old != nil {
			fresh.exposed, fresh.withheld = old.exposed || old.sending != 0, old.withheld
		}
		r.targets[device] = fresh
	}
	for device, t := range r.targets {
		if _, ok := present[device]; !ok {
			gone = gone || t.exposed || t.sending != 0
			delete(r.targets, device)
		}
	}
	switch {
	case !gone && !came:
	case !r.useAt.IsZero():
		// The newcomers get the key that waits. Who has left must not have the one after it.
		r.rotate = r.rotate || gone
	case gone, came && now.Sub(r.current.created) >= rotationGrace:
		r.renew(now)
	}
}

// renew makes the next key. It is used after a delay, or at once when nobody follows us by an older one.
func (r *rollout) renew(now time.Time) {
	r.rotate = false
	r.current = ownKey{serial: r.current.serial + 1, index: r.current.index + 1, material: r.newKey(), created: now}
	r.useAt = now
	for _, t := range r.targets {
		t.tries, t.retryAt, t.repeatAt = 0, time.Time{}, time.Time{}
		if t.holds || t.sending != 0 {
			r.useAt = now.Add(useKeyLimit)
		}
	}
}

// again gives the present key to everybody once more.
func (r *rollout) again() {
	for _, t := range r.targets {
		if t.have == r.current.serial {
			t.have, t.retryAt = 0, time.Time{}
		}
	}
}

// next says when the present key has to be sent to a target, unless it has it or it is on its way.
func (r *rollout) next(t *target) (at time.Time, ok bool) {
	switch {
	case t.sending != 0:
		return time.Time{}, false
	case t.have == r.current.serial:
		return t.repeatAt, !t.repeatAt.IsZero()
	}
	return t.retryAt, true
}

// due returns the devices that the present key has to be sent to now, and notes that it is on its way to them.
func (r *rollout) due(now time.Time) (targets []*target) {
	for _, t := range r.targets {
		if at, ok := r.next(t); ok && !now.Before(at) {
			t.sending = r.current.serial
			targets = append(targets, t)
		}
	}
	slices.SortFunc(targets, func(a, b *target) int {
		return cmp.Or(cmp.Compare(a.device.User, b.device.User), cmp.Compare(a.device.ID, b.device.ID))
	})
	return targets
}

// sent takes the result of sending to a target of due: whether it was delivered to a member that is still there, and whether it is the
// first time that the device is refused a key for want of trust.
func (r *rollout) sent(now time.Time, t *target, err error) (delivered, withheld bool) {
	serial := t.sending
	t.sending = 0
	if r.targets[t.device] != t {
		return false, false
	}
	repeated := t.have == serial
	if err == nil {
		t.have, t.holds, t.exposed, t.tries, t.repeatAt = serial, true, true, 0, time.Time{}
		if !repeated && serial == r.current.serial {
			t.repeatAt = now.Add(repeatKey)
		}
	} else {
		untrusted := errors.Is(err, bot.ErrUntrusted)
		withheld = untrusted && !t.withheld
		t.withheld = t.withheld || untrusted
		if !untrusted && !errors.Is(err, bot.ErrUnknownDevice) && !errors.Is(err, bot.ErrNoOneTimeKey) {
			t.holds, t.exposed = true, true // the answer may have been lost, not the key
		}
		t.retryAt = now.Add(min(time.Second<<min(t.tries, 10), maxKeyRetry))
		if repeated {
			t.repeatAt = t.retryAt
		}
		t.tries++
	}
	if !r.useAt.IsZero() && !r.sending() {
		if at := now.Add(useKeyDelay); at.Before(r.useAt) {
			r.useAt = at
		}
	}
	return err == nil, withheld
}

// sending says whether the present key is on its way, or about to be for the first time, to someone.
func (r *rollout) sending() bool {
	for _, t := range r.targets {
		if t.sending != 0 || t.have != r.current.serial && t.tries == 0 {
			return true
		}
	}
	return false
}

// use returns the key that has to be used from now on, if that has changed.
func (r *rollout) use(now time.Time) (ownKey, bool) {
	if r.useAt.IsZero() || now.Before(r.useAt) {
		return ownKey{}, false
	}
	r.useAt = time.Time{}
	key := r.current
	if r.rotate {
		r.renew(now)
	}
	return key, true
}

// wake is when use or due have to be asked again, zero for never.
func (r *rollout) wake() time.Time {
	at := r.useAt
	for _, t := range r.targets {
		if next, ok := r.next(t); ok {
			at = earlier(at, next)
		}
	}
	return at
}
