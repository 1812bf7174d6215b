package rtc

import (
	"bytes"
	"context"
	"encoding/base64"
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

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/rtc/matrixerror"
	"multifactorymodel.org/ewindow/bot/rtc/mediakeys"
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
		// Again, at once: the server's features are known by now.
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
		b.fault("all", nil) // the server still waits for us
		b.wait(5 * time.Second)
		if got := b.took(); strings.Contains(got, "fired") || strings.Contains(got, "member") || !strings.Contains(got, "restart, restart") {
			t.Fatal(got)
		}
		b.fault("all", errNoNetwork)
		b.wait(time.Hour)
		if got := b.took(); !strings.Contains(got, "fired") {
			t.Fatal(got)
		}
		// The server has removed us. It says so at once, though sync has not caught up; the membership is a new one.
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
		// What was scheduled can't be held off: it removes us, and we come again.
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

// TestKicked: who was thrown out of the room leaves the call without an error. It may change nothing in the room, and cancels what it has
// scheduled there.
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
		// Back again: the response has the state, and a time line with all that happened to us. None of that takes back what the state says.
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
		if got := b.took(); !strings.HasPrefix(got, "member 4h0m0s, restart") {
			t.Fatal(got)
		}
	})
}

// TestMembershipRenewed: who sees nobody begins a new membership, so that everybody sends their key again, but not more often than every half minute.
func TestMembershipRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		call := b.join()
		b.wait(10 * time.Second)
		for _, want := range []string{"member 4h0m1s", "member 4h0m2s"} { // the same would be no event
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
		// In a call that is entered at once the others have to see that we went and came: their keys are lost.
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

func TestKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.bobComes()
		b.m.handleKey(bot.ToDevice{From: bobDevice, Content: json.RawMessage(validKey)}) // before we have joined
		b.wait(time.Second)
		if got := b.inCall(); len(got) != 1 || got[0].User != bob {
			t.Fatalf("got %+v", got)
		}
		call := b.join()
		b.wait(time.Second)
		b.expect("events", b.told(), "use 0, key 3 of @bob:two.example:BOBDEV, transport "+ownService+", sent 0")
		sent := b.sent()
		if len(sent) != 1 || sent[0].to != bobDevice || sent[0].key.Room != hall {
			t.Fatalf("sent to %d devices", len(sent))
		}
		if key, err := base64.StdEncoding.DecodeString(sent[0].key.Keys.Key); err != nil || len(key) != 16 {
			t.Fatalf("key of %d bytes, %v", len(key), err)
		}
		for _, content := range []string{
			strings.Replace(validKey, "!hall", "!other", 1), // kept, but for no member of this call
			strings.Replace(validKey, `"claimed_device_id":"BOBDEV"`, `"claimed_device_id":"X"`, 1),
			`{}`,
		} {
			b.m.handleKey(bot.ToDevice{From: bobDevice, Content: json.RawMessage(content)})
		}
		b.wait(time.Second)
		b.expect("events", b.told(), "")
		if got := b.m.Stats().InvalidKeys; got != 2 {
			t.Fatalf("%d invalid keys", got)
		}
		// Carol's key comes before she does.
		carols := bot.Device{User: carol, ID: "C"}
		b.m.handleKey(bot.ToDevice{From: carols, Content: json.RawMessage(strings.Replace(validKey, `"claimed_device_id":"BOBDEV"`, `"claimed_device_id":"C"`, 1))})
		b.wait(time.Second)
		b.expect("events", b.told(), "")
		b.m.handleEvent(stateEvent(hall, "$c", typeMember, carol, "_carol", state("C", ownService)))
		b.wait(time.Second)
		b.expect("events", b.told(), "key 3 of @carol:one.example:C, sent 0, sent 0") // to her, and to bob once more
		// Bob goes: carol gets another key, which is used a second after that.
		b.bobGoes()
		b.wait(time.Second)
		b.expect("events", b.told(), "sent 1")
		b.wait(time.Second)
		b.expect("events", b.told(), "use 1")
		b.leaveNow(call)
		forgotten := false
		b.m.queue.Put(func() { // as if bob were there still
			forgotten = len(b.m.keys.Install(time.Now(), hall, []Member{{User: bob, Device: "BOBDEV", Identity: "another"}})) == 0
		})
		synctest.Wait()
		if !forgotten {
			t.Error("the keys are still known")
		}
		b.bobComes()
		b.wait(time.Minute)
		b.expect("events after leaving", b.told(), "")
	})
}

func TestKeysRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.bobComes()
		b.m.handleEvent(stateEvent(hall, "$c", typeMember, carol, "_carol", state("C", ownService)))
		b.set(func(f *fakeServer) { f.untrusted[bot.Device{User: carol, ID: "C"}] = true })
		b.fault("keys", errNoNetwork)
		call := b.join()
		b.wait(2 * time.Second)
		b.fault("keys", nil)
		b.wait(2 * time.Second)
		if sent := b.sent(); len(sent) != 1 || sent[0].to != bobDevice {
			t.Fatalf("sent to %d devices", len(sent))
		}
		got := strings.Split(b.told(), ", ")
		slices.Sort(got)
		b.expect("events", strings.Join(got, ", "), "sent 0, transport "+ownService+", use 0, withheld @carol:one.example C")
		// What was sent may be lost all the same.
		b.wait(time.Hour)
		b.expect("once more", b.told(), "sent 0")
		call.SendKeyAgain()
		b.wait(time.Second)
		b.expect("events", b.told(), "sent 0")
		if sent := b.sent(); len(sent) != 3 || sent[2].to != bobDevice || sent[2].key.Keys != sent[0].key.Keys {
			t.Fatalf("sent %+v", sent)
		}
		b.leaveNow(call)
		call.SendKeyAgain()
		b.wait(time.Second)
		if sent := b.sent(); len(sent) != 3 {
			t.Fatal("a key is sent after leaving")
		}
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

// TestSources: invitations say nothing, and what comes with our own leaving ends the room.
func TestSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.bobComes()
		b.wait(time.Millisecond)
		invited := stateEvent("!new:evil.example", "$i", event.StateMember, alice, alice.String(), `{"membership":"join"}`)
		invited.Mautrix.EventSource = event.SourceInvite | event.SourceState
		b.m.handleEvent(invited)
		ignored := stateEvent(hall, "$b", typeMember, bob, "_bob", `{}`)
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
		b.m.handleEvent(sticky) // without the marker it is an event like any other
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

// bobsKey is a media key as bob's device sends it.
func bobsKey(index uint8, material byte) bot.ToDevice {
	content, err := json.Marshal(mediakeys.NewContent(hall, bobDevice, mediakeys.Key{Index: index, Material: bytes.Repeat([]byte{material}, 16)}, time.Now()))
	if err != nil {
		panic(err) // it can always be encoded
	}
	return bot.ToDevice{From: bobDevice, Content: content}
}

// TestKeyIndexWraps: after key 255 comes key 0, theirs and ours, and is another key than the first one was.
func TestKeyIndexWraps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.bobComes()
		b.join()
		b.wait(time.Second)
		b.told()
		for i := range 600 {
			b.m.handleKey(bobsKey(uint8(i), byte(i/256+1)))
			b.wait(time.Millisecond)
			b.mu.Lock()
			got := b.events
			b.events = nil
			b.mu.Unlock()
			if len(got) != 1 || got[0].Kind != Key || got[0].Index != uint8(i) || got[0].Material[0] != byte(i/256+1) {
				t.Fatalf("key %d: %+v", i, got)
			}
		}
		// Carol comes and goes: each time bob gets the next key.
		first, last := "", 0
		for i := 1; i <= 257; i++ {
			b.m.handleEvent(stateEvent(hall, "$c", typeMember, carol, "_carol", state("C", ownService)))
			b.wait(2 * time.Second)
			b.m.handleEvent(stateEvent(hall, "$c", typeMember, carol, "_carol", `{}`))
			b.wait(2 * time.Second)
			if got := b.told(); !strings.HasSuffix(got, fmt.Sprint("use ", i%256)) {
				t.Fatalf("after %d: %s", i, got)
			}
			for _, s := range b.sent() {
				if s.to != bobDevice {
					continue
				}
				if first == "" {
					first = s.key.Keys.Key
				}
				last = int(s.key.Keys.Index)
				if i >= 256 && last == 0 && s.key.Keys.Key != first {
					first = "replaced"
				}
			}
			if last != i%256 {
				t.Fatalf("after %d bob has key %d", i, last)
			}
		}
		if first != "replaced" {
			t.Error("key 0 is the same again")
		}
	})
}

// TestKeysOfRejoined: a device that comes again has lost its keys, and sends others under numbers that we know.
func TestKeysOfRejoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.bobComes()
		b.m.handleKey(bobsKey(0, 1))
		b.join()
		b.wait(time.Second)
		b.told()
		again := func(after time.Duration) {
			b.wait(after)
			b.m.handleKey(bobsKey(0, 2)) // it may overtake the membership
			b.m.handleEvent(stateEvent(hall, "$b2", typeMember, bob, "_bob", validState))
			b.wait(2 * time.Second)
		}
		again(time.Second)
		b.expect("young key", b.told(), "key 0 of @bob:two.example:BOBDEV, sent 0")
		b.wait(10 * time.Second)
		b.expect("once more", b.told(), "sent 0")
		again(0)
		b.expect("old key: nobody follows us by it", b.told(), "key 0 of @bob:two.example:BOBDEV, use 1, sent 1")
		if sent := b.sent(); len(sent) != 4 || sent[2].key.Keys != sent[0].key.Keys || sent[3].key.Keys.Index != 1 {
			t.Fatalf("sent %+v", sent)
		}
		// The same membership once more, as sync may bring it: nobody has come.
		e := stateEvent(hall, "$b2", typeMember, bob, "_bob", validState)
		e.Timestamp -= 2000
		b.m.handleEvent(e)
		b.wait(time.Minute)
		b.expect("the key once more", b.told(), "sent 1")
	})
}
