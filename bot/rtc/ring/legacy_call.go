package ring

import (
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/strictjson"
)

const (
	// inviteLife is for a legacy call that does not say how long it rings.
	inviteLife = time.Minute
	// voipVersion is the version of legacy calls that we write (Matrix specification, Voice over IP).
	voipVersion = "1"
	// plainParty is our party id when the device's id has characters that party ids may not have.
	plainParty = "ewindow"
)

// Invite begins a legacy call, from one user to another, without MatrixRTC.
type Invite struct {
	Call     string
	Invitee  id.UserID // "": everybody in the room
	lifetime time.Duration
}

// ParseInvite reads an m.call.invite. Its offer is ignored, and so is its version. Element's clients accept an m.call.reject of version 1 for a
// call of any version. They do not accept the m.call.hangup that version 0 has instead (matrix-js-sdk #2393).
func ParseInvite(content []byte) (i Invite, err error) {
	o, ok := strictjson.Parse(content)
	if !ok {
		return Invite{}, errNotification
	}
	if i.Call, ok = o.Text("call_id", strictjson.MaxName); !ok || i.Call == "" {
		return Invite{}, errNotification
	}
	if o.Has("invitee") {
		user, ok := o.Text("invitee", strictjson.MaxName)
		if !ok {
			return Invite{}, errNotification
		}
		i.Invitee = id.UserID(user)
	}
	if i.lifetime, ok = lifetime(o, inviteLife); !ok {
		return Invite{}, errNotification
	}
	return i, nil
}

// Until is when the call stops ringing, by our clock. See [Notification.Until].
func (i Invite) Until(now time.Time, origin int64, age time.Duration) time.Time {
	return expires(now, origin, age, i.lifetime)
}

// RejectContent is the content of an m.call.reject.
type RejectContent struct {
	Call    string `json:"call_id"`
	Party   string `json:"party_id"`
	Version string `json:"version"`
}

// NewReject rejects a legacy call, as our device.
func NewReject(i Invite, device id.DeviceID) RejectContent {
	return RejectContent{Call: i.Call, Party: partyID(device), Version: voipVersion}
}

// partyID is the name of our device in a legacy call.
func partyID(device id.DeviceID) string {
	name := device.String()
	if name == "" || len(name) > strictjson.MaxName {
		return plainParty
	}
	for _, r := range name {
		switch {
		case r >= '0' && r <= '9', r >= 'A' && r <= 'Z', r >= 'a' && r <= 'z', r == '.', r == '_', r == '~', r == '-':
		default:
			return plainParty
		}
	}
	return name
}
