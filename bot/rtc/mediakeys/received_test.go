package mediakeys

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/rtc/membership"
)

const (
	bob   = id.UserID("@bob:two.example")
	carol = id.UserID("@carol:one.example")
	hall  = id.RoomID("!hall:one.example")
)

var bobDevice = bot.Device{User: bob, ID: "BOBDEV"}

const validKey = `{"keys":{"index":3,"key":"8OHSw7Sllod4aVpLPC0eDw=="},"member":{"id":"@bob:two.example:BOBDEV","claimed_device_id":"BOBDEV"},
	"room_id":"!hall:one.example","session":{"application":"m.call","call_id":"","scope":"m.room"},"sent_ts":1793000000000}`

func TestParseKey(t *testing.T) {
	cases := []struct {
		name     string
		old, new string
		err      error
	}{
		{name: "valid"},
		{name: "unpadded", old: `eDw==`, new: `eDw`},
		{name: "only what is checked", old: `"session"`, new: `"x"`},
		{name: "index 255", old: `"index":3`, new: `"index":255`},
		{name: "index 256", old: `"index":3`, new: `"index":256`, err: errKeyContent},
		{name: "index -1", old: `"index":3`, new: `"index":-1`, err: errKeyContent},
		{name: "index half", old: `"index":3`, new: `"index":3.5`, err: errKeyContent},
		{name: "index text", old: `"index":3`, new: `"index":"3"`, err: errKeyContent},
		{name: "no index", old: `"index":3,`, new: ``, err: errKeyContent},
		{name: "key empty", old: `8OHSw7Sllod4aVpLPC0eDw==`, new: ``, err: errKeyContent},
		{name: "key short", old: `8OHSw7Sllod4aVpLPC0eDw==`, new: `8OHSw7Sllod4aVpLPC0e`, err: errKeyContent},
		{name: "key long", old: `8OHSw7Sllod4aVpLPC0eDw==`, new: strings.Repeat("AAAA", 22), err: errKeyContent},
		{name: "key no base64", old: `8OHSw7Sllod4aVpLPC0eDw==`, new: `!!!!w7Sllod4aVpLPC0eDw==`, err: errKeyContent},
		{name: "keys is a list", old: `{"index":3,"key":"8OHSw7Sllod4aVpLPC0eDw=="}`, new: `[]`, err: errKeyContent},
		{name: "no room", old: `"room_id"`, new: `"room"`, err: errKeyContent},
		{name: "no claimed device", old: `"claimed_device_id"`, new: `"device"`, err: errKeyContent},
		{name: "another device", old: `"claimed_device_id":"BOBDEV"`, new: `"claimed_device_id":"CAROLDEV"`, err: errKeyDevice},
		{name: "claimed device empty", old: `"claimed_device_id":"BOBDEV"`, new: `"claimed_device_id":""`, err: errKeyDevice},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			content := []byte(validKey)
			if c.old != "" {
				if strings.Count(validKey, c.old) != 1 {
					t.Fatalf("%q is not there exactly once", c.old)
				}
				content = []byte(strings.Replace(validKey, c.old, c.new, 1))
			}
			key, err := parseKey(bobDevice, content)
			if err != c.err || (err != nil) != (key.material == nil) || err == nil && (key.room != hall || key.index < 3) {
				t.Fatalf("got %+v, %v", key, err)
			}
		})
	}
}

func TestDecodeKey(t *testing.T) {
	material := []byte{0xfb, 0xff, 0xfe, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff}
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if got, ok := decodeKey(encoding.EncodeToString(material)); !ok || !bytes.Equal(got, material) {
			t.Errorf("%s: got %x, %v", encoding.EncodeToString(material), got, ok)
		}
	}
}

