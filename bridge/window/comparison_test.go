package window

import (
	"testing"
	"time"

	"multifactorymodel.org/ewindow/bot/directory"
)

// compared takes the answer about emoji that was sent, and checks it. A nil want means that there is none.
func (b *bench) compared(want *bool) {
	b.Helper()
	messages := b.m.TakeMessages()
	if want == nil && len(messages) == 0 {
		return
	}
	if want == nil || len(messages) != 1 || messages[0].Compared == nil || *messages[0].Compared != *want {
		b.Fatalf("sent %+v", messages)
	}
}

// TestComparison: emoji are shown while nobody is there, in every position of the shutter, and each comparison is answered once.
func TestComparison(t *testing.T) {
	b := newBench(t)
	yes, no := true, false
	emoji := func() {
		b.m.SetComparison(guest, []string{"🐶", "🐱"}, []string{"Dog", "Cat"})
		b.step(0)
	}
	for i, shutter := range []directory.Shutter{directory.Open, directory.Ajar, directory.Shut} {
		b.m.SetShutter(b.now, shutter)
		emoji()
		b.want("", "", ScreenVerify)
		id := b.last.View.Comparison.ID
		if id != uint64(i+1) || b.last.View.Comparison.Who.User != guest || b.last.Announce.Shutter != shutter {
			t.Errorf("%s: %+v, %+v", shutter, b.last.View.Comparison, b.last.Announce)
		}
		b.m.AnswerComparison(b.now.Add(knockGuard-1), id, true) // a press that meant something else
		b.step(knockGuard)
		b.m.AnswerComparison(b.now, id+1, true) // another comparison
		b.compared(nil)
		same := &yes
		if shutter == directory.Ajar {
			same = &no
		}
		b.m.AnswerComparison(b.now, id, *same)
		b.m.AnswerComparison(b.now, id, true)
		b.compared(same)
		if b.step(0).View.Comparison != nil {
			t.Errorf("%s: still shown", shutter)
		}
	}
	// It waits while somebody is there.
	b.m.SetShutter(b.now, directory.Open)
	emoji()
	b.call(guest)
	b.step(time.Second)
	b.want(dresden, "", ScreenOpening)
	b.m.AnswerComparison(b.now, b.m.comparing.count, true)
	b.compared(nil)
	b.leave()
	b.step(emptyGrace)
	b.want("", "", ScreenVerify)
	b.m.EndComparison()
	b.step(0)
	b.want("", "", ScreenAlone)
}
