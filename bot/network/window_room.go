package network

import (
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bot/networkstate"
	"multifactorymodel.org/ewindow/bot/newroom"
	"multifactorymodel.org/ewindow/bot/powerlevels"
)

// windowRequest describes our window's room. All of it is made in one request, so that the room is either complete or does not exist.
func (n *Network) windowRequest(space id.RoomID) *mautrix.ReqCreateRoom {
	return &mautrix.ReqCreateRoom{
		Visibility: "private",
		Preset:     "private_chat",
		Name:       n.cfg.Name,
		InitialState: []*event.Event{
			newroom.State(event.StateJoinRules, "", newroom.OpenTo(space)),
			newroom.State(event.StateHistoryVisibility, "", &event.HistoryVisibilityEventContent{HistoryVisibility: event.HistoryVisibilityJoined}),
			newroom.State(event.StateGuestAccess, "", &event.GuestAccessEventContent{GuestAccess: event.GuestAccessForbidden}),
			newroom.State(event.StateEncryption, "", &event.EncryptionEventContent{
				// Windows delete keys after a day, so keys must not be in use for longer.
				Algorithm: id.AlgorithmMegolmV1, RotationPeriodMillis: (12 * time.Hour).Milliseconds(),
			}),
			newroom.State(event.StateSpaceParent, string(space), &event.SpaceParentEventContent{
				Via: []string{n.cfg.Bot.ServerName()}, Canonical: true,
			}),
			newroom.State(networkstate.TypeWindow, "", n.initialWindow()),
		},
		PowerLevelOverride: powerlevels.Window("", nil, networkstate.TypeWindow, networkstate.TypeGone),
	}
}

// initialWindow is the window event of a new room. The shutter in it is shut. The state that SetState has set is sent right after the room was
// made.
func (n *Network) initialWindow() *networkstate.Window {
	return &networkstate.Window{Version: networkstate.Version, Kiosk: n.cfg.Bot.UserID(), Shutter: directory.Shut, City: n.cfg.City}
}
