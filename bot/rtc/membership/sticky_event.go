package membership

import (
	"strings"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/strictjson"
	"multifactorymodel.org/ewindow/bot/unstable"
)

// parseSticky reads a membership that sender sent as a sticky event (MSC4354) at ts (ms). m is nil when the device has left, or is in
// another call than the room's own; key, the sticky key, is set then as well. A membership's key is its member's id.
func parseSticky(sender id.UserID, ts int64, content []byte) (m *membership, key string, err error) {
	o, ok := strictjson.Parse(content)
	if !ok {
		return nil, "", errMembership
	}
	if key, ok = o.Text(unstable.StickyKey, strictjson.MaxName); !ok {
		if key, ok = o.Text(unstable.StickyKeyStable, strictjson.MaxName); !ok {
			return nil, "", errMembership
		}
	}
	if left(o) {
		return nil, key, nil
	}
	slot, ok := o.Text("slot_id", strictjson.MaxName)
	slotApp, slotName, _ := strings.Cut(slot, "#")
	if !ok || strings.Count(slot, "#") != 1 {
		return nil, "", errMembership
	}
	app, ok1 := o.Object("application")
	member, ok2 := o.Object("member")
	transports, ok3 := o.Object("transports")
	_, ok4 := o.List("versions")
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return nil, "", errMembership
	}
	if kind, ok := app.Text("type", strictjson.MaxName); !ok || kind != slotApp {
		return nil, "", errMembership
	}
	m = &membership{user: sender, sticky: true, key: key, intent: intent(app), created: eventTime(ts), claimed: eventTime(ts)}
	user, ok1 := member.Text("user_id", strictjson.MaxName)
	m.device, ok2 = deviceID(member, "device_id")
	m.memberID, ok3 = member.Text("id", strictjson.MaxName)
	if !ok1 || !ok2 || !ok3 || m.memberID == "" || m.memberID != key || user != sender.String() {
		return nil, "", errMembership
	}
	if m.service, ok = firstTransport(transports, "published"); !ok {
		return nil, "", errMembership
	}
	able, ok := transports.List("can_subscribe")
	if !ok {
		return nil, "", errMembership
	}
	for _, raw := range able {
		if _, ok := strictjson.Text(raw, strictjson.MaxName); !ok {
			return nil, "", errMembership
		}
	}
	if slotApp != unstable.Application || slotName != unstable.RoomCall {
		return nil, key, nil
	}
	return m, key, nil
}

// parseSlot says whether a slot event (MSC4143) leaves the room's slot open for sticky memberships.
func parseSlot(content []byte) (open bool) {
	o, ok := strictjson.Parse(content)
	if !ok {
		return false
	}
	status, _ := o.Text("status", strictjson.MaxName)
	if app, ok := o.Object("application"); ok {
		if kind, _ := app.Text("type", strictjson.MaxName); kind != unstable.Application {
			return false
		}
	}
	return status == unstable.SlotOpen
}
