//go:build full

package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/bot/unstable"
	"multifactorymodel.org/ewindow/cmd/e2e/element"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// told is what the kiosk has written into the room.
type told struct {
	notices  []string
	declined []string // notifications
}

// told asks a person's Element what the window wrote, all of which must have come encrypted.
func (p *person) told(room, kiosk string) (all told, err error) {
	list, err := p.Messages(room)
	for _, m := range list {
		if m.Sender != kiosk {
			continue
		}
		if m.Failed || !m.Encrypted {
			return told{}, fmt.Errorf("%s came encrypted: %v, can't be read: %v", m.Type, m.Encrypted, m.Failed)
		}
		switch m.Type {
		case "m.room.message":
			if m.Content["msgtype"] == "m.notice" {
				all.notices = append(all.notices, fmt.Sprint(m.Content["body"]))
			}
		case unstable.CallDecline:
			relation, _ := m.Content["m.relates_to"].(map[string]any)
			all.declined = append(all.declined, fmt.Sprint(relation["event_id"]))
		}
	}
	return all, err
}

// rung are the notifications of calls that a person has sent into a room.
func (p *person) rung(room string) (events []string, err error) {
	list, err := p.Messages(room)
	for _, m := range list {
		if m.Type == unstable.CallNotification && m.Sender == p.User {
			events = append(events, m.ID)
		}
	}
	return events, err
}

// awaitRefused waits until the call number n of a person was declined, with the window in no call, and returns what the room was told.
func (p *person) awaitRefused(room, kiosk string, n int) (all told) {
	p.t.Helper()
	rig.Eventually(p.t, 40*time.Second, func() error {
		rung, err := p.rung(room)
		if err != nil {
			return fmt.Errorf("%s: %v", fmt.Sprintf("%s's call number %d being declined", p.name, n), err)
		}
		if all, err = p.told(room, kiosk); err != nil {
			return fmt.Errorf("%s: %v", fmt.Sprintf("%s's call number %d being declined", p.name, n), err)
		}
		return rig.Check(len(rung) == n && len(all.declined) == n && slices.Contains(all.declined, rung[n-1]), fmt.Sprintf("%s's call number %d being declined", p.name, n), fmt.Sprintf("rung %q, told %+v", rung, all))
	})
	if members, err := p.Members(room); err != nil || len(members) != 1 {
		p.t.Errorf("%q are in a call that was declined, %v", members, err)
	}
	return all
}

