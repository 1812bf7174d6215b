package bridge

import (
	"slices"

	"go.mau.fi/util/jsontime"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bridge/kiosk"
	"multifactorymodel.org/ewindow/bridge/window"
)

// show sends the page what people see. The page's server sends nothing if nothing has changed.
func (b *Bridge) show(v window.View) {
	n := namer{b.cfg.Directory, v.Windows}
	state := kiosk.State{
		Screen: v.Screen, Name: b.cfg.Name, Shutter: v.Shutter, Since: jsontime.UM(v.Since), CountUntil: v.CountUntil,
		Camera: v.Camera, Send: v.Send, Seen: v.Seen, Held: v.Held, Trials: v.Trials,
		Withheld: n.names(v.Withheld), Renewed: n.names(v.Renewed), Unseen: n.names(v.Unseen), Unshown: n.names(v.Unshown), Talking: n.names(v.Talking), Allowed: n.names(v.Allowed), More: v.More, Stranger: v.Stranger,
		Peer: n.person(v.Peer), Shared: n.person(v.Shared), CanRing: v.CanRing, Windows: v.Windows,
		TestPattern: b.cfg.TestPattern, Languages: slices.Clone(b.cfg.Languages), Timezone: b.cfg.Timezone,
	}
	if b.conn != nil {
		state.Line = string(b.conn.slow)
	}
	for _, p := range v.Guests {
		state.Guests = append(state.Guests, *n.person(&p))
	}
	if v.Voice != nil {
		state.Voice = &kiosk.Voice{User: v.Voice.User, Name: n.name(*v.Voice)}
	}
	if i := v.Identity; i != nil {
		state.Identity = &kiosk.Identity{User: i.Who.User, Key: i.Key, Name: n.name(i.Who), Guest: i.Who.Window == ""}
	}
	if c := v.Comparison; c != nil {
		state.Verify = &kiosk.Verify{ID: c.ID, Name: n.name(c.Who), Symbols: c.Symbols, Names: c.Names}
	}
	if k := v.Knock; k != nil {
		state.Knock = &kiosk.Knock{ID: k.ID, Name: n.name(k.Who), Guest: k.Who.Window == "", Others: n.names(k.Others)}
	}
	if v.Ring != "" {
		state.Ring = &kiosk.Ring{Status: v.Ring, Declined: n.names(v.Declined)}
	}
	for _, o := range v.Missed {
		state.Missed = append(state.Missed, kiosk.Missed{Name: n.name(o.Who), Guest: o.Who.Window == "", At: jsontime.UM(o.At)})
	}
	if v.Fault != "" {
		state.Fault = &kiosk.Fault{Code: v.Fault, Since: jsontime.UM(v.FaultSince)}
		if v.Fault == window.FaultNotJoined || v.Fault == window.FaultRemoved {
			state.Fault.Detail = string(b.cfg.Calls.UserID())
		}
	}
	b.cfg.Screen.SetState(state)
}

// namer finds the names of windows and guests.
type namer struct {
	users   interface{ Name(user id.UserID) string }
	windows []directory.Window
}

// name is a window's own name, or a guest's display name. It is empty for a window that has left the network.
func (n namer) name(p window.Person) string {
	if p.Window == "" {
		return n.users.Name(p.User)
	}
	for _, w := range n.windows {
		if w.Room == p.Window {
			return w.Name
		}
	}
	return ""
}

// user is the name of the window whose kiosk a user is, or of the guest that they are.
func (n namer) user(user id.UserID) string {
	for _, w := range n.windows {
		if w.Kiosk == user {
			return w.Name
		}
	}
	return n.users.Name(user)
}

func (n namer) names(list []window.Person) (names []string) {
	for _, p := range list {
		names = append(names, n.name(p))
	}
	return names
}

// person is nil for nobody.
func (n namer) person(p *window.Person) *kiosk.Person {
	if p == nil {
		return nil
	}
	return &kiosk.Person{Name: n.name(*p), Tile: p.Tile}
}
