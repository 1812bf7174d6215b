package window

import (
	"slices"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
)

// windows are the other windows of the network, and what was seen of them.
type windows struct {
	all []directory.Window
	// list are those of them whose identity is not new. Only they are called, answered and shown in a visit.
	list  []directory.Window
	known []id.UserID // the users that are windows or were, as the network remembers them
	// kiosks are these, and the users of all windows that are listed. A kiosk that was removed from the network is never a guest.
	kiosks   map[id.UserID]bool
	openings map[id.RoomID]opening
}

// opening is whether a window is open, and when we saw it open. The time is zero for a window that was open when we first saw it.
type opening struct {
	open bool
	at   time.Time
}

func newWindows() windows { return windows{kiosks: make(map[id.UserID]bool)} }

// set sets all windows. renewed says whose identity is new: these are like kiosks that were removed from the network.
func (w *windows) set(list []directory.Window, renewed func(kiosk id.UserID) bool) {
	w.all = slices.Clone(list)
	w.list = slices.DeleteFunc(slices.Clone(list), func(o directory.Window) bool { return renewed(o.Kiosk) })
	for _, other := range list {
		w.kiosks[other.Kiosk] = true
	}
}

// setKnown says which users are windows or were. The network forgets one when an admin admits its account anew. From then on it may be anybody.
func (w *windows) setKnown(kiosks []id.UserID) {
	for _, user := range w.known {
		delete(w.kiosks, user)
	}
	w.known = slices.Clone(kiosks)
	for _, user := range w.known {
		w.kiosks[user] = true
	}
	for _, other := range w.all {
		w.kiosks[other.Kiosk] = true
	}
}

// in is the window whose room this is.
func (w *windows) in(room id.RoomID) (directory.Window, bool) {
	for _, other := range w.list {
		if other.Room == room {
			return other, true
		}
	}
	return directory.Window{}, false
}

// of is the window whose kiosk this user is.
func (w *windows) of(user id.UserID) (directory.Window, bool) {
	for _, other := range w.list {
		if other.Kiosk == user {
			return other, true
		}
	}
	return directory.Window{}, false
}

// mayCall says whether a user's call counts. Only a kiosk that was removed from the network, or whose identity is new, may not call.
func (w *windows) mayCall(user id.UserID) bool {
	_, listed := w.of(user)
	return listed || !w.kiosks[user]
}

// person says who a user is: a window or a guest.
func (w *windows) person(user id.UserID) Person {
	p := Person{Tile: -1, User: user}
	for _, other := range w.all {
		if other.Kiosk == user {
			p.Window = other.Room
		}
	}
	return p
}

// caller is a user in a call.
type caller struct {
	user    id.UserID
	created time.Time // of the newest of the user's memberships
}

// callers are the users who are in a call and may call, in the order in which they came. A user with several devices is listed once.
func (w *windows) callers(members []Member) (list []caller) {
	at := make(map[id.UserID]int)
	for _, member := range members {
		if !w.mayCall(member.User) {
			continue
		}
		i, twice := at[member.User]
		if !twice {
			i = len(list)
			at[member.User] = i
			list = append(list, caller{user: member.User})
		}
		list[i].created = later(list[i].created, member.Created)
	}
	return list
}

// advance notes which windows have opened since the last time.
func (w *windows) advance(now time.Time) {
	openings := make(map[id.RoomID]opening, len(w.list))
	for _, other := range w.list {
		before, known := w.openings[other.Room]
		o := opening{open: other.Shutter == directory.Open, at: before.at}
		if known && o.open && !before.open {
			o.at = now
		}
		openings[other.Room] = o
	}
	w.openings = openings
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
