package rtc

import (
	"fmt"
	"math/rand/v2"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/unstable"
)

const (
	leaveDelay     = 18 * time.Second // how long after the last restart the server removes us
	shortDelay     = 8 * time.Second  // for servers that allow less
	leastDelay     = 4 * time.Second  // less than this could not be kept alive
	restartEvery   = 4 * time.Second
	restartRetry   = time.Second
	restartLimited = 5 * time.Second // when a rate limit names no time

	refreshAfter = time.Hour - 5*time.Second
	refreshEvery = time.Hour
	// Without a delayed leave only the expiry removes us, so that it has to be near.
	shortExpiry  = 10 * time.Minute
	shortRefresh = 5 * time.Minute

	// renewEvery is how often at most the membership is made new for others' keys.
	renewEvery = 30 * time.Second
	// confirmLimit is how long the membership may take to come back by sync.
	confirmLimit = 30 * time.Second
	// scheduleTries is how often a delayed leave is tried before the membership is sent without.
	scheduleTries = 3

	firstRetry = 500 * time.Millisecond
	lastRetry  = 30 * time.Second
	// lostRetry is the longest wait for a server that can't be reached: people wait for its return, too.
	lostRetry = 5 * time.Second
)

// step is what an announcer wants done.
type step uint8

const (
	stepWait     step = iota
	stepCancel        // cancel the delayed leave of an earlier run
	stepVersions      // ask whether the server knows delayed events
	stepSchedule      // schedule the delayed leave
	stepClear         // empty what is left of an earlier run
	stepSend          // send the membership
	stepRestart       // restart the delayed leave
	stepCheck         // ask whether the membership is still there
	steps
)

// outcome is how a step went.
type outcome struct {
	delayed bool       // stepVersions: delayed events are known
	delayID string     // stepSchedule
	event   id.EventID // stepSend, stepClear
	present bool       // stepCheck
	err     error
}

// retry is the back-off of one kind of step.
type retry struct {
	failures int
	at       time.Time
}

// announcer keeps our membership of one call where it should be (protocol sheet, 1.2 to 1.6). It is pure: next says what to do, done
// takes how it went, seen what sync shows.
type announcer struct {
	room    id.RoomID
	self    bot.Device
	service string // own transport; empty as long as it isn't known
	intent  string
	jitter  func(time.Duration) time.Duration

	known     bool // /versions was answered
	delay     time.Duration
	delayID   string
	restartAt time.Time
	alive     time.Time // when the server last said that the delayed leave waits

	before    []string // delayed leaves of earlier runs, or of an earlier call of this one, that may still wait
	stale     bool     // a membership of an earlier run is in the room
	attempted bool     // a membership may have reached the server
	wanted    bool     // a membership has to be sent
	check     bool     // it isn't sure that ours is still there
	again     bool     // ours was gone, and the next one brings us back

	cleared   id.EventID // what emptied it
	event     id.EventID // of the last one that was sent
	confirmed bool       // sync has shown it
	sentAt    time.Time
	created   int64     // origin_server_ts of the first one, ms; 0: unknown
	since     time.Time // when the first one was sent
	updates   int
	refreshAt time.Time
	renewAt   time.Time // when the membership may be made new again
	renewals  int

	retries [steps]retry
	err     error // why it can't go on
}

func newAnnouncer(room id.RoomID, self bot.Device, intent string, stale bool) *announcer {
	return &announcer{
		room: room, self: self, intent: intent, stale: stale, wanted: true,
		jitter: func(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) },
	}
}

// stateKey is where the own membership stands. Its underscore is there since a key that begins with @ would have to be the user's id.
func stateKey(self bot.Device) string {
	return "_" + self.User.String() + "_" + self.ID.String() + "_" + application
}

// memberContent is our membership.
type memberContent struct {
	Application string            `json:"application"`
	CallID      string            `json:"call_id"`
	Scope       string            `json:"scope"`
	Device      id.DeviceID       `json:"device_id"`
	ID          string            `json:"membershipID"`
	Expires     int64             `json:"expires"`
	Created     int64             `json:"created_ts,omitempty"`
	Intent      string            `json:"m.call.intent,omitempty"`
	Active      focusActive       `json:"focus_active"`
	Preferred   []liveKitLocation `json:"foci_preferred"`
}

type focusActive struct {
	Type      string `json:"type"`
	Selection string `json:"focus_selection"`
}

