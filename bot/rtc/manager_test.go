package rtc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/matrixerror"
	"multifactorymodel.org/ewindow/bot/rtc/membership"
	"multifactorymodel.org/ewindow/bot/unstable"
)

func TestJoinAndLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		call := b.join()
		b.wait(time.Second)
		b.expect("requests", b.took(), "versions, schedule 18s, member 4h0m0s, restart")
		b.expect("events", b.told(), "use 0, transport "+ownService)
		const content = `{"application":"m.call","call_id":"","scope":"m.room","device_id":"OWN","membershipID":"@alice:one.example:OWN",` +
			`"expires":14400000,"m.call.intent":"video","focus_active":{"type":"livekit","focus_selection":"multi_sfu"},` +
			`"foci_preferred":[{"type":"livekit","livekit_service_url":"https://rtc.one.example/jwt","livekit_alias":"!hall:one.example"}]}`
		b.set(func(f *fakeServer) { b.expect("state", f.state["_@alice:one.example_OWN_m.call"], content) })
		if _, err := b.m.Join(hall, JoinOptions{OnEvent: func(Event) {}}); !errors.Is(err, ErrInCall) {
			t.Fatalf("got %v", err)
		}
		b.wait(12 * time.Second)
		b.expect("restarts", b.took(), "restart, restart, restart")
		b.leaveNow(call)
		b.expect("leaving", b.took(), "send, fired")
		if err := call.Leave(context.Background()); err != nil {
			t.Fatal(err)
		}
		// Once more, at once: the homeserver's features are known by now.
		again := b.join()
		b.wait(time.Second)
		b.expect("requests", b.took(), "schedule 18s, member 4h0m0s, restart")
		b.leaveNow(again)
		b.wait(time.Hour)
		b.expect("after leaving", b.took(), "send, fired")
	})
}

func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.join()
		b.wait(2*time.Hour + time.Minute)
		got := strings.ReplaceAll(b.took(), ", restart", "")
		b.expect("refreshes", got, "versions, schedule 18s, member 4h0m0s, member 8h0m0s since 30ms, member 12h0m0s since 30ms")
	})
}

func TestNetworkLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.join()
		b.wait(10 * time.Second)
		b.took()
		b.fault("all", errNoNetwork)
		b.set(func(f *fakeServer) { f.silent = true })
		b.wait(15 * time.Second)
		b.fault("all", nil) // the delayed leave is still waiting
		b.wait(5 * time.Second)
		if got := b.took(); strings.Contains(got, "fired") || strings.Contains(got, "member") || !strings.Contains(got, "restart, restart") {
			t.Fatal(got)
		}
		b.fault("all", errNoNetwork)
		b.wait(time.Hour)
		if got := b.took(); !strings.Contains(got, "fired") {
			t.Fatal(got)
		}
		// The homeserver has removed us. It says so at once, although sync has not shown it. The next membership is a new one.
		b.fault("all", nil)
		b.wait(10 * time.Second)
		if got := b.took(); !strings.Contains(got, "check, schedule 18s") || !strings.Contains(got, "member 4h0m0s, restart") || strings.Contains(got, "since") {
			t.Fatal(got)
		}
	})
}

func TestWithoutDelayedEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(b *bench) { b.delayed = false })
		call := b.join()
		b.wait(11 * time.Minute)
		b.expect("requests", b.took(), "versions, member 10m0s, member 15m0s since 20ms, member 20m0s since 20ms")
		b.leaveNow(call)
		b.expect("leaving", b.took(), "empty")
	})
}

func TestShortDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(b *bench) { b.maxDelay = 10 * time.Second })
		b.join()
		b.wait(7 * time.Second)
		b.expect("requests", b.took(), "versions, schedule 18s, schedule 8s, member 4h0m0s, restart, restart, restart")
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.fault("schedule", &matrixerror.Error{Status: 400, Code: unstable.CodeDelayTooLong, MaxDelay: 5 * time.Second})
		b.join()
		b.wait(15 * time.Millisecond)
		b.fault("schedule", nil)
		b.wait(time.Second)
		if got := b.took(); !strings.HasPrefix(got, "versions, schedule 18s") || !strings.Contains(got, "member 4h0m0s, restart") {
			t.Fatal(got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.fault("schedule", errForbidden)
		b.join()
		b.wait(time.Second)
		b.expect("requests", b.took(), "versions, schedule 18s, schedule 8s, member 10m0s")
	})
}

func TestScheduleBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.fault("schedule", &matrixerror.Error{Status: 502})
		b.join()
		b.wait(10 * time.Second)
		got := b.took()
		if !strings.HasPrefix(got, "versions, schedule 18s, schedule 18s, schedule 18s, member 10m0s") {
			t.Fatal(got)
		}
		b.fault("schedule", nil)
		b.wait(6 * time.Minute)
		if got := b.took(); !strings.Contains(got, "schedule 18s, restart") || !strings.Contains(got, "member 8h0m0s since") {
			t.Fatal(got)
		}
	})
}

func TestRestartUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.fault("restart", errUnknownURL)
		call := b.join()
		b.wait(time.Second)
		b.expect("requests", b.took(), "versions, schedule 18s, member 4h0m0s, restart, member 10m0s since 30ms")
		// The delayed leave cannot be restarted. It removes us, and we come again.
		b.wait(20 * time.Second)
		b.expect("requests", b.took(), "fired, member 10m0s")
		b.leaveNow(call)
		b.expect("leaving", b.took(), "empty")
	})
}

func TestNotAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.fault("member", errForbidden)
		call := b.join()
		b.wait(time.Second)
		got := b.told()
		if !strings.Contains(got, "failed: send call membership in !hall:one.example: not allowed") ||
			!strings.Contains(got, `events["org.matrix.msc3401.call.member"]`) {
			t.Fatal(got)
		}
		b.took()
		b.wait(time.Minute)
		b.expect("requests after failing", strings.ReplaceAll(b.took(), "fired", ""), "")
		b.fault("member", nil)
		b.leaveNow(call)
		b.wait(time.Minute)
		b.expect("events", b.told(), "")
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.join()
		b.wait(time.Second)
		b.told()
		b.took()
		kick := stateEvent(hall, "$m", event.StateMember, bob, alice.String(), `{"membership":"leave"}`)
		kick.Mautrix.EventSource = event.SourceLeave | event.SourceTimeline
		b.m.handleEvent(kick)
		b.wait(time.Minute)
		b.expect("events", b.told(), "failed: "+ErrNotJoined.Error())
		b.expect("requests", b.took(), "fired")
	})
}

// TestKicked: a user who was removed from the room leaves the call without an error. It cannot change anything in the room any more, and
// cancels its delayed leave.
func TestKicked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.bobComes()
		call := b.join()
		b.wait(time.Second)
		b.told()
		b.took()
		kick := stateEvent(hall, "$m", event.StateMember, bob, alice.String(), `{"membership":"ban"}`)
		kick.Mautrix.EventSource = event.SourceLeave | event.SourceTimeline
		b.m.handleEvent(kick)
		synctest.Wait()
		b.expect("events", b.told(), "failed: "+ErrNotJoined.Error())
		for _, name := range []string{"member", "empty", "send"} {
			b.fault(name, errForbidden)
		}
		b.leaveNow(call)
		b.expect("requests", b.took(), "cancel")
		if len(b.kept) != 0 || len(b.inCall()) != 0 {
			t.Fatalf("%q are remembered, %d in the call", b.kept, len(b.inCall()))
		}
		// We come back: the sync response has the room's state, and a timeline with our leaving and joining. That does not undo what the
		// state says.
		b.bobComes()
		b.joinRoom(bob)
		for _, membership := range []string{"leave", "invite", "join"} {
			e := stateEvent(hall, "$n", event.StateMember, bob, alice.String(), fmt.Sprintf(`{"membership":%q}`, membership))
			e.Mautrix.EventSource = event.SourceJoin | event.SourceTimeline
			b.m.handleEvent(e)
		}
		b.wait(time.Second)
		if got := names(b.inCall()); got != "@bob:two.example:BOBDEV" {
			t.Fatalf("in the call: %q", got)
		}
	})
}

