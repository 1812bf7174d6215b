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
	var list []directory.Window
	for _, p := range m.peers() {
		r := m.rooms[p.Room]
		if r == nil || !r.joined || r.upgraded || m.judge(r, p.kiosk) != accepted {
			continue
		}
		c := r.window.content
		w := directory.Window{
			Room: p.Room, Kiosk: p.kiosk, Name: cmp.Or(r.name, m.called[p.Room]), City: c.City, Shutter: c.Shutter, Since: jsontime.UMInt(c.Since), Facing: c.Facing, Joined: true,
		}
		if r.goneAt != 0 && r.goneBy == p.kiosk {
			w.Gone = jsontime.UMInt(r.goneAt)
		}
		if w.Name == "" {
			w.Name = plain.Clean(p.kiosk.Localpart(), plain.MaxName)
		}
		list = append(list, w)
	}
	m.tellApart(list)
	slices.SortFunc(list, func(a, b directory.Window) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Room, b.Room))
	})
	return list[:min(len(list), maxWindows)]
}

// tellApart puts the server's name beside the names that several windows have, ours among them. If these are of one server, it is the account.
func (m *model) tellApart(list []directory.Window) {
	type name struct{ name, server string }
	names, accounts := make(map[string]int), make(map[name]int)
	count := func(shown string, kiosk id.UserID) {
		shown = strings.ToLower(shown)
		names[shown]++
		accounts[name{shown, kiosk.Homeserver()}]++
	}
	count(m.name, m.self)
	for _, w := range list {
		count(w.Name, w.Kiosk)
	}
	for i, w := range list {
		shown, server := strings.ToLower(w.Name), w.Kiosk.Homeserver()
		switch {
		case accounts[name{shown, server}] > 1:
			list[i].Name += " (" + w.Kiosk.String() + ")"
		case names[shown] > 1:
			list[i].Name += " (" + server + ")"
		}
	}
}
