package window

import (
	"maps"
	"slices"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
)

// Plan is what the program should do now: call, media, screen and announcement. It is a copy: changing it changes nothing in the rules.
type Plan struct {
	// Visit is the number of the visit, 0 for none. Room is the room whose call to be in. Peer is the other window's room, empty when there
	// are only guests, and Kiosk is the other window's user.
	Visit      uint64
	Room, Peer id.RoomID
	Kiosk      id.UserID
	// Members are the participants to be received, the other window first. Stale members are at the end, so that the media session reports
	// when they come back.
	Members []Member
	// Named are those whom the screen names as people who see us, and so exactly those whose devices get our media key. Those in [View.Unseen] are
	// not among them.
	Named []Member
	// Strangers are participants at the SFU whom no membership explains, for the log. There may be more.
	Strangers []string
	// Hushed are those of the members who are not heard here, because only others may talk.
	Hushed []id.UserID
	// Send says that frames may be sent. Sound says that sound may be sent although the picture is held back. Camera says that the page's camera is on
	// and not held back; if not, the SFU is told "muted".
	Send, Sound, Camera bool
	// Unseen grows by one each time that the others were not seen for a while. They may lack our key.
	Unseen int
	// Ring says whom to ring, nil for nobody. Ringing begins when the call in Room, which is our own room then, has been entered.
	Ring *Ring

	// View is what people see.
	View View
	// Own is our own room. Announce is our state for the network. It is to be announced only while Settled is true.
	Own      id.RoomID
	Announce directory.State
	Settled  bool

	// Wake is when the plan changes without a new fact. Call Advance then. Zero means never.
	Wake time.Time
}

// Ring is a notification (MSC4075) that rings the window's people: everybody in its room but us and the kiosks.
type Ring struct {
	// Number is for [Rules.Rang]. It grows.
	Number uint64
	// Kiosks are the users who must not be rung.
	Kiosks []id.UserID
}

// Advance brings everything up to now: it applies the facts that came since the last time, and what has changed with the time. Each
// step relies on those before it:
//
//  1. windows: which ones have just opened, and which ones stay in the visit for a while without a membership;
//  2. ringing: somebody came, or ringing ends. This step comes before the knocks, because a knock during a call is let in at once;
//  3. knocks: who wants in, who gave up, who is let in;
//  4. stale members of the present call, who count as gone in the next steps;
//  5. the call: stay, leave, or enter another one, with the visit's members and the five-second rule;
//  6. guests: whether they must be told why they see nothing, and who of them talks without being seen;
//  7. participants at the SFU whom no membership explains;
//  8. who gets our picture without being seen, for how long;
//  9. new identities, about which people at the window are asked, and emoji to be compared;
//  10. the loss of the other window, which outlives the visit.
func (r *Rules) Advance(now time.Time) {
	r.budgets.Charge(now)
	r.windows.advance(now)
	r.advanceKept(now)
	r.advanceRinging(now)
	r.advanceKnocks(now)
	r.advanceStale(now)
	r.advanceCall(now)
	r.advanceGuests(now)
	r.advanceVoices(now)
	r.advanceParticipants(now)
	r.advanceUnseen(now)
	r.advanceIdentities(now)
	r.advanceComparison(now)
	r.advanceLoss(now)
}

// Plan returns the plan. now is the time of the last Advance. Plan changes nothing.
func (r *Rules) Plan(now time.Time) Plan {
	p := Plan{Own: r.own, View: r.view(now), Announce: r.announcement(now), Settled: r.joined && !r.settling(now), Wake: r.wake(now)}
	p.Send = p.View.Seen
	// While the picture is held back from guests, the camera counts as muted, too. Otherwise Element would show our last picture for
	// ever. The picture is never held back from windows, because two windows would then wait for each other.
	p.Camera = r.shutter != directory.Shut && r.pageUp && r.cameraFault == "" && !p.View.Held
	v := r.visit
	if v == nil {
		return p
	}
	p.Visit, p.Room, p.Peer, p.Unseen = v.number, v.room, v.peer, v.reciprocity.unseen
	p.Members = append(slices.Clone(v.members), r.members.staleIn(v.room)...)
	p.Named = r.keyed(v)
	p.Sound = r.sound(now, v)
	for _, member := range v.members {
		if v.hushes(member.User) {
			p.Hushed = append(p.Hushed, member.User)
		}
	}
	p.Strangers = v.participants.Strangers(now, maxNamed)
	if w, ok := r.windows.in(v.peer); ok {
		p.Kiosk = w.Kiosk
	}
	if r.ringing.on() && v.room == r.own {
		p.Ring = &Ring{Number: r.ringing.now.number, Kiosks: slices.Sorted(maps.Keys(r.windows.kiosks))}
	}
	return p
}

// announcement is our state for the network. Facing is set only when the other window is in the call: while our window waits, third windows
// may still call it.
func (r *Rules) announcement(now time.Time) directory.State {
	s := directory.State{Shutter: r.effective(now), Since: r.openedAt, NoPicture: r.shutter != directory.Shut && r.cameraFault != ""}
	if v := r.visit; v != nil && s.Shutter != directory.Shut && v.peerPresent {
		s.Facing = v.peer
	}
	return s
}

// wake is the next moment at which the plan changes without a new fact.
func (r *Rules) wake(now time.Time) time.Time {
	var next time.Time
	at := func(t time.Time) {
		if t.After(now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if !r.pageUp && !r.pageGoneAt.IsZero() {
		at(r.pageGoneAt.Add(pageGrace))
	}
	if !r.decided {
		at(r.openedAt.Add(pageGrace))
	}
	r.backoffs.Ends(at)
	if r.ringing.on() {
		at(r.ringing.now.until)
	}
	at(r.ringing.again)
	at(r.ringing.noteUntil)
	for _, k := range r.knocks.list {
		switch k.state {
		case knockWaits:
			at(k.until)
		case knockLetIn:
			at(k.answered.Add(emptyGrace))
		}
		if !k.inside {
			at(k.expires)
		}
	}
	r.budgets.Wake(at)
	for _, i := range r.renewedOnes() {
		if t, ok := r.tellAt(i); ok {
			at(t)
		}
	}
	for _, list := range r.members.kept {
		for _, k := range list {
			at(k.until)
		}
	}
	if r.loss.peer != "" {
		at(r.loss.at.Add(lostLimit))
	}
	if v := r.visit; v != nil {
		at(v.countdown.ends)
		at(v.countdown.ends.Add(connectLimit))
		at(v.reciprocity.until)
		at(v.turns.next)
		at(v.voices.begins)
		v.participants.Wake(at)
		for _, a := range v.absent {
			at(a.since.Add(StaleAfter))
		}
		if v.waiting() && !v.picture() {
			at(v.reciprocity.next)
		}
		if v.alone {
			at(v.emptyAt.Add(emptyGrace))
			at(v.emptyAt.Add(answerWait))
		}
	}
	return next
}
