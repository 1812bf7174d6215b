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

// sentByKiosk is what a window's kiosk has sent into its room's timeline.
type sentByKiosk struct {
	notices  []string // texts of m.notice messages
	declined []string // event IDs of the call notifications that it declined (MSC4310)
}

// sentByKiosk returns what the kiosk has sent, as this person's Element reads it. It fails if any of it was not encrypted.
func (p *person) sentByKiosk(room, kiosk string) (all sentByKiosk, err error) {
	list, err := p.Messages(room)
	for _, m := range list {
		if m.Sender != kiosk {
			continue
		}
		if m.Failed || !m.Encrypted {
			return sentByKiosk{}, fmt.Errorf("%s: encrypted %v, decryption failed %v", m.Type, m.Encrypted, m.Failed)
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

// ownNotifications returns the event IDs of the call notifications (MSC4075) that this person has sent into a room.
func (p *person) ownNotifications(room string) (events []string, err error) {
	list, err := p.Messages(room)
	for _, m := range list {
		if m.Type == unstable.CallNotification && m.Sender == p.User {
			events = append(events, m.ID)
		}
	}
	return events, err
}

// awaitDeclined waits until the window has declined this person's n-th call, and checks that the window is not in the call. It returns
// everything that the kiosk has sent.
func (p *person) awaitDeclined(room, kiosk string, n int) (all sentByKiosk) {
	p.t.Helper()
	rig.Eventually(p.t, 40*time.Second, func() error {
		sent, err := p.ownNotifications(room)
		if err != nil {
			return fmt.Errorf("%s: %v", fmt.Sprintf("%s's call number %d being declined", p.name, n), err)
		}
		if all, err = p.sentByKiosk(room, kiosk); err != nil {
			return fmt.Errorf("%s: %v", fmt.Sprintf("%s's call number %d being declined", p.name, n), err)
		}
		return rig.Check(len(sent) == n && len(all.declined) == n && slices.Contains(all.declined, sent[n-1]), fmt.Sprintf("%s's call number %d being declined", p.name, n), fmt.Sprintf("notifications %q, kiosk sent %+v", sent, all))
	})
	if members, err := p.Members(room); err != nil || len(members) != 1 {
		p.t.Errorf("%q are members of a call that the window declined, %v", members, err)
	}
	return all
}

// TestElementKnocks calls a window that is shut, and then one that is ajar. The window never answers by itself. It sends the right notices and
// declines to the room. Then the window rings people who follow it in Element.
func TestElementKnocks(t *testing.T) {
	element.Need(t)
	n := startDemo(t, t.TempDir())
	n.await("know each other", 60*time.Second)
	munich := n.openPage(0, munichSource, 640, 360)
	anna := n.person(0, "anna", dresdenSource, 640, 360)
	n.inviteToSpace(n.admin(), anna)
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

	// Shut: the window declines each call. It sends one notice for both. Its screen says who called.
	for call := 1; call <= 2; call++ {
		anna.Call(room, element.Start)
		if all := anna.awaitDeclined(room, kiosk, call); len(all.notices) > 1 {
			t.Errorf("the kiosk sent the notices %q", all.notices)
		}
		anna.HangUp()
	}
	rig.Eventually(t, 20*time.Second, func() error {
		all, err := anna.sentByKiosk(room, kiosk)
		return rig.Check(err == nil && len(all.notices) == 1 && strings.Contains(all.notices[0], "zu"), "the notice", fmt.Sprint(all, err))
	})
	rig.Eventually(t, 20*time.Second, has("the shut screen naming who knocked", "anna"))
	if live := munich.live(); live > 0 {
		t.Errorf("%d tracks of the camera and microphone of a shut window are on", live)
	}
	munich.shot("missed")

	// Ajar: who calls knocks.
	munich.press("a", "KeyA", 65)
	n.await("Munich is ajar", 20*time.Second)
	knocked := func() {
		t.Helper()
		rig.Eventually(t, 40*time.Second, func() error { return rig.Check(munich.screen() == "knocked", "the knock", munich.screen()) })
		if members, err := anna.Members(room); err != nil || len(members) != 1 {
			t.Errorf("%q are in the call while it rings, %v", members, err)
		}
		<-time.After(time.Second) // the page ignores a press that comes right after the knock
	}
	answer := func(button string) {
		t.Helper()
		if err := munich.eval(fmt.Sprintf("document.querySelector(%q).click()", button), nil); err != nil {
			t.Fatal(err)
		}
	}
	// The window rings people. Anna declines, and the window shows it. A minute must pass before it may ring again.
	canRing := func() (can bool, err error) {
		err = munich.eval("ewindow.snapshot().state.can_ring", &can)
		return can, err
	}
	ring := func(number int) (notification string) {
		t.Helper()
		rig.Eventually(t, 90*time.Second, func() error {
			can, err := canRing()
			return rig.Check(can, "ringing being possible", fmt.Sprint(err, munich.state()))
		})
		munich.press("r", "KeyR", 82)
		rig.Eventually(t, 40*time.Second, func() error {
			rings, err := anna.notificationsFrom(room, kiosk)
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
	if can, err := canRing(); err != nil || can {
		t.Errorf("people can be rung again at once: %v, %v", can, err)
	}

	// In that minute Anna calls twice. Somebody presses "not now", and the window declines the call.
	anna.Call(room, element.Start)
	knocked()
	munich.shot("knocked")
	rig.Eventually(t, 20*time.Second, func() error {
		all, err := anna.sentByKiosk(room, kiosk)
		return rig.Check(err == nil && len(all.notices) == 2 && strings.Contains(all.notices[1], "angelehnt, deshalb klopft es dort jetzt für anna"), "Anna reading that she knocks", fmt.Sprint(all, err))
	})
	answer("#notnow")
	if all := anna.awaitDeclined(room, kiosk, 3); len(all.notices) > 3 {
		t.Errorf("the kiosk sent the notices %q", all.notices)
	}
	rig.Eventually(t, 20*time.Second, func() error { return rig.Check(munich.screen() == "alone", "the window ajar again", munich.screen()) })
	anna.HangUp()

	// Somebody presses "let in".
	anna.Call(room, element.Start)
	knocked()
	answer("#letin")
	anna.awaitPicture("red", 40*time.Second)
	munich.awaitMoving("blue", 40*time.Second)
	munich.shot("let in")
	if all, err := anna.sentByKiosk(room, kiosk); err != nil || len(all.declined) != 3 {
		t.Errorf("the window has declined %q, %v", all.declined, err)
	}
	anna.HangUp()
	rig.Eventually(t, 30*time.Second, func() error { return rig.Check(munich.screen() == "alone", "the window ajar again", munich.screen()) })

	// When the minute is over, the window rings again. Anna joins and is let in at once.
	ring(2)
	anna.Call(room, element.Join)
	anna.awaitPicture("red", 40*time.Second)
	munich.awaitMoving("blue", 40*time.Second)
	anna.HangUp()
}

// notificationsFrom returns the event IDs of the call notifications (MSC4075) with which a window rings this person.
func (p *person) notificationsFrom(room, kiosk string) (events []string, err error) {
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