type liveKitLocation struct {
	Type    string    `json:"type"`
	Service string    `json:"livekit_service_url"`
	Alias   id.RoomID `json:"livekit_alias"`
}

// content is the membership as it has to be sent now.
func (a *announcer) content(now time.Time) memberContent {
	expires := defaultExpiry
	update := a.created != 0
	switch {
	case a.delayID == "" && update:
		expires = now.Sub(a.since) + shortExpiry
	case a.delayID == "":
		expires = shortExpiry
	case update:
		expires = max(defaultExpiry*time.Duration(a.updates+2), now.Sub(a.since)+defaultExpiry)
	}
	// Homeservers make no event of what stands there already, so that a renewed one has to differ.
	expires += time.Duration(a.renewals) * time.Second
	return memberContent{
		Application: application, Scope: scopeRoom, Device: a.self.ID, ID: plainIdentity(a.self.User, a.self.ID),
		Expires: expires.Milliseconds(), Created: a.created, Intent: a.intent,
		Active:    focusActive{unstable.TransportLiveKit, selectMulti},
		Preferred: []liveKitLocation{{unstable.TransportLiveKit, a.service, a.room}},
	}
}

// next says what to do now, or until when to wait, zero for until something happens.
func (a *announcer) next(now time.Time) (step, time.Time) {
	if a.err != nil {
		return stepWait, time.Time{}
	}
	var wake time.Time
	ready := func(s step) bool {
		if at := a.retries[s].at; now.Before(at) {
			wake = earlier(wake, at)
			return false
		}
		return true
	}
	after := func(at time.Time) bool {
		if now.Before(at) {
			wake = earlier(wake, at)
			return false
		}
		return true
	}
	// Whoever was killed and is back within the delay would otherwise be removed once more, by what its predecessor has left behind.
	if len(a.before) > 0 && ready(stepCancel) {
		return stepCancel, wake
	}
	if !a.known {
		if ready(stepVersions) {
			return stepVersions, wake
		}
		return stepWait, wake
	}
	if a.check && ready(stepCheck) {
		return stepCheck, wake
	}
	unprotected := a.delay > 0 && a.delayID == ""
	if unprotected && ready(stepSchedule) {
		return stepSchedule, wake
	}
	if a.event != "" && !a.wanted {
		a.wanted = after(a.refreshAt) || !a.confirmed && after(a.sentAt.Add(confirmLimit))
	}
	if a.wanted && a.service != "" && !a.hold(now) {
		if a.stale {
			if ready(stepClear) {
				return stepClear, wake
			}
		} else if ready(stepSend) {
			return stepSend, wake
		}
	}
	if a.delayID != "" && after(a.restartAt) && ready(stepRestart) {
		return stepRestart, wake
	}
	return stepWait, wake
}

// hold says whether the membership has to wait for something else: the first one for the delayed leave, and a later one for being sure
// that we have not been removed meanwhile, since it would then bring us back with the time of before and nobody would send us keys.
func (a *announcer) hold(now time.Time) bool {
	switch {
	case !a.attempted:
		return a.delay > 0 && a.delayID == "" && a.retries[stepSchedule].failures < scheduleTries
	case a.created != 0:
		return a.check || a.delayID != "" && now.Sub(a.alive) >= a.delay/2
	}
	return false
}

// done takes how a step of next went.
func (a *announcer) done(now time.Time, s step, o outcome) {
	if (s == stepSend || s == stepClear) && !hopeless(o.err) {
		a.attempted = true // also without an answer: it may have arrived
	}
	if o.err == nil {
		a.retries[s] = retry{}
		a.succeeded(now, s, o)
		return
	}
	switch s {
	case stepCancel:
		if notFound(o.err) || unsupported(o.err) || hopeless(o.err) {
			a.before = a.before[1:] // it has fired, or was cancelled; or nothing can be done about it
			return
		}
	case stepVersions:
		if unsupported(o.err) {
			a.known = true
			return
		}
	case stepSchedule:
		if a.scheduleRefused(now, o.err) {
			return
		}
	case stepClear, stepSend:
		if forbidden(o.err) {
			a.err = &PowerLevelError{a.room}
			return
		}
		if hopeless(o.err) {
			a.err = fmt.Errorf("send call membership in %s: %w", a.room, o.err)
			return
		}
	case stepRestart:
		switch {
		case notFound(o.err):
			// It has fired, or something has cancelled it. If it fired, sync will show it, but the server knows it now.
			a.delayID = ""
			a.check = a.event != ""
			return
		case unsupported(o.err):
			a.unprotect(now)
			return
		}
	case stepCheck:
		if notFound(o.err) {
			a.check = false
			a.rejoin()
			return
		}
	}
	a.backOff(now, s, o.err)
}

