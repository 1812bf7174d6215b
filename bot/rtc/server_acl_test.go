package rtc

import (
	"testing"
	"testing/synctest"
	"time"

	"maunium.net/go/mautrix/event"
)

// TestBannedServer: a user on a homeserver that the ACL bans cannot leave the call any more. We drop the member at once and use a new key.
func TestBannedServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.bobComes()
		b.m.handleEvent(stateEvent(hall, "$c", typeMember, carol, carolKey, state("C", ownService)))
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
		// The list is not applied to users of our own homeserver, which accepts their events anyway.
		acl(`{"allow":["two.example"]}`)
		b.wait(time.Second)
		if got := names(b.inCall()); got != "@carol:one.example:C @bob:two.example:BOBDEV" && got != "@bob:two.example:BOBDEV @carol:one.example:C" {
			t.Fatalf("in the call: %s", got)
		}
	})
}
