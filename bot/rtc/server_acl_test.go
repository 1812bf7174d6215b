package rtc

import (
	"testing"
	"testing/synctest"
	"time"

	"maunium.net/go/mautrix/event"
)

// TestShutOutServer: who is on a homeserver that may not be in the room any more can't leave, and is gone for us at once: with a new key.
func TestShutOutServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.bobComes()
		b.m.handleEvent(stateEvent(hall, "$c", typeMember, carol, "_carol", state("C", ownService)))
		b.join()
		b.wait(time.Second)
		b.told()
		acl := func(content string) {
			b.m.handleEvent(stateEvent(hall, "$a", event.StateServerACL, alice, "", content))
		}
		acl(`{"allow":["*"],"deny":["two.example"]}`)
		b.wait(2 * time.Second)
		if got := names(b.inCall()); got != "@carol:one.example:C" {
			t.Fatalf("in the call: %s", got)
		}
		b.expect("events", b.told(), "sent 1, use 1")
		// A list that leaves out our own server hides nobody on it: our homeserver goes on all the same.
		acl(`{"allow":["two.example"]}`)
		b.wait(time.Second)
		if got := names(b.inCall()); got != "@carol:one.example:C @bob:two.example:BOBDEV" && got != "@bob:two.example:BOBDEV @carol:one.example:C" {
			t.Fatalf("in the call: %s", got)
		}
	})
}