func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.fault("member", &matrixerror.Error{Status: 429, Code: "M_LIMIT_EXCEEDED", RetryAfter: 20 * time.Second})
		b.join()
		b.wait(19 * time.Second)
		if got := b.took(); strings.Count(got, "member") != 1 || strings.Count(got, "restart") < 3 {
			t.Fatal(got)
		}
		b.fault("member", nil)
		b.wait(2 * time.Second)
		if got := b.took(); strings.Count(got, "member") != 1 {
			t.Fatal(got)
		}
	})
}

func TestMembershipRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.join()
		b.wait(10 * time.Second)
		b.took()
		b.put(hall, membership.StateKey(self), "{}") // a moderator, or a delayed leave of an earlier run
		b.wait(time.Second)
		b.expect("requests", b.took(), "schedule 18s, member 4h0m0s, cancel, restart") // the old delayed leave may still be waiting
		b.wait(leaveDelay)
		if got := b.took(); strings.Contains(got, "fired") {
			t.Fatal(got)
		}
	})
}

// TestRestartsHeld: the homeserver does not answer any request about a delayed leave. So it removes us again and again. Each time we are back at once,
// with another delayed leave.
func TestRestartsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		call := b.join()
		b.wait(10 * time.Second)
		b.took()
		b.set(func(f *fakeServer) { f.held = true })
		b.wait(leaveDelay)
		if got := b.took(); strings.Count(got, "restart") < 4 || !strings.Contains(got, "restart, fired, schedule 18s, member 4h0m0s") {
			t.Fatal(got)
		}
		b.wait(2 * leaveDelay)
		if got := b.took(); strings.Count(got, "fired, schedule 18s, member 4h0m0s") != 2 {
			t.Fatal(got)
		}
		b.set(func(f *fakeServer) { f.held = false })
		b.wait(2 * leaveDelay)
		if got := b.took(); strings.Contains(got, "fired") || strings.Contains(got, "member") || strings.Count(got, "restart") < 8 {
			t.Fatal(got)
		}
		b.leaveNow(call)
		b.expect("leaving", b.took(), "send, fired")
		if len(b.kept) != 0 {
			t.Errorf("delayed leaves are remembered: %q", b.kept)
		}
	})
}

// TestMembershipReplaced: somebody writes under our state key again and again. That does not end our membership: we write it again, with the
// time at which we came, and not more often than every five seconds.
func TestMembershipReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.join()
		b.wait(10 * time.Second)
		b.took()
		for i := range 20 {
			content := []string{"{}", state("OWN", "https://evil.example")}[i%2]
			b.m.handleEvent(stateEvent(hall, "$evil", typeMember, bob, membership.StateKey(self), content))
			b.wait(time.Second)
		}
		if got := b.took(); strings.Count(got, "since 30ms") != strings.Count(got, "member") || strings.Count(got, "member") < 3 || strings.Count(got, "member") > 5 {
			t.Fatal(got)
		}
		b.wait(time.Minute)
		if got := b.took(); strings.Contains(got, "member 8h0m0s since 30ms, member") || strings.Count(got, "member") > 1 {
			t.Fatal("written again without need: " + got)
		}
	})
}

// TestMembershipRenewed: Renew sends a new membership, so that everybody sends their key again, but at most once in half a minute.
func TestMembershipRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		call := b.join()
		b.wait(10 * time.Second)
		for _, want := range []string{"member 4h0m1s", "member 4h0m2s"} { // the homeserver would make no event of the same content
			b.took()
			for range 3 {
				call.Renew()
				b.wait(5 * time.Second)
			}
			if got := b.took(); strings.Count(got, want) != 1 || strings.Count(got, "member") != 1 {
				t.Fatal(got)
			}
			b.wait(15 * time.Second)
		}
	})
}

func TestMembershipNotSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(b *bench) { b.silent = true })
		b.join()
		b.wait(70 * time.Second)
		got := strings.ReplaceAll(b.took(), ", restart", "")
		b.expect("requests", got, "versions, schedule 18s, member 4h0m0s, member 4h0m0s, member 4h0m0s")
	})
}

func TestStale(t *testing.T) {
	old := state("OWN", ownService)
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(b *bench) { b.put(hall, membership.StateKey(self), old) })
		b.wait(staleGrace - time.Millisecond)
		b.expect("too early", b.took(), "")
		b.wait(time.Second)
		b.expect("removed", b.took(), "empty")
		b.wait(time.Hour)
		b.expect("once", b.took(), "")
	})
	synctest.Test(t, func(t *testing.T) {
		// When the call is entered at once, the others have to see that we left and came: we have lost their keys.
		b := newBench(t, func(b *bench) { b.put(hall, membership.StateKey(self), old) })
		b.join()
		b.wait(time.Second)
		b.expect("requests", b.took(), "versions, schedule 18s, empty, member 4h0m0s, restart")
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(b *bench) { b.put(hall, membership.StateKey(self), old) })
		b.fault("empty", errNoNetwork)
		b.wait(staleGrace + time.Second)
		b.fault("empty", nil)
		b.wait(staleRetry)
		b.expect("tried again", b.took(), "empty, empty")
	})
}

func TestRunEnds(t *testing.T) {
	for name, hang := range map[string]bool{"answering server": false, "hanging server": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				call := b.join()
				b.wait(time.Second)
				b.took()
				b.set(func(f *fakeServer) { f.hang = hang })
				begun := time.Now()
				b.cancel()
				<-b.ended
				if took := time.Since(begun); took > 5*time.Second {
					t.Fatalf("ending took %v", took)
				}
				want := "send, fired"
				if hang {
					want = "send, empty"
				}
				b.expect("leaving", b.took(), want)
				if err := call.Leave(context.Background()); (err != nil) != hang {
					t.Fatalf("got %v", err)
				}
				if _, err := b.m.Join(hall, JoinOptions{OnEvent: func(Event) {}}); !errors.Is(err, ErrClosed) {
					t.Fatalf("got %v", err)
				}
			})
		})
	}
}

func TestLeaveWhileEntering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.set(func(f *fakeServer) { f.hang = true })
		call := b.join()
		b.wait(time.Second)
		b.leaveNow(call)
		b.expect("nothing was sent, nothing is taken back", b.took(), "versions")
		if len(b.m.joined()) != 0 {
			t.Fatal("the call is still known")
		}
	})
}

// joined are the calls that are not left yet, so that nobody can join them again.
func (m *Manager) joined() map[id.RoomID]*Call {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls
}

func TestDiscovery(t *testing.T) {
	const other = "https://other.example"
	cases := []struct {
		name  string
		setUp func(*bench)
		asks  string
		want  string
	}{
		{"homeserver", func(*bench) {}, "transport", "transport " + ownService},
		{"file", func(b *bench) { b.faults["transport"], b.wellKnown = errUnknownURL, other }, "transport, wellknown", "transport " + other},
		{"empty, then file", func(b *bench) { b.transport, b.wellKnown = "", other }, "transport, wellknown", "transport " + other},
		{"configuration", func(b *bench) {
			b.faults["transport"], b.faults["wellknown"], b.m.fallback = errNotFound, errNoNetwork, other
		}, "transport, wellknown", "transport " + other},
		{"nothing", func(b *bench) { b.transport, b.faults["wellknown"] = "", errNotFound }, "transport, wellknown",
			"failed: " + ErrNoTransport.Error()},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, c.setUp)
				b.join()
				b.wait(100 * time.Millisecond)
				var asks []string
				for call := range strings.SplitSeq(b.took("transport", "wellknown"), ", ") {
					if call == "transport" || call == "wellknown" {
						asks = append(asks, call)
					}
				}
				b.expect("requests", strings.Join(asks, ", "), c.asks)
				b.expect("events", b.told(), "use 0, "+c.want)
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.fault("transport", errNoNetwork)
		b.join()
		b.wait(time.Hour)
		if got := b.took(); strings.Contains(got, "member") {
			t.Fatal(got)
		}
		b.fault("transport", nil)
		b.wait(5 * time.Second)
		b.expect("events", b.told(), "use 0, transport "+ownService)
		if got := b.took(); !strings.Contains(got, "member 4h0m0s") {
			t.Fatal(got)
		}
	})
}

