package callmedia

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/livekit/protocol/livekit"

	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/e2ee"
	"multifactorymodel.org/ewindow/callmedia/frames"
	"multifactorymodel.org/ewindow/callmedia/track"
)

// stage is a session that the test's goroutine owns, with one SFU where the test publishes tracks.
type stage struct {
	*Session
	t      *testing.T
	sfu    *sfuConnection
	sealed []byte // a picture under everybody's key
	events []string
}

func newStage(t *testing.T) *stage {
	s, local := idle(t)
	st := &stage{Session: s, t: t}
	names := map[EventKind]string{
		CodecUnknown: "unknown", CodecKnown: "known", RemoteUp: "up", RemoteGone: "gone", PictureOn: "picture", PictureOff: "no picture", ScreenOn: "screen", ScreenOff: "no screen",
	}
	s.cfg.OnEvent = func(e SessionEvent) {
		st.events = append(st.events, fmt.Sprintf("%s %s %d", e.Identity, names[e.Kind], e.Tile))
	}
	key := []byte("fedcba9876543210")
	encryptor, err := e2ee.NewEncryptor(codec.VP8)
	if err != nil {
		t.Fatal(err)
	}
	if err := encryptor.SetKey(0, key); err != nil {
		t.Fatal(err)
	}
	if st.sealed, err = encryptor.Encrypt(nil, local.KeyFrame()); err != nil {
		t.Fatal(err)
	}
	st.sfu = &sfuConnection{
		session: s, service: "s", own: true, drop: func() {},
		receivers: make(map[string]*receiver), cameras: make(map[string]camera),
	}
	s.connections["s"] = st.sfu
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		s.SetKey(name, 0, key)
	}
	st.work()
	return st
}

// work does the work that Session.run would do.
func (st *stage) work() {
	for len(st.queue) > 0 {
		(<-st.queue)()
	}
}

// publish publishes a track of a participant.
func (st *stage) publish(identity string, from livekit.TrackSource) *receiver {
	r := &receiver{
		session: st.Session, identity: identity, trackSID: identity + from.String(), kind: track.Video, codec: codec.VP8, from: from, source: newSource(),
		playable: true, size: sizeLarge, idleSince: time.Now(), setSize: func(size) {},
	}
	r.keys.Ask = func() {}
	st.sfu.receivers[r.trackSID] = r
	st.sfu.published(r.trackSID, identity, from, livekit.Encryption_GCM, false, "video/VP8")
	st.assignTiles()
	return r
}

func (st *stage) remotes(names ...string) {
	var list []Remote
	for _, name := range names {
		list = append(list, Remote{Identity: name, Service: "s"})
	}
	st.SetRemotes(list)
	st.work()
}

// expect compares the events since its last call.
func (st *stage) expect(want ...string) {
	st.t.Helper()
	if !slices.Equal(st.events, want) {
		st.t.Errorf("events %q, want %q", st.events, want)
	}
	st.events = nil
}

// play sends one picture on each track.
func (st *stage) play(tracks ...*receiver) {
	for _, r := range tracks {
		r.frame(frames.Frame{Data: st.sealed, Key: true})
	}
	st.work()
}

// TestScreen gives a shared screen a tile of its own. If no tile is free, the last participant is no longer shown.
func TestScreen(t *testing.T) {
	st := newStage(t)
	st.remotes("a", "b", "c", "d", "e")
	camera := make(map[string]*receiver)
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		camera[name] = st.publish(name, livekit.TrackSource_CAMERA)
	}
	st.expect("a up 0", "b up 1", "c up 2", "d up 3")
	st.play(camera["a"], camera["b"], camera["c"], camera["d"], camera["e"])
	st.expect("a picture 0", "b picture 1", "c picture 2", "d picture 3")
	screen := st.publish("b", livekit.TrackSource_SCREEN_SHARE)
	st.expect("d no picture 3", "d gone 3")
	st.play(screen)
	st.expect("b screen 3")
	for r, want := range map[*receiver]size{screen: sizeScreen, camera["a"]: sizeSmall, camera["b"]: sizeSmall} {
		if r.size != want {
			t.Errorf("%s is asked for as %v, want %v", r.trackSID, r.size, want)
		}
	}
	// At most one screen is shown. The second one is shown when the first has gone.
	second := st.publish("c", livekit.TrackSource_SCREEN_SHARE)
	st.play(second)
	st.expect()
	st.sfu.gone(screen.trackSID)
	st.play(second)
	st.expect("b no screen 3", "c screen 3")
	// When a participant is not shown any more, its screen is not shown either.
	st.remotes("a", "b", "d")
	if got := len(st.events); got != 4 {
		t.Errorf("%d events when the one who shares leaves, want 4: %q", got, st.events)
	}
	for _, want := range []string{"c no screen 3", "c no picture 2", "c gone 2"} {
		if !slices.Contains(st.events, want) {
			t.Errorf("no event %q among %q", want, st.events)
		}
	}
	// Somebody who is not in the call at all is never shown.
	st.events = nil
	st.play(st.publish("stranger", livekit.TrackSource_SCREEN_SHARE))
	st.expect()
}

