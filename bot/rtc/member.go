package rtc

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/unstable"
)

// Member is one device in a call.
type Member struct {
	User   id.UserID
	Device id.DeviceID
	// Identity is its name at the SFU: user:device, or a hash for sticky memberships.
	Identity string
	// Service is the livekit_service_url where it publishes, without a trailing slash; empty when it has none that we can use.
	Service string
	// Created is when it came. A device that comes again has another time.
	Created time.Time
	// Intent is "audio", "video" or unknown, "".
	Intent string
	// Sticky says that the membership is a sticky event (Matrix 2.0).
	Sticky bool
}

func (m Member) device() bot.Device { return bot.Device{User: m.User, ID: m.Device} }

const (
	defaultExpiry = 4 * time.Hour
	// maxExpiry caps how far a membership reaches, so that times can be added safely. Long calls announce long ones.
	maxExpiry = 100 * 365 * 24 * time.Hour
)

// membership is what one event says about its device.
type membership struct {
	event     id.EventID
	key       string // state key or sticky key
	user      id.UserID
	device    id.DeviceID
	memberID  string
	created   time.Time
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
		return hashedIdentity(m.user, m.device, m.memberID)
	}
	return plainIdentity(m.user, m.device)
}

// plainIdentity is the LiveKit identity that /sfu/get gives.
func plainIdentity(user id.UserID, device id.DeviceID) string {
	return user.String() + ":" + device.String()
}

// hashedIdentity is the LiveKit identity that /get_token gives (MSC4195).
func hashedIdentity(user id.UserID, device id.DeviceID, memberID string) string {
	return hashNames(user.String(), device.String(), memberID)
}

// hashNames is base64 without padding of SHA-256 over the JSON array of names, as JavaScript writes it.
func hashNames(names ...string) string {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // JavaScript doesn't, and the hash must be the same
	if err := encoder.Encode(names); err != nil {
		return "" // strings can always be encoded
	}
	sum := sha256.Sum256(bytes.TrimSuffix(text.Bytes(), []byte("\n")))
	return base64.RawStdEncoding.EncodeToString(sum[:])
}

// errMembership is for a content that other clients would not accept either.
var errMembership = errors.New("invalid call membership")

// deviceID reads a device id. A colon isn't taken: with it, one user's identity at the SFU could be another's.
func deviceID(o object, key string) (id.DeviceID, bool) {
	name, ok := o.text(key, maxName)
	return id.DeviceID(name), ok && name != "" && !strings.ContainsFunc(name, func(r rune) bool { return r == ':' || unicode.IsControl(r) })
}

// parseState reads a membership sent as state event by sender at ts (ms). It returns nil and no error for a device that has left,
// or is in another call than the room's.
func parseState(sender id.UserID, ts int64, content []byte) (*membership, error) {
	o, ok := parseObject(content)
	if !ok {
		return nil, errMembership
	}
	if left(o) || o.has("memberships") {
		return nil, nil
	}
	m := &membership{user: sender}
	app, ok1 := o.text("application", maxName)
	callID, ok2 := o.text("call_id", maxName)
	device, ok3 := deviceID(o, "device_id")
	focus, ok4 := o.object("focus_active")
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return nil, errMembership
	}
	if _, ok := focus.text("type", maxName); !ok {
		return nil, errMembership
	}
	if app != application || callID != "" && callID != roomCall {
		return nil, nil
	}
	m.device = device
	m.selection, _ = focus.text("focus_selection", maxName)
	m.memberID = plainIdentity(sender, device)
	if o.has("membershipID") {
		if m.memberID, ok = o.text("membershipID", 2*maxName); !ok {
			return nil, errMembership
		}
	}
	if o.has("scope") {
		if _, ok := o.text("scope", maxName); !ok {
			return nil, errMembership
		}
	}
	if m.created, ok = created(o, ts); !ok {
		return nil, errMembership
	}
	expiry := defaultExpiry
	if o.has("expires") {
		ms, ok := o.number("expires")
		if !ok {
			return nil, errMembership
		}
		expiry = time.Duration(max(0, min(ms, float64(maxExpiry.Milliseconds())))) * time.Millisecond
	}
	m.expires = m.created.Add(expiry)
	m.intent = intent(o)
	if o.has("foci_preferred") {
		if m.service, ok = firstTransport(o, "foci_preferred"); !ok {
			return nil, errMembership
		}
	}
	return m, nil
}