func TestUnencrypted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(b *bench) { b.encrypted = false })
		call, err := b.m.Join("!clear:one.example", JoinOptions{OnEvent: func(e Event) {
			b.mu.Lock()
			b.events = append(b.events, e)
			b.mu.Unlock()
		}})
		if err != nil {
			t.Fatal(err)
		}
		b.wait(time.Second)
		if got := b.told(); !strings.Contains(got, "failed: "+ErrUnencrypted.Error()) {
			t.Fatal(got)
		}
		b.expect("requests", b.took(), "")
		b.leaveNow(call)
	})
}

func TestExpiryIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.bobComes()
		b.wait(4*time.Hour - time.Millisecond)
		if len(b.inCall()) != 1 {
			t.Fatal("ended too early")
		}
		b.wait(2 * time.Millisecond)
		if len(b.inCall()) != 0 {
			t.Fatal("has not ended")
		}
	})
}

// TestSources: events of invitations are ignored, and our own leaving ends everything in the room.
func TestSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.bobComes()
		b.wait(time.Millisecond)
		invited := stateEvent("!new:evil.example", "$i", event.StateMember, alice, alice.String(), `{"membership":"join"}`)
		invited.Mautrix.EventSource = event.SourceInvite | event.SourceState
		b.m.handleEvent(invited)
		ignored := stateEvent(hall, "$b", typeMember, bob, bobKey, `{}`)
		ignored.Mautrix.IgnoreState = true
		b.m.handleEvent(ignored)
		b.wait(time.Millisecond)
		b.m.queue.Put(func() {
			if slices.Contains(slices.Collect(b.m.roster.Rooms()), "!new:evil.example") {
				t.Error("the room of an invitation is known")
			}
		})
		synctest.Wait()
		if len(b.inCall()) != 1 {
			t.Fatalf("got %+v", b.inCall())
		}
		kicked := stateEvent(hall, "$k", event.StateMember, bob, alice.String(), `{"membership":"leave"}`)
		kicked.Mautrix.EventSource = event.SourceLeave | event.SourceTimeline
		b.m.handleEvent(kicked)
		b.wait(time.Millisecond)
		if len(b.inCall()) != 0 {
			t.Fatalf("got %+v", b.inCall())
		}
		sticky := &event.Event{
			RoomID: hall, ID: "$s", Type: typeSticky, Sender: bob, Timestamp: time.Now().UnixMilli(),
			Content: event.Content{VeryRaw: json.RawMessage(validSticky)},
		}
		b.joinRoom(alice)
		b.joinRoom(bob)
		b.m.handleEvent(sticky) // outside the sticky section it is not sticky
		b.wait(time.Millisecond)
		if len(b.inCall()) != 0 {
			t.Fatalf("got %+v", b.inCall())
		}
		sticky.Mautrix.EventSource = event.SourceJoin | event.SourceSticky
		b.m.handleEvent(sticky)
		b.wait(time.Millisecond)
		if got := b.inCall(); len(got) != 1 || !got[0].Sticky {
			t.Fatalf("got %+v", got)
		}
	})
}
