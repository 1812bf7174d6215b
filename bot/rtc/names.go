package rtc

import (
	"maunium.net/go/mautrix/event"
)

// Event types.
var (
	// typeMember is the membership that is sent: a state event, one for each device.
	typeMember = event.Type{Type: "org.matrix.msc3401.call.member", Class: event.StateEventType}
	// typeSticky is the membership of Matrix 2.0 mode, a sticky timeline event (MSC4354); only read.
	typeSticky = event.Type{Type: "org.matrix.msc4143.rtc.member", Class: event.MessageEventType}
	// typeSlot opens and closes a slot for sticky memberships. Its state key is slotID.
	typeSlot = event.Type{Type: "org.matrix.msc4143.rtc.slot", Class: event.StateEventType}
	// typeKeys carries a media key to one device, Olm-encrypted.
	typeKeys = event.Type{Type: "io.element.call.encryption_keys", Class: event.ToDeviceEventType}
)

// Values and members of contents.
const (
	application     = "m.call"
	roomCall        = "ROOM" // the room's own call, written "" in state events
	slotID          = application + "#" + roomCall
	scopeRoom       = "m.room"
	focusLiveKit    = "livekit"
	selectMulti     = "multi_sfu"
	selectOldest    = "oldest_membership"
	slotOpen        = "open"
	keyIntent       = "m.call.intent"
	keyStickyKey    = "msc4354_sticky_key"
	keyStickyStable = "sticky_key"
	keyServiceURL   = "livekit_service_url"
)

// The homeserver's features, paths and parameters.
const (
	featureDelayed = "org.matrix.msc4140"           // in unstable_features of /versions
	paramDelay     = "org.matrix.msc4140.delay"     // ms, on PUT state
	errcodeDelayed = "org.matrix.msc4140.errcode"   // the reason beside M_UNKNOWN
	maxDelay       = "org.matrix.msc4140.max_delay" // ms
	codeTooLong    = "M_MAX_DELAY_EXCEEDED"

	wellKnownPath = "/.well-known/matrix/client"
	wellKnownFoci = "org.matrix.msc4143.rtc_foci"
	keyTransports = "rtc_transports"

	actionRestart = "restart"
	actionSend    = "send"
)

// pathDelayed and pathTransports are below /_matrix/client.
var (
	pathDelayed    = []any{"unstable", "org.matrix.msc4140", "delayed_events"}
	pathTransports = []any{"unstable", "org.matrix.msc4143", "rtc", "transports"}
)

// The authorisation service's paths (MSC4195), below livekit_service_url.
const (
	pathToken       = "/sfu/get"   // identity user:device
	pathTokenHashed = "/get_token" // hashed identity
)
