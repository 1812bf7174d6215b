package window

import (
	"slices"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
)

// Identity is somebody whose identity (master key) is not the one that was first seen, and the key that they have now. Somebody who has lost
// their keys, or has set up a window's PC anew, looks like this. So does a homeserver's operator who listens.
type Identity struct {
	Who Person
	Key id.Ed25519
}

// identities are the new identities that are known, and what people at the window said about them.
type identities struct {
	keys map[id.UserID]id.Ed25519
	// asked are the guests who have called with a new identity, the first one first.
	asked []id.UserID
	// answered are the keys about which people have been asked since the shutter was set.
	answered map[id.UserID]id.Ed25519
	// shown is who is on the screen, and since when.
	shown id.UserID
	since time.Time
}

// SetIdentity reports that a user's identity is new, with their present key. An empty key means that it is confirmed, or the first one again.
// A window with a new identity is not called, not answered and gets no key, until somebody at this window confirms it.
func (r *Rules) SetIdentity(user id.UserID, key id.Ed25519) {
	if key == "" {
		delete(r.identities.keys, user)
		r.identities.asked = slices.DeleteFunc(r.identities.asked, func(o id.UserID) bool { return o == user })
	} else {
		r.identities.keys[user] = key
	}
	r.windows.set(r.windows.all, r.renewed)
}

// renewed says whether a user's identity is new.
func (r *Rules) renewed(user id.UserID) bool { return r.identities.keys[user] != "" }

// askLater notes that a guest has called with a new identity.
func (i *identities) askLater(user id.UserID) {
	if !slices.Contains(i.asked, user) && len(i.asked) < maxNamed {
		i.asked = append(i.asked, user)
	}
}

// pending is the new identity to be shown next, nil for none: those of windows first. None is shown while the window is shut, or in a call.
func (r *Rules) pending(now time.Time) *Identity {
	if r.visit != nil || r.effective(now) == directory.Shut || r.knockedAjar() {
		return nil
	}
	var users []id.UserID
	for _, w := range r.windows.all {
		users = append(users, w.Kiosk)
	}
	for _, user := range append(users, r.identities.asked...) {
		if key := r.identities.keys[user]; key != "" && r.identities.answered[user] != key {
			return &Identity{r.windows.person(user), key}
		}
	}
	return nil
}

// advanceIdentities notes who is on the screen.
func (r *Rules) advanceIdentities(now time.Time) {
	user := id.UserID("")
	if p := r.pending(now); p != nil {
		user = p.Who.User
	}
	if r.identities.shown != user {
		r.identities.shown, r.identities.since = user, now
	}
}

// AnswerIdentity reports what somebody at the window said about a new identity that the screen showed: confirmed, or not now. Like a knock, it must
// have been shown for a moment.
func (r *Rules) AnswerIdentity(now time.Time, user id.UserID, key id.Ed25519, confirmed bool) {
	p := r.pending(now)
	if p == nil || p.Who.User != user || p.Key != key || r.identities.shown != user || now.Sub(r.identities.since) < knockGuard {
		return
	}
	r.identities.answered[user] = key
	if confirmed {
		r.outbox.add(Message{Confirm: p})
	}
}
