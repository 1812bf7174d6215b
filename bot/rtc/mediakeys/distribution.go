package mediakeys

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/backoff"
	"multifactorymodel.org/ewindow/bot/rtc/membership"
)

const (
	// useKeyDelay is how long a new key waits between having been sent and being used.
	useKeyDelay = time.Second
	// useKeyLimit is how long a new key waits at most, however slowly it is sent.
	useKeyLimit = 5 * time.Second
	// leaveKeyLimit is how long a new key waits at most when somebody has left.
	leaveKeyLimit = 2 * time.Second
	// rotationGrace is up to which age the present key is given to a new member. An older key is replaced by a new one.
	rotationGrace = 10 * time.Second
	// minKeyRetry and maxKeyRetry are the shortest and the longest wait between two attempts for one device.
	minKeyRetry = time.Second
	maxKeyRetry = 30 * time.Second
	// repeatKey is the time from the delivery of a key until it is sent once more. A homeserver may lose what it has accepted, and a guest that
	// lacks a key has no way to say so.
	repeatKey = 3 * time.Second
)

// Key is a key for media.
type Key struct {
	Index    uint8
	Material []byte
}

// ownKey is a key of ours. serial counts without wrapping.
type ownKey struct {
	Key
	serial  uint64
	created time.Time
}

// Recipient is a device that gets our keys.
type Recipient struct {
	device    bot.Device
	created   time.Time
	delivered uint64 // serial of the last key that was delivered
	sending   uint64 // serial of the key that is under way; 0: none
	hasKey    bool   // it has, or may have, a key with which it can decrypt us now
	hadKey    bool   // it may know a key, perhaps one from before it left and came again
	withheld  bool   // it was reported that the device gets no key
	retry     backoff.Backoff
	retryAt   time.Time
	repeatAt  time.Time // when the delivered key is sent once more; zero: it is not
}

// Failures is how often in a row the present key could not be sent to the recipient.
func (r *Recipient) Failures() int { return r.retry.Failures() }

// newRetry is a back-off without jitter. All devices of a homeserver get their keys in one request, so those that failed together should
// be tried again together.
func newRetry() backoff.Backoff {
	return backoff.Backoff{Min: minKeyRetry / 2, Max: maxKeyRetry, Random: func() float64 { return 1 }}
}

// Device is the device that the key has to be sent to.
func (r *Recipient) Device() bot.Device { return r.device }

// Distribution decides when our keys are made, who gets them and when they are used (MSC4143, as Element Call does it). It does no I/O.
type Distribution struct {
	newKey     func() []byte
	current    ownKey    // the key that is given out
	useAt      time.Time // when current is used; zero: it is in use already
	recipients map[bot.Device]*Recipient
}

// NewDistribution makes the first key, which is used at once.
func NewDistribution(now time.Time) *Distribution { return newDistribution(now, newKey) }

func newDistribution(now time.Time, newKey func() []byte) *Distribution {
	return &Distribution{
		newKey: newKey, current: ownKey{Key: Key{firstIndex, newKey()}, serial: 1, created: now}, recipients: make(map[bot.Device]*Recipient),
	}
}

// Current is the key that is given out. It may not be in use yet.
func (d *Distribution) Current() Key { return d.current.Key }

// SetMembers says which foreign members get our keys. atOnce says that those who got them until now may still be in the call, and receive what
// we send. Then the next key is used at once: the others see nothing until they have it, which takes a moment.
func (d *Distribution) SetMembers(now time.Time, members []membership.Member, atOnce bool) {
	gone, came := false, false
	present := make(map[bot.Device]struct{}, len(members))
	for _, m := range members {
		device := m.BotDevice()
		present[device] = struct{}{}
		old := d.recipients[device]
		if old != nil && old.created.Equal(m.Created) {
			continue
		}
		// A device that has left and come again has lost its keys. It may still decrypt us, so no new key is needed.
		came = true
		fresh := &Recipient{device: device, created: m.Created, retry: newRetry()}
		if old != nil {
			fresh.hadKey, fresh.withheld = old.hadKey || old.sending != 0, old.withheld
		}
		d.recipients[device] = fresh
	}
	for device, r := range d.recipients {
		if _, ok := present[device]; !ok {
			gone = gone || r.hadKey || r.sending != 0
			delete(d.recipients, device)
		}
	}
	switch {
	case !gone && !came:
	case gone && atOnce:
		d.renew(now)
		d.useAt = now
	case gone:
		// Former members may also have a key that waits for its use. It is left out, and the next one takes its turn.
		waiting := d.useAt
		d.renew(now)
		d.useAt = backoff.Earlier(backoff.Earlier(d.useAt, now.Add(leaveKeyLimit)), waiting)
	case !d.useAt.IsZero(): // new members get the key that waits for its use
	case now.Sub(d.current.created) >= rotationGrace:
		d.renew(now)
	}
}

