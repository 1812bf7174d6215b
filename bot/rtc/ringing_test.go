package rtc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/matrixerror"
	"multifactorymodel.org/ewindow/bot/rtc/ring"
	"multifactorymodel.org/ewindow/bot/unstable"
)

// Contents as Element Call 0.26.1 and matrix-js-sdk 43 send them (MSC4075, MSC4310).
const (
	validRing = `{"notification_type":"ring","m.mentions":{"user_ids":[],"room":true},"m.relates_to":{"rel_type":"m.reference","event_id":"$b"},` +
		`"sender_ts":1793000000000,"lifetime":90000,"m.call.intent":"video"}`
	newerRing = `{"notification_type":"notification","m.mentions":{"user_ids":["@alice:one.example"]},"m.relates_to":{"rel_type":"m.reference",` +
		`"event_id":"$b"},"sender_ts":1793000000000,"lifetime":90000,"slot_id":"m.call#ROOM","msc4354_sticky_key":"m.call#ROOM"}`
	validDecline = `{"m.relates_to":{"rel_type":"m.reference","event_id":"$ours"},"msc4354_sticky_key":"x"}`
	validInvite  = `{"call_id":"c1","party_id":"BOBDEV","version":"1","lifetime":60000,"offer":{"type":"offer","sdp":"v=0"}}`
)

// message is a decrypted event of a room's timeline, as the bot hands it over.
func message(kind event.Type, eventID string, sender id.UserID, content string) *event.Event {
	e := &event.Event{
		RoomID: hall, ID: id.EventID(eventID), Type: kind, Sender: sender, Timestamp: time.Now().UnixMilli(),
		Content: event.Content{VeryRaw: json.RawMessage(content)},
	}
	e.Mautrix.WasEncrypted, e.Mautrix.TrustState = true, id.TrustStateCrossSignedTOFU
	e.Mautrix.EventSource = event.SourceJoin | event.SourceTimeline
	return e
}

// ringAt is a ring that is sent now.
func ringAt(lifetime time.Duration) string {
	return fmt.Sprintf(`{"notification_type":"ring","m.mentions":{"room":true},"sender_ts":%d,"lifetime":%d}`,
		time.Now().UnixMilli(), lifetime.Milliseconds())
}

func TestRing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		take := func(e *event.Event) { b.m.handleEvent(e); synctest.Wait() }
		take(message(typeRing, "$r1", bob, ringAt(90*time.Second)))
		b.expect("rung", b.rung(), "ring $r1 of @bob:two.example in !hall:one.example for 1m30s")
		take(message(typeRing, "$r1", bob, ringAt(90*time.Second))) // the bot may hand an event over twice
		b.expect("rung twice", b.rung(), "")
		take(message(typeRing, "$r2", carol, strings.Replace(newerRing, "1793000000000", "0", 1)))
		b.expect("told", b.rung(), "notification $r2 of @carol:one.example in !hall:one.example for 1m30s")

		// Rings that are not for us.
		take(message(typeRing, "$o1", alice, ringAt(time.Minute)))
		take(message(typeRing, "$o2", bob, `{"notification_type":"ring","lifetime":90000,"m.mentions":{"user_ids":["@carol:one.example"]}}`))
		take(message(typeRing, "$o3", bob, `{"notification_type":"ring","lifetime":90000}`))
		if s := b.m.Stats(); s.RefusedRings != 0 || s.InvalidRings != 0 || b.rung() != "" {
			t.Fatalf("got %+v", s)
		}
		// Rings that are refused.
		for i, change := range []func(e *event.Event){
			func(e *event.Event) { e.Mautrix.WasEncrypted = false },
			func(e *event.Event) { e.Mautrix.TrustState = id.TrustStateUnknownDevice },
			func(e *event.Event) { e.Mautrix.TrustState = id.TrustStateDeviceKeyMismatch },
			func(e *event.Event) { e.Sender = "@eve:evil.example" },
			func(e *event.Event) { e.RoomID = "!other:one.example" },
			func(e *event.Event) { e.Unsigned.Age = time.Hour.Milliseconds() },
			func(e *event.Event) { e.Timestamp -= time.Hour.Milliseconds() },
		} {
			e := message(typeRing, fmt.Sprint("$n", i), bob, ringAt(time.Minute))
			change(e)
			take(e)
			if s := b.m.Stats(); s.RefusedRings != uint64(i+1) || b.rung() != "" {
				t.Fatalf("case %d: %+v", i, s)
			}
		}
		take(message(typeRing, "$i", bob, `{"notification_type":"ring"}`))
		take(message(typeDecline, "$i", bob, `{"m.relates_to":{"rel_type":"m.replace","event_id":"$ours"}}`))
		take(message(event.CallInvite, "$i", bob, `{"call_id":1}`))
		if s := b.m.Stats(); s.InvalidRings != 3 || s.RefusedRings != 7 || b.rung() != "" {
			t.Fatalf("got %+v", s)
		}
		// An unverified device may ring, so that its user can be told that nobody will answer.
		e := message(typeRing, "$u", bob, ringAt(time.Minute))
		e.Mautrix.TrustState = id.TrustStateUnset
		take(e)
		b.expect("rung", b.rung(), "ring $u of @bob:two.example in !hall:one.example for 1m0s")
	})
}

