package window

import (
	"time"

	"multifactorymodel.org/ewindow/bridge/window/strangers"
)

// StrangerGrace is how long a participant may be at the SFU before a membership explains them.
const StrangerGrace = strangers.Grace

// advanceParticipants notes whom the memberships of the visit's call explain, and forgets who is gone.
func (r *Rules) advanceParticipants(now time.Time) {
	if v := r.visit; v != nil {
		v.participants.Advance(now, r.explained(v))
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

// ParticipantArrived reports that somebody is at one of the SFUs where the visit's media are. If their membership was stale, they are back.
func (r *Rules) ParticipantArrived(now time.Time, visit uint64, identity string) {
	if v := r.visitNumber(visit); v != nil {
		r.RemoteBack(visit, identity)
		v.participants.Arrive(now, identity)
	}
}

// ParticipantDeparted reports that a participant has left the SFUs, or that this is not known.
func (r *Rules) ParticipantDeparted(now time.Time, visit uint64, identity string) {
	if v := r.visitNumber(visit); v != nil {
		v.participants.Depart(now, identity)
	}
}