// TestKeyContent: we could read what we send.
func TestKeyContent(t *testing.T) {
	key := Key{7, bytes.Repeat([]byte{0xfe}, 16)}
	data, err := json.Marshal(NewContent(hall, bobDevice, key, time.UnixMilli(5)))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"keys":{"index":7,"key":"/v7+/v7+/v7+/v7+/v7+/g=="},"member":{"id":"@bob:two.example:BOBDEV","claimed_device_id":"BOBDEV"},` +
		`"room_id":"!hall:one.example","session":{"application":"m.call","call_id":"","scope":"m.room"},"sent_ts":5}`
	if string(data) != want {
		t.Errorf("got %s", data)
	}
	if got, err := parseKey(bobDevice, data); err != nil || got.index != 7 || !bytes.Equal(got.material, key.Material) || got.room != hall {
		t.Errorf("got %+v, %v", got, err)
	}
}

// presence says who is in calls and rooms.
type presence struct {
	member bool                      // everybody is in the call
	joined func(user id.UserID) bool // nil: everybody is in the room
}

func (p presence) IsMember(id.RoomID, bot.Device) bool { return p.member }

func (p presence) HasJoined(_ id.RoomID, user id.UserID) bool {
	return p.joined == nil || p.joined(user)
}

func aKey(index uint8) foreignKey {
	return foreignKey{hall, index, bytes.Repeat([]byte{index}, 16)}
}

func TestReceived(t *testing.T) {
	now := time.UnixMilli(1_793_000_000_000)
	member := membership.Member{User: bob, Device: "BOBDEV", Identity: "bob's"}
	var s Received
	s.add(now, bobDevice, aKey(1), presence{})
	if got := s.Install(now, hall, nil); len(got) != 0 {
		t.Fatalf("installed without a member: %+v", got)
	}
	// The member comes after the key.
	got := s.Install(now.Add(time.Minute), hall, []membership.Member{{User: carol, Device: "BOBDEV"}, member})
	if len(got) != 1 || got[0].Identity != "bob's" || got[0].Key.Index != 1 || !bytes.Equal(got[0].Key.Material, aKey(1).material) {
		t.Fatalf("got %+v", got)
	}
	if got := s.Install(now.Add(time.Minute), hall, []membership.Member{member}); len(got) != 0 {
		t.Fatalf("installed twice: %+v", got)
	}
	// The same index again: the last key that was received counts.
	s.add(now, bobDevice, foreignKey{hall, 1, aKey(9).material}, presence{member: true})
	if got := s.Install(now, hall, []membership.Member{member}); len(got) != 1 || !bytes.Equal(got[0].Key.Material, aKey(9).material) {
		t.Fatalf("got %+v", got)
	}
	// The same device under another name at the SFU.
	member.Identity = "hashed"
	if got := s.Install(now, hall, []membership.Member{member}); len(got) != 1 || got[0].Identity != "hashed" {
		t.Fatalf("got %+v", got)
	}
	if got := s.Install(now, "!other:one.example", []membership.Member{member}); len(got) != 0 {
		t.Fatalf("a key of another room: %+v", got)
	}
	s.Uninstall(hall)
	if got := s.Install(now, hall, []membership.Member{member}); len(got) != 1 {
		t.Fatalf("got %+v", got)
	}
	s.Forget(hall)
	if len(s.keys) != 0 {
		t.Fatal("not forgotten")
	}
}

func TestReceivedCaps(t *testing.T) {
	now := time.UnixMilli(1_793_000_000_000)
	var s Received
	for i := range 30 {
		s.add(now, bobDevice, aKey(uint8(i)), presence{})
	}
	if len(s.keys) != maxDeviceKeys || s.keys[0].index != 30-maxDeviceKeys || s.dropped != 30-maxDeviceKeys {
		t.Fatalf("%d keys from %d, %d dropped", len(s.keys), s.keys[0].index, s.dropped)
	}
	// Strangers' keys replace each other's, but not bob's.
	joined := func(user id.UserID) bool { return user == bob }
	for i := range 500 {
		s.add(now, bot.Device{User: "@eve:evil.example", ID: id.DeviceID(fmt.Sprint(i))}, aKey(0), presence{joined: joined})
	}
	if len(s.keys) != maxKeys {
		t.Fatalf("%d keys", len(s.keys))
	}
	bobs := 0
	for _, k := range s.keys {
		if k.from == bobDevice {
			bobs++
		}
	}
	if bobs != maxDeviceKeys {
		t.Fatalf("bob has %d keys left", bobs)
	}
	// After an hour a key whose member did not come is too old.
	if got := s.Install(now.Add(keyLife), hall, []membership.Member{{User: bob, Device: "BOBDEV", Identity: "x"}}); len(got) != 0 {
		t.Fatalf("got %d old keys", len(got))
	}
	s.add(now.Add(keyLife), bobDevice, aKey(200), presence{})
	if len(s.keys) != 1 {
		t.Fatalf("%d keys are kept", len(s.keys))
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add([]byte(validKey))
	f.Add([]byte(`{"room_id":"!a","keys":{"index":0,"key":"AAAAAAAAAAAAAAAAAAAAAA"},"member":{"claimed_device_id":"BOBDEV"}}`))
	f.Add([]byte(`{"room_id":"!a","keys":{"index":1e2,"key":"_____________________w"},"member":{"claimed_device_id":"BOBDEV"}}`))
	f.Add([]byte(`{"keys":[{"index":0,"key":""}],"device_id":"x"}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		key, err := parseKey(bobDevice, content)
		if err != nil {
			if key.material != nil || key.room != "" || key.index != 0 {
				t.Fatalf("an error and %+v", key)
			}
			return
		}
		if len(key.material) < minKey || len(key.material) > maxKey || key.room == "" {
			t.Fatalf("taken: %+v", key)
		}
		// If we sent this key, it would be read the same.
		data, err := json.Marshal(NewContent(key.room, bobDevice, Key{key.index, key.material}, time.UnixMilli(0)))
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseKey(bobDevice, data)
		if err != nil || again.index != key.index || again.room != key.room || !bytes.Equal(again.material, key.material) {
			t.Fatalf("%+v becomes %+v, %v", key, again, err)
		}
	})
}