// renew makes the next key. The key is used after a delay, or at once when nobody decrypts us with an older key.
func (d *Distribution) renew(now time.Time) {
	d.current = ownKey{Key: Key{d.current.Index + 1, d.newKey()}, serial: d.current.serial + 1, created: now}
	d.useAt = now
	for _, r := range d.recipients {
		r.retry.Reset()
		r.retryAt, r.repeatAt = time.Time{}, time.Time{}
		if r.hasKey || r.sending != 0 {
			d.useAt = now.Add(useKeyLimit)
		}
	}
}

// SendAgain gives the present key to everybody once more.
func (d *Distribution) SendAgain() {
	for _, r := range d.recipients {
		if r.delivered == d.current.serial {
			r.delivered, r.retryAt = 0, time.Time{}
		}
	}
}

// next says when the present key has to be sent to a recipient. ok is false when the recipient has the key, or the key is under way.
func (d *Distribution) next(r *Recipient) (at time.Time, ok bool) {
	switch {
	case r.sending != 0:
		return time.Time{}, false
	case r.delivered == d.current.serial:
		return r.repeatAt, !r.repeatAt.IsZero()
	}
	return r.retryAt, true
}

// Due returns the recipients that the present key has to be sent to now, and notes that it is under way to them.
func (d *Distribution) Due(now time.Time) (recipients []*Recipient) {
	for _, r := range d.recipients {
		if at, ok := d.next(r); ok && !now.Before(at) {
			r.sending = d.current.serial
			recipients = append(recipients, r)
		}
	}
	slices.SortFunc(recipients, func(a, b *Recipient) int {
		return cmp.Or(cmp.Compare(a.device.User, b.device.User), cmp.Compare(a.device.ID, b.device.ID))
	})
	return recipients
}

// Sent reports the result of sending to a recipient of Due. delivered says that the key went to a member that is still in the call. withheld
// says that the device was refused a key, for the first time, because it is not trusted.
func (d *Distribution) Sent(now time.Time, r *Recipient, err error) (delivered, withheld bool) {
	serial := r.sending
	r.sending = 0
	if d.recipients[r.device] != r {
		return false, false
	}
	repeated := r.delivered == serial
	if err == nil {
		r.retry.Reset()
		r.delivered, r.hasKey, r.hadKey, r.repeatAt = serial, true, true, time.Time{}
		if !repeated && serial == d.current.serial {
			r.repeatAt = now.Add(repeatKey)
		}
	} else {
		untrusted := errors.Is(err, bot.ErrUntrusted)
		withheld = untrusted && !r.withheld
		r.withheld = r.withheld || untrusted
		if !untrusted && !errors.Is(err, bot.ErrUnknownDevice) && !errors.Is(err, bot.ErrNoOneTimeKey) {
			r.hasKey, r.hadKey = true, true // perhaps the answer was lost, and not the key
		}
		r.retryAt = now.Add(r.retry.Next())
		if repeated {
			r.repeatAt = r.retryAt
		}
	}
	if !d.useAt.IsZero() && !d.sending() {
		if at := now.Add(useKeyDelay); at.Before(d.useAt) {
			d.useAt = at
		}
	}
	return err == nil, withheld
}

// sending says whether the present key is under way to somebody, or about to be sent for the first time.
func (d *Distribution) sending() bool {
	for _, r := range d.recipients {
		if r.sending != 0 || r.delivered != d.current.serial && r.retry.Failures() == 0 {
			return true
		}
	}
	return false
}

// Use returns the key that has to be used from now on. ok is false when the key has not changed.
func (d *Distribution) Use(now time.Time) (key Key, ok bool) {
	if d.useAt.IsZero() || now.Before(d.useAt) {
		return Key{}, false
	}
	d.useAt = time.Time{}
	return d.current.Key, true
}

// Wake is when Use and Due have to be asked again. It is zero when nothing is to come.
func (d *Distribution) Wake() time.Time {
	at := d.useAt
	for _, r := range d.recipients {
		if next, ok := d.next(r); ok && (at.IsZero() || !next.IsZero() && next.Before(at)) {
			at = next
		}
	}
	return at
}
