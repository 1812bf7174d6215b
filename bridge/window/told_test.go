package window

import (
	"fmt"
	"testing"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bridge/notice"
)

// TestGuestsAreToldWhy goes through all reasons why a guest does not see the window. Each one is told in the room, to each of them, once.
func TestGuestsAreToldWhy(t *testing.T) {
	for name, test := range map[string]struct {
		cause func(b *bench)
		want  notice.Notice
	}{
		"the device is not verified": {func(b *bench) { b.see(ben); b.call(guest); b.m.Withheld(b.now, b.last.Visit, guest) }, notice.Device},
		"the device gets no key":     {func(b *bench) { b.see(ben); b.call(guest); b.m.Keyless(b.now, b.last.Visit, guest) }, notice.NoKey},
		"the codec": {func(b *bench) {
			b.see(ben)
			b.call(guest)
			b.m.RemoteUnshown(b.last.Visit, memberOf(guest).Identity, true)
		}, notice.Codec},
		"the camera is off":       {func(b *bench) { b.see(guest); b.cameraOff(guest) }, notice.Camera},
		"the camera never was on": {func(b *bench) { b.call(guest); b.m.FocusConnected(b.now, b.last.Visit); b.step(time.Minute) }, notice.Camera},
		"not seen beside others":  {func(b *bench) { b.see(ben); b.call(guest); b.step(PictureBudget) }, notice.Unseen},
		"there is no room": {func(b *bench) {
			for i := range maxNamed {
				b.see(id.UserID(fmt.Sprintf("@g%02d:x", i)))
			}
			b.call(guest)
		}, notice.Full},
		"the window is shut": {func(b *bench) { b.m.SetShutter(b.now, directory.Shut); b.step(time.Minute); b.call(guest) }, notice.Shut},
		"the window is ajar": {func(b *bench) { b.m.SetShutter(b.now, directory.Ajar); b.step(0); b.call(guest) }, notice.Ajar},
		"they are not let in": {func(b *bench) {
			b.m.SetShutter(b.now, directory.Ajar)
			b.step(0)
			b.call(guest)
			b.answer(false)
		}, notice.NotNow},
		"nobody answers": {func(b *bench) { b.m.SetShutter(b.now, directory.Ajar); b.step(0); b.call(guest); b.step(knockTime) }, notice.Nobody},
		"an old call":    {func(b *bench) { b.m.LegacyCall(b.now, dresden, guest) }, notice.Legacy},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			test.cause(b)
			told := func() (n int) {
				for _, m := range b.m.TakeMessages() {
					if m == (Message{Notice: test.want, User: guest}) {
						n++
					}
				}
				return n
			}
			for range 20 {
				b.step(time.Second)
			}
			if n := told(); n != 1 {
				t.Errorf("it was told %d times", n)
			}
			for range 60 {
				b.step(time.Minute)
			}
			if n := told(); n != 0 {
				t.Errorf("it was told %d times again", n)
			}
		})
	}
}
