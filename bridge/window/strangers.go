package window

import (
	"maps"
	"slices"
	"time"
)

const (
	// StrangerGrace is how long a participant may be at the SFU before a membership explains them. Both take different ways, and the membership
	// may pass two homeservers.
	StrangerGrace = 10 * time.Second
	// strangerLinger is how long somebody whom no membership ever explained is remembered after they left. It is long enough to be shown for a
	// while: otherwise one who comes and goes all the time would never be shown.
	strangerLinger = 2 * StrangerGrace
	// maxParticipants is how many participants are followed. The media session reports at most 512 at each of five SFUs, so there is always room
	// for those who are there.
	maxParticipants = 4096
)

// participants are those who are at the SFUs of a visit, by identity. Nothing proves an identity: the SFU says it.
type participants map[string]*participant

// participant is somebody at an SFU.
type participant struct {
	since     time.Time // since when no membership explains them, zero while one does
	gone      time.Time // when they left, zero while they are there
	explained bool      // a membership explained them at some time
}

// advanceParticipants notes whom the memberships of the visit's call explain, and forgets who is gone.
func (r *Rules) advanceParticipants(now time.Time) {
	v := r.visit
	if v == nil {
		return
	}
	known := r.explained(v)
	for identity, p := range v.participants {
		switch {
		case known[identity]:
			p.since, p.explained = time.Time{}, true
		case p.since.IsZero():
			p.since = now
		}
		if !p.gone.IsZero() && (p.explained || !now.Before(p.gone.Add(strangerLinger))) {
			delete(v.participants, identity)
		}
	}
}

// explained are the names that the members of the visit's call have at SFUs. The screen names or counts all of them. Stale members, and a kiosk
// that was removed from the network, are not on the screen, and explain nobody.
func (r *Rules) explained(v *visit) map[string]bool {
	known := make(map[string]bool)
	for _, member := range r.members.in(v.room) {
		if r.windows.mayCall(member.User) {
			known[member.Identity], known[member.Alias] = true, true
		}
	}
	delete(known, "") // stands for participants who are too many to be told apart
	return known
}

// strangers are the participants to be shown as unknown, in order, at most as many as are named.
func (v *visit) strangers(now time.Time) (identities []string) {
	for _, identity := range slices.Sorted(maps.Keys(v.participants)) {
		if p := v.participants[identity]; len(identities) < maxNamed && !p.since.IsZero() && !now.Before(p.since.Add(StrangerGrace)) {
			identities = append(identities, identity)
		}
	}
	return identities
}

// wakeStrangers calls at with the moments when the strangers change.
func (v *visit) wakeStrangers(at func(time.Time)) {
	for _, p := range v.participants {
		if !p.since.IsZero() {
			at(p.since.Add(StrangerGrace))
		}
		if !p.gone.IsZero() {
			at(p.gone.Add(strangerLinger))
		}
	}
}

// ParticipantArrived reports that somebody is at one of the SFUs where the visit's media are. If their membership was stale, they are back.
func (r *Rules) ParticipantArrived(now time.Time, visit uint64, identity string) {
	v := r.visitNumber(visit)
	if v == nil {
		return
	}
	r.RemoteBack(visit, identity)
	p := v.participants[identity]
	if p == nil {
		if len(v.participants) >= maxParticipants {
			maps.DeleteFunc(v.participants, func(_ string, o *participant) bool { return !o.gone.IsZero() })
		}
		p = &participant{since: now}
		v.participants[identity] = p
	}
	p.gone = time.Time{}
}

// ParticipantDeparted reports that a participant has left the SFUs, or that this is not known.
func (r *Rules) ParticipantDeparted(now time.Time, visit uint64, identity string) {
	if v := r.visitNumber(visit); v != nil && v.participants[identity] != nil {
		v.participants[identity].gone = now
	}
}
