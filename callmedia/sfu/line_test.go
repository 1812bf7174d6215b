package sfu

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/livekit/protocol/livekit"
	"google.golang.org/protobuf/proto"

	"multifactorymodel.org/ewindow/callmedia/bandwidth"
)

// TestPacer sends packets at the rate that is set, in order, and drops what would wait too long.
func TestPacer(t *testing.T) {
	var p pacer
	now := time.Now()
	hold := func(number uint16) (held, start bool, err error) {
		return p.hold(paced{number: number, time: uint32(number), payload: bytes.Repeat([]byte{byte(number)}, 1000-bandwidth.PacketOverhead)}, now)
	}
	for n := range uint16(100) {
		if held, start, err := hold(n); held || start || err != nil {
			t.Fatal("a pacer without rate holds packets")
		}
	}
	p.setRate(80_000) // ten packets a second
	now = now.Add(time.Second)
	waiting := uint16(0)
	for n := range uint16(8) {
		held, start, err := hold(n)
		if err != nil || start != (held && waiting == 0) {
			t.Fatalf("packet %d: %v %v %v", n, held, start, err)
		}
		if held {
			waiting++
		}
	}
	if waiting != 5 { // three go at once: paceBurst
		t.Errorf("%d packets wait", waiting)
	}
	next := 8 - waiting
	for i := range 20 {
		packet, ok, over := p.take(now.Add(time.Duration(i) * 50 * time.Millisecond))
		if over {
			break
		}
		if ok {
			if packet.number != next || !bytes.Equal(packet.payload, bytes.Repeat([]byte{byte(next)}, 1000-bandwidth.PacketOverhead)) {
				t.Errorf("packet %d comes instead of %d", packet.number, next)
			}
			next++
			p.recycle(packet)
		}
	}
	if next != 8 {
		t.Errorf("the packets from %d on did not come", next)
	}
	var failed error
	for n := uint16(0); n < 30 && failed == nil; n++ {
		_, _, failed = hold(n)
	}
	if waits := len(p.queue); failed == nil || waits < 5 || waits > 10 {
		t.Errorf("%d packets wait: %v", waits, failed)
	}
	// A frame that has begun is queued to its end, however long it is.
	p = pacer{}
	p.setRate(80_000)
	for n := range uint16(100) {
		if _, _, err := p.hold(paced{number: n, time: 7, payload: make([]byte, 1000)}, now); err != nil {
			t.Fatalf("packet %d of a frame: %v", n, err)
		}
	}
	if _, _, err := p.hold(paced{number: 100, time: 8, payload: make([]byte, 1000)}, now); err == nil {
		t.Error("the frame after it is queued, too")
	}
}

// asks is a message as the SFU forwards it.
func asks(t testing.TB, identity, topic, content string) []byte {
	t.Helper()
	data, err := proto.Marshal(&livekit.DataPacket{ParticipantIdentity: identity, Value: &livekit.DataPacket_User{
		User: &livekit.UserPacket{Topic: &topic, Payload: []byte(content)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestDecodeAsk reads messages of the kinds that may come.
func TestDecodeAsk(t *testing.T) {
	for content, want := range map[string]BitrateAsked{
		`{"bps":5000}`: {Identity: "@a:b", BPS: 5000}, `{"slow":true}`: {Identity: "@a:b", Slow: true}, `{"lost":100}`: {Identity: "@a:b", Lost: 100}, `{}`: {Identity: "@a:b"},
	} {
		if got, ok := decodeAsk(asks(t, "@a:b", bitrateTopic, content)); !ok || got != want {
			t.Errorf("%s: %+v, %v", content, got, ok)
		}
	}
	for name, data := range map[string][]byte{
		"other topic": asks(t, "@a:b", "chat", `{"bps":5000}`), "no identity": asks(t, "", bitrateTopic, `{"bps":5000}`),
		"less":      asks(t, "@a:b", bitrateTopic, `{"bps":-1}`),
		"less lost": asks(t, "@a:b", bitrateTopic, `{"lost":-1}`), "more lost": asks(t, "@a:b", bitrateTopic, `{"lost":101}`),
		"no number": asks(t, "@a:b", bitrateTopic, `{"bps":"x"}`), "no JSON": asks(t, "@a:b", bitrateTopic, `x`), "empty": nil,
		"long": asks(t, "@a:b", bitrateTopic, `{"bps":5000,"x":"`+string(bytes.Repeat([]byte{'x'}, maxData))+`"}`),
	} {
		if ask, ok := decodeAsk(data); ok {
			t.Errorf("%s: %+v", name, ask)
		}
	}
}

// TestAskFlood lets somebody send ten thousand messages at once. One of them becomes an event.
func TestAskFlood(t *testing.T) {
	r := &Room{events: make(chan Event, eventQueue), failed: make(chan struct{}), asked: make(map[string]time.Time)}
	now := time.Now()
	for i := range 10_000 {
		r.bitrateAsked(BitrateAsked{Identity: "eve", BPS: i + 1}, now)
	}
	for i := range 10_000 { // the SFU makes names up
		r.bitrateAsked(BitrateAsked{Identity: fmt.Sprint(i % 2000), BPS: 1}, now.Add(time.Duration(i)*time.Microsecond))
		if len(r.asked) > maxParticipants+1 {
			t.Fatalf("%d names are remembered", len(r.asked))
		}
		for len(r.events) > 1 {
			<-r.events
		}
	}
	if e := <-r.events; e != (BitrateAsked{Identity: "eve", BPS: 1}) && e.(BitrateAsked).Identity == "eve" {
		t.Errorf("%+v", e)
	}
}

// FuzzDecodeAsk reads anything.
func FuzzDecodeAsk(f *testing.F) {
	f.Add(asks(f, "@a:b", bitrateTopic, `{"bps":5000}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if ask, ok := decodeAsk(data); ok && (ask.Identity == "" || len(ask.Identity) > maxName || ask.BPS < 0) {
			t.Fatalf("%+v", ask)
		}
	})
}