func (a *announcer) succeeded(now time.Time, s step, o outcome) {
	switch s {
	case stepCancel:
		a.before = a.before[1:]
	case stepVersions:
		a.known = true
		if o.delayed {
			a.delay = leaveDelay
		}
	case stepSchedule:
		a.delayID, a.alive = o.delayID, now
		a.restartAt = now.Add(a.restartPeriod())
	case stepClear:
		a.stale, a.cleared = false, o.event
	case stepSend:
		a.sent(now, o.event)
	case stepRestart:
		a.alive = now
		a.restartAt = now.Add(a.restartPeriod())
	case stepCheck:
		a.check = false
		if !o.present {
			a.rejoin()
		}
	}
}

// sent notes a membership that the server has taken.
func (a *announcer) sent(now time.Time, event id.EventID) {
	a.event, a.sentAt, a.confirmed, a.wanted, a.again = event, now, false, false, false
	period := refreshEvery
	if a.created == 0 {
		a.since, a.updates = now, 0
		period = refreshAfter
	} else if a.delayID != "" {
		a.updates++
	}
	if a.delayID == "" {
		period = shortRefresh
	}
	a.refreshAt = now.Add(period)
	a.restartAt = now // some servers cancel a delayed event when another one is sent: see at once whether it is still there
}

// restartPeriod is less than half of the delay, so that one lost request does no harm.
func (a *announcer) restartPeriod() time.Duration {
	return min(restartEvery, a.delay*2/5)
}

// scheduleRefused finds out what the server does take. It returns false when the same may be tried again.
func (a *announcer) scheduleRefused(now time.Time, err error) bool {
	r := reply(err)
	switch {
	case r == nil:
		return false
	case r.MaxDelay >= leastDelay && r.MaxDelay < a.delay:
		a.delay = r.MaxDelay
	case tooLong(err) && a.delay > shortDelay && r.MaxDelay == 0:
		a.delay = shortDelay
	case tooLong(err), unsupported(err), hopeless(err):
		a.unprotect(now)
	default:
		return false
	}
	return true
}

// unprotect goes on without a delayed leave.
func (a *announcer) unprotect(now time.Time) {
	a.delay, a.delayID = 0, ""
	if a.event != "" {
		a.wanted = true
	}
}

// rejoin begins anew: a membership without created_ts, so that everybody sees that we have come again and sends us keys.
func (a *announcer) rejoin() {
	a.wanted, a.again, a.confirmed, a.created, a.updates, a.event = true, true, false, 0, 0, ""
}

// renew makes the membership new where that was not done lately: whoever sees it sends us their key again, which is all that can be done for
// one that was lost.
func (a *announcer) renew(now time.Time) {
	if !a.confirmed || a.check || now.Before(a.renewAt) {
		return
	}
	a.renewAt = now.Add(renewEvery)
	a.renewals++
	a.rejoin()
}

func (a *announcer) backOff(now time.Time, s step, err error) {
	r := &a.retries[s]
	var wait time.Duration
	switch limit := retryLimit(err); {
	case s != stepRestart:
		wait = a.jitter(min(firstRetry<<min(r.failures, 10), limit))
	case r.failures < int(leaveDelay/restartRetry):
		wait = restartRetry
	default:
		wait = restartEvery // it has fired by now; all that matters is to see when the server is back
	}
	if refused := reply(err); refused != nil && refused.Status == 429 {
		wait = max(wait, refused.RetryAfter)
		if refused.RetryAfter == 0 {
			wait = max(wait, restartLimited)
		}
	}
	r.failures++
	r.at = now.Add(wait)
}

// retryLimit is the longest wait after an error.
func retryLimit(err error) time.Duration {
	if unreachable(err) {
		return lostRetry
	}
	return lastRetry
}

// seen takes what sync shows under our state key.
func (a *announcer) seen(event id.EventID, ts int64, present bool) {
	switch {
	case a.event == "", event == a.cleared:
	case event == a.event:
		a.confirmed = true
		if a.created == 0 {
			a.created = ts
		}
	case present:
	case a.confirmed:
		a.rejoin()
	default:
		// Before or after ours? The server knows.
		a.check = true
	}
}
