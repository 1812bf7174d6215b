package membership

import (
	"fmt"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/backoff"
	"multifactorymodel.org/ewindow/bot/matrixerror"
)

const (
	leaveDelay     = 18 * time.Second // from the last restart of the delayed leave until the homeserver removes us
	shortDelay     = 8 * time.Second  // for homeservers that allow less
	leastDelay     = 4 * time.Second  // a shorter one could not be restarted in time
	restartEvery   = 4 * time.Second
	restartRetry   = time.Second
	restartLimited = 5 * time.Second // when a rate limit names no time
	// leastRestartLimit is the shortest time that a restart of the delayed leave may take. With the normal delay it is a sixth of that, so that
	// four attempts fit in before the homeserver removes us.
	leastRestartLimit = 2 * time.Second

	// renewEvery is the shortest time between two renewals of the membership.
	renewEvery = 30 * time.Second
	// restoreEvery is the shortest time between two memberships that replace what others wrote under our state key.
	restoreEvery = 5 * time.Second
	// confirmLimit is how long sync may take to show the membership.
	confirmLimit = 30 * time.Second
	// scheduleTries is how often scheduling the delayed leave is tried before the membership is sent without one.
	scheduleTries = 3

	firstRetry = 250 * time.Millisecond
	lastRetry  = 30 * time.Second
	// lostRetry is the longest wait for a server that cannot be reached. It is short because people, too, wait until the server is back.
	lostRetry = 5 * time.Second
)

// step is a request that the manager wants done.
type step uint8

const (
	stepWait     step = iota
	stepCancel        // cancel a delayed leave of an earlier run
	stepVersions      // ask whether the homeserver has delayed events
	stepSchedule      // schedule the delayed leave
	stepClear         // empty the membership of an earlier run
	stepSend          // send the membership
	stepRestart       // restart the delayed leave
	stepCheck         // ask whether the membership is still in the room's state
	steps
)

// outcome is the result of a step.
type outcome struct {
	delayed bool       // stepVersions: the homeserver has delayed events
	delayID string     // stepSchedule
	event   id.EventID // stepSend, stepClear
	present bool       // stepCheck
	err     error
}

// retry is the back-off of one kind of step.
type retry struct {
	backoff.Backoff
	at time.Time
}

// manager is the membership manager of one call (MSC4143; matrix-js-sdk has the same name for it). It keeps our membership in the room,
// with a delayed leave (MSC4140) that removes it when we can no longer be heard of. It does no I/O: next says what to do, done
// reports the result, and seen reports what sync shows.
type manager struct {
	room    id.RoomID
	self    bot.Device
	service string // own transport; empty while it is not known
	intent  string

	versionsKnown bool // /versions was answered
	delay         time.Duration
	delayID       string
	restartAt     time.Time
	restarted     time.Time // when the homeserver last said that the delayed leave is waiting

	earlier   []string // delayed leaves that may still be waiting, of earlier runs or of an earlier call of this run
	stale     bool     // a membership of an earlier run is in the room
	attempted bool     // a membership may have reached the homeserver
	wanted    bool     // a membership has to be sent
	check     bool     // it is uncertain whether our membership is still there
	rejoining bool     // the next membership makes us join again, after a removal or for a renewal

	cleared   id.EventID // the event that emptied the stale membership
	event     id.EventID // the last membership that was sent
	confirmed bool       // sync has shown it
	replaced  bool       // somebody who may not end it has written under our state key since
	sentAt    time.Time
	created   int64     // origin_server_ts of the first membership since we joined, ms; 0: unknown
	firstSent time.Time // when that membership was sent
	updates   int
	refreshAt time.Time
	renewAt   time.Time // before this time the membership is not renewed again
	renewals  int

	retries [steps]retry
	err     error // why it cannot go on
}

func newManager(room id.RoomID, self bot.Device, intent string, stale bool) *manager {
	m := &manager{room: room, self: self, intent: intent, stale: stale, wanted: true}
	for i := range m.retries {
		m.retries[i].Min = firstRetry
	}
	return m
}

