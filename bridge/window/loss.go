package window

import (
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
)

// loss says which window was seen and is not seen any more. It outlives the visit, so that people then read "connection lost" and not that
// nobody is there. A loss ends when the other window shuts or is seen again, or after [lostLimit].
type loss struct {
	peer id.RoomID // empty for no loss
	at   time.Time
}

// of says whether this window is the one that was lost.
func (l *loss) of(peer id.RoomID) bool { return l.peer != "" && l.peer == peer }

// advanceLoss notes when the other window is lost, and when the loss ends.
func (r *Rules) advanceLoss(now time.Time) {
	v, l := r.visit, &r.loss
	switch {
	case v != nil && v.picture():
		l.peer = ""
	case v != nil && v.reciprocity.seenOnce && v.peer != "" && l.peer != v.peer:
		l.peer, l.at = v.peer, now
	}
	if l.peer == "" {
		return
	}
	w, ok := r.windows.in(l.peer)
	waited := now.Sub(l.at) >= lostLimit && (v == nil || v.peer != l.peer || !v.reciprocity.seenOnce)
	if !ok || w.Shutter == directory.Shut || waited {
		l.peer = ""
		if v != nil {
			v.reciprocity.seenOnce = false
		}
	}
}
