package rtc

import (
	"maunium.net/go/mautrix/event"

	"multifactorymodel.org/ewindow/bot/unstable"
)

// Event types.
var (
	// typeMember is the membership that is sent: a state event, one for each device.
	typeMember = event.Type{Type: unstable.CallMember, Class: event.StateEventType}
	// typeSticky is the membership of Matrix 2.0 mode, a sticky timeline event (MSC4354); only read.
	typeSticky = event.Type{Type: unstable.RTCMember, Class: event.MessageEventType}
	// typeSlot opens and closes a slot for sticky memberships. Its state key is slotID.
	typeSlot = event.Type{Type: unstable.RTCSlot, Class: event.StateEventType}
	// typeKeys carries a media key to one device, Olm-encrypted.
	typeKeys = event.Type{Type: unstable.EncryptionKeys, Class: event.ToDeviceEventType}
	// typeRing tells the people of a room of a call, typeDecline refuses one such event.
	typeRing    = event.Type{Type: unstable.CallNotification, Class: event.MessageEventType}
	typeDecline = event.Type{Type: unstable.CallDecline, Class: event.MessageEventType}
)

// Values and members of contents.
const (
	application  = "m.call"
	roomCall     = "ROOM" // the room's own call, written "" in state events
	slotID       = application + "#" + roomCall
	scopeRoom    = "m.room"
	selectMulti  = "multi_sfu"
	selectOldest = "oldest_membership"
	slotOpen     = "open"

	wellKnownPath = "/.well-known/matrix/client"
	keyTransports = "rtc_transports"
)

// pathDelayed and pathTransports are below /_matrix/client.
var (
	pathDelayed    = parts(unstable.DelayedPath())
	pathTransports = parts(unstable.TransportsPath())
)

// parts makes of a path what mautrix builds addresses of.
func parts(path []string) []any {
	list := make([]any, len(path))
	for i, part := range path {
		list[i] = part
	}
	return list
}
