package window

import (
	"slices"
	"testing"
	"time"

	"maunium.net/go/mautrix/id"
)

// voices is a visit with guests who have no camera.
func voicesOf(t *testing.T, guests ...id.UserID) *bench {
	b := newBench(t)
	var members []Member
	for _, user := range guests {
		members = append(members, memberOf(user))
	}
	b.m.SetMembers(dresden, members)
	b.step(0)
	b.m.FocusConnected(b.now, b.last.Visit)
	b.step(testCountdown)
	return b
}

// TestVoice: whoever has no camera neither hears nor is heard until a press lets them talk. Then sound goes both ways and the picture stays held back.
func TestVoice(t *testing.T) {
	b := voicesOf(t, guest, ben)
	for range 100 {
		if p := b.step(100 * time.Millisecond); p.Send || p.Sound {
			t.Fatalf("something is sent before the press: %+v", p)
		}
	}
	if s := b.last.View; !s.Held || s.Voice == nil || s.Voice.User != guest || len(s.Talking) > 0 {
		t.Fatalf("screen %+v", s)
	}
	b.m.LetTalk(b.now, ben) // nobody was asked about Ben
	b.m.LetTalk(b.now, "")
	b.step(time.Minute)
	if b.last.Sound || len(b.last.View.Talking) > 0 {
		t.Fatalf("plan %+v", b.last)
	}
	b.m.LetTalk(b.now, guest)
	b.step(0)
	// Ben loses the key before the sound begins, and is not heard.
	b.keyed(guest)
	if p := b.last; p.Sound || !slices.Equal(p.Hushed, []id.UserID{ben}) || p.View.Voice == nil || p.View.Voice.User != ben {
		t.Fatalf("plan %+v", p)
	}
	b.step(voiceDelay)
	if p := b.last; !p.Sound || p.Send || p.Camera || !p.View.Held || !slices.Equal(p.View.Talking, []Person{{Tile: -1, User: guest}}) {
		t.Fatalf("plan %+v", p)
	}
	b.step(2 * time.Hour) // it uses up no budget
	b.m.LetTalk(b.now, ben)
	b.step(0)
	b.keyed(guest, ben)
	if p := b.last; !p.Sound || len(p.Hushed) > 0 || p.View.Voice != nil || len(p.View.Talking) != 2 {
		t.Fatalf("plan %+v", p)
	}
	// Who comes later is asked about, and hears nothing before.
	b.m.SetMembers(dresden, []Member{memberOf(guest), memberOf(ben), memberOf(cem)})
	b.step(0)
	b.keyed(guest, ben)
	if p := b.last; !p.Sound || !slices.Equal(p.Hushed, []id.UserID{cem}) || p.View.Voice == nil || p.View.Voice.User != cem {
		t.Fatalf("plan %+v", p)
	}
	// Cem has a camera: our picture goes out, and the screen says who sees it without being seen.
	b.m.RemoteCamera(b.now, b.last.Visit, memberOf(cem).Identity, 2, true, false)
	b.picture(memberOf(cem), true)
	b.keyed(guest, ben, cem)
	if p := b.last; p.Sound || !p.Send || len(p.Hushed) > 0 || len(p.View.Allowed) != 2 || p.View.Held {
		t.Fatalf("plan %+v", p)
	}
	// Whoever leaves and comes again has to be let in again.
	b.m.SetMembers(dresden, []Member{memberOf(ben)})
	b.step(time.Second)
	b.m.SetMembers(dresden, []Member{memberOf(ben), memberOf(guest)})
	b.step(time.Second)
	if s := b.last.View; s.Voice == nil || s.Voice.User != guest || !slices.Equal(s.Talking, []Person{{Tile: -1, User: ben}}) {
		t.Fatalf("screen %+v", s)
	}
}

// TestVoiceGuard: a press right after the question has appeared is not meant for it. The sound stops when the page or the camera is lost, and a guest
// whose device gets no key is not asked about.
func TestVoiceGuard(t *testing.T) {
	b := voicesOf(t, guest)
	for b.last.View.Voice == nil {
		b.step(10 * time.Millisecond)
	}
	b.m.LetTalk(b.now, guest)
	b.step(knockGuard - time.Millisecond)
	b.m.LetTalk(b.now, guest)
	b.step(0)
	if len(b.last.View.Talking) > 0 {
		t.Fatalf("screen %+v", b.last.View)
	}
	b.step(time.Millisecond)
	b.m.LetTalk(b.now, guest)
	b.step(0)
	if b.step(voiceDelay); !b.last.Sound {
		t.Fatalf("plan %+v", b.last)
	}
	b.m.SetPage(b.now, false)
	if b.step(0); b.last.Sound {
		t.Errorf("without a page %+v", b.last)
	}
	b.m.SetPage(b.now, true)
	b.m.SetCamera(b.now, "fault", "busy")
	if b.step(0); b.last.Sound {
		t.Errorf("without a camera %+v", b.last)
	}

	b = voicesOf(t, guest)
	b.m.Withheld(b.now, b.last.Visit, guest)
	if b.step(time.Minute); b.last.View.Voice != nil {
		t.Errorf("screen %+v", b.last.View)
	}
}