// TestOldRings: old events in a first or a limited sync response do not ring.
func TestOldRings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var past []*event.Event
		for i := range 50 {
			past = append(past, message(typeRing, fmt.Sprint("$r", i), bob, ringAt(90*time.Second)))
			past = append(past, message(event.CallInvite, fmt.Sprint("$i", i), bob, strings.Replace(validInvite, "c1", fmt.Sprint("c", i), 1)))
		}
		<-time.After(91 * time.Second)
		b := newBench(t)
		for _, e := range past {
			b.m.handleEvent(e)
		}
		b.wait(time.Second)
		b.expect("rung", b.rung(), "")
		if s := b.m.Stats(); s.RefusedRings != 100 || len(b.said()) != 0 {
			t.Fatalf("got %+v", s)
		}
	})
}

// How many rings and legacy calls of one sender count in a minute.
const (
	maxSenderRings  = 5
	maxSenderLegacy = 3
)

func TestRingLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		for i := range 100 {
			b.m.handleEvent(message(typeRing, fmt.Sprint("$r", i), bob, ringAt(time.Millisecond)))
			b.m.handleEvent(message(typeRing, fmt.Sprint("$s", i), carol, ringAt(time.Minute)))
			b.m.handleEvent(message(event.CallInvite, fmt.Sprint("$i", i), bob, strings.Replace(validInvite, "c1", fmt.Sprint("c", i), 1)))
		}
		b.wait(time.Second)
		got := b.rung()
		if strings.Count(got, "of @bob:two.example") != maxSenderRings+maxSenderLegacy || strings.Count(got, "of @carol") != maxSenderRings {
			t.Fatal(got)
		}
		if s := b.m.Stats(); s.DroppedRings != 300-2*maxSenderRings-maxSenderLegacy || len(b.said()) != maxSenderLegacy {
			t.Fatalf("got %+v", s)
		}
		// A minute later they count again.
		b.wait(time.Minute)
		b.m.handleEvent(message(typeRing, "$again", bob, ringAt(time.Minute)))
		synctest.Wait()
		b.expect("rung", b.rung(), "ring $again of @bob:two.example in !hall:one.example for 1m0s")
	})
}

