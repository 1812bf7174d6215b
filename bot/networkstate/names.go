// Package networkstate has the state events of a network: their names, and their contents as kiosks, hubs and admins read and write them. What is read
// is within the limits of package plain; what can't be read counts as empty, or is an error.
package networkstate

import "maunium.net/go/mautrix/event"

// prefix of our own events. Every name with it is in this file.
const prefix = "org.multifactorymodel.ewindow."

// Version of the events' contents. Later versions may only add members (JSON).
const Version = 1

var (
	// TypeWindow describes one window. It is state of the window's room, with an empty key. State is not encrypted.
	TypeWindow = event.Type{Type: prefix + "window", Class: event.StateEventType}
	// TypeRoom says which room is the window's of a kiosk. It is state of the room of the network's windows, or of the Space of a network that has no
	// such room. Its key is the kiosk's user id: homeservers refuse a key that is another user's id, so nobody else can write it.
	TypeRoom = event.Type{Type: prefix + "room", Class: event.StateEventType}
	// TypeGone says that the homeserver has not heard of a window's kiosk for a while. It is state of the window's room, with an empty key. The kiosk leaves
	// it with its homeserver as a delayed event (MSC4140), and takes it back when it is there again.
	TypeGone = event.Type{Type: prefix + "gone", Class: event.StateEventType}
	// TypeNetwork makes a Space (MSC1772) the room of a network, and another room that of its windows. It is state of both, with an empty key.
	TypeNetwork = event.Type{Type: prefix + "network", Class: event.StateEventType}
)

// MemberRoom is a member of a kiosk's own m.room.member event in a Space that does not let it send [TypeRoom], with the same content. Networks of
// earlier versions have such Spaces. Nobody but the user can write this event, either.
const MemberRoom = prefix + "room"

// MemberHub is a member of a hub's own m.room.member event where the windows are announced. true says that it is a hub.
const MemberHub = prefix + "hub"

// Again is a member of our m.room.member and [TypeRoom] events. Its only purpose is that the content differs from the one before: a
// homeserver makes no new event if the content is the same.
const Again = prefix + "again"
