package network

import "maunium.net/go/mautrix/event"

// Our own events. Every name under our prefix stands here and nowhere else.
const prefix = "org.multifactorymodel.ewindow."

// version is that of the events' contents. Later versions may only add.
const version = 1

var (
	// StateWindow describes one window, as state of its room with an empty key. It isn't encrypted.
	StateWindow = event.Type{Type: prefix + "window", Class: event.StateEventType}
	// StateNetwork makes a Space (MSC1772) the room of a network, as state with an empty key.
	StateNetwork = event.Type{Type: prefix + "network", Class: event.StateEventType}
)

// again is a field in our membership and m.space.child that only serves to make a new event of the same meaning.
const again = prefix + "again"