func TestRingAndDecline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		rings := func(users ...id.UserID) (id.EventID, error) {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			name, err := b.m.Ring(ctx, hall, users)
			synctest.Wait()
			return name, err
		}
		for _, users := range [][]id.UserID{nil, {bob, alice}, {""}, make([]id.UserID, 1000+1)} {
			if _, err := rings(users...); err == nil {
				t.Fatalf("%q rung", users)
			}
		}
		if _, err := rings(bob); !errors.Is(err, ErrNotInCall) {
			t.Fatalf("got %v", err)
		}
		// Ring waits for the membership, since the notification refers to it.
		call := b.join()
		begun := time.Now().UnixMilli()
		ours, err := rings(bob, carol)
		if err != nil {
			t.Fatal(err)
		}
		sent := b.said()
		if len(sent) != 1 || sent[0].kind != unstable.CallNotification || sent[0].id != ours.String() {
			t.Fatalf("got %+v", sent)
		}
		b.expect("content", strings.Replace(sent[0].content, fmt.Sprint(begun+30), "NOW", 1),
			`{"notification_type":"ring","m.mentions":{"user_ids":["@bob:two.example","@carol:one.example"],"room":false},`+
				`"m.relates_to":{"rel_type":"m.reference","event_id":"$2"},"sender_ts":NOW,"lifetime":60000,"m.call.intent":"video"}`)
		if n, err := ring.ParseNotification([]byte(sent[0].content)); err != nil || !n.Rings() || !n.Mentions(carol) || n.Mentions(alice) {
			t.Fatalf("our own ring reads as %+v, %v", n, err)
		}

		decline := func(of string) string { return strings.Replace(validDecline, "$ours", of, 1) }
		take := func(e *event.Event) { b.m.handleEvent(e); synctest.Wait() }
		take(message(typeDecline, "$d1", bob, decline("$other")))
		clear := message(typeDecline, "$d2", bob, decline(ours.String()))
		clear.Mautrix.WasEncrypted = false
		take(clear)
		take(message(typeDecline, "$d3", "@eve:evil.example", decline(ours.String())))
		take(message(typeDecline, "$d4", alice, decline(ours.String())))
		b.expect("declined", b.rung(), "")
		for range 2 {
			take(message(typeDecline, "$d5", bob, decline(ours.String())))
		}
		b.expect("declined", b.rung(), fmt.Sprintf("@bob:two.example declines %s in !hall:one.example", ours))
		b.wait(2 * time.Minute)
		take(message(typeDecline, "$d6", carol, decline(ours.String())))
		b.expect("too late", b.rung(), "")

		// A decline arrives before our homeserver's answer.
		b.set(func(f *fakeServer) {
			f.onSend = func(m sentMessage) {
				b.m.handleEvent(message(typeDecline, "$d7", carol, decline(m.id)))
				b.m.handleEvent(message(typeDecline, "$d8", bob, decline("$other")))
			}
		})
		if ours, err = rings(carol); err != nil {
			t.Fatal(err)
		}
		b.expect("declined", b.rung(), fmt.Sprintf("@carol:one.example declines %s in !hall:one.example", ours))

		b.fault("message", errForbidden)
		var refused *matrixerror.Error
		if _, err := rings(bob); !errors.As(err, &refused) {
			t.Fatalf("got %v", err)
		}
		b.leaveNow(call)
		if _, err := rings(bob); !errors.Is(err, ErrNotInCall) {
			t.Fatalf("got %v", err)
		}
		// The membership cannot be sent: Ring waits until its context ends.
		b.fault("member", errNoNetwork)
		b.join()
		if _, err := rings(bob); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		b.cancel()
		<-b.ended
		if _, err := rings(bob); !errors.Is(err, ErrClosed) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestDeclineAndNotice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		ctx := context.Background()
		if err := b.m.Decline(ctx, hall, "$theirs"); err != nil {
			t.Fatal(err)
		}
		if err := b.m.Notice(ctx, hall, "The window is shut."); err != nil {
			t.Fatal(err)
		}
		b.expect("sent", fmt.Sprint(b.said()), `[{$1 org.matrix.msc4310.rtc.decline {"m.relates_to":{"rel_type":"m.reference","event_id":"$theirs"}}} `+
			`{$2 m.room.message {"msgtype":"m.notice","body":"The window is shut."}}]`)
		for _, text := range []string{"", strings.Repeat("x", maxNotice+1), "\xff"} {
			if err := b.m.Notice(ctx, hall, text); err == nil {
				t.Errorf("sent %.10q", text)
			}
		}
		if err := b.m.Decline(ctx, hall, ""); err == nil {
			t.Error("declined nothing")
		}
		b.fault("message", errForbidden)
		if err := b.m.Decline(ctx, hall, "$theirs"); !matrixerror.IsForbidden(err) {
			t.Errorf("got %v", err)
		}
		b.fault("message", nil)
		b.set(func(f *fakeServer) { f.encrypted = false })
		if err := b.m.Notice(ctx, hall, "in the clear"); !errors.Is(err, ErrUnencrypted) || len(b.said()) != 0 {
			t.Errorf("got %v", err)
		}
	})
}

func TestLegacyCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		take := func(e *event.Event) { b.m.handleEvent(e); b.wait(time.Second) }
		take(message(event.CallInvite, "$i1", bob, validInvite))
		b.expect("told", b.rung(), "legacy call of @bob:two.example in !hall:one.example")
		b.expect("answer", fmt.Sprint(b.said()), `[{$1 m.call.reject {"call_id":"c1","party_id":"OWN","version":"1"}}]`)
		take(message(event.CallInvite, "$i2", bob, validInvite)) // once a call
		plain := message(event.CallInvite, "$i3", carol, `{"call_id":"c2","version":0,"invitee":"@alice:one.example","lifetime":999999}`)
		plain.Mautrix.WasEncrypted = false
		take(plain)
		b.expect("told", b.rung(), "legacy call of @carol:one.example in !hall:one.example")
		b.expect("answer", fmt.Sprint(b.said()), `[{$2 m.call.reject {"call_id":"c2","party_id":"OWN","version":"1"}}]`)
		take(message(event.CallInvite, "$i4", carol, `{"call_id":"c3","invitee":"@bob:two.example"}`))
		take(message(event.CallInvite, "$i5", alice, `{"call_id":"c4"}`))
		take(message(event.CallInvite, "$i6", "@eve:evil.example", `{"call_id":"c5"}`))
		old := message(event.CallInvite, "$i7", carol, `{"call_id":"c6"}`)
		old.Timestamp -= (2 * time.Minute).Milliseconds()
		take(old)
		b.expect("told", b.rung(), "")
		if s := b.m.Stats(); s.RefusedRings != 2 || s.DroppedRings != 0 || len(b.said()) != 0 {
			t.Fatalf("got %+v", s)
		}
		// OnLegacyCall is not called when the reject could not be sent.
		b.fault("message", errForbidden)
		take(message(event.CallInvite, "$i8", carol, `{"call_id":"c7"}`))
		b.expect("told", b.rung(), "")
	})
}