func created(o object, ts int64) (time.Time, bool) {
	if o.has("created_ts") {
		var ok bool
		if ts, ok = o.integer("created_ts", maxInteger); !ok {
			return time.Time{}, false
		}
	}
	return time.UnixMilli(max(0, min(ts, maxInteger))), true
}

func intent(o object) string {
	switch text, _ := o.text(unstable.CallIntent, maxName); text {
	case "audio", "video":
		return text
	}
	return ""
}

// firstTransport checks a list of transports, each an object with a type, and returns the service of the first one: other clients
// look at no other. It is "" when the first is not one that we can use.
func firstTransport(o object, key string) (service string, ok bool) {
	list, ok := o.list(key)
	if !ok {
		return "", false
	}
	for i, raw := range list {
		entry, ok := parseObject(raw)
		if !ok {
			return "", false
		}
		if _, ok := entry.text("type", maxName); !ok {
			return "", false
		}
		if i == 0 {
			service, _ = liveKit(raw)
		}
	}
	return service, true
}

// left says whether a content is that of a device that has gone.
func left(o object) bool {
	for key := range o {
		if key != "slot_id" && key != unstable.StickyKey && key != unstable.StickyKeyStable {
			return false
		}
	}
	return true
}

// parseSticky reads a membership sent as sticky event by sender at ts (ms). key is its sticky key, also when the membership is
// nil because the device has left, or is in another call than the room's.
func parseSticky(sender id.UserID, ts int64, content []byte) (m *membership, key string, err error) {
	o, ok := parseObject(content)
	if !ok {
		return nil, "", errMembership
	}
	if key, ok = o.text(unstable.StickyKey, maxName); !ok {
		if key, ok = o.text(unstable.StickyKeyStable, maxName); !ok {
			return nil, "", errMembership
		}
	}
	if left(o) {
		return nil, key, nil
	}
	slot, ok := o.text("slot_id", maxName)
	slotApp, slotName, _ := strings.Cut(slot, "#")
	if !ok || strings.Count(slot, "#") != 1 {
		return nil, "", errMembership
	}
	app, ok1 := o.object("application")
	member, ok2 := o.object("member")
	moves, ok3 := o.object("transports")
	_, ok4 := o.list("versions")
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return nil, "", errMembership
	}
	if kind, ok := app.text("type", maxName); !ok || kind != slotApp {
		return nil, "", errMembership
	}
	m = &membership{user: sender, sticky: true, key: key, intent: intent(app), created: time.UnixMilli(max(0, min(ts, maxInteger)))}
	user, ok1 := member.text("user_id", maxName)
	m.device, ok2 = deviceID(member, "device_id")
	m.memberID, ok3 = member.text("id", maxName)
	if !ok1 || !ok2 || !ok3 || m.memberID == "" || user != sender.String() {
		return nil, "", errMembership
	}
	if m.service, ok = firstTransport(moves, "published"); !ok {
		return nil, "", errMembership
	}
	able, ok := moves.list("can_subscribe")
	if !ok {
		return nil, "", errMembership
	}
	for _, raw := range able {
		if _, ok := text(raw, maxName); !ok {
			return nil, "", errMembership
		}
	}
	if slotApp != application || slotName != roomCall {
		return nil, key, nil
	}
	return m, key, nil
}

// parseSlot says whether a slot event leaves the room's slot open for sticky memberships.
func parseSlot(content []byte) (open bool) {
	o, ok := parseObject(content)
	if !ok {
		return false
	}
	status, _ := o.text("status", maxName)
	if app, ok := o.object("application"); ok {
		if kind, _ := app.text("type", maxName); kind != application {
			return false
		}
	}
	return status == slotOpen
}
