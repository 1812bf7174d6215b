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
)

// Values and members of contents.
const (
	application     = "m.call"
	roomCall        = "ROOM" // the room's own call, written "" in state events
	slotID          = application + "#" + roomCall
	scopeRoom       = "m.room"
	focusLiveKit    = unstable.TransportLiveKit
	selectMulti     = "multi_sfu"
	selectOldest    = "oldest_membership"
	slotOpen        = "open"
	keyIntent       = unstable.CallIntent
	keyStickyKey    = unstable.StickyKey
	keyStickyStable = unstable.StickyKeyStable
	keyServiceURL   = unstable.ServiceURL
)

// The homeserver's features, paths and parameters.
const (
	featureDelayed = unstable.Delayed         // in unstable_features of /versions
	paramDelay     = unstable.Delay           // ms, on PUT state
	errcodeDelayed = unstable.DelayedErrcode  // the reason beside M_UNKNOWN
	maxDelay       = unstable.DelayedMaxDelay // ms
	codeTooLong    = unstable.CodeDelayTooLong

	wellKnownPath = "/.well-known/matrix/client"
	wellKnownFoci = unstable.RTCFoci
	keyTransports = "rtc_transports"

	actionRestart = unstable.DelayRestart
	actionSend    = unstable.DelaySend
)

// pathDelayed and pathTransports are below /_matrix/client.
var (
	pathDelayed    = []any{"unstable", unstable.Delayed, "delayed_events"}
	pathTransports = []any{"unstable", unstable.RTC, "rtc", "transports"}
)

// The authorisation service's paths (MSC4195), below livekit_service_url.
const (
	pathToken       = unstable.TokenPath       // identity user:device
	pathTokenHashed = unstable.HashedTokenPath // hashed identity
)