// TestSizes asks for each picture as large as it is shown, and for nothing that is not shown.
func TestSizes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t)
		a, b, c := st.publish("a", livekit.TrackSource_CAMERA), st.publish("b", livekit.TrackSource_CAMERA), st.publish("c", livekit.TrackSource_CAMERA)
		<-time.After(idleLimit - time.Second)
		st.requestSizes(time.Now())
		check := func(want ...size) {
			t.Helper()
			if got := []size{a.size, b.size, c.size}; !slices.Equal(got, want) {
				t.Errorf("asked for %v, want %v", got, want)
			}
		}
		check(sizeLarge, sizeLarge, sizeLarge) // perhaps it is only not known yet who they are
		st.remotes("a", "b")
		check(sizeLarge, sizeSmall, sizeLarge)
		<-time.After(2 * time.Second)
		st.requestSizes(time.Now())
		check(sizeLarge, sizeSmall, size{})
		st.remotes("b", "c") // a stays for a moment, it may come back
		check(sizeLarge, sizeLarge, sizeSmall)
		<-time.After(idleLimit)
		st.requestSizes(time.Now())
		check(size{}, sizeLarge, sizeSmall)
	})
}

// TestCrowd lets the tracks of a hundred people who are not shown become idle at once. The SFU is asked for a few at a time, and shown pictures
// do not wait.
func TestCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t)
		asked := 0
		for i := range 100 {
			st.publish(fmt.Sprintf("stranger %d", i), livekit.TrackSource_CAMERA).setSize = func(size) { asked++ }
		}
		<-time.After(idleLimit)
		st.requestSizes(time.Now())
		if asked != maxIdleRequests {
			t.Errorf("the SFU was asked for %d tracks at once", asked)
		}
		a := st.publish("a", livekit.TrackSource_CAMERA)
		a.size = sizeSmall
		st.remotes("a")
		if a.size != sizeLarge {
			t.Errorf("the shown picture is asked for with %v", a.size)
		}
		for range 100 / maxIdleRequests {
			st.requestSizes(time.Now())
		}
		if asked != 100 {
			t.Errorf("the SFU was asked for %d tracks", asked)
		}
	})
}

// TestSources numbers the clocks of one session after another. The page goes on where the clock before was only if the number is another one.
func TestSources(t *testing.T) {
	seen := make(map[track.Source]bool)
	for range 2 {
		st := newStage(t)
		st.remotes("a")
		for _, from := range []livekit.TrackSource{livekit.TrackSource_CAMERA, livekit.TrackSource_SCREEN_SHARE} {
			seen[st.publish("a", from).source] = true
		}
	}
	if len(seen) != 4 {
		t.Errorf("4 tracks have %d clocks", len(seen))
	}
}

// TestShownAgain removes a participant from the page and shows it again while one of its frames is on its way to the page. That happens when a
// membership ends and begins anew. Its picture is emitted as gone and, with the next frame, as back.
func TestShownAgain(t *testing.T) {
	st := newStage(t)
	meanwhile := func() {}
	st.cfg.Local = &hooked{st.cfg.Local, func() { meanwhile() }}
	st.remotes("a")
	r := st.publish("a", livekit.TrackSource_CAMERA)
	st.play(r)
	st.expect("a up 0", "a picture 0")
	for _, away := range []func(){
		func() { st.remotes() }, // put back after the frame
		func() { st.remotes(); st.remotes("a") },
	} {
		meanwhile = away
		st.play(r)
		meanwhile = func() {}
		st.remotes("a")
		st.play(r)
		st.expect("a no picture 0", "a gone 0", "a up 0", "a picture 0")
	}
}

// hooked is a Local that calls a function while it is handed a frame.
type hooked struct {
	Local
	handed func()
}

func (h *hooked) WriteFrame(tile int, kind track.Kind, c codec.Codec, source track.Source, timestamp uint32, data []byte) {
	h.Local.WriteFrame(tile, kind, c, source, timestamp, data)
	h.handed()
}