// TestElementAtTheDoor calls a window that is shut, and one that is ajar: it never answers by itself, and what Element is told is right.
func TestElementAtTheDoor(t *testing.T) {
	element.Need(t)
	n := startDemo(t, t.TempDir())
	n.await("know each other", 60*time.Second)
	munich := n.look(0, munichSource, 640, 360)
	anna := n.person(0, "anna", dresdenSource, 640, 360)
	n.admit(n.admin(), anna)
	room := n.windowRooms()[1]
	anna.JoinRoom(room)
	kiosk := n.Windows[0].userID()
	has := func(what, text string) func() error {
		return func() error {
			var shown string
			err := munich.eval("document.body.innerText", &shown)
			return rig.Check(err == nil && strings.Contains(shown, text), what, fmt.Sprint(shown, err))
		}
	}

	// Shut: declined, with one notice however often, and the screen says who it was.
	for call := 1; call <= 2; call++ {
		anna.Call(room, element.Start)
		if all := anna.awaitRefused(room, kiosk, call); len(all.notices) > 1 {
			t.Errorf("the room was told %q", all.notices)
		}
		anna.HangUp()
	}
	rig.Eventually(t, 20*time.Second, func() error {
		all, err := anna.told(room, kiosk)
		return rig.Check(err == nil && len(all.notices) == 1 && strings.Contains(all.notices[0], "zu"), "the notice", fmt.Sprint(all, err))
	})
	rig.Eventually(t, 20*time.Second, has("the shut screen naming who knocked", "anna"))
	if live := munich.live(); live > 0 {
		t.Errorf("%d tracks of the camera and microphone of a shut window are on", live)
	}
	munich.shot("missed")

	// Ajar: it rings. Not now, and Element is told so.
	munich.press("a", "KeyA", 65)
	n.await("Munich is ajar", 20*time.Second)
	knocked := func() {
		t.Helper()
		rig.Eventually(t, 40*time.Second, func() error { return rig.Check(munich.screen() == "knocked", "the knock", munich.screen()) })
		if members, err := anna.Members(room); err != nil || len(members) != 1 {
			t.Errorf("%q are in the call while it rings, %v", members, err)
		}
		<-time.After(time.Second) // an answer as quick as the knock itself counts for nothing
	}
	answer := func(button string) {
		t.Helper()
		if err := munich.eval(fmt.Sprintf("document.querySelector(%q).click()", button), nil); err != nil {
			t.Fatal(err)
		}
	}
	anna.Call(room, element.Start)
	knocked()
	munich.shot("knocked")
	answer("#notnow")
	if all := anna.awaitRefused(room, kiosk, 3); len(all.notices) > 2 {
		t.Errorf("the room was told %q", all.notices)
	}
	rig.Eventually(t, 20*time.Second, func() error { return rig.Check(munich.screen() == "alone", "the window ajar again", munich.screen()) })
	anna.HangUp()

	// Let in.
	anna.Call(room, element.Start)
	knocked()
	answer("#letin")
	anna.awaitPicture("red", 40*time.Second)
	munich.awaitMoving("blue", 40*time.Second)
	munich.shot("let in")
	if all, err := anna.told(room, kiosk); err != nil || len(all.declined) != 3 {
		t.Errorf("declined are %q, %v", all.declined, err)
	}
	anna.HangUp()
	rig.Eventually(t, 30*time.Second, func() error { return rig.Check(munich.screen() == "alone", "the window ajar again", munich.screen()) })

	// The other way round: the window rings its people. Anna declines, and the window says so; Anna comes, and is let in at once.
	ring := func(number int) (notification string) {
		t.Helper()
		munich.press("r", "KeyR", 82)
		rig.Eventually(t, 40*time.Second, func() error {
			rings, err := anna.rings(room, kiosk)
			if err != nil || len(rings) != number {
				return fmt.Errorf("%s: %v", "the ring", fmt.Sprint(rings, err, munich.screen()))
			}
			notification = rings[number-1]
			return rig.Check(true, "the ring", nil)
		})
		if screen := munich.screen(); screen != "ringing" {
			t.Errorf("the page shows %q while it rings", screen)
		}
		return notification
	}
	notification := ring(1)
	munich.shot("ringing")
	anna.Decline(room, notification)
	rig.Eventually(t, 20*time.Second, func() error {
		return rig.Check(munich.screen() == "alone", "the window hearing that Anna declined", munich.state())
	})
	munich.shot("declined")
	declined := time.Now()
	rig.Eventually(t, 90*time.Second, func() error {
		var can bool
		err := munich.eval("ewindow.snapshot().state.can_ring", &can)
		return rig.Check(can, "ringing again being possible", fmt.Sprint(err, munich.state()))
	})
	if waited := time.Since(declined); waited < 20*time.Second { // of the minute between two
		t.Errorf("people can be rung again after %v", waited)
	}
	ring(2)
	anna.Call(room, element.Join)
	anna.awaitPicture("red", 40*time.Second)
	munich.awaitMoving("blue", 40*time.Second)
	anna.HangUp()
}

// rings are the notifications by which a window rings a person.
func (p *person) rings(room, kiosk string) (events []string, err error) {
	list, err := p.Messages(room)
	for _, m := range list {
		if m.Type != unstable.CallNotification || m.Sender != kiosk {
			continue
		}
		mentions, _ := m.Content["m.mentions"].(map[string]any)
		users, _ := mentions["user_ids"].([]any)
		if !m.Encrypted || m.Failed || m.Content["notification_type"] != "ring" || !slices.Contains(users, any(p.User)) {
			return nil, fmt.Errorf("the ring is %+v", m)
		}
		events = append(events, m.ID)
	}
	return events, err
}
