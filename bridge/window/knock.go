package window

import (
	"slices"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bridge/notice"
)

const (
	// knockTime is how long a knock waits for somebody at the window.
	knockTime = time.Minute
	// knockGuard is how long a knock must have been shown before a press can answer it. Somebody may press just when the screen
	// changes, and mean something else. That must let nobody in.
	knockGuard = 600 * time.Millisecond
	// recentCall is how old a membership may be for its user to count as calling just now.
	recentCall = 15 * time.Minute
	// maxMissed is how many missed knocks are remembered. maxKnocks is how many users may knock at once.
	maxMissed = 3
	maxKnocks = 64
)

type knockState uint8

const (
	knockWaits knockState = iota
	knockLetIn
	knockOver // refused, missed, or already in the call when the window was shut
)

// knock is somebody who called while the window was not open. It lasts until they leave. A second call of the same user is the same
// knock: otherwise a user who was refused could ring for ever.
type knock struct {
	id       uint64
	user     id.UserID
	state    knockState
	until    time.Time // when waiting ends
	shown    time.Time // since when it is the one on the screen
	answered time.Time // when it was let in
	inside   bool      // its membership was seen
	created  time.Time // of the newest membership
	// notification is the call notification (MSC4075) to be declined, "" for none. Without a membership, the knock lasts until the
	// notification expires.
	notification id.EventID
	expires      time.Time
}

// knocks are those who called while the window was not open, the first one first.
type knocks struct {
	list    []*knock
	count   uint64            // how many there were since the start
	shutter directory.Shutter // what others were told the last time
	since   time.Time         // when the shutter was set so
	missed  []Missed          // the newest first
}

// forget drops all knocks, missed ones too. People have come to the window and have seen who knocked.
func (k *knocks) forget() { k.list, k.missed = nil, nil }

func (k *knocks) of(user id.UserID) *knock {
	for _, o := range k.list {
		if o.user == user {
			return o
		}
	}
	return nil
}

func (k *knocks) add(now time.Time, user id.UserID) *knock {
	k.count++
	o := &knock{id: k.count, user: user, until: now.Add(knockTime)}
	k.list = append(k.list, o)
	return o
}

func (k *knocks) drop(o *knock) {
	k.list = slices.DeleteFunc(k.list, func(other *knock) bool { return other == o })
}

// waiting is the knock to be answered next, nil for none.
func (k *knocks) waiting() *knock {
	for _, o := range k.list {
		if o.state == knockWaits {
			return o
		}
	}
	return nil
}

// knockedAjar says whether somebody wants in while the window is ajar, so that people have to answer first.
func (r *Rules) knockedAjar() bool { return r.shutter == directory.Ajar && r.knocks.waiting() != nil }

// admitted says whether somebody who was let in is in our call, or on the way into it.
func (k *knocks) admitted(now time.Time) bool {
	return slices.ContainsFunc(k.list, func(o *knock) bool {
		return o.state == knockLetIn && (o.inside || now.Before(o.answered.Add(emptyGrace)))
	})
}

// letIn lets in everybody who waits. All members of a call get the same key, so everybody in the call sees what the first one sees.
func (k *knocks) letIn(now time.Time) {
	for _, o := range k.list {
		if o.state == knockWaits {
			o.state, o.answered = knockLetIn, now
		}
	}
}

// miss remembers who knocked and when. The shut screen shows it.
func (k *knocks) miss(now time.Time, who Person) {
	k.missed = slices.DeleteFunc(k.missed, func(o Missed) bool { return o.Who == who })
	k.missed = slices.Insert(k.missed, 0, Missed{who, now})
	k.missed = k.missed[:min(len(k.missed), maxMissed)]
}

// notified adds a call notification (MSC4075) to its sender's knock. A caller usually sends a membership and a notification, and either may
// come first. Only the notification can be declined. notified returns the notification to be declined at once, "" for none.
func (k *knocks) notified(now time.Time, sender id.UserID, event id.EventID, expires time.Time) (decline id.EventID) {
	o := k.of(sender)
	switch {
	case o == nil && len(k.list) >= maxKnocks, o != nil && o.notification == event:
		return ""
	case o != nil && o.state == knockOver && !o.inside: // rings again, without ever having been in the call
		k.drop(o)
		o = k.add(now, sender)
	case o == nil:
		o = k.add(now, sender)
	case o.state == knockOver:
		decline = event
	}
	o.notification, o.expires = event, expires
	return decline
}

