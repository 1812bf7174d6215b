package window

import (
	"maps"
	"slices"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bridge/window/unseen"
)

// voiceDelay is how long after the press the sound begins. Whoever may not talk has lost the key by then.
const voiceDelay = time.Second

// voices are the guests in a visit who talk without being seen. People at the window let in each one, by a press. Until then such a guest neither hears
// the window nor is heard there. Our picture stays held back.
type voices struct {
	let   map[id.UserID]bool
	asked id.UserID // whom people may let talk next, "" for nobody
	since time.Time // since when they may
	// begins is when the sound goes out, zero while nobody talks.
	begins time.Time
}

// advanceVoices notes who may be let talk, and whether anybody talks.
func (r *Rules) advanceVoices(now time.Time) {
	v := r.visit
	if v == nil {
		return
	}
	named, _ := r.named(v)
	here := func(user id.UserID) bool {
		return slices.ContainsFunc(named, func(m Member) bool { return m.User == user })
	}
	maps.DeleteFunc(v.voices.let, func(user id.UserID, _ bool) bool { return !here(user) })
	held, asked := r.heldBack(now, v), id.UserID("")
	if held && len(v.voices.let) < unseen.MaxBudgets {
		for _, member := range named {
			_, kiosk := r.windows.of(member.User)
			if !kiosk && !v.voices.let[member.User] && !slices.Contains(v.withheld, member.User) {
				asked = member.User
				break
			}
		}
	}
	if asked != v.voices.asked {
		v.voices.asked, v.voices.since = asked, now
	}
	switch talks := held && len(v.voices.let) > 0; {
	case !talks:
		v.voices.begins = time.Time{}
	case v.voices.begins.IsZero():
		v.voices.begins = now.Add(voiceDelay)
	}
}

// LetTalk reports that somebody at the window lets a guest talk without a picture. Like a knock, the question must have been shown for a moment.
func (r *Rules) LetTalk(now time.Time, user id.UserID) {
	if v := r.visit; v != nil && user != "" && v.voices.asked == user && now.Sub(v.voices.since) >= knockGuard {
		v.voices.let[user] = true
	}
}

// hushes says whether somebody neither hears the window nor is heard there, because others talk and they may not.
func (v *visit) hushes(user id.UserID) bool { return !v.voices.begins.IsZero() && !v.voices.let[user] }

// sound says whether our sound goes out although the picture is held back.
func (r *Rules) sound(now time.Time, v *visit) bool {
	return !v.voices.begins.IsZero() && !now.Before(v.voices.begins) && r.pageUp && r.cameraFault == "" && r.heldBack(now, v)
}
