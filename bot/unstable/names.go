// Package unstable holds every name of Matrix that no released specification has yet: event types, members of contents, features,
// paths and error codes. When a proposal is accepted, or one of its names changes, this file changes and no other.
//
// A name is written here as Element's clients and the homeservers write it today. The newest text of the proposal may have another
// one. The tags of Go's structs cannot refer to a constant, so a few names are repeated in such tags.
//
// The package has only constants and imports nothing, so that anything may import it.
package unstable

// MSC3401, native group calls. MatrixRTC replaced it, but still uses its membership event.
const (
	// CallMember is a state event, one for each device that is in a room's call.
	CallMember = "org.matrix.msc3401.call.member"
	// CallMemberStable is the name that it may get when the proposal is accepted. Rooms allow both in their power levels.
	CallMemberStable = "m.call.member"
	// CallIntent is a member of memberships and notifications: "audio" or "video".
	CallIntent = "m.call.intent"
)

// MSC4143, MatrixRTC: members, slots, transports, and media keys as Element Call sends them.
const (
	// RTC is the feature in unstable_features of /versions.
	RTC = "org.matrix.msc4143"
	// Application is the application of a membership that is a call.
	Application = "m.call"
	// RoomCall names the room's own call. State events write it as "".
	RoomCall = "ROOM"
	// RoomSlot is the id of the slot of the room's own call.
	RoomSlot = Application + "#" + RoomCall
	// SlotOpen is the status of an open slot.
	SlotOpen = "open"
	// ScopeRoom is the scope of a membership that is a state event.
	ScopeRoom = "m.room"
	// FocusMultiSFU and FocusOldestMember are values of focus_selection: a device publishes at its own focus, or at the focus of
	// the member that has been in the call longest.
	FocusMultiSFU     = "multi_sfu"
	FocusOldestMember = "oldest_membership"
	// RTCMember is the membership in the Matrix 2.0 mode of Element Call, a sticky event of the timeline.
	RTCMember = "org.matrix.msc4143.rtc.member"
	// RTCSlot is a state event that opens and closes a room's slot for sticky memberships.
	RTCSlot = "org.matrix.msc4143.rtc.slot"
	// RTCFoci is the member of .well-known/matrix/client that lists a homeserver's transports.
	RTCFoci = "org.matrix.msc4143.rtc_foci"
	// RTCTransports is the same member in the homeserver's answer at TransportsPath.
	RTCTransports = "rtc_transports"
	// EncryptionKeys carries a media key to one device, Olm-encrypted.
	EncryptionKeys = "io.element.call.encryption_keys"
)

// TransportsPath returns the parts of the path of a homeserver's transports (MSC4143), below /_matrix/client.
func TransportsPath() []string { return []string{"unstable", RTC, "rtc", "transports"} }

// MSC4195, MatrixRTC over LiveKit: what transports say, and the paths of the MatrixRTC authorisation service, below livekit_service_url.
const (
	// TransportLiveKit is the type of a transport. TransportLiveKitStable is the name that it has in the newest text.
	TransportLiveKit       = "livekit"
	TransportLiveKitStable = "m.livekit"
	// ServiceURL is the member of a transport that names the authorisation service. TransportURL is its name in the newest text.
	ServiceURL   = "livekit_service_url"
	TransportURL = "url"
	// TokenPath gives a token whose identity is user:device.
	TokenPath = "/sfu/get"
	// HashedTokenPath gives a token whose identity is a hash.
	HashedTokenPath = "/get_token"
)

// SFUTokenPath returns the parts of a path below /_matrix/client that no proposal has: a device asks its homeserver for access to the SFU with its
// access token. The newest text of MSC4195 has the same under another path, with a hashed identity, which does not fit memberships that are
// state events.
func SFUTokenPath() []string {
	return []string{"unstable", "org.multifactorymodel.ewindow", "sfu_token"}
}

// MSC4140, delayed events.
const (
	// Delayed is the feature in unstable_features of /versions.
	Delayed = "org.matrix.msc4140"
	// Delay is the parameter of PUT …/send and …/state: how long to wait, in milliseconds.
	Delay = "org.matrix.msc4140.delay"
	// DelayMS is the same in the body of PUT …/delayed_event.
	DelayMS = "delay_ms"
	// DelayedErrcode is the member of a refusal that holds the reason, when errcode is M_UNKNOWN.
	DelayedErrcode = "org.matrix.msc4140.errcode"
	// DelayedMaxDelay is the member of a refusal that holds the longest delay that the server allows, in milliseconds.
	DelayedMaxDelay = "org.matrix.msc4140.max_delay"
	// CodeDelayTooLong and CodeTooManyDelayed are reasons in DelayedErrcode.
	CodeDelayTooLong   = "M_MAX_DELAY_EXCEEDED"
	CodeTooManyDelayed = "M_MAX_DELAYED_EVENTS_EXCEEDED"
	// DelayRestart, DelaySend and DelayCancel are the actions on a delayed event.
	DelayRestart = "restart"
	DelaySend    = "send"
	DelayCancel  = "cancel"
)

// SchedulePath returns the parts of the path below /_matrix/client at which an event is scheduled (MSC4140). The body has DelayMS, the content and, for a
// state event, the state key. Servers had the parameter Delay of PUT …/send and …/state before, and may refuse it some day.
func SchedulePath(room, eventType, txn string) []string {
	return []string{"unstable", Delayed, "rooms", room, "delayed_event", eventType, txn}
}

// DelayedPath returns the parts of the path of delayed events (MSC4140), below /_matrix/client.
func DelayedPath() []string { return []string{"unstable", Delayed, "delayed_events"} }

// MSC4354, sticky events.
const (
	// StickyKey is the member of a content by which the sticky events of one sender and type replace each other. StickyKeyStable is the
	// name that it gets when the proposal is accepted.
	StickyKey       = "msc4354_sticky_key"
	StickyKeyStable = "sticky_key"
)

// MSC4075 and MSC4310, ringing and declining.
const (
	// CallNotification tells the people of a room that there is a call. It may make their devices ring.
	CallNotification = "org.matrix.msc4075.rtc.notification"
	// CallDecline refuses one notification.
	CallDecline = "org.matrix.msc4310.rtc.decline"
)
