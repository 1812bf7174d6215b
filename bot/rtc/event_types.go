package rtc

import (
	"maunium.net/go/mautrix/event"

	"multifactorymodel.org/ewindow/bot/unstable"
)

// The types of a call's events. Each needs its class here, since event.NewEventType does not know it.
var (
	// typeMember is a membership that is a state event. It is also what we send.
	typeMember = event.Type{Type: unstable.CallMember, Class: event.StateEventType}
	// typeSticky is a membership that is a sticky event of the timeline (MSC4354). It is only read.
	typeSticky = event.Type{Type: unstable.RTCMember, Class: event.MessageEventType}
	// typeSlot opens and closes a slot for sticky memberships (MSC4143). Its state key is the slot's id.
	typeSlot = event.Type{Type: unstable.RTCSlot, Class: event.StateEventType}
	// typeKeys carries a media key to one device, Olm-encrypted.
	typeKeys = event.Type{Type: unstable.EncryptionKeys, Class: event.ToDeviceEventType}
	// typeRing tells the people of a room that there is a call (MSC4075). typeDecline declines one such event (MSC4310).
	typeRing    = event.Type{Type: unstable.CallNotification, Class: event.MessageEventType}
	typeDecline = event.Type{Type: unstable.CallDecline, Class: event.MessageEventType}
)
