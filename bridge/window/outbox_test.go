package window

import (
	"fmt"
	"slices"
	"testing"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bridge/notice"
)

// TestOutbox: each message is returned once. A notice of one kind is sent about each person, not more often than every [noticeEvery], and not about more
// than [maxTold] people in that time.
func TestOutbox(t *testing.T) {
	r := New(testCountdown, maxPictures)
	r.outbox.decline("$1")
	r.outbox.tell(epoch, notice.Shut, guest)
	r.outbox.tell(epoch.Add(noticeEvery-1), notice.Shut, guest)
	r.outbox.tell(epoch, notice.Nobody, ben)
	want := []Message{{Decline: "$1"}, {Notice: notice.Shut, User: guest}, {Notice: notice.Nobody, User: ben}}
	if got := r.TakeMessages(); !slices.Equal(got, want) {
		t.Errorf("to be sent: %+v, want %+v", got, want)
	}
	if got := r.TakeMessages(); len(got) > 0 {
		t.Errorf("to be sent twice: %+v", got)
	}
	r.outbox.tell(epoch.Add(noticeEvery), notice.Shut, guest)
	if got := r.TakeMessages(); !slices.Equal(got, []Message{{Notice: notice.Shut, User: guest}}) {
		t.Errorf("to be sent later: %+v", got)
	}
	for i := range 3 * maxTold {
		r.outbox.tell(epoch.Add(noticeEvery), notice.Full, id.UserID(fmt.Sprint("@g", i, ":x")))
	}
	if got := r.TakeMessages(); len(got) != maxTold {
		t.Errorf("%d people are told", len(got))
	}
	for range 2 * maxMessages {
		r.outbox.decline("$2")
	}
	if got := r.TakeMessages(); len(got) != maxMessages {
		t.Errorf("%d messages wait", len(got))
	}
}
