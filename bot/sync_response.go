package bot

import (
	"encoding/json"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// syncResponse is the part of the answer of GET /sync that we use. With mautrix's own type, one event that cannot be parsed would make the
// whole answer an error, and strangers write these events.
type syncResponse struct {
	NextBatch    string              `json:"next_batch"`
	AccountData  eventSection        `json:"account_data"`
	ToDevice     eventSection        `json:"to_device"`
	DeviceLists  mautrix.DeviceLists `json:"device_lists"`
	OneTimeKeys  *mautrix.OTKCount   `json:"device_one_time_keys_count"`
	FallbackKeys []id.KeyAlgorithm   `json:"device_unused_fallback_key_types"`
	Rooms        syncRooms           `json:"rooms"`
}

type syncRooms struct {
	Join   map[id.RoomID]syncRoom `json:"join"`
	Leave  map[id.RoomID]syncRoom `json:"leave"`
	Invite map[id.RoomID]struct {
		State eventSection `json:"invite_state"`
	} `json:"invite"`
}

type syncRoom struct {
	State    eventSection `json:"state"`
	Timeline eventSection `json:"timeline"`
	Sticky   eventSection `json:"msc4354_sticky"`
}

type eventSection struct {
	Events eventList `json:"events"`
}

// eventList is an array of events without those that can't be parsed.
type eventList struct {
	events    []*event.Event
	malformed int // how many were left out
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *eventList) UnmarshalJSON(data []byte) error {
	*l = eventList{}
	var raw []json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		l.malformed = 1
		return nil
	}
	for _, text := range raw {
		var e *event.Event
		if err := json.Unmarshal(text, &e); err != nil || e == nil || e.Type.Type == "" {
			l.malformed++
			continue
		}
		l.events = append(l.events, e)
	}
	return nil
}

// malformed is how many events were left out.
func (r *syncResponse) malformed() int {
	n := r.AccountData.Events.malformed + r.ToDevice.Events.malformed
	for _, rooms := range []map[id.RoomID]syncRoom{r.Rooms.Join, r.Rooms.Leave} {
		for _, room := range rooms {
			n += room.State.Events.malformed + room.Timeline.Events.malformed + room.Sticky.Events.malformed
		}
	}
	for _, room := range r.Rooms.Invite {
		n += room.State.Events.malformed
	}
	return n
}
