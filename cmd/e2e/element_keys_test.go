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

// late is by how much keys and memberships are late, where they are.
const late = 4 * time.Second

// signals is what has passed between the homeserver and Element Call since there were as many of them.
func (p *person) signals(since int) []element.Signal {
	p.t.Helper()
	list, err := p.Signals()
	if err != nil {
		p.t.Fatal(err)
	}
	return list[since:]
}

// checkOrder wants the first of one kind before the first of another, of or to the user of each; keys that were lost do not count.
func (p *person) checkOrder(list []element.Signal, first, user1, second, user2 string) {
	p.t.Helper()
	find := func(kind, user string) int {
		return slices.IndexFunc(list, func(s element.Signal) bool { return s.Kind == kind && s.User == user && !s.Lost })
	}
	if i, j := find(first, user1), find(second, user2); i < 0 || j < 0 || i > j {
		p.t.Errorf("%q is not before %q: %+v", first, second, list)
	}
}

// keysFrom are the keys of a user among signals.
func keysFrom(list []element.Signal, user string) (keys []string) {
	for _, s := range list {
		if s.Kind == "key in" && s.User == user {
			keys = append(keys, s.Key)
		}
	}
	return keys
}

// userID is the kiosk's.
func (w demoWindow) userID() string { return fmt.Sprintf("@%s:localhost:%d", w.Username, w.Public) }

// comesAgain is somebody who comes, goes and comes again with the same device, where the machine is quick enough while the window is still in the
// call: keys overtake memberships, memberships keys, and one key is lost. Each time the window's key is another, so that nobody can look in who
// has gone.
func (v visitor) comesAgain() {
	kiosk := v.w.n.Windows[0].userID()
	var old []string
	var sent time.Time
	stay := func(f element.Faults) (passed []element.Signal) {
		v.t.Helper()
		since := len(v.signals(0))
		v.Disturb(f)
		v.visit()
		v.Disturb(element.Faults{})
		passed = v.signals(since)
		keys := keysFrom(passed, kiosk)
		for _, key := range keys {
			if slices.Contains(old, key) {
				v.t.Error("a key of the window's is used again")
			}
		}
		old = append(old, keys...)
		times, err := v.Times()
		if err != nil || len(keys) == 0 || !times.Sent.After(sent) {
			v.t.Errorf("%d keys came with the membership of %v, the last was of %v, %v", len(keys), times.Sent, sent, err)
		}
		sent = times.Sent
		v.HangUp()
		return passed
	}
	passed := stay(element.Faults{MembersIn: late, KeysOut: late})
	v.checkOrder(passed, "key in", kiosk, "member in", kiosk)
	v.checkOrder(passed, "member out", v.User, "key out", kiosk)
	passed = stay(element.Faults{KeysIn: late, MembersOut: late})
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

// awaitReadable waits until somebody who has all keys that a person was ever given could hear most of what is said in a call, or nothing of it.
func (s *stranger) awaitReadable(p *person, want bool) {
	p.t.Helper()
	rig.Eventually(p.t, 20*time.Second, func() error {
		s.mu.Lock()
		frames := s.audio
		if len(frames) >= 100 {
			s.audio = nil // the next look is at what comes from now on
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
