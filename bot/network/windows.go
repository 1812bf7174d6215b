package network

import (
	"cmp"
	"maps"
	"slices"

	"go.mau.fi/util/jsontime"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
)

// verdict is the result of judging a joined room that the Space lists.
type verdict int

const (
	accepted   verdict = iota // it is another window
	incomplete                // it may become one: another user listed it, or its window event can't be read; its kiosk may change both
	noWindow
	kioskMissing // its kiosk is not in the network
)

// judge says whether a joined room that c lists is a window. The sender of its window event must be the kiosk that the event names, that
// kiosk must be in the network, and it, or an admin, must have listed the room.
func (m *model) judge(r *room, c child) verdict {
	switch w := r.window; {
	case w == nil && r.windowSender == c.sender && m.inNetwork(c.sender):
		return incomplete
	case w == nil, w.sender != w.content.Kiosk:
		return noWindow
	case !m.inNetwork(w.sender):
		return kioskMissing
	case c.sender != w.sender && !m.admin(c.sender):
		return incomplete
	}
	return accepted
}

// valid says whether a child of the Space is considered: it is not empty, and its sender is still in the network or an admin.
func (m *model) valid(c child) bool {
	return len(c.via) > 0 && (m.inNetwork(c.sender) || m.admin(c.sender))
}

// directory lists the accepted windows, one for each kiosk, sorted by name.
func (m *model) directory() []directory.Window {
	newest := make(map[id.UserID]id.RoomID)
	children := m.children()
	for _, name := range slices.Sorted(maps.Keys(children)) {
		r, c := m.rooms[name], children[name]
		if r == nil || !r.joined || r.upgraded || !m.valid(c) || m.judge(r, c) != accepted || r.window.sender == m.self {
			continue
		}
		old, exists := newest[r.window.sender]
		if !exists || m.rooms[old].window.at < r.window.at {
			newest[r.window.sender] = name
		}
	}
	var list []directory.Window
	for kiosk, name := range newest {
		r := m.rooms[name]
		c := r.window.content
		w := directory.Window{
			Room: name, Kiosk: kiosk, Name: r.name, City: c.City, Shutter: c.Shutter, Since: jsontime.UMInt(c.Since), Facing: c.Facing, Joined: true,
		}
		if w.Name == "" {
			w.Name = clean(kiosk.Localpart(), maxName)
		}
		list = append(list, w)
	}
	slices.SortFunc(list, func(a, b directory.Window) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Room, b.Room))
	})
	return list[:min(len(list), maxWindows)]
}
