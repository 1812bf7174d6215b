package focus_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/callmedia/focus"
	"multifactorymodel.org/ewindow/callmedia/sfu"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

const patience = time.Minute

// enter joins with an answer of the service.
func enter(t *testing.T, answer map[string]any) *sfu.Room {
	t.Helper()
	room, err := sfu.Connect(t.Context(), options(answer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = room.Close() })
	return room
}

// wantTaken demands that a join is refused since somebody with this identity is there.
func wantTaken(t *testing.T, answer map[string]any) {
	t.Helper()
	room, err := sfu.Connect(t.Context(), options(answer))
	var refused *sfu.RefusedError
	if !errors.As(err, &refused) || refused.Status != http.StatusConflict {
		t.Errorf("the second join of a live identity: %v", err)
	}
	if err == nil {
		_ = room.Close()
	}
}

// over says whether a room has ended, and why.
func over(room *sfu.Room) (string, bool) {
	for {
		select {
		case e, open := <-room.Events():
			if end, ok := e.(sfu.Disconnected); ok {
				return end.Reason, true
			}
			if !open {
				return "", true
			}
		default:
			return "", false
		}
	}
}

func wantAlive(t *testing.T, l *rig.LiveKit, room *sfu.Room, answer map[string]any) {
	t.Helper()
	if reason, ended := over(room); ended {
		t.Errorf("the first participant was thrown out: %s", reason)
	}
	if n := len(l.Participants(t, publishedRoom(t, l, answer))); n != 1 {
		t.Errorf("%d participants are in the room", n)
	}
}

func wantOver(t *testing.T, room *sfu.Room) {
	t.Helper()
	rig.Eventually(t, patience, func() error {
		_, ended := over(room)
		return rig.Check(ended, "the older participant stays", nil)
	})
}

// device gets access for the device of a user whom their homeserver has confirmed.
func device(t *testing.T, s *focus.Service, user id.UserID, room string) map[string]any {
	t.Helper()
	url, jwt, err := s.DeviceToken(t.Context(), user, "DEVICE", id.RoomID(room))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{"url": url, "jwt": jwt}
}

// TestReplay plays an OpenID token that a user has sent to somebody else's service to ours. Whoever has it must not be able to throw the user out of
// a room. A user whose device comes with its access token is not even given a place.
func TestReplay(t *testing.T) {
	hs := rig.StartHomeserver(t)
	l := rig.StartLiveKitWith(t, rig.LiveKitOptions{NoAutoCreate: true})
	s := newServiceAt(t, l, newProxy(t, l), io.Discard, hs.ServerName)
	anna, window := newPerson(t, hs, "anna"), newPerson(t, hs, "window")
	const room = "!room:elsewhere.example"
	get := func(p person) map[string]any {
		t.Helper()
		status, answer, _ := ask(t, s, "POST", "/sfu/get", p.plain(t, room))
		if status != http.StatusOK {
			t.Fatalf("answered %d %v", status, answer)
		}
		return answer
	}

	// Somebody with Element, who has nothing but OpenID tokens.
	answer := get(anna)
	first := enter(t, answer)
	wantTaken(t, get(anna))
	wantAlive(t, l, first, answer)
	again := enter(t, answer) // the same client, as after a change of its network
	wantOver(t, first)
	wantAlive(t, l, again, answer)
	_ = again.Close()
	_ = enter(t, get(anna)).Close() // the place is free at once

	// A window. Somebody with its OpenID token is there before it.
	stolen := get(window)
	thief := enter(t, stolen)
	mine := device(t, s, window.id, room)
	own := enter(t, mine)
	wantOver(t, thief)
	if status, answer, _ := ask(t, s, "POST", "/sfu/get", window.plain(t, room)); status != http.StatusForbidden || answer["errcode"] != "M_FORBIDDEN" {
		t.Errorf("the window's OpenID token is answered %d %v", status, answer)
	}
	wantTaken(t, stolen)
	wantAlive(t, l, own, mine)
	renewed := enter(t, device(t, s, window.id, room)) // the window's program was started again
	wantOver(t, own)
	wantAlive(t, l, renewed, mine)

	for _, bad := range []struct{ device, room string }{{"", room}, {"A:B", room}, {"DEVICE", "room"}, {"DEVICE", ""}} {
		if _, _, err := s.DeviceToken(t.Context(), window.id, id.DeviceID(bad.device), id.RoomID(bad.room)); !errors.Is(err, mautrix.MBadJSON) {
			t.Errorf("%q in %q: %v", bad.device, bad.room, err)
		}
	}
}

// TestLostNetwork demands that somebody whose network is gone soon comes back with a new token, although the hub has not noticed that the old
// connection is dead.
func TestLostNetwork(t *testing.T) {
	hs := rig.StartHomeserver(t)
	l := rig.StartLiveKitWith(t, rig.LiveKitOptions{NoAutoCreate: true})
	signalling := newProxy(t, l)
	s := newServiceAt(t, l, signalling, io.Discard, hs.ServerName)
	anna := newPerson(t, hs, "anna")
	get := func() map[string]any {
		return second(ask(t, s, "POST", "/sfu/get", anna.plain(t, "!room:elsewhere.example")))
	}
	line := newLine(t, strings.TrimPrefix(signalling, "ws://"))
	answer := get()
	answer["url"] = "ws://" + line.address
	enter(t, answer)
	line.cut.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second) // clients wait no longer for an SFU
	defer cancel()
	back, err := sfu.Connect(ctx, options(get()))
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	wantAlive(t, l, back, answer)
}

// line is a line to an address that can be cut. Nothing passes then, and no end of a connection does.
type line struct {
	address string
	cut     atomic.Bool
}

func newLine(t *testing.T, to string) *line {
	l := &line{}
	listener := rig.Listen(t)
	l.address = listener.Addr().String()
	t.Cleanup(func() { _ = listener.Close() })
	carry := func(from, to net.Conn) {
		buffer := make([]byte, 16<<10)
		for {
			n, err := from.Read(buffer)
			switch {
			case l.cut.Load() && err != nil:
				return
			case l.cut.Load():
				continue
			case err != nil:
				_ = to.Close()
				return
			}
			_, _ = to.Write(buffer[:n])
		}
	}
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = near.Close()
				return
			}
			t.Cleanup(func() { _, _ = near.Close(), far.Close() })
			go carry(near, far)
			go carry(far, near)
		}
	}()
	return l
}
