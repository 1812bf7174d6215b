package network

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"go.mau.fi/util/jsontime"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bot/plain"
)

// peer is another account of the network that announces a window's room.
type peer struct {
	kiosk id.UserID
	announcement
}

// announcements are what the accounts of the network announce, our own among them. After an upgrade of the Space, an announcement in the old one
// counts until there is one in the new one. Accounts that left are among them.
func (m *model) announcements() map[id.UserID]announcement {
	all := make(map[id.UserID]announcement)
	if m.windows != "" {
		if m.isIn(m.windows) {
			maps.Copy(all, m.rooms[m.windows].announced)
		}
		return all
	}
	for _, space := range slices.Backward(m.chain) {
		maps.Copy(all, m.rooms[space].announced)
	}
	return all
}

// peers are the others that announce a room, sorted by user id. Those that an admin took down are left out, and all if that happened to us.
func (m *model) peers() (list []peer) {
	if m.isDown(m.self) || !m.isWindow() {
		return nil
	}
	all := m.announcements()
	for _, user := range slices.Sorted(maps.Keys(all)) {
		a := all[user]
		r := m.rooms[a.Room]
		if user != m.self && a.Room != "" && m.windowMembership(user) == event.MembershipJoin && m.known[user].State == isWindow &&
			!slices.Contains(m.chain, a.Room) && a.Room != m.windows && (r == nil || r.creator != m.self) {
			list = append(list, peer{user, a})
		}
	}
	return list
}

// verdict is the result of judging a joined room that a kiosk announces.
type verdict int

const (
	accepted   verdict = iota // it is the kiosk's window
	incomplete                // it may be: not all of its state is known, or its window event can't be read
	noWindow
)

// judge says whether a joined room is the window of the kiosk that announces it. The kiosk must be the sender of the room's window event, and the
// event must name it. Only somebody with the highest power in the room can send that event.
func (m *model) judge(r *room, kiosk id.UserID) verdict {
	switch w := r.window; {
	case w == nil && (r.windowSender == kiosk || r.windowSender == "" && !r.complete):
		return incomplete
	case w == nil, w.sender != kiosk, w.content.Kiosk != kiosk:
		return noWindow
	}
	return accepted
}

// unclear are the joined rooms whose state has to be fetched: the join did not bring it, and sync may show only a part.
func (m *model) unclear() (rooms []id.RoomID) {
	for _, p := range m.peers() {
		if r := m.rooms[p.Room]; r != nil && r.joined && (!r.complete || r.name == "" && !r.nameless) && !slices.Contains(rooms, p.Room) {
			rooms = append(rooms, p.Room)
		}
	}
	return rooms
}

// directory lists the accepted windows, sorted by name.
func (m *model) directory() []directory.Window {
	list, _ := m.named()
	return list
}

// ownName is what our window's room is called: our name, with something beside it if another window has that name.
func (m *model) ownName() string {
	_, own := m.named()
	return own
}

// named is the directory, and what our own window is called.
func (m *model) named() (list []directory.Window, own string) {
	for _, p := range m.peers() {
		r := m.rooms[p.Room]
		if r == nil || !r.joined || r.upgraded || m.judge(r, p.kiosk) != accepted {
			continue
		}
		c := r.window.content
		w := directory.Window{
			Room: p.Room, Kiosk: p.kiosk, Name: baseName(cmp.Or(r.name, m.called[p.Room]), p.kiosk), City: c.City, Shutter: c.Shutter, Since: jsontime.UMInt(c.Since), NoPicture: c.NoPicture, Facing: c.Facing, Joined: true,
		}
		if r.goneAt != 0 && r.goneBy == p.kiosk {
			w.Gone = jsontime.UMInt(r.goneAt)
		}
		if w.Name == "" {
			w.Name = plain.Clean(p.kiosk.Localpart(), plain.MaxName)
		}
		list = append(list, w)
	}
	own = m.tellApart(list)
	slices.SortFunc(list, func(a, b directory.Window) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Room, b.Room))
	})
	return list[:min(len(list), maxWindows)], own
}

// baseName is a window's name without what its kiosk puts beside it in the room's name, see tellApart.
func baseName(name string, kiosk id.UserID) string {
	for _, beside := range []string{kiosk.String(), kiosk.Homeserver()} {
		if short, ok := strings.CutSuffix(name, " ("+beside+")"); ok && short != "" {
			return short
		}
	}
	return name
}

// tellApart puts the server's name beside the names that several windows have, and the account if that does not tell them apart. It returns the name of
// our own window.
func (m *model) tellApart(list []directory.Window) (own string) {
	const names = 3 // by itself, with the server, with the account
	type entry struct {
		shown [names]string
		level int
	}
	entryOf := func(name string, kiosk id.UserID) entry {
		base := baseName(name, kiosk)
		return entry{shown: [names]string{base, base + " (" + kiosk.Homeserver() + ")", base + " (" + kiosk.String() + ")"}}
	}
	entries := []entry{entryOf(m.name, m.self)}
	for _, w := range list {
		entries = append(entries, entryOf(w.Name, w.Kiosk))
	}
	// Somebody may be called like another one with the server beside the name. So it is looked at once more after each step.
	for range names {
		count := make(map[string]int)
		for _, e := range entries {
			count[strings.ToLower(e.shown[e.level])]++
		}
		for i, e := range entries {
			if count[strings.ToLower(e.shown[e.level])] > 1 {
				entries[i].level = min(e.level+1, names-1)
			}
		}
	}
	for i := range list {
		list[i].Name = entries[i+1].shown[entries[i+1].level]
	}
	if entries[0].level == 0 {
		return m.name
	}
	return entries[0].shown[entries[0].level]
}
