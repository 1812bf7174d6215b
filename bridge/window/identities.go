package window

import (
	"crypto/sha256"
	"encoding/base32"
	"maps"
	"slices"
	"strings"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bridge/notice"
)

// Identity is somebody whose identity (master key) is not the one that was first seen, and the key that they have now. Somebody who has lost
// their keys, or has set up a window's PC anew, looks like this. So does a homeserver's operator who listens.
type Identity struct {
	Who Person
	Key id.Ed25519
}

// Code is what an admin writes into the window's room to confirm this identity: 80 bits of a hash, in four groups of letters and digits. So it is good for
// exactly this key.
func (i Identity) Code() string {
	hash := sha256.Sum256([]byte(string(i.Who.User) + " " + string(i.Key)))
	text := base32.StdEncoding.EncodeToString(hash[:10])
	return strings.Join([]string{text[:4], text[4:8], text[8:12], text[12:]}, "-")
}

// toldIdentity is the new identity that the room was told about, and when.
type toldIdentity struct {
	key id.Ed25519
	at  time.Time
}

// quotes are marks that the notices have around a command, and that people may copy with it.
const quotes = `"“”„«».`

// identities are the new identities that are known, and what people at the window said about them.
type identities struct {
	keys map[id.UserID]id.Ed25519
	// asked are the guests who have called with a new identity, the first one first.
	asked []id.UserID
	// answered are the keys about which people have been asked since the shutter was set.
	answered map[id.UserID]id.Ed25519
	// told is what the room was told about new identities, so that an admin can confirm them there.
	told map[id.UserID]toldIdentity
	// confirming are the keys that are being confirmed.
	confirming map[id.UserID]id.Ed25519
	// shown is who is on the screen, and since when.
	shown id.UserID
	since time.Time
}

// SetIdentity reports that a user's identity is new, with their present key. An empty key means that it is confirmed, or the first one again.
// A window with a new identity is not called, not answered and gets no key, until somebody at this window or an admin confirms it.
func (r *Rules) SetIdentity(user id.UserID, key id.Ed25519) {
	// The first identity may be back without anybody's doing.
	if key == "" && r.identities.confirming[user] != "" {
		r.outbox.add(Message{Notice: notice.Confirmed, User: user})
	}
	if r.identities.confirming[user] != key {
		delete(r.identities.confirming, user)
	}
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
	for _, i := range r.renewedOnes() {
		if r.identities.answered[i.Who.User] != i.Key {
			return &i
		}
	}
	return nil
}

// renewedOnes are the new identities about which people are asked: those of windows, and of guests who have called.
func (r *Rules) renewedOnes() (list []Identity) {
	if len(r.identities.keys) == 0 { // as nearly always
		return nil
	}
	var users []id.UserID
	for _, w := range r.windows.all {
		users = append(users, w.Kiosk)
	}
	for _, user := range append(users, r.identities.asked...) {
		if key := r.identities.keys[user]; key != "" {
			list = append(list, Identity{r.windows.person(user), key})
		}
	}
	return list
}

// tellAt is from when on the room is to be told about a new identity. ok is false if it was told. Somebody may change theirs all the time, so there is at most
// one notice about a user in [noticeEvery].
func (r *Rules) tellAt(i Identity) (at time.Time, ok bool) {
	told, known := r.identities.told[i.Who.User]
	switch {
	case r.own == "" || known && told.key == i.Key:
		return time.Time{}, false
	case known:
		return told.at.Add(noticeEvery), true
	}
	return time.Time{}, true
}

// advanceIdentities notes who is on the screen, and tells the room about new identities.
func (r *Rules) advanceIdentities(now time.Time) {
	for _, i := range r.renewedOnes() {
		if at, ok := r.tellAt(i); ok && !now.Before(at) {
			r.identities.told[i.Who.User] = toldIdentity{i.Key, now}
			r.outbox.add(Message{Notice: notice.NewIdentity, User: i.Who.User, Code: i.Code()})
		}
	}
	maps.DeleteFunc(r.identities.told, func(user id.UserID, told toldIdentity) bool {
		return r.identities.keys[user] != told.key && now.Sub(told.at) >= noticeEvery
	})
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
		r.confirm(*p)
	}
}

func (r *Rules) confirm(i Identity) {
	r.identities.confirming[i.Who.User] = i.Key
	r.outbox.add(Message{Confirm: &i})
}

// Command reports what an admin wrote to the window in a room, see package commands: the code of a new identity confirms it. Unlike people at the window, an
// admin may do so at any time, also while the window is shut. Anything else is answered with what can be written, and with the codes.
func (r *Rules) Command(room id.RoomID, admin id.UserID, words []string) {
	if room != r.own {
		return
	}
	if len(words) != 2 || words[0] != "confirm" {
		r.outbox.add(Message{Notice: notice.Commands, User: admin})
		clear(r.identities.told) // so that the codes come once more
		return
	}
	// After a restart a guest who has called is not known as one who has.
	for user, key := range r.identities.keys {
		if i := (Identity{r.windows.person(user), key}); i.Code() == strings.ToUpper(strings.Trim(words[1], quotes)) {
			r.identities.answered[user] = key
			r.confirm(i)
			return
		}
	}
	r.outbox.add(Message{Notice: notice.NoIdentity, User: admin})
}