// next returns the next request. With stepWait it returns until when to wait; zero means until something happens.
func (m *manager) next(now time.Time) (step, time.Time) {
	if m.err != nil {
		return stepWait, time.Time{}
	}
	var wake time.Time
	ready := func(s step) bool {
		if at := m.retries[s].at; now.Before(at) {
			wake = backoff.Earlier(wake, at)
			return false
		}
		return true
	}
	after := func(at time.Time) bool {
		if now.Before(at) {
			wake = backoff.Earlier(wake, at)
			return false
		}
		return true
	}
	// A kiosk that was killed and comes back within the delay would otherwise be removed by the delayed leave of its earlier run. After a removal
	// the delayed leave has most likely been sent, and coming back must not wait for a request about it.
	if len(m.earlier) > 0 && !m.rejoining && ready(stepCancel) {
		return stepCancel, wake
	}
	if !m.versionsKnown {
		if ready(stepVersions) {
			return stepVersions, wake
		}
		return stepWait, wake
	}
	if m.check && ready(stepCheck) {
		return stepCheck, wake
	}
	unprotected := m.delay > 0 && m.delayID == ""
	if unprotected && ready(stepSchedule) {
		return stepSchedule, wake
	}
	if m.event != "" && !m.wanted {
		m.wanted = after(m.refreshAt) || !m.confirmed && after(m.sentAt.Add(confirmLimit)) || m.replaced && after(m.sentAt.Add(restoreEvery))
	}
	if m.wanted && m.service != "" && !m.mustWait(now) {
		if m.stale {
			if ready(stepClear) {
				return stepClear, wake
			}
		} else if ready(stepSend) {
			return stepSend, wake
		}
	}
	if m.delayID != "" && after(m.restartAt) && ready(stepRestart) {
		return stepRestart, wake
	}
	return stepWait, wake
}

// mustWait says whether the membership may not be sent yet. The first one, also after a removal, waits for the delayed leave. A later one has the old
// created_ts. After a removal nobody would notice by it that we came back, and nobody would send us keys. So a later one waits until it is certain
// that the homeserver has not removed us meanwhile.
func (m *manager) mustWait(now time.Time) bool {
	switch {
	case !m.attempted || m.rejoining:
		return m.delay > 0 && m.delayID == "" && m.retries[stepSchedule].Failures() < scheduleTries
	case m.created != 0:
		return m.check || m.delayID != "" && now.Sub(m.restarted) >= m.delay/2
	}
	return false
}

// done reports the result of a step that next returned.
func (m *manager) done(now time.Time, s step, o outcome) {
	if (s == stepSend || s == stepClear) && !matrixerror.IsPermanent(o.err) {
		m.attempted = true // also without an answer, since the request may have arrived
	}
	if o.err == nil {
		m.retries[s].Reset()
		m.retries[s].at = time.Time{}
		m.succeeded(now, s, o)
		return
	}
	switch s {
	case stepCancel:
		if matrixerror.IsNotFound(o.err) || matrixerror.IsUnsupported(o.err) || matrixerror.IsPermanent(o.err) {
			m.earlier = m.earlier[1:] // the leave was sent or cancelled already, or it cannot be cancelled
			return
		}
	case stepVersions:
		if matrixerror.IsUnsupported(o.err) {
			m.versionsKnown = true
			return
		}
	case stepSchedule:
		if m.scheduleRefused(o.err) {
			return
		}
	case stepClear, stepSend:
		if matrixerror.IsForbidden(o.err) {
			m.err = &PowerLevelError{m.room}
			return
		}
		if matrixerror.IsPermanent(o.err) {
			m.err = fmt.Errorf("send call membership in %s: %w", m.room, o.err)
			return
		}
	case stepRestart:
		switch {
		case matrixerror.IsNotFound(o.err):
			// The delayed leave was sent or cancelled. If it was sent, sync will show that later, but the homeserver can say it now.
			m.delayID = ""
			m.check = m.event != ""
			return
		case matrixerror.IsUnsupported(o.err):
			m.withoutDelayedLeave()
			return
		}
	case stepCheck:
		if matrixerror.IsNotFound(o.err) {
			m.check = false
			m.removed()
			return
		}
	}
	m.backOff(now, s, o.err)
}

func (m *manager) succeeded(now time.Time, s step, o outcome) {
	switch s {
	case stepCancel:
		m.earlier = m.earlier[1:]
	case stepVersions:
		m.versionsKnown = true
		if o.delayed {
			m.delay = leaveDelay
		}
	case stepSchedule:
		m.delayID, m.restarted = o.delayID, now
		m.restartAt = now.Add(m.restartPeriod())
	case stepClear:
		m.stale, m.cleared = false, o.event
	case stepSend:
		m.sent(now, o.event)
	case stepRestart:
		m.restarted = now
		m.restartAt = now.Add(m.restartPeriod())
	case stepCheck:
		m.check = false
		if !o.present {
			m.removed()
		}
	}
}

