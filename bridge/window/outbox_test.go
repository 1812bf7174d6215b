package window

import (
	"slices"
	"testing"

	"multifactorymodel.org/ewindow/bridge/notice"
)

// TestOutbox: each message is returned once, and a notice of one kind is not sent more often than every [noticeEvery].
func TestOutbox(t *testing.T) {
	r := New(testCountdown, maxPictures)
	r.outbox.decline("$1")
	r.outbox.tell(epoch, notice.Shut, guest)
	r.outbox.tell(epoch.Add(noticeEvery-1), notice.Shut, ben)
	r.outbox.tell(epoch, notice.Nobody, ben)
	want := []Message{{Decline: "$1"}, {Notice: notice.Shut, User: guest}, {Notice: notice.Nobody, User: ben}}
	if got := r.TakeMessages(); !slices.Equal(got, want) {
		t.Errorf("to be sent: %+v, want %+v", got, want)
	}
	if got := r.TakeMessages(); len(got) > 0 {
		t.Errorf("to be sent twice: %+v", got)
	}
	r.outbox.tell(epoch.Add(noticeEvery), notice.Shut, ben)
	if got := r.TakeMessages(); !slices.Equal(got, []Message{{Notice: notice.Shut, User: ben}}) {
		t.Errorf("to be sent later: %+v", got)
	}
	for range 2 * maxMessages {
		r.outbox.decline("$2")
	}
	if got := r.TakeMessages(); len(got) != maxMessages {
		t.Errorf("%d messages wait", len(got))
	}
}
