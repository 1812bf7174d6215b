package membership

import (
	"errors"
	"strings"
	"time"
	"unicode"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/rtc/transport"
	"multifactorymodel.org/ewindow/bot/strictjson"
	"multifactorymodel.org/ewindow/bot/unstable"
)

// errMembership is for a content that Element's clients would not accept either.
var errMembership = errors.New("invalid call membership")

// deviceID reads a device id. A colon is refused: with one, the identity of a user's device at the SFU could be that of another user's.
func deviceID(o strictjson.Object, key string) (id.DeviceID, bool) {
	name, ok := o.Text(key, strictjson.MaxName)
	return id.DeviceID(name), ok && name != "" && !strings.ContainsFunc(name, func(r rune) bool { return r == ':' || unicode.IsControl(r) })
}

// parseState reads a membership that sender sent as a state event at ts (ms). It returns nil and no error when the device has left, or
// is in another call than the room's own.
func parseState(sender id.UserID, ts int64, content []byte) (*membership, error) {
	o, ok := strictjson.Parse(content)
	if !ok {
		return nil, errMembership
	}
	if left(o) || o.Has("memberships") {
		return nil, nil
	}
	m := &membership{user: sender}
	app, ok1 := o.Text("application", strictjson.MaxName)
	callID, ok2 := o.Text("call_id", strictjson.MaxName)
	device, ok3 := deviceID(o, "device_id")
	focus, ok4 := o.Object("focus_active")
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return nil, errMembership
	}
	if _, ok := focus.Text("type", strictjson.MaxName); !ok {
		return nil, errMembership
	}
	if app != unstable.Application || callID != "" && callID != unstable.RoomCall {
		return nil, nil
	}
	m.device = device
	m.selection, _ = focus.Text("focus_selection", strictjson.MaxName)
	m.memberID = transport.Identity(sender, device)
	if o.Has("membershipID") {
		if m.memberID, ok = o.Text("membershipID", 2*strictjson.MaxName); !ok {
			return nil, errMembership
		}
	}
	if o.Has("scope") {
		if _, ok := o.Text("scope", strictjson.MaxName); !ok {
			return nil, errMembership
		}
	}
	if m.claimed, ok = created(o, ts); !ok {
		return nil, errMembership
	}
	m.created = m.claimed
	if sent := eventTime(ts); sent.After(m.created) {
		m.created = sent // anybody could claim to be the oldest
	}
	expiry := defaultExpiry
	if o.Has("expires") {
		ms, ok := o.Number("expires")
		if !ok {
			return nil, errMembership
		}
		expiry = time.Duration(max(0, min(ms, float64(maxExpiry.Milliseconds())))) * time.Millisecond
	}
	m.expires = m.claimed.Add(expiry)
	m.intent = intent(o)
	if o.Has("foci_preferred") {
		if m.service, ok = firstTransport(o, "foci_preferred"); !ok {
			return nil, errMembership
		}
	}
	return m, nil
}

// created reads when the device came into the call. Without created_ts that is when the event was sent.
func created(o strictjson.Object, ts int64) (time.Time, bool) {
	if o.Has("created_ts") {
		var ok bool
		if ts, ok = o.Integer("created_ts", strictjson.MaxInteger); !ok {
			return time.Time{}, false
		}
	}
	return eventTime(ts), true
}

// eventTime is a time in ms that others have sent.
func eventTime(ts int64) time.Time { return time.UnixMilli(max(0, min(ts, strictjson.MaxInteger))) }

// intent reads "audio" or "video". Any other value counts as unknown.
func intent(o strictjson.Object) string {
	switch text, _ := o.Text(unstable.CallIntent, strictjson.MaxName); text {
	case "audio", "video":
		return text
	}
	return ""
}

// firstTransport checks a list of transports, each of which must be an object with a type. It returns the service of the first one,
// since other clients ignore the rest. service is "" when we cannot use the first one.
func firstTransport(o strictjson.Object, key string) (service string, ok bool) {
	list, ok := o.List(key)
	if !ok {
		return "", false
	}
	for i, raw := range list {
		entry, ok := strictjson.Parse(raw)
		if !ok {
			return "", false
		}
		if _, ok := entry.Text("type", strictjson.MaxName); !ok {
			return "", false
		}
		if i == 0 {
			service, _ = transport.LiveKit(raw)
		}
	}
	return service, true
}

// left says whether a content means that the device has left. Such a content is empty, except that it may have slot_id and a sticky key.
func left(o strictjson.Object) bool {
	for key := range o {
		if key != "slot_id" && key != unstable.StickyKey && key != unstable.StickyKeyStable {
			return false
		}
	}
	return true
}
