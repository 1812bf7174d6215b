// Package strangers follows who is at the SFUs of a visit, and finds those whom no membership explains. It keeps no clock: the time is an argument.
// [Participants] belong to one goroutine.
package strangers

import (
	"maps"
	"slices"
	"time"
)

const (
	// Grace is how long a participant may be at the SFU before a membership explains them. Both take different ways, and the membership may pass
	// two homeservers.
	Grace = 10 * time.Second
	// Linger is how long somebody whom no membership ever explained is remembered after they left. It is long enough to be shown for a while:
	// otherwise one who comes and goes all the time would never be shown.
	Linger = 2 * Grace
	// MaxParticipants is how many participants are followed. The media session reports at most 512 at each of five SFUs, so there is always room
	// for those who are there.
	MaxParticipants = 4096
)

// Participants are those who are at the SFUs of a visit, by identity. Nothing proves an identity: the SFU says it.
type Participants map[string]*participant

// participant is somebody at an SFU.
type participant struct {
	since     time.Time // since when no membership explains them, zero while one does
	gone      time.Time // when they left, zero while they are there
	explained bool      // a membership explained them at some time
}

// Advance notes whom memberships explain now, and forgets who is gone.
func (all Participants) Advance(now time.Time, explained map[string]bool) {
	for identity, p := range all {
		switch {
		case explained[identity]:
			p.since, p.explained = time.Time{}, true
		case p.since.IsZero():
			p.since = now
		}
		if !p.gone.IsZero() && (p.explained || !now.Before(p.gone.Add(Linger))) {
			delete(all, identity)
		}
	}
}

// Strangers are the participants to be shown as unknown, in order, at most limit.
func (all Participants) Strangers(now time.Time, limit int) (identities []string) {
	for _, identity := range slices.Sorted(maps.Keys(all)) {
		if p := all[identity]; len(identities) < limit && !p.since.IsZero() && !now.Before(p.since.Add(Grace)) {
			identities = append(identities, identity)
		}
	}
	return identities
}

// Wake calls at with the moments when the strangers change.
func (all Participants) Wake(at func(time.Time)) {
	for _, p := range all {
		if !p.since.IsZero() {
			at(p.since.Add(Grace))
		}
		if !p.gone.IsZero() {
			at(p.gone.Add(Linger))
		}
	}
}

// Arrive notes that somebody is at an SFU.
func (all Participants) Arrive(now time.Time, identity string) {
	p := all[identity]
	if p == nil {
		if len(all) >= MaxParticipants {
			maps.DeleteFunc(all, func(_ string, o *participant) bool { return !o.gone.IsZero() })
		}
		p = &participant{since: now}
		all[identity] = p
	}
	p.gone = time.Time{}
}

// Depart notes that a participant has left, or that this is not known.
func (all Participants) Depart(now time.Time, identity string) {
	if p := all[identity]; p != nil {
		p.gone = now
	}
}
