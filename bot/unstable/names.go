// Package unstable holds every name of Matrix that no released specification has yet: event types, members of contents, features, paths
// and error codes. When a proposal lands, or its name moves, this file changes and no other. A name stands here as Element's clients and
// homeservers write it today, which need not be what the proposal's newest text says. The tags of Go's structs can't refer to a constant, so
// that some names stand there, too.
package unstable

// MSC3401, native group calls, of which the membership has stayed.
const (
	// CallMember is a state event, one for each device that is in a room's call.
	CallMember = "org.matrix.msc3401.call.member"
	// CallMemberStable is the name that it may have one day. Rooms allow both in their power levels.
	CallMemberStable = "m.call.member"
	// CallIntent is a member of memberships and notifications: "audio" or "video".
	CallIntent = "m.call.intent"
)

// MSC4143, MatrixRTC: members, slots, transports, and media keys as Element Call sends them.
const (
	// RTC is the feature in unstable_features of /versions.
	RTC = "org.matrix.msc4143"
	// RTCMember is the membership of Matrix 2.0 mode, a sticky event of the timeline.
	RTCMember = "org.matrix.msc4143.rtc.member"
	// RTCSlot is a state event that opens and closes a room's slot for sticky memberships.
	RTCSlot = "org.matrix.msc4143.rtc.slot"
	// RTCFoci is the member of .well-known/matrix/client that lists a homeserver's transports.
	RTCFoci = "org.matrix.msc4143.rtc_foci"
	// EncryptionKeys carries a media key to one device, Olm-encrypted.
	EncryptionKeys = "io.element.call.encryption_keys"
)

// TransportsPath returns the parts of the path of a homeserver's transports (MSC4143), below /_matrix/client.
func TransportsPath() []string { return []string{"unstable", RTC, "rtc", "transports"} }

// MSC4195, MatrixRTC over LiveKit: what transports say, and the authorisation service's paths, below livekit_service_url.
const (
	// TransportLiveKit is the type of a transport.
	TransportLiveKit = "livekit"
	// ServiceURL is the member of a transport that names the authorisation service.
	ServiceURL = "livekit_service_url"
	// TokenPath gives a token whose identity is user:device.
	TokenPath = "/sfu/get"
	// HashedTokenPath gives a token whose identity is a hash.
	HashedTokenPath = "/get_token"
)

// MSC4140, delayed events.
const (
	// Delayed is the feature in unstable_features of /versions.
	Delayed = "org.matrix.msc4140"
	// Delay is the parameter of PUT …/send and …/state: how long to wait, in milliseconds.
	Delay = "org.matrix.msc4140.delay"
	// DelayedErrcode is, in a refusal, the reason beside M_UNKNOWN.
	DelayedErrcode = "org.matrix.msc4140.errcode"
	// DelayedMaxDelay is, in a refusal, the longest delay that is taken, in milliseconds.
	DelayedMaxDelay = "org.matrix.msc4140.max_delay"
	// CodeDelayTooLong and CodeTooManyDelayed are such reasons.
	CodeDelayTooLong   = "M_MAX_DELAY_EXCEEDED"
	CodeTooManyDelayed = "M_MAX_DELAYED_EVENTS_EXCEEDED"
	// DelayRestart, DelaySend and DelayCancel are what can be done with a delayed event.
	DelayRestart = "restart"
	DelaySend    = "send"
	DelayCancel  = "cancel"
)

// DelayedPath returns the parts of the path of delayed events (MSC4140), below /_matrix/client.
func DelayedPath() []string { return []string{"unstable", Delayed, "delayed_events"} }

// MSC4354, sticky events.
const (
	// StickyKey is, in a content, what tells a sender's sticky events of one type apart; StickyKeyStable is its later name.
	StickyKey       = "msc4354_sticky_key"
	StickyKeyStable = "sticky_key"
)

// MSC4075 and MSC4310, ringing and declining.
const (
	// CallNotification tells the people of a room of a call, and may make their devices ring.
	CallNotification = "org.matrix.msc4075.rtc.notification"
	// CallDecline refuses one notification.
	CallDecline = "org.matrix.msc4310.rtc.decline"
)
