//go:build full

package e2e_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/e2ee"
	"multifactorymodel.org/ewindow/cmd/e2e/element"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// faultDelay is how long the tests delay media keys and memberships.
const faultDelay = 4 * time.Second

// signals returns the media keys and memberships that passed between the homeserver and Element Call, without the first since of them.
func (p *person) signals(since int) []element.Signal {
	p.t.Helper()
	list, err := p.Signals()
	if err != nil {
		p.t.Fatal(err)
	}
	return list[since:]
}

// checkOrder checks that the first signal of one kind and user comes before the first one of another kind and user. It ignores lost keys.
func (p *person) checkOrder(list []element.Signal, first, user1, second, user2 string) {
	p.t.Helper()
	find := func(kind, user string) int {
		return slices.IndexFunc(list, func(s element.Signal) bool { return s.Kind == kind && s.User == user && !s.Lost })
	}
	if i, j := find(first, user1), find(second, user2); i < 0 || j < 0 || i > j {
		p.t.Errorf("%q is not before %q: %+v", first, second, list)
	}
}

// keysFrom returns the media keys in list that came from user.
func keysFrom(list []element.Signal, user string) (keys []string) {
	for _, s := range list {
		if s.Kind == "key in" && s.User == user {
			keys = append(keys, s.Key)
		}
	}
	return keys
}

// userID returns the Matrix user ID of the window's kiosk.
func (w demoWindow) userID() string { return fmt.Sprintf("@%s:localhost:%d", w.Username, w.Public) }

// rejoins lets a guest join, leave and join again with the same device, several times. On a fast machine the window is still in the call when
// the guest comes back. Once the keys arrive before the memberships, once after them, and twice a key is lost. The window must use a new key
// each time, so that nobody who has left can decrypt its media.
func (v visitor) rejoins() {
	kiosk := v.w.n.Windows[0].userID()
	var old []string
	var sent time.Time
	stay := func(f element.Faults) (passed []element.Signal) {
		v.t.Helper()
		since := len(v.signals(0))
		v.SetFaults(f)
		v.visit()
		v.SetFaults(element.Faults{})
		passed = v.signals(since)
		keys := keysFrom(passed, kiosk)
		for _, key := range keys {
			if slices.Contains(old, key) {
				v.t.Error("the window uses an old media key again")
			}
		}
		old = append(old, keys...)
		times, err := v.Times()
		if err != nil || len(keys) == 0 || !times.Sent.After(sent) {
			v.t.Errorf("%d keys came; the membership is of %v, the one before of %v, %v", len(keys), times.Sent, sent, err)
		}
		sent = times.Sent
		v.HangUp()
		return passed
	}
	passed := stay(element.Faults{MembersIn: faultDelay, KeysOut: faultDelay})
	v.checkOrder(passed, "key in", kiosk, "member in", kiosk)
	v.checkOrder(passed, "member out", v.User, "key out", kiosk)
	passed = stay(element.Faults{KeysIn: faultDelay, MembersOut: faultDelay})
	v.checkOrder(passed, "key out", kiosk, "member out", v.User)
	passed = stay(element.Faults{LostIn: 1})
	if i := slices.IndexFunc(passed, func(s element.Signal) bool { return s.Kind == "key in" }); i < 0 || !passed[i].Lost {
		v.t.Errorf("no key was lost: %+v", passed)
	}
	passed = stay(element.Faults{LostOut: 1})
	if i := slices.IndexFunc(passed, func(s element.Signal) bool { return s.Kind == "key out" }); i < 0 || !passed[i].Lost {
		v.t.Errorf("no key was lost: %+v", passed)
	}
	v.awaitAlone(20 * time.Second)
}

// awaitReadable takes all media keys that p ever received, and tries to decrypt the frames of sound that the stranger receives. It waits until
// most of the frames can be decrypted (want is true), or none of them (want is false).
func (s *stranger) awaitReadable(p *person, want bool) {
	p.t.Helper()
	rig.Eventually(p.t, 20*time.Second, func() error {
		s.mu.Lock()
		frames := s.audio
		if len(frames) >= 100 {
			s.audio = nil // the next attempt uses newer frames
		}
		s.mu.Unlock()
		if len(frames) < 100 {
			return fmt.Errorf("%s: %v", fmt.Sprintf("the call being readable with %s's keys: %v", p.name, want), fmt.Sprintf("%d frames came", len(frames)))
		}
		rings := make(map[string]*e2ee.KeyRing)
		for _, signal := range p.signals(0) {
			if signal.Kind != "key in" {
				continue
			}
			if rings[signal.User] == nil {
				rings[signal.User] = e2ee.NewKeyRing()
			}
			key, err := base64.StdEncoding.DecodeString(signal.Key)
			if err != nil {
				return fmt.Errorf("%s: %v", fmt.Sprintf("the call being readable with %s's keys: %v", p.name, want), err)
			}
			if err := rings[signal.User].Set(signal.Index, key); err != nil {
				return fmt.Errorf("%s: %v", fmt.Sprintf("the call being readable with %s's keys: %v", p.name, want), err)
			}
		}
		readable := 0
		for _, frame := range frames {
			for _, ring := range rings {
				if _, err := e2ee.NewDecryptor(codec.Opus, ring, nil).Decrypt(nil, frame); err == nil {
					readable++
				}
			}
		}
		state := fmt.Sprintf("%d of %d frames, with the keys of %d people", readable, len(frames), len(rings))
		return rig.Check(want && 2*readable > len(frames) || !want && readable == 0, fmt.Sprintf("the call being readable with %s's keys: %v", p.name, want), state)
	})
}
