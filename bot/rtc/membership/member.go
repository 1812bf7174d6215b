package membership

import (
	"cmp"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/rtc/transport"
	"multifactorymodel.org/ewindow/bot/unstable"
)

// Member is one device in a call.
type Member struct {
	User   id.UserID
	Device id.DeviceID
	// Identity is the device's name at the SFU: user:device, or a hash for sticky memberships (MSC4195).
	Identity string
	// Alias is another name that the device may have at SFUs where it does not publish. Clients ask some services for a token in the other way
	// (MSC4195).
	Alias string
	// Service is the livekit_service_url where the device publishes, without a trailing slash. It is empty when we can't use any.
	Service string
	// Created is when the device joined the call, but never before the event that we know of was sent. A device that leaves and joins again has a
	// new time.
	Created time.Time
	// Intent is "audio", "video" or, when it is unknown, "".
	Intent string
	// Sticky says that the membership is a sticky event (MSC4354).
	Sticky bool
}

// BotDevice is the member's device as package bot names it.
func (m Member) BotDevice() bot.Device { return bot.Device{User: m.User, ID: m.Device} }

// membership is what one event says about its device.
type membership struct {
	event     id.EventID
	key       string // state key or sticky key
	user      id.UserID
	device    id.DeviceID
	memberID  string
	created   time.Time // not before the event's own time
	claimed   time.Time // when its client says that it was created
	expires   time.Time
	intent    string
	selection string // focus_selection of a state event, else ""
	service   string // its own transport, else ""
	sticky    bool
}

func (m *membership) id() bot.Device { return bot.Device{User: m.user, ID: m.device} }

// identity is the member's name at the SFU.
func (m *membership) identity() string {
	if m.sticky {
		return transport.HashedIdentity(m.user, m.device, m.memberID)
	}
	return transport.Identity(m.user, m.device)
}

// alias is the member's name at an SFU whose service it asked in the other way.
func (m *membership) alias() string {
	if m.sticky {
		return transport.Identity(m.user, m.device)
	}
	return transport.HashedIdentity(m.user, m.device, transport.Identity(m.user, m.device))
}

// owner is whose membership it is, and since when.
func (m *membership) owner() (id.UserID, time.Time) { return m.user, m.created }

// serviceOf is where m publishes. oldest is the membership of the device that has been in the call longest, which may be our own.
func serviceOf(m, oldest *membership) string {
	switch {
	case m.sticky, m.selection == unstable.FocusMultiSFU:
		return m.service
	case m.selection == unstable.FocusOldestMember:
		return oldest.service
	}
	return ""
}

// compareMemberships orders by age, then by name, so that every client has the same order.
func compareMemberships(a, b *membership) int {
	return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.user, b.user), cmp.Compare(a.device, b.device), cmp.Compare(a.key, b.key))
}
