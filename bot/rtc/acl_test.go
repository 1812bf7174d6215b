package rtc

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"maunium.net/go/mautrix/event"
)

func TestACL(t *testing.T) {
	long := `{"allow":["*"` + strings.Repeat(`,"x"`, maxPatterns) + `]}`
	for _, c := range []struct {
		content, permitted, refused string
	}{
		{`{"allow":["*"],"deny":["evil.example","*.evil.example"]}`, "one.example one.example:8448 notevil.example 1.2.3.4", "evil.example EVIL.example:443 a.b.evil.example"},
		{`{"allow":["one.example","*.two.example"]}`, "one.example x.two.example:1", "two.example three.example [::1]"},
		{`{"allow":["*"],"allow_ip_literals":false}`, "one.example", "1.2.3.4 1.2.3.4:8448 [2001:db8::1] [2001:db8::1]:8448"},
		{`{"allow":["*"],"deny":["one.exampl?"]}`, "one.example.org", "one.example"},
		{`{}`, "", "one.example"},
		{`{"allow":["*",1,{}],"deny":[null]}`, "one.example", ""},
		{`{"allow":"*"}`, "one.example", ""}, // can't be read
		{`[]`, "one.example", ""},
		{long, "one.example", ""},
	} {
		a := parseACL([]byte(c.content))
		for range 2 {
			for _, server := range strings.Fields(c.permitted) {
				if !a.permits(server) {
					t.Errorf("%.80s: %s is refused", c.content, server)
				}
			}
			for _, server := range strings.Fields(c.refused) {
				if a.permits(server) {
					t.Errorf("%.80s: %s is permitted", c.content, server)
				}
			}
		}
	}
	a := parseACL([]byte(`{"allow":["*"]}`))
	for i := range 3 * maxJudged {
		a.permits(fmt.Sprint(i))
	}
	if len(a.judged) > maxJudged {
		t.Errorf("%d servers are remembered", len(a.judged))
	}
}

// TestShutOutServer: who is on a homeserver that may not be in the room any more can't leave, and is gone for us at once: with a new key.
func TestShutOutServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.bobComes()
		b.m.handleEvent(stateEvent(hall, "$c", typeMember, carol, "_carol", string(state("C", selectMulti, ownService))))
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

func FuzzACL(f *testing.F) {
	f.Add([]byte(`{"allow":["*"],"deny":["*.evil.example"],"allow_ip_literals":false}`), "a.evil.example:8448")
	f.Add([]byte(`{"allow":["[a-z]?**(","\\"]}`), "[::1]")
	f.Fuzz(func(t *testing.T, content []byte, server string) {
		a := parseACL(content)
		first := a.permits(server)
		if a != nil && (len(a.allow) > maxPatterns || len(a.deny) > maxPatterns) {
			t.Fatal("too many patterns")
		}
		if a.permits(server) != first || parseACL(content).permits(server) != first {
			t.Fatal("judged once so, once so")
		}
	})
}
