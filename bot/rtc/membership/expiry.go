package membership

import (
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/rtc/transport"
	"multifactorymodel.org/ewindow/bot/unstable"
)

// When memberships expire, and when ours is refreshed.
const (
	// defaultExpiry is how long a membership that is a state event counts, when it does not say so itself.
	defaultExpiry = 4 * time.Hour
	// maxExpiry limits how far in the future a membership may expire, so that times can be added without overflow.
	maxExpiry = 100 * 365 * 24 * time.Hour

	// refreshAfter is when our first membership is sent again, refreshEvery when the later ones are.
	refreshAfter = time.Hour - 5*time.Second
	refreshEvery = time.Hour
	// noLeaveExpiry and noLeaveRefresh are for homeservers without delayed events. On these, only the expiry removes a kiosk that has lost its
	// connection, so the expiry must be near.
	noLeaveExpiry  = 10 * time.Minute
	noLeaveRefresh = 5 * time.Minute
)

// stateContent is the content of our membership, a state event.
type stateContent struct {
	Application string            `json:"application"`
	CallID      string            `json:"call_id"`
	Scope       string            `json:"scope"`
	Device      id.DeviceID       `json:"device_id"`
	ID          string            `json:"membershipID"`
	Expires     int64             `json:"expires"` // ms after created_ts, or after the event was sent
	Created     int64             `json:"created_ts,omitempty"`
	Intent      string            `json:"m.call.intent,omitempty"`
	Active      focusActive       `json:"focus_active"`
	Preferred   []liveKitLocation `json:"foci_preferred"`
}

type focusActive struct {
	Type      string `json:"type"`
	Selection string `json:"focus_selection"`
}

type liveKitLocation struct {
	Type    string    `json:"type"`
	Service string    `json:"livekit_service_url"`
	Alias   id.RoomID `json:"livekit_alias"`
}

// StateKey is the state key of a device's membership in a room's own call. It begins with an underscore because a key that begins with @
// must be the sender's user id.
func StateKey(self bot.Device) string {
	return "_" + self.User.String() + "_" + self.ID.String() + "_" + unstable.Application
}

// content is the content of the membership that has to be sent now.
func (m *manager) content(now time.Time) stateContent {
	expires := defaultExpiry
	update := m.created != 0
	switch {
	case m.delayID == "" && update:
		expires = now.Sub(m.firstSent) + noLeaveExpiry
	case m.delayID == "":
		expires = noLeaveExpiry
	case update:
		expires = max(defaultExpiry*time.Duration(m.updates+2), now.Sub(m.firstSent)+defaultExpiry)
	}
	// A homeserver makes no new event if the state has the same content already. So a renewed membership has to differ.
	expires += time.Duration(m.renewals) * time.Second
	return stateContent{
		Application: unstable.Application, Scope: unstable.ScopeRoom, Device: m.self.ID, ID: transport.Identity(m.self.User, m.self.ID),
		Expires: expires.Milliseconds(), Created: m.created, Intent: m.intent,
		Active:    focusActive{unstable.TransportLiveKit, unstable.FocusMultiSFU},
		Preferred: []liveKitLocation{{unstable.TransportLiveKit, m.service, m.room}},
	}
}

// refreshPeriod is when the membership that was sent now has to be sent again.
func (m *manager) refreshPeriod(first bool) time.Duration {
	switch {
	case m.delayID == "":
		return noLeaveRefresh
	case first:
		return refreshAfter
	}
	return refreshEvery
}