// sent notes a membership that the homeserver has accepted.
func (m *manager) sent(now time.Time, event id.EventID) {
	first := m.created == 0
	if first {
		m.firstSent, m.updates = now, 0
	} else if m.delayID != "" && !m.replaced {
		m.updates++
	}
	m.event, m.sentAt, m.confirmed, m.replaced, m.wanted, m.rejoining = event, now, false, false, false, false
	m.refreshAt = now.Add(m.refreshPeriod(first))
	m.restartAt = now // some homeservers cancel the delayed event when another event is sent: find out at once
}

// restartLimit is how long one restart of the delayed leave may take. A homeserver that holds a request would otherwise hold all of them.
func (m *manager) restartLimit() time.Duration { return max(m.delay/6, leastRestartLimit) }

// restartPeriod is less than half of the delay, so that one lost request does no harm.
func (m *manager) restartPeriod() time.Duration {
	return min(restartEvery, m.delay*2/5)
}

// scheduleRefused learns from a refusal what delay the homeserver allows. It returns false when the same request may be tried again.
func (m *manager) scheduleRefused(err error) bool {
	r := matrixerror.Of(err)
	switch {
	case r == nil:
		return false
	case r.MaxDelay >= leastDelay && r.MaxDelay < m.delay:
		m.delay = r.MaxDelay
	case matrixerror.IsDelayTooLong(err) && m.delay > shortDelay && r.MaxDelay == 0:
		m.delay = shortDelay
	case matrixerror.IsDelayTooLong(err), matrixerror.IsUnsupported(err), matrixerror.IsPermanent(err):
		m.withoutDelayedLeave()
	default:
		return false
	}
	return true
}

// withoutDelayedLeave goes on without a delayed leave, with a membership that expires soon.
func (m *manager) withoutDelayedLeave() {
	m.delay, m.delayID = 0, ""
	if m.event != "" {
		m.wanted = true
	}
}

// rejoin begins anew, with a membership without created_ts. It tells everybody that we have joined again, and they send us keys.
func (m *manager) rejoin() {
	m.wanted, m.rejoining, m.confirmed, m.created, m.updates, m.event = true, true, false, 0, 0, ""
}

// removed notes that the homeserver has our membership no more, and begins anew with another delayed leave. The old one has most likely been sent.
// If it is still waiting, it would remove us again, so it is cancelled when we are back.
func (m *manager) removed() {
	if m.delayID != "" {
		m.earlier = append(m.earlier, m.delayID)
		m.delayID = ""
	}
	m.retries[stepSchedule].at, m.retries[stepSend].at = time.Time{}, time.Time{}
	m.rejoin()
}

// renew makes next send a new membership, unless that was done a short time ago. Clients that see it send us their key again. There is no other
// way to get a key that was lost.
func (m *manager) renew(now time.Time) {
	if !m.confirmed || m.check || now.Before(m.renewAt) {
		return
	}
	m.renewAt = now.Add(renewEvery)
	m.renewals++
	m.rejoin()
}

func (m *manager) backOff(now time.Time, s step, err error) {
	r := &m.retries[s]
	r.Max = RetryLimit(err)
	wait := r.Next()
	if s == stepRestart {
		wait = restartRetry
		if r.Failures() > int(leaveDelay/restartRetry) {
			wait = restartEvery // the homeserver has removed us by now; it is enough to see when it is back
		}
	}
	if matrixerror.IsRateLimited(err) {
		refused := matrixerror.Of(err)
		wait = max(wait, refused.RetryAfter)
		if refused.RetryAfter == 0 {
			wait = max(wait, restartLimited)
		}
	}
	r.at = now.Add(wait)
}

// RetryLimit is the longest wait after an error of the homeserver, before the same request is made again.
func RetryLimit(err error) time.Duration {
	if matrixerror.IsUnreachable(err) {
		return lostRetry
	}
	return lastRetry
}

// seen reports the event that sync shows under our state key. present says whether it is a membership of ours. foreign says that it is of
// somebody who may not end our membership. Windows ignore such an event. For others we have to write again what stood there.
func (m *manager) seen(event id.EventID, ts int64, present, foreign bool) {
	switch {
	case m.event == "", event == m.cleared:
	case foreign:
		m.replaced = true
	case event == m.event:
		m.confirmed = true
		if m.created == 0 {
			m.created = ts
		}
	case present:
	case m.confirmed:
		m.removed()
	default:
		// Was this event sent before ours, or after it? The homeserver knows.
		m.check = true
	}
}
