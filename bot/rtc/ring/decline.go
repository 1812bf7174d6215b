package ring

import (
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/strictjson"
)

// Decline says that somebody declined our ring (MSC4310).
type Decline struct {
	Room   id.RoomID
	Sender id.UserID
	Event  id.EventID // our notification
}

// ParseDecline reads which notification is declined.
func ParseDecline(content []byte) (id.EventID, error) {
	o, ok := strictjson.Parse(content)
	if !ok {
		return "", errNotification
	}
	relation, ok := o.Object("m.relates_to")
	if !ok {
		return "", errNotification
	}
	kind, ok1 := relation.Text("rel_type", strictjson.MaxName)
	event, ok2 := relation.Text("event_id", strictjson.MaxName)
	if !ok1 || !ok2 || kind != relReference || event == "" {
		return "", errNotification
	}
	return id.EventID(event), nil
}

// DeclineContent is the content of a decline that we send.
type DeclineContent struct {
	Relates relation `json:"m.relates_to"`
}

// NewDecline declines a notification.
func NewDecline(notification id.EventID) DeclineContent {
	return DeclineContent{relation{relReference, notification}}
}
