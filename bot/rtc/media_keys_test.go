package rtc

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/rtc/mediakeys"
)

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
			strings.Replace(validKey, "!hall", "!other", 1), // is kept, but is for no member of this call
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
		// Carol's key arrives before her membership.
		carols := bot.Device{User: carol, ID: "C"}
		b.m.handleKey(bot.ToDevice{From: carols, Content: json.RawMessage(strings.Replace(validKey, `"claimed_device_id":"BOBDEV"`, `"claimed_device_id":"C"`, 1))})
		b.wait(time.Second)
		b.expect("events", b.told(), "")
		b.m.handleEvent(stateEvent(hall, "$c", typeMember, carol, carolKey, state("C", ownService)))
		b.wait(time.Second)
		b.expect("events", b.told(), "key 3 of @carol:one.example:C, sent 0, sent 0") // to her, and to bob once more
		// Bob leaves: carol gets another key, which is used a second later.
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

// TestKeyless: the call's owner is told, once, that a device could not be given our key. It gets the key when that is possible.
func TestKeyless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.bobComes()
		b.fault("keys", bot.ErrNoOneTimeKey)
		b.join()
		b.wait(2 * time.Second)
		b.expect("at first", b.told(), "use 0, transport "+ownService)
		b.wait(time.Hour)
		b.expect("events", b.told(), "keyless @bob:two.example BOBDEV")
		b.fault("keys", nil)
		b.wait(time.Minute)
		b.expect("events", b.told(), "sent 0, sent 0") // it is sent twice, as always
	})
}

func TestKeysRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.bobComes()
		b.m.handleEvent(stateEvent(hall, "$c", typeMember, carol, carolKey, state("C", ownService)))
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
		// A key that was sent may be lost, so it is sent once more.
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

// TestRecipients: only devices that are recipients get our keys. One that is taken off while it is in the call makes the next key come into use at
// once, and nothing more is sent to it.
func TestRecipients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.named = true
		carols := bot.Device{User: carol, ID: "C"}
		b.bobComes()
		b.m.handleEvent(stateEvent(hall, "$c", typeMember, carol, carolKey, state("C", ownService)))
		call := b.join()
		b.wait(time.Minute)
		b.expect("nobody is a recipient", b.told(), "use 0, transport "+ownService)
		call.SetRecipients([]bot.Device{bobDevice, carols, {User: bob, ID: "NOT_IN_THE_CALL"}})
		b.wait(10 * time.Second)
		b.expect("both are", b.told(), "use 1, sent 1, sent 1, sent 1, sent 1")
		before := len(b.sent())
		call.SetRecipients([]bot.Device{carols})
		synctest.Wait()
		b.expect("bob was taken off", b.told(), "use 2")
		call.SendKeyAgain()
		b.m.handleEvent(stateEvent(hall, "$b2", typeMember, bob, bobKey, validState)) // he comes again, and is not named yet
		b.wait(time.Minute)
		b.expect("carol has it", b.told(), "sent 2, sent 2")
		for _, s := range b.sent()[before:] {
			if s.to != carols {
				t.Fatalf("key %d goes to %v", s.key.Keys.Index, s.to)
			}
		}
		if len(b.sent()) != before+2 || before != 4 {
			t.Fatalf("%d keys, then %d", before, len(b.sent()))
		}
		call.SetRecipients([]bot.Device{carols, bobDevice})
		b.wait(10 * time.Second)
		b.expect("bob is back", b.told(), "sent 3, sent 3, use 3, sent 3, sent 3")
		b.leaveNow(call)
		call.SetRecipients(nil)
		b.wait(time.Minute)
		b.expect("after leaving", b.told(), "")
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

// TestKeyIndexWraps: after key 255 comes key 0, theirs and ours. It is another key than the first key 0.
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
		// Each time that carol comes and goes, bob gets the next key.
		first, last := "", 0
		for i := 1; i <= 257; i++ {
			b.m.handleEvent(stateEvent(hall, "$c", typeMember, carol, carolKey, state("C", ownService)))
			b.wait(2 * time.Second)
			b.m.handleEvent(stateEvent(hall, "$c", typeMember, carol, carolKey, `{}`))
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

// TestKeysOfRejoined: a device that comes again has lost its keys, and sends new ones with an index that was used before.
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
			b.m.handleKey(bobsKey(0, 2)) // it may arrive before the membership
			b.m.handleEvent(stateEvent(hall, "$b2", typeMember, bob, bobKey, validState))
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
		e := stateEvent(hall, "$b2", typeMember, bob, bobKey, validState)
		e.Timestamp -= 2000
		b.m.handleEvent(e)
		b.wait(time.Minute)
		b.expect("the key once more", b.told(), "sent 1")
	})
}