// CallNotification reports that sender sent a call notification (MSC4075) in a room. It counts until expires.
func (r *Rules) CallNotification(now time.Time, room id.RoomID, sender id.UserID, event id.EventID, expires time.Time) {
	if room != r.own || !r.windows.mayCall(sender) || !now.Before(expires) || r.effective(now) == directory.Open && !r.settling(now) {
		return // an open window answers by itself
	}
	if decline := r.knocks.notified(now, sender, event, expires); decline != "" {
		r.outbox.decline(decline)
	}
}

// AnswerKnock reports what somebody at the window chose for the knock with this id. letIn lets in everybody who waits; false is "not now".
func (r *Rules) AnswerKnock(now time.Time, knock uint64, letIn bool) {
	o := r.knocks.waiting()
	if o == nil || o.id != knock || o.shown.IsZero() || now.Sub(o.shown) < knockGuard || r.effective(now) != directory.Ajar {
		return
	}
	if !letIn {
		r.refuse(now, o, notice.NotNow)
		return
	}
	r.backoffs.Forget(r.own) // a person wants this call, so it need not wait
	r.knocks.letIn(now)
}

// refuse ends a knock. It declines the notification, if there was one, and tells the room why, unless a window knocked.
func (r *Rules) refuse(now time.Time, o *knock, why notice.Notice) {
	o.state = knockOver
	if o.notification != "" {
		r.outbox.decline(o.notification)
	}
	if r.windows.person(o.user).Window == "" {
		r.outbox.tell(now, why, o.user)
	}
}

// advanceKnocks brings the knocks up to now.
func (r *Rules) advanceKnocks(now time.Time) {
	if r.settling(now) {
		return
	}
	k, shutter := &r.knocks, r.effective(now)
	if shutter != k.shutter {
		if shutter == directory.Shut && k.shutter != "" {
			r.endKnocks(now)
		}
		k.shutter, k.since = shutter, now
	}
	if shutter == directory.Open {
		k.list = nil
		return
	}
	callers := r.callers()
	r.dropKnocks(now, callers)
	r.addKnocks(now, callers)
	visiting := r.visit != nil && r.visit.room == r.own
	for _, o := range k.list {
		switch {
		case o.state != knockWaits:
		case shutter == directory.Shut:
			k.miss(now, r.windows.person(o.user))
			r.refuse(now, o, notice.Shut)
		case visiting:
			o.state, o.answered = knockLetIn, now // see letIn
		case !now.Before(o.until):
			k.miss(now, r.windows.person(o.user))
			r.refuse(now, o, notice.Nobody)
		case r.windows.person(o.user).Window == "":
			r.outbox.tell(now, notice.Ajar, o.user)
		}
	}
	if o := k.waiting(); o != nil && o.shown.IsZero() {
		o.shown = now
	}
}

// dropKnocks forgets those who have left, or whose notification has expired without a membership.
func (r *Rules) dropKnocks(now time.Time, callers []caller) {
	k := &r.knocks
	for _, o := range slices.Clone(k.list) {
		i := slices.IndexFunc(callers, func(c caller) bool { return c.user == o.user })
		inside := i >= 0
		gone := o.inside && !inside || !inside && !now.Before(o.expires)
		again := o.inside && inside && callers[i].created.After(o.created) && o.state == knockOver
		if gone && o.state == knockWaits {
			k.miss(now, r.windows.person(o.user))
		}
		if gone || again {
			k.drop(o)
		}
	}
}

// addKnocks adds a knock for each user who has come into the call since the last time.
func (r *Rules) addKnocks(now time.Time, callers []caller) {
	k := &r.knocks
	for _, c := range callers {
		o := k.of(c.user)
		if o == nil {
			if len(k.list) >= maxKnocks {
				continue
			}
			o = k.add(now, c.user)
			_, window := r.windows.of(c.user)
			switch {
			case k.shutter != directory.Shut:
			case !c.created.IsZero() && now.Sub(c.created) > recentCall:
				o.state = knockOver // a membership that was left behind, or somebody who waits in an empty call
			case window && now.Sub(k.since) < expectTime:
				o.state = knockOver // this window began its call while ours was open
			}
		}
		o.inside, o.created = true, later(o.created, c.created)
	}
}

// endKnocks ends all knocks when the window is shut. The users in the call at that moment have not knocked at the shut window.
func (r *Rules) endKnocks(now time.Time) {
	k := &r.knocks
	for _, c := range r.callers() {
		o := k.of(c.user)
		if o == nil && len(k.list) < maxKnocks {
			o = k.add(now, c.user)
			o.state = knockOver
		}
		if o != nil {
			o.inside, o.created = true, later(o.created, c.created)
		}
	}
	for _, o := range k.list {
		if o.state == knockWaits {
			r.refuse(now, o, notice.Shut)
		}
		o.state = knockOver
	}
}
