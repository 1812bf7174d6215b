package bot

import (
	"time"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// held has to-device events of strangers that may have overtaken the sync response that shows the common room. It belongs to the goroutine of Run.
type held struct{ list []heldEvent }

type heldEvent struct {
	event *event.Event
	since time.Time
}

// How many events are held: 8 MB at most. After heldTime they are dropped.
const (
	heldPerUser   = 4
	heldPerServer = 16
	heldTotal     = 128
	heldTime      = time.Minute
)

// add holds an event, if there is room for it.
func (h *held) add(e *event.Event, now time.Time) bool {
	user, server := 0, 0
	for _, other := range h.list {
		if other.event.Sender == e.Sender {
			user++
		}
		if other.event.Sender.Homeserver() == e.Sender.Homeserver() {
			server++
		}
	}
	if user >= heldPerUser || server >= heldPerServer || len(h.list) >= heldTotal {
		return false
	}
	h.list = append(h.list, heldEvent{e, now})
	return true
}

// take returns the events whose senders are known by now, in order, and says how many others were held for too long.
func (h *held) take(now time.Time, known func(id.UserID) bool) (ready []*event.Event, expired int) {
	kept := h.list[:0]
	for _, e := range h.list {
		switch {
		case known(e.event.Sender):
			ready = append(ready, e.event)
		case now.Sub(e.since) > heldTime:
			expired++
		default:
			kept = append(kept, e)
		}
	}
	clear(h.list[len(kept):])
	h.list = kept
	return ready, expired
}
